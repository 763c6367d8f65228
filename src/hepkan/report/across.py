"""Pictures across settings and across runs: pure functions from numbers to figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hepkan.report.statistics import Values
from hepkan.report.style import FAINT, INK, PALETTE, panels, round_ticks, styled
from hepkan.report.words import metric_name, title


@styled()
def side_by_side(runs: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> Figure:
    """One metric of every model in several runs.

    Arguments:
        runs: result rows (`model`, `metric`, `value`, `error`) of each run.
        metric: the metric.
    """
    found = {
        name: {str(row["model"]): row for row in rows if row["metric"] == metric}
        for name, rows in runs.items()
    }
    models = list(dict.fromkeys(model for rows in found.values() for model in rows))
    height = 0.95 + 0.32 * len(models) + 0.24 * len(runs)
    figure = Figure(figsize=(5.6, height))
    axes = figure.add_axes((0.3, 0.6 / height, 0.66, (height - 0.7 - 0.24 * len(runs)) / height))
    for place, (name, rows) in enumerate(found.items()):
        shown = [
            i for i, model in enumerate(models) if model in rows and rows[models[i]]["value"] is not None
        ]
        values = [rows[models[i]]["value"] for i in shown]
        errors = [rows[models[i]]["error"] or 0.0 for i in shown]
        at = np.asarray(shown) + 0.5 * (place - 0.5 * (len(found) - 1)) / len(found)
        axes.errorbar(
            values, at, xerr=errors, fmt="osD^v"[place % 5], color=PALETTE[place % len(PALETTE)], label=name
        )
    axes.set_yticks(range(len(models)), [title(model) for model in models])
    axes.tick_params(axis="y", which="both", length=0)
    axes.minorticks_off()
    axes.set(ylim=(len(models) - 0.5, -0.5), xlabel=metric_name(metric))
    axes.xaxis.set_major_locator(round_ticks())
    axes.grid(axis="y", color="#e4e6ea", linewidth=0.8)
    figure.legend(loc="upper right", bbox_to_anchor=(0.97, 1.0), borderaxespad=0.2)
    return figure


@styled()
def scan(
    values: Sequence[Any],
    validation: Sequence[Sequence[float]],
    train: Sequence[Sequence[float]] | None = None,
    *,
    name: str,
    metric: str,
    cost: Sequence[float] | None = None,
    cost_name: str = "parameters",
) -> Figure:
    """A metric against a setting: mean and standard error over seeds, with the cost on a second axis.

    Arguments:
        values: values of the setting; numbers are placed to scale, anything else in order.
        validation: the metric of every seed at each value.
        train: the same for training events.
        name: the setting.
        metric: the metric.
        cost: parameters or training time at each value.
        cost_name: what `cost` is.
    """
    figure, (axes,) = panels(1, 1, 5.6, 4.0)
    figure.subplots_adjust(left=0.15, right=0.86, bottom=0.14, top=0.9)
    x, labels = _positions(values)
    for rows, text, style in ((train, "train", "--s"), (validation, "validation", "-o")):
        if rows is not None:
            columns = [np.asarray(row, dtype=float) for row in rows]
            mean = np.array([column.mean() for column in columns])
            error = np.array(
                [column.std(ddof=1) / np.sqrt(len(column)) if len(column) > 1 else 0 for column in columns]
            )
            tint = FAINT if text == "train" else INK
            axes.errorbar(x, mean, error, fmt=style, color=tint, markersize=4, label=text, capsize=2)
    axes.set(xlabel=name, ylabel=metric_name(metric))
    if labels is not None:
        axes.set_xticks(x, labels)
        axes.minorticks_off()
    elif min(x) > 0 and max(x) > 20 * min(x):
        axes.set_xscale("log")
    if cost is not None:
        other = axes.twinx()
        other.plot(x, cost, ":^", color=PALETTE[6], markersize=4, label=cost_name)
        other.set_ylabel(cost_name, color=PALETTE[6])
        other.set_ylim(bottom=0)
        axes.tick_params(right=False, which="both")
    figure.legend(loc="upper right", ncols=3, bbox_to_anchor=(0.88, 1.0), borderaxespad=0.3)
    return figure


def _positions(values: Sequence[Any]) -> tuple[Values, list[str] | None]:
    """Return where values are drawn, and their labels unless they are numbers."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.asarray(values, dtype=float), None
    return np.arange(len(values)), [str(value).replace(" ", "") for value in values]
