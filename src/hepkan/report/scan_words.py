"""What the page of a scan says in sentences: where the best setting lies and what happens on either side of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hepkan.report.scan_plots import Places, loss_name, short, text
from hepkan.report.words import CLEAR, metric_name, the, with_error

Report = Mapping[str, Any]
Trial = Mapping[str, Any]
FEW = 3
"""Seeds from which a standard error means something."""


def headline(report: Report) -> list[str]:
    """Return the sentences at the top: the best trial, its neighbours, its result, and reservations."""
    lines = [best_line(report), test_line(report)]
    if report["method"] == "tpe":
        lines.append(gain_line(report))
    elif len(report["vary"]) == 1:
        lines += [line for line in (side_line(report, 0), side_line(report, -1)) if line]
    failed = sum(trial["failure"] is not None for trial in report["trials"])
    if failed:
        lines.append(f"{failed} of {len(report['trials'])} trials failed; the table says why.")
    seeds = seeds_of(report)
    if seeds < FEW:
        lines.append(f"With {seeds} seed{'s' if seeds > 1 else ''} per trial this is a look, not a result.")
    return lines


def best_line(report: Report) -> str:
    """Return where the validation loss is lowest."""
    best = report["trials"][report["best"]]
    found = best["results"]["validation_loss"]
    name = the(str(report["model"]))
    return f"Of {len(report['trials'])} trials of {name}, {named(best)} has the lowest validation " + (
        f"{loss_name(report)}: {with_error(found['value'], found['error'])}."
    )


def side_line(report: Report, end: int) -> str | None:
    """Return what happens at one end of a grid of one setting, compared with the best by paired seeds."""
    ((path, values),) = report["vary"].items()
    if not Places(values).scaled or len(values) < 2:
        return None
    trial = next(one for one in report["trials"] if one["values"][path] == values[end])
    difference = to_best(report, trial["number"], "validation_loss")
    if difference is None or trial["failure"] is not None:
        return None
    change = with_error(difference["difference"], difference["error"])
    if not _clear(difference):
        return f"At {named(trial)} the validation loss is not distinguishable from the best: {change} above it."
    gap, usual = distance(trial), distance(report["trials"][report["best"]])
    return (
        f"{named(trial)} {'overfits' if gap > usual else 'underfits'}: its validation loss is {change} above the best"
        f"{_sigma(report, difference)} and lies {gap:.3g} above its training loss, where the best has {usual:.3g}."
    )


def distance(trial: Trial) -> float:
    """Return how far the validation loss lies above the training loss, mean over seeds."""
    return float(trial["results"]["validation_loss"]["value"] - trial["results"]["train_loss"]["value"])


def gain_line(report: Report) -> str:
    """Return what a search gained over its first trial, in the validation loss."""
    first, best = report["trials"][0], report["best"]
    if best == 0:
        return "No trial is better than the first, which is the card itself where the card lies in the space."
    difference = to_best(report, 0, "validation_loss")
    if first["failure"] is not None or difference is None:
        return "The first trial failed, so there is nothing to compare the best with."
    return (
        f"The first trial ({named(first)}) is {with_error(difference['difference'], difference['error'])} above it"
        f"{_sigma(report, difference)}; the best of many is a little lucky on the events that chose it."
    )


def test_line(report: Report) -> str:
    """Return the result of the best trial on the test events, for a search beside that of the first."""
    metric = report["metric"]
    best, first = report["trials"][report["best"]], report["trials"][0]
    value = with_error(**best["results"][metric])
    line = f"On the test events it has {metric_name(metric)} {value}"
    if report["method"] == "tpe" and report["best"] and first["failure"] is None:
        line += f", the first trial {with_error(**first['results'][metric])}"
    return f"{line}."


def to_best(report: Report, number: int, metric: str) -> Mapping[str, Any] | None:
    """Return the paired difference of a trial to the best."""
    pairs = (one for one in report["comparisons"] if one["number"] == number and one["metric"] == metric)
    return next(pairs, None)


def named(trial: Trial) -> str:
    """Return the values of a trial for readers."""
    return ", ".join(f"{short(path)} = {text(value)}" for path, value in trial["values"].items())


def seeds_of(report: Report) -> int:
    """Return the number of seeds of each trial."""
    return max(len(values) for trial in report["trials"] for values in trial["seeds"].values())


def _clear(item: Mapping[str, Any]) -> bool:
    """Return whether a difference is more than chance; without an error it is taken at its word."""
    return not item["error"] or (item["sigma"] is not None and abs(item["sigma"]) >= CLEAR)


def _sigma(report: Report, item: Mapping[str, Any]) -> str:
    """Return the significance of a difference, where there are seeds enough for one."""
    if seeds_of(report) < FEW or not item["error"] or item["sigma"] is None:
        return ""
    return f" ({abs(item['sigma']):.1f} standard deviations)"
