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

from hepkan.errors import DataError

Columns = dict[str, NDArray[Any]]
MEMBER = re.compile(r"(?P<model>.+)-seed(?P<seed>\d+)")
REPORT_KEYS = ("task", "version", "created", "command", "environment", "data", "luminosity_fb", "rows")


@dataclass(frozen=True)
class Feature:
    """One input: its column, its unit and its mathtext label."""

    name: str
    unit: str = ""
    label: str = ""


@dataclass(frozen=True)
class Run:
    """What a page needs of a run folder.

    Attributes:
        folder: the run folder.
        report: content of `report.json`.
        card: content of `card.yaml`, and its text.
        features: the inputs, in the order of the networks.
        history: loss per model, seed and epoch.
        test: target, weight and one score per model (seed 0) of the test events.
        train: the same for training events.
        inputs: features, target and weight of some test events.
        members: files of the trained networks, by model and seed.
    """

    folder: Path
    report: Mapping[str, Any]
    card: Mapping[str, Any]
    card_text: str
    features: tuple[Feature, ...]
    history: Columns
    test: Columns
    train: Columns
    inputs: Columns
    members: Mapping[str, Mapping[int, Path]]

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
    def classes(self) -> tuple[str, str]:
        """Names of background and signal: the process where there is only one, else the role."""
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
        raise DataError(f"A run folder is required, however {path} does not exist. Make one with: hepkan run")
    report = read_report(path)
    text = _existing(path / "card.yaml").read_text(encoding="utf-8")
    try:
        card = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _damaged(path / "card.yaml", error) from error
    features = _features(path, report)
    return Run(
        folder=path,
        report=report,
        card=card if isinstance(card, dict) else {},
        card_text=text,
        features=features,
        history=_columns(
            path / "history.parquet", ("model", "seed", "epoch", "train_loss", "validation_loss")
        ),
        test=_scores(path / "predictions.parquet"),
        train=_scores(path / "train_scores.parquet"),
        inputs=_columns(path / "inputs.parquet", (*(one.name for one in features), "target", "weight")),
        members=_members(path / "members"),
    )


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
    missing = [key for key in REPORT_KEYS if not isinstance(content, dict) or key not in content]
    if missing or not content["rows"]:
        raise _damaged(path, f"no {', '.join(missing) or 'result in rows'}")
    return dict(content)


def _features(folder: Path, report: Mapping[str, Any]) -> tuple[Feature, ...]:
    """Return the inputs of the run; names alone are enough."""
    try:
        found = tuple(
            Feature(str(item["name"]), str(item.get("unit") or ""), str(item.get("label") or item["name"]))
            for item in report["features"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder / "report.json", f"features: {error!r}") from error
    return found


def _scores(path: Path) -> Columns:
    """Return target, weight and the score of seed 0 of each model, under the model's name."""
    schema = _schema(path)
    members = {name: match for name in schema.names if (match := MEMBER.fullmatch(name))}
    first = {name: match["model"] for name, match in members.items() if int(match["seed"]) == 0}
    columns = _columns(path, ("target", "weight", *first))
    return {first.get(name, name): column for name, column in columns.items()}


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
    absent = [name for name in names if name not in _schema(path).names]
    if absent:
        raise _damaged(path, f"no column {', '.join(absent[:5])}")
    try:
        table = pq.read_table(path, columns=list(names))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    return {name: np.asarray(table[name].to_numpy()) for name in names}


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
