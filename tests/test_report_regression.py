"""The page of a regression: every number on it, its pictures against NumPy, and runs that are damaged."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from matplotlib.colors import LogNorm
from rich.console import Console

from hepkan import terminal
from hepkan.errors import DataError
from hepkan.model_io import save
from hepkan.nn import KAN, MLP
from hepkan.report import edge_plots, edges, html, regression_figures, residual_plots, sections, tables, words
from hepkan.report.edges import Data
from hepkan.report.html import write_comparison, write_page
from hepkan.report.mathtext import html_label
from hepkan.report.reading import Feature, Target, read_run
from hepkan.report.statistics import profile, slices
from test_report import Document, canonical, change_report

FEATURES = [
    {"name": "met_pt", "unit": "GeV", "label": "$p_T^{miss}$"},
    {"name": "lep_pz", "unit": "GeV", "label": r"$p_z(\ell)$"},
    {"name": "has_jet2", "unit": "", "label": "second jet"},
]
TARGETS = [
    {"name": "nu_px", "unit": "GeV", "label": r"$p_x(\nu)$", "scale": 40.0},
    {"name": "phi_e", "unit": "GeV", "label": r"$E(\phi)$", "scale": 90.0},
]
NAMES = [one["name"] for one in TARGETS]
SCALE = np.array([one["scale"] for one in TARGETS])
MODELS = {"kan": 2, "gam": 1, "mlp": 1, "median": 1}
ROWS = 600


def events(seed: int, rows: int = ROWS) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return inputs and targets, of which the first is nearly known."""
    rng = np.random.default_rng(seed)
    met, pz = rng.exponential(60, rows), rng.normal(0, 80, rows)
    columns = {"met_pt": met, "lep_pz": pz, "has_jet2": rng.integers(0, 2, rows)}
    y = np.column_stack([met - 60 + rng.normal(0, 10, rows), 50 + np.abs(pz) + rng.exponential(40, rows)])
    return {name: column.astype(np.float32) for name, column in columns.items()}, y.astype(np.float32)


def predictions(y: np.ndarray, model: str, seed: int) -> np.ndarray:
    """Return what a model says: the mean of truth and middle with noise, or the middle alone."""
    rng = np.random.default_rng(100 * list(MODELS).index(model) + seed)
    middle = np.median(y, axis=0)
    if model == "median":
        return np.broadcast_to(middle, y.shape).astype(np.float32)
    noise = {"kan": 0.3, "gam": 0.4, "mlp": 0.35}[model]
    return (0.5 * (y + middle) + noise * SCALE * rng.normal(size=y.shape)).astype(np.float32)


def measures(residual: np.ndarray) -> dict[str, float]:
    """Return the measures of a run from residuals."""
    found = {"mae": float((np.abs(residual).mean(axis=0) / SCALE).mean())}
    for place, name in enumerate(NAMES):
        one = residual[:, place]
        found |= {f"mae_{name}": float(np.abs(one).mean()), f"bias_{name}": float(one.mean())}
        found[f"width68_{name}"] = float(0.5 * np.diff(np.quantile(one, [0.16, 0.84]))[0])
    return found


