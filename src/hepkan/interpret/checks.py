"""What a formula is fitted to, checked at the door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hepkan.errors import DataError, UsageError

Floats = NDArray[np.float64]

FEWEST = 30


class Events(NamedTuple):
    """Checked events in float64.

    **Shape** X: `(n, features)`, y: `(n, outputs)`, weight: `(n,)` adding up to 1; columns: features that vary.
    """

    X: Floats
    y: Floats
    weight: Floats
    names: tuple[str, ...]
    columns: tuple[int, ...]
    positive: tuple[bool, ...]


def checked_events(
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Events:
    """Return events for a fit.

    Raises:
        UsageError: shapes that do not fit.
        DataError: NaN or infinity, fewer than 30 events, no feature or target that varies, weights without a positive
            sum.
    """
    x, target = floats(X), floats(y)
    if x.ndim != 2 or x.shape[1] < 1:
        raise UsageError(f"X needs the shape (n, features), however it has {x.shape}.")
    target = target[:, None] if target.ndim == 1 else target
    if target.ndim != 2 or len(target) != len(x):
        raise UsageError(f"y needs one value for each of the {len(x)} events, however its shape is {target.shape}.")
    share = np.ones(len(x)) if weight is None else floats(weight)
    if share.shape != (len(x),):
        raise UsageError(f"weight needs the shape ({len(x)},), however it has {share.shape}.")
    for name, values in (("X", x), ("y", target), ("weight", share)):
        bad = int((~np.isfinite(values.reshape(len(x), -1))).any(axis=1).sum())
        if bad:
            raise DataError(
                f"A formula is fitted to finite numbers, however {name} has NaN or infinity in {bad} of {len(x)} "
                "events. Remove these events."
            )
    if len(x) < FEWEST:
        raise DataError(f"A formula needs at least {FEWEST} events, however there are {len(x)}.")
    if not share.sum() > 0.0:
        raise DataError(f"Weights need a positive sum, however it is {share.sum():g}.")
    columns = tuple(i for i in range(x.shape[1]) if np.ptp(x[:, i]) > 1e-12 * max(1e-300, np.abs(x[:, i]).max()))
    if not columns:
        raise DataError("A formula needs a feature that varies, however all columns of X are constant.")
    if not np.any(np.ptp(target, axis=0) > 1e-12 * np.maximum(1e-300, np.abs(target).max(axis=0))):
        raise DataError("A formula needs a target that varies, however y is constant.")
    words = tuple(f"x{i}" for i in range(x.shape[1])) if names is None else tuple(str(name) for name in names)
    if len(words) != x.shape[1]:
        raise UsageError(f"names needs {x.shape[1]} names, one for each feature, however there are {len(words)}.")
    positive = tuple(bool(x[:, i].min() > 0.0) for i in range(x.shape[1]))
    return Events(x, target, share / share.sum(), words, columns, positive)


def floats(values: ArrayLike | Tensor) -> Floats:
    """Return values in float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.ascontiguousarray(values, dtype=np.float64)
