"""What a cut on the score is worth: rejections, Asimov Z and AMS against the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from hepkan.metrics.ranking import Ranking
from hepkan.metrics.significance import MIN_BACKGROUND, ams, asimov_z
from hepkan.report import words
from hepkan.report.reading import Columns, Run
from hepkan.report.sections import Section, draw, scored
from hepkan.report.statistics import Floats
from hepkan.report.style import colour, line, panels, styled
from hepkan.report.tables import Cell, Line, Table
from hepkan.report.words import title

EFFICIENCIES = (0.3, 0.5, 0.7, 0.9)
POINTS = 300


def rejection_table(run: Run) -> Table:
    """Return the background rejection of every model at `EFFICIENCIES`."""
    columns = [[_rejection(run, model, one) for one in EFFICIENCIES] for model in run.report["roc"]]
    values = np.array([[value for value, _ in row] for row in columns])
    best = np.where(np.isnan(values), -np.inf, values).max(axis=0)  # none where no model leaves any background
    lines = [
        Line(
            model,
            [Cell(words.with_error(*pair), bool(pair[0] == top)) for pair, top in zip(row, best, strict=True)],
        )
        for model, row in zip(run.report["roc"], columns, strict=True)
    ]
    heads = [f"at {100 * one:.0f} %" for one in EFFICIENCIES]
    note = (
        "One over the efficiency of the background at an efficiency of the signal, mean over seeds. Errors as in the "
        "table of results where it has the number, otherwise those of the background events left (seed 0)."
    )
    return Table("Background rejection", heads, {"": lines}, note)


def _rejection(run: Run, model: str, efficiency: float) -> tuple[float, float | None]:
    """Return the rejection of a model and its error."""
    metric = f"rejection_{100 * efficiency:.0f}"
    for row in run.report["rows"]:
        if (row["model"], row["metric"]) == (model, metric) and row["value"] is not None:
            return float(row["value"]), row["error"]
    curve = run.report["roc"][model]
    signal, background = (np.asarray(curve[f"{one}_efficiency"], dtype=np.float64) for one in ("signal", "background"))
    left = float(np.interp(efficiency, signal, background))
    value = 1.0 / left if left > 0.0 else float("nan")
    if model not in run.test:
        return value, None
    score, weight, target = run.test[model], run.test["weight"], run.test["target"]
    ranking = Ranking.of(target, score)
    passed, _ = ranking.sums(weight)
    total = passed[-1]
    if not total > 0.0:
        return value, None
    place = int(np.searchsorted(np.maximum.accumulate(passed), efficiency * total))
    threshold = np.append(np.inf, score[ranking.order][ranking.ends])[min(place, len(ranking.ends))]
    rows = (target == 0) & (score >= threshold)
    kept = float(weight[rows].sum())
    return value, value * float(np.sqrt(np.square(weight[rows]).sum())) / kept if kept > 0.0 else None


def significance_section(run: Run) -> Section:
    """Asimov Z and AMS against the threshold."""
    models = scored(run)
    luminosity = float(run.report["luminosity_fb"])
    figure = partial(significance, run.test, models, luminosity)
    alt = f"Asimov Z and AMS against the threshold on the score of {', '.join(map(title, models))}."
    text = (
        f"Counting the events above a threshold on the score (seed 0), with weights in pb and {luminosity:g} fb⁻¹. "
        "Left: Asimov Z, statistical only (arXiv:1007.1727). Right: AMS of the HiggsML challenge, the same with ten "
        f"more background events. Lines end where fewer than {MIN_BACKGROUND:g} effective background events are left; "
        "points: the best threshold. Choose it on validation events, not here."
    )
    return Section("significance", "Significance", text, [draw("significance", figure, alt)])


@styled()
def significance(columns: Columns, models: Sequence[str], luminosity_fb: float) -> Figure:
    """Asimov Z and AMS against the threshold.

    Arguments:
        columns: `target`, `weight` in pb, and one score per model.
        models: the models to draw.
        luminosity_fb: integrated luminosity in 1/fb.
    """
    figure, axes = panels(2, 2, 4.4, 3.6)
    for place, model in enumerate(models):
        threshold, signal, background = sums(columns, model, 1e3 * luminosity_fb)
        for one, measure in zip(axes, (asimov_z, ams), strict=True):
            value = measure(signal, background)
            tint = colour(model, place)
            one.plot(threshold, value, color=tint, linestyle=line(model, place), label=title(model))
            if len(value):
                best = int(np.argmax(value))
                one.plot(threshold[best], value[best], marker="o", markersize=4.5, color=tint)
    for one, name in zip(axes, ("Asimov Z", "AMS"), strict=True):
        one.set(xlabel="threshold on the score", ylabel=name)
        one.set_ylim(bottom=0)
    axes[0].legend(loc="lower left", fontsize=8.5)
    return figure


def sums(columns: Columns, model: str, scale: float) -> tuple[Floats, Floats, Floats]:
    """Return up to `POINTS` thresholds with the signal and background events above them, where enough are left."""
    ranking, weight = Ranking.of(columns["target"], columns[model]), columns["weight"].astype(np.float64)
    signal, background = ranking.sums(weight)
    _, squares = ranking.sums(weight**2)
    falling = np.asarray(columns[model], dtype=np.float64)[ranking.order][ranking.ends]
    enough = np.flatnonzero((background[1:] > 0.0) & (background[1:] ** 2 >= MIN_BACKGROUND * squares[1:]))
    # Equal steps of the threshold, not of the events: the line is drawn against it.
    ends = falling[enough[[0, -1]]] if len(enough) else np.zeros(2)
    places = np.searchsorted(-falling[enough], -np.linspace(ends[0], ends[1], POINTS)).clip(max=len(enough) - 1)
    kept = enough[np.unique(places)] if len(enough) else enough
    return falling[kept], scale * signal[1:][kept], scale * background[1:][kept]
