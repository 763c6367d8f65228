"""From the columns of a user's file to inputs, target, weight and ids, chunk by chunk, as a card says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.data.checks import Floats, Ints, splitmix64, uniform_hash
from hepkan.data.expressions import Expression
from hepkan.data.files import CHUNK, JAGGED, TEXT, EventFile, length, read_chunks
from hepkan.errors import DataError, UsageError, unknown
from hepkan.studies.card import Card, Feature, Missing, Source

FOLDS = 2
"""Stream of the hash that gives folds where the id is not one whole number."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some events, rows of a file in its order.

    Attributes:
        X: inputs float32 `(n, d)`; NaN where missing.
        id: event number `(n,)`.
        chosen: which events fulfil the conditions of the card `(n,)`.
        y: labels as in the file (numbers or text, `(n,)`), or targets float64 `(n, t)`; None when not asked for.
        weight: float64 `(n,)`; None when not asked for.
        ids: the columns that identify an event, as in the file.
        spectators: columns `(n,)` carried along.
    """

    X: NDArray[np.float32]
    id: Ints
    chosen: NDArray[np.bool_]
    y: Any = None
    weight: Floats | None = None
    ids: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    spectators: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.X)


@dataclass(frozen=True)
class Recipe:
    """How a card reads a file.

    Arguments:
        card: the study.
        source: the kind of events in the file; None for files to be scored, of which neither label nor weight is read.
        file: the open file.

    Raises:
        UsageError: a formula or a column is wrong; the message says in which setting.
    """

    card: Card
    source: Source | None
    file: EventFile

    def __post_init__(self) -> None:
        """Parse every formula and look for its columns, so that nothing fails after hours."""
        columns = self.file.columns
        card, source = self.card, self.source
        parts: dict[str, Expression | str] = {}
        for section, items in (("features", card.features), ("spectators", card.spectators)):
            for one in items:
                parts[f"{section}.{one.name}"] = _formula(one.formula, columns, f"{section}.{one.name}", self.file)
        conditions = [*card.selection, *(source.selection if source else [])]
        for i, text in enumerate(conditions):
            parts[f"selection.{i}"] = Expression(text)
        if source is not None:
            if card.weight is not None:
                parts["weight"] = _formula(card.weight, columns, "weight", self.file)
            for one in card.target:
                parts[f"target.{one.name}"] = _formula(one.formula, columns, f"target.{one.name}", self.file)
        for name in card.ids:
            parts[f"event_id.{name}"] = name
        if SELECTED in columns:
            parts[SELECTED] = SELECTED
        for place, part in parts.items():
            for name in [part] if isinstance(part, str) else part.columns:
                if name not in columns:
                    raise self._no_column(place, name)
        object.__setattr__(self, "_parts", parts)

    @property
    def parts(self) -> dict[str, Expression | str]:
        """The formulas, or the columns themselves, by their places in the card."""
        return self._parts  # type: ignore[attr-defined,no-any-return]

    def blocks(self, size: int = CHUNK) -> Iterator[Block]:
        """Read the file once, at most `size` events at a time.

        Raises:
            UsageError: a formula does not fit its columns.
            DataError: the file is damaged, an id is missing.
        """
        names: dict[str, None] = {}
        for part in self.parts.values():
            names |= dict.fromkeys([part] if isinstance(part, str) else part.columns)
        for chunk in read_chunks(self.file, list(names), size):
            yield self._block(chunk)

    def _block(self, chunk: dict[str, Any]) -> Block:
        """Return the events of a chunk."""
        n = length(chunk)
        X = np.column_stack([self._input(one, chunk, n) for one in self.card.features])
        chosen = np.ones(n, dtype=np.bool_)
        if SELECTED in chunk:
            chosen &= chunk[SELECTED].astype(np.bool_)
        for place in self.parts:
            if place.startswith("selection."):
                chosen &= self._value(place).condition(self._clean(chunk, self.card.missing.sentinels), n)
        ids = {name: chunk[name] for name in self.card.ids}
        spectators = {one.name: self._plain(f"spectators.{one.name}", chunk, n) for one in self.card.spectators}
        y, weight = None, None
        if self.source is not None:
            y = self._target(chunk, n)
            weight = np.full(n, self.source.scale)
            if self.card.weight is not None:
                weight = weight * self._number(self.parts["weight"], chunk, n, "weight")
        return Block(X, identify(ids, X, chosen), chosen, y, weight, ids, spectators)

    def _input(self, one: Feature, chunk: Mapping[str, Any], n: int) -> NDArray[np.float32]:
        """Return one input; NaN stands for everything that is not finite."""
        rule = one.missing or self.card.missing
        cleaned = self._clean(chunk, rule.sentinels)
        part = self.parts[f"features.{one.name}"]
        values = self._number(part, cleaned, n, f"features.{one.name}")
        with np.errstate(all="ignore"):
            if one.transform == "log":
                values = np.log(values)
            narrow = values.astype(np.float32)
        narrow[~np.isfinite(narrow)] = np.nan
        return narrow

    def _target(self, chunk: Mapping[str, Any], n: int) -> Any:
        """Return labels `(n,)` or targets `(n, t)`."""
        assert self.source is not None
        if not self.card.target:
            return np.full(n, self.source.label, dtype=np.int64)
        places = [f"target.{one.name}" for one in self.card.target]
        if self.card.task == "classification":
            return self._plain(places[0], chunk, n)
        return np.column_stack([self._number(self.parts[place], chunk, n, place) for place in places])

    def _plain(self, place: str, chunk: Mapping[str, Any], n: int) -> NDArray[Any]:
        """Return a column as it is in the file, or the value of a formula."""
        part = self.parts[place]
        if isinstance(part, str) and self.file.columns[part] != JAGGED:
            return np.asarray(chunk[part])
        return self._number(part, chunk, n, place)

    def _value(self, place: str) -> Expression:
        """Return a formula."""
        part = self.parts[place]
        assert isinstance(part, Expression)
        return part

    def _number(self, part: Expression | str, chunk: Mapping[str, Any], n: int, place: str) -> Floats:
        """Return a column or a formula as numbers."""
        try:
            if isinstance(part, str):
                kind = self.file.columns[part]
                if kind == TEXT:
                    raise UsageError(f"The column {part!r} of {self.file.place} must hold numbers, however it is text.")
                if kind == JAGGED:
                    raise UsageError(
                        f"The column {part!r} of {self.file.place} must hold one number per event, however it has a "
                        f"list of objects. Write a formula such as {part}[0], or use len, sum, max, min."
                    )
                return np.asarray(chunk[part], dtype=np.float64)
            return part.number(chunk, n)
        except UsageError as error:
            raise UsageError(f"Setting {place}: {error}") from error

    def _clean(self, chunk: Mapping[str, Any], sentinels: Sequence[float]) -> Mapping[str, Any]:
        """Return the columns with NaN for what stands for a missing value."""
        return _Cleaned(chunk, tuple(sentinels)) if sentinels else chunk

    def _no_column(self, place: str, name: str) -> UsageError:
        """Return the error for a column that the file does not have."""
        advice = ""
        if place.startswith("event_id"):
            advice = " Name the columns that identify an event, or say `event_id: null`: the inputs identify it then."
        elif place == "weight":
            advice = " Name the column of weights, or say `weight: null` for unit weights."
        text = unknown(f"column of {self.file.place}", name, self.file.columns)
        return UsageError(f"Setting {place.split('.')[0]}: {text}{advice}")


SELECTED = "hepkan_selected"
"""Column of files with collections: whether the event passes the selection that makes the observables."""


class _Cleaned(dict[str, Any]):
    """Columns in which sentinels became NaN, made when asked for."""

    def __init__(self, chunk: Mapping[str, Any], sentinels: tuple[float, ...]) -> None:
        super().__init__(chunk)
        self._sentinels, self._done = sentinels, set[str]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._done:
            self[name] = without(super().__getitem__(name), self._sentinels)
            self._done.add(name)
        return super().__getitem__(name)


def without(values: Any, sentinels: Sequence[float]) -> Any:
    """Return a column with NaN in place of the sentinels; text and conditions stay."""
    if getattr(values, "dtype", np.dtype("f8")).kind in "UOb":
        return values
    if isinstance(values, np.ndarray):
        numbers = values.astype(np.float64)
        same = np.isin(numbers, sentinels)
        if values.dtype.kind == "f":  # -999.9 is another number in single precision
            same |= np.isin(values, np.asarray(sentinels, dtype=values.dtype))
        numbers[same] = np.nan
        return numbers
    import awkward as ak

    for sentinel in sentinels:
        values = ak.where(values == sentinel, np.nan, values)
    return values


def _formula(text: str, columns: Mapping[str, str], place: str, file: EventFile) -> Expression | str:
    """Return the name of a column, or else a formula."""
    if text in columns:
        return text
    try:
        return Expression(text)
    except UsageError as error:
        raise UsageError(f"Setting {place}: {text!r} is no column of {file.place}, and no formula: {error}") from error


def identify(ids: Mapping[str, NDArray[Any]], X: NDArray[np.float32], chosen: NDArray[np.bool_]) -> Ints:
    """Return the event number `(n,)`: one whole number as it is, else a hash of the columns, or of the inputs.

    Raises:
        DataError: an id is missing or a fraction.
    """
    if len(ids) == 1:
        only = next(iter(ids.values()))
        if only.dtype.kind in "iu":
            return only.astype(np.int64)
    columns = {name: _whole(name, values, chosen) for name, values in ids.items()}
    if len(columns) == 1 and next(iter(ids.values())).dtype.kind == "f":
        return next(iter(columns.values()))
    if not columns:
        bits = np.where(np.isnan(X), np.float32(np.nan), X + np.float32(0)).view(np.uint32)
        columns = {str(i): bits[:, i].astype(np.int64) for i in range(X.shape[1])}
    key = np.zeros(len(X), dtype=np.uint64)
    for values in columns.values():
        key = splitmix64(key ^ splitmix64(values.view(np.uint64)))
    return key.view(np.int64)


def _whole(name: str, values: NDArray[Any], chosen: NDArray[np.bool_]) -> Ints:
    """Return a column of ids as whole numbers; text is hashed."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    if values.dtype.kind == "U":
        unique, place = np.unique(values, return_inverse=True)
        digests = (hashlib.sha256(text.encode()).digest()[:8] for text in unique.tolist())
        return np.array([int.from_bytes(one, "little", signed=True) for one in digests], dtype=np.int64)[place]
    with np.errstate(invalid="ignore"):
        bad = ~np.isfinite(values) | (values % 1 != 0) | (abs(values) > 2**53)
        if bool((bad & chosen).any()):
            raise DataError(
                f"Event ids must be whole numbers or text, however {int(bad.sum())} of {len(values)} in {name!r} are "
                "missing or fractions. Name other columns, or say `event_id: null`."
            )
        return np.where(bad, 0, values).astype(np.int64)


def folds_of(card: Card, identity: Ints) -> Ints:
    """Return the fold of each event `(n,)`: `id % folds` for one whole number, else a hash; -1 without folds."""
    if card.folds is None:
        return np.full(len(identity), -1, dtype=np.int64)
    if len(card.ids) == 1:
        return identity % card.folds
    return np.floor(uniform_hash(identity, card.split.seed, FOLDS) * card.folds).astype(np.int64)


def rules(card: Card) -> list[Missing]:
    """Return what to do about missing values of each input."""
    return [one.missing or card.missing for one in card.features]
