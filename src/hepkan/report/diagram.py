"""The network as a picture: every edge a line whose width is its importance, the strongest with their functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.path import Path
from numpy.typing import NDArray

from hepkan.errors import UsageError
from hepkan.interpret.curves import EdgeCurves, output_shares, sum_owners
from hepkan.report.style import FAINT, INK, PALETTE, axis_label, styled

Floats = NDArray[np.float64]
GAP, ROW, LABEL = 2.5, 0.3, 1.35
"""Inches between layers, between neighbouring nodes, and for the names at the left."""
BOX = 0.36
"""Largest side of a small plot, in inches."""
MIDDLE, NEAR_START, NEAR_END = (20, 16, 24, 12, 28, 9, 31, 7, 33), (6, 12), (34, 28)
"""Where small plots may stand, in fortieths of the way."""
TINTS = (PALETTE[0], PALETTE[1])
"""Colours of rising and falling functions."""


@dataclass(frozen=True)
class _Edge:
    """A line from a node to a node, in inches, with its function and its importance relative to the largest."""

    start: tuple[float, float]
    end: tuple[float, float]
    x: Floats
    y: Floats
    strength: float


@styled(9.0)
def network_diagram(
    curves: EdgeCurves,
    importance: Sequence[Floats] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    outputs: Sequence[str] | None = None,
    functions: int = 60,
    weakest: float = 0.0,
) -> Figure:
    """Draw a KAN: inputs at the left, outputs at the right, edges in between.

    The width of an edge is its importance, its colour says whether the function rises (blue) or falls (red) over the
    data. The most important edges carry a small plot of their function, as many as find room. Nodes with a cross are
    products of two sums, whose edges arrive above and below the middle.

    Arguments:
        curves: of `hepkan.interpret.edge_curves`.
        importance: of every edge, `(in, sums)` for each layer, such as the values of `Attribution.edges`; the share in
            the variation of the output when not given. Negative numbers count as zero.
        labels: pretty names of inputs (mathtext).
        outputs: names of the outputs.
        functions: at most so many small plots.
        weakest: edges below this share of the strongest of their layer are left out.

    Raises:
        UsageError: importance or outputs do not fit the curves.
    """
    strengths = output_shares(curves) if importance is None else list(importance)
    if [one.shape for one in strengths] != [layer.std.shape for layer in curves.layers]:
        raise UsageError("importance needs the shape (in, sums) for every layer of the network, however it differs.")
    names = list(outputs) if outputs is not None else _output_names(curves.widths[-1])
    if len(names) != curves.widths[-1]:
        raise UsageError(f"outputs needs {curves.widths[-1]} names, however: {names}.")
    height = max(2.0, ROW * (max(curves.widths) + 1))
    places = [_column(height, number, GAP * layer) for layer, number in enumerate(curves.widths)]
    edges = [edge for edge in _edges(curves, strengths, places) if edge.strength >= weakest]
    width = LABEL + GAP * len(curves.layers) + 0.3 + 0.075 * max(len(name) for name in names)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-LABEL, width - LABEL), ylim=(0, height))
    axes.set_axis_off()
    lines = sorted(edges, key=lambda edge: edge.strength)
    widths = [0.25 + 4.25 * edge.strength for edge in lines]
    colours = [to_rgba(_tint(edge), 0.05 + 0.75 * edge.strength**0.7) for edge in lines]
    bows = [_bezier(edge) for edge in lines]
    axes.add_collection(PathCollection(bows, linewidths=widths, edgecolors=colours, facecolors="none",
                                       capstyle="round", zorder=1))  # fmt: skip
    _plots(axes, _boxes(lines[::-1], height / max(curves.widths), functions))
    _nodes(axes, curves, places)
    for (x, y), name in zip(places[0], curves.inputs, strict=True):
        text = axis_label((labels or {}).get(name, name), "", name)
        axes.text(x - 0.13, y, text, ha="right", va="center", fontsize=9.0, color=INK)
    for (x, y), name in zip(places[-1], names, strict=True):
        axes.text(x + 0.13, y, name, ha="left", va="center", fontsize=9.0, color=INK)
    return figure


def _column(height: float, number: int, x: float) -> list[tuple[float, float]]:
    """Return the places of the nodes of a layer, from the top."""
    step = min(height / (number + 0.5), 4.0 * ROW) if number > 1 else 0.0
    top = 0.5 * height + 0.5 * step * (number - 1)
    return [(x, top - step * place) for place in range(number)]


def _edges(
    curves: EdgeCurves, strengths: Sequence[Floats], places: Sequence[Sequence[tuple[float, float]]]
) -> list[_Edge]:
    """Return all edges; strengths count relative to the largest of their layer."""
    found = []
    for number, (layer, strength) in enumerate(zip(curves.layers, strengths, strict=True)):
        share = np.where(layer.mask, np.maximum(strength, 0.0), 0.0)
        share = share / (share.max() or 1.0)
        owners = sum_owners(layer.std.shape[1], layer.products)
        alone = layer.std.shape[1] - 2 * layer.products
        for i, o in zip(*np.nonzero(layer.mask), strict=True):
            shift = 0.0 if o < alone else 0.045 * (1 - 2 * ((o - alone) % 2))
            x, y = places[number + 1][owners[o]]
            found.append(_Edge(places[number][i], (x, y + shift), layer.x[i], layer.y[i, :, o], float(share[i, o])))
    return found


def _bezier(edge: _Edge) -> Path:
    """Return a line that leaves and arrives horizontally."""
    (x0, y0), (x1, y1) = edge.start, edge.end
    third = (x1 - x0) / 3.0
    return Path([(x0, y0), (x0 + third, y0), (x1 - third, y1), (x1, y1)], [Path.MOVETO, *[Path.CURVE4] * 3])


def _bow(edge: _Edge, points: int) -> Floats:
    """Return points of that line."""
    t = np.linspace(0.0, 1.0, points)
    (x0, y0), (x1, y1) = edge.start, edge.end
    return np.column_stack([x0 + (x1 - x0) * t, y0 + (y1 - y0) * (3 * t**2 - 2 * t**3)])


def _boxes(edges: Sequence[_Edge], room: float, functions: int) -> list[tuple[_Edge, float, float, float]]:
    """Return edges with middle and side of their small plots, which do not overlap; the strongest come first."""
    side = float(np.clip(0.95 * room, 0.2, BOX))
    taken: list[tuple[_Edge, float, float, float]] = []
    leaving, arriving = (Counter(ends) for ends in ([edge.start for edge in edges], [edge.end for edge in edges]))
    for edge in edges:
        if len(taken) >= functions or edge.strength < 0.01:
            break
        line = _bow(edge, 41)
        # Where a node has one line only, its plot stands beside it and belongs to no other.
        alone = NEAR_START if leaving[edge.start] == 1 else NEAR_END if arriving[edge.end] == 1 else ()
        for place in (*alone, *MIDDLE):
            x, y = line[place]
            if all(max(abs(x - one[1]), abs(y - one[2])) > 1.05 * side for one in taken):
                taken.append((edge, float(x), float(y), side))
                break
    return taken


def _plots(axes: object, boxes: Sequence[tuple[_Edge, float, float, float]]) -> None:
    """Draw the small plots: a white square, a zero line and the function."""
    squares, zeros, functions, tints = [], [], [], []
    for edge, x, y, side in boxes:
        half = 0.5 * side
        squares.append([(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)])
        span = max(float(np.abs(edge.y).max()), 1e-300)
        across = (edge.x - edge.x[0]) / (edge.x[-1] - edge.x[0]) - 0.5
        functions.append(np.column_stack([x + 0.86 * side * across, y + 0.42 * side * edge.y / span]))
        zeros.append([(x - 0.43 * side, y), (x + 0.43 * side, y)])
        tints.append(_tint(edge))
    add = axes.add_collection  # type: ignore[attr-defined]
    add(PolyCollection(squares, facecolors="white", edgecolors=tints, linewidths=0.7, zorder=3))
    add(LineCollection(zeros, colors=FAINT, linewidths=0.35, zorder=4))
    add(LineCollection(functions, colors=INK, linewidths=1.1, zorder=5, capstyle="round", joinstyle="round"))


def _nodes(axes: object, curves: EdgeCurves, places: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Draw the nodes: dots, with crosses for products."""
    scatter = axes.scatter  # type: ignore[attr-defined]
    for number, column in enumerate(places):
        products = 0 if number == 0 else curves.layers[number - 1].products
        plain, crossed = column[: len(column) - products], column[len(column) - products :]
        if plain:
            scatter(*zip(*plain, strict=True), s=22, color=INK, zorder=6, linewidths=0)
        if crossed:
            at = list(zip(*crossed, strict=True))
            scatter(*at, s=70, facecolor="white", edgecolor=INK, zorder=6, linewidths=0.9)
            scatter(*at, s=26, marker="x", color=INK, zorder=7, linewidths=1.1)


def _tint(edge: _Edge) -> str:
    """Return the colour of rising or falling functions."""
    return TINTS[0] if edge.y[-1] >= edge.y[0] else TINTS[1]


def _output_names(number: int) -> list[str]:
    """Return names where none are known."""
    return ["output"] if number == 1 else [f"output {place + 1}" for place in range(number)]
