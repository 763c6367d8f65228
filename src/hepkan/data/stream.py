"""`ParquetStream`: events that stay in their files and are read in pieces, row group by row group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from hepkan.data.checks import Floats
from hepkan.data.table import Policy
from hepkan.errors import DataError, UsageError, unknown

PIECE = 16384
"""Rows read at a time."""


class Rows(NamedTuple):
    """Some rows: features float32 `(n, d)`, labels int64 `(n,)` or targets float64 `(n, t)`, weights float64 `(n,)`."""

    X: NDArray[np.float32]
    y: NDArray[Any]
    weight: Floats

    def take(self, index: NDArray[Any]) -> Rows:
        """Return the rows of a mask or of indices."""
        return Rows(self.X[index], self.y[index], self.weight[index])


@dataclass(frozen=True, eq=False)
class ParquetStream:
    """Events in Parquet files, for tables larger than memory.

    Training visits the row groups of all files in random order and shuffles rows within a buffer. Where classes are not
    mixed in the files, the buffer has to hold many row groups.

    Arguments:
        files: one or several files.
        features: columns that are the inputs.
        target: a column of integers has labels 0, 1, ...; of floats, or several columns, regression targets.
        weight: column of event weights, may be negative; None for unit weights.
        classes: names of the labels, when not each of them needs to occur.
        buffer: rows held and shuffled at a time.

    Raises:
        UsageError: no file, no feature or one twice, an unknown column, an impossible `buffer`.
        DataError: a file is missing or damaged, a column does not hold numbers, there are no rows.
    """

    files: str | Path | Sequence[str | Path]
    features: Sequence[str]
    target: str | Sequence[str] = "label"
    weight: str | None = "weight"
    classes: Sequence[str] = ()
    buffer: int = 200_000
    groups: tuple[tuple[int, int, int], ...] = field(init=False)
    """File number, number within the file, and rows of every row group."""
    classification: bool = field(init=False)
    """Whether the target holds class labels."""

    def __post_init__(self) -> None:
        """Look at the files' schemas."""
        paths = (self.files,) if isinstance(self.files, str | Path) else tuple(self.files)
        if not paths:
            raise UsageError("A stream needs at least one file, however the list is empty.")
        if not self.features or len(set(self.features)) != len(self.features):
            raise UsageError(f"Features must be given once each, at least one, however: {list(self.features)}.")
        if not isinstance(self.buffer, Integral) or self.buffer < 1:
            raise UsageError(f"buffer needs to be a whole number of at least 1, however: {self.buffer}.")
        object.__setattr__(self, "files", tuple(Path(path) for path in paths))
        metadata, groups, kinds = [], [], set()
        for number, path in enumerate(self.paths):
            with _opened(path) as file:
                kinds.add(self._check_columns(path, file.schema_arrow))
                metadata.append(file.metadata)
                groups += [(number, i, file.metadata.row_group(i).num_rows) for i in range(file.num_row_groups)]
        if len(kinds) > 1:
            raise DataError(f"The target {self.target!r} needs one type, however it is whole in some files only.")
        object.__setattr__(self, "_metadata", metadata)
        object.__setattr__(self, "groups", tuple(group for group in groups if group[2] > 0))
        object.__setattr__(self, "classification", kinds.pop())
        if not self.groups:
            raise DataError(f"A stream needs events, however {', '.join(map(str, self.paths))} have no rows.")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return self.files  # type: ignore[return-value]

    @property
    def names(self) -> tuple[str, ...]:
        """The features."""
        return tuple(self.features)

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of the target."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    def __len__(self) -> int:
        return sum(rows for _, _, rows in self.groups)

    def pieces(self, policy: Policy = "abs", order: Iterable[int] | None = None) -> Iterator[Rows]:
        """Read every row once, at most `PIECE` at a time, with weights after the policy; unchecked.

        Arguments:
            policy: for negative weights, see `Table.training_weights`.
            order: of the row groups; that of the files by default.

        Raises:
            UsageError: unknown policy.
            DataError: a file is damaged.
        """
        if policy not in get_args(Policy):
            raise unknown("policy for negative weights", policy, get_args(Policy))
        columns = list(dict.fromkeys([*self.features, *self.targets, *([self.weight] if self.weight else [])]))
        for group in range(len(self.groups)) if order is None else order:
            number, within, _ = self.groups[group]
            with _opened(self.paths[number], self._metadata[number]) as file:  # type: ignore[attr-defined]
                for batch in file.iter_batches(PIECE, row_groups=[within], columns=columns):
                    yield with_policy(self._rows(batch), policy)

    def _check_columns(self, path: Path, schema: Any) -> bool:
        """Refuse columns that are not there or do not hold numbers; return whether the target is whole."""
        import pyarrow as pa

        for name in (*self.features, *self.targets, *([self.weight] if self.weight else [])):
            if name not in schema.names:
                raise unknown(f"column of {path}", name, schema.names)
            kind = schema.field(name).type
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
                raise DataError(f"The column {name!r} of {path} must hold numbers, however its type is {kind}.")
        if not isinstance(self.target, str):
            return False
        return not pa.types.is_floating(schema.field(self.target).type)

    def _rows(self, batch: Any) -> Rows:
        """Return the arrays of a record batch; a missing value becomes NaN, a missing label -1."""
        X = np.empty((batch.num_rows, len(self.features)), np.float32)
        with np.errstate(over="ignore"):
            for i, name in enumerate(self.features):
                X[:, i] = _numbers(batch, name)
        if self.classification:
            y = np.nan_to_num(_numbers(batch, self.targets[0]), nan=-1).astype(np.int64)
        else:
            y = np.column_stack([_numbers(batch, name).astype(np.float64) for name in self.targets])
        weight = np.ones(len(X)) if self.weight is None else _numbers(batch, self.weight).astype(np.float64)
        return Rows(X, y, weight)


def with_policy(rows: Rows, policy: Policy) -> Rows:
    """Return rows with weights after the policy for negative ones."""
    if policy == "abs":
        return rows._replace(weight=np.abs(rows.weight))
    if policy == "zero":
        return rows._replace(weight=np.maximum(rows.weight, 0.0))
    return rows.take(rows.weight >= 0) if policy == "drop" and bool((rows.weight < 0).any()) else rows


def _numbers(batch: Any, name: str) -> NDArray[Any]:
    """Return a column as an array; a missing value becomes NaN."""
    column = batch.column(batch.schema.get_field_index(name))
    if column.null_count:
        column = column.cast("float64").fill_null(float("nan"))
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


@contextmanager
def _opened(path: Path, metadata: Any = None) -> Iterator[Any]:
    """Open a file, and turn whatever a missing or damaged one raises into a `DataError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"A Parquet file is needed, however {path} does not exist or is no file. Check the path.")
    try:
        with pq.ParquetFile(
            path, metadata=metadata, buffer_size=1 << 16, pre_buffer=False, page_checksum_verification=True
        ) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"A complete Parquet file is needed, however {path} cannot be read: it is truncated, damaged or of another "
            f"format ({type(error).__name__}: {reason}). Make or copy it again."
        ) from error
