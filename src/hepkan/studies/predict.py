"""`predict`: the models of a run applied to a file of events, each event by the model that never saw it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepkan.data.files import CHUNK, EventFile, Place, places
from hepkan.errors import DataError
from hepkan.files import atomic_file
from hepkan.studies.card import Card, build_card
from hepkan.studies.folders import check_writable, read_report
from hepkan.studies.own_data import Learned, learned_from
from hepkan.studies.readers import open_place
from hepkan.studies.recipe import Block, Recipe, folds_of, rules
from hepkan.studies.score_files import writer

if TYPE_CHECKING:
    from hepkan.baselines import TrainedModel

SCORE, FOLD, CHOSEN = "hepkan_score", "hepkan_fold", "hepkan_selected"


@dataclass
class Counters:
    """What happened to the events of a file.

    Attributes:
        events: number of events, all of which are in the output.
        scored: events with a score.
        rejected: events that fail the selection of the card; their score is NaN.
        missing: by feature, scored events whose value is missing and was replaced.
        outside: by feature, scored events with a value outside of the range of the training sample.
    """

    events: int = 0
    scored: int = 0
    rejected: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)

    def add(self, block: Block, names: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> None:
        """Count a chunk."""
        X = block.X[block.chosen]
        self.events += len(block)
        self.scored += len(X)
        self.rejected += len(block) - len(X)
        for i, name in enumerate(names):
            column = X[:, i]
            missing = int(np.isnan(column).sum())
            low, high = ranges.get(name, (-np.inf, np.inf))
            outside = int(((column < low) | (column > high)).sum())
            for counter, number in ((self.missing, missing), (self.outside, outside)):
                if number:
                    counter[name] = counter.get(name, 0) + number


@dataclass(frozen=True)
class Scorer:
    """The models of a run: one for each fold, or a single one.

    Attributes:
        card: the card of the run, as far as it says how events become inputs.
        learned: what replaces missing values.
        models: by fold, or only under -1.
        outputs: names of the columns of scores.
    """

    card: Card
    learned: Learned
    models: Mapping[int, TrainedModel]
    outputs: tuple[str, ...]

    @property
    def by_fold(self) -> bool:
        """Whether every event has a model that never saw it."""
        return -1 not in self.models

    def score(self, block: Block) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return scores `(n, outputs)`, NaN for events that are not chosen, and the fold of each event."""
        names = self.card.feature_names
        fold = folds_of(self.card, block.id) if self.by_fold else np.full(len(block), -1, dtype=np.int64)
        score = np.full((len(block), len(self.outputs)), np.nan)
        for k, model in self.models.items():
            rows = block.chosen & (fold == k)
            if rows.any():
                inputs = self.learned.inputs(block.X[rows], names, "split" if k < 0 else str(k))
                score[rows] = np.asarray(model.predict(inputs), dtype=np.float64).reshape(len(inputs), -1)
        return score, fold


