"""Pictures across runs: pure functions from numbers to figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hepkan.report.style import PALETTE, round_ticks, styled
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
