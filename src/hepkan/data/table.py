"""`Table`: features, target, weights and ids of events, split by a hash of each event's group.

Two rows of one group (the same generated event seen twice, the same parent shower) never end up on two sides
of a split, and a row's side depends on nothing but its group and the seeds: not on the order, not on the
other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepkan.data.checks import (
    Floats,
    Ints,
    as_features,
    as_integers,
    as_target,
    as_weights,
    check_finite,
    positive_sum,
    uniform_hash,
)
from hepkan.errors import DataError, UsageError, unknown

Policy = Literal["abs", "drop", "keep", "zero"]

_TEST, _TRAIN, _FOLD = 0, 1, 2  # independent streams of the hash


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Events as arrays, checked once at construction.

    Arguments:
        X: features in physical units, finite; shape (n, d), kept as float32.
        y: integers (n,) are class labels 0, 1, ...; floats (n,) or (n, t) are regression targets.
        weight: event weights (n,), may be negative; 1 by default.
        id: event number (n,); the row number by default.
        group: rows that must stay on one side of a split share it (n,); `id` by default.
        names: features; `x0`, `x1`, ... by default.
        units: unit of each feature, empty for none.
        labels: pretty names (mathtext) of the features; `names` by default.
        target_names: one name for labels, t for targets.
        classes: names of the labels 0, 1, ...; a single name says that one class is intended.
        extra: further columns (n,) that travel with the rows, such as `process`.
        class_balance: whether training weights give every class the same sum; metrics never do.

    Raises:
        UsageError: shapes or names do not fit together.
        DataError: NaN or infinite values, all weights zero, labels of one class only.
    """

    X: NDArray[np.float32]
    y: NDArray[Any]
    weight: Floats = None  # type: ignore[assignment]
    id: Ints = None  # type: ignore[assignment]
    group: Ints = None  # type: ignore[assignment]
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    class_balance: bool = True

    def __post_init__(self) -> None:
        """Fill the defaults, convert the types, refuse what cannot be used."""
        X = as_features(self.X)
        n, d = X.shape
        y, classes = as_target(self.y, n, tuple(self.classes))
        width = 1 if y.ndim == 1 else y.shape[1]
        identity = as_integers("id", self.id, n) if self.id is not None else np.arange(n, dtype=np.int64)
        names = tuple(self.names) or tuple(f"x{i}" for i in range(d))
        targets = ("label",) if y.ndim == 1 else tuple(f"y{i}" for i in range(width))
        values = {
            "X": X,
            "y": y,
            "weight": as_weights(self.weight, n),
            "id": identity,
            "group": as_integers("group", self.group, n) if self.group is not None else identity,
            "names": names,
            "units": tuple(self.units) or ("",) * d,
            "labels": tuple(self.labels) or names,
            "target_names": tuple(self.target_names) or targets,
            "classes": classes,
            "extra": {name: np.asarray(column) for name, column in self.extra.items()},
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        _check_names(self, d, width)
        check_finite(X, names)

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        if not self.classification:
            targets = ", ".join(self.target_names)
            return f"Table({len(self)} events, {len(self.names)} features, targets {targets})"
        counts = np.bincount(self.y, minlength=len(self.classes))
        content = ", ".join(f"{name}: {count}" for name, count in zip(self.classes, counts, strict=True))
        return f"Table({len(self)} events, {len(self.names)} features, {content})"

    @property
    def classification(self) -> bool:
        """Whether `y` holds class labels (not regression targets)."""
        return self.y.ndim == 1

    def column(self, name: str) -> NDArray[np.float32]:
        """Return one feature, shape (n,)."""
        if name not in self.names:
            raise unknown("feature", name, self.names)
        return self.X[:, self.names.index(name)]

    def take(self, rows: ArrayLike) -> Table:
        """Return the rows of a mask (n,) or of indices; one class or none is allowed here."""
        index = np.asarray(rows)
        if index.dtype == np.bool_ and index.shape != (len(self),):
            raise UsageError(f"A mask needs the shape ({len(self)},), however it has {index.shape}.")
        if index.size == 0:
            index = index.astype(np.int64)
        changes = {name: getattr(self, name)[index] for name in ("X", "y", "weight", "id", "group")}
        return self._with(**changes, extra={name: column[index] for name, column in self.extra.items()})

    def select(self, features: Sequence[str]) -> Table:
        """Return the table with these features only, in this order.

        Raises:
            UsageError: unknown feature, no feature, or the same one twice.
        """
        for name in features:
            if name not in self.names:
                raise unknown("feature", name, self.names)
        if not features or len(set(features)) != len(features):
            raise UsageError(f"Features must be given once each, at least one, however: {list(features)}.")
        columns = [self.names.index(name) for name in features]
        pretty = {key: tuple(getattr(self, key)[i] for i in columns) for key in ("names", "units", "labels")}
        return self._with(X=np.ascontiguousarray(self.X[:, columns]), **pretty)

    def split(
        self, fractions: Sequence[float] = (0.6, 0.2, 0.2), seed: int = 0, test_seed: int = 0
    ) -> tuple[Table, ...]:
        """Return (train, validation, test), or (train, validation) when two fractions are given.

        Whether a group is in the test part depends on the group, the fraction and `test_seed` alone; `seed`
        divides the others. A larger test fraction contains the smaller one.

        Raises:
            UsageError: not two or three positive fractions that add up to 1.
            DataError: too few groups, a part would be empty.
        """
        parts = tuple(float(one) for one in fractions)
        if len(parts) not in (2, 3) or min(parts) <= 0 or abs(sum(parts) - 1) > 1e-6:
            raise UsageError(f"Fractions must be two or three positive numbers of sum 1, however: {parts}.")
        held_out = parts[2] if len(parts) == 3 else 0.0
        test = uniform_hash(self.group, test_seed, _TEST) < held_out
        train = uniform_hash(self.group, seed, _TRAIN) < parts[0] / (parts[0] + parts[1])
        masks = (~test & train, ~test & ~train, test)[: len(parts)]
        if not all(mask.any() for mask in masks):
            sizes = [int(mask.sum()) for mask in masks]
            groups = len(np.unique(self.group))
            raise DataError(
                f"A split into {parts} needs events in every part, however {len(self)} events in {groups} "
                f"groups give {sizes}. Use more events, or check that independent events differ in `group`."
            )
        return tuple(self.take(mask) for mask in masks)

    def folds(self, k: int, seed: int = 0) -> list[tuple[Table, Table]]:
        """Return k pairs (the rest, the fold), by group; the folds together are the table.

        Raises:
            UsageError: k < 2.
            DataError: a fold would be empty.
        """
        if k < 2:
            raise UsageError(f"Cross-evaluation needs at least 2 folds, however: k={k}.")
        fold = np.floor(uniform_hash(self.group, seed, _FOLD) * k).astype(np.int64)
        counts = np.bincount(fold, minlength=k)
        if counts.min() == 0:
            raise DataError(f"{k} folds need events in every fold, however they have {counts.tolist()}.")
        return [(self.take(fold != i), self.take(fold == i)) for i in range(k)]

    def training_weights(self, policy: Policy = "abs", balance: bool | None = None) -> Floats:
        """Return weights (n,) for training: mean 1 and, with `balance` (the table's `class_balance` when None), equal
        sums of the classes.

        Negative weights follow the policy: `abs` takes the absolute value, `keep` keeps the sign, `zero` and
        `drop` give zero. The rows of `drop` do not count in the mean; `for_training` leaves them out.

        Raises:
            UsageError: unknown policy.
            DataError: the weights of the table or of a class do not add up to something positive.
        """
        if policy not in get_args(Policy):
            raise unknown("policy for negative weights", policy, get_args(Policy))
        if policy == "abs":
            weight = np.abs(self.weight)
        elif policy == "keep":
            weight = self.weight.copy()
        else:
            weight = np.maximum(self.weight, 0.0)
        rows = int((self.weight >= 0).sum()) if policy == "drop" else len(self)
        if not ((self.class_balance if balance is None else balance) and self.classification):
            return weight * (rows / positive_sum(weight, "the table"))
        for label, name in enumerate(self.classes):
            members = self.y == label
            total = positive_sum(weight[members], f"class {name!r}")
            weight[members] *= rows / (len(self.classes) * total)
        return weight

    def for_training(self, policy: Policy = "abs", balance: bool | None = None) -> tuple[Table, Floats]:
        """Return the rows to train on (without negative weights for `drop`) and their `training_weights`."""
        weight = self.training_weights(policy, balance)
        if policy != "drop":
            return self, weight
        kept = self.weight >= 0
        return self.take(kept), weight[kept]

    def effective_size(self) -> float:
        """Return (sum w)^2 / sum w^2 over groups: the number of unweighted events of the same statistical power."""
        members = np.unique(self.group, return_inverse=True)[1]
        squares = float(np.sum(np.bincount(members, self.weight) ** 2))
        return float(np.sum(self.weight)) ** 2 / squares if squares > 0 else 0.0

    def join(self, other: Table) -> Table:
        """Return the rows of this table followed by those of another; see `concatenate`."""
        return concatenate([self, other])

    def _with(self, **changes: Any) -> Table:
        """Return a copy with changed fields, without the checks: they hold for parts of a checked table."""
        copy = object.__new__(type(self))
        for one in fields(self):
            object.__setattr__(copy, one.name, changes.get(one.name, getattr(self, one.name)))
        return copy


def concatenate(tables: Iterable[Table]) -> Table:
    """Return the rows of several tables with the same features, targets, classes and extra columns.

    Ids and groups are kept as they are: make them unique over the tables before, or defaults of 0, 1, ...
    coincide.

    Raises:
        UsageError: no table, or they differ in what they describe.
    """
    parts = list(tables)
    if not parts:
        raise UsageError("At least one table is needed, however the list is empty.")
    first = parts[0]
    for other in parts[1:]:
        for name in ("names", "target_names", "classes", "extra"):
            mine, its = (list(getattr(one, name)) for one in (first, other))
            if mine != its:
                raise UsageError(f"Tables to join need the same {name}, however: {mine} and {its}.")
    columns = {
        name: np.concatenate([getattr(one, name) for one in parts])
        for name in ("X", "y", "weight", "id", "group")
    }
    extra = {name: np.concatenate([one.extra[name] for one in parts]) for name in first.extra}
    return first._with(**columns, extra=extra)


def _check_names(table: Table, d: int, width: int) -> None:
    """Refuse descriptions that do not fit the arrays."""
    for name, size in (("names", d), ("units", d), ("labels", d), ("target_names", width)):
        if len(getattr(table, name)) != size:
            raise UsageError(f"{name} needs {size} entries, however it has {len(getattr(table, name))}.")
    if len(set(table.names)) != d:
        twice = sorted({name for name in table.names if table.names.count(name) > 1})
        raise UsageError(f"Names of features must differ, however these occur twice: {', '.join(twice)}.")
    for name, column in table.extra.items():
        if column.shape[:1] != (len(table),):
            raise UsageError(f"extra[{name!r}] needs {len(table)} rows, however its shape is {column.shape}.")
