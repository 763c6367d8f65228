"""Grids of whole networks: refined, adapted to hostile data, and moved in training with all that is remembered."""

import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepkan
from hepkan.errors import UsageError
from hepkan.nn import Network
from hepkan.nn.regrid import EVENTS, thinned
from hepkan.nn.transforms import INPUT_MAPS
from hepkan.splines.grids import GridChange, move_gradient
from hepkan.train.optimizers import follow_knots
from training_cases import events, interrupted, same_results, same_weights


def kan(seed: int = 0, **settings: Any) -> hepkan.KAN:
    return hepkan.KAN([2, 5, 1], seed=seed, **settings)


def hostile(n: int = 500, seed: int = 0) -> np.ndarray:
    """Return columns as they come: normal, constant, binary, with -999 for missing, over six orders of magnitude."""
    rng = np.random.default_rng(seed)
    missing = np.where(rng.random(n) < 0.3, -999.0, rng.normal(size=n))
    columns = [rng.normal(size=n), np.full(n, 7.0), rng.choice([-1.0, 1.0], n), missing, 10 ** rng.uniform(-3, 3, n)]
    return np.stack(columns, axis=1).astype(np.float32)


def edges(layer: hepkan.KANLayer, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return copy.deepcopy(layer).double().edge_functions(x.double())


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_refinement_5_to_100_changes_nothing_on_fresh_points(adapted: bool, seed: int) -> None:
    model = hepkan.KAN([5, 8, 8, 1], seed=seed)
    model.fit_inputs(hostile(seed=seed))
    if adapted:
        hepkan.update_grid(model, hostile(seed=seed))
    fresh = torch.from_numpy(hostile(3000, seed=seed + 100))
    with torch.no_grad():
        gap = hepkan.refine(model, 100)(fresh) - model(fresh)
    assert float(gap.abs().max()) < 1e-5


def test_refinement_with_data_follows_them() -> None:
    model, (X, _) = kan(), events()
    model.fit_inputs(X)
    plain, adapted = hepkan.refine(model, 20), hepkan.refine(model, 20, X)
    assert [layer.grid for layer in adapted.layers] == [20, 20]
    assert not torch.equal(plain.layers[1].knots, adapted.layers[1].knots)
    np.testing.assert_allclose(adapted.predict(X), model.predict(X), atol=0.02)


def test_update_reports_the_change_of_every_layer() -> None:
    model, (X, _) = kan(grid=8).double(), events(2000)
    model.fit_inputs(X)
    before = copy.deepcopy(model)
    parameters = [id(parameter) for parameter in model.parameters()]
    changes = hepkan.update_grid(model, torch.from_numpy(X).double())
    assert all(isinstance(change, GridChange) for change in changes) and len(changes) == 2
    assert parameters == [id(parameter) for parameter in model.parameters()]
    z = model.input_map(torch.from_numpy(X).double())
    for old, new, change in zip(before.layers, model.layers, changes, strict=True):
        gap, unit = edges(new, z) - edges(old, z), float(old(z).detach().square().mean().sqrt())
        assert change.rms == pytest.approx(float(gap.square().mean().sqrt()) / unit, rel=0.05)
        assert change.largest == pytest.approx(float(gap.abs().max()) / unit, rel=0.05)
        assert 0 < change.rms < 0.02 and change.rms < change.largest < 0.3
        assert (new.knots[:, 3] <= z.min(dim=0).values).all() and (new.knots[:, -4] >= z.max(dim=0).values).all()
        z = new(z).detach()


def test_update_uses_weights_and_ignores_spoiled_events() -> None:
    X, _ = events()
    halves = [kan(), kan(), kan()]
    weight = (X[:, 0] > 0).astype(float)
    spoiled = np.concatenate([X, np.full((3, 2), np.nan, np.float32)])
    hepkan.update_grid(halves[0], X)
    hepkan.update_grid(halves[1], X, weight)
    hepkan.update_grid(halves[2], spoiled)
    assert not torch.equal(halves[0].layers[0].knots, halves[1].layers[0].knots)
    assert same_weights(halves[0], halves[2])


def test_the_same_knots_change_nothing_and_refinement_hardly_anything() -> None:
    layer = kan().layers[0]
    coef = layer.coef.detach().clone()
    change = layer.set_knots(layer.knots.clone())
    assert change.largest < 1e-6 and torch.allclose(layer.coef, coef, atol=1e-6)
    assert layer.refine(50).largest < 1e-6 and layer.grid == 50


def test_many_events_are_thinned_at_equal_steps() -> None:
    rows = thinned(np.arange(3 * EVENTS + 1)[:, None], EVENTS)[:, 0]
    assert len(rows) == EVENTS and rows[0] == 0 and set(rows.diff().tolist()) <= {3.0, 4.0}
    assert thinned(torch.arange(10), 20).tolist() == list(range(10))


@pytest.mark.parametrize("name", INPUT_MAPS)
@pytest.mark.parametrize("degree", [1, 3])
def test_hostile_columns_give_finite_values_and_gradients(name: str, degree: int) -> None:
    X = hostile()
    model = hepkan.KAN([5, 6, 6, 1], degree=degree, input_map=name)
    model.fit_inputs(X)
    for _ in range(2):
        changes = hepkan.update_grid(model, X)
        assert np.isfinite([(change.rms, change.largest) for change in changes]).all()
        x = torch.from_numpy(np.concatenate([X, hostile(seed=1)])).requires_grad_()
        y = model(x)
        y.sum().backward()
        assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
        assert all((layer.knots.diff(dim=1) > 0).all() for layer in model.layers)


@pytest.mark.parametrize("name", INPUT_MAPS)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_hostile_columns_train_with_grid_updates(name: str, loss: str) -> None:
    X = hostile()
    y = (X[:, 0] > 0).astype(int) if loss == "cross_entropy" else X[:, 0] + X[:, 2]
    model = hepkan.KAN([5, 6, 1], input_map=name)
    result = hepkan.fit(model, (X, y), (hostile(seed=1), y), loss=loss, epochs=6, batch=50, grid_updates=3)
    assert all(np.isfinite(list(row.values())).all() for row in result.history)
    assert np.isfinite(model.predict(hostile(seed=2))).all()


def test_knots_move_in_the_first_epochs_and_then_stay() -> None:
    model, seen = kan(), []

    def progress(epoch: int, epochs: int, row: Mapping[str, float]) -> None:
        seen.append(model.layers[1].knots.clone())

    rows = hepkan.fit(model, events(), epochs=6, batch=50, grid_updates=2, progress=progress).history
    moved = [not torch.equal(one, other) for one, other in itertools.pairwise(seen)]
    assert moved == [True, True, False, False, False]
    assert [row["grid_change"] > 0 for row in rows] == [False, True, True, False, False, False]
    assert max(row["grid_change"] for row in rows) < 0.05
    assert "grid_change" not in hepkan.fit(kan(), events(), epochs=1).history[0]


def test_best_epoch_comes_with_its_own_knots() -> None:
    model, (X, y), losses = kan(), events(200, 1), []
    result = hepkan.fit(
        model, events(60), (X, y), epochs=15, batch=20, grid_updates=14, learning_rate=0.1, schedule="constant",
        progress=lambda epoch, epochs, row: losses.append(row["validation_loss"]),
    )  # fmt: skip
    with torch.no_grad():
        logit = model(torch.from_numpy(X))[:, 0]
    found = float(torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.from_numpy(y).float()))
    assert result.best_epoch < len(losses) and found == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_what_an_optimiser_remembers_follows_the_knots(optimizer: str) -> None:
    from hepkan.train.optimizers import make_optimizer
    from hepkan.train.settings import Settings

    settings = Settings(
        loss="mse", optimizer=optimizer, learning_rate=1e-3, weight_decay=0.0, epochs=1, batch=1, patience=1,
        schedule="constant", seed=0, regularisers={}, gradient_clip=None, grid_updates=1, average=0.0, fit_inputs=True,
    )  # fmt: skip
    model = hepkan.KAN([3, 4, 1], input_map="none")
    updater = make_optimizer(model, settings)
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        updater.zero_grad()
        (model(x) - x[:, :1] ** 2).square().mean().backward()
        updater.step()
    layer = model.layers[0]
    knots, before = layer.knots.clone(), copy.deepcopy(dict(updater.state[layer.coef]))
    others = copy.deepcopy([updater.state[layer.base_weight], updater.state[layer.bias]])
    hepkan.update_grid(model, x)
    follow_knots(updater, list(model.layers), [knots, model.layers[1].knots])
    after = updater.state[layer.coef]
    for name, power in (("exp_avg", 1), ("momentum_buffer", 1), ("exp_avg_sq", 2)):
        if name in before:
            expected = move_gradient(before[name] ** (1 / power), knots, layer.knots, 3) ** power
            torch.testing.assert_close(after[name], expected)
            assert not torch.equal(after[name], before[name])
    for old, parameter in zip(others, (layer.base_weight, layer.bias), strict=True):
        new = updater.state[parameter]
        assert all(torch.equal(old[name], new[name]) for name in old if isinstance(old[name], torch.Tensor))
    updater.step()


