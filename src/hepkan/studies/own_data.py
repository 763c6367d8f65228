"""The user's own files as tables: read by a recipe, missing values replaced by what the training events teach."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepkan.data import Table
from hepkan.data.checks import Floats, Ints, uniform_hash
from hepkan.data.files import places
from hepkan.errors import DataError, UsageError
from hepkan.studies.card import Card, Source
from hepkan.studies.readers import open_source
from hepkan.studies.recipe import Recipe, folds_of, rules

if TYPE_CHECKING:
    from hepkan.studies.members import Data

SUFFIX = "_missing"
"""The input `<feature>_missing` is 1 where the value of a feature is missing, else 0."""

MOST_CLASSES = 1000
"""Numbers of classes are below."""

KEYS = {
    *("task", "name", "data", "test", "features", "target", "classes", "selection", "weight", "missing"),
    *("event_id", "duplicate_ids", "spectators", "folds", "rows", "split"),
}
"""Settings of a card that decide which events there are and what is in them."""

_ROWS, _TEST = 7, 0  # streams of the hash: which rows are kept, and which are the test part (as in `Table.split`)


@dataclass(frozen=True, eq=False)
class Events:
    """All chosen events of a study; X `(n, d)` has NaN where a value is missing.

    `y` holds labels `(n,)` or targets `(n, t)`; weight, id, process and the columns of `extra` are `(n,)`.
    """

    X: NDArray[np.float32]
    y: Any
    weight: Floats
    id: Ints
    process: NDArray[Any]
    extra: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: NDArray[Any]) -> Events:
        """Return some rows."""
        extra = {name: values[rows] for name, values in self.extra.items()}
        return Events(self.X[rows], self.y[rows], self.weight[rows], self.id[rows], self.process[rows], extra)


@dataclass(frozen=True)
class Learned:
    """What the events of a card taught about its inputs: everything that scoring needs besides the model.

    Attributes:
        flagged: features with an input `<feature>_missing`.
        fills: replacement of missing values by feature, for each set of training events: `split`, and `0`, `1`, ... for
            all events but those of a fold.
        ranges: least and largest known value of each feature.
        classes: names of the classes, none for a regression.
    """

    flagged: tuple[str, ...]
    fills: Mapping[str, Mapping[str, float]]
    ranges: Mapping[str, tuple[float, float]]
    classes: tuple[str, ...]

    def inputs(self, X: NDArray[np.float32], names: Sequence[str], part: str) -> NDArray[np.float32]:
        """Return the inputs of the model `(n, d + flags)`; missing values replaced as for the training events `part`.

        Features without a replacement keep NaN.
        """
        filled, flags = X.copy(), []
        fills = self.fills[part]
        for i, name in enumerate(names):
            missing = np.isnan(X[:, i])
            if name in fills:
                filled[missing, i] = fills[name]
            if name in self.flagged:
                flags.append(missing.astype(np.float32))
        return np.column_stack([filled, *flags])

    def input_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the inputs of the model."""
        return (*names, *(f"{name}{SUFFIX}" for name in names if name in self.flagged))


def learned_from(content: Mapping[str, Any]) -> Learned:
    """Return what was learned from its JSON form.

    Raises:
        KeyError, TypeError, ValueError: it is another thing.
    """
    return Learned(
        tuple(map(str, content["flagged"])),
        {str(part): {str(k): float(v) for k, v in fills.items()} for part, fills in content["fills"].items()},
        {str(name): (float(low), float(high)) for name, (low, high) in content["ranges"].items()},
        tuple(map(str, content["classes"])),
    )


def locate(card: Card) -> Data:
    """Return where the events of a card are, with the hash of all that decides which they are.

    Raises:
        DataError: a file is missing.
    """
    from hepkan.studies.members import Data

    fixed = card.model_copy(update={"data": _absolute(card.data), "test": _absolute(card.tests) or None})
    recipe = fixed.model_dump(mode="json", include=KEYS)
    digest = hashlib.sha256()
    for source in [*fixed.data, *fixed.tests]:
        for name in source.files:
            for place in places(name, source.tree, source.format, source.header):
                digest.update(_digest(place.path))
    plain = {**recipe, "data": _nameless(fixed.data), "test": _nameless(fixed.tests), "name": ""}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    first = Path(fixed.data[0].files[0])
    data = Data.of(card, "own", (first, digest.hexdigest()), None)
    return replace(data, recipe=json.dumps(recipe, sort_keys=True))


