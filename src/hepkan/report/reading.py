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
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hepkan.errors import DataError

Columns = dict[str, NDArray[Any]]
MEMBER = re.compile(r"(?P<model>.+)-seed(?P<seed>\d+)")


class _Part(BaseModel):
    """A part of `report.json`: the keys that a page needs, others as they are."""

    model_config = ConfigDict(extra="allow")


class _Row(_Part):
    model: str
    metric: str
    value: float | None
    error: float | None
    seeds: int
    parameters: int
    train_seconds: float


class _Yield(_Part):
    process: str
    label: int
    rows: int
    effective: float
    pb: float


class _Data(_Part):
    source: str
    n_train: int
    n_validation: int
    n_test: int
    yields: list[_Yield]


class _Input(_Part):
    name: str
    unit: str | None = None
    label: str | None = None


class _Report(_Part):
    task: str
    version: str
    created: str
    command: str
    environment: dict[str, Any]
    luminosity_fb: float
    data: _Data
    rows: list[_Row] = Field(min_length=1)
    features: list[_Input] = Field(min_length=1)


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
        raise DataError(f"A run folder is required, however {path} is none. Make one with: hepkan run")
    report = read_report(path)
    try:
        text = _existing(path / "card.yaml").read_text(encoding="utf-8")
        card = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise _damaged(path / "card.yaml", error) from error
    if not isinstance(card, dict) or not isinstance(card.get("model", {}), dict):
        raise _damaged(path / "card.yaml", "no mapping of settings")
    features = tuple(
        Feature(item["name"], item.get("unit") or "", item.get("label") or item["name"]) for item in report["features"]
    )
    return Run(
        folder=path,
        report=report,
        card=card,
        card_text=text,
        features=features,
        history=_columns(path / "history.parquet", ("model", "seed", "epoch", "train_loss", "validation_loss")),
        test=_filled(path / "predictions.parquet", _scores(path / "predictions.parquet")),
        train=_filled(path / "train_scores.parquet", _scores(path / "train_scores.parquet")),
        inputs=_filled(
            path / "inputs.parquet",
            _columns(path / "inputs.parquet", (*(one.name for one in features), "target", "weight")),
        ),
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
    try:
        _Report.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from error
    return dict(content)


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
