"""The self-contained page of a scan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from hepkan.errors import DataError
from hepkan.files import atomic_folder, write_text
from hepkan.report import scan_plots, scan_words, words
from hepkan.report.html import render
from hepkan.report.sections import plot

NEEDED = ("task", "model", "method", "vary", "trials", "best", "metric", "loss", "comparisons", "environment", "data")
PARTS = ("mae_", "bias_", "width68_")
"""Measures of single targets; too many for the table of the page."""
Report = Mapping[str, Any]


def write_scan_page(scan: str | Path) -> Path:
    """Draw the pictures of a scan folder and write its page; return `index.html`.

    The page is one file that needs no network. The pictures are also written to `plots/`, as SVG and as PNG.

    Raises:
        DataError: the report of the scan is missing or damaged.
        OSError: the folder cannot be written.
    """
    folder = Path(scan)
    report, card = read_scan(folder)
    plots = []
    with atomic_folder(folder / "plots") as target:
        for name, figure, alt in pictures(report):
            plots.append(plot(name, figure, alt))
            (target / f"{name}.svg").write_bytes(plots[-1].svg)
            figure.savefig(target / f"{name}.png", dpi=150)
    page = folder / "index.html"
    write_text(page, render("scan.html", plots=plots, card=card, **_facts(report)))
    return page


def read_scan(folder: Path) -> tuple[dict[str, Any], str]:
    """Return report and card of a scan.

    Raises:
        DataError: they are missing or damaged.
    """
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        card = (folder / "card.yaml").read_text(encoding="utf-8")
        missing = [name for name in NEEDED if name not in report]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder} must hold the report of a scan, however: {error}. Give the scan again.") from error
    if missing:
        raise DataError(f"The report in {folder} must be that of a scan, however it lacks {missing[0]!r}.")
    return report, card


def pictures(report: Report) -> Iterator[tuple[str, Figure, str]]:
    """Give name, picture and description of every picture of a scan."""
    if report["method"] == "tpe":
        yield "search", scan_plots.history(report), "Validation loss of every trial in its order, and the best so far."
        yield "settings", scan_plots.slices(report), "Validation loss of every trial against each setting."
        return
    for path in report["vary"]:
        setting = scan_plots.short(path)
        alt = (
            f"Validation and training loss, test {words.metric_name(report['metric'])}, parameters and training time "
            f"against {setting}: mean and standard error over seeds."
        )
        yield f"scan_{path.rsplit('.', 1)[-1]}", scan_plots.dependence(report, path), alt


def _facts(report: Report) -> dict[str, Any]:
    """Return everything that the page says in words and tables."""
    environment = report["environment"]
    known = dict.fromkeys(metric for trial in report["trials"] for metric in trial["results"])
    metrics = [metric for metric in known if not metric.startswith(PARTS)]
    return {
        "report": report,
        "title": f"{report.get('title') or report['task']}: scan of {words.the(report['model'])}",
        "headline": scan_words.headline(report),
        "settings": [scan_plots.short(path) for path in report["vary"]],
        "metrics": metrics,
        "loss": scan_plots.loss_name(report),
        "seeds": scan_words.seeds_of(report),
        "lines": _lines(report, metrics),
        "common": _common(report),
        "versions": environment.get("versions") or {},
        "machine": [str(environment[key]) for key in ("platform", "cpu") if environment.get(key)],
    }


def _lines(report: Report, metrics: list[str]) -> list[dict[str, Any]]:
    """Return one entry per trial; of a search the best come first."""
    trials = list(report["trials"])
    if report["method"] == "tpe":
        trials.sort(key=lambda trial: (trial["failure"] is not None, _loss(trial)))
    return [
        {
            "number": trial["number"],
            "best": trial["number"] == report["best"],
            "values": [scan_plots.text(trial["values"][path]) for path in report["vary"]],
            "failure": trial["failure"],
            "cells": [words.with_error(**trial["results"][m]) if m in trial["results"] else "–" for m in metrics],
            "above": _above(report, trial),
            "parameters": "–" if trial["parameters"] is None else words.count(trial["parameters"]),
            "seconds": "–" if trial["train_seconds"] is None else words.seconds(trial["train_seconds"]),
        }
        for trial in trials
    ]


def _loss(trial: Mapping[str, Any]) -> float:
    """Return the validation loss of a trial, infinity where there is none."""
    value = trial["results"].get("validation_loss", {}).get("value")
    return float("inf") if value is None else float(value)


def _above(report: Report, trial: Mapping[str, Any]) -> str:
    """Return by how much a trial is above the best, with the error of paired seeds."""
    if trial["number"] == report["best"]:
        return "best"
    found = scan_words.to_best(report, trial["number"], "validation_loss")
    return "–" if found is None else words.difference(found)


def _common(report: Report) -> dict[str, str]:
    """Return the settings that are the same in all trials."""
    varied = {path.rsplit(".", 1)[-1] for path in report["vary"]}
    settings = report["trials"][report["best"]]["settings"]
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
        if name not in varied and "." not in name
    }