def _absolute(sources: Sequence[Source]) -> list[Source]:
    """Return sources whose files are found from any folder, wildcards written out."""
    fixed = []
    for source in sources:
        found: dict[str, None] = {}
        for name in source.files:
            for place in places(name, source.tree, source.format, source.header):
                tree = f":{place.tree}" if place.tree and place.tree != source.tree else ""
                found[f"{place.path.absolute()}{tree}"] = None
        fixed.append(source.model_copy(update={"files": list(found)}))
    return fixed


def _nameless(sources: Sequence[Source]) -> list[Any]:
    """Return the description of sources without the places of their files."""
    found = []
    for source in sources:
        trees = [name.rpartition(":")[2] for name in source.files if not Path(name).is_file()]
        found.append({**source.model_dump(mode="json", exclude={"files"}), "trees": trees})
    return found


def _digest(path: Path) -> bytes:
    """Return the hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def card_of(recipe: str) -> Card:
    """Return the card of a recipe, as far as it concerns the events."""
    return Card.model_validate(json.loads(recipe))


def load_own(data: Data) -> Table:
    """Return the events as a table, missing values replaced as for the training events of `data`."""
    return _table(data.recipe, data.fold, test=False)


def load_own_test(data: Data) -> Table:
    """Return the events of the card's own test files."""
    return _table(data.recipe, data.fold, test=True)


@lru_cache(maxsize=2)
def _table(recipe: str, fold: int | None, test: bool) -> Table:
    """Return a table of all events."""
    card, learned = card_of(recipe), learn(recipe)
    events = read_events(recipe, test)
    part = "split" if fold is None else str(fold)
    units, labels = [one.unit for one in card.features], [one.label or one.name for one in card.features]
    extra = len(learned.flagged)
    flags = [f"{name} missing" for name in card.feature_names if name in learned.flagged]
    return Table(
        X=learned.inputs(events.X, card.feature_names, part),
        y=events.y,
        weight=events.weight,
        id=events.id,
        group=events.id,
        names=learned.input_names(card.feature_names),
        units=(*units, *[""] * extra),
        labels=(*labels, *flags),
        target_names=tuple(card.target_names) if card.task == "regression" else ("label",),
        classes=learned.classes,
        extra={"process": events.process, "fold": folds_of(card, events.id), **events.extra},
    )


@lru_cache(maxsize=2)
def read_events(recipe: str, test: bool = False) -> Events:
    """Read all events of a card, or of its test files, chunk by chunk, keeping only what the study needs.

    Raises:
        UsageError: a column or a formula is wrong.
        DataError: a file is missing or damaged; no event of a source is left; ids occur twice; values are missing where
            the card does not allow it; labels or weights are impossible.
    """
    card = card_of(recipe)
    sources = card.tests if test else card.data
    parts = [_of_source(card, source) for source in sources]
    width = max(part.y.dtype for part in parts) if len({part.y.dtype for part in parts}) > 1 else None
    columns = {name: np.concatenate([part.extra[name] for part in parts]) for name in parts[0].extra}
    events = Events(
        np.concatenate([part.X for part in parts]),
        np.concatenate([part.y if width is None else part.y.astype(width) for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.id for part in parts]),
        np.concatenate([part.process for part in parts]),
        columns,
    )
    _check_missing(card, events)
    if card.task == "regression":
        return events
    return _labelled(card, events, class_names(recipe) if test else _classes(card, events.y))


