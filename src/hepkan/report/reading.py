"""A run folder as arrays and records, checked at the door."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from hepkan.errors import DataError
from hepkan.report.schema import Report

Columns = dict[str, NDArray[Any]]
MEMBER = re.compile(r"(?P<model>.+)-seed(?P<seed>\d+)")
FIRST = re.compile(r"(?P<model>.+)-seed0\..+")
WHOLE = "prediction."


@dataclass(frozen=True)
class Feature:
    """One input: its column, its unit and its mathtext label."""

    name: str
    unit: str = ""
    label: str = ""


@dataclass(frozen=True)
class Target(Feature):
    """One target of a regression, with its deviation in the sample, in its unit."""

    scale: float = 1.0


@dataclass(frozen=True)
class Run:
    """What a page needs of a run folder.

    In a regression the targets and scores of events are `(n, targets)`.

    Attributes:
        folder: the run folder.
        report: content of `report.json`.
        card: content of `card.yaml`, and its text.
        features: the inputs, in the order of the networks.
        targets: the targets of a regression, none in a classification.
        history: loss per model, seed and epoch.
        test: target, weight and one score per model (seed 0) of the test events.
        train: the same for training events.
        inputs: features, target and weight of some test events.
        members: files of the trained networks, by model and seed.
        names: of the classes when they are more than two; scores of events are `(n, classes)` then.
    """

    folder: Path
    report: Mapping[str, Any]
    card: Mapping[str, Any]
    card_text: str
    features: tuple[Feature, ...]
    targets: tuple[Target, ...]
    history: Columns
    test: Columns
    train: Columns
    inputs: Columns
    members: Mapping[str, Mapping[int, Path]]
    names: tuple[str, ...] = ()

    @property
    def models(self) -> list[str]:
        """Models in the order of the result table."""
        return list(dict.fromkeys(str(row["model"]) for row in self.report["rows"]))

    @property
    def main(self) -> str:
        """The model that the study is about."""
        kind = str((self.card.get("model") or {}).get("kind", ""))
        return kind if kind in self.models else self.models[0]

    @property
    def reference(self) -> str:
        """The model that others are compared with; the main one where the card's has not been trained."""
        kind = str(self.card.get("reference") or "")
        return kind if kind in self.models else self.main

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of background and signal, or of several classes; none in a regression.

        Background and signal are the process where there is only one, else the role.
        """
        if self.targets:
            return ()
        if self.names:
            return self.names
        return class_name(self.report["data"]["yields"], 0), class_name(self.report["data"]["yields"], 1)


def class_name(yields: Sequence[Mapping[str, Any]], label: int) -> str:
    """Return the name of a class: its process where there is only one, else `signal` or `background`."""
    names = [str(item["process"]) for item in yields if item["label"] == label]
    return names[0] if len(names) == 1 else ("background", "signal")[label]


def read_run(folder: str | Path) -> Run:
    """Read a run folder.

    Raises:
        DataError: a file is missing or damaged.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"A run folder is required, however {path} is none. Make one with: hepkan run")
    report = read_report(path)
    try:
        text = _existing(path / "card.yaml").read_text(encoding="utf-8")
        card = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise _damaged(path / "card.yaml", error) from error
    if not isinstance(card, dict) or not isinstance(card.get("model", {}), dict):
        raise _damaged(path / "card.yaml", "no mapping of settings")
    features = tuple(Feature(*_words(item)) for item in report["features"])
    targets = tuple(Target(*_words(item), item["scale"]) for item in report.get("targets") or ())
    if card.get("task") == "regression" and not targets:
        raise _damaged(path / "report.json", "targets: none, where the card says regression")
    return Run(
        folder=path,
        report=report,
        card=card,
        card_text=text,
        features=features,
        targets=targets,
        history=_columns(path / "history.parquet", ("model", "seed", "epoch", "train_loss", "validation_loss")),
        test=_filled(path / "predictions.parquet", _scores(path / "predictions.parquet", targets)),
        train=_filled(path / "train_scores.parquet", _scores(path / "train_scores.parquet", targets)),
        inputs=_filled(path / "inputs.parquet", _inputs(path / "inputs.parquet", features, targets)),
        members=_members(path / "members"),
        names=() if targets else _class_names(path / "predictions.parquet"),
    )


