"""What a run leaves behind: tables of scores and inputs, and `report.json`."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import hepkan
from hepkan.errors import DataError
from hepkan.files import atomic_file, write_text
from hepkan.studies import evidence
from hepkan.studies.card import Card
from hepkan.studies.conditional import conditional
from hepkan.studies.environment import environment
from hepkan.studies.members import Data, Member, load_table, outputs_of, shown, split, thin
from hepkan.studies.own_data import learn
from hepkan.tasks import TASKS

if TYPE_CHECKING:
    from hepkan.data import Table

INPUTS_FILE = "inputs.json"
"""What the training events of own files taught: replacements of missing values, ranges, names of classes."""

INPUTS = 20_000
"""Test events whose inputs are kept for the page."""


def write_record(
    card: Card, members: Sequence[Member], folder: Path, command: str, folds: Sequence[Member] = ()
) -> dict[str, Any]:
    """Write everything of a run but its page, and return the report; `folds` are the members of a cross-evaluation."""
    data = members[0].data
    test, train = split(data, 0)[2], shown(data)
    best = best_member(members, members[0].label)
    for name, part, events in (("predictions", "test", test), ("train_scores", "train", train)):
        write_parquet(folder / f"{name}.parquet", score_frame(data, events, part, members, best))
    write_parquet(folder / "inputs.parquet", input_frame(data, thin(test, INPUTS)))
    histories = [pq.read_table(member.folder / "history.parquet") for member in members]
    write_parquet(folder / "history.parquet", pa.concat_tables(histories, promote_options="default"))
    copy_model(best, folder)
    report = make_report(card, members, test, command)
    if data.recipe:
        write_text(folder / INPUTS_FILE, json.dumps(dataclasses.asdict(learn(data.recipe)), indent=1, allow_nan=False))
    if folds:
        report["cross_evaluation"] = write_cross(card, folds, folder)
    write_text(folder / "report.json", json.dumps(report, indent=1, allow_nan=False))
    return report


def make_report(card: Card, members: Sequence[Member], test: Table, command: str) -> dict[str, Any]:
    """Return the content of `report.json`."""
    data = members[0].data
    kinds = list(dict.fromkeys(member.label for member in members))
    events = judge(data, test)
    scores = {kind: [scores_of(one, "test", test) for one in members if one.label == kind] for kind in kinds}
    facts = {kind: evidence.model_facts(card.name, [one for one in members if one.label == kind]) for kind in kinds}
    facts |= {evidence.ensemble_name(kind): evidence.ensemble_facts(facts[kind]) for kind in kinds}
    cuts = {f"cut {name}": [test.column(name).astype(np.float64)] for name in card.cuts}
    blank = {"task": card.name, "seeds": 0, "parameters": 0, "train_seconds": 0.0, "settings": {}}
    facts |= {name: {**blank, "model": name} for name in cuts}
    measured = evidence.measure_all(scores, events, card)
    measured |= {name: evidence.measure(columns, events, card) for name, columns in cuts.items()}
    return {
        "task": card.name,
        "title": card.title,
        "question": card.question,
        "version": hepkan.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "environment": environment(),
        "data": describe_data(data, card, members[0], test),
        "luminosity_fb": card.luminosity_fb,
        "rows": [row for name, one in measured.items() for row in evidence.result_rows(one, facts[name])],
        "errors": [row for name, one in measured.items() for row in evidence.error_rows(name, one)],
        "comparisons": evidence.comparisons(measured, kinds, card.main, card.reference),
        "roc": {name: evidence.roc_points(columns, events) for name, columns in {**scores, **cuts}.items()}
        if test.classification and len(test.classes) == 2
        else {},
        "features": describe_features(card, test),
        "targets": describe_targets(card, events),
        "derived": derived_rows(card, scores, test, events),
        "conditional": conditional(card, members, test),
    }


def judge(data: Data, test: Table) -> evidence.Test:
    """Return the test events as `evidence` needs them."""
    weight = full_weight(data, test)
    if test.classification:
        return evidence.Test(test.y, weight, test.group, classes=test.classes)
    size = np.abs(weight)
    scale = np.sqrt(np.average((test.y - np.average(test.y, axis=0, weights=size)) ** 2, axis=0, weights=size))
    return evidence.Test(test.y, weight, test.group, test.target_names, np.where(scale > 0, scale, 1.0))


def describe_targets(card: Card, events: evidence.Test) -> list[dict[str, Any]]:
    """Return name, unit, label and deviation of the targets of a regression."""
    if events.scale is None:
        return []
    words = ({"name": one.name, "unit": one.unit, "label": one.label or one.name} for one in card.target)
    return [{**entry, "scale": float(scale)} for entry, scale in zip(words, events.scale, strict=True)]


def derived_rows(
    card: Card, scores: Mapping[str, Sequence[NDArray[np.float64]]], test: Table, events: evidence.Test
) -> list[dict[str, Any]]:
    """Return measures of the quantities that follow from the targets, one row per quantity, model and measure."""
    columns = dict(zip(test.names, test.X.T, strict=True))
    rows = []
    for one in TASKS[card.name].derived() if card.name in TASKS else ():
        if not set(one.needs) <= set(columns):
            continue
        words = {"quantity": one.name, "unit": one.unit, "label": one.label}
        for kind, predictions in scores.items():
            found = []
            for prediction in predictions:
                residual = one.residual(columns, prediction, test.y)[:, None]
                central, repeated = evidence.residual_measures(residual, events, card)
                found.append(({k: float(v[0]) for k, v in central.items()}, {k: v[:, 0] for k, v in repeated.items()}))
            measured = evidence.over_seeds(found)
            for row in evidence.error_rows(kind, measured):
                parts = (row["seed_error"] or 0.0, row["bootstrap_error"] or 0.0)
                value = evidence.finite(measured.value(row["metric"]))
                result = {"metric": row["metric"], "value": value, "error": math.hypot(*parts)}
                rows.append({"model": kind, **words, **result})
    return rows


def describe_data(data: Data, card: Card, member: Member, test: Table) -> dict[str, Any]:
    """Return where the events come from, how many there are, and what each process yields in pb."""
    table = load_table(data)
    process = process_of(table)
    yields = []
    for name in dict.fromkeys(process.tolist()):
        part = table.take(process == name)
        entry = {"process": name, "label": int(part.y[0]) if part.classification else 0, "rows": len(part)}
        yields.append({**entry, "effective": part.effective_size(), "pb": float(part.weight.sum())})
    sizes = member.record["events"]
    return {
        "source": ", ".join(name for source in card.data for name in source.files),
        "recipe_hash": recipe_hash(data),
        "sha256": data.sha256,
        "test_source": ", ".join(name for source in card.tests for name in source.files) or None,
        "test_sha256": data.test_sha256,
        "n_train": sizes["train"],
        "n_validation": sizes["validation"],
        "n_test": len(test),
        "yields": sorted(yields, key=lambda entry: (-entry["label"], entry["process"])),
    }


def recipe_hash(data: Data) -> str:
    """Return the hash of what made a sample of a built-in task."""
    from hepkan.physics.io import read_sample

    return "" if data.recipe else str(read_sample(data.path, ["label"]).metadata.get("recipe_hash", ""))


def write_cross(card: Card, folds: Sequence[Member], folder: Path) -> dict[str, Any]:
    """Write the scores of all events, each by the model that never saw it, and return their measures."""
    whole = load_table(folds[0].data)
    fold = np.asarray(whole.extra["fold"])
    first = scores_of(folds[0], "test", whole.take(fold == 0))
    score = np.empty((len(whole), *first.shape[1:]))
    for k, member in enumerate(folds):
        score[fold == k] = scores_of(member, "test", whole.take(fold == k))
    columns = {"id": whole.id, "fold": fold, "process": process_of(whole), **wide("target", whole.y, whole)}
    columns |= {"weight": whole.weight, **wide("prediction", score, whole)}
    spectators = {one.name: whole.extra[one.name] for one in card.spectators}
    write_parquet(folder / "cross_scores.parquet", pa.table({**columns, **spectators}))
    measured = evidence.measure([score], judge(folds[0].data, whole), card)
    rows = evidence.result_rows(measured, evidence.model_facts(card.name, folds))
    return {"model": card.main, "folds": len(folds), "event_id": card.event_id, "rows": rows}


def describe_features(card: Card, table: Table) -> list[dict[str, str]]:
    """Return name, unit and label of the inputs; the card's words go before those of the table."""
    own = {one.name: one for one in card.features}
    entries = []
    for name, unit, label in zip(table.names, table.units, table.labels, strict=True):
        words = own.get(name)
        chosen = {"unit": (words.unit if words else "") or unit, "label": (words.label if words else "") or label}
        entries.append({"name": name, **chosen})
    return entries


