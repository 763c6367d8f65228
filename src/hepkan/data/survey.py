"""One pass over a stream: every row is checked, the weights are summed, some rows are kept to learn from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from hepkan.data.checks import Floats, Ints
from hepkan.data.stream import ParquetStream, Rows, with_policy
from hepkan.data.table import Policy
from hepkan.errors import DataError


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over all rows told.

    Attributes:
        rows: number of rows to train on: without negative weights where these are dropped.
        scale: factor of the weights of every class `(classes,)`, `(1,)` for regression. The mean weight becomes 1, and
            classes get equal sums.
        sample: rows at equal steps, their weights scaled.
        digest: hash of all rows.
    """

    rows: int
    scale: Floats
    sample: Rows
    digest: bytes


def survey(stream: ParquetStream, policy: Policy = "abs", size: int = 100_000) -> Survey:
    """Read every row once and keep at most `size` of them.

    Raises:
        UsageError: unknown policy.
        DataError: values that are not finite, labels that are not classes, weights without a positive sum.
    """
    size = min(size, len(stream))
    position, start = np.arange(size) * len(stream) // size, 0
    seen, digest, kept = _Seen(stream), hashlib.sha256(), []
    for rows in stream.pieces("keep"):
        for array in rows:
            digest.update(np.ascontiguousarray(array).data)
        counted = with_policy(rows, policy)
        seen.add(rows, counted)
        first, last = np.searchsorted(position, (start, start + len(rows.X)))
        kept.append(with_policy(rows.take(position[first:last] - start), policy))
        start += len(rows.X)
    scale = seen.scale()
    X, y, weight = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return Survey(seen.counted, scale, Rows(X, y, scaled(y, weight, scale)), digest.digest())


def scaled(y: Ints | Floats, weight: Floats, scale: Floats) -> Floats:
    """Return weights `(n,)` times the factor of each row's class."""
    return weight * (scale[y] if y.ndim == 1 else scale)


@dataclass
class _Seen:
    """Numbers of spoiled rows and sums of weights, piece after piece."""

    stream: ParquetStream
    rows: int = 0
    counted: int = 0
    features: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    weights: int = 0
    targets: int = 0
    sums: dict[int, float] = field(default_factory=dict)

    def add(self, rows: Rows, counted: Rows) -> None:
        """Look at rows as they are, and as the policy counts them."""
        self.rows += len(rows.X)
        self.counted += len(counted.X)
        self.features = self.features + (~np.isfinite(rows.X)).sum(axis=0)
        self.weights += int((~np.isfinite(rows.weight)).sum())
        labels = counted.y if self.stream.classification else np.zeros(len(counted.y), np.int64)
        bad = rows.y < 0 if self.stream.classification else (~np.isfinite(rows.y)).any(axis=1)
        self.targets += int(bad.sum())
        for label in np.unique(labels).tolist():
            self.sums[label] = self.sums.get(label, 0.0) + float(counted.weight[labels == label].sum())

    def scale(self) -> Floats:
        """Return the factors of the weights, or say what is wrong with the rows."""
        spoiled = [(self.stream.names[i], int(self.features[i])) for i in np.flatnonzero(self.features)[:10]]
        if spoiled:
            found = ", ".join(f"{name} ({number} of {self.rows} events)" for name, number in spoiled)
            raise DataError(
                f"Features must be finite, however NaN, infinite or too large for float32: {found}. Remove these "
                "events, or replace the values and add a flag column that says so."
            )
        if self.weights:
            raise DataError(
                f"Weights must be finite, however {self.weights} of {self.rows} are NaN or infinite. "
                "Remove these events."
            )
        if self.targets:
            wanted = "the integers 0, 1, ..." if self.stream.classification else "finite"
            raise DataError(
                f"The target ({', '.join(self.stream.targets)}) must be {wanted}, however {self.targets} of "
                f"{self.rows} events have others. Remove these events."
            )
        sums = self._sums_of_classes() if self.stream.classification else np.array([self.sums.get(0, 0.0)])
        for owner, total in enumerate(sums.tolist()):
            if not total > 0.0:
                name = f"class {owner}" if self.stream.classification else "all events"
                raise DataError(
                    f"Training needs a positive sum of weights, however that of {name} is {total:g}. Add events, or "
                    "choose another policy for negative weights."
                )
        return self.counted / (len(sums) * sums)

    def _sums_of_classes(self) -> Floats:
        """Return the sum of weights of every class."""
        largest = max(self.sums, default=0)
        number = len(self.stream.classes) or max(largest + 1, 2)
        if largest >= number:
            raise DataError(
                f"Labels must be the integers 0 to {number - 1}, however {largest} occurs. Name all classes, or "
                "renumber the labels."
            )
        return np.array([self.sums.get(label, 0.0) for label in range(number)])
