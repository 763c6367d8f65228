"""What a network learned: the functions on its first edges, beside the data they act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepkan.errors import DataError
from hepkan.report import statistics
from hepkan.report.reading import Feature, Run
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

if TYPE_CHECKING:
    from hepkan.nn import KAN

Floats = NDArray[np.float64]
POINTS = 121
EVENTS = 4000
PANEL = (3.0, 2.3)


@dataclass(frozen=True)
class Data:
    """Events behind the pictures.

    Attributes:
        features: the inputs, in the network's order.
        X: their raw values, `(n, features)`.
        target: 1 signal, 0 background, `(n,)`.
        weight: not negative, both classes with the same sum as in training, `(n,)`.
        classes: names of background and signal.
    """

    features: tuple[Feature, ...]
    X: Floats
    target: NDArray[Any]
    weight: Floats
    classes: tuple[str, str]


@dataclass(frozen=True)
class Edges:
    """First-layer functions of the members of one model, centred on the data.

    Attributes:
        x: raw values at which they are known, `(points, features)`.
        phi: the functions of each member, `(members, points, features, nodes)`.
        importance: share of each edge in the output, `(members, features, nodes)`, adding up to 1.
        layers: number of layers of the network.
    """

    x: Floats
    phi: Floats
    importance: Floats
    layers: int

    @property
    def order(self) -> list[int]:
        """Features by falling importance, the members' mean."""
        total = self.importance.sum(axis=2).mean(axis=0)
        return [int(i) for i in np.argsort(-total, kind="stable")]


def data_of(run: Run) -> Data:
    """Return the events of `inputs.parquet` with balanced classes."""
    X = np.column_stack([run.inputs[one.name] for one in run.features]).astype(np.float64)
    target = run.inputs["target"]
    weight = statistics.balanced(target, run.inputs["weight"])
    return Data(run.features, X, target, weight, run.classes)


def load_kans(files: Mapping[int, Path], features: int) -> list[KAN]:
    """Return the KANs among model files, by seed; other networks have no edge functions.

    Raises:
        DataError: a file is damaged, or has another number of inputs than the run.
    """
    from hepkan.model_io import load, read_metadata
    from hepkan.nn import KAN

    found = []
    for _, path in sorted(files.items()):
        if read_metadata(path)["class"] != "KAN":
            continue
        model = load(path)
        if not isinstance(model, KAN) or model.widths[0] != features:
            raise DataError(
                f"{path} must have the {features} inputs of its run, however it has {model.widths[0]}."
            )
        found.append(model)
    return found


def edges_of(models: Sequence[KAN], data: Data) -> Edges:
    """Evaluate the first layer of every member over the central 99 % of each feature."""
    columns = [_grid(data.X[:, i], data.weight) for i in range(data.X.shape[1])]
    x = np.column_stack(columns)
    sample = _sample(data)
    phi, importance = [], []
    for model in models:
        values, centre = _first_layer(model, x), _first_layer(model, sample).mean(axis=0)
        phi.append(values - centre)
        importance.append(edge_importance(model, sample))
    return Edges(x, np.stack(phi), np.stack(importance), len(models[0].layers))


def edge_importance(model: KAN, x: Floats) -> Floats:
    r"""Return the share of every first-layer edge in the variation of the output, `(features, nodes)`.

    The score of a node is handed back to its edges in proportion to the deviation of their functions over the
    data, :math:`A_{l-1,i} = \sum_j A_{l,j} \sigma_{ij} / \sum_i \sigma_{ij}`, and adds up to one.

    References:
        "KAN 2.0: Kolmogorov-Arnold Networks Meet Science" (Liu et al., 2024), arXiv:2408.10205.
    """
    import torch

    deviations = []
    with torch.no_grad():
        z = model.input_map(torch.as_tensor(x, dtype=torch.float32))
        for layer in model.layers:
            deviations.append(layer.edge_functions(z).std(dim=0).double().numpy())  # type: ignore[operator]
            z = layer(z)
    score = np.full(deviations[-1].shape[1], 1.0 / deviations[-1].shape[1])
    shares = np.zeros_like(deviations[0])
    for deviation in reversed(deviations):
        total = deviation.sum(axis=0)
        shares = deviation * np.divide(score, total, out=np.zeros_like(total), where=total > 0)
        score = shares.sum(axis=1)
    return np.asarray(shares)


