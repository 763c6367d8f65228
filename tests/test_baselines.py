"""The contract of every kind of model: one table in, predictions out, repeatable, saved and loaded as they are."""

import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepkan
from hepkan.baselines import MODELS, TrainedModel, load_model, train_model
from hepkan.data import Table
from hepkan.errors import DataError, MissingExtra, UsageError
from hepkan.metrics import auc
from hepkan.predictors import Trees

NETWORK = {"epochs": 5, "batch": 50, "learning_rate": 3e-2}
QUICK: dict[str, dict[str, Any]] = {
    "kan": {**NETWORK, "hidden": [4]},
    "gam": NETWORK,
    "mlp": {**NETWORK, "hidden": 20, "dropout": 0.1},
    "bdt": {"rounds": 30, "stop_after": 5, "num_leaves": 7},
    "logistic": NETWORK,
    "pykan": {**NETWORK, "hidden": [3], "epochs": 2},
}
"""Settings for a training of a moment; a kind without an entry is trained as it is."""


def table(n: int = 500, seed: int = 0, classes: int = 2) -> Table:
    """Return events whose first feature separates the classes; some weights are negative."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    X = rng.normal(size=(n, 3))
    X[:, 0] += 1.5 * y
    return Table(X, y, rng.choice([-0.3, 1.0, 2.0], size=n, p=[0.1, 0.6, 0.3]), names=("pt", "eta", "mass"))


def train(kind: str, seed: int = 0, **options: Any) -> TrainedModel:
    """Train a kind on the toy."""
    data = {"train": table(), "validation": table(seed=1), "settings": QUICK.get(kind, {})}
    return train_model(kind, seed=seed, **data | options)


def agree(one: TrainedModel, other: TrainedModel) -> bool:
    """Whether predictions are the same to the bit; pykan's first training in a process rounds in its own way."""
    scores = [model.predict(table(seed=2).X) for model in (one, other)]
    return np.allclose(*scores, rtol=0, atol=1e-5 if one.kind == "pykan" else 0)


@pytest.fixture(scope="module")
def trained() -> dict[str, TrainedModel]:
    """Models trained so far: every kind once."""
    return {}


CLASSIFIERS = [kind for kind, model in MODELS.items() if "classification" in model.tasks]


