"""A scan: one model over a grid of settings, several seeds each, as a tidy table and a figure."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import hepkan
from hepkan.errors import UsageError
from hepkan.files import write_text
from hepkan.studies import evidence
from hepkan.studies.card import Card, build_card, check_settings, dump_card
from hepkan.studies.environment import environment, versions
from hepkan.studies.folders import DONE, open_folder
from hepkan.studies.members import Data, Member, Step, make_member, split
from hepkan.studies.options import parse_values, set_value
from hepkan.studies.pool import train_members
from hepkan.studies.record import describe_data, full_weight, scores_of, write_parquet
from hepkan.studies.run import Result, default_settings, prepare
from hepkan.studies.scan_figure import draw


@dataclass(frozen=True)
class Trial:
    """One point of the grid: its name, the values varied, its members (one per seed)."""

    label: str
    values: dict[str, Any]
    members: tuple[Member, ...]


def scan(
    card: Card,
    vary: Sequence[str],
    *,
    output: str | Path,
    resume: bool = False,
    workers: int = 1,
    progress: Callable[[Step], None] | None = None,
    command: str = "",
) -> Result:
    """Train the card's main model over all combinations of the values, judge every trial on the same test events.

    Arguments:
        card: The study; its main model is the one that varies.
        vary: Texts such as `model.hidden=5,10,[30,30]`.
        output: The scan folder; `scan.parquet`, `report.json`, `scan.png`, then `DONE`.
        resume: Continue an unfinished scan, or extend one by other values.
        workers: Processes for training; does not change the result.
        progress: Called with every `Step`.
        command: The command line, for the record.

    Raises:
        UsageError: a setting is unknown or given twice, or the folder belongs to something else.
        DataError: the sample is missing or corrupted.
        OSError: the folder cannot be written.
    """
    grid = parse_grid(vary)
    folder = Path(output)
    data = prepare(card)
    trials = make_trials(card, grid, folder)
    content = json.dumps([card.identity(), data.sha256, grid], sort_keys=True)
    identity = f"scan {hashlib.sha256(content.encode()).hexdigest()}"
    finished = open_folder(folder, identity, resume)
    if finished is not None:
        return Result(folder, finished, reused=True)
    write_text(folder / "card.yaml", dump_card(card.model_copy(update={"versions": versions()})))
    train_members([member for trial in trials for member in trial.members], workers, progress)
    report = make_report(card, grid, trials, data, command)
    write_parquet(folder / "scan.parquet", tidy(report))
    draw(report, folder / "scan.png")
    write_text(folder / "report.json", json.dumps(report, indent=1, allow_nan=False))
    write_text(folder / DONE, "")
    return Result(folder, report, reused=False)


def parse_grid(vary: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of every setting that varies."""
    pairs = [parse_values(text) for text in vary]
    grid = dict(pairs)
    if not grid or len(grid) < len(pairs):
        raise UsageError(f"Give every setting to vary once, as in --vary model.grid=3,5,10, however: {list(vary)}.")
    for path, values in grid.items():
        if len({json.dumps(value) for value in values}) < len(values):
            raise UsageError(f"The values of {path} must differ, however: {values}.")
        if path in ("seeds", "data", "models", "model", "model.kind"):
            raise UsageError(f"{path} cannot vary in a scan; it has an option of its own.")
    return grid


def make_trials(card: Card, grid: Mapping[str, Sequence[Any]], folder: Path) -> list[Trial]:
    """Return one trial for every combination of values, checked before anything is trained."""
    defaults = default_settings()
    trials = []
    for combination in itertools.product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        raw = card.model_dump(mode="json")
        for path, value in values.items():
            set_value(raw, path.split("."), value)
        changed = build_card(raw)
        check_settings(changed, defaults)
        data, kind = prepare(changed), changed.main
        settings = {**defaults[kind], **changed.settings(kind, defaults[kind])}
        label = f"{kind}-{slug(values)}"
        members = (make_member(data, label, kind, seed, settings, folder) for seed in range(card.seeds))
        trials.append(Trial(label, values, tuple(members)))
    return trials


def slug(values: Mapping[str, Any]) -> str:
    """Return a short name for a folder: `hidden=30x30`; hashed when long."""
    words = []
    for path, value in values.items():
        text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"{path.rsplit('.', 1)[-1]}={re.sub(r'[^A-Za-z0-9.+-]', '_', text) or 'none'}")
    name = ",".join(words)
    return name if len(name) <= 60 else hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def make_report(
    card: Card, grid: Mapping[str, Sequence[Any]], trials: Sequence[Trial], data: Data, command: str
) -> dict[str, Any]:
    """Return the content of `report.json`: rows as in a run, and the values of every trial."""
    rows, entries, all_measured = [], [], []
    for trial in trials:
        measured = measure_trial(trial, card)
        facts = evidence.model_facts(card.name, trial.members) | {"model": card.main}
        facts["settings"] = {**facts["settings"], **trial.values}
        rows += evidence.result_rows(measured, facts)
        per_seed = {metric: list(map(evidence.finite, values)) for metric, values in measured.values.items()}
        entry = {"label": trial.label, "values": trial.values, "settings": facts["settings"], "seeds": per_seed}
        entries.append({**entry, "parameters": facts["parameters"], "train_seconds": facts["train_seconds"]})
        all_measured.append(measured)
    test = split(data, 0)[2]
    return {
        "task": card.name,
        "model": card.main,
        "version": hepkan.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "environment": environment(),
        "data": describe_data(data, card, trials[0].members[0], test),
        "luminosity_fb": card.luminosity_fb,
        "vary": dict(grid),
        "trials": entries,
        "rows": rows,
        "comparisons": [
            {"model": trial.label, "reference": trials[0].label, "metric": metric}
            | evidence.difference(measured, all_measured[0], metric)
            for trial, measured in zip(trials[1:], all_measured[1:], strict=True)
            for metric in ("validation_loss", "auc")
            if comparable(trial, trials[0])
        ],
    }


def comparable(one: Trial, two: Trial) -> bool:
    """Return whether two trials were judged on the same events, so that a paired difference has a meaning."""
    return one.members[0].data == two.members[0].data


def measure_trial(trial: Trial, card: Card) -> evidence.Measured:
    """Return the measures of one trial, the validation loss among them (it has no bootstrap)."""
    data = trial.members[0].data
    test = split(data, 0)[2]
    events = evidence.Test(test.y, full_weight(data, test), test.group)
    measured = evidence.measure([scores_of(member, "test", test) for member in trial.members], events, card)
    losses = np.array([member.record["validation_loss"] for member in trial.members])
    return evidence.Measured(
        {"validation_loss": losses, **measured.values},
        {"validation_loss": np.zeros(card.bootstrap), **measured.repeated},
    )


def tidy(report: Mapping[str, Any]) -> pa.Table:
    """Return one line per trial and seed: label, the values as text, seed, every measure."""
    lines: list[dict[str, Any]] = []
    for trial in report["trials"]:
        values = {path: json.dumps(value) for path, value in trial["values"].items()}
        for seed in range(len(trial["seeds"]["auc"])):
            measures = {metric: found[seed] for metric, found in trial["seeds"].items()}
            lines.append({"trial": trial["label"], **values, "seed": seed, **measures})
    return pa.Table.from_pylist(lines)
