"""The normalising flow: it finds a known density, its samples obey the constraints, a file brings it back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepkan.baselines import TrainedModel, load_model, train_model
from hepkan.data import Table
from hepkan.errors import DataError, UsageError
from hepkan.flow import Flow, TargetMap
from hepkan.metrics import evaluate_conditional
from hepkan.train import DivergenceError

pytest.importorskip("zuko")

MOMENTA = tuple(f"{who}_{what}" for who in ("nu", "phi") for what in ("px", "py", "pz", "e"))
SMALL = {"hidden": [32], "transforms": 2, "epochs": 12, "batch": 256, "learning_rate": 5e-3, "samples": 64}


def table(n: int, seed: int) -> Table:
    """Return events whose momenta are normal around known functions of the features."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    met = rng.exponential(60.0, size=n)
    nu = np.column_stack([0.3 * met, 10 * x[:, 0], 40 * x[:, 1]]) + rng.normal(size=(n, 3)) * [15, 10, 20]
    phi = np.column_stack([met - nu[:, 0], -nu[:, 1], 60 * x[:, 0] * x[:, 1]]) + rng.normal(size=(n, 3)) * [5, 5, 30]
    mass = 100.0 * np.exp(0.4 * rng.normal(size=n))
    energies = np.linalg.norm(nu, axis=1), np.sqrt(np.sum(phi**2, axis=1) + mass**2)
    y = np.column_stack([nu, energies[0], phi, energies[1]])
    names = ("x0", "x1", "met_pt")
    return Table(np.column_stack([x, met]), y, names=names, target_names=MOMENTA)


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    """A flow of a few seconds."""
    return train_model("flow", table(4000, 0), table(1500, 1), SMALL, seed=2)


def test_learns_the_density(model: TrainedModel) -> None:
    losses = [row["validation_loss"] for row in model.history]
    assert min(losses) < losses[0] - 0.5
    test = table(1500, 3)
    samples = model.predictor.sample(test.X, 100, seed=1)  # type: ignore[attr-defined]
    assert samples.shape == (1500, 100, 8) and np.isfinite(samples).all()
    found = evaluate_conditional(test.y, samples)
    assert np.abs(found["coverage_68"][0] - 0.68).max() < 0.08
    assert np.abs(found["coverage_95"][0] - 0.95).max() < 0.05
    # the median of every momentum is known: the flow must come close to its error
    best = np.abs(test.y[:, 2] - 40 * test.X[:, 1]).mean()
    assert np.abs(test.y[:, 2] - model.predict(test.X)[:, 2]).mean() < 1.15 * best
    total = samples[:, :, 0] + samples[:, :, 4] - test.X[:, 2:]
    assert 3.0 < np.percentile(np.abs(total), 68) < 9.0  # 5 GeV in truth


def test_samples_lie_on_their_mass_shells(model: TrainedModel) -> None:
    y = model.predictor.sample(table(500, 4).X, 20)  # type: ignore[attr-defined]
    assert np.abs(y[..., 3] - np.linalg.norm(y[..., :3], axis=-1)).max() < 1e-9
    mass = np.sqrt(np.maximum(y[..., 7] ** 2 - np.sum(y[..., 4:7] ** 2, axis=-1), 0))
    assert np.percentile(mass, (16, 50, 84)) == pytest.approx([67.0, 100.0, 149.0], rel=0.15)


def test_head_holds_for_samples_and_prediction() -> None:
    test = table(300, 5)
    model = train_model("flow", table(600, 0), table(300, 1), {**SMALL, "epochs": 1, "head": "mass_shells_met"})
    for y in (model.predict(test.X)[:, None], model.predictor.sample(test.X, 5)):  # type: ignore[attr-defined]
        assert np.abs(y[..., 0] + y[..., 4] - test.X[:, 2:]).max() < 1e-4 and np.abs(y[..., 1] + y[..., 5]).max() < 1e-4
        assert np.abs(y[..., 3] - np.linalg.norm(y[..., :3], axis=-1)).max() < 1e-5


