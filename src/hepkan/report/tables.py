"""Tables of a regression's page: models as lines, targets or derived quantities as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from hepkan.report import words
from hepkan.report.mathtext import html_label
from hepkan.report.reading import Run

Row = Mapping[str, Any]
MEASURES = {"mae": "mean absolute error", "bias": "bias", "width68": "68 % width"}


@dataclass(frozen=True)
class Cell:
    """A number as text; `best` of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One model."""

    model: str
    cells: list[Cell]

    @property
    def ensemble(self) -> bool:
        """Whether this is the mean of a model's seeds."""
        return self.model.endswith(" ensemble")


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        label: what it is, for screen readers.
        columns: headings after that of the models.
        groups: lines under a heading, which is empty in a table of one group.
        note: what the reader must know.
        folded: summary under which the table is folded away, empty for one that is shown.
        seconds: a second model for each line, none where there is no such column.
    """

    label: str
    columns: Sequence[str]
    groups: Mapping[str, Sequence[Line]]
    note: str = ""
    folded: str = ""
    seconds: Sequence[str] = field(default=())


def results(run: Run) -> Table:
    """Return the mean absolute error over all targets, which ranks the models, and what every model costs."""
    lines = []
    for line in _measured(run, ["mae"], run.models):
        row = next(row for row in run.report["rows"] if row["model"] == line.model)
        cost = (words.count(row["parameters"]), words.seconds(row["train_seconds"]), str(row["seeds"]))
        lines.append(Line(line.model, [*line.cells, *map(Cell, cost)]))
    heads = [Markup("MAE <span>[deviations]</span>"), "parameters", "training time", "seeds"]
    note = (
        f"{words.count(run.report['data']['n_test'])} test events, the same for all models. MAE: mean absolute error, "
        "over all targets in units of their standard deviations in the sample. Values are means over seeds; errors add "
        "the standard error over seeds and a bootstrap of the test events by group. Bold: lowest value of a single "
        "model (not necessarily significant; the differences below have much smaller errors, as all models are judged "
        "on the same events). An ensemble is the mean prediction over the seeds of a model. Training time: one seed."
    )
    return Table("Result table", heads, {"": lines}, note)


def residuals(run: Run) -> Table:
    """Return mean absolute error, bias and width of the residuals of each target."""
    models = [model for model in run.models if not model.endswith(" ensemble")]
    groups = {
        heading: _measured(run, [f"{part}_{target.name}" for target in run.targets], models)
        for part, heading in MEASURES.items()
    }
    note = (
        "Residual: prediction minus truth. Bias: its mean. 68 % width: half of the interval between its 16th and 84th "
        "percentile; a model that guesses a constant has the width of the target itself."
    )
    return Table("Residuals of each target", _heads(run), groups, note)


def derived(run: Run) -> Table:
    """Return measures of the quantities that follow from the targets."""
    rows = run.report["derived"]
    quantities = {str(row["quantity"]): row for row in rows}
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    found = {(row["model"], row["metric"], row["quantity"]): row for row in rows}
    groups = {}
    for part, heading in MEASURES.items():
        cells = [[found.get((model, part, name)) for name in quantities] for model in models]
        groups[heading] = [Line(m, _cells(line, cells, part)) for m, line in zip(models, cells, strict=True)]
    heads = [html_label(row.get("label") or name, name, row.get("unit") or "") for name, row in quantities.items()]
    return Table("Derived quantities", heads, groups)


def differences(run: Run) -> Table | None:
    """Return who is better, pair by pair: the difference of the main measure and how clear it is for each target."""
    names = [f"mae_{target.name}" for target in run.targets]
    pairs: dict[tuple[str, str], dict[str, Row]] = {}
    for item in run.report.get("comparisons") or ():
        pairs.setdefault((str(item["model"]), str(item["reference"])), {})[str(item["metric"])] = item
    pairs = {pair: found for pair, found in pairs.items() if "mae" in found}
    if not pairs:
        return None
    lines = []
    for (model, _), found in pairs.items():
        texts = [words.difference(found["mae"]), *(_sigma(found.get(name)) for name in ("mae", *names))]
        lines.append(Line(model, [Cell(text) for text in texts]))
    heads = ["difference of the MAE", "standard deviations", *(html_label(one.label, one.name) for one in run.targets)]
    note = (
        "A negative difference means that the first model is better. Differences are taken seed by seed and with the "
        "same repetitions of the bootstrap, so what models share cancels. The columns of the targets have the "
        "difference of their MAE in standard deviations."
    )
    against = [reference for _, reference in pairs]
    return Table("Differences", heads, {"": lines}, note, "All differences, model by model", against)


def overfitting(run: Run, models: Sequence[str]) -> Table:
    """Return the main measure of training and of test events, which seed 0 of a model has."""
    scale = np.array([target.scale for target in run.targets])
    lines = []
    for model in models:
        values = []
        for part in (run.train, run.test):
            size = np.abs(part[model].astype(np.float64) - part["target"]) / scale
            values.append(float(np.average(size.mean(axis=1), weights=np.abs(part["weight"]))))
        change = f"{100 * (values[1] / values[0] - 1):+.1f} %" if values[0] > 0 else "–"
        cells = [f"{values[0]:.4f}", f"{values[1]:.4f}", change.replace("-", words.MINUS)]
        lines.append(Line(model, [Cell(text) for text in cells]))
    heads = ["MAE of training events", "MAE of test events", "change"]
    note = "Seed 0, in deviations of the targets. What a model gains on the events it has learned from is overfitting."
    return Table("Training and test events", heads, {"": lines}, note)


def _heads(run: Run) -> list[str]:
    """Return the headings of the targets."""
    return [html_label(target.label, target.name, target.unit) for target in run.targets]


def _measured(run: Run, metrics: Sequence[str], models: Iterable[str]) -> list[Line]:
    """Return a line of measures for every model."""
    found = {(row["model"], row["metric"]): row for row in run.report["rows"]}
    names = list(models)
    table = [[found.get((model, metric)) for metric in metrics] for model in names]
    single = [line for model, line in zip(names, table, strict=True) if not model.endswith(" ensemble")]
    kind = metrics[-1].partition("_")[0]
    return [Line(model, _cells(line, single, kind)) for model, line in zip(names, table, strict=True)]


def _cells(line: Sequence[Row | None], table: Sequence[Sequence[Row | None]], metric: str) -> list[Cell]:
    """Return the numbers of a line; those that no line of the table surpasses are the best."""
    cells = []
    for place, row in enumerate(line):
        if row is None:
            cells.append(Cell("–"))
            continue
        column = [{**other, "metric": metric} for entry in table if (other := entry[place]) is not None]
        best = words.is_best(column, {**row, "metric": metric}) and row in [entry[place] for entry in table]
        cells.append(Cell(words.with_error(row["value"], row["error"]), best))
    return cells


def _sigma(item: Row | None) -> str:
    """Return a difference in standard deviations."""
    if item is None or item["sigma"] is None or not item["error"]:
        return "–"
    return f"{item['sigma']:+.1f}".replace("-", words.MINUS)
