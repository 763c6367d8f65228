"""Members: one model kind trained with one seed, kept as a folder.

A finished member carries the hash of everything that decides its content and is reused when that hash is asked for
again, which makes a killed study resumable. The test part is the same for all members; the seed chooses the
initialisation and the partition of the rest into training and validation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hepkan.errors import DataError
from hepkan.files import atomic_folder
from hepkan.studies.card import Card
from hepkan.studies.own_data import card_of, load_own, load_own_test
from hepkan.tasks import get_task

if TYPE_CHECKING:
    from hepkan.baselines import TrainedModel
    from hepkan.data import Table

TRAIN_SCORES = 50_000
"""Training events whose scores are kept, for the comparison of training and test."""


@dataclass(frozen=True)
class Data:
    """Everything that decides which events a member sees; small, so that processes can receive it."""

    task: str
    path: Path
    sha256: str
    test_path: Path | None
    test_sha256: str | None
    features: tuple[str, ...]
    mix: tuple[tuple[str, float], ...]
    rows: int | None
    fractions: tuple[float, float, float]
    split_seed: int
    negative_weights: str
    recipe: str = ""
    """How the user's own files are read, as JSON; empty for samples of built-in tasks."""
    fold: int | None = None
    """The part of a cross-evaluation that is the test part; None for a split into three."""
    class_balance: bool = True

    @classmethod
    def of(cls, card: Card, task: str, sample: tuple[Path, str], test: tuple[Path, str] | None) -> Data:
        """Return the part of a card that concerns the events, with the files that hold them and their hashes."""
        part = card.split
        fractions = (part.train, part.validation, part.test)
        features, mix = tuple(card.feature_names), tuple(sorted(card.mix.items()))
        own = (None, None) if test is None else test
        files = {"path": sample[0], "sha256": sample[1], "test_path": own[0], "test_sha256": own[1]}
        settings = {"rows": card.rows, "split_seed": part.seed, "negative_weights": card.negative_weights}
        settings |= {"class_balance": card.class_balance}
        return cls(task=task, features=features, mix=mix, fractions=fractions, **files, **settings)  # type: ignore[arg-type]

    @property
    def content(self) -> dict[str, Any]:
        """Return the same as JSON-able data, without the places of the files."""
        places = ["path", "test_path", "task", "recipe"]
        # What is as it always was is left out, so that members made before there was the choice stay valid.
        places += ["fold"] if self.fold is None else []
        places += ["class_balance"] if self.class_balance else []
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in places}


ADDED: Mapping[str, Any] = {"rank": None, "teachers": 0, "teacher": {}}
"""Settings that came later, with what was always so before: members made then stay valid."""


@dataclass(frozen=True)
class Member:
    """One training to do or already done."""

    data: Data
    label: str
    kind: str
    seed: int
    settings: str
    folder: Path
    digest: str

    @property
    def name(self) -> str:
        """Return `<label>-seed<k>`, or `<label>-fold<k>` in a cross-evaluation."""
        return member_name(self.data, self.label, self.seed)

    @property
    def complete(self) -> bool:
        """Return whether the folder holds this very member, finished."""
        if not (self.folder / "DONE").is_file():
            return False
        try:
            return bool(self.record["digest"] == self.digest)
        except (OSError, ValueError, KeyError):
            return False

    @property
    def record(self) -> dict[str, Any]:
        """Return the content of `member.json`."""
        content: dict[str, Any] = json.loads((self.folder / "member.json").read_text(encoding="utf-8"))
        return content

    def scores(self, part: str) -> pa.Table:
        """Return the scores of the part `test` or `train`: columns id, then score or one for each target."""
        table = pq.read_table(self.folder / "scores.parquet", filters=[("part", "=", part)])
        return table.drop_columns(["part"])


@dataclass(frozen=True)
class Step:
    """Progress of one member: `done` of `total` epochs; `state` is running, done or reused."""

    member: str
    done: int
    total: int
    state: str = "running"
    text: str = ""


