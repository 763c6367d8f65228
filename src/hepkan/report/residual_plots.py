"""Pictures of a regression: pure functions from numbers to figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from hepkan.report.reading import Feature
from hepkan.report.statistics import Floats, Profile
from hepkan.report.style import FAINT, INK, PALETTE, axis_label, colour, legend_above, line, round_ticks, styled
from hepkan.report.words import title

WIDTH = 3.0
SHADES = LinearSegmentedColormap.from_list("counts", colormaps["YlGnBu"](np.linspace(0.18, 1.0, 64)))
ACROSS = 2
"""Models side by side in the legend of a panel."""


@styled(9.5, small=True)
def true_reconstructed(
    counts: Floats, bins: Floats, middle: tuple[Floats, Floats], target: Feature, model: str, norm: Normalize
) -> Figure:
    """Reconstructed against true values of one target, with the diagonal and the median in bins of the true value.

    Arguments:
        counts: events, `(true, reconstructed)`.
        bins: edges of both axes.
        middle: true values and the medians of the reconstructed ones there.
        target: the target.
        model: the model.
        norm: of the colours.
    """
    height = 2.75
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.72 / WIDTH, 0.48 / height, 1.78 / WIDTH, 2.02 / height))
    ends = (bins[0], bins[-1])
    image = axes.imshow(
        np.ma.masked_less_equal(counts.T, 0),
        origin="lower",
        extent=(*ends, *ends),
        aspect="auto",
        cmap=SHADES,
        norm=norm,
        interpolation="none",
    )
    axes.plot(ends, ends, color=INK, linewidth=0.9)
    axes.plot(*middle, color=PALETTE[1], linewidth=1.5, marker="o", markersize=2.2)
    label = axis_label(target.label, "", target.name)
    unit = f" [{target.unit}]" if target.unit else ""
    axes.set(xlim=ends, ylim=ends, xlabel=f"true {label}{unit}", ylabel=f"reconstructed {label}{unit}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(round_ticks(5))
    axes.set_title(title(model), fontsize=9, loc="left", pad=4)
    beside = figure.add_axes((2.57 / WIDTH, 0.48 / height, 0.08 / WIDTH, 2.02 / height))
    bar = figure.colorbar(image, cax=beside, format=lambda value, _: f"{value:g}")
    bar.ax.tick_params(labelsize=7.5, which="both", length=2, pad=2)
    bar.ax.minorticks_off()
    return figure


@styled(9.5, small=True)
def response(profiles: Mapping[str, Profile], target: Feature, main: str) -> Figure:
    """Mean of the residuals, and half of their central 68 %, in bins of the true value.

    Arguments:
        profiles: residuals of each model.
        target: the target.
        main: the model whose central 68 % is a band.
    """
    room = _room(profiles)
    height = 3.3 + room
    figure = Figure(figsize=(WIDTH, height))
    left, across = 0.74 / WIDTH, (WIDTH - 0.92) / WIDTH
    bottom = figure.add_axes((left, 0.46 / height, across, 1.02 / height))
    top = figure.add_axes((left, 1.56 / height, across, 1.66 / height), sharex=bottom)
    for place, (model, found) in enumerate(profiles.items()):
        style = {"color": colour(model, place), "linestyle": line(model, place), "linewidth": 1.3}
        if model == main:
            top.fill_between(found.x, found.low, found.high, color=style["color"], alpha=0.18, linewidth=0)
        top.errorbar(found.x, found.mean, found.error, label=title(model), elinewidth=0.7, **style)
        bottom.plot(found.x, 0.5 * (found.high - found.low), **style)
    top.axhline(0, color=FAINT, linewidth=0.7, zorder=0)
    unit = f" [{target.unit}]" if target.unit else ""
    top.set_ylabel(f"mean residual{unit}", fontsize=8.5)
    bottom.set_ylabel(f"68 % width{unit}", fontsize=8.5)
    bottom.set_xlabel(f"true {axis_label(target.label, target.unit, target.name)}")
    bottom.set_ylim(0, 1.08 * max(float(np.max(0.5 * (p.high - p.low), initial=0)) for p in profiles.values()) or 1)
    top.tick_params(labelbottom=False)
    for axes in (top, bottom):
        axes.xaxis.set_major_locator(round_ticks())
        axes.yaxis.set_major_locator(round_ticks(4))
    legend_above(top, ACROSS)
    return figure


@styled(9.5, small=True)
def residual_densities(densities: Mapping[str, Floats], bins: Floats, target: Feature) -> Figure:
    """Densities of the residuals of one target, one line per model."""
    room = _room(densities)
    height = 2.25 + room
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.74 / WIDTH, 0.46 / height, (WIDTH - 0.92) / WIDTH, 1.71 / height))
    for place, (model, density) in enumerate(densities.items()):
        style = {"color": colour(model, place), "linestyle": line(model, place), "linewidth": 1.3}
        axes.stairs(density, bins, label=title(model), baseline=None, **style)
    axes.axvline(0, color=FAINT, linewidth=0.7, zorder=0)
    label = axis_label(target.label, target.unit, target.name)
    axes.set(xlim=(bins[0], bins[-1]), xlabel=f"residual of {label}")
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"density [1/{target.unit}]" if target.unit else "density", fontsize=8.5)
    axes.xaxis.set_major_locator(round_ticks(4))
    axes.yaxis.set_major_locator(round_ticks(4))
    legend_above(axes, ACROSS)
    return figure


@styled()
def by_target(
    values: Mapping[str, Floats], errors: Mapping[str, Floats], names: Sequence[str], text: str, zero: bool = False
) -> Figure:
    """One number per target and model, with errors: targets from top to bottom.

    Arguments:
        values, errors: of each model, `(targets,)`; NaN where there is none.
        names: of the targets.
        text: what the numbers are.
        zero: whether they are changes: a line marks zero, and arrows at the edge what is far off.
    """
    gap = 0.085
    step = gap * len(values) + 0.12
    legend = 0.21 * -(-len(values) // 3) + 0.1
    height = 0.6 + step * len(names) + legend
    figure = Figure(figsize=(5.6, height))
    axes = figure.add_axes((0.17, 0.55 / height, 0.79, step * len(names) / height))
    limit = _limit(values.values()) if zero else np.inf
    for place, (model, value) in enumerate(values.items()):
        rows = np.arange(len(names)) + (place - 0.5 * (len(values) - 1)) * gap / step
        near = np.abs(value) < limit
        style: dict[str, Any] = {"color": colour(model, place), "markersize": 3.8}
        mark = "osD^vPX*<>"[place % 10]
        shown = np.where(near, value, np.nan)
        axes.errorbar(shown, rows, xerr=errors[model], fmt=mark, elinewidth=1.0, label=title(model), **style)
        for side, arrow in ((1, 9), (-1, 8)):
            far = ~near & (side * value > 0)
            axes.plot(np.full(far.sum(), side * 0.97 * limit), rows[far], linestyle="none", marker=arrow, **style)
    if zero:
        axes.axvline(0, color=INK, linewidth=0.8, zorder=0)
        axes.set_xlim(-limit, limit)
    for row in range(len(names) - 1):
        axes.axhline(row + 0.5, color="#e4e6ea", linewidth=0.8, zorder=0)
    _names_down(axes, names)
    axes.set_xlabel(text)
    axes.xaxis.set_major_locator(round_ticks())
    figure.legend(loc="upper right", bbox_to_anchor=(0.97, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.0)
    return figure


def _limit(values: Iterable[Floats]) -> float:
    """Return how far an axis of changes in percent goes: to those of models whose first number is within ten."""
    near = [float(np.nanmax(np.abs(value))) for value in values if abs(value[0]) < 10]
    return 1.35 * max([*near, 0.5])


@styled()
def coverage(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Share of true values inside central intervals of a conditional distribution against what the intervals promise.

    Arguments:
        found: of each model `levels`, `coverage` and its `error`.
    """
    figure = Figure(figsize=(5.0, 4.4))
    axes = figure.add_axes((0.14, 0.13, 0.82, 0.83))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9)
    for place, (model, one) in enumerate(found.items()):
        style: dict[str, Any] = {"color": colour(model, place), "linestyle": line(model, place), "marker": "o"}
        axes.errorbar(
            one["levels"], one["coverage"], one["error"], markersize=3.5, elinewidth=0.9, label=title(model), **style
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="level of the interval", ylabel="share of true values inside")
    axes.tick_params(pad=6)
    axes.legend(loc="upper left")
    return figure


