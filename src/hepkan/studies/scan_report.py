"""What a scan leaves behind: its report and its tidy tables."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import hepkan
from hepkan.studies import evidence
from hepkan.studies.card import Card
from hepkan.studies.environment import environment
from hepkan.studies.members import Member, split, thin, with_policy
from hepkan.studies.record import describe_data, judge, scores_of
from hepkan.studies.scan_board import Trial

if TYPE_CHECKING:
    from hepkan.data import Table
    from hepkan.nn import Network
    from hepkan.studies.scan import Plan

VALIDATION, TRAIN = "validation_loss", "train_loss"
TRAIN_EVENTS = 100_000
"""Training events on which the loss of the finished model is measured, at most."""


def make_report(plan: Plan, trials: Sequence[Trial], failures: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of `report.json`: rows as in a run, and every trial with the values of its seeds."""
    card = plan.card
    losses = [None if trial.label in failures else measure_losses(trial, card.bootstrap) for trial in trials]
    best = min(
        (i for i, found in enumerate(losses) if found is not None),
        key=lambda i: losses[i].value(VALIDATION),  # type: ignore[union-attr]
    )
    judged = set(range(len(trials))) if plan.method == "grid" else {0, best}
    rows, entries, measured = [], [], []
    for number, (trial, found) in enumerate(zip(trials, losses, strict=True)):
        if found is not None and number in judged:
            found = join(found, measure_test(trial, card))
        measured.append(found)
        own = result_rows(trial, found, card) if found is not None else []
        rows += own
        entries.append(describe(number, trial, found, own, failures.get(trial.label)))
    data, member = plan.data, trials[best].members[0]
    return {
        "task": card.name,
        "title": card.title,
        "model": card.main,
        "version": hepkan.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": plan.command,
        "environment": environment(),
        "data": describe_data(data, card, member, split(data, 0)[2]),
        "luminosity_fb": card.luminosity_fb,
        "method": plan.method,
        "batch": plan.batch,
        "loss": str(plan.settings.get("loss", "")),
        "metric": evidence.main_metric(card),
        "vary": {path: str(kind) if plan.method == "tpe" else kind for path, kind in plan.vary.items()},
        "trials": entries,
        "best": best,
        "rows": rows,
        "comparisons": compare_to(best, trials, measured, (VALIDATION, evidence.main_metric(card))),
    }


def result_rows(trial: Trial, found: evidence.Measured, card: Card) -> list[dict[str, Any]]:
    """Return the rows of one trial, as in a run, with the values varied among the settings."""
    facts = evidence.model_facts(card.name, trial.members) | {"model": card.main}
    return evidence.result_rows(found, {**facts, "settings": {**facts["settings"], **trial.values}})


def describe(
    number: int,
    trial: Trial,
    found: evidence.Measured | None,
    rows: Sequence[Mapping[str, Any]],
    failure: str | None,
) -> dict[str, Any]:
    """Return what the report says about one trial."""
    entry: dict[str, Any] = {"number": number, "label": trial.label, "values": trial.values, "failure": failure}
    if found is None:
        return {**entry, "settings": {}, "seeds": {}, "results": {}, "parameters": None, "train_seconds": None}
    seeds = {metric: [evidence.finite(value) for value in values] for metric, values in found.values.items()}
    results = {row["metric"]: {"value": row["value"], "error": row["error"]} for row in rows}
    kept = {name: rows[0][name] for name in ("settings", "parameters", "train_seconds")}
    return {**entry, "seeds": seeds, "results": results, **kept}