def member_name(data: Data, label: str, seed: int) -> str:
    """Return the name of a member and of its folder."""
    return f"{label}-seed{seed}" if data.fold is None else f"{label}-fold{data.fold}"


def make_member(data: Data, label: str, kind: str, seed: int, settings: Mapping[str, Any], root: Path) -> Member:
    """Return a member with its folder below `root/members` and the hash of all that decides its content."""
    choices = {name: value for name, value in settings.items() if name not in ADDED or value != ADDED[name]}
    decides = {"kind": kind, "seed": seed, "settings": choices, "data": data.content}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    folder = root / "members" / member_name(data, label, seed)
    return Member(data, label, kind, seed, json.dumps(settings, sort_keys=True), folder, digest)


@lru_cache(maxsize=1)
def load_table(data: Data) -> Table:
    """Return all events of a study, read once per process."""
    if data.recipe:
        return _weighted(load_own(data), data)
    table = get_task(data.task).table(
        n=data.rows, seed=data.split_seed, path=data.path, mix=dict(data.mix), features=data.features
    )
    return _weighted(table, data)


def _weighted(table: Table, data: Data) -> Table:
    """Return the table with the study's choice about the weights of classes in training."""
    return table if data.class_balance else dataclasses.replace(table, class_balance=False)


@lru_cache(maxsize=1)
def load_test(data: Data) -> Table:
    """Return the events of the study's own test file, read once per process."""
    if data.recipe:
        return load_own_test(data)
    assert data.test_path is not None
    return get_task(data.task).table(path=data.test_path, mix=dict(data.mix), features=data.features)


def split(data: Data, seed: int) -> tuple[Table, Table, Table]:
    """Return training, validation and test part; the seed does not touch the test part.

    With a test file the sample is divided into the other two, in a cross-evaluation all events outside of the fold.
    """
    share = data.fractions[0] / (data.fractions[0] + data.fractions[1])
    if data.fold is not None:
        table = load_table(data)
        mine = np.asarray(table.extra["fold"]) == data.fold
        train, validation = table.take(~mine).split((share, 1.0 - share), seed=seed)
        return train, validation, table.take(mine)
    if has_test_file(data):
        train, validation = load_table(data).split((share, 1.0 - share), seed=seed)
        return train, validation, load_test(data)
    parts = load_table(data).split(data.fractions, seed=seed, test_seed=data.split_seed)
    train, validation, test = parts
    return train, validation, test


def has_test_file(data: Data) -> bool:
    """Return whether the test part has files of its own."""
    return data.test_path is not None or (bool(data.recipe) and bool(card_of(data.recipe).tests))


def shown(data: Data) -> Table:
    """Return the training events of seed 0 (at most `TRAIN_SCORES`) that every member scores."""
    return thin(split(data, 0)[0], TRAIN_SCORES)


def thin(table: Table, n: int) -> Table:
    """Return at most `n` rows, chosen without looking at them, in their order."""
    if len(table) <= n:
        return table
    return table.take(np.sort(np.random.default_rng(0).permutation(len(table))[:n]))


def train_member(member: Member, progress: Callable[[Step], None] | None = None) -> None:
    """Train one member and write its folder, complete or not at all."""
    from hepkan.baselines import MODELS, train_model

    show = progress or (lambda step: None)
    data = member.data
    train, validation, _ = split(data, member.seed)
    member.folder.parent.mkdir(parents=True, exist_ok=True)

    def epoch_done(epoch: int, epochs: int, row: Mapping[str, float], /) -> None:
        loss = row.get("validation_loss")
        show(Step(member.name, epoch, epochs, "running", "" if loss is None else f"loss {loss:.4f}"))

    trained = train_model(
        member.kind,
        with_policy(train, data.negative_weights),
        with_policy(validation, data.negative_weights),
        json.loads(member.settings),
        seed=member.seed,
        progress=epoch_done,
        negative_weights="keep" if data.negative_weights == "keep" else "abs",
        checkpoint=member.folder.parent / f".{member.name}-{member.digest[:12]}.checkpoint",
    )
    _write(member, trained, MODELS[member.kind].saved)
    show(Step(member.name, 1, 1, "done", f"in {trained.seconds:.1f} s, validation loss {trained.best_value:.4f}"))