def score_frame(data: Data, table: Table, part: str, members: Sequence[Member], best: Member) -> pa.Table:
    """Return ids, process, target, weight and the score of every member; `prediction` is that of `best`."""
    columns = {
        "id": table.id,
        "group": table.group,
        "process": process_of(table),
        **wide("target", table.y, table),
        "weight": full_weight(data, table),
        **wide("prediction", scores_of(best, part, table), table),
    }
    for member in members:
        columns |= wide(member.name, scores_of(member, part, table), table)
    return pa.table(columns)


def wide(name: str, values: NDArray[Any], table: Table) -> dict[str, NDArray[Any]]:
    """Return a column, or one column `name.output` for each target or class, as float32."""
    if values.ndim == 1:
        return {name: values}
    narrow = values.astype(np.float32)
    return {f"{name}.{output}": narrow[:, t] for t, output in enumerate(outputs_of(table))}


def input_frame(data: Data, table: Table) -> pa.Table:
    """Return the inputs of some test events."""
    columns: Mapping[str, NDArray[Any]] = {name: table.column(name) for name in table.names}
    extra = {**wide("target", table.y, table), "weight": full_weight(data, table), "process": process_of(table)}
    return pa.table({**columns, **extra})


def scores_of(member: Member, part: str, table: Table) -> NDArray[np.float64]:
    """Return a member's scores in the order of the table, `(n,)`, or `(n, targets)`.

    Raises:
        DataError: the member's file belongs to other events.
    """
    frame = member.scores(part)
    if not np.array_equal(frame["id"].to_numpy(), table.id):
        raise DataError(
            f"The scores in {member.folder} belong to other events. Delete that folder and give the command again "
            "with --resume."
        )
    if "score" in frame.column_names and table.classification:
        return np.asarray(frame["score"].to_numpy(), dtype=np.float64)
    return np.column_stack([frame[name].to_numpy() for name in outputs_of(table)]).astype(np.float64)