def _of_source(card: Card, source: Source) -> Events:
    """Read the chosen events of one source."""
    kept: list[Events] = []
    total, count = 0.0, 0
    for file in open_source(source):
        for block in Recipe(card, source, file).blocks():
            assert block.weight is not None
            count += len(block)
            process = np.full(len(block), source.name)
            events = Events(block.X, block.y, block.weight, block.id, process, block.spectators).take(block.chosen)
            bad = int((~np.isfinite(events.weight)).sum())
            if bad:
                raise DataError(f"Weights must be finite, however {bad} of {len(events)} in {file.place} are not.")
            total += float(events.weight.sum())
            kept = _thinned([*kept, events], card, len(card.data))
    if not sum(map(len, kept)):
        raise DataError(
            f"Events are needed, however none of the {count} of {source.name} is left after the selection "
            f"({'; '.join([*card.selection, *source.selection]) or 'no condition'})."
        )
    chosen = _joined(kept)
    _check_ids(card, source, chosen.id)
    mine = float(chosen.weight.sum())
    if card.rows is not None and mine != 0:
        chosen = replace(chosen, weight=chosen.weight * (total / mine))
    return chosen


def _thinned(parts: list[Events], card: Card, sources: int) -> list[Events]:
    """Keep at most the share of `rows` of a source: those of the smallest hash, whatever their order."""
    if card.rows is None:
        return parts
    share = max(1, card.rows // sources)
    if sum(map(len, parts)) <= share:
        return parts
    events = _joined(parts)
    number = uniform_hash(events.id, card.split.seed, _ROWS)
    return [events.take(np.sort(np.argsort(number, kind="stable")[:share]))]


def _joined(parts: Sequence[Events]) -> Events:
    """Return the rows of several parts."""
    extra = {name: np.concatenate([part.extra[name] for part in parts]) for name in parts[0].extra}
    names = ("X", "y", "weight", "id", "process")
    return Events(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}, extra=extra)


def _check_ids(card: Card, source: Source, identity: Ints) -> None:
    """Refuse ids that occur twice, unless the card says that they belong together."""
    if card.duplicate_ids == "group" or card.event_id is None:
        return
    unique, counts = np.unique(identity, return_counts=True)
    if len(unique) < len(identity):
        worst = int(unique[counts.argmax()])
        raise DataError(
            f"Event ids must differ within a source, however in {source.name} {int((counts > 1).sum())} occur more "
            f"than once ({card.event_id} {worst}: {int(counts.max())} times). Name more columns, as in event_id: "
            "[run, event], or say duplicate_ids: group when rows of one id belong together."
        )


def _check_missing(card: Card, events: Events) -> None:
    """Refuse missing values of features whose policy is `error`."""
    missing = np.isnan(events.X).sum(axis=0)
    found = [
        f"{name} ({count} of {len(events)} events)"
        for name, count, rule in zip(card.feature_names, missing.tolist(), rules(card), strict=True)
        if count and rule.policy == "error"
    ]
    if found:
        raise DataError(
            f"Features must be finite, however NaN, infinite, undefined or missing: {', '.join(found[:10])}. Say "
            "`missing: {policy: flag}` or impute in the card (and `sentinel: -999` when a number means missing), or "
            "remove these events by a selection such as isfinite(x)."
        )
    if card.task == "regression":
        bad = int((~np.isfinite(events.y)).any(axis=1).sum())
        if bad:
            raise DataError(f"Targets must be finite, however {bad} of {len(events)} events have NaN or infinity.")


def class_names(recipe: str) -> tuple[str, ...]:
    """Return the names of the classes in the order of their numbers."""
    card, events = card_of(recipe), read_events(recipe)
    if card.classes or not card.target:
        return _classes(card, events.y)
    names = dict(zip(events.y.tolist(), events.process.tolist(), strict=True))
    return tuple(str(names.get(i, i)) for i in range(max(2, max(names) + 1)))


def _classes(card: Card, raw: NDArray[Any]) -> tuple[str, ...]:
    """Return the names of the classes: the card's, those of the sources, or the values of the column of labels."""
    if card.classes:
        return tuple(card.classes)
    if not card.target:
        labels = sorted({source.label for source in card.data if source.label is not None})
        return tuple("+".join(one.name for one in card.data if one.label == label) for label in labels)
    if raw.dtype.kind == "U":
        return tuple(sorted(set(raw.tolist())))
    numbers = raw.astype(np.float64)
    largest = int(max(1.0, numbers[(numbers >= 0) & (numbers < MOST_CLASSES)].max(initial=1.0)))
    return tuple(str(i) for i in range(largest + 1))


