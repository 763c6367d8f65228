"""L-BFGS for small problems, and the moving average of the weights."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepkan
from hepkan.errors import UsageError
from hepkan.train.optimizers import Average
from hepkan.train.settings import DEFAULTS
from training_cases import events, held_out_loss, interrupted, same_results, same_weights


def smooth(n: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a regression without noise that a small network can learn to many digits."""
    X = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, size=(n, 2)))
    return X, (torch.sin(2 * X[:, :1]) + X[:, 1:] ** 2).exp()


def train(optimizer: str, epochs: int = 15, data: Any = None, **settings: Any) -> Any:
    model = hepkan.KAN([2, 3, 1], input_map="standard").double()
    data = smooth() if data is None else data
    batch = settings.pop("batch", 300)
    return hepkan.fit(model, data, loss="mse", optimizer=optimizer, epochs=epochs, batch=batch, **settings)


def test_lbfgs_goes_far_below_adamw_in_as_many_epochs() -> None:
    X, y = smooth(seed=1)
    errors = {}
    for name, settings in (("lbfgs", {}), ("adamw", {"learning_rate": 2e-2, "weight_decay": 0.0, "batch": 15})):
        model = train(name, **settings).model
        errors[name] = float((model(X) - y).detach().square().mean().sqrt())
    assert errors["lbfgs"] < 0.1 * errors["adamw"] and errors["lbfgs"] < 1e-2 * float(y.std())


def test_lbfgs_takes_its_own_defaults_and_whole_steps() -> None:
    rows = train("lbfgs", epochs=3).history
    assert DEFAULTS["lbfgs"] == (1.0, 0.0) and [row["learning_rate"] for row in rows] == [1.0] * 3
    losses = [row["train_loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert same_weights(train("lbfgs").model, train("lbfgs", learning_rate=1.0, weight_decay=0.0).model)
    assert not same_weights(train("lbfgs").model, train("lbfgs", learning_rate=0.5).model)


def test_lbfgs_decay_is_a_term_of_the_loss() -> None:
    """At the optimum of a linear model the gradient of the loss is minus decay times weight, and zero for the bias."""
    X, y = smooth()
    model = hepkan.MLP([2, 1], input_map="none").double()
    hepkan.fit(model, (X, y), loss="mse", optimizer="lbfgs", batch=300, epochs=5, weight_decay=0.3)
    linear = model.layers[0]
    target = (y - model.output_map.mean) / model.output_map.scale
    (model.body(X) - target).square().mean().backward()
    torch.testing.assert_close(linear.weight.grad, -0.3 * linear.weight.detach(), atol=1e-6, rtol=1e-6)
    assert float(linear.bias.grad.abs()) < 1e-6 and float(linear.weight.detach().abs().max()) > 0.1


def test_lbfgs_classifies_and_stops_early() -> None:
    (X, y), model = events(200, 1), hepkan.KAN([2, 5, 1])
    result = hepkan.fit(model, events(), (X, y), optimizer="lbfgs", batch=400, epochs=30, patience=4)
    assert len(result.history) == result.best_epoch + 4
    assert held_out_loss(model, X, y) == pytest.approx(result.best_value) and result.best_value < 0.3


@pytest.mark.parametrize("double", [False, True])
def test_lbfgs_at_its_goal_stays_there(double: bool) -> None:
    X = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 2)))
    model = hepkan.MLP([2, 1], input_map="standard")
    model = model.double() if double else model
    rows = hepkan.fit(model, (X, X[:, :1] - X[:, 1:]), loss="mse", optimizer="lbfgs", batch=50, epochs=30).history
    assert rows[-1]["train_loss"] < 1e-12 and all(np.isfinite(list(row.values())).all() for row in rows)


def test_lbfgs_begins_anew_when_knots_move() -> None:
    rows = train("lbfgs", epochs=6, grid_updates=2).history
    assert [row["grid_change"] > 0 for row in rows] == [False, True, True, False, False, False]
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]