def build_run(folder: Path, rows: int = ROWS) -> Path:
    """Write the run folder of a regression as ARCHITECTURE.md describes it."""
    folder.mkdir(parents=True)
    parts = {"predictions": events(1, rows), "train_scores": events(2, rows)}
    columns, y = parts["predictions"]
    X = np.column_stack(list(columns.values()))
    for file, (_, truth) in parts.items():
        known = {"id": np.arange(rows), "group": np.arange(rows), "weight": np.full(rows, 0.01)}
        groups = {"target": truth, "prediction": predictions(truth, "kan", 0)}
        groups |= {f"{m}-seed{k}": predictions(truth, m, k) for m, seeds in MODELS.items() for k in range(seeds)}
        wide = {f"{name}.{t}": values[:, i] for name, values in groups.items() for i, t in enumerate(NAMES)}
        pq.write_table(pa.table({**known, **wide}), folder / f"{file}.parquet")
    targets = {f"target.{name}": y[:, i] for i, name in enumerate(NAMES)}
    pq.write_table(pa.table({**columns, **targets, "weight": np.full(rows, 0.01)}), folder / "inputs.parquet")
    history: list[tuple[str, int, int, float, float]] = []
    results, found = [], {}
    for place, (model, seeds) in enumerate(MODELS.items()):
        history += [(model, 0, epoch, 1 / epoch, 1.1 / epoch) for epoch in range(1, 2 if model == "median" else 5)]
        found[model] = measures(predictions(y, model, 0) - y)
        facts = {"task": "top_dm", "model": model, "seeds": seeds, "parameters": 1200 * (place + 1)}
        rest = {"train_seconds": 7.0 + place, "settings": {"grid": 5}}
        results += [
            {**facts, "metric": metric, "value": value, "error": 0.01 * abs(value), **rest}
            for metric, value in found[model].items()
        ]
        hidden = {"kan": [4], "gam": [], "mlp": [4]}.get(model)
        if hidden is not None:
            member = folder / "members" / f"{model}-seed0"
            member.mkdir(parents=True)
            network = (MLP if model == "mlp" else KAN)([len(FEATURES), *hidden, len(TARGETS)], seed=place)
            network.fit_inputs(X)
            network.fit_outputs(y)
            save(network, member / "model.hepkan")
    names = ("model", "seed", "epoch", "train_loss", "validation_loss")
    table = {name: list(values) for name, values in zip(names, zip(*history, strict=True), strict=True)}
    pq.write_table(pa.table(table), folder / "history.parquet")
    card = {"task": "regression", "title": "Momenta", "reference": "mlp", "model": {"kind": "kan"}}
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    pairs = [("kan", other) for other in MODELS if other != "kan"] + [("gam", "mlp"), ("median", "mlp")]
    comparisons = []
    for one, two in pairs:
        for metric in found[one]:
            value = found[one][metric] - found[two][metric]
            error = 0.002 * found[two]["mae"] if metric == "mae" else 0.01 * SCALE[0]
            item = {"model": one, "reference": two, "metric": metric, "difference": value, "error": error}
            comparisons.append({**item, "sigma": value / error})
    quantity = {"quantity": "top_mass", "unit": "GeV", "label": r"$m(\ell\nu b)$"}
    derived = [
        {"model": model, **quantity, "metric": metric, "value": 30.0 + place, "error": 1.5}
        for place, model in enumerate(MODELS)
        for metric in ("mae", "bias", "width68")
    ]
    yields = [{"process": "top_phi", "label": 0, "rows": 3 * rows, "effective": 2.9 * rows, "pb": 0.24}]
    sizes = {"n_train": rows, "n_validation": 50, "n_test": rows}
    report = {
        "task": "top_dm",
        "version": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "command": "hepkan run top_dm",
        "environment": {"versions": {"hepkan": "0.1.0"}},
        "data": {"source": "embedded:top_dm", **sizes, "yields": yields},
        "luminosity_fb": 138.0,
        "rows": results,
        "comparisons": comparisons,
        "roc": {},
        "features": FEATURES,
        "targets": TARGETS,
        "derived": derived,
        "conditional": {"flow": {"levels": [0.5, 0.68], "coverage": [0.49, 0.7], "error": [0.01, 0.01]}},
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression with its page."""
    folder = build_run(tmp_path_factory.mktemp("regression") / "complete")
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def page(complete: Path) -> Document:
    return Document((complete / "index.html").read_text(encoding="utf-8"))


@pytest.fixture
def copy(complete: Path, tmp_path: Path) -> Path:
    """A run without page, to change."""
    kept = shutil.ignore_patterns("plots", "index.html")
    return Path(shutil.copytree(complete, tmp_path / "run", ignore=kept))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the sections, which take nearly all of the time."""
    monkeypatch.setattr(html, "sections", lambda run: iter(()))


@pytest.fixture
def blank_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw, and save empty pictures."""
    monkeypatch.setattr(sections, "svg", lambda figure: b"<svg/>")


def value_of(complete: Path, model: str, metric: str) -> str:
    """Return a number of the report as text."""
    rows = json.loads((complete / "report.json").read_text())["rows"]
    row = next(row for row in rows if (row["model"], row["metric"]) == (model, metric))
    return words.with_error(row["value"], row["error"])


# The page.


def test_page_needs_no_network_and_is_accessible(page: Document) -> None:
    assert all(address.startswith("data:") for address in page.all("src"))
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "form", "base"}
    ids = page.all("id")
    assert len(set(ids)) == len(ids) > 10
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert {a["href"][1:] for tag, a in page.tags if tag == "a"} <= set(ids)


def test_pictures_are_also_files_without_references_outside(complete: Path, page: Document) -> None:
    files = [path.read_text(encoding="utf-8") for path in (complete / "plots").glob("*.svg")]
    assert {canonical(text) for text in page.pictures()} == {canonical(text) for text in files}
    assert len(files) == len(page.pictures())
    for picture in files:
        root = ElementTree.fromstring(picture)
        used = {value for one in root.iter() for name, value in one.attrib.items() if name.endswith("href")}
        assert all(value.startswith(("#", "data:image/png")) for value in used)


@pytest.mark.parametrize("model", MODELS)
def test_tables_have_every_number_of_a_model(page: Document, complete: Path, model: str) -> None:
    title = words.title(model)
    place = list(MODELS).index(model)
    cost = [words.count(1200 * (place + 1)), f"{7 + place}.0 s", str(MODELS[model])]
    assert [title, value_of(complete, model, "mae"), *cost] in page.rows
    for part in ("mae", "bias", "width68"):
        assert [title, *(value_of(complete, model, f"{part}_{name}") for name in NAMES)] in page.rows
    assert page.rows.count([title, f"{30 + place}.0 ± 1.5"]) == 3


def test_page_says_who_wins(page: Document) -> None:
    text = " ".join(page.text)
    assert re.search(r"The KAN beats the MLP by \d+\.\d standard deviations\. MAE: KAN 0\.\d+ ± ", text)
    assert "Against the best of the others, the KAN beats the one-layer KAN by" in text
    assert "nu_px [GeV], deviation 40; phi_e [GeV], deviation 90" in text
    assert "signal" not in text
    assert "class" not in [cell for row in page.rows for cell in row]


def test_differences_are_those_of_the_report(page: Document, complete: Path) -> None:
    items = json.loads((complete / "report.json").read_text())["comparisons"]
    mine = [one for one in items if (one["model"], one["reference"]) == ("gam", "mlp")]
    sigma = {one["metric"]: f"{one['sigma']:+.1f}".replace("-", "−") for one in mine}
    shown = [sigma[name] for name in ("mae", "mae_nu_px", "mae_phi_e")]
    assert ["one-layer KAN", "MLP", words.difference(mine[0]), *shown] in page.rows
    assert sum(row[:1] == ["KAN"] and len(row) == 6 and row[1] in ("MLP", "one-layer KAN") for row in page.rows) == 2


@pytest.mark.parametrize(
    ("alt", "times"),
    [
        (r"Mean absolute error of each target, of KAN, one-layer KAN, MLP, constant median\.", 1),
        (r"The same as a change from the MLP, in percent\.", 1),
        (r"Reconstructed against true \w+, (KAN|one-layer KAN|MLP|constant median)\.", 8),
        (r"Mean and central 68 % of the residuals of \w+ in bins of its true value, all models\.", 2),
        (r"Distribution of the residuals of \w+, all models\.", 2),
        (r"Share of true values inside central intervals against their level, of normalising flow\.", 1),
        (r"Functions that the first layer of the KAN applies to \w+ \(\d+\.\d % of the variation\)\.", 3),
        (r"Functions of \w+ that the one-layer KAN adds to each of its outputs\.", 3),
        (r"Share of each input in (the|every single) output", 3),
        (r"Training and validation loss of the (KAN|one-layer KAN|MLP)\.", 3),
        (r"Distribution of (met_pt|lep_pz|has_jet2)\.", 3),
        (r"Linear correlations of the inputs with the targets|Correlation matrix of the inputs\.", 2),
    ],
)
def test_page_shows(page: Document, alt: str, times: int) -> None:
    found = [one for one in page.all("alt") if re.match(alt, one)]
    assert len(set(found)) == len(found) == times


def test_pictures_of_the_main_model_are_open_and_those_of_others_folded(page: Document) -> None:
    assert page.all("alt").index("Reconstructed against true phi_e, KAN.") < page.all("alt").index(
        "Reconstructed against true nu_px, one-layer KAN."
    )
    assert "The same of one-layer KAN, MLP, constant median" in " ".join(page.text)


@pytest.mark.usefixtures("no_plots")
def test_headline_knows_that_less_is_better(copy: Path) -> None:
    def turn(report: dict[str, Any]) -> None:
        for item in report["comparisons"]:
            item.update(difference=-item["difference"], sigma=-item["sigma"])

    change_report(copy, turn)
    text = " ".join(Document(write_page(copy).read_text(encoding="utf-8")).text)
    assert "The KAN loses to the MLP" in text
    assert "Against the best of the others, the KAN loses to the constant median" in text


@pytest.mark.usefixtures("blank_plots")
@pytest.mark.parametrize("key", ["comparisons", "derived", "conditional", "roc"])
def test_optional_parts_may_be_missing(copy: Path, key: str) -> None:
    change_report(copy, lambda report: report.pop(key))
    document = Document(write_page(copy).read_text(encoding="utf-8"))
    assert ("Nothing to compare it with." in " ".join(document.text)) == (key == "comparisons")
    assert ("derived" in document.all("id")) == (key != "derived")
    assert ("coverage" in document.all("id")) == (key != "conditional")


@pytest.mark.usefixtures("no_plots")
def test_comparison_of_runs_leaves_out_bias_and_width(copy: Path, complete: Path, tmp_path: Path) -> None:
    document = Document(write_comparison([complete, copy], tmp_path / "both.html").read_text(encoding="utf-8"))
    assert len(document.pictures()) == 3
    text = " ".join(document.text)
    assert "MAE of nu_px" in text
    assert "bias" not in text
    assert ["KAN", *2 * [value_of(complete, "kan", "mae_phi_e")]] in document.rows


# Hostile folders.


@pytest.mark.parametrize(
    ("file", "column"),
    [
        *(("predictions", name) for name in ("target.nu_px", "kan-seed0.phi_e", "median-seed0.nu_px", "weight")),
        *(("inputs", name) for name in ("target.phi_e", "met_pt", "weight")),
        ("train_scores", "mlp-seed0.nu_px"),
    ],
)
def test_missing_column_is_named(copy: Path, file: str, column: str) -> None:
    path = copy / f"{file}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(column), path)
    with pytest.raises(DataError, match=rf"{file}.parquet must be readable.*no column {re.escape(column)}"):
        write_page(copy)
    assert not (copy / "index.html").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("column", ["gam-seed0.phi_e", "target.nu_px", "weight"])
def test_numbers_that_are_none_are_named(copy: Path, column: str, bad: float) -> None:
    path = copy / "predictions.parquet"
    table = pq.read_table(path)
    values = table[column].to_numpy().copy()
    values[7] = bad
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), path)
    with pytest.raises(DataError, match=rf"predictions.parquet.*NaN or infinity in {re.split('[-.]', column)[0]}"):
        write_page(copy)


@pytest.mark.parametrize("file", ["predictions", "train_scores", "inputs"])
def test_table_without_events_is_named(copy: Path, file: str) -> None:
    path = copy / f"{file}.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match=f"{file}.parquet must be readable.*no events"):
        write_page(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda report: report.update(targets=[]), "targets"),
        (lambda report: report["targets"][0].pop("scale"), "targets.0.scale"),
        (lambda report: report["targets"][1].update(scale=0.0), "targets.1.scale"),
        (lambda report: report["derived"][0].update(metric="rms"), "derived.0.metric"),
        (lambda report: report["derived"][0].pop("quantity"), "derived.0.quantity"),
        (lambda report: report["conditional"]["flow"]["levels"].pop(), "differ in length"),
        (lambda report: report["conditional"].update(flow=3), "conditional.flow"),
    ],
)
def test_damaged_report_is_named(copy: Path, change: Callable[[dict[str, Any]], Any], said: str) -> None:
    change_report(copy, change)
    with pytest.raises(DataError, match=rf"report\.json must be readable, however it is damaged.*{said}"):
        write_page(copy)


@pytest.mark.usefixtures("blank_plots")
def test_constant_targets_few_events_and_empty_values_are_drawn(copy: Path) -> None:
    for file in ("predictions", "train_scores", "inputs"):
        path = copy / f"{file}.parquet"
        table = pq.read_table(path).slice(0, 5)
        place = table.column_names.index("target.nu_px")
        constant = pa.array(np.zeros(5, dtype=np.float32))
        pq.write_table(table.set_column(place, "target.nu_px", constant), path)
    change_report(copy, lambda report: report["rows"][0].update(value=None, error=None))
    document = Document(write_page(copy).read_text(encoding="utf-8"))
    assert [row for row in document.rows if row[:2] == ["KAN", "–"]]


# Numbers behind the pictures.


def test_profile_of_residuals() -> None:
    rng = np.random.default_rng(4)
    x, y, weight = rng.uniform(0, 2, 4000), rng.normal(size=4000), rng.uniform(0.5, 1.5, 4000)
    found = profile(x, y, weight, np.array([0.0, 1.0, 2.0, 9.0]))
    assert len(found.x) == 2
    inside = x < 1
    assert found.x[0] == pytest.approx(np.average(x[inside], weights=weight[inside]))
    assert found.mean[0] == pytest.approx(np.average(y[inside], weights=weight[inside]))
    assert found.error[0] == pytest.approx(y[inside].std() / np.sqrt(inside.sum()), rel=0.1)
    assert [found.low[0], found.high[0]] == pytest.approx([-0.994, 0.994], abs=0.1)


def test_performance_has_the_median_and_the_events_within_the_range(complete: Path) -> None:
    run = read_run(complete)
    truth, weight = run.test["target"][:, 0].astype(float), run.test["weight"]
    places = slices(truth, weight, (truth.min(), truth.max()), 12)
    x, y = regression_figures._medians(truth, 0.5 * truth, weight, places)
    np.testing.assert_allclose(y, 0.5 * x, rtol=0.1, atol=1.5)
    bins = np.linspace(*np.quantile(truth, [0.01, 0.99]), 49)
    counts = np.histogram2d(truth, truth, [bins, bins])[0]
    figure = residual_plots.true_reconstructed(counts, bins, (x, y), run.targets[0], "kan", LogNorm(1, counts.max()))
    axes, bar = figure.axes
    assert axes.get_xlim() == axes.get_ylim() == (bins[0], bins[-1])
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array().filled(0), counts.T)
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [bins[[0, 0]], bins[[-1, -1]]])
    assert bar.get_ylim() == pytest.approx((1, counts.max()))


def test_changes_from_the_reference_have_the_right_sign(complete: Path) -> None:
    run = read_run(complete)
    rows = {(row["model"], row["metric"]): row["value"] for row in run.report["rows"]}
    base = np.array([rows["mlp", "mae"], rows["mlp", "mae_phi_e"]])
    found = regression_figures._ratios(run, ["mae", "mae_phi_e"], base)
    assert list(found) == list(MODELS)
    for model in MODELS:
        mine = np.array([rows[model, "mae"], rows[model, "mae_phi_e"]])
        np.testing.assert_allclose(found[model][:, 0], mine / base - 1, atol=1e-12)
    assert found["kan"][0, 1] == pytest.approx(0.002)


def test_far_changes_are_arrows_at_the_edge() -> None:
    values = {"kan": np.array([1.0, -2.0]), "median": np.array([30.0, 1.0])}
    errors = {name: np.ones(2) for name in values}
    figure = residual_plots.by_target(values, errors, ["all", "one"], "change", zero=True)
    low, high = figure.axes[0].get_xlim()
    assert (low, high) == (-2.7, 2.7)
    arrows = [line for line in figure.axes[0].lines if line.get_marker() == 9 and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in arrows] == [[0.97 * high]]


def test_overfitting_compares_training_with_test(complete: Path) -> None:
    run = read_run(complete)
    (line,) = tables.overfitting(run, ["kan"]).groups[""]
    for cell, part in zip(line.cells, (run.train, run.test), strict=False):
        assert float(cell.text) == pytest.approx((np.abs(part["kan"] - part["target"]) / SCALE).mean(), abs=1e-4)


def regression_data(inputs: int, targets: int, n: int = 3000) -> Data:
    X = np.random.default_rng(1).normal(size=(n, inputs))
    features = tuple(Feature(f"x{i}", "", f"$x_{i}$") for i in range(inputs))
    wanted = tuple(Target(f"y{i}", "", f"$y_{i}$") for i in range(targets))
    return Data(features, X, np.zeros(n, dtype=int), np.full(n, 1 / n), (), wanted)


def test_importance_of_every_output_of_a_linear_network_is_known() -> None:
    model = KAN([3, 2], base="linear", input_map="none")
    with torch.no_grad():
        model.layers[0].coef.zero_()
        model.layers[0].base_weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 2.0]]))
    found = edges.edges_of([model], regression_data(3, 2))
    np.testing.assert_allclose(found.by_output, [[0.25, 0.0], [0.0, 0.5], [0.75, 0.5]], atol=0.01)
    np.testing.assert_allclose(found.importance.sum(axis=2)[0], found.by_output.mean(axis=1))
    assert found.outputs == ("$y_0$", "$y_1$")
    axes = edge_plots.output_panel(found, regression_data(3, 2), 2).axes[0]
    slopes = [np.polyfit(*line.get_data(), 1)[0] for line in axes.lines[:2]]
    np.testing.assert_allclose(slopes, [3.0, 2.0], rtol=1e-4)


def test_importance_passes_through_products() -> None:
    model = KAN([3, 4, 2], products=2, seed=3)
    found = edges.edges_of([model], regression_data(3, 2))
    assert found.importance.shape == (1, 3, 6)
    np.testing.assert_allclose([found.importance.sum(), *found.by_output.sum(axis=0)], 1.0)


def test_outputs_of_a_constrained_head_are_momenta_and_a_mass() -> None:
    head = {"name": "mass_shells_met", "n_features": 3, "met": 0}
    found = edges.edges_of([KAN([3, 5], head=head, seed=1)], regression_data(3, 8))
    assert found.outputs == ("$y_0$", "$y_1$", "$y_2$", "$y_6$", "mass")


# Words.


@pytest.mark.parametrize(
    ("label", "unit", "text"),
    [
        (r"$p_x(\nu)$", "GeV", "p<sub>x</sub>(ν) <span>[GeV]</span>"),
        (r"$p_T^{miss}/\sqrt{H_T}$", "GeV^0.5", "p<sub>T</sub><sup>miss</sup>/√H<sub>T</sub> <span>[√GeV]</span>"),
        (r"$\cos\theta^*(\ell, j)$", "", "cosθ<sup>∗</sup>(ℓ, j)"),
        (r"mass of $\mathrm{top}$ & more", "", "mass of top &amp; more"),
        ("<b>", "<i>", "&lt;b&gt; <span>[&lt;i&gt;]</span>"),
        *((label, "", "na&lt;me") for label in (r"$\nosuch$", "$x_{a$", "$x}$", "$x_$", "a $ b", "$x\\")),
    ],
)
def test_labels_as_html(label: str, unit: str, text: str) -> None:
    assert html_label(label, "na<me", unit) == text


def test_best_is_the_lowest_error_and_no_bias() -> None:
    rows = [{"metric": metric, "value": value} for metric in ("mae_nu_px", "bias_nu_px") for value in (2.0, 1.0)]
    assert [words.is_best(rows, row) for row in rows] == [False, True, False, False]
    assert words.main_metric([{"metric": "mae_nu_px"}, {"metric": "mae"}]) == "mae"
    assert words.metric_name("width68_phi_e") == "68 % width of phi_e"


def test_terminal_table_is_short(complete: Path) -> None:
    report = json.loads((complete / "report.json").read_text())
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(terminal.result_table(report))
    text = console.export_text()
    for model in MODELS:
        rows = {row["metric"]: row for row in report["rows"] if row["model"] == model}
        (line,) = [one for one in text.splitlines() if words.title(model) == one.strip("│ ").split("│")[0].strip()]
        cells = [cell.strip() for cell in line.strip("│ ").split("│")]
        assert cells[1] == words.with_error(rows["mae"]["value"], rows["mae"]["error"])
        assert cells[2:4] == [f"{rows[f'mae_{name}']['value']:.2f}" for name in NAMES]
    assert "bias" not in text
    assert "GeV" in text


@pytest.mark.slow
def test_page_of_many_events_stays_small(tmp_path: Path) -> None:
    assert write_page(build_run(tmp_path / "run", rows=100_000)).stat().st_size < 5e6