def _words(item: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return name, unit and label of an input or target."""
    return item["name"], item.get("unit") or "", item.get("label") or item["name"]


def read_report(folder: Path) -> dict[str, Any]:
    """Return `report.json` of a run.

    Raises:
        DataError: it is missing, damaged, or lacks what a page needs.
    """
    path = _existing(folder / "report.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error
    try:
        Report.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from error
    return dict(content)


def _scores(path: Path, targets: Sequence[Target]) -> Columns:
    """Return target, weight and the score of seed 0 of each model, under the model's name."""
    if targets:
        models = (match["model"] for name in _schema(path).names if (match := FIRST.fullmatch(name)))
        first = {f"{model}-seed0": model for model in dict.fromkeys(models)}
        return _joined(path, {"target": "target", **first}, targets, ("weight",))
    schema = _schema(path)
    classes = [Target(name) for name in _class_names(path)]
    if classes:
        kinds = dict.fromkeys(match["model"] for name in schema.names if (match := FIRST.fullmatch(name)))
        return _joined(path, {f"{kind}-seed0": kind for kind in kinds}, classes, ("target", "weight"))
    members = {name: match for name in schema.names if (match := MEMBER.fullmatch(name))}
    first = {name: match["model"] for name, match in members.items() if int(match["seed"]) == 0}
    columns = _columns(path, ("target", "weight", *first))
    return {first.get(name, name): column for name, column in columns.items()}


def _class_names(path: Path) -> tuple[str, ...]:
    """Return the names of several classes, each of which has a column of scores; none for two."""
    return tuple(name.removeprefix(WHOLE) for name in _schema(path).names if name.startswith(WHOLE))


def _inputs(path: Path, features: Sequence[Feature], targets: Sequence[Target]) -> Columns:
    """Return features, target and weight."""
    names = [one.name for one in features]
    if targets:
        return _joined(path, {"target": "target"}, targets, (*names, "weight"))
    return _columns(path, (*names, "target", "weight"))


def _joined(path: Path, groups: Mapping[str, str], targets: Sequence[Target], others: Sequence[str]) -> Columns:
    """Return columns `group.<target>` as one array `(n, targets)` under a group's own name, and others as they are."""
    parts = {own: [f"{group}.{target.name}" for target in targets] for group, own in groups.items()}
    columns = _columns(path, [*(name for names in parts.values() for name in names), *others])
    joined = {own: np.column_stack([columns[name] for name in names]) for own, names in parts.items()}
    return joined | {name: columns[name] for name in others}


def _members(folder: Path) -> dict[str, dict[int, Path]]:
    """Return the model files of this package's format; other models have none and folders may be gone."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("*/model.hepkan")):
        match = MEMBER.fullmatch(path.parent.name)
        if match is not None:
            found.setdefault(match["model"], {})[int(match["seed"])] = path
    return found


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(_existing(path))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _columns(path: Path, names: Sequence[str]) -> Columns:
    """Return columns of a Parquet file as arrays."""
    there = frozenset(_schema(path).names)
    absent = [name for name in names if name not in there]
    if absent:
        raise _damaged(path, f"no column {', '.join(absent[:5])}")
    try:
        table = pq.read_table(path, columns=list(names))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    return {name: np.asarray(table[name].to_numpy()) for name in names}


def _filled(path: Path, columns: Columns) -> Columns:
    """Return the columns of events if there are any and all are numbers."""
    if not len(columns["target"]):
        raise _damaged(path, "no events")
    wrong = [name for name, column in columns.items() if column.dtype.kind == "f" and not np.isfinite(column).all()]
    if wrong:
        raise _damaged(path, f"NaN or infinity in {', '.join(wrong[:5])}")
    return columns


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(
            f"A run folder needs {path.name}, however {path.parent} has none. Give the command of the run "
            "again with --resume (finished members are reused), or check that the folder is a run."
        )
    return path


def _damaged(path: Path, reason: object) -> DataError:
    return DataError(
        f"{path} must be readable, however it is damaged ({reason}). Delete it and give the command of the "
        "run again with --resume (finished members are reused)."
    )