def _labelled(card: Card, events: Events, classes: tuple[str, ...]) -> Events:
    """Return events with labels 0, 1, ..."""
    raw = events.y
    if raw.dtype.kind in "UO":
        text = raw.astype(str)
        foreign = sorted(set(text.tolist()) - set(classes))
        if foreign:
            raise DataError(f"Labels must be among the classes {list(classes)}, however {foreign[:5]} occur.")
        labels = np.array([classes.index(one) for one in text.tolist()], dtype=np.int64)
    else:
        values = raw.astype(np.float64)
        with np.errstate(invalid="ignore"):
            bad = ~((values >= 0) & (values < len(classes)) & (values % 1 == 0))
        if bad.any():
            raise DataError(
                f"Labels must be 0 to {len(classes) - 1}, however {int(bad.sum())} of {len(values)} events have "
                f"others, {values[bad][0]:g} for example. Write a formula, as in target: [{{name: y, expr: y > 0}}]."
            )
        labels = values.astype(np.int64)
    present = np.unique(labels)
    if len(present) < 2:
        name = classes[int(present[0])]
        raise DataError(f"A classification needs events of two classes, however all {len(labels)} are {name!r}.")
    process = np.asarray(classes)[labels] if card.target else events.process
    return replace(events, y=labels, process=process)


@lru_cache(maxsize=2)
def learn(recipe: str) -> Learned:
    """Learn what replaces missing values: the median of the known ones among training events.

    Training events are those outside of the test part, or of a fold.

    Raises:
        DataError: a feature has no known value among them.
    """
    card, events = card_of(recipe), read_events(recipe)
    missing = np.isnan(events.X).any(axis=0)
    named = list(zip(card.feature_names, rules(card), np.atleast_1d(missing).tolist(), strict=True))
    imputed = [name for name, rule, some in named if rule.policy != "error"]
    flagged = tuple(name for name, rule, some in named if rule.policy == "flag" and some)
    fills = {}
    for part, rows in _training_rows(card, events):
        fills[part] = {name: _median(card, events, name, rows) for name in imputed}
    low = np.where(np.isnan(events.X), np.inf, events.X).min(axis=0).tolist()
    high = np.where(np.isnan(events.X), -np.inf, events.X).max(axis=0).tolist()
    ranges = dict(zip(card.feature_names, zip(low, high, strict=True), strict=True))
    if card.task == "regression":
        return Learned(flagged, fills, ranges, ())
    return Learned(flagged, fills, ranges, class_names(recipe))


def _training_rows(card: Card, events: Events) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Give the name of every set of training events with its rows."""
    held_out = 0.0 if card.test else card.split.test
    yield "split", uniform_hash(events.id, card.split.seed, _TEST) >= held_out
    fold = folds_of(card, events.id)
    for k in range(card.folds or 0):
        yield str(k), fold != k


def _median(card: Card, events: Events, name: str, rows: NDArray[np.bool_]) -> float:
    """Return the median of the known values of a feature."""
    values = events.X[rows, card.feature_names.index(name)]
    known = values[~np.isnan(values)]
    if not len(known):
        raise DataError(f"A feature needs known values, however {name} has none in {len(values)} events to learn from.")
    return float(np.median(known))


def check_folds(card: Card, table: Table) -> None:
    """Refuse folds that lack a class.

    Raises:
        DataError: which, and what to do.
    """
    if card.folds is None:
        return
    fold = np.asarray(table.extra["fold"])
    for k in range(card.folds):
        mine = fold == k
        if not mine.any() or (table.classification and len(np.unique(table.y[mine])) < len(table.classes)):
            raise DataError(
                f"Every fold needs events of every class, however fold {k} of {card.folds} ({card.event_id} modulo "
                f"{card.folds}) has {int(mine.sum())} events and lacks a class. Use fewer folds, folds: null, or other "
                "columns in event_id."
            )


def check_sources(card: Card) -> None:
    """Open every file of a card and parse every formula, before anything is read.

    Raises:
        UsageError, DataError: see `Recipe`.
    """
    for source in [*card.data, *card.tests]:
        for file in open_source(source):
            if card.target and source.label is not None:
                raise UsageError(f"Labels come from the sources or from `target`, however {source.name} has both.")
            Recipe(card, source, file)
