"""Pictures of a scan: how loss, result and cost depend on a setting, and how a search went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from hepkan.report.statistics import Values
from hepkan.report.style import FAINT, INK, PALETTE, panels, round_ticks, styled
from hepkan.report.words import metric_name

Trial = Mapping[str, Any]
MARKERS = "osD^vP"
CURVES = len(MARKERS)
"""Curves that one picture can hold."""
COST = PALETTE[6]
LOSSES = {"cross_entropy": "cross-entropy", "mae": "MAE (standardised)", "mse": "MSE (standardised)"}


@dataclass(frozen=True)
class Curve:
    """Trials that differ in one setting only, in its order; `label` tells what else they have in common."""

    label: str
    trials: tuple[Trial, ...]


def loss_name(report: Mapping[str, Any]) -> str:
    """Return the loss for readers."""
    return LOSSES.get(report["loss"], f"loss {report['loss']}".strip().replace("_", " "))


def curves(report: Mapping[str, Any], path: str) -> list[Curve]:
    """Return the trials as curves over one setting; where they are too many, at each value the best of the others."""
    done = [trial for trial in report["trials"] if trial["failure"] is None]
    order = {str(value): place for place, value in enumerate(report["vary"][path])}
    groups: dict[str, list[Trial]] = {}
    for trial in done:
        rest = ", ".join(f"{short(key)} = {text(value)}" for key, value in trial["values"].items() if key != path)
        groups.setdefault(rest, []).append(trial)
    if len(groups) > CURVES:
        best = {}
        for trial in sorted(done, key=lambda one: -one["results"]["validation_loss"]["value"]):
            best[str(trial["values"][path])] = trial
        groups = {"best of the others": list(best.values())}
    return [
        Curve(label, tuple(sorted(trials, key=lambda one: order[str(one["values"][path])])))
        for label, trials in groups.items()
    ]


@styled()
def dependence(report: Mapping[str, Any], path: str) -> Figure:
    """Losses with the number of parameters, and the result with the training time, against one setting.

    Arguments:
        report: `report.json` of a grid.
        path: the setting.
    """
    lines = curves(report, path)
    places = Places(report["vary"][path])
    alone = len(lines) == 1
    figure = Figure(figsize=(11.4, 4.5))
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.38})
    figure.subplots_adjust(left=0.07, right=0.935, bottom=0.125, top=0.91 if alone else 0.92 - 0.055 * len(lines))
    costs = [left.twinx(), right.twinx()]
    for place, curve in enumerate(lines):
        tint, soft = (INK, FAINT) if alone else (PALETTE[place], PALETTE[place])
        x = places.of([trial["values"][path] for trial in curve.trials])
        suffix, marker = f", {curve.label}" if curve.label else "", MARKERS[place]
        _points(left, x, curve, "validation_loss", tint, f"validation{suffix}", fmt=f"-{marker}")
        _points(left, x, curve, "train_loss", soft, f"training{suffix}", fmt=f"--{marker}", mfc="white")
        _points(right, x, curve, report["metric"], tint, f"test{suffix}", fmt=f"-{marker}")
        for axes, key in zip(costs, ("parameters", "train_seconds"), strict=True):
            cost = {"color": COST if alone else PALETTE[place], "mfc": "none", "markersize": 4}
            axes.plot(x, [trial[key] for trial in curve.trials], ":", marker="^", **cost)
    for axes, other, name in zip((left, right), costs, ("parameters", "training time per seed [s]"), strict=True):
        axes.errorbar([], [], fmt=":^", color=COST, mfc="none", markersize=4, label=name.partition(" per")[0])
        other.set_ylabel(name, color=COST)
        other.tick_params(axis="y", which="both", colors=COST)
        _scale_costs(other)
        axes.tick_params(right=False, which="both")
        axes.grid(axis="y", color="#e4e6ea", linewidth=0.8)
        axes.set_xlabel(places.name(short(path)))
        places.apply(axes)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3 if alone else 2, borderaxespad=0.2)
    left.set_ylabel(loss_name(report))
    right.set_ylabel(f"test {metric_name(report['metric'])}")
    return figure


def _points(axes: Axes, x: Values, curve: Curve, metric: str, tint: str, label: str | None, **style: Any) -> None:
    """Draw mean and error of a measure, and its seeds as dots."""
    have = [i for i, trial in enumerate(curve.trials) if metric in trial["results"]]
    for i in have:
        seeds = [value for value in curve.trials[i]["seeds"][metric] if value is not None]
        axes.plot([x[i]] * len(seeds), seeds, ".", color=tint, alpha=0.5, markersize=5, markeredgewidth=0, zorder=1)
    results = [curve.trials[i]["results"][metric] for i in have]
    values = [np.nan if one["value"] is None else one["value"] for one in results]
    errors = [one["error"] or 0.0 for one in results]
    axes.errorbar(x[have], values, errors, color=tint, markersize=5, capsize=2.5, label=label, **style)


def _scale_costs(axes: Axes) -> None:
    """Choose a scale that shows costs of different size, and ticks such as `20k`."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.15 * values.max())
        axes.yaxis.set_major_locator(round_ticks(4))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")


