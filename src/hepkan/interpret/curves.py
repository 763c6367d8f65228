"""The functions on the edges of a KAN as numbers to draw, with the density of the data beneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import UsageError
from hepkan.interpret.judging import Floats, demand_events, demand_kan, layers_of
from hepkan.interpret.trace import Mask, edge_moments, edges_of, event_sizes, layer_inputs
from hepkan.nn import KAN
from hepkan.nn.networks import as_tensor
from hepkan.nn.regrid import EVENTS, thinned

RANGE = (0.005, 0.995)
"""Curves go from one to the other of these quantiles of the data."""


@dataclass(frozen=True)
class LayerCurves:
    """The functions of one layer.

    Attributes:
        x: points, `(in, points)`; raw values for the first layer, values of hidden nodes for the others.
        y: functions there, of mean 0 over the events, `(in, points, sums)`.
        std: their standard deviations over the events, `(in, sums)`.
        mask: which edges there are, `(in, sums)`.
        bins: edges of a histogram of the inputs, `(in, bins + 1)`.
        density: its content, 1 at the highest bin, `(in, bins)`.
        products: how many of the outputs are products of two sums, the last ones.
    """

    x: Floats
    y: Floats
    std: Floats
    mask: Mask
    bins: Floats
    density: Floats
    products: int


@dataclass(frozen=True)
class EdgeCurves:
    """The functions of all edges.

    Attributes:
        inputs: names of the inputs.
        widths: numbers of inputs, hidden nodes and outputs.
        layers: the functions, layer by layer.
    """

    inputs: tuple[str, ...]
    widths: tuple[int, ...]
    layers: tuple[LayerCurves, ...]


@torch.no_grad()
def edge_curves(
    model: KAN,
    X: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    points: int = 101,
    bins: int = 40,
) -> EdgeCurves:
    """Return the function of every edge over the central 99 % of what it sees.

    Arguments:
        model: a KAN.
        X: raw features `(n, features)`.
        weight: `(n,)`; their size counts.
        points: of a curve.
        bins: of a histogram.

    Raises:
        UsageError: no KAN, or shapes that do not fit.
        DataError: NaN in X, no events, or weights that are all zero.
    """
    demand_kan(model)
    if points < 2 or bins < 1:
        raise UsageError(f"Curves need 2 points and histograms 1 bin at least, however: {points} and {bins}.")
    events = as_tensor(X)
    demand_events(model, events, least=1)
    layers = layers_of(model)
    w = thinned(event_sizes(weight, events), EVENTS)
    x = thinned(events, EVENTS).to(layers[0].coef)
    seen = layer_inputs(model, x)
    seen[0] = model.select(x)
    moments = edge_moments(model, x, w.to(x))
    found = []
    for place, (layer, values, (mean, std)) in enumerate(zip(layers, seen, moments, strict=False)):
        raw, sizes = values.double().cpu().numpy(), w.double().cpu().numpy()
        lines = np.stack([_line(raw[:, i], sizes, points) for i in range(raw.shape[1])])
        z = torch.from_numpy(lines.T.copy()).to(layer.coef)
        phi = layer.edge_functions(model.input_map(z) if place == 0 else z).double().cpu().numpy()
        counted = [_histogram(raw[:, i], sizes, lines[i], bins) for i in range(raw.shape[1])]
        found.append(
            LayerCurves(
                x=lines,
                y=np.moveaxis(phi - mean, 0, 1),
                std=std,
                mask=edges_of(layer),
                bins=np.stack([edges for edges, _ in counted]),
                density=np.stack([content for _, content in counted]),
                products=layer.products,
            )
        )
    return EdgeCurves(tuple(model.input_names), tuple(model.widths), tuple(found))


def output_shares(curves: EdgeCurves) -> tuple[Floats, ...]:
    r"""Return the share of every edge in the variation of the outputs, `(in, sums)` for each layer, adding up to 1.

    The share of a node is handed back to its edges in proportion to the deviation of their functions. No targets are
    needed, and no measurement of a loss; `attribute` measures.

    References:
        "KAN 2.0: Kolmogorov-Arnold Networks Meet Science" (Liu et al., 2024), arXiv:2408.10205.
    """
    outputs = curves.widths[-1]
    score, shares = np.full(outputs, 1.0 / outputs), []
    for layer in reversed(curves.layers):
        owner = sum_owners(layer.std.shape[1], layer.products)
        total = np.bincount(owner, layer.std.sum(axis=0), outputs)
        each = layer.std * np.divide(score, total, out=np.zeros_like(total), where=total > 0)[owner]
        shares.append(each)
        score, outputs = each.sum(axis=1), len(each)
    return tuple(reversed(shares))


def sum_owners(sums: int, products: int) -> Sequence[int]:
    """Return which output each sum belongs to."""
    alone = sums - 2 * products
    return [*range(alone), *(alone + place // 2 for place in range(2 * products))]


def _line(values: Floats, weight: Floats, points: int) -> Floats:
    """Return increasing points over the bulk of the data."""
    order = np.argsort(values, kind="stable")
    level = np.cumsum(weight[order])
    places = np.searchsorted(level, np.array(RANGE) * level[-1]).clip(max=len(values) - 1)
    low, high = values[order][places]
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, points)


def _histogram(values: Floats, weight: Floats, line: Floats, bins: int) -> tuple[Floats, Floats]:
    """Return a histogram whose highest bin is 1."""
    content, edges = np.histogram(values, bins, (line[0], line[-1]), weights=weight)
    return edges, content / (content.max() or 1.0)