def predict(
    run: str | Path,
    files: str | Sequence[str],
    output: str | Path,
    *,
    size: int = CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> Counters:
    """Score the events of a file with the models of a finished run and write one row per event, in their order.

    With cross-evaluation (`folds` in the card) each event gets the model that was trained without its fold, so none is
    scored by a model that saw it, whether or not it was in the training files. The output has `hepkan_score` (a
    probability; one column `hepkan_score_<class>` for each of several classes, `hepkan_<target>` for each target of a
    regression), `hepkan_fold` (-1 without cross-evaluation), the columns of `event_id`, the spectators, and
    `hepkan_selected` if the card has a selection. Killed at any time, nothing but the complete file appears under the
    name of the output, and the same call gives the same bytes.

    Arguments:
        run: the run folder.
        files: a path, perhaps with wildcards or `file.root:tree`, or several; events are joined in their order.
        output: .root (a friend tree), .parquet, .h5 or .csv.
        size: events in memory at a time.
        progress: called with the numbers of events done and in all.

    Raises:
        UsageError: the run or the output is none, a column is missing, an unknown format.
        DataError: a file is missing or damaged, a value is missing where the card does not allow it.
        OSError: the output cannot be written.
    """
    scorer = load_scorer(run)
    card = scorer.card
    found = _open(card, [files] if isinstance(files, str) else list(files))
    target = Path(output)
    opened = writer(target, found[0].place.path)
    recipes = [Recipe(card, None, file) for file in found]
    check_writable(target.parent)
    counters, total = Counters(), sum(file.rows for file in found)
    metadata = {"run": str(card.name), "model": card.main, "folds": card.folds if scorer.by_fold else None}
    with atomic_file(target) as temporary, opened(temporary, metadata) as write:
        for block in _blocks(recipes, size):
            _check_missing(card, block)
            counters.add(block, card.feature_names, scorer.learned.ranges)
            write(columns(scorer, block))
            if progress is not None:
                progress(counters.events, total)
        if not counters.events:
            raise DataError(f"Events are needed, however {found[0].place} has none.")
    return counters


def columns(scorer: Scorer, block: Block) -> dict[str, NDArray[Any]]:
    """Return the columns of the output for a chunk."""
    score, fold = scorer.score(block)
    found: dict[str, NDArray[Any]] = dict(zip(scorer.outputs, score.T, strict=True))
    found[FOLD] = fold.astype(np.int32)
    if scorer.card.selection or any(source.reader for source in scorer.card.data):
        found[CHOSEN] = block.chosen
    for name, values in {**block.ids, **block.spectators}.items():
        found.setdefault(name, np.asarray(values))
    return {name: np.ascontiguousarray(values) for name, values in found.items()}


def load_scorer(run: str | Path) -> Scorer:
    """Read the card, the learned numbers and the models of a run.

    Raises:
        UsageError: the folder is no run, or one whose model cannot be stored.
        DataError: the run is not complete, or a file is damaged.
    """
    from hepkan.baselines import load_model
    from hepkan.studies.options import parse_yaml
    from hepkan.studies.record import INPUTS_FILE

    folder = Path(run)
    read_report(folder)
    card = build_card(parse_yaml((folder / "card.yaml").read_text(encoding="utf-8"), str(folder / "card.yaml")))
    path = folder / INPUTS_FILE
    try:
        none = {"flagged": [], "fills": {"split": {}}, "ranges": {}, "classes": []}
        learned = learned_from(json.loads(path.read_text(encoding="utf-8")) if card.own else none)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged or missing ({error}); run the study again.") from error
    names = [folder / "members" / f"{card.main}-fold{k}" for k in range(card.folds or 0)] if card.own else []
    models = {k: load_model(name) for k, name in enumerate(names)} or {-1: load_model(folder)}
    return Scorer(card, learned, models, _outputs(card, learned))


def _outputs(card: Card, learned: Learned) -> tuple[str, ...]:
    """Return the names of the columns of scores."""
    if card.task == "regression":
        return tuple(f"hepkan_{name}" for name in card.target_names)
    if len(learned.classes) > 2:
        return tuple(f"{SCORE}_{name}" for name in learned.classes)
    return (SCORE,)


def _open(card: Card, names: Sequence[str]) -> list[EventFile]:
    """Open the files as those of the card's first source are."""
    first = card.data[0]
    found: dict[str, Place] = {}
    for name in names:
        for place in places(name, None, first.format, first.header):
            found[str(place)] = place
    return [open_place(replace(one, tree=one.tree or first.tree), first.reader) for one in found.values()]


def _blocks(recipes: Sequence[Recipe], size: int) -> Iterator[Block]:
    """Read all files in their order."""
    for recipe in recipes:
        yield from recipe.blocks(size)


def _check_missing(card: Card, block: Block) -> None:
    """Refuse missing values of features whose policy is `error`."""
    missing = np.isnan(block.X[block.chosen]).sum(axis=0).tolist()
    for name, count, rule in zip(card.feature_names, missing, rules(card), strict=True):
        if count and rule.policy == "error":
            raise DataError(
                f"Features must be finite, however {name} is NaN, infinite or undefined in {count} of {len(block)} "
                "events. The run was made with missing: {policy: error}; train it with flag or impute, or remove these "
                "events."
            )