@styled()
def history(report: Mapping[str, Any]) -> Figure:
    """The validation loss of every trial of a search in its order, and the best so far.

    Arguments:
        report: `report.json` of a search.
    """
    figure, (axes,) = panels(1, 1, 11.4, 3.8)
    done = [trial for trial in report["trials"] if trial["failure"] is None]
    x = np.array([trial["number"] for trial in done])
    values = np.array([trial["results"]["validation_loss"]["value"] for trial in done])
    errors = [trial["results"]["validation_loss"]["error"] or 0.0 for trial in done]
    axes.errorbar(x, values, errors, fmt="o", color=PALETTE[0], markersize=4.5, capsize=2, elinewidth=1, label="trial")
    axes.step(x, np.minimum.accumulate(values), where="post", color=INK, label="best so far")
    axes.plot(report["best"], values.min(), "*", color=PALETTE[1], markersize=12, linestyle="none", label="best")
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    failed = [trial["number"] for trial in report["trials"] if trial["failure"] is not None]
    _focus(axes, values)
    if failed:
        height = axes.get_xaxis_transform()
        axes.plot(failed, [0.97] * len(failed), "x", color=PALETTE[1], transform=height, label="failed")
    axes.set(xlabel="trial", ylabel=f"validation {loss_name(report)}")
    axes.legend(loc="lower right", ncols=4, bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.14, top=0.91)
    return figure


@styled(font=9.5, small=True)
def slices(report: Mapping[str, Any]) -> Figure:
    """The validation loss of all trials of a search against each setting, later trials darker.

    Arguments:
        report: `report.json` of a search.
    """
    paths = list(report["vary"])
    figure, axes = panels(len(paths), 3, 3.8, 2.9)
    done = [trial for trial in report["trials"] if trial["failure"] is None]
    values = np.array([trial["results"]["validation_loss"]["value"] for trial in done])
    for place, (panel, path) in enumerate(zip(axes, paths, strict=True)):
        found = [trial["values"][path] for trial in done]
        log = str(report["vary"][path]).endswith(":log")
        places = Places(found if _numbers(found) else sorted(found, key=text), log)
        x = places.of(found)
        numbers = [trial["number"] for trial in done]
        panel.scatter(x, values, c=numbers, cmap="Blues", vmin=-0.5 * len(done), s=16, edgecolors=FAINT, linewidths=0.4)
        panel.plot(x[values.argmin()], values.min(), "*", color=PALETTE[1], markersize=11)
        _focus(panel, values)
        panel.set_xlabel(short(path))
        places.apply(panel)
        if place % 3 == 0:
            panel.set_ylabel("validation loss")
    return figure


def _focus(axes: Axes, values: Values) -> None:
    """Show the region of the good trials; a few very bad ones stay outside."""
    low, high = float(values.min()), float(np.quantile(values, 0.9))
    room = 0.08 * (high - low) or 0.05 * abs(low) or 1.0
    axes.set_ylim(low - room, high + 3 * room)


class Places:
    """Where the values of a setting are drawn: to scale if they are numbers or layers of equal width, else in order."""

    def __init__(self, values: Sequence[Any], log: bool | None = None) -> None:
        self.values = list({text(value): value for value in values}.values())
        self.layers = {len(value) for value in self.values if isinstance(value, list)}
        self.scaled = all(_width(value) is not None for value in self.values) and len(self.layers) <= 1
        numbers = [float(_width(value) or 0.0) for value in self.values] if self.scaled else []
        wide = bool(numbers) and min(numbers) > 0 and max(numbers) >= 8 * min(numbers)
        self.log = self.scaled and (wide if log is None else log)

    def of(self, values: Sequence[Any]) -> Values:
        """Return the positions of values."""
        names = [text(value) for value in self.values]
        if not self.scaled:
            return np.array([float(names.index(text(value))) for value in values])
        return np.array([float(_width(value) or 0.0) for value in values])

    def name(self, setting: str) -> str:
        """Return the label of the axis."""
        layers = max(self.layers, default=1)
        return f"{setting} ({layers} layers of equal width)" if self.scaled and layers > 1 else setting

    def apply(self, axes: Axes) -> None:
        """Set scale and ticks."""
        if self.log:
            axes.set_xscale("log")
        if not self.scaled:
            axes.set_xlim(-0.5, len(self.values) - 0.5)
        if self.scaled and len(self.values) > 9:
            if self.log:
                _plain_ticks(axes)
            return
        labels = [text(_width(value) if self.scaled else value) for value in self.values]
        axes.set_xticks(self.of(self.values), labels)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())


def _plain_ticks(axes: Axes) -> None:
    """Label a logarithmic axis of few decades `5, 10, 20` rather than by powers."""
    low, high = axes.get_xlim()
    if high < 300 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())


def _width(value: Any) -> float | None:
    """Return a number, or the width of layers that all have the same."""
    if isinstance(value, list) and value and len(set(map(str, value))) == 1:
        return _width(value[0])
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def short(path: str) -> str:
    """Return a setting for readers: the last part of its path."""
    return path.rsplit(".", 1)[-1].replace("_", " ")


def text(value: Any) -> str:
    """Return a value for readers: `30, 30` for a list."""
    if isinstance(value, list):
        return ", ".join(map(text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
