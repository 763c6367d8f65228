"""A student learns what its teachers say on average: better than one of them, resumable, in units of the targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hepkan
from hepkan import baselines
from hepkan.baselines import train_model
from hepkan.data import Table
from hepkan.errors import UsageError

SETTINGS: dict[str, Any] = {"hidden": [8, 8], "epochs": 12, "batch": 64, "weight_decay": 0.0, "loss": "mae"}


def table(n: int, seed: int, noise: float = 1.0) -> Table:
    """Return two targets of very different size, under noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    truth = np.column_stack([np.sin(2 * X[:, 0]) + X[:, 1], 100.0 * X[:, 1] * X[:, 2] + 500.0])
    y = truth + noise * rng.normal(size=truth.shape) * [1.0, 100.0]
    return Table(X, y, target_names=("a", "b"))


class Killed(Exception):
    pass


def test_a_student_is_better_than_its_teachers_are_alone() -> None:
    train, truth = table(600, 1), table(4000, 2, noise=0.0)
    scale = truth.y.std(axis=0)

    def error(model: Any) -> float:
        return float((np.abs(model.predict(truth.X) - truth.y) / scale).mean())

    teachers = []
    for seed in range(6):
        teachers.append(hepkan.KAN([3, 8, 8, 2], seed=seed))
        hepkan.fit(teachers[-1], train, loss="mae", epochs=25, batch=64, weight_decay=0.0, seed=seed)
    student = hepkan.KAN([3, 8, 8, 2], seed=99)
    hepkan.distil(student, teachers, train, loss="mae", epochs=25, batch=64, weight_decay=0.0)
    assert error(student) < 0.9 * np.mean([error(one) for one in teachers])


def test_a_student_may_use_fewer_features_than_its_teacher() -> None:
    train = table(500, 1, noise=0.1)
    whole = hepkan.KAN([3, 6, 2], seed=0)
    hepkan.fit(whole, train, loss="mae", epochs=15, batch=64, seed=0)
    few = hepkan.KAN([2, 6, 2], seed=1, columns=[2, 1], n_features=3)
    hepkan.distil(few, [whole], train, loss="mae", epochs=15, batch=64)
    expected = whole.input_map(hepkan.nn.networks.as_tensor(train.X))[:, [2, 1]]
    np.testing.assert_array_equal(few.coordinates(hepkan.nn.networks.as_tensor(train.X)), expected)
    assert np.abs(few.predict(train.X)[:, 1] - whole.predict(train.X)[:, 1]).mean() < 0.2 * train.y[:, 1].std()
    with pytest.raises(UsageError, match=r"all of its features.*do not use columns \[0\]"):
        hepkan.distil(hepkan.KAN([3, 6, 2]), [few], train, loss="mae", epochs=1)


def test_validation_is_by_the_truth_in_the_units_of_the_targets() -> None:
    train, validation = table(400, 1), table(300, 2)
    trained = train_model("kan", train, validation, {**SETTINGS, "teachers": 2})
    scale = np.asarray(trained.predictor.output_map.scale)
    found = (np.abs(trained.predict(validation.X) - validation.y) / scale).mean()
    assert trained.best_value == pytest.approx(float(found), rel=1e-5)
    np.testing.assert_allclose(scale, train.y.std(axis=0), rtol=1e-4)
    assert trained.history[-1]["train_loss"] < 0.7 * trained.best_value
    assert trained.settings["teachers"] == 2


@pytest.mark.parametrize("kind", ["kan", "mlp"])
def test_teachers_take_their_time_and_change_the_result(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = table(300, 1), table(200, 2)
    settings = {**SETTINGS, "epochs": 4}
    alone = train_model(kind, train, validation, settings)
    for name in ("fit", "distil"):
        train_it = getattr(baselines, name)
        timed = lambda *args, it=train_it, **settings: replace(it(*args, **settings), seconds=1.0)  # noqa: E731
        monkeypatch.setattr(baselines, name, timed)
    taught = train_model(kind, train, validation, {**settings, "teachers": 3})
    assert taught.n_parameters == alone.n_parameters
    assert taught.seconds == 4.0
    assert not np.array_equal(taught.predict(train.X), alone.predict(train.X))
    again = train_model(kind, train, validation, {**settings, "teachers": 3})
    assert np.array_equal(taught.predict(train.X), again.predict(train.X))


def test_teachers_may_be_larger_than_their_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = table(300, 1), table(200, 2)
    settings = {**SETTINGS, "epochs": 4, "teachers": 2, "teacher": {"hidden": [7, 5], "epochs": 3, "grid": 4}}
    shapes: list[tuple[list[int], int, int]] = []
    learn = baselines.fit

    def seen(model: hepkan.KAN, *tables: Any, **chosen: Any) -> Any:
        shapes.append((list(model.widths), model.layers[0].grid, chosen["epochs"]))
        return learn(model, *tables, **chosen)

    monkeypatch.setattr(baselines, "fit", seen)
    taught = train_model("kan", train, validation, settings, checkpoint=tmp_path / "one.checkpoint")
    assert shapes == [([3, 7, 5, 2], 4, 3)] * 2
    alone = train_model("kan", train, validation, {**SETTINGS, "epochs": 4})
    assert taught.n_parameters == alone.n_parameters and len(taught.history) == 4


@pytest.mark.parametrize("name", ["hiden", "teachers", "loss", "input_map"])
def test_settings_that_teachers_cannot_have_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"setting of the teachers of kan .*{name}"):
        train_model("kan", table(30, 1), table(20, 2), {**SETTINGS, "teachers": 1, "teacher": {name: 1}})