def compare_to(
    best: int, trials: Sequence[Trial], measured: Sequence[evidence.Measured | None], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the paired differences of all trials to the best, where they were judged on the same events."""
    reference, found = trials[best], measured[best]
    assert found is not None
    return [
        {"model": trial.label, "number": i, "reference": reference.label, "metric": metric}
        | evidence.difference(one, found, metric)
        for i, (trial, one) in enumerate(zip(trials, measured, strict=True))
        if i != best and one is not None and trial.members[0].data == reference.members[0].data
        for metric in metrics
        if metric in one.values and metric in found.values
    ]


def measure_losses(trial: Trial, repetitions: int) -> evidence.Measured:
    """Return the losses of the finished models on validation and training events, by seed; no bootstrap."""
    found = {
        VALIDATION: np.array([member.record[VALIDATION] for member in trial.members]),
        TRAIN: np.array([train_loss(member) for member in trial.members]),
    }
    return evidence.Measured(found, {name: np.zeros(repetitions) for name in found})


def measure_test(trial: Trial, card: Card) -> evidence.Measured:
    """Return the measures of one trial on the test events."""
    data = trial.members[0].data
    test = split(data, 0)[2]
    scores = [scores_of(member, "test", test) for member in trial.members]
    return evidence.measure(scores, judge(data, test), card)


def join(one: evidence.Measured, two: evidence.Measured) -> evidence.Measured:
    """Return the measures of both."""
    return evidence.Measured({**one.values, **two.values}, {**one.repeated, **two.repeated})


def train_loss(member: Member) -> float:
    """Return the loss of a finished member on its training events, to set beside its validation loss.

    The history has the mean over an epoch while the weights changed, without their average and with dropout; that is
    the answer only for kinds that leave no network.
    """
    if (member.folder / "model.hepkan").is_file():
        from hepkan.model_io import load

        events = with_policy(thin(split(member.data, member.seed)[0], TRAIN_EVENTS), member.data.negative_weights)
        return loss_of(load(member.folder / "model.hepkan"), events, str(json.loads(member.settings)["loss"]))
    history = pq.read_table(member.folder / "history.parquet").to_pylist()
    return float(min(history, key=lambda row: row[VALIDATION])[TRAIN])


def loss_of(network: Network, table: Table, loss: str) -> float:
    """Return the weighted mean loss of a network as in training, of regression targets while standardised."""
    import torch

    from hepkan.losses import get_loss
    from hepkan.train.sources import in_memory

    function = get_loss(loss)
    source = in_memory(table, network, loss, "abs")
    total = 0.0
    network.eval()
    with torch.no_grad():
        for part in source.parts():
            output, target = network(part.z), part.target
            if not function.classification:
                mean, scale = network.output_map.get_buffer("mean"), network.output_map.get_buffer("scale")
                output, target = (output - mean) / scale, (target - mean) / scale
            total += float((function.each(output, target) * part.weight).sum())
    return total / source.n


def tidy(report: Mapping[str, Any]) -> pa.Table:
    """Return one line per trial and seed: number, label, values, seed, parameters, every measure; nothing with times.

    Values that are numbers stay numbers; a setting with any other value is a column of JSON texts.
    """
    trials = report["trials"]
    metrics = list(dict.fromkeys(metric for trial in trials for metric in trial["seeds"]))
    seeds = max(len(values) for trial in trials for values in trial["seeds"].values())
    lines = [(trial, seed) for trial in trials for seed in range(seeds)]
    columns: dict[str, pa.Array] = {
        "number": pa.array([trial["number"] for trial, _ in lines], pa.int64()),
        "trial": pa.array([trial["label"] for trial, _ in lines], pa.string()),
    }
    for path in report["vary"]:
        columns[path] = _values([trial["values"][path] for trial, _ in lines])
    columns["seed"] = pa.array([seed for _, seed in lines], pa.int64())
    columns["parameters"] = pa.array([trial["parameters"] for trial, _ in lines], pa.int64())
    for metric in metrics:
        found = [trial["seeds"][metric][seed] if metric in trial["seeds"] else None for trial, seed in lines]
        columns[metric] = pa.array(found, pa.float64())
    columns["failure"] = pa.array([trial["failure"] for trial, _ in lines], pa.string())
    return pa.table(columns)


def _values(values: Sequence[Any]) -> pa.Array:
    """Return numbers as numbers, all others as JSON texts."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        whole = all(isinstance(value, int) for value in values)
        return pa.array(values, pa.int64() if whole else pa.float64())
    return pa.array([json.dumps(value) for value in values], pa.string())


def seconds_of(trials: Sequence[Trial]) -> pa.Table:
    """Return the training time and the number of epochs of every trial and seed that is complete."""
    lines = [
        {"number": number, "trial": trial.label, "seed": member.seed}
        | {name: member.record[name] for name in ("train_seconds", "epochs")}
        for number, trial in enumerate(trials)
        for member in trial.members
        if member.complete
    ]
    return pa.Table.from_pylist(lines)