def judge_again(member: Member, test_sha256: str | None) -> bool:
    """Score the events of another test sample with a finished member, without training it again.

    Arguments:
        member: as it is wanted.
        test_sha256: hash of the test sample that the member in its folder was judged on, None for a part of its sample.

    Returns:
        Whether the folder now holds the member wanted: it did, or differed in its test sample only.
    """
    if member.complete:
        return True
    data = dataclasses.replace(member.data, test_sha256=test_sha256)
    settings = json.loads(member.settings)
    before = make_member(data, member.label, member.kind, member.seed, settings, member.folder.parent.parent)
    if not before.complete:
        return False
    from hepkan.baselines import load_model

    _write(member, load_model(member.folder), saved=True)
    return True


def _write(member: Member, trained: TrainedModel, saved: bool) -> None:
    """Write the folder of a member, complete or not at all."""
    train, validation, test = split(member.data, member.seed)
    with atomic_folder(member.folder) as folder:
        if saved:
            trained.save(folder)
        pq.write_table(history_table(member, trained.history), folder / "history.parquet")
        parts = [score_table("test", test, trained), score_table("train", shown(member.data), trained)]
        pq.write_table(pa.concat_tables(parts), folder / "scores.parquet")
        text = json.dumps(_record(member, trained, len(train), len(validation), len(test)), indent=1)
        (folder / "member.json").write_text(text, encoding="utf-8")
        (folder / "DONE").touch()


def with_policy(table: Table, policy: str) -> Table:
    """Return the table with the card's treatment of negative weights in training."""
    if policy == "drop":
        return table.take(table.weight >= 0)
    if policy == "zero":
        return dataclasses.replace(table, weight=np.maximum(table.weight, 0.0))
    return table


def history_table(member: Member, history: Sequence[Mapping[str, float]]) -> pa.Table:
    """Return the epochs of one member: model, seed, epoch, train_loss, validation_loss, ..."""
    names = [name for name in (history[0] if history else ()) if name != "epoch"]
    epochs = pa.array([int(row["epoch"]) for row in history], pa.int64())
    labels = pa.array([member.label] * len(epochs), pa.string())
    seeds = pa.array([member.seed] * len(epochs), pa.int64())
    losses = {name: pa.array([row.get(name) for row in history], pa.float64()) for name in names}
    return pa.table({"model": labels, "seed": seeds, "epoch": epochs, **losses})


def score_table(part: str, table: Table, trained: TrainedModel) -> pa.Table:
    """Return the scores of one part: part, id, then score or one column for each target.

    Raises:
        DataError: the model gives NaN.
    """
    score = np.asarray(trained.predict(table.X), dtype=np.float64)
    bad = int(np.isnan(score.reshape(len(score), -1)).any(axis=1).sum())
    if bad:
        raise DataError(f"{trained.kind} (seed {trained.seed}) gives NaN for {bad} of {len(score)} {part} events.")
    names = ("score",) if score.ndim == 1 else outputs_of(table)
    columns = dict(zip(names, score.reshape(len(score), -1).T, strict=True))
    return pa.table({"part": pa.array([part] * len(score)), "id": table.id, **columns})


def outputs_of(table: Table) -> tuple[str, ...]:
    """Return the names of several outputs: the classes, or the targets of a regression."""
    return table.classes if table.classification else table.target_names


def _record(member: Member, trained: TrainedModel, *sizes: int) -> dict[str, Any]:
    """Return the content of `member.json`."""
    return {
        "model": member.label,
        "kind": member.kind,
        "seed": member.seed,
        "settings": trained.settings,
        "digest": member.digest,
        "parameters": trained.n_parameters,
        "train_seconds": trained.seconds,
        "validation_loss": trained.best_value,
        "epochs": len(trained.history),
        "events": dict(zip(("train", "validation", "test"), sizes, strict=True)),
    }