def test_seeds_decide_and_an_event_is_alone(model: TrainedModel) -> None:
    X = table(400, 6).X
    flow: Any = model.predictor
    before = torch.get_rng_state()
    assert np.array_equal(flow.sample(X, 10, 3), flow.sample(X, 10, 3))
    assert not np.allclose(flow.sample(X, 10, 3), flow.sample(X, 10, 4))
    whole = model.predict(X)
    assert np.allclose(whole[7:9], model.predict(X[7:9]), rtol=1e-5, atol=1e-3)
    same, other = (train_model("flow", table(500, 0), table(300, 1), {**SMALL, "epochs": 1}, seed=s) for s in (5, 6))
    again = train_model("flow", table(500, 0), table(300, 1), {**SMALL, "epochs": 1}, seed=5)
    assert np.array_equal(same.predict(X), again.predict(X)) and not np.allclose(same.predict(X), other.predict(X))
    assert torch.equal(before, torch.get_rng_state())


def test_spoiled_events_and_shapes(model: TrainedModel) -> None:
    flow: Any = model.predictor
    X = table(4, 6).X.astype(np.float64)
    X[1, 2], X[2] = np.nan, 1e9
    assert np.isnan(flow.sample(X, 3)).any(axis=(1, 2)).tolist() == [False, True, False, False]
    assert np.isnan(model.predict(X)).any(axis=1).tolist() == [False, True, False, False]
    for wrong in ((X[:, :2], 3), (X, 0)):
        with pytest.raises(UsageError, match="samples at least 1"):
            flow.sample(*wrong)


def test_saved_and_loaded_as_it_is(model: TrainedModel, tmp_path: Path) -> None:
    file = model.save(tmp_path)
    X = table(200, 7).X
    again = load_model(tmp_path)
    assert file.name == "model.flow" and isinstance(again.predictor, Flow)
    assert np.array_equal(again.predict(X), model.predict(X)) and again.n_parameters == model.n_parameters
    assert np.array_equal(again.predictor.sample(X, 4, 1), model.predictor.sample(X, 4, 1))  # type: ignore[attr-defined]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="complete safetensors file"):
        load_model(tmp_path)


def test_map_of_targets_is_undone() -> None:
    data = table(500, 8)
    targets, met = torch.from_numpy(data.y), torch.from_numpy(data.X[:, 2:].astype(np.float64))
    for context in (met, None):
        one = TargetMap()
        u = one.raw(targets, context)
        one.fit(u, np.ones(500))
        z = one.standard(u)
        assert float(z.std(dim=0, correction=0).sub(1).abs().max()) < 1e-3
        assert torch.allclose(one.targets(z, context), targets, rtol=1e-4, atol=1e-2)
        assert bool(torch.isfinite(one.targets(100 * z, context)).all())


def test_wrong_requests_are_explained() -> None:
    parts = table(300, 0), table(200, 1)
    negative = [
        Table(one.X, one.y, -np.ones(len(one)) + 3 * (one.X[:, 0] > 0), names=one.names, target_names=one.target_names)
        for one in parts
    ]
    with pytest.raises(UsageError, match=r"not negative\. Use another policy"):
        train_model("flow", *negative, SMALL, negative_weights="keep")
    other = [Table(one.X, one.y[:, :3]) for one in parts]
    with pytest.raises(UsageError, match="needs px, py, pz and e"):
        train_model("flow", *other, SMALL)
    with pytest.raises(UsageError, match="samples and transforms of at least 1"):
        train_model("flow", *parts, {**SMALL, "transforms": 0})
    with pytest.raises(UsageError, match="Unknown input map 'quantil'"):
        train_model("flow", *parts, {**SMALL, "input_map": "quantil"})
    with pytest.raises(DivergenceError, match="must stay finite"):
        train_model("flow", *parts, {**SMALL, "learning_rate": 1e30, "epochs": 3})