@styled(9.5, small=True)
def edge_panel(edges: Edges, data: Data, place: int) -> Figure:
    """All edges of one input in the first member: the three strongest named, the data's density below."""
    figure, (axes,) = panels(1, 1, *PANEL)
    strength = edges.importance[0, place]
    strongest = [int(i) for i in np.argsort(-strength, kind="stable")[:3]]
    for node in range(strength.size):
        if node not in strongest:
            axes.plot(edges.x[:, place], edges.phi[0, :, place, node], color=FAINT, linewidth=0.6, alpha=0.6)
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


def likelihood_ratio(data: Data, place: int, bins: int = 24) -> tuple[Floats, Floats, Floats]:
    """Return position, centred log p(x|S)/p(x|B) and its error in bins of equal weight of one input."""
    values = data.X[:, place]
    edges = statistics.edges(values, data.weight)
    if len(edges) > bins:
        levels = np.linspace(0.005, 0.995, bins + 1)
        edges = np.unique(statistics.quantile(values, data.weight, levels))
    parts = [np.column_stack([values, data.weight])[data.target == label] for label in (1, 0)]
    ratio, error = statistics.log_ratio(parts[0], parts[1], edges)
    mass, _ = np.histogram(values, edges, weights=data.weight)
    first, _ = np.histogram(values, edges, weights=data.weight * values)
    kept = np.isfinite(ratio) & (mass > 0)
    if not kept.any():
        return np.zeros(0), np.zeros(0), np.zeros(0)
    ratio = ratio - np.average(ratio[kept], weights=mass[kept])
    return first[kept] / mass[kept], ratio[kept], error[kept]


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
    below = axes.twinx()
    peak = 0.0
    for label, tint in ((0, BACKGROUND), (1, SIGNAL)):
        rows = data.target == label
        part = statistics.histogram(values[rows], data.weight[rows], bins)
        filled: dict[str, Any] = (
            {"fill": True, "alpha": 0.35, "linewidth": 0} if label else {"linewidth": 0.9}
        )
        below.stairs(part.density, bins, color=tint, **filled)
        peak = max(peak, float(part.density.max()))
    below.set(ylim=(0, 4.5 * (peak or 1.0)), yticks=[])
    below.minorticks_off()
    below.set_zorder(axes.get_zorder() - 1)
    axes.patch.set_visible(False)
    feature = data.features[place]
    axes.set_xlim(min(bins[0], edges.x[0, place]), max(bins[-1], edges.x[-1, place]))
    axes.set_xlabel(axis_label(feature.label, feature.unit, feature.name))
    axes.xaxis.set_major_locator(round_ticks())
    axes.yaxis.set_major_locator(round_ticks())


def _grid(values: Floats, weight: Floats) -> Floats:
    """Return increasing points over the central 99 % of a feature."""
    low, high = statistics.quantile(values, weight, np.array([0.005, 0.995]))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, POINTS)


def _sample(data: Data) -> Floats:
    """Return events drawn in proportion to their weights, the same every time."""
    mass = np.cumsum(data.weight)
    levels = (np.arange(EVENTS) + 0.5) / EVENTS * mass[-1]
    rows = np.searchsorted(mass, levels).clip(max=len(mass) - 1)
    return np.asarray(data.X[rows])


def _first_layer(model: KAN, x: Floats) -> Floats:
    """Return the first layer's functions at raw values, `(points, features, nodes)`."""
    import torch

    with torch.no_grad():
        z = model.input_map(torch.as_tensor(x, dtype=torch.float32))
        values = model.layers[0].edge_functions(z)  # type: ignore[operator]
        if len(model.layers) == 1:
            values = values * model.output_map.scale
    return np.asarray(values.double().numpy())


def _ratio_name(data: Data) -> str:
    """Return the name of the likelihood ratio."""
    return f"log p(x|{data.classes[1]})/p(x|{data.classes[0]})"