@styled(9.5, small=True)
def matrix(values: Floats, rows: Sequence[str], columns: Sequence[str], text: str, signed: bool) -> Figure:
    """A matrix with its numbers, in percent.

    Arguments:
        values: `(rows, columns)`, from 0 or, if signed, -1, to 1.
        rows, columns: their labels.
        text: what the numbers are.
        signed: whether the colours go both ways.
    """
    cell = 0.5, 0.225
    size = 1.15 + cell[0] * len(columns) + 0.15, 0.62 + cell[1] * len(rows) + 0.1
    figure = Figure(figsize=size)
    box = (1.15 / size[0], 0.1 / size[1], cell[0] * len(columns) / size[0], cell[1] * len(rows) / size[1])
    axes = figure.add_axes(box)
    limit = float(np.abs(values).max()) or 1.0
    scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1} if signed else {"cmap": "Blues", "vmin": 0}
    axes.imshow(values, aspect="auto", interpolation="none", **{"vmax": 1.25 * limit, **scale})
    dark = 0.6 if signed else 0.75 * limit
    for (row, column), value in np.ndenumerate(values):
        if abs(value) >= 0.005:
            tint = "white" if abs(value) > dark else INK
            axes.text(
                column, row, f"{100 * value:.0f}".replace("-", "−"), ha="center", va="center", color=tint, fontsize=7.5
            )
    _names_down(axes, rows)
    axes.xaxis.set_ticks_position("top")
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(which="both", length=0, labelsize=8.5)
    axes.set_title(text, fontsize=8.5, loc="right", pad=22)
    return figure


def _names_down(axes: Axes, names: Sequence[str]) -> None:
    """Label rows from top to bottom."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", which="both", length=0)
    axes.minorticks_off()
    axes.set_ylim(len(names) - 0.5, -0.5)


def _room(models: Mapping[str, Any]) -> float:
    """Return the height of the legend over a panel, in inches."""
    return 0.06 + 0.15 * -(-len(models) // ACROSS)
