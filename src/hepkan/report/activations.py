"""The functions on edges one by one, with the data beneath, and the loss against the size of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from hepkan.errors import UsageError
from hepkan.interpret.curves import EdgeCurves, output_shares
from hepkan.interpret.pruning import PruningCurve
from hepkan.interpret.ratios import Ratio
from hepkan.report.style import FAINT, INK, PALETTE, axis_label, legend_above, panels, round_ticks, styled

Floats = NDArray[np.float64]
PANEL = (2.7, 2.05)
DATA = "#c9d6e6"
"""Colour of the density of the data."""


@styled(9.0, small=True)
def activation_curves(
    curves: EdgeCurves,
    bands: Sequence[Floats] | None = None,
    *,
    layer: int = 0,
    importance: Sequence[Floats] | None = None,
    most: int = 12,
    labels: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the most important functions of a layer, each over the density of the data that it sees.

    Arguments:
        curves: of `hepkan.interpret.edge_curves`.
        bands: their errors, of `hepkan.interpret.edge_bands`; drawn as bands of one and two deviations.
        layer: which layer.
        importance: of every edge, `(in, sums)` for each layer; the share in the variation of the output if not given.
        most: at most so many panels.
        labels: pretty names of inputs (mathtext).
        units: units of inputs.

    Raises:
        UsageError: there is no such layer.
    """
    if not 0 <= layer < len(curves.layers):
        raise UsageError(f"layer needs to be 0 to {len(curves.layers) - 1}, however: {layer}.")
    part = curves.layers[layer]
    shares = (output_shares(curves) if importance is None else importance)[layer]
    edges = sorted(zip(*np.nonzero(part.mask), strict=True), key=lambda edge: -float(shares[edge]))[:most]
    figure, axes = panels(len(edges), 4, *PANEL)
    for axis, (i, o) in zip(axes, edges, strict=True):
        x, y = part.x[i], part.y[i, :, o]
        if bands is not None:
            error = bands[layer][i, :, o]
            for wide, alpha in ((2.0, 0.15), (1.0, 0.3)):
                axis.fill_between(x, y - wide * error, y + wide * error, color=PALETTE[0], alpha=alpha, linewidth=0)
        axis.plot(x, y, color=INK, linewidth=1.5, zorder=3)
        # Bands that are wider than the function itself leave the panel: where data are few they say nothing more.
        height = max(float(np.ptp(y)), 1e-12)
        low, high = (np.clip(edge, y.min() - 0.6 * height, y.max() + 0.6 * height) for edge in axis.get_ylim())
        axis.set_ylim(low, high)
        _density(axis, part.bins[i], part.density[i])
        name = curves.inputs[i] if layer == 0 else f"node {layer}.{i + 1}"
        text = axis_label((labels or {}).get(name, name), (units or {}).get(name, ""), name)
        axis.set_xlabel(text, fontsize=8.5)
        axis.set_title(f"{name} → {_target(curves, layer, int(o))}", fontsize=7.5, color=FAINT, loc="right", pad=2)
        axis.set_xlim(x[0], x[-1])
        axis.xaxis.set_major_locator(round_ticks(4))
        axis.yaxis.set_major_locator(round_ticks(4))
    return figure


@styled(9.0, small=True)
def ratio_curves(
    ratios: Sequence[Ratio], *, labels: Mapping[str, str] | None = None, units: Mapping[str, str] | None = None
) -> Figure:
    """Draw what a one-layer KAN has learned of each feature over the feature's histogram log-likelihood ratio.

    Arguments:
        ratios: of `hepkan.interpret.likelihood_ratios`.
        labels: pretty names of inputs (mathtext).
        units: units of inputs.
    """
    figure, axes = panels(len(ratios), 4, *PANEL)
    for axis, one in zip(axes, ratios, strict=True):
        axis.errorbar(one.centres, one.ratio, one.error, fmt="o", markersize=2.6, linewidth=0.8, color=PALETTE[1],
                      label="histogram", zorder=2)  # fmt: skip
        axis.plot(one.x, one.learned, color=INK, linewidth=1.5, label="learned", zorder=3)
        axis.axhline(0.0, color=FAINT, linewidth=0.5, zorder=0)
        text = axis_label((labels or {}).get(one.name, one.name), (units or {}).get(one.name, ""), one.name)
        axis.set_xlabel(text, fontsize=8.5)
        axis.xaxis.set_major_locator(round_ticks(4))
        axis.yaxis.set_major_locator(round_ticks(4))
    axes[0].set_ylabel("log-likelihood ratio", fontsize=8.5)
    legend_above(axes[0], 2)
    return figure