@pytest.mark.parametrize("kills", [(1,), (2,), (1, 2, 3, 4)])
@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd"}, {"average": 0.9}])
def test_killed_training_with_grid_updates_continues_to_the_identical_result(
    settings: dict[str, Any], kills: tuple[int, ...], tmp_path: Path
) -> None:
    def train(**changes: Any) -> Any:
        return hepkan.fit(kan(), events(), events(200, 1), epochs=5, batch=50, grid_updates=3, **settings | changes)

    assert same_results(interrupted(train, tmp_path / "training.ckpt", *kills), train())


def test_models_with_moved_knots_are_saved_and_loaded(tmp_path: Path) -> None:
    model = kan()
    hepkan.fit(model, events(), epochs=3, batch=50, grid_updates=2)
    hepkan.save(model, tmp_path / "m.hepkan")
    assert same_weights(hepkan.load(tmp_path / "m.hepkan"), model)


def test_wrong_requests_are_explained() -> None:
    X, y = events(50)
    network: Network = hepkan.MLP([2, 4, 1])
    with pytest.raises(UsageError, match="Grid updates need a KAN, however the model is a MLP"):
        hepkan.fit(network, (X, y), grid_updates=1)
    with pytest.raises(UsageError, match="grid update needs a KAN, however the model is a MLP"):
        hepkan.update_grid(network, X)  # type: ignore[arg-type]
    for value in (-1, 0.5):
        with pytest.raises(UsageError, match=f"grid_updates needs .* number of at least 0, however: {value}"):
            hepkan.fit(kan(), (X, y), grid_updates=value)  # type: ignore[arg-type]
    for bad in (X[:, :1], X[0], X[:0]):
        with pytest.raises(UsageError, match=r"X needs the shape \(n, 2\) with n > 0"):
            hepkan.update_grid(kan(), bad)
    with pytest.raises(UsageError, match=r"weight needs the shape \(50,\), however: \(49,\)"):
        hepkan.update_grid(kan(), X, np.ones(49))
    with pytest.raises(UsageError, match="blend must be above 0"):
        hepkan.update_grid(kan(), X, blend=2.0)


