"""The figure of a scan: validation loss and AUC against what was varied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepkan.files import atomic_file


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw mean and error of every trial, and each seed as a dot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trials = report["trials"]
    labels = ["\n".join(_text(value) for value in trial["values"].values()) for trial in trials]
    figure = Figure(figsize=(max(6.0, 1.0 + 0.8 * len(trials)), 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True)
    for axis, metric, title in zip(axes, ("validation_loss", "auc"), ("validation loss", "test AUC"), strict=True):
        rows = [row for row in report["rows"] if row["metric"] == metric]
        for i, trial in enumerate(trials):
            values = [value for value in trial["seeds"][metric] if value is not None]
            axis.plot([i] * len(values), values, ".", color="0.7", zorder=1)
        means = [float("nan") if row["value"] is None else row["value"] for row in rows]
        errors = [row["error"] or 0.0 for row in rows]
        axis.errorbar(range(len(trials)), means, errors, fmt="o", color="C0", capsize=3, zorder=2)
        axis.set_ylabel(title)
        axis.grid(axis="y", alpha=0.3)
    seeds = len(trials[0]["seeds"]["auc"])
    axes[0].set_title(f"{report['task']}, {report['model']}: mean of {seeds} seed(s) with error, seeds as dots")
    axes[1].set_xticks(range(len(trials)), labels)
    axes[1].set_xlabel(", ".join(report["vary"]))
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _text(value: Any) -> str:
    """Return a value as a tick label: `30, 30` for a list."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