@pytest.mark.parametrize("wrong", [3, None, [120, 120]])
def test_settings_of_teachers_are_named(wrong: object) -> None:
    with pytest.raises(UsageError, match="teacher needs settings by name"):
        train_model("kan", table(30, 1), table(20, 2), {**SETTINGS, "teachers": 1, "teacher": wrong})


@pytest.mark.parametrize("stop", [3, 12, 15, 26, 35])
def test_an_interrupted_training_goes_on_to_the_same_result_and_leaves_nothing(stop: int, tmp_path: Path) -> None:
    train, validation = table(300, 1), table(200, 2)
    settings = {**SETTINGS, "teachers": 2, "patience": 50}
    path = tmp_path / ".kan-seed0.checkpoint"
    whole = train_model("kan", train, validation, settings)
    calls = 0

    def kill(done: int, total: int, row: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise Killed

    with pytest.raises(Killed):
        train_model("kan", train, validation, settings, progress=kill, checkpoint=path)
    assert list(tmp_path.iterdir())
    again = train_model("kan", train, validation, settings, checkpoint=path)
    assert np.array_equal(again.predict(train.X), whole.predict(train.X))
    assert [row["validation_loss"] for row in again.history] == [row["validation_loss"] for row in whole.history]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_distilled_is_refused() -> None:
    train = table(100, 1)
    model = hepkan.KAN([3, 4, 2])
    with pytest.raises(UsageError, match="needs teachers, however there are none"):
        hepkan.distil(model, [], train)
    with pytest.raises(UsageError, match="same features, targets and input map"):
        hepkan.distil(model, [hepkan.KAN([4, 4, 2])], train)
    with pytest.raises(UsageError, match="same features, targets and input map"):
        hepkan.distil(model, [hepkan.KAN([3, 4, 2], input_map="standard")], train)
    classes = Table(train.X, (train.X[:, 0] > 0).astype(np.int64))
    with pytest.raises(UsageError, match="taught by the cross-entropy, however the loss is 'mse'"):
        hepkan.distil(hepkan.KAN([3, 4, 1]), [hepkan.KAN([3, 4, 1])], classes, loss="mse")


def labelled(n: int, seed: int, classes: int) -> Table:
    """Return overlapping classes with uneven weights, some negative."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    logits = np.column_stack([np.zeros(n), *(2.0 * np.sin(X[:, i] + i) * X[:, 2] for i in range(classes - 1))])
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random((n, 1)) > share.cumsum(axis=1)).sum(axis=1)
    weight = rng.uniform(0.5, 1.5, n) * np.where(rng.random(n) < 0.05, -1.0, 1.0) * np.where(y == 0, 5.0, 1.0)
    return Table(X, y.astype(np.int64), weight, names=("a", "b", "c"))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("policy", ["abs", "drop"])
def test_classes_are_taught_by_the_mean_probabilities(classes: int, policy: str) -> None:
    train, validation = labelled(400, 1, classes), labelled(3000, 2, classes)
    shape = [3, 8, 8, 1 if classes == 2 else classes]
    settings: dict[str, Any] = {"epochs": 25, "batch": 64, "weight_decay": 0.0, "negative_weights": policy}

    def loss(model: Any) -> float:
        p = model.predict(validation.X)
        p = np.column_stack([1.0 - p, p]) if p.ndim == 1 else p
        kept, weight = validation.for_training(policy)  # type: ignore[arg-type]
        chosen = p[np.isin(np.arange(len(p)), np.flatnonzero(validation.weight >= 0)) | (policy == "abs")]
        return float((weight * -np.log(chosen[np.arange(len(kept)), kept.y])).sum() / weight.sum())

    teachers = [hepkan.KAN(shape, seed=seed) for seed in range(5)]
    for seed, one in enumerate(teachers):
        hepkan.fit(one, train, validation, seed=seed, **settings)
    student = hepkan.KAN(shape, seed=99)
    result = hepkan.distil(student, teachers, train, validation, **settings)
    assert loss(student) < np.mean([loss(one) for one in teachers])
    assert result.best_value == pytest.approx(loss(student), rel=1e-4)
    assert student.feature_names == ["a", "b", "c"] and student.link == teachers[0].link


def test_a_card_of_classes_may_have_teachers() -> None:
    train, validation = labelled(300, 1, 2), labelled(300, 2, 2)
    settings: dict[str, Any] = {"hidden": [6], "epochs": 5, "batch": 64}
    taught = train_model("kan", train, validation, {**settings, "teachers": 2})
    alone = train_model("kan", train, validation, settings)
    assert taught.n_parameters == alone.n_parameters and taught.settings["teachers"] == 2
    assert not np.array_equal(taught.predict(train.X), alone.predict(train.X))
