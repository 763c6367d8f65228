"""Residuals of a regression: mean size, bias, width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hepkan.errors import DataError, UsageError
from hepkan.metrics.repetition import repeat, spread
from hepkan.metrics.weights import Floats, checked_weights


def evaluate_regression(
    target: ArrayLike,
    prediction: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    n_boot: int = 200,
    seed: int = 0,
) -> dict[str, tuple[Floats, Floats]]:
    """Return value and bootstrap error, `(targets,)` each, of the residuals prediction - target.

    `mae` is the mean absolute residual, `bias` the mean one, `width68` half the central 68 % interval.

    Raises:
        UsageError: the shapes differ.
        DataError: NaN or infinity, or weights without positive sum.
    """
    truth, predicted = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim not in (1, 2) or truth.size == 0:
        raise UsageError(
            f"target and prediction need one shape, however: {truth.shape} and {predicted.shape}."
        )
    residual = (predicted - truth).reshape(len(truth), -1)
    if not np.isfinite(residual).all():
        raise DataError("Targets and predictions must be finite, however some are NaN or infinite.")
    order = np.argsort(residual, axis=0, kind="stable")
    ordered = np.take_along_axis(residual, order, axis=0)

    def measure(weights: Floats) -> Floats:
        total = float(weights.sum())
        if not total > 0.0:  # a repetition that has drawn nothing
            return np.full(3 * residual.shape[1], np.nan)
        widths = [
            0.5 * float(np.diff(_quantiles(ordered[:, t], weights[order[:, t]], (0.16, 0.84)))[0])
            for t in range(residual.shape[1])
        ]
        return np.array([weights @ np.abs(residual) / total, weights @ residual / total, widths]).ravel()

    w = checked_weights(weight, residual[:, 0])
    if not w.sum() > 0.0:
        raise DataError(f"The weights need a positive sum, however it is {w.sum():g}.")
    central = measure(w).reshape(3, -1)
    errors = np.apply_along_axis(spread, 0, repeat(measure, w, group, n_boot, seed)).reshape(3, -1)
    return {name: (central[i], errors[i]) for i, name in enumerate(("mae", "bias", "width68"))}


def _quantiles(ordered: Floats, weight: Floats, levels: Sequence[float]) -> Floats:
    """Return weighted quantiles of sorted values, with each weight centred on its value."""
    middle = np.cumsum(weight) - 0.5 * weight
    return np.asarray(np.interp(np.asarray(levels) * weight.sum(), middle, ordered))
