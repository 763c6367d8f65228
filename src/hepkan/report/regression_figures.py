"""The pictures and tables of a regression's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.colors import LogNorm

from hepkan.report import edge_plots, edges, plots, residual_plots, statistics, tables
from hepkan.report.edges import Data, Edges
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
from hepkan.report.statistics import Floats
from hepkan.report.style import axis_label
from hepkan.report.words import title

BINS = 48
SLICES = 12
SHOWN_INPUTS = 8
DISTINCT = 0.02
"""Outputs have shares of their own when those of an input differ by this much."""


def sections(run: Run) -> Iterator[Section]:
    """Make everything that a regression has data for."""
    yield target_section(run)
    yield performance_section(run)
    yield response_section(run)
    yield residual_section(run)
    if run.report.get("derived"):
        text = (
            "What follows from the reconstructed momenta together with the visible ones, which are the same in truth "
            "and reconstruction here. Differences of angles are taken modulo a full turn. What is best component by "
            "component need not be best here: it shrinks towards the middle of what is possible."
        )
        yield Section("derived", "Derived quantities", text, [], tables=[tables.derived(run)])
    if run.report.get("conditional"):
        yield coverage_section(run)
    data = edges.data_of(run)
    yield replace(history_section(run), tables=[tables.overfitting(run, scored(run))])
    yield input_section(run, data)
    yield correlation_section(run, data)
    learned = learned_by(run, data)
    for model, found in learned.items():
        yield output_section(model, found, data) if found.layers == 1 else edge_section(model, found, data)
    if learned:
        yield importance_by_target(run, learned)


def target_section(run: Run) -> Section:
    """Mean absolute error of each target, and its ratio to that of the reference model."""
    models = _single(run)
    rows = {(row["model"], row["metric"]): row for row in run.report["rows"]}
    scale = np.array([1.0, *(target.scale for target in run.targets)])
    metrics = ["mae", *(f"mae_{target.name}" for target in run.targets)]
    names = ["all targets", *_labels(run.targets)]

    def column(model: str, key: str) -> Floats:
        found = [rows.get((model, metric), {}).get(key) for metric in metrics]
        numbers: Floats = np.array([np.nan if value is None else value for value in found], dtype=np.float64)
        return np.asarray(numbers / scale)

    values = {model: column(model, "value") for model in models}
    errors = {model: column(model, "error") for model in models}
    text = "mean absolute error [standard deviations of the target]"
    alt = f"Mean absolute error of each target, of {', '.join(map(title, models))}."
    figure = partial(residual_plots.by_target, values, errors, names, text)
    pictures: list[Picture] = [draw("targets", figure, alt)]
    ratios = _ratios(run, metrics, values[run.reference] * scale)
    if len(ratios) > 1:
        name = title(run.reference)
        figure = partial(
            residual_plots.by_target,
            {model: 100 * one[:, 0] for model, one in ratios.items()},
            {model: 100 * one[:, 1] for model, one in ratios.items()},
            names,
            f"change of the mean absolute error from the {name} [%]",
            zero=True,
        )
        pictures.append(draw("targets-ratio", figure, f"The same as a change from the {name}, in percent."))
    words = (
        "Mean absolute error, mean over seeds, with errors from seeds and test events."
        + (
            f" Second picture: the change from the {title(run.reference)}; less is better. Its errors are those of "
            "paired differences and are smaller, because all models are judged on the same events; arrows point to "
            "values beyond the axis."
            if len(ratios) > 1
            else ""
        )
    )
    return Section("targets", "Error of each target", words, pictures)


def performance_section(run: Run) -> Section:
    """Reconstructed against true values: of the main model, and folded away of the others."""
    models = scored(run)
    weight = run.test["weight"] / np.mean(np.abs(run.test["weight"]))
    pictures: dict[str, list[Picture]] = {model: [] for model in models}
    for place, target in enumerate(run.targets):
        truth = run.test["target"][:, place]
        bins = np.linspace(*statistics.span(truth, weight), BINS + 1)
        levels = statistics.slices(truth, weight, (bins[0], bins[-1]), SLICES)
        counts = {m: np.histogram2d(truth, run.test[m][:, place], [bins, bins], weights=weight)[0] for m in models}
        highest = max(float(one.max()) for one in counts.values())
        norm = LogNorm(min(1.0, 0.1 * highest) or 0.1, max(highest, 1.0) or 1.0)
        for model in models:
            middle = _medians(truth, run.test[model][:, place], weight, levels)
            figure = partial(residual_plots.true_reconstructed, counts[model], bins, middle, target, model, norm)
            alt = f"Reconstructed against true {target.name}, {title(model)}."
            pictures[model].append(draw(f"true-{model}-{target.name}", figure, alt))
    main = run.main if run.main in models else models[0]
    text = (
        f"Reconstructed against true values of the test events, {title(main)} (seed 0). Colour: events per bin, "
        "logarithmic; axes and colours of a target are the same for all models and span 1 to 99 % of the true values. "
        "Line: the diagonal, where a perfect reconstruction would be. Points: median of the reconstructed values in "
        "bins of the true value, flatter than the diagonal where the event does not tell the target."
    )
    more = [plot for model in models if model != main for plot in pictures[model]]
    heading = "The same of " + ", ".join(title(model) for model in models if model != main)
    return Section("performance", "Reconstructed against true", text, pictures[main], more, heading)


def response_section(run: Run) -> Section:
    """Mean and central 68 % of the residuals in bins of the true value."""
    models, weight = scored(run), run.test["weight"]
    pictures: list[Picture] = []
    for place, target in enumerate(run.targets):
        truth = run.test["target"][:, place]
        bins = statistics.slices(truth, weight, statistics.span(truth, weight), SLICES)
        profiles = {m: statistics.profile(truth, run.test[m][:, place] - truth, weight, bins) for m in models}
        alt = f"Mean and central 68 % of the residuals of {target.name} in bins of its true value, all models."
        figure = partial(residual_plots.response, profiles, target, run.main)
        pictures.append(draw(f"response-{target.name}", figure, alt))
    text = (
        "Residual (prediction minus truth) in bins of the true value with equal numbers of events (seed 0). Top: its "
        f"mean, with statistical errors; band: the central 68 % of the {title(run.main)}. Bottom: half of the central "
        "68 %. A constant guess has a slope of −1 and no width; a perfect reconstruction is zero in both."
    )
    return Section("response", "Response against truth", text, pictures)


def residual_section(run: Run) -> Section:
    """Distributions of the residuals."""
    models, weight = scored(run), run.test["weight"]
    pictures: list[Picture] = []
    for place, target in enumerate(run.targets):
        found = {model: run.test[model][:, place] - run.test["target"][:, place] for model in models}
        spans = np.array([statistics.span(one, weight) for one in found.values()])
        bins = np.linspace(spans[:, 0].min(), spans[:, 1].max(), BINS + 1)
        densities = {model: statistics.histogram(one, weight, bins).density for model, one in found.items()}
        alt = f"Distribution of the residuals of {target.name}, all models."
        figure = partial(residual_plots.residual_densities, densities, bins, target)
        pictures.append(draw(f"residual-{target.name}", figure, alt))
    text = "Prediction minus truth of the test events (seed 0), 1 to 99 %. Each area is one over all events."
    return Section("residuals", "Residuals", text, pictures)


def coverage_section(run: Run) -> Section:
    """Calibration of conditional distributions."""
    found = run.report["conditional"]
    alt = f"Share of true values inside central intervals against their level, of {', '.join(map(title, found))}."
    text = (
        "Does the conditional distribution of a model mean what it says? A central interval at level 0.68 should hold "
        "68 % of the true values: on the diagonal it does; below it the model is too sure."
    )
    return Section("coverage", "Calibration", text, [draw("coverage", partial(residual_plots.coverage, found), alt)])


def output_section(model: str, found: Edges, data: Data) -> Section:
    """Functions of a one-layer network: one per input and output."""
    name = title(model)
    pictures: list[Picture] = []
    for place in found.order[:MOST_EDGES]:
        feature = data.features[place].name
        alt = f"Functions of {feature} that the {name} adds to each of its outputs."
        pictures.append(draw(f"edges-{model}-{feature}", partial(edge_plots.output_panel, found, data, place), alt))
    text = (
        f"Each output of the {name} is a sum of one function per input, in units of the output's standard deviation. "
        f"One panel for each of the inputs that matter most (at most {MOST_EDGES}); colours are outputs (first seed; "
        "functions are centred on the data). Below: the data."
    )
    return Section(f"edges-{model}", f"What the {name} learned: a function per input", text, pictures)


def importance_by_target(run: Run, learned: dict[str, Edges]) -> Section:
    """Share of each input: in all outputs, and in every single one."""
    section = importance_section(learned, run.features)
    names = _labels(run.features)
    pictures: list[Picture] = []
    for model, found in learned.items():
        share = found.by_output
        if np.ptp(share, axis=1).max() < DISTINCT:  # hidden layers that mix everything tell nothing about an output
            continue
        order = np.argsort(-share.mean(axis=1), kind="stable")[:20]
        rows, heading = [names[i] for i in order], f"{title(model)}: share [%]"
        figure = partial(residual_plots.matrix, share[order], rows, found.outputs, heading, signed=False)
        alt = f"Share of each input in every single output of the {title(model)}, in percent."
        pictures.append(draw(f"importance-{model}", figure, alt))
    more = " A matrix has the same for every single output, in percent (mean over seeds)." if pictures else ""
    text = section.text + more
    return Section(section.anchor, section.heading, text, [*section.plots, *pictures])


def input_section(run: Run, data: Data) -> Section:
    """Distributions of the inputs, by their correlation with the targets."""
    strength = np.abs(_correlation(run, data)).max(axis=1)
    pictures: list[Picture] = []
    for place in np.argsort(-strength, kind="stable"):
        feature = run.features[place]
        columns = {name: run.inputs[name] for name in (feature.name, "target", "weight")}
        figure = partial(plots.inputs, [feature], columns, run.classes)
        pictures.append(draw(f"input-{feature.name}", figure, f"Distribution of {feature.name}."))
    text = "Weighted test events, normalised to one. Sorted by the largest linear correlation with any target."
    return folded(Section("inputs", "Inputs", text, pictures), SHOWN_INPUTS)


def correlation_section(run: Run, data: Data) -> Section:
    """Correlations of inputs with targets; those among inputs are folded away."""
    found = _correlation(run, data)
    order = np.argsort(-np.abs(found).max(axis=1), kind="stable")
    names = _labels(run.features)
    rows, heading = [names[i] for i in order], "linear correlation [%]"
    figure = partial(residual_plots.matrix, found[order], rows, _labels(run.targets), heading, signed=True)
    main = draw("correlation-targets", figure, "Linear correlations of the inputs with the targets, in percent.")
    among = partial(plots.correlations, data.X, data.weight, run.features, "inputs")
    more = draw("correlation-inputs", among, "Correlation matrix of the inputs.")
    text = (
        "Linear correlations of inputs (lines) with targets (columns), weighted. An input without linear correlation "
        "may still tell a lot, such as the size or the sign of a target."
    )
    return Section("correlations", "Correlations", text, [main], [more], "Correlation matrix of the inputs")


def _correlation(run: Run, data: Data) -> Floats:
    """Return correlations of inputs with targets, `(inputs, targets)`."""
    both = np.column_stack([data.X, run.inputs["target"].astype(np.float64)])
    inputs = len(run.features)
    return statistics.correlation(both, data.weight)[:inputs, inputs:]


def _ratios(run: Run, metrics: Sequence[str], base: Floats) -> dict[str, Floats]:
    """Return for each model the change from the reference, relative to it, and its error, `(metrics, 2)`."""
    found = {run.reference: np.zeros((len(metrics), 2))}
    for item in run.report.get("comparisons") or ():
        one, two = str(item["model"]), str(item["reference"])
        if run.reference not in (one, two) or item["metric"] not in metrics or item["difference"] is None:
            continue
        model, sign = (one, 1.0) if two == run.reference else (two, -1.0)
        place = list(metrics).index(item["metric"])
        numbers = found.setdefault(model, np.full((len(metrics), 2), np.nan))
        numbers[place] = sign * item["difference"] / base[place], (item["error"] or 0.0) / base[place]
    return {model: found[model] for model in _single(run) if model in found}


def _single(run: Run) -> list[str]:
    """Return the models without the means over their seeds."""
    return [model for model in run.models if not model.endswith(" ensemble")]


def _labels(features: Sequence[Feature]) -> list[str]:
    """Return labels for pictures."""
    return [axis_label(one.label, "", one.name) for one in features]


def _medians(truth: Floats, values: Floats, weight: Floats, slices: Floats) -> tuple[Floats, Floats]:
    """Return mean true value and median prediction in slices of the true value."""
    place = np.digitize(truth, slices)
    half = np.array([0.5])
    rows = [np.flatnonzero(place == i) for i in range(1, len(slices))]
    points = [
        (float(truth[inside].mean()), float(statistics.quantile(values[inside], np.abs(weight[inside]), half)[0]))
        for inside in rows
        if len(inside) >= 10
    ]
    x, y = np.array(points).reshape(-1, 2).T
    return x, y
