"""A regression from its card to the run folder: targets, measures of residuals, what follows from the momenta."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hepkan.errors import UsageError
from hepkan.metrics import bootstrap_regression, evaluate_regression
from hepkan.physics.top_dm_derived import DERIVED
from hepkan.studies.card import Card
from hepkan.studies.evidence import main_metric
from hepkan.studies.options import load_card
from hepkan.studies.run import Result, run
from hepkan.tasks import get_task

MODELS = ["kan", "linear", "median", "met_split"]
SMALL = ["rows=1500", "bootstrap=20", "seeds=2", "model.hidden=[6]", "model.epochs=3"]


def card(*overrides: str, models: list[str] | None = None) -> Card:
    return load_card("top_dm", models=models or MODELS, overrides=[*SMALL, *overrides])


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(card(), output=tmp_path_factory.mktemp("runs") / "dark")


def value(report: dict[str, Any], model: str, metric: str) -> float:
    return next(row["value"] for row in report["rows"] if (row["model"], row["metric"]) == (model, metric))


def test_error_over_all_targets_is_the_mean_of_scaled_errors(result: Result) -> None:
    report = result.report
    assert main_metric(card()) == "mae"
    names = [one["name"] for one in report["targets"]]
    assert names == list(get_task("top_dm").table(n=20).target_names)
    for model in MODELS:
        scaled = [value(report, model, f"mae_{one['name']}") / one["scale"] for one in report["targets"]]
        assert value(report, model, "mae") == pytest.approx(np.mean(scaled), rel=1e-12)


def test_predictions_give_the_measures_of_the_report(result: Result) -> None:
    frame = pq.read_table(result.folder / "predictions.parquet")
    weight, group = frame["weight"].to_numpy(), frame["group"].to_numpy()
    for one in result.report["targets"]:
        name = one["name"]
        values = [
            evaluate_regression(
                frame[f"target.{name}"].to_numpy(), frame[f"linear-seed{k}.{name}"].to_numpy(), weight, group, n_boot=2
            )
            for k in range(2)
        ]
        for metric in ("mae", "bias", "width68"):
            mean = np.mean([found[metric][0][0] for found in values])
            assert value(result.report, "linear", f"{metric}_{name}") == pytest.approx(mean, rel=1e-4, abs=1e-3)


def test_models_are_better_than_the_median_and_the_order_is_said(result: Result) -> None:
    report = result.report
    assert value(report, "linear", "mae") < value(report, "median", "mae")
    pair = next(
        one for one in report["comparisons"]
        if (one["model"], one["reference"], one["metric"]) == ("kan", "median", "mae")
    )  # fmt: skip
    difference = value(report, "kan", "mae") - value(report, "median", "mae")
    assert pair["difference"] == pytest.approx(difference, abs=1e-12)
    assert report["roc"] == {}


def test_derived_quantities_are_judged_for_every_model(result: Result) -> None:
    found = {(row["model"], row["quantity"], row["metric"]): row["value"] for row in result.report["derived"]}
    assert {key[1] for key in found} == {one.name for one in DERIVED}
    assert {key[0] for key in found} == set(MODELS)
    assert all(np.isfinite(number) for number in found.values())


def test_finished_run_is_not_repeated_and_page_is_there(result: Result) -> None:
    assert run(card(), output=result.folder).reused
    page = (result.folder / "index.html").read_text(encoding="utf-8")
    assert "<img" in page and "constant median" in page
    assert json.loads((result.folder / "report.json").read_text(encoding="utf-8"))["targets"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=classification", "target=[]"], "one for regression"),
        (["target=[nu_px]"], "The targets of this sample are nu_px"),
        (["cuts=[w_mt]"], "Cuts are compared with classifiers only"),
    ],
)
def test_card_that_asks_for_something_else_is_refused(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        run(card(*overrides), output=tmp_path / "run")


def test_classifier_cannot_run_a_regression(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'logistic' is for classification"):
        run(load_card("top_dm", models=["logistic"]), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_derived_quantities_of_the_truth_have_no_residual_and_known_values() -> None:
    table = get_task("top_dm").table(n=400)
    columns = dict(zip(table.names, table.X.T, strict=True))
    for one in DERIVED:
        assert np.abs(one.residual(columns, table.y, table.y)).max() == 0.0
    found = {one.name: one.function(columns, table.y) for one in DERIVED}
    assert np.median(found["w_mass"]) == pytest.approx(80.4, abs=4.0)
    assert np.abs(found["cos_theta"]).max() <= 1.0
    assert found["nu_pt"] == pytest.approx(np.hypot(table.y[:, 0], table.y[:, 1]))


def test_masses_agree_with_the_vector_library() -> None:
    vector = pytest.importorskip("vector")
    table = get_task("top_dm").table(n=200)
    columns = {name: table.column(name).astype(np.float64) for name in table.names}
    lepton = vector.array({name: columns[f"lep_{name}"] for name in ("px", "py", "pz")} | {"mass": np.zeros(200)})
    b = vector.array({name: columns[f"bjet_{name}"] for name in ("px", "py", "pz")} | {"E": columns["bjet_e"]})
    neutrino = vector.array(dict(zip(("px", "py", "pz"), table.y[:, :3].T, strict=True)) | {"mass": np.zeros(200)})
    top = next(one for one in DERIVED if one.name == "top_mass").function(columns, table.y)
    assert top == pytest.approx((lepton + b + neutrino).mass, rel=1e-5)


def test_angles_are_compared_modulo_a_turn() -> None:
    phi = next(one for one in DERIVED if one.name == "nu_phi")
    at = {angle: np.array([[np.cos(angle), np.sin(angle), 0, 1, 0, 0, 0, 0]]) for angle in (3.1, -3.1)}
    assert phi.residual({}, at[3.1], at[-3.1])[0] == pytest.approx(6.2 - 2 * np.pi)


def test_repetitions_of_two_models_are_paired() -> None:
    rng = np.random.default_rng(0)
    residual, shift = rng.normal(size=(500, 2)), 0.25
    first, second = (bootstrap_regression(values, n_boot=50) for values in (residual, residual + shift))
    assert first[1]["bias"].shape == (50, 2)
    assert second[1]["bias"] - first[1]["bias"] == pytest.approx(np.full((50, 2), shift))
