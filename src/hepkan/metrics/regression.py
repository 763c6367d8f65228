"""Residuals of a regression: mean size, bias, width, with errors from a bootstrap over groups of events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hepkan.errors import DataError, UsageError
from hepkan.metrics.repetition import repeat, spread
from hepkan.metrics.weights import Floats, checked_weights

MEASURES = ("mae", "bias", "width68")


def bootstrap_regression(
    residual: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    n_boot: int = 200,
    seed: int = 0,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the measures of residuals prediction - target, `(targets,)`, and repetitions, `(n_boot, targets)`.

    `mae` is the mean absolute residual, `bias` the mean one, `width68` half the central 68 % interval. Repetition k
    draws the same events for all residuals of the same events.

    **Shape** residual: `(n, targets)` or `(n,)`; weight and group: `(n,)`.

    Raises:
        UsageError: the shapes do not fit, or fewer than 2 repetitions.
        DataError: NaN or infinity, or weights without positive sum.
    """
    found = np.asarray(residual, dtype=np.float64)
    if found.ndim not in (1, 2) or found.size == 0:
        raise UsageError(f"Residuals need the shape (n,) or (n, targets), however it is {found.shape}.")
    if not np.isfinite(found).all():
        raise DataError("Targets and predictions must be finite, however some are NaN or infinite.")
    found = found.reshape(len(found), -1)
    size, targets = np.abs(found), found.shape[1]
    order = np.argsort(found, axis=0, kind="stable")
    ordered = np.take_along_axis(found, order, axis=0)

    def measure(weights: Floats) -> Floats:
        total = float(weights.sum())
        if not total > 0.0:  # a repetition that has drawn nothing
            return np.full(3 * targets, np.nan)
        widths = [
            0.5 * float(np.diff(_quantiles(ordered[:, t], weights[order[:, t]], (0.16, 0.84)))[0])
            for t in range(targets)
        ]
        return np.array([weights @ size / total, weights @ found / total, widths]).ravel()

    w = checked_weights(weight, found[:, 0])
    if not w.sum() > 0.0:
        raise DataError(f"The weights need a positive sum, however it is {w.sum():g}.")
    central = measure(w).reshape(3, targets)
    repeated = repeat(measure, w, group, n_boot, seed).reshape(n_boot, 3, targets)
    return (
        {name: central[i] for i, name in enumerate(MEASURES)},
        {name: repeated[:, i] for i, name in enumerate(MEASURES)},
    )


def evaluate_regression(
    target: ArrayLike,
    prediction: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    n_boot: int = 200,
    seed: int = 0,
) -> dict[str, tuple[Floats, Floats]]:
    """Return value and bootstrap error, `(targets,)` each, of the measures of `bootstrap_regression`.

    Raises:
        UsageError: the shapes differ.
        DataError: NaN or infinity, or weights without positive sum.
    """
    truth, predicted = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim not in (1, 2) or truth.size == 0:
        raise UsageError(
            f"target and prediction need one shape, however: {truth.shape} and {predicted.shape}."
        )
    central, repeated = bootstrap_regression(predicted - truth, weight, group, n_boot=n_boot, seed=seed)
    return {name: (central[name], np.apply_along_axis(spread, 0, repeated[name])) for name in MEASURES}


def _quantiles(ordered: Floats, weight: Floats, levels: Sequence[float]) -> Floats:
    """Return weighted quantiles of sorted values, with each weight centred on its value."""
    middle = np.cumsum(weight) - 0.5 * weight
    return np.asarray(np.interp(np.asarray(levels) * weight.sum(), middle, ordered))