MEMORY = """
import json, sys
import numpy as np, torch, hepkan

def now(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

torch.set_num_threads(1)
small = np.random.default_rng(0).normal(size=(2000, 43)).astype(np.float32)
hepkan.fit(hepkan.KAN([43, 30, 30, 1]), (small, small[:, 0] > 0), epochs=2, grid_updates=1)
imports = now("VmRSS")
X = np.empty((1_000_000, 43), np.float32)
for first in range(0, len(X), 10_000):
    X[first : first + 10_000] = np.random.default_rng(first).standard_normal((10_000, 43), dtype=np.float32)
model, data = hepkan.KAN([43, 30, 30, 1]), now("VmRSS") - imports
if sys.argv[1] == "update":
    hepkan.update_grid(model, X)
else:
    hepkan.fit(model, (X, X[:, 0] > 0), epochs=2, grid_updates=1)
print(json.dumps({"imports": imports, "data": data, "peak": now("VmHWM") - imports}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("task", ["update", "fit"])
def test_a_million_events_of_43_features_need_little_memory(task: str) -> None:
    """MiB beyond what the imports and a small training need."""
    done = subprocess.run([sys.executable, "-c", MEMORY, task], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    size = 1_000_000 * 43 * 4 / 2**20
    assert found["data"] == pytest.approx(size, rel=0.1)
    print(found)
    assert found["peak"] < 1.5 * size + 500
