"""The self-contained page of a run, and of several runs side by side."""

from __future__ import annotations

import base64
import importlib.resources
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from hepkan.errors import UsageError
from hepkan.files import atomic_folder, write_text
from hepkan.report import plots, tables, words
from hepkan.report.drawing import drawn
from hepkan.report.figures import in_order, sections
from hepkan.report.kept import kept_in, write_pictures
from hepkan.report.reading import Run, read_run
from hepkan.report.sections import plot
from hepkan.report.words import title

ESCAPES = {i: quote(chr(i), safe=" !$()*+,-./:;=?@_|~'") for i in range(128)} | {ord('"'): "'", ord("\n"): None}
"""What the characters of a picture become in an address."""


def write_page(run: str | Path) -> Path:
    """Draw the plots of a run folder and write its page; return `index.html`.

    The page is one file that needs no network. The plots are also written as SVG files to `plots/`; those of an earlier
    page that would come out the same are not drawn again.

    Raises:
        DataError: a file of the run is missing or damaged.
        OSError: the folder cannot be written.
    """
    content = read_run(run)
    place = content.folder / "plots"
    expected = 2 * len(content.features) + 8 * len(content.targets)
    found = drawn(sections(content), expected, kept_in(place))
    parts = in_order(found.sections)
    with atomic_folder(place) as folder:
        write_pictures(folder, [picture for part in parts for picture in part.drawn], found.keys)
    page = content.folder / "index.html"
    write_text(page, render("page.html", sections=parts, **_facts(content)))
    return page


def write_comparison(runs: Sequence[str | Path], output: str | Path) -> Path:
    """Write a page that shows the results of several runs side by side; return it.

    Raises:
        UsageError: no runs.
        DataError: a file of a run is missing or damaged.
        OSError: the page cannot be written.
    """
    if not runs:
        raise UsageError("A comparison needs run folders, however there are none.")
    contents = [read_run(run) for run in runs]
    names = _names([content.folder for content in contents])
    reports = dict(zip(names, (content.report for content in contents), strict=True))
    metrics = _compared(reports.values())
    pictures = []
    for metric in metrics:
        figure = plots.side_by_side({name: report["rows"] for name, report in reports.items()}, metric)
        alt = f"{words.metric_name(metric)} of every model in every run, with errors."
        pictures.append(plot(metric, figure, alt))
    facts = {name: _facts(content) for name, content in zip(names, contents, strict=True)}
    write_text(output, render("comparison.html", runs=facts, tables=_side_by_side(reports), plots=pictures))
    return Path(output)


def _facts(run: Run) -> dict[str, Any]:
    """Return everything that the page says in words and tables."""
    report = run.report
    task = str(report["task"])
    environment = report["environment"]
    return {
        "report": report,
        "title": str(report.get("title") or run.card.get("title") or task),
        "question": str(report.get("question") or run.card.get("question") or ""),
        "headline": words.headline(report, run.main, run.card.get("reference")),
        "metrics": list(dict.fromkeys(row["metric"] for row in report["rows"])),
        "results": [] if run.targets else _results(run),
        "comparisons": report.get("comparisons") or [],
        "tables": _tables(run) if run.targets else [],
        "targets": run.targets,
        "features": run.features,
        "classes": run.classes,
        "settings": _settings(run),
        "versions": environment.get("versions") or {},
        "machine": [str(environment[key]) for key in ("platform", "cpu") if environment.get(key)],
        "kernels": environment.get("kernels") or {},
        "card": run.card_text,
    }


def _tables(run: Run) -> list[tables.Table]:
    """Return the tables of a regression's results."""
    found = (tables.results(run), tables.residuals(run), tables.differences(run))
    return [table for table in found if table is not None]


def _results(run: Run) -> list[dict[str, Any]]:
    """Return one entry per model with a cell for each metric."""
    rows = run.report["rows"]
    single = [row for row in rows if not str(row["model"]).endswith(" ensemble")]
    entries = []
    for model in run.models:
        mine = {row["metric"]: row for row in rows if row["model"] == model}
        first = next(iter(mine.values()))
        cells = {
            metric: {"text": words.with_error(row["value"], row["error"]), "best": words.is_best(single, row)}
            for metric, row in mine.items()
        }
        entries.append(
            {
                "model": model,
                "ensemble": model.endswith(" ensemble"),
                "cells": cells,
                "seeds": first["seeds"],
                "parameters": words.count(first["parameters"]) if first["seeds"] else "–",
                "seconds": words.seconds(first["train_seconds"]) if first["seeds"] else "–",
            }
        )
    return entries


def _settings(run: Run) -> dict[str, dict[str, str]]:
    """Return the settings of each trained model as text."""
    found: dict[str, dict[str, str]] = {}
    for row in run.report["rows"]:
        model, settings = str(row["model"]), row.get("settings") or {}
        if settings and not model.endswith(" ensemble"):
            found[model] = {str(key): _text(value) for key, value in settings.items()}
    return found


def _side_by_side(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return for each metric one entry per model with a cell for each run."""
    tables: dict[str, list[dict[str, Any]]] = {}
    every = [row for report in reports.values() for row in report["rows"]]
    for metric in _compared(reports.values()):
        lines = []
        for model in dict.fromkeys(str(row["model"]) for row in every):
            cells = []
            for report in reports.values():
                keys = (row for row in report["rows"] if (row["model"], row["metric"]) == (model, metric))
                row = next(keys, None)
                cells.append(words.with_error(row["value"], row["error"]) if row else "–")
            lines.append({"model": model, "cells": cells})
        tables[metric] = lines
    return tables


def _compared(reports: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the measures that say which of several runs is better."""
    rows = (row for report in reports for row in report["rows"])
    return [metric for metric in dict.fromkeys(str(row["metric"]) for row in rows) if words.is_compared(metric)]


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each folder, or the whole path where the last parts agree."""
    short = [folder.resolve().name for folder in folders]
    return [
        name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)
    ]


def render(template: str, **content: Any) -> str:
    """Fill a template; everything is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hepkan.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "data_uri": lambda one: Markup(_data_uri(one)),
        "title": title,
        "metric": words.metric_name,
        "with_sign": words.difference,
        "verdict": words.verdict,
        "count": words.count,
        "rounded": words.rounded,
        "date": words.date,
    }
    css = (importlib.resources.files("hepkan.report") / "templates" / "page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(css=css, **content)


def _data_uri(svg_bytes: bytes) -> str:
    """Return a picture as part of the page; escaping takes less room than base64 where quotes allow it."""
    text = svg_bytes.decode()
    if "'" in text or not text.isascii():
        return "data:image/svg+xml;base64," + base64.b64encode(svg_bytes).decode()
    return "data:image/svg+xml," + text.translate(ESCAPES)


def _text(value: Any) -> str:
    """Return a setting as text."""
    return value if isinstance(value, str) else json.dumps(value)
