"""Events in the order of a score: ROC curve, area under it, rejection at an efficiency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepkan.errors import DataError, UsageError
from hepkan.metrics.weights import Floats, class_weights


@dataclass(frozen=True, eq=False)
class Ranking:
    """Events sorted by falling score, for cheap repetition with other weights.

    Attributes:
        order: rows by falling score.
        signal: labels in that order.
        ends: last position of each distinct score.
    """

    order: NDArray[np.int64]
    signal: NDArray[np.bool_]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, y: ArrayLike, score: ArrayLike) -> Ranking:
        """Sort events; tied scores stay together.

        Raises:
            UsageError: the shapes differ.
            DataError: NaN scores, labels other than 0 and 1, or one class only.
        """
        labels, values = np.asarray(y), np.asarray(score, dtype=np.float64)
        if labels.shape != values.shape or labels.ndim != 1:
            raise UsageError(f"y and score need one shape (n,), however: {labels.shape} and {values.shape}.")
        bad = int(np.isnan(values).sum())
        if bad:
            raise DataError(f"Scores must be numbers, however {bad} of {len(values)} are NaN.")
        present = np.unique(labels)
        if present.tolist() != [0, 1]:
            raise DataError(f"Labels must be 0 and 1 with both present, however: {present[:10].tolist()}.")
        order = np.argsort(-values, kind="stable")
        falling = values[order]
        ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        return cls(order, labels[order] == 1, ends)

    def sums(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return the signal and background weight at or above each distinct score, from 0 to the total."""
        ordered = weight[self.order]
        signal = np.where(self.signal, ordered, 0.0)
        passed, mistaken = np.cumsum(signal)[self.ends], np.cumsum(ordered - signal)[self.ends]
        return np.append(0.0, passed), np.append(0.0, mistaken)

    def curve(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return background and signal efficiency at each distinct score; NaN for a class without weight."""
        signal, background = self.sums(weight)
        return share(background), share(signal)


def roc_curve(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Return background and signal efficiency for every distinct score, from (0, 0) to (1, 1).

    Raises:
        UsageError: the shapes differ.
        DataError: NaN scores, labels other than 0 and 1, or a class without positive sum of weights.
    """
    return Ranking.of(y, score).curve(class_weights(weight, y))


def auc(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    r"""Return the area under the ROC curve; ties count half. Raises as `roc_curve`.

    .. math:: \text{AUC} = P(f_s > f_b) + P(f_s = f_b) / 2
    """
    return area(*roc_curve(y, score, weight))


def rejection(
    y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None, efficiency: float = 0.5
) -> float:
    """Return one over the background efficiency at a signal efficiency; infinite when no background is left.

    Raises as `roc_curve`.
    """
    at = background_at(*roc_curve(y, score, weight), efficiency)
    return 1.0 / at if at > 0.0 else float("inf")


def share(sums: Floats) -> Floats:
    """Return cumulative sums over their total, NaN when that is not positive."""
    return sums / sums[-1] if sums[-1] > 0.0 else np.full(len(sums), np.nan)


def area(background: Floats, signal: Floats) -> float:
    """Return the integral of signal over background efficiency by trapezoids, which counts ties half."""
    return float(np.sum(np.diff(background) * (signal[1:] + signal[:-1])) / 2.0)


def background_at(background: Floats, signal: Floats, efficiency: float) -> float:
    """Return the background efficiency where a signal efficiency is first reached, linear in between."""
    if not 0.0 < efficiency <= 1.0:
        raise UsageError(f"A signal efficiency lies above 0 and up to 1, however: {efficiency}.")
    if np.isnan(signal[-1]) or np.isnan(background[-1]):
        return float("nan")
    highest = np.maximum.accumulate(signal)  # rises even where negative weights let the curve fall
    i = int(np.searchsorted(highest, efficiency * (1.0 - 1e-12), side="left"))
    step = float(signal[i] - signal[i - 1])
    return float(background[i - 1] + (background[i] - background[i - 1]) * (efficiency - signal[i - 1]) / step)