@pytest.fixture(params=CLASSIFIERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of classifier that can be trained here."""
    if request.param == "pykan":
        pytest.importorskip("kan")
    return str(request.param)


@pytest.fixture
def model(kind: str, trained: dict[str, TrainedModel]) -> TrainedModel:
    """A trained model of every kind."""
    if kind not in trained:
        trained[kind] = train(kind, seed=5)
    return trained[kind]


def test_learns_and_says_what_it_did(kind: str, model: TrainedModel) -> None:
    test = table(seed=2)
    scores = model.predict(test.X)
    assert scores.shape == (len(test),) and scores.min() >= 0 and scores.max() <= 1
    assert auc(test.y, scores) > 0.75
    assert (model.kind, model.seed, model.settings) == (kind, 5, {**MODELS[kind].settings, **QUICK.get(kind, {})})
    assert model.n_parameters > 0 and model.seconds > 0
    assert model.history[-1]["train_loss"] < model.history[0]["train_loss"]
    assert [row["epoch"] for row in model.history] == list(range(1, len(model.history) + 1))
    assert model.best_value == min(row["validation_loss"] for row in model.history)


def test_best_value_is_the_weighted_cross_entropy_of_its_predictions(model: TrainedModel) -> None:
    validation = table(seed=1)
    score = model.predict(validation.X).astype(np.float64)
    loss = -np.log(np.where(validation.y == 1, score, 1 - score))
    assert model.best_value == pytest.approx(np.mean(validation.training_weights() * loss), rel=1e-5)


def test_a_spoiled_event_gives_nan_for_itself_only(model: TrainedModel) -> None:
    X = table(6).X.copy()
    X[2, 1] = np.nan
    scores = model.predict(X)
    assert np.isnan(scores).tolist() == [False, False, True, False, False, False]
    assert np.allclose(np.delete(scores, 2), model.predict(np.delete(X, 2, axis=0)), rtol=1e-5)


def test_wrong_shapes_are_refused_and_no_event_is_no_score(model: TrainedModel) -> None:
    for X in (table().X[:, :2], table().X[0]):
        with pytest.raises(UsageError, match=r"X needs the shape \(n, 3\)"):
            model.predict(X)
    assert model.predict(table().X[:0]).shape == (0,)


def test_saved_and_loaded_as_it_is(model: TrainedModel, tmp_path: Path) -> None:
    file = model.save(tmp_path / "member")
    again = load_model(tmp_path / "member")
    assert file.parent == tmp_path / "member" and file.is_file()
    assert np.array_equal(again.predict(table().X), model.predict(table().X))
    assert again.predictor is not model.predictor
    record, expected = ({**vars(one), "predictor": None} for one in (again, model))
    assert record == expected


def test_seed_decides_everything_and_global_randomness_is_untouched(kind: str, model: TrainedModel) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    same, other = train(kind, seed=5), train(kind, seed=6)
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0]) and np.array_equal(before[1], after[1]) and before[2] == after[2]
    assert agree(same, model) and not agree(other, model)


def test_progress_sees_every_row(kind: str) -> None:
    seen: list[tuple[int, int, Mapping[str, float]]] = []
    model = train(kind, progress=lambda *step: seen.append(step))
    assert [row for _, _, row in seen] == model.history
    assert all({"epoch", "train_loss", "validation_loss"} <= row.keys() for _, _, row in seen)
    largest = model.settings.get("epochs", model.settings.get("rounds"))
    assert [step[:2] for step in seen] == [(i + 1, largest) for i in range(len(seen))]


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_given_back(kind: str, fails: bool) -> None:
    before, during = torch.get_num_threads(), set()

    def progress(*_: Any) -> None:
        during.add(torch.get_num_threads())
        if fails:
            raise InterruptedError

    few = table(50)
    short = {name: 1 for name in ("epochs", "rounds") if name in MODELS[kind].settings}
    try:
        train(kind, train=few, validation=few, settings=short, threads=before + 1, progress=progress)
    except InterruptedError:
        assert fails
    assert during == {before + 1} and torch.get_num_threads() == before


def test_unknown_settings_suggest_the_closest(kind: str) -> None:
    name = next(iter(MODELS[kind].settings))
    with pytest.raises(UsageError, match=f"Unknown setting of {kind} '{name}s'. Did you mean '{name}'"):
        train(kind, settings={f"{name}s": 1})


@pytest.mark.parametrize(("policy", "equal"), [("abs", np.abs), ("zero", lambda w: w.clip(min=0))])
def test_negative_weights_become_what_the_policy_says(kind: str, policy: Any, equal: Any) -> None:
    parts = [table(seed=seed) for seed in (0, 1)]
    changed = [Table(part.X, part.y, equal(part.weight)) for part in parts]
    one = train(kind, negative_weights=policy)
    other = train(kind, train=changed[0], validation=changed[1])
    assert agree(one, other)


def test_negative_weights_can_be_dropped_or_kept(kind: str, model: TrainedModel) -> None:
    parts = [table(seed=seed) for seed in (0, 1)]
    kept = [part.take(part.weight >= 0) for part in parts]
    one = train(kind, negative_weights="drop")
    other = train(kind, train=kept[0], validation=kept[1])
    assert agree(one, other)
    if isinstance(model.predictor, Trees):
        with pytest.raises(UsageError, match=r"not negative\. Use another policy"):
            train(kind, negative_weights="keep")
    else:
        signed = train(kind, seed=5, negative_weights="keep")
        assert np.isfinite(signed.best_value) and not agree(signed, model)


def test_three_classes(kind: str, tmp_path: Path) -> None:
    model = train(kind, train=table(classes=3), validation=table(seed=1, classes=3))
    test = table(seed=2, classes=3)
    scores = model.predict(test.X)
    assert scores.shape == (500, 3) and np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert np.mean(scores.argmax(axis=1) == test.y) > 0.5
    model.save(tmp_path)
    assert np.array_equal(load_model(tmp_path).predict(test.X), scores)


@pytest.mark.parametrize(
    "kind", ["kan", "bdt"]
)
def test_no_event_of_three_classes_is_an_empty_array(kind: str) -> None:
    model = train(kind, train=table(classes=3), validation=table(seed=1, classes=3))
    assert model.predict(table().X[:0]).shape == (0, 3)


def test_networks_resume_from_a_checkpoint(tmp_path: Path) -> None:
    def stop(epoch: int, *_: Any) -> None:
        if epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train("kan", checkpoint=tmp_path / "c", progress=stop)
    assert (tmp_path / "c").is_file()
    assert agree(train("kan", checkpoint=tmp_path / "c"), train("kan"))
    assert not (tmp_path / "c").exists()


def test_trees_stop_early_and_keep_the_best_round() -> None:
    model = train("bdt", settings={"rounds": 500, "stop_after": 5, "learning_rate": 0.5})
    losses = [row["validation_loss"] for row in model.history]
    assert len(losses) == int(np.argmin(losses)) + 1 + 5 < 500
    assert isinstance(model.predictor, Trees)
    assert model.predictor.text.count("Tree=") == int(np.argmin(losses)) + 1


def test_size_follows_the_settings() -> None:
    sizes = {kind: train(kind).n_parameters for kind in ("kan", "gam", "mlp", "logistic")}
    assert sizes == {"kan": 3 * 4 * 9 + 4 + 4 * 9 + 1, "gam": 3 * 9 + 1, "mlp": 4 * 20 + 21, "logistic": 4}


@pytest.mark.parametrize("kind", ["kan", "gam", "mlp", "logistic"])
def test_grid_updates_and_averages_are_settings(kind: str) -> None:
    assert not agree(train(kind, settings={**QUICK[kind], "average": 0.5}), train(kind))
    changed = {**QUICK[kind], "grid_updates": 2}
    if kind in ("kan", "gam"):
        assert [row["grid_change"] > 0 for row in train(kind, settings=changed).history[:2]] == [False, True]
    else:
        with pytest.raises(UsageError, match="Grid updates need a KAN"):
            train(kind, settings=changed)


def test_wrong_requests_are_explained() -> None:
    with pytest.raises(UsageError, match=r"Unknown model 'mpl'\. Did you mean 'mlp'"):
        train("mpl")
    for threads in (0, -1, 1.5):
        with pytest.raises(UsageError, match=f"threads needs to be at least 1, however: {threads}"):
            train("kan", threads=threads)


def test_missing_pykan_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kan", None)
    with pytest.raises(MissingExtra, match=r"pip install 'hepkan\[rivals\]'"):
        train("pykan")


def test_damaged_members_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold model.hepkan, model.pykan, model.flow, model.txt or"):
        load_model(tmp_path)
    hepkan.save(hepkan.KAN([3, 1]), tmp_path / "model.hepkan")
    with pytest.raises(DataError, match="must come from train_model"):
        load_model(tmp_path)
    (tmp_path / "model.hepkan").write_bytes(b"half")
    with pytest.raises(DataError, match="complete safetensors file"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "text"),
    [
        ("model.txt", lambda text: "nonsense", "must hold complete"),
        ("model.txt", lambda text: text[: len(text) // 2], "must hold complete"),
        ("model.json", lambda text: "", "must hold complete"),
        ("model.json", lambda text: text[: len(text) // 2], "must hold complete"),
        ("model.json", lambda text: '{"kind": "bdt"}', "must come from train_model"),
    ],
)
def test_damaged_trees_are_explained(name: str, damage: Callable[[str], str], text: str, tmp_path: Path) -> None:
    train("bdt").save(tmp_path)
    file = tmp_path / name
    file.write_text(damage(file.read_text()))
    with pytest.raises(DataError, match=text):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.txt", "model.json"])
def test_half_a_pair_of_tree_files_is_explained(name: str, tmp_path: Path) -> None:
    train("bdt").save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match="must hold"):
        load_model(tmp_path)
