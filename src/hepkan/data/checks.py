"""Arrays at the door of a `Table`: converted, checked, and hashed by group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepkan.errors import DataError, UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MASK = (1 << 64) - 1


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a bijective hash of 64-bit integers.

    References:
        "Fast splittable pseudorandom number generators" (Steele, Lea, Flood, 2014),
        doi:10.1145/2714064.2660195.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform_hash(group: Ints, seed: int, stream: int = 0) -> Floats:
    """Return a number in [0, 1) for each group, independent for every seed and stream; shape (n,)."""
    key = np.array([(3 * seed + stream) & _MASK], dtype=np.uint64)
    mixed = splitmix64(splitmix64(np.asarray(group, dtype=np.int64).view(np.uint64)) ^ splitmix64(key))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def as_features(X: ArrayLike) -> NDArray[np.float32]:
    """Features as float32 (n, d); what overflows becomes infinite and is reported by `check_finite`."""
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(X, dtype=np.float32)
    if values.ndim != 2 or 0 in values.shape:
        raise UsageError(
            f"X needs the shape (events, features), neither zero, however it has {values.shape}."
        )
    return values


def as_target(y: ArrayLike, n: int, classes: tuple[str, ...]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Labels int64 (n,) with the names of the classes, or targets float64 (n, t) without."""
    values = np.asarray(y)
    if values.ndim not in (1, 2) or len(values) != n:
        raise UsageError(f"y needs the shape ({n},) or ({n}, targets), however it has {values.shape}.")
    if values.dtype.kind == "f":
        targets = np.ascontiguousarray(values.reshape(n, -1), dtype=np.float64)
        bad = int((~np.isfinite(targets)).any(axis=1).sum())
        if bad:
            raise DataError(f"Targets must be finite, however {bad} of {n} events have NaN or infinity.")
        return targets, ()
    if values.ndim == 2 or values.dtype.kind not in "iub":
        raise UsageError(
            f"y needs integer labels (n,) or float targets, however: {values.dtype}, shape {values.shape}."
        )
    labels = values.astype(np.int64)
    present = np.unique(labels)
    names = classes or tuple(str(i) for i in range(max(int(present[-1]) + 1, 2)))
    if present[0] < 0 or present[-1] >= len(names):
        raise UsageError(f"Labels must be 0 to {len(names) - 1}, however: {present[:10].tolist()}.")
    if len(present) == 1 and len(names) > 1:
        raise DataError(
            f"A classification needs events of two classes, however all {n} are {names[int(present[0])]!r}. "
            "Add the other class, or give `classes` a single name when the table is only to be scored."
        )
    return labels, names


def as_weights(weight: ArrayLike | None, n: int) -> Floats:
    """Weights float64 (n,), finite and not all zero."""
    if weight is None:
        return np.ones(n)
    values = np.ascontiguousarray(weight, dtype=np.float64)
    if values.shape != (n,):
        raise UsageError(f"weight needs the shape ({n},), however it has {values.shape}.")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataError(
            f"Weights must be finite, however {bad} of {n} are NaN or infinite. Remove these events."
        )
    if not values.any():
        raise DataError(
            f"Some weight must differ from zero, however all {n} are zero. Check the weight column."
        )
    return values


def as_integers(name: str, column: ArrayLike, n: int) -> Ints:
    """Ids or groups as int64 (n,)."""
    values = np.asarray(column)
    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise UsageError(f"{name} needs integers of shape ({n},), however: {values.dtype} {values.shape}.")
    return values.astype(np.int64)


def check_finite(X: NDArray[np.float32], names: tuple[str, ...]) -> None:
    """Refuse NaN and infinity in the features, naming the features and how many events."""
    bad = (~np.isfinite(X)).sum(axis=0)
    if bad.any():
        found = ", ".join(f"{names[i]} ({bad[i]} of {len(X)} events)" for i in np.flatnonzero(bad)[:10])
        raise DataError(
            f"Features must be finite, however NaN, infinite or too large for float32: {found}. Remove these "
            "events, or replace the values and add a flag column that says so."
        )


def positive_sum(weight: Floats, owner: str) -> float:
    """Sum of weights, which must be positive."""
    total = float(weight.sum())
    if total <= 0:
        raise DataError(
            f"Training needs a positive sum of weights, however that of {owner} is {total:g} "
            f"({len(weight)} events). Add events, or choose another policy for negative weights."
        )
    return total