def full_weight(data: Data, part: Table) -> NDArray[np.float64]:
    """Return the weights of a part, scaled so that every process keeps the yield of all events (pb)."""
    table = load_table(data)
    whole, mine = process_of(table), process_of(part)
    weight = part.weight.copy()
    for name in np.unique(mine):
        total = weight[mine == name].sum()
        if total != 0 and (whole == name).any():
            weight[mine == name] *= table.weight[whole == name].sum() / total
    return weight


def process_of(table: Table) -> NDArray[Any]:
    """Return the process of each event, the name of its class where there is none."""
    if "process" in table.extra:
        return np.asarray(table.extra["process"])
    names: NDArray[Any] = np.asarray(table.classes)[table.y]
    return names


def best_member(members: Sequence[Member], label: str) -> Member:
    """Return the seed of a model that was best on validation."""
    mine = [member for member in members if member.label == label]
    return min(mine, key=lambda member: float(member.record["validation_loss"]))


def copy_model(member: Member, folder: Path) -> None:
    """Put the model of a member into the run folder; kinds that cannot be saved leave none."""
    for name in ("model.hepkan", "model.txt", "model.json", "predictor.json", "model.flow"):
        (folder / name).unlink(missing_ok=True)
        if (member.folder / name).is_file():
            with atomic_file(folder / name) as temporary:
                shutil.copyfile(member.folder / name, temporary)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table atomically."""
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
