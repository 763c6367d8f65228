"""What a one-layer KAN has learned of each feature, beside the log-likelihood ratio of that feature alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.interpret.judging import Floats, Judge, layers_of, make_judge
from hepkan.nn import KAN

BINS = 30


@dataclass(frozen=True)
class Ratio:
    r"""The learned function of a feature and its histogram log-likelihood ratio, both of mean 0 over the events.

    Attributes:
        name: of the feature.
        x: points from the lowest to the highest bin, `(points,)`.
        learned: the function there, in log odds.
        edges: of the bins, each with about as many events, `(bins + 1,)`.
        centres: mean of the feature in each bin, `(bins,)`.
        ratio: :math:`\log p(x|1) / p(x|0)` in each bin; NaN where a class has no events.
        error: its statistical error.
        binned: mean of the learned function in each bin.
    """

    name: str
    x: Floats
    learned: Floats
    edges: Floats
    centres: Floats
    ratio: Floats
    error: Floats
    binned: Floats

    @property
    def chi2(self) -> tuple[float, int]:
        """Return the squared pulls of the bins, added up, and their number."""
        kept = np.isfinite(self.ratio) & (self.error > 0)
        pulls = (self.binned[kept] - self.ratio[kept]) / self.error[kept]
        return float(np.square(pulls).sum()), int(kept.sum())


def likelihood_ratios(
    model: KAN,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    bins: int = BINS,
    points: int = 200,
) -> tuple[Ratio, ...]:
    r"""Return for every input of a one-layer classifier what it has learned, beside the histogram's ratio.

    For independent features the log odds are a sum of :math:`\log p(x_i|1)/p(x_i|0)`, which is what one layer of edges
    can be: they agree where the features are independent, and correlations pull them apart.

    Arguments:
        model: a KAN without hidden layers and with one output, trained with cross-entropy.
        X: raw features `(n, features)`.
        y: labels 0 and 1, `(n,)`.
        weight: `(n,)`.
        bins: of a histogram, of equal content; a feature of few values has one for each.
        points: of a curve.

    Raises:
        UsageError: hidden layers, several outputs, shapes that do not fit.
        DataError: NaN, a constant input, too few events, labels other than 0 and 1.

    References:
        arXiv:2408.02743, where activations of one-layer KANs were found to be such ratios.
    """
    if not isinstance(model, KAN) or len(model.widths) != 2 or model.widths[1] != 1 or model.layers[0].products:
        raise UsageError("Likelihood ratios need a KAN without hidden layers and with one output, [n, 1].")
    judge = make_judge(model, X, y, weight, loss="cross_entropy")
    labels, weights = judge.target.cpu().numpy(), judge.weights
    for label in (0, 1):
        if not weights[labels == label].sum() > 0:
            raise DataError(f"Both classes need a positive sum of weights, however class {label} has none.")
    raw = model.select(judge.X).double().cpu().numpy()
    return tuple(_ratio(model, judge, place, raw[:, place], labels, bins, points) for place in range(raw.shape[1]))


def _ratio(model: KAN, judge: Judge, place: int, values: Floats, labels: np.ndarray, bins: int, points: int) -> Ratio:
    """Return the comparison for one input."""
    weights = judge.weights
    edges = _edges(values, weights, bins)
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    count = len(edges) - 1
    sums, squares = np.zeros((2, count)), np.zeros((2, count))
    for label in (0, 1):
        mine = labels == label
        sums[label] = np.bincount(at[mine], weights[mine], count)
        squares[label] = np.bincount(at[mine], weights[mine] ** 2, count)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = sums / sums.sum(axis=1, keepdims=True)
        ratio = np.where((sums > 0).all(axis=0), np.log(share[1] / share[0]), np.nan)
        error = np.sqrt((squares / sums**2).sum(axis=0))
        size = np.bincount(at, np.abs(weights), count)
        centres = np.bincount(at, np.abs(weights) * values, count) / size
    learned = _learned(model, place, values)
    binned = np.bincount(at, np.abs(weights) * learned, count) / size
    kept = np.isfinite(ratio)
    level = np.average(ratio[kept], weights=size[kept]) if kept.any() else 0.0
    middle = np.average(learned, weights=np.abs(weights))
    x = np.linspace(edges[0], edges[-1], points)
    return Ratio(
        name=model.input_names[place],
        x=x,
        learned=_learned(model, place, x) - middle,
        edges=edges,
        centres=centres,
        ratio=ratio - level,
        error=error,
        binned=binned - middle,
    )


@torch.no_grad()
def _learned(model: KAN, place: int, values: Floats) -> Floats:
    """Return the function of one input at raw values, in log odds."""
    (layer,) = layers_of(model)
    z = model.input_map.part([place])(torch.from_numpy(values[:, None]).to(layer.coef))  # type: ignore[operator]
    phi = layer.part([place], [0], 0).edge_functions(z)[:, 0, 0]
    return np.asarray((phi * model.output_map.scale).double().cpu().numpy())  # type: ignore[operator]


def _edges(values: Floats, weights: Floats, bins: int) -> Floats:
    """Return edges of bins with about equal content, or around each value where there are few."""
    unique = np.unique(values)
    if len(unique) <= bins:
        middle = 0.5 * (unique[1:] + unique[:-1])
        return np.concatenate([[2 * unique[0] - middle[0]], middle, [2 * unique[-1] - middle[-1]]])
    order = np.argsort(values, kind="stable")
    level = np.cumsum(np.abs(weights[order]))
    places = np.searchsorted(level, np.linspace(0.0, level[-1], bins + 1)[1:-1])
    inner = np.unique(values[order][places])
    return np.unique(np.concatenate([unique[:1], inner, unique[-1:]]))