@styled()
def pruning_plot(curve: PruningCurve, chosen: int | None = None, *, tolerance: float | None = None) -> Figure:
    """Draw the growth of the loss against the number of edges, nodes or inputs, with errors.

    Arguments:
        curve: of `hepkan.interpret.pruning_curve`.
        chosen: number of parts of the network that was taken; the knee when not given.
        tolerance: growth that is allowed, drawn as a line.
    """
    sizes = np.array([getattr(stage, curve.part) for stage in curve.stages])
    growth, errors = (np.array([getattr(stage, name) for stage in curve.stages]) for name in ("increase", "error"))
    figure = Figure(figsize=(5.4, 3.7))
    axes = figure.add_axes((0.15, 0.15, 0.82, 0.81))
    taken = getattr(curve.knee(), curve.part) if chosen is None else chosen
    axes.axhline(0.0, color=FAINT, linewidth=0.7, zorder=0)
    axes.fill_between(sizes, growth - errors, growth + errors, color=PALETTE[0], alpha=0.25, linewidth=0)
    axes.plot(sizes, growth, "o-", color=PALETTE[0], markersize=4.0, label="growth of the loss, one deviation")
    if tolerance is not None:
        axes.axhline(tolerance, color=PALETTE[6], linestyle="--", linewidth=1.0, label=f"tolerance {tolerance:g}")
    at = growth[np.flatnonzero(sizes == taken)[:1]]
    if len(at):
        axes.plot([taken], at, "o", markersize=10, markerfacecolor="none", markeredgecolor=PALETTE[1],
                  markeredgewidth=1.6, label=f"taken: {taken} {curve.part}")  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_round_numbers(int(sizes.min()), int(sizes.max()))))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    if len(np.unique(sizes)) > 1:
        axes.set_xlim(1.12 * sizes.max(), 0.88 * sizes.min())
    if growth.max() > 20.0 * max(float(np.median(np.abs(growth))), 1e-12):
        axes.set_yscale("symlog", linthresh=max(2.0 * float(np.median(np.abs(growth))), 1e-4))
    axes.set(xlabel=f"number of {curve.part}", ylabel=f"growth of the loss ({curve.loss.replace('_', '-')})")
    axes.legend(loc="upper left")
    return figure


def _density(axis: Axes, bins: Floats, density: Floats) -> None:
    """Draw the density of the data in the lowest quarter of a panel, beneath the curve."""
    low, high = axis.get_ylim()
    height = high - low
    axis.set_ylim(low - 0.3 * height, high)
    below: Any = axis.twinx()
    below.stairs(density, bins, fill=True, color=DATA, linewidth=0)
    below.set(ylim=(0, 4.6), yticks=[])
    below.minorticks_off()
    below.set_zorder(axis.get_zorder() - 1)
    axis.patch.set_visible(False)


def _target(curves: EdgeCurves, layer: int, total: int) -> str:
    """Return the name of the node that an edge leads to."""
    last, width = layer + 1 == len(curves.layers), curves.widths[layer + 1]
    alone = curves.layers[layer].std.shape[1] - 2 * curves.layers[layer].products
    node, factor = (total, "") if total < alone else (alone + (total - alone) // 2, f"{'ab'[(total - alone) % 2]}")
    if last:
        return f"output{factor and ' ' + factor}" if width == 1 else f"output {node + 1}{factor}"
    return f"{layer + 1}.{node + 1}{factor}"


def _round_numbers(low: int, high: int) -> list[int]:
    """Return the ends of a range, and 1, 2, 5, 10, ... between them, with room at the ends."""
    numbers = [factor * 10**power for power in range(7) for factor in (1, 2, 5)]
    between = [number for number in numbers if 1.15 * low <= number <= 0.85 * high]
    return sorted({low, *between, high})
