"""Pictures of what a network learned, beside the data it acts on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepkan.report import statistics
from hepkan.report.edges import Data, Edges, likelihood_ratio
from hepkan.report.reading import Feature
from hepkan.report.style import (
    BACKGROUND,
    FAINT,
    INK,
    PALETTE,
    SIGNAL,
    axis_label,
    colour,
    legend_above,
    panels,
    round_ticks,
    styled,
)
from hepkan.report.words import title

PANEL = (3.0, 2.3)


@styled(9.5, small=True)
def edge_panel(edges: Edges, data: Data, place: int) -> Figure:
    """All edges of one input in the first member: the three strongest named, the data's density below."""
    figure, (axes,) = panels(1, 1, *PANEL)
    strength = edges.importance[0, place]
    strongest = [int(i) for i in np.argsort(-strength, kind="stable")[:3]]
    for node in range(strength.size):
        if node not in strongest:
            faint = edges.x[::2, place], edges.phi[0, ::2, place, node]
            axes.plot(*faint, color=FAINT, linewidth=0.6, alpha=0.6)
    for rank, node in enumerate(strongest):
        style: dict[str, Any] = {
            "color": (INK, PALETTE[3], PALETTE[6])[rank],
            "linestyle": ("-", "--", "-.")[rank],
        }
        text = f"{node + 1}: {100 * strength[node]:.1f} %"
        axes.plot(edges.x[:, place], edges.phi[0, :, place, node], label=text, **style)
    _finish(axes, edges, data, place)
    axes.set_ylabel(r"$\phi(x)$, centred", fontsize=8.5)
    legend_above(axes, 3)
    return figure


@styled(9.5, small=True)
def ratio_panel(edges: Edges, data: Data, place: int) -> Figure:
    """The function of one input of a one-layer KAN beside the log likelihood ratio of that input alone.

    The line is the mean of the members, the band their standard deviation. Both are centred on the data,
    where signal and background weigh the same. They agree when inputs are independent; correlations pull them
    apart.

    References:
        arXiv:2408.02743.
    """
    figure, (axes,) = panels(1, 1, *PANEL)
    x, phi = edges.x[:, place], edges.phi[:, :, place, 0]
    mean = phi.mean(axis=0)
    if len(phi) > 1:
        deviation = phi.std(axis=0, ddof=1)
        axes.fill_between(x, mean - deviation, mean + deviation, color=INK, alpha=0.25, linewidth=0)
    axes.plot(x, mean, color=INK, label=r"learned")
    centres, ratio, error = likelihood_ratio(data, place)
    axes.errorbar(
        centres,
        ratio,
        error,
        fmt="o",
        markersize=2.8,
        linewidth=0.8,
        color=PALETTE[6],
        label=_ratio_name(data),
    )
    _finish(axes, edges, data, place)
    axes.set_ylabel("log odds, centred", fontsize=8.5)
    legend_above(axes, 2)
    return figure


@styled(9.5, small=True)
def output_panel(edges: Edges, data: Data, place: int) -> Figure:
    """The functions of one input of the first member of a one-layer KAN, one for each output."""
    width, height = PANEL[0], PANEL[1] + 0.17 * -(-len(edges.outputs) // 4)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.72 / width, 0.46 / height, (width - 0.82) / width, (PANEL[1] - 0.55) / height))
    for output, label in enumerate(edges.outputs):
        style: dict[str, Any] = {"color": PALETTE[output % len(PALETTE)], "linestyle": "-" if output < 4 else "--"}
        axes.plot(edges.x[:, place], edges.phi[0, :, place, output], label=label, linewidth=1.2, **style)
    _finish(axes, edges, data, place)
    axes.set_ylabel("term of the output", fontsize=8.5)
    legend_above(axes, 4)
    return figure


@styled()
def importance(models: Mapping[str, Edges], features: Sequence[Feature], most: int = 20) -> Figure:
    """Share of each input in the output's variation, mean and deviation over the members of each model."""
    total = {name: edges.importance.sum(axis=2) for name, edges in models.items()}
    mean = np.mean([one.mean(axis=0) for one in total.values()], axis=0)
    order = np.argsort(-mean, kind="stable")[:most]
    figure = Figure(figsize=(5.6, 0.9 + 0.27 * len(order)))
    axes = figure.add_axes((0.3, 0.62 / figure.get_figheight(), 0.66, 1 - 0.72 / figure.get_figheight()))
    for place, (name, shares) in enumerate(total.items()):
        rows = np.arange(len(order)) + 0.22 * (place - 0.5 * (len(total) - 1))
        spread = shares.std(axis=0, ddof=1)[order] if len(shares) > 1 else None
        style: dict[str, Any] = {
            "color": colour(name, place),
            "fmt": "osD^v"[place % 5],
            "label": title(name),
        }
        axes.errorbar(
            100 * shares.mean(axis=0)[order], rows, xerr=None if spread is None else 100 * spread, **style
        )
    axes.set_yticks(range(len(order)), [axis_label(features[i].label, "", features[i].name) for i in order])
    axes.tick_params(axis="y", which="both", length=0)
    axes.minorticks_off()
    axes.set(ylim=(len(order) - 0.5, -0.5), xlabel="share of the variation [%]")
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="#e4e6ea", linewidth=0.8)
    axes.legend(loc="lower right")
    return figure


def _finish(axes: Axes, edges: Edges, data: Data, place: int) -> None:
    """Give room to legend and density, draw the density, label the x axis."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    height = max(high - low, 1e-3)
    axes.set_ylim(low - 0.35 * height, high + 0.06 * height)
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
    values = data.X[:, place]
    bins = statistics.edges(values, data.weight)
    # In heights of the panel, which is cheaper than an axis of their own that nobody reads.
    parts = []
    for label, tint in ((0, BACKGROUND), (1, SIGNAL)) if data.classes else ((0, FAINT),):
        rows = data.target == label
        filled: dict[str, Any] = (
            {"fill": True, "alpha": 0.35, "linewidth": 0} if label or not data.classes else {"linewidth": 0.9}
        )
        parts.append((statistics.histogram(values[rows], data.weight[rows], bins).density, tint, filled))
    scale = 4.5 * (max(float(density.max()) for density, _, _ in parts) or 1.0)
    for density, tint, filled in parts:
        axes.stairs(density / scale, bins, color=tint, transform=axes.get_xaxis_transform(), zorder=0.5, **filled)
    feature = data.features[place]
    axes.set_xlim(min(bins[0], edges.x[0, place]), max(bins[-1], edges.x[-1, place]))
    axes.set_xlabel(axis_label(feature.label, feature.unit, feature.name))
    axes.xaxis.set_major_locator(round_ticks())
    axes.yaxis.set_major_locator(round_ticks())


def _ratio_name(data: Data) -> str:
    """Return the name of the likelihood ratio."""
    return f"log p(x|{data.classes[1]})/p(x|{data.classes[0]})"
