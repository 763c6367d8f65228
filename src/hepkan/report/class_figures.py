"""The pictures of a classification into more than two classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hepkan.metrics import auc, ks_weighted, roc_curve
from hepkan.metrics import calibration as calibration_curve
from hepkan.report import edges, plots, statistics
from hepkan.report.permutation import permutation_section
from hepkan.report.reading import Columns, Feature, Run
from hepkan.report.sections import (
    Picture,
    Section,
    draw,
    edge_section,
    folded,
    history_section,
    importance_section,
    learned_by,
    scored,
)
from hepkan.report.statistics import Floats, Values
from hepkan.report.style import FAINT, LINES, PALETTE, axis_label, colour, line, panels, styled
from hepkan.report.words import title

SHOWN_INPUTS = 8
CURVE = 400
"""Points of a ROC curve."""


def sections(run: Run) -> Iterator[Section]:
    """Make everything that a classification into several classes has data for."""
    yield input_section(run)
    yield correlation_section(run)
    models = scored(run)
    if models:
        yield roc_section(run, models)
        yield confusion_section(run, models)
        yield score_section(run, models)
        yield calibration_section(run)
    yield history_section(run)
    data = edges.data_of(run)
    learned = learned_by(run, data)
    for model, found in learned.items():
        yield edge_section(model, found, data)
    if learned:
        yield importance_section(learned, run.features)
    lost = permutation_section(run)
    if lost is not None:
        yield lost


def roc_section(run: Run, models: Sequence[str]) -> Section:
    """One class against the rest."""
    pictures: list[Picture] = []
    for k, name in enumerate(run.classes):
        alt = f"Rejection of the other classes against the efficiency for {name}, of {', '.join(map(title, models))}."
        pictures.append(draw(f"roc-{name}", partial(one_against_rest, run.test, models, k, name), alt))
    text = (
        "One over the efficiency for all other classes together, by their weights, against the efficiency for one "
        "class, in the score of that class (seed 0)."
    )
    return Section("roc", "One class against the rest", text, pictures)


@styled(9.5, small=True)
def one_against_rest(columns: Columns, models: Sequence[str], k: int, name: str) -> Figure:
    """Rejection of the others against the efficiency for class `k`."""
    figure, (axes,) = panels(1, 1, 3.6, 3.2)
    label = (columns["target"] == k).astype(np.int64)
    x = np.linspace(0.02, 1.0, CURVE)
    for place, model in enumerate(models):
        score = columns[model][:, k]
        background, signal = roc_curve(label, score, columns["weight"])
        left = np.interp(x, np.maximum.accumulate(signal), background)
        value = np.divide(1.0, left, out=np.full(CURVE, np.nan), where=left > 0)
        area = auc(label, score, columns["weight"])
        style: dict[str, Any] = {"color": colour(model, place), "linestyle": line(model, place)}
        axes.plot(x, value, label=f"{title(model)} {area:.4f}", **style)
    axes.set(yscale="log", xlim=(0, 1), xlabel=f"efficiency for {name}", ylabel="rejection of the others")
    axes.set_title(f"{name}: AUC", loc="right", fontsize=8.5)
    axes.legend(fontsize=7.5)
    return figure


def confusion_section(run: Run, models: Sequence[str]) -> Section:
    """Which class is taken for which."""
    pictures: list[Picture] = []
    for model in models:
        matrix = confusion(run.test["target"], run.test[model], run.test["weight"])
        alt = f"Confusion matrix of the {title(model)}."
        pictures.append(draw(f"confusion-{model}", partial(confusion_matrix, matrix, run.classes, title(model)), alt))
    text = (
        "Events of each class (lines, by weight) that have their highest score in each class (columns), in per cent of "
        "the line (seed 0). Training balances the classes, so the highest score is the likeliest class where all are "
        "equally frequent."
    )
    return folded(Section("confusion", "Which class is taken for which", text, pictures), 3)


def confusion(target: Values, score: Values, weight: Values) -> Floats:
    """Return the share of each class that has its highest score in each; `(K, K)`, lines add up to one."""
    classes = score.shape[1]
    place = target.astype(np.int64) * classes + score.argmax(axis=1)
    sums = np.bincount(place, weights=np.abs(weight), minlength=classes * classes).reshape(classes, classes)
    total = sums.sum(axis=1, keepdims=True)
    result: Floats = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    return result


@styled(9.5, small=True)
def confusion_matrix(matrix: Floats, names: Sequence[str], heading: str) -> Figure:
    """Draw a confusion matrix with its numbers."""
    size = 1.5 + 0.62 * len(names)
    figure = Figure(figsize=(size + 0.4, size))
    axes = figure.add_axes((1.15 / (size + 0.4), 0.8 / size, (size - 1.2) / (size + 0.4), (size - 1.2) / size))
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            tint = "white" if value > 0.55 else "black"
            axes.text(j, i, f"{100 * value:.1f}", ha="center", va="center", color=tint, fontsize=8.5)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    axes.set(xlabel="highest score", ylabel="class")
    axes.set_title(f"{heading} [%]", loc="left")
    return figure


def score_section(run: Run, models: Sequence[str]) -> Section:
    """Scores of training and test events by class."""
    pictures: list[Picture] = []
    for model in models:
        for k, name in enumerate(run.classes):
            alt = f"Score for {name} of the {title(model)}, training and test events by class."
            figure = partial(scores, run.test, run.train, model, k, run.classes)
            pictures.append(draw(f"scores-{model}-{name}", figure, alt))
    text = (
        "Scores of each class by true class: test events as lines, training events as points (seed 0). KS is the "
        "largest distance between the distribution functions of training and test events of the class of the score."
    )
    return folded(Section("scores", "Scores", text, pictures), len(run.classes))


@styled(9.5, small=True)
def scores(test: Columns, train: Columns, model: str, k: int, names: Sequence[str]) -> Figure:
    """The score of class `k` for the events of every class."""
    figure, (axes,) = panels(1, 1, 3.6, 3.0)
    bins = np.linspace(0.0, 1.0, 26)
    parts = []
    for label, name in enumerate(names):
        held, seen = (_of_class(columns, model, k, label) for columns in (test, train))
        tint, style = PALETTE[label % len(PALETTE)], LINES[label % len(LINES)]
        axes.stairs(statistics.histogram(*held, bins).density, bins, color=tint, linestyle=style, label=name)
        points = statistics.histogram(*seen, bins)
        shown = points.density > 0
        form: dict[str, Any] = {"fmt": "o", "markersize": 2.2, "linewidth": 0.7, "color": tint}
        axes.errorbar(points.centres[shown], points.density[shown], points.error[shown], **form)
        if label == k:
            parts.append(f"KS {ks_weighted(seen[0], held[0], seen[1], held[1])[0]:.3f}")
    axes.set(yscale="log", xlim=(0, 1), xlabel=f"score for {names[k]}", ylabel="density")
    axes.set_ylim(bottom=1e-3)
    axes.set_title(f"{title(model)}, {', '.join(parts)}", fontsize=8.5, loc="left")
    axes.legend(fontsize=7.5, loc="upper center")
    return figure


def _of_class(columns: Columns, model: str, k: int, label: int) -> tuple[Values, Values]:
    """Return the scores for class `k` and the weights of the events of a class."""
    rows = columns["target"] == label
    return columns[model][rows, k], columns["weight"][rows]


def calibration_section(run: Run) -> Section:
    """Reliability of the scores of the main model."""
    model = run.main if run.main in scored(run) else scored(run)[0]
    balance = bool(run.card.get("class_balance", True))
    figure = partial(calibration, run.test, model, run.classes, balance)
    alt = f"Fraction of each class against its score, {title(model)}."
    weights = "Classes have the same total weight here" if balance else "Classes have their own weights here"
    text = f"Does a score of the {title(model)} mean a probability? On the diagonal it does. {weights}, as in training."
    return Section("calibration", "Calibration", text, [draw("calibration", figure, alt)])


@styled()
def calibration(columns: Columns, model: str, names: Sequence[str], balance: bool) -> Figure:
    """Fraction of each class against its score."""
    figure, (axes,) = panels(1, 1, 5.0, 4.4)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9)
    target, weight = columns["target"], np.abs(columns["weight"])
    weight = statistics.balanced(target, weight) if balance else weight
    for k, name in enumerate(names):
        curve = calibration_curve((target == k).astype(np.int64), columns[model][:, k].clip(0, 1), weight)
        style: dict[str, Any] = {"color": PALETTE[k % len(PALETTE)], "linestyle": LINES[k % len(LINES)], "label": name}
        axes.errorbar(curve.predicted, curve.observed, curve.error, marker="o", markersize=3.5, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score of the class", ylabel="fraction of the class")
    axes.legend(loc="upper left")
    return figure


def input_section(run: Run) -> Section:
    """Distributions of the inputs in every class."""
    pictures: list[Picture] = []
    for feature in run.features:
        alt = f"Distribution of {feature.name} in every class."
        columns = {name: run.inputs[name] for name in (feature.name, "target", "weight")}
        pictures.append(draw(f"input-{feature.name}", partial(inputs, feature, columns, run.classes), alt))
    text = "Weighted test events, each class normalised to one, in the order of the card."
    return folded(Section("inputs", "Inputs", text, pictures), SHOWN_INPUTS)


@styled(9.5, small=True)
def inputs(feature: Feature, columns: Columns, names: Sequence[str]) -> Figure:
    """One input in every class."""
    figure, (axes,) = panels(1, 1, *plots.PANEL)
    values, target, weight = columns[feature.name], columns["target"], columns["weight"]
    bins = statistics.edges(values, statistics.balanced(target, weight))
    for k, name in enumerate(names):
        rows = target == k
        part = statistics.histogram(values[rows], weight[rows], bins)
        style: dict[str, Any] = {"color": PALETTE[k % len(PALETTE)], "linestyle": LINES[k % len(LINES)], "label": name}
        axes.stairs(part.density, bins, **style)
    axes.set(xlabel=axis_label(feature.label, feature.unit, feature.name), ylabel="density")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=6.5)
    return figure


def correlation_section(run: Run) -> Section:
    """Correlations of the inputs in each class."""
    X = np.column_stack([run.inputs[one.name] for one in run.features]).astype(np.float64)
    pictures: list[Picture] = []
    for k, name in enumerate(run.classes):
        rows = run.inputs["target"] == k
        if not rows.any():
            continue
        figure = partial(plots.correlations, X[rows], run.inputs["weight"][rows], run.features, name)
        pictures.append(draw(f"correlation-{name}", figure, f"Correlation matrix of the inputs, {name}."))
    heading = "Correlation matrices of the inputs"
    return Section("correlations", "Correlations", "Linear correlations, weighted.", [], pictures, heading)
