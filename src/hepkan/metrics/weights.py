"""Weights at the door of every measure."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepkan.errors import DataError, UsageError

Floats = NDArray[np.float64]


def checked_weights(weight: ArrayLike | None, like: ArrayLike) -> Floats:
    """Return weights as float64 `(n,)`, 1 by default."""
    n = len(np.asarray(like))
    w = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != (n,):
        raise UsageError(f"weight needs the shape ({n},), however it has {w.shape}.")
    if not np.isfinite(w).all():
        raise DataError("Weights must be finite, however some are NaN or infinite.")
    return w


def class_weights(weight: ArrayLike | None, y: ArrayLike) -> Floats:
    """Return weights whose sum is positive for both classes."""
    w, labels = checked_weights(weight, y), np.asarray(y)
    for label in (0, 1):
        total = float(w[labels == label].sum())
        if not total > 0.0:
            raise DataError(
                f"Both classes need a positive sum of weights, however class {label} has {total:g}."
            )
    return w
