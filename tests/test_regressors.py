"""The contract of every kind of model in regression: physical targets out, one measure of loss, saved and loaded."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hepkan
from hepkan.baselines import MODELS, TrainedModel, load_model, train_model
from hepkan.data import Table
from hepkan.errors import DataError, UsageError
from hepkan.regressors import METSplit, Problem, split_momentum, weighted_median

NETWORK = {"epochs": 3, "batch": 200, "learning_rate": 1e-2, "loss": "mae"}
QUICK: dict[str, dict[str, Any]] = {
    "kan": {**NETWORK, "hidden": [4]},
    "gam": NETWORK,
    "mlp": {**NETWORK, "hidden": 20},
    "linear": {**NETWORK, "epochs": 20},
    "pykan": {**NETWORK, "hidden": [3], "epochs": 1},
    "bdt": {"rounds": 20, "stop_after": 5, "num_leaves": 7},
    "flow": {"epochs": 2, "samples": 20, "hidden": [16], "transforms": 1},
}
REGRESSORS = [kind for kind, model in MODELS.items() if "regression" in model.tasks]
EXTRA = {"pykan": "kan", "flow": "zuko"}
HEADS = ("free", "mass_shells", "mass_shells_met")


@pytest.fixture(scope="module")
def parts() -> tuple[Table, Table, Table]:
    """Training, validation and test part of a small sample with weights of both signs."""
    table = hepkan.get_task("top_dm").table(n=1500)
    sign = np.where(np.arange(len(table)) % 11 == 0, -0.5, 1.0)
    train, validation, test = Table(
        **{name: getattr(table, name) for name in ("X", "y", "names", "target_names")}, weight=sign
    ).split((0.6, 0.2, 0.2))
    return train, validation, test


@pytest.fixture(scope="module")
def trained() -> dict[tuple[str, str], TrainedModel]:
    """Models trained so far."""
    return {}


@pytest.fixture(params=[(kind, head) for kind in REGRESSORS for head in HEADS], ids="-".join)
def model(request: pytest.FixtureRequest, parts: tuple[Table, ...], trained: dict[Any, TrainedModel]) -> TrainedModel:
    """A trained model of every kind with every head."""
    kind, head = request.param
    if kind in EXTRA:
        pytest.importorskip(EXTRA[kind])
    if request.param not in trained:
        trained[request.param] = train_model(kind, *parts[:2], {**QUICK.get(kind, {}), "head": head}, seed=3)
    return trained[request.param]


def standardised_mae(train: Table, part: Table, prediction: np.ndarray) -> float:
    """The measure of all kinds, written down again."""
    w = np.abs(train.weight) / np.abs(train.weight).sum()
    mean = w @ train.y
    scale = np.sqrt(w @ (train.y - mean) ** 2)
    each = (np.abs(prediction - part.y) / scale).mean(axis=1)
    return float(np.average(each, weights=np.abs(part.weight)))


def test_predicts_targets_and_says_how_well(model: TrainedModel, parts: tuple[Table, ...]) -> None:
    train, validation, test = parts
    y = model.predict(test.X)
    assert y.shape == test.y.shape and np.isfinite(y).all()
    if model.kind != "flow":  # its history is of the density
        best = min(row["validation_loss"] for row in model.history)
        free = model.kind != "bdt" or model.settings["head"] == "free"
        assert not free or model.best_value == pytest.approx(best, rel=1e-6)
    expected = standardised_mae(train, validation, model.predict(validation.X))
    assert model.best_value == pytest.approx(expected, rel=1e-5)
    assert model.n_parameters > 0 and model.seconds > 0


def test_heads_hold_for_every_kind(model: TrainedModel, parts: tuple[Table, ...]) -> None:
    test = parts[2]
    y, head = model.predict(test.X), model.settings["head"]
    if head == "free":
        assert y.shape == test.y.shape
        return
    assert y.dtype == np.float64
    assert np.abs(y[:, 3] - np.linalg.norm(y[:, :3], axis=1)).max() < 1e-5
    assert (y[:, 7] - np.linalg.norm(y[:, 4:7], axis=1)).min() > -1e-5
    if head == "mass_shells_met":
        assert np.abs(y[:, 0] + y[:, 4] - test.column("met_pt")).max() < 1e-4
        assert np.abs(y[:, 1] + y[:, 5]).max() < 1e-4


def test_saved_and_loaded_as_it_is(model: TrainedModel, parts: tuple[Table, ...], tmp_path: Path) -> None:
    file = model.save(tmp_path / "member")
    again = load_model(tmp_path / "member")
    assert file.is_file() and again.predictor is not model.predictor
    assert np.array_equal(again.predict(parts[2].X), model.predict(parts[2].X))
    record, expected = ({**vars(one), "predictor": None} for one in (again, model))
    assert record == expected


def test_hostile_inputs(model: TrainedModel, parts: tuple[Table, ...]) -> None:
    X = parts[2].X[:5].copy()
    for wrong in (X[:, :3], X[0]):
        with pytest.raises(UsageError, match=r"X needs the shape \(n, 32\)"):
            model.predict(wrong)
    assert model.predict(X[:0]).shape == (0, 8)
    X[2, 1] = np.nan
    y = model.predict(X)
    assert np.isnan(y).any(axis=1).tolist() == [False, False, True, False, False]
    assert np.isfinite(np.delete(y, 2, axis=0)).all()


@pytest.mark.parametrize("kind", ["kan", "linear", "bdt", "median", "met_split"])
def test_seed_decides_everything(kind: str, parts: tuple[Table, ...]) -> None:
    seen: list[Any] = []
    one, same = (
        train_model(kind, *parts[:2], QUICK.get(kind), seed=7, progress=lambda *step: seen.append(step))
        for _ in range(2)
    )
    assert np.array_equal(one.predict(parts[2].X), same.predict(parts[2].X))
    if kind not in ("kan", "linear"):  # rows of networks hold seconds
        assert [row for _, _, row in seen[: len(one.history)]] == one.history == same.history


def test_every_kind_says_which_tasks_it_can_do(parts: tuple[Table, ...]) -> None:
    rng = np.random.default_rng(0)
    classes = Table(rng.normal(size=(50, 3)), rng.integers(2, size=50))
    for kind, entry in MODELS.items():
        assert entry.tasks and set(entry.tasks) <= {"classification", "regression"}
        if "classification" not in entry.tasks:
            with pytest.raises(UsageError, match=f"'{kind}' is for regression, however the task is classification"):
                train_model(kind, classes, classes)
        if "regression" not in entry.tasks:
            with pytest.raises(UsageError, match=f"'{kind}' is for classification, however the task is regression"):
                train_model(kind, *parts[:2])


def test_heads_are_for_momenta(parts: tuple[Table, ...]) -> None:
    rng = np.random.default_rng(0)
    other = Table(rng.normal(size=(50, 3)), rng.normal(size=(50, 2)))
    with pytest.raises(UsageError, match=r"needs px, py, pz and e .* however they are: y0, y1"):
        train_model("median", other, other, {"head": "mass_shells"})
    with pytest.raises(UsageError, match=r"Unknown head 'mass_shell'. Did you mean 'mass_shells'"):
        train_model("bdt", *parts[:2], {"head": "mass_shell"})
    few = [part.select(["lep_px", "lep_py"]) for part in parts[:2]]
    with pytest.raises(UsageError, match="needs the feature met_pt, however it is not among"):
        train_model("kan", *few, {**QUICK["kan"], "head": "mass_shells_met"})
    with pytest.raises(UsageError, match=r"met_split' needs these features, .*: lep_pz, met_pt"):
        train_model("met_split", *few)
    with pytest.raises(UsageError, match=r"met_split' needs px, py, pz and e of neutrino"):
        train_model("met_split", *(Table(one.X, one.y[:, :3], names=one.names) for one in parts[:2]))
    with pytest.raises(UsageError, match="mediator_mass needs head="):
        train_model("median", *parts[:2], {"mediator_mass": 300.0})


def test_a_known_mass_is_kept(parts: tuple[Table, ...]) -> None:
    for kind in ("linear", "median", "met_split"):
        settings = {**QUICK.get(kind, {}), "head": "mass_shells_met", "mediator_mass": 125.0}
        y = train_model(kind, *parts[:2], settings).predict(parts[2].X)
        assert np.sqrt(y[:, 7] ** 2 - np.sum(y[:, 4:7] ** 2, axis=1)) == pytest.approx(125.0, abs=1e-5)


def test_trees_stop_for_every_target_on_its_own(parts: tuple[Table, ...]) -> None:
    model = train_model("bdt", *parts[:2], {"rounds": 400, "stop_after": 5, "learning_rate": 0.3})
    losses = [row["validation_loss"] for row in model.history]
    sizes = [text.count("Tree=") for text in model.predictor.texts]  # type: ignore[attr-defined]
    assert losses == sorted(losses, reverse=True)
    assert len(set(sizes)) > 1 and max(sizes) + 5 == len(losses) < 400
    with pytest.raises(UsageError, match=r"not negative\. Use another policy"):
        train_model("bdt", *parts[:2], negative_weights="keep")


def test_weighted_median_is_where_half_of_the_weight_lies_below() -> None:
    values = np.array([[3.0, 0.0], [1.0, 0.0], [2.0, 5.0], [9.0, 5.0]])
    assert weighted_median(values, np.array([1.0, 1.0, 1.0, 10.0])).tolist() == [9.0, 5.0]
    rng = np.random.default_rng(1)
    sample, w = rng.normal(size=(999, 1)), rng.integers(1, 4, size=999)
    assert weighted_median(sample, w)[0] == np.median(np.repeat(sample[:, 0], w)) or w.sum() % 2 == 0


def test_split_momentum_gives_the_w_its_mass() -> None:
    rng = np.random.default_rng(2)
    lep, met = rng.normal(scale=40.0, size=(2000, 3)), rng.exponential(60.0, size=2000)
    y = split_momentum(np.column_stack([lep, met]), 0.4)
    assert np.allclose(y[:, 0], 0.4 * met) and np.allclose(y[:, 0] + y[:, 4], met) and not y[:, 1].any()
    energy = np.linalg.norm(lep, axis=1)
    square = (energy + y[:, 3]) ** 2 - np.sum((lep + y[:, :3]) ** 2, axis=1)
    mt = 2 * np.hypot(lep[:, 0], lep[:, 1]) * y[:, 0] - 2 * lep[:, 0] * y[:, 0]
    real = mt < 80.377**2
    assert 0.5 < real.mean() < 1 and np.sqrt(square[real]) == pytest.approx(80.377, rel=1e-6)
    assert (square[~real] > 80.377**2).all()


def test_met_split_finds_the_share() -> None:
    rng = np.random.default_rng(3)
    X = np.column_stack([rng.normal(scale=40.0, size=(800, 3)), rng.exponential(60.0, size=800)])
    truth = split_momentum(X, 0.37) + np.arange(8.0)
    model = METSplit.fit(
        Problem(X, truth, np.ones(800), np.ones(8)),
        None,
        METSplit.NEEDED,
        [f"{a}_{b}" for a in "np" for b in ("px", "py", "pz", "e")],
    )
    assert model.share == pytest.approx(0.37) and model.shifts == pytest.approx(np.arange(8.0), abs=1e-9)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: "[]",
        lambda content: json.dumps({**json.loads(content), "class": "object"}),
        lambda content: json.dumps({**json.loads(content), "content": {}}),
        lambda content: content.replace("end of trees", "end of"),
    ],
)
def test_damaged_files_are_explained(damage: Any, parts: tuple[Table, ...], tmp_path: Path) -> None:
    train_model("bdt", *parts[:2], {"rounds": 2}).save(tmp_path)
    file = tmp_path / "predictor.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(DataError, match="must hold a complete model"):
        load_model(tmp_path)


def test_missing_zuko_names_the_pip_line(monkeypatch: pytest.MonkeyPatch, parts: tuple[Table, ...]) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(hepkan.errors.MissingExtra, match=r"pip install 'hepkan\[flow\]'"):
        train_model("flow", *parts[:2])
