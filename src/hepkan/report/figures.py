"""The pictures of a run's page, each with its alternative text and caption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from hepkan.report import class_figures, edge_plots, edges, plots, regression_figures, statistics
from hepkan.report.edges import Data, Edges
from hepkan.report.explained import explained
from hepkan.report.permutation import permutation_section
from hepkan.report.reading import Feature, Run
from hepkan.report.sections import (
    MOST_EDGES,
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
from hepkan.report.selection_figures import rejection_table, significance_section
from hepkan.report.words import title

__all__ = ["in_order", "sections"]

SHOWN_INPUTS = 8
ORDER = (
    *("roc", "confusion", "targets", "performance", "response", "residuals", "derived", "coverage", "edges"),
    *("importance", "permutation", "scores", "significance", "calibration", "history", "inputs", "correlations"),
    *("network", "pruned", "formula"),
)
"""How sections follow each other on a page, by the first word of their anchors."""


def sections(run: Run) -> Iterator[Section]:
    """Make everything that a run has data for: first what needs no network, so that it can be drawn meanwhile."""
    if run.targets:
        yield from regression_figures.sections(run)
    else:
        yield from class_figures.sections(run) if len(run.classes) > 2 else classification(run)
    yield from explained(run)


def in_order(sections: Iterable[Section]) -> list[Section]:
    """Return sections in the order of a page."""
    return sorted(sections, key=lambda one: ORDER.index(one.anchor.partition("-")[0]))


def classification(run: Run) -> Iterator[Section]:
    """Make everything that a classification has data for."""
    yield input_section(run)
    yield correlation_section(run)
    if run.report.get("roc"):
        yield roc_section(run)
    yield score_section(run)
    if any(row["metric"] == "asimov_z" for row in run.report["rows"]) and scored(run):
        yield significance_section(run)
    if any(_is_probability(run.test[model]) for model in scored(run)):
        yield calibration_section(run)
    yield history_section(run)
    data = edges.data_of(run)
    learned = learned_by(run, data)
    for model, found in learned.items():
        yield ratio_section(model, found, data) if found.layers == 1 else edge_section(model, found, data)
    if learned:
        yield importance_section(learned, run.features)
    lost = permutation_section(run)
    if lost is not None:
        yield lost


def roc_section(run: Run) -> Section:
    """Rejection against efficiency."""
    reference = str(run.card.get("reference") or "")
    points = run.card.get("efficiencies") or (0.5, 0.7, 0.9)
    figure = partial(plots.roc, run.report["roc"], reference, points)
    names = ", ".join(title(model) for model in run.report["roc"])
    alt = f"Background rejection against signal efficiency of {names}; below, the ratio to a reference model."
    text = (
        "One over the efficiency of the background against the efficiency of the signal; mean over seeds. "
        "Below: the ratio to the reference model. Grey lines: the working points of the table."
    )
    return Section("roc", "Rejection", text, [draw("roc", figure, alt)], tables=[rejection_table(run)])


def ratio_section(model: str, found: Edges, data: Data) -> Section:
    """Functions of a one-layer network beside likelihood ratios."""
    name = title(model)
    pictures: list[Picture] = []
    for place in found.order[:MOST_EDGES]:
        feature = data.features[place].name
        alt = f"Function of {feature} learned by the {name}, beside the log likelihood ratio of that input."
        pictures.append(draw(f"ratio-{model}-{feature}", partial(edge_plots.ratio_panel, found, data, place), alt))
    count = len(found.phi)
    seeds = f"mean of {count} seeds with their standard deviation as a band" if count > 1 else "one seed"
    text = (
        f"The {name} is a sum of one function per input, so each is a term of its log odds. Line: the "
        f"function, {seeds}. Points: the log likelihood ratio of the input alone, from histograms of test "
        "events. Both are centred. Where inputs are independent the two agree; where they are correlated "
        "the network shares the evidence among them (arXiv:2408.02743). Panels by falling "
        f"importance (at most {MOST_EDGES}); at the bottom of each the data, {data.classes[1]} filled and "
        f"{data.classes[0]} as a line."
    )
    return Section(f"edges-{model}", f"What the {name} learned: log likelihood ratios", text, pictures)


def score_section(run: Run) -> Section:
    """Scores of training and test events."""
    pictures: list[Picture] = []
    for model in scored(run):
        columns = (model, "target", "weight")
        test, train = ({name: part[name] for name in columns} for part in (run.test, run.train))
        figure = partial(plots.scores, test, train, model, run.classes)
        classes = " and ".join(run.classes)
        alt = f"Score of the {title(model)} for {classes}, training and test events."
        pictures.append(draw(f"scores-{model}", figure, alt))
    text = (
        "Test events as areas and lines, training events as points (seed 0). KS is the largest distance "
        "between the distribution functions of training and test events of a class. Overfitting makes it large, "
        "and so do few independent events: compare with the model that has the fewest parameters."
    )
    return Section("scores", "Scores", text, pictures)


def calibration_section(run: Run) -> Section:
    """Reliability of the scores."""
    models = [model for model in scored(run) if _is_probability(run.test[model])]
    alt = f"Fraction of {run.classes[1]} against score of {', '.join(map(title, models))}."
    balance = bool(run.card.get("class_balance", True))
    weights = "Both classes have the same total weight here" if balance else "The classes have their own weights here"
    text = f"Does a score mean a probability? On the diagonal it does. {weights}, as in training (seed 0)."
    figure = partial(plots.calibration, run.test, models, balance)
    return Section("calibration", "Calibration", text, [draw("calibration", figure, alt)])


def input_section(run: Run) -> Section:
    """Distributions of the inputs, by separation."""
    target, weight = run.inputs["target"], run.inputs["weight"]
    mixture = statistics.balanced(target, weight)

    def rank(feature: Feature) -> float:
        values = run.inputs[feature.name]
        bins = statistics.edges(values, mixture, bins=30)
        parts = [statistics.histogram(values[target == one], weight[target == one], bins) for one in (1, 0)]
        return -statistics.separation(*parts)

    pictures: list[Picture] = []
    for feature in sorted(run.features, key=rank):
        alt = f"Distribution of {feature.name} for {run.classes[1]} and {run.classes[0]}."
        columns = {name: run.inputs[name] for name in (feature.name, "target", "weight")}
        figure = partial(plots.inputs, [feature], columns, run.classes)
        pictures.append(draw(f"input-{feature.name}", figure, alt))
    text = (
        f"Weighted test events, each class normalised to one; {run.classes[1]} filled, {run.classes[0]} "
        "with statistical errors. Sorted by how much each input separates the classes by itself."
    )
    return folded(Section("inputs", "Inputs", text, pictures), SHOWN_INPUTS)


def correlation_section(run: Run) -> Section:
    """Correlations of the inputs in each class."""
    X = np.column_stack([run.inputs[one.name] for one in run.features]).astype(np.float64)
    pictures: list[Picture] = []
    for label in (1, 0):
        rows = run.inputs["target"] == label
        name = run.classes[label]
        figure = partial(plots.correlations, X[rows], run.inputs["weight"][rows], run.features, name)
        pictures.append(draw(f"correlation-{name}", figure, f"Correlation matrix of the inputs, {name}."))
    heading = "Correlation matrices of the inputs"
    return Section("correlations", "Correlations", "Linear correlations, weighted.", [], pictures, heading)


def _is_probability(score: np.ndarray) -> bool:
    return bool(score.min() >= 0 and score.max() <= 1)
