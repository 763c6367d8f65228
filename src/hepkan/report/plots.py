"""Pictures of results: pure functions from numbers to figures, without any global state of pyplot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from hepkan.metrics import calibration as calibration_curve
from hepkan.metrics import ks_weighted
from hepkan.report import statistics
from hepkan.report.across import side_by_side
from hepkan.report.reading import Feature
from hepkan.report.statistics import Values
from hepkan.report.style import (
    BACKGROUND,
    FAINT,
    INK,
    SIGNAL,
    axis_label,
    colour,
    legend_above,
    line,
    panels,
    round_ticks,
    styled,
)
from hepkan.report.words import title

__all__ = ["calibration", "correlations", "history", "inputs", "roc", "scores", "side_by_side"]

PANEL = (3.0, 2.3)


@styled()
def roc(
    curves: Mapping[str, Mapping[str, ArrayLike]],
    reference: str | None = None,
    efficiencies: Sequence[float] = (0.5, 0.7, 0.9),
) -> Figure:
    """Background rejection against signal efficiency, and its ratio to a reference model.

    Arguments:
        curves: for each model `signal_efficiency` and `background_efficiency`.
        reference: model in the denominator; the first one when it is not there.
        efficiencies: marked working points.
    """
    figure = Figure(figsize=(5.6, 5.8))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1), gridspec_kw={"hspace": 0.06})
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.1, top=0.98)
    base = reference if reference is not None and reference in curves else next(iter(curves))
    x = np.linspace(0.02, 1.0, 393)
    below = _rejection(curves[base], x)
    ceiling = 1.0
    for place, (model, curve) in enumerate(curves.items()):
        y = _rejection(curve, x)
        style: dict[str, Any] = {"color": colour(model, place), "linestyle": line(model, place)}
        top.plot(x, y, label=title(model), **style)
        bottom.plot(x, y / below, **style)
        ceiling = max(ceiling, float(np.nanmax(y[x >= 0.15], initial=1.0)))
    for axes in (top, bottom):
        for efficiency in efficiencies:
            axes.axvline(efficiency, color=FAINT, linewidth=0.7, zorder=0)
    top.set(yscale="log", ylim=(1.0, 1.5 * ceiling), xlim=(0.0, 1.0))
    top.set_ylabel("background rejection $1/\\varepsilon_B$")
    top.legend(loc="upper right")
    ratios = [one.get_ydata() for one in bottom.lines[: len(curves)]]
    bottom.set_ylim(*_ratio_range(np.asarray(ratios, dtype=float)[:, x >= 0.2]))
    bottom.set(xlabel="signal efficiency $\\varepsilon_S$", ylabel=f"ratio to {title(base)}")
    bottom.yaxis.label.set_size(9)
    return figure


@styled(9.5, small=True)
def scores(
    test: Mapping[str, Values], train: Mapping[str, Values], model: str, classes: tuple[str, ...]
) -> Figure:
    """Score distributions of one model: test events filled or as steps, training events as points.

    Arguments:
        test: columns `target`, `weight` and the model's score.
        train: the same of training events.
        model: the model.
        classes: names of background and signal.
    """
    figure, (axes,) = panels(1, 1, 3.2, 2.7)
    figure.subplots_adjust(top=1 - 0.42 / 2.7)
    everything = np.concatenate([test[model], train[model]])
    edges = np.linspace(*_range(everything), 31)
    texts = []
    for label, tint in ((0, BACKGROUND), (1, SIGNAL)):
        seen, held = _class(train, model, label), _class(test, model, label)
        held_histogram = statistics.histogram(*held, edges)
        seen_histogram = statistics.histogram(*seen, edges)
        name = classes[label]
        form: dict[str, Any] = {"fill": True, "alpha": 0.35, "linewidth": 0} if label else {}
        axes.stairs(held_histogram.density, edges, color=tint, label=f"{name}, test", **form)
        shown = seen_histogram.density > 0
        axes.errorbar(
            seen_histogram.centres[shown],
            seen_histogram.density[shown],
            seen_histogram.error[shown],
            fmt="o" if label else "s",
            color=tint,
            markersize=2.6,
            linewidth=0.8,
            label=f"{name}, train",
        )
        texts.append(f"{name} {ks_weighted(seen[0], held[0], seen[1], held[1])[0]:.3f}")
    axes.set(yscale="log", xlim=(edges[0], edges[-1]), xlabel="score", ylabel="density")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 1e-4), high * (high / max(low, 1e-4)) ** 0.55)
    axes.legend(
        loc="upper left", ncols=2, fontsize=7.5, handlelength=1.1, columnspacing=0.7, borderaxespad=0.3
    )
    axes.set_title(f"{title(model)}\nKS: {', '.join(texts)}", fontsize=8.5, loc="left")
    return figure


@styled(9.5, small=True)
def inputs(
    features: Sequence[Feature], columns: Mapping[str, Values], classes: tuple[str, ...], across: int = 4
) -> Figure:
    """Distributions of inputs, signal and background where there are classes, each normalised to one.

    Arguments:
        features: the inputs to draw, one panel each.
        columns: their values, `target` and `weight`.
        classes: names of background and signal; none in a regression.
        across: panels side by side.
    """
    figure, axes = panels(len(features), across, *PANEL)
    target, weight = columns["target"], columns["weight"]
    mixture = statistics.balanced(target, weight) if classes else np.abs(weight)
    for one, feature in zip(axes, features, strict=True):
        values = columns[feature.name]
        edges = statistics.edges(values, mixture)
        if not classes:
            part = statistics.histogram(values, weight, edges)
            one.stairs(part.density, edges, fill=True, color=FAINT, alpha=0.5)
            decorate_density(one, feature, edges)
            continue
        for label, tint in ((0, BACKGROUND), (1, SIGNAL)):
            part = statistics.histogram(values[target == label], weight[target == label], edges)
            form: dict[str, Any] = {"fill": True, "alpha": 0.35, "linewidth": 0} if label else {}
            one.stairs(part.density, edges, color=tint, label=classes[label], **form)
            if not label:
                one.errorbar(part.centres, part.density, part.error, fmt="none", color=tint, linewidth=0.9)
        decorate_density(one, feature, edges)
    if classes:
        legend_above(axes[0], 2)
    return figure


def decorate_density(axes: Axes, feature: Feature, edges: Values) -> None:
    """Label a panel whose y axis is a density of a feature."""
    unit = {"": "density", "GeV^0.5": r"density [$1/\sqrt{\mathrm{GeV}}$]"}
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.08 * axes.get_ylim()[1]))
    axes.set_xlabel(axis_label(feature.label, feature.unit, feature.name))
    axes.set_ylabel(unit.get(feature.unit, f"density [1/{feature.unit}]"), fontsize=8.5)
    axes.xaxis.set_major_locator(round_ticks())
    axes.yaxis.set_major_locator(round_ticks(4))


@styled(9.5, small=True)
def history(columns: Mapping[str, Values], model: str) -> Figure:
    """Training and validation loss of one model: the median of its seeds in a band from least to largest.

    Arguments:
        columns: `model`, `seed`, `epoch`, `train_loss`, `validation_loss`.
        model: the model.
    """
    figure, (axes,) = panels(1, 1, *PANEL)
    rows = columns["model"] == model
    epochs = np.unique(columns["epoch"][rows])
    for name, tint, style in (("train_loss", FAINT, "--"), ("validation_loss", INK, "-")):
        per_epoch = [columns[name][rows & (columns["epoch"] == epoch)].astype(float) for epoch in epochs]
        per_epoch = [values[np.isfinite(values)] for values in per_epoch]
        kept = [i for i, values in enumerate(per_epoch) if len(values)]
        if not kept:
            continue
        table = np.array([[v.min(), np.median(v), v.max()] for v in (per_epoch[i] for i in kept)])
        axes.fill_between(epochs[kept], table[:, 0], table[:, 2], color=tint, alpha=0.2, linewidth=0)
        axes.plot(epochs[kept], table[:, 1], style, color=tint, label=name.removesuffix("_loss"))
    axes.set(xlabel="epoch" if model != "bdt" else "tree", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    seeds = len(np.unique(columns["seed"][rows]))
    axes.set_title(f"{title(model)}, {seeds} seed{'s' if seeds != 1 else ''}", fontsize=9, loc="left")
    if axes.lines:
        axes.legend(fontsize=8)
    return figure


@styled()
def calibration(columns: Mapping[str, Values], models: Sequence[str], balance: bool = True) -> Figure:
    """Fraction of signal against score, with the weights of the classes as in training.

    Arguments:
        columns: `target`, `weight` and one score in [0, 1] per model.
        models: the models to draw.
        balance: whether both classes have the same total weight.
    """
    figure, (axes,) = panels(1, 1, 5.0, 4.4)
    figure.subplots_adjust(right=0.96, bottom=0.13)
    axes.tick_params(pad=6)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9)
    weight = statistics.balanced(columns["target"], columns["weight"]) if balance else np.abs(columns["weight"])
    for place, model in enumerate(models):
        curve = calibration_curve(columns["target"], columns[model], weight)
        style: dict[str, Any] = {"color": colour(model, place), "linestyle": line(model, place)}
        axes.errorbar(
            curve.predicted,
            curve.observed,
            curve.error,
            marker="o",
            markersize=3.5,
            elinewidth=0.9,
            label=title(model),
            **style,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="fraction of signal")
    axes.legend(loc="upper left")
    return figure


@styled(9.5, small=True)
def correlations(X: Values, weight: Values, features: Sequence[Feature], name: str) -> Figure:
    """Correlation matrix of the inputs of one class."""
    matrix = statistics.correlation(X, weight)
    size = 1.7 + 0.17 * len(features)
    figure = Figure(figsize=(size + 0.6, size))
    axes = figure.add_axes((1.3 / (size + 0.6), 1.1 / size, (size - 1.5) / (size + 0.6), (size - 1.5) / size))
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    labels = [axis_label(one.label, "", one.name) for one in features]
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=7.5)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    axes.set_title(name, loc="left")
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("correlation")
    return figure


def _class(columns: Mapping[str, Values], model: str, label: int) -> tuple[Values, Values]:
    """Return scores and weights of one class."""
    rows = columns["target"] == label
    return columns[model][rows], columns["weight"][rows]


def _range(values: Values) -> tuple[float, float]:
    """Return the ends of scores: [0, 1] for probabilities."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1.0


def _rejection(curve: Mapping[str, ArrayLike], x: Values) -> Values:
    """Return 1/background efficiency at signal efficiencies; NaN where no background is left."""
    signal = np.asarray(curve["signal_efficiency"], dtype=float)
    background = np.asarray(curve["background_efficiency"], dtype=float)
    order = np.lexsort((background, signal))
    y = np.interp(x, signal[order], background[order], left=np.nan)
    rejection: Values = np.divide(1.0, y, out=np.full_like(y, np.nan), where=y > 0)
    return rejection


def _ratio_range(ratios: Values) -> tuple[float, float]:
    """Return limits of a ratio panel around one."""
    finite = ratios[np.isfinite(ratios)]
    if not len(finite):
        return 0.5, 1.5
    low, high = float(finite.min()), float(finite.max())
    margin = max(0.05, 0.08 * (high - low))
    return max(0.0, min(low, 1.0) - margin), min(max(high, 1.0) + margin, 3.0)