@pytest.mark.parametrize("settings", [{}, {"grid_updates": 2}, {"average": 0.5, "weight_decay": 1e-3}])
def test_killed_lbfgs_continues_to_the_identical_result(settings: dict[str, Any], tmp_path: Path) -> None:
    def fit(**changes: Any) -> Any:
        return train("lbfgs", epochs=5, **settings | changes)

    assert same_results(interrupted(fit, tmp_path / "training.ckpt", 1, 3), fit())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"batch": 299}, r"full batch.*batch=299 with 300 training events\. Set batch to at least 300"),
        ({"gradient_clip": 1.0}, "line search, however gradient_clip is set"),
    ],
)
def test_what_lbfgs_cannot_do_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        train("lbfgs", **settings)


def test_lbfgs_needs_a_loss_that_does_not_vary() -> None:
    with pytest.raises(UsageError, match="the model has dropout"):
        hepkan.fit(hepkan.MLP([2, 4, 1], dropout=0.1), events(), optimizer="lbfgs", batch=400)
    with pytest.raises(UsageError, match="batch=1024 with 2000 training events"):
        hepkan.fit(hepkan.KAN([2, 1]), events(2000), optimizer="lbfgs")


def averaged(**settings: Any) -> Any:
    model = hepkan.KAN([2, 5, 1])
    defaults = {"epochs": 6, "batch": 40, "learning_rate": 0.1, "schedule": "constant", "average": 0.95}
    return hepkan.fit(model, events(), events(200, 1), **defaults | settings)


def test_average_is_the_weighted_mean_of_the_steps() -> None:
    model = hepkan.MLP([1, 1], input_map="none")
    average, weight = Average(model, 0.5), model.layers[0].weight.detach()
    expected = float(weight)
    for step in range(1, 30):
        weight += 1.0
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * float(weight)
    own = float(weight)
    with average.applied():
        assert float(weight) == pytest.approx(expected, rel=1e-5)
    assert float(weight) == own
    average.restart()
    with average.applied():
        assert float(weight) == own


def test_averaged_weights_are_validated_kept_and_returned() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    X, y = events(200, 1)
    model = hepkan.KAN([2, 5, 1])

    def progress(epoch: int, epochs: int, row: Mapping[str, float]) -> None:
        seen.append(copy.deepcopy(model.state_dict()))

    settings = {"epochs": 6, "batch": 40, "learning_rate": 0.1, "schedule": "constant"}
    result = hepkan.fit(model, events(), (X, y), average=0.95, progress=progress, **settings)
    assert result.best_value == held_out_loss(model, X, y) == min(row["validation_loss"] for row in result.history)
    plain = hepkan.fit(hepkan.KAN([2, 5, 1]), events(), (X, y), **settings)
    trained = [[row["train_loss"] for row in one.history] for one in (result, plain)]
    assert trained[0] == trained[1], "the average must not touch the training itself"
    own = seen[result.best_epoch - 1]
    assert not torch.equal(own["layers.0.coef"], model.layers[0].coef)
    assert result.best_value < plain.best_value


def test_average_without_validation_and_with_a_decay_near_zero() -> None:
    def last(average: float) -> Any:
        return hepkan.fit(hepkan.KAN([2, 3, 1]), events(), epochs=2, batch=40, average=average).model

    assert not same_weights(last(0.9), last(0.0))
    pairs = zip(last(1e-12).parameters(), last(0.0).parameters(), strict=True)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in pairs)


@pytest.mark.parametrize("kills", [(1,), (2, 3)])
def test_killed_training_with_an_average_continues_to_the_identical_result(
    kills: tuple[int, ...], tmp_path: Path
) -> None:
    assert same_results(interrupted(averaged, tmp_path / "training.ckpt", *kills), averaged())


@pytest.mark.parametrize("value", [-0.1, 1.0, np.nan])
def test_impossible_averages_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match=f"average needs to be at least 0 and below 1, however: {value}"):
        averaged(average=value)
