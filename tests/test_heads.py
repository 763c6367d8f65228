"""Heads: constraints that hold for any output, gradients through them, and networks that keep them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepkan
import hepkan.export
from hepkan.data import ParquetStream, Table
from hepkan.errors import UsageError
from hepkan.nn.heads import Head, head_for
from hepkan.train import fit

MOMENTA = tuple(f"{who}_{what}" for who in ("nu", "phi") for what in ("px", "py", "pz", "e"))
NAMES = ("met_pt", "lep_px", "lep_py", "jet_pz")
CASES = [("mass_shells", None), ("mass_shells", 125.0), ("mass_shells_met", None), ("mass_shells_met", 0.0)]


def truth(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features whose first is the sum of transverse momenta, and components on their mass shells, in GeV."""
    generator = torch.Generator().manual_seed(seed)
    nu, phi = (40.0 * torch.randn(n, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    met = nu[:, :1] + phi[:, :1]
    phi[:, 1] = -nu[:, 1]
    mass = 300.0 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    energy = torch.cat([phi, mass], dim=1).norm(dim=1, keepdim=True)
    features = torch.cat([met, nu[:, :2] + 5.0, phi[:, 2:] ** 2 / 50.0], dim=1)
    return features, torch.cat([nu, nu.norm(dim=1, keepdim=True), phi, energy], dim=1)


def table(n: int = 600, seed: int = 0) -> Table:
    """Return the same as a table."""
    features, targets = truth(n, seed)
    return Table(features.numpy(), targets.numpy(), names=NAMES, target_names=MOMENTA)


def network(kind: str, head: str, mass: float | None = None, **settings: Any) -> hepkan.nn.Network:
    """Return an untrained network with a head."""
    made = head_for(head, mass, NAMES, MOMENTA)
    assert made is not None
    constructor: Any = {"KAN": hepkan.KAN, "MLP": hepkan.MLP}[kind]
    return constructor([4, 6, made.reduced], head=made.describe(), **settings)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "mass"), CASES)
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e3, 1e6])
def test_constraints_hold_for_any_output(name: str, mass: float | None, size: float) -> None:
    features, targets = truth(5000)
    head = Head(name, 4, 0, mass)
    head.fit(targets)
    outputs = size * torch.randn(5000, head.reduced, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = head(outputs, head.context(features))
    assert y.shape == (5000, 8) and y.dtype == torch.float64 and bool(torch.isfinite(y).all())
    nu, phi = y[:, :4], y[:, 4:]
    assert float((nu[:, 3] - nu[:, :3].norm(dim=1)).abs().max()) < 1e-5
    if mass is not None:
        shell = torch.sqrt(phi[:, :3].square().sum(dim=1) + mass**2)
        assert float(((phi[:, 3] - shell) / shell).abs().max()) < 1e-12
    assert float((phi[:, 3] - phi[:, :3].norm(dim=1)).min()) > -1e-5
    if name == "mass_shells_met":
        assert float((nu[:, 0] + phi[:, 0] - features[:, 0]).abs().max()) < 1e-4
        assert float((nu[:, 1] + phi[:, 1]).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["mass_shells", "mass_shells_met"])
def test_decoding_undoes_encoding(name: str) -> None:
    features, targets = truth(1000)
    head = Head(name, 4, 0)
    assert torch.allclose(head.decode(head.encode(targets), head.context(features)), targets, rtol=0, atol=1e-6)
    negative = head.encode(targets)
    negative[:, -1] = -50.0
    y = head.decode(negative, head.context(features))
    assert torch.allclose(y[:, 7], y[:, 4:7].norm(dim=1))


@pytest.mark.parametrize(("name", "mass"), CASES)
def test_gradients_are_exact_and_finite_at_rest(name: str, mass: float | None) -> None:
    features, targets = truth(6)
    head = Head(name, 4, 0, mass).double()
    head.fit(targets)
    outputs = torch.randn(6, head.reduced, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one: head(one, head.context(features)), outputs)
    zero = Head(name, 4, 0, 0.0)
    rest = torch.zeros(3, zero.reduced, requires_grad=True)
    zero(rest, torch.zeros(3, 1)).sum().backward()
    assert rest.grad is not None and bool(torch.isfinite(rest.grad).all())


def test_scales_follow_the_targets() -> None:
    _, targets = truth(4000)
    head = Head("mass_shells", 4)
    head.fit(targets)
    reduced = head.activate(torch.zeros(1, 7, dtype=torch.float64))[0]
    assert reduced[:6].numpy() == pytest.approx(head.encode(targets).mean(dim=0)[:6].numpy(), abs=1e-4)
    assert float(reduced[6]) == pytest.approx(float(head.encode(targets)[:, 6].mean()), rel=1e-5)
    still = targets.clone()
    still[:, 7] = still[:, 4:7].norm(dim=1)  # a massless mediator: the scale stays positive
    head.fit(still)
    assert float(head.mass_scale) == 1.0


@pytest.mark.parametrize("kind", ["KAN", "MLP"])
@pytest.mark.parametrize(("name", "mass"), CASES)
def test_networks_learn_with_heads_and_keep_them(kind: str, name: str, mass: float | None, tmp_path: Path) -> None:
    train, test = table(), table(3000, seed=1)
    model = network(kind, name, mass)
    result = fit(model, train, table(seed=2), loss="mae", epochs=6, batch=50, learning_rate=2e-2)
    assert result.history[-1]["train_loss"] < 0.9 * result.history[0]["train_loss"]
    scale = torch.from_numpy(train.y).std(dim=0, correction=0).numpy()
    own = np.mean(np.abs(model.predict(table(seed=2).X) - table(seed=2).y) / scale)
    assert result.best_value == pytest.approx(own, rel=1e-5)
    y = model.predict(test.X)
    assert y.dtype == np.float64
    assert np.abs(y[:, 3] - np.linalg.norm(y[:, :3], axis=1)).max() < 1e-5
    if name == "mass_shells_met":
        assert np.abs(y[:, 0] + y[:, 4] - test.X[:, 0]).max() < 1e-4 and np.abs(y[:, 1] + y[:, 5]).max() < 1e-4
    hepkan.save(model, tmp_path / "model.hepkan")
    again = hepkan.load(tmp_path / "model.hepkan")
    assert np.array_equal(again.predict(test.X), y) and again.describe() == model.describe()
    with torch.no_grad():
        assert np.allclose(model(torch.from_numpy(test.X)).numpy(), y, rtol=1e-4, atol=1e-2)


def test_extreme_features_keep_the_sum(tmp_path: Path) -> None:
    model = network("KAN", "mass_shells_met")
    fit(model, table(), loss="mae", epochs=1)
    X = np.random.default_rng(0).normal(size=(5000, 4)) * np.geomspace(1e-3, 1e7, 5000)[:, None]
    y = model.predict(X)  # float64 features: the sum is of what was given
    assert np.abs(y[:, 0] + y[:, 4] - X[:, 0]).max() < 1e-4
    X[3, 0] = np.nan
    assert np.isnan(model.predict(X[:5])).any(axis=1).tolist() == [False, False, False, True, False]


def test_the_kernel_gives_the_gradients_of_autograd() -> None:
    model = network("KAN", "mass_shells_met")
    features, targets = truth(200)
    model.fit_inputs(features.float())
    model.fit_outputs(targets)
    z, context = model.coordinates(features.float()), features[:, :1].float()
    output, finish = model.step(z)
    model.standardised(output, context).abs().mean().backward()
    finish()
    fast = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    model.standardised(model.body(z), context).abs().mean().backward()
    slow = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(fast) == len(slow) > 0
    for one, other in zip(fast, slow, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)


def test_training_resumes_to_the_same_result(tmp_path: Path) -> None:
    def train(checkpoint: Path | None, stop: int | None = None) -> np.ndarray:
        def progress(epoch: int, *_: Any) -> None:
            if epoch == stop:
                raise InterruptedError

        model = network("KAN", "mass_shells_met", products=[1, 0])
        fit(
            model,
            table(),
            table(seed=2),
            loss="mae",
            epochs=5,
            batch=100,
            grid_updates=2,
            average=0.9,
            checkpoint=checkpoint,
            progress=progress,
        )
        return model.predict(table(seed=3).X)

    with pytest.raises(InterruptedError):
        train(tmp_path / "c", 3)
    assert np.array_equal(train(tmp_path / "c"), train(None))


def test_a_stream_trains_as_a_table(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = table(900)
    columns = {name: data.X[:, i] for i, name in enumerate(NAMES)}
    columns |= {name: data.y[:, i] for i, name in enumerate(MOMENTA)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=200)
    stream = ParquetStream(tmp_path / "a.parquet", features=list(NAMES), target=list(MOMENTA), weight=None)
    model = network("MLP", "mass_shells_met")
    result = fit(model, stream, table(seed=2), loss="mae", epochs=4, batch=64, learning_rate=1e-2)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    y = model.predict(data.X)
    assert np.abs(y[:, 0] + y[:, 4] - data.X[:, 0]).max() < 1e-4


def test_columns_do_not_hide_the_context() -> None:
    description = {"name": "mass_shells_met", "n_features": 4, "met": 0}
    model = hepkan.KAN([2, 5], columns=[1, 3], n_features=4, head=description)
    fit(model, table(), loss="mae", epochs=2)
    X = table(seed=4).X
    y = model.predict(X)
    assert model.n_targets == 8 and np.abs(y[:, 0] + y[:, 4] - X[:, 0]).max() < 1e-4


def test_wrong_requests_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown head of a network 'mass_shell'. Did you mean 'mass_shells'"):
        Head("mass_shell", 4)
    for mass in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="mediator_mass must be finite and not negative"):
            Head("mass_shells", 4, mediator_mass=mass)
    for column in (None, -1, 4):
        with pytest.raises(UsageError, match=f"column of the missing momentum, however: met={column}"):
            Head("mass_shells_met", 4, column)
    with pytest.raises(UsageError, match="needs 7 outputs of 4 features, however the network has 8 outputs"):
        hepkan.KAN([4, 8], head={"name": "mass_shells"})
    model = network("MLP", "mass_shells")
    with pytest.raises(UsageError, match="needs a loss of regression, however: 'cross_entropy'"):
        fit(model, (table().X, np.zeros(600, dtype=int)))
    with pytest.raises(UsageError, match=r"Targets of 8 outputs need the shape \(n, 8\)"):
        fit(model, (table().X, table().y[:, :7]), loss="mae")
    for export in (hepkan.export.onnx, hepkan.export.cpp):
        with pytest.raises(UsageError, match="however it has the head 'mass_shells'"):
            export(model, tmp_path / "model")
