"""Layers, maps and networks: shapes, seeds, hostile events, and functions that survive grid changes and saving."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.model_io import read_metadata
from hepkan.nn.transforms import INPUT_MAPS


@pytest.fixture
def features() -> np.ndarray:
    """Features as an analysis has them: normal, a charge, a constant, a falling spectrum."""
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=4000), rng.choice([-1, 1], 4000), np.full(4000, 7.0), 30 * rng.exponential(size=4000)]
    return np.stack(columns, axis=1).astype(np.float32)


MODELS = {
    "kan": lambda seed=0: hepkan.KAN([4, 6, 1], seed=seed),
    "deep kan": lambda seed=0: hepkan.KAN([4, 5, 5, 2], grid=4, degree=2, base="linear", seed=seed),
    "one layer": lambda seed=0: hepkan.KAN([4, 1], base="none", seed=seed),
    "products": lambda seed=0: hepkan.KAN([4, 6, 5, 2], products=[2, 5, 1], seed=seed),
    "shallow": lambda seed=0: hepkan.KAN.shallow(4, seed=seed),
    "mlp": lambda seed=0: hepkan.MLP([4, 20, 20, 1], dropout=0.1, seed=seed),
    "logistic": lambda seed=0: hepkan.MLP([4, 1], input_map="standard", seed=seed),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_network(name: str, features: np.ndarray, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    model = MODELS[name]()
    assert torch.equal(state, torch.random.get_rng_state())
    model.fit_inputs(features, np.ones(len(features)))
    scores = model.predict(features)
    assert len(scores) == len(features) and np.isfinite(scores).all()
    assert not np.array_equal(MODELS[name](1).predict(features), MODELS[name](2).predict(features))
    spoiled = features[:5].copy()
    spoiled[2, 0] = np.nan
    bad = np.isnan(model.predict(spoiled).reshape(5, -1)).all(axis=1)
    assert bad.tolist() == [False, False, True, False, False]
    hepkan.save(model, tmp_path / "m.hepkan", extra={"note": "x"})
    again = hepkan.load(tmp_path / "m.hepkan")
    assert np.array_equal(again.predict(features), scores)
    assert np.array_equal(copy.deepcopy(model).predict(features), scores)
    assert read_metadata(tmp_path / "m.hepkan")["extra"] == {"note": "x"}
    assert model.predict(features[:0]).shape[0] == 0
    decayed = sum(p.numel() for group in model.parameter_groups(0.1) for p in group["params"])
    assert decayed == model.n_parameters


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_refine_keeps_the_network_and_the_original(degree: int, features: np.ndarray) -> None:
    model = hepkan.KAN([4, 5, 1], degree=degree).double()
    model.fit_inputs(features)
    x = torch.from_numpy(features).double()
    before = model(x)
    finer = hepkan.refine(model, 20)
    torch.testing.assert_close(finer(x), before, atol=1e-9, rtol=1e-9)
    assert [layer.grid for layer in finer.layers] == [20, 20]
    assert [layer.grid for layer in model.layers] == [5, 5]
    assert torch.equal(model(x), before)


def test_grid_update_keeps_the_function_as_well_as_a_finer_grid_allows(features: np.ndarray) -> None:
    layer = hepkan.KANLayer(4, 3, grid=20)
    x = torch.from_numpy(features) / torch.tensor([1.0, 1.0, 7.0, 60.0])
    before = layer(x)
    layer.update_grid(x)
    assert torch.isfinite(layer.coef).all()
    assert (layer(x) - before).abs().mean() < 0.05 * before.std()


def test_edge_functions_add_up_to_the_layer() -> None:
    layer = hepkan.KANLayer(5, 3)
    x = 4 * torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer.edge_functions(x).sum(dim=1) + layer.bias, layer(x), atol=1e-5, rtol=1e-5)


def test_initial_values_have_the_documented_sizes() -> None:
    layer = hepkan.KANLayer(60, 200, grid=5)
    assert layer.base_weight is not None
    assert float(layer.base_weight.detach().std()) == pytest.approx(1 / np.sqrt(180), rel=0.03)
    assert float(layer.coef.detach().std()) == pytest.approx(0.1 / 8, rel=0.03)
    x = torch.randn(4000, 40, generator=torch.Generator().manual_seed(0))
    model = hepkan.KAN([40, 40, 40, 40], base="none", input_map="none")
    assert 0.3 < float(model(x).detach().std()) < 3.0


def test_works_under_compile_and_state_dict() -> None:
    model = hepkan.KAN([3, 4, 1], input_map="none", backend="torch")
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    twin = hepkan.KAN([3, 4, 1], input_map="none", backend="torch", seed=5)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), model(x))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("name", INPUT_MAPS)
def test_input_maps_are_monotone_and_finite(name: str, features: np.ndarray) -> None:
    x = torch.from_numpy(features)
    transform = INPUT_MAPS[name](4)
    transform.fit(x, torch.ones(len(x)))
    z = transform(x)
    assert torch.isfinite(z).all()
    for i in range(4):
        order = torch.argsort(x[:, i])
        assert (z[order, i].diff() >= 0).all()


def test_quantile_map_gives_a_clipped_normal_and_ignores_spoiled_events(features: np.ndarray) -> None:
    x = torch.from_numpy(features).clone()
    transform = INPUT_MAPS["quantile"](4)
    transform.fit(x)
    z = transform(x)
    assert abs(float(z[:, 3].mean())) < 0.02 and abs(float(z[:, 3].std()) - 1) < 0.03
    assert float(z.abs().max()) <= 3.0 and float(transform(1e6 * x).abs().max()) <= 3.0
    assert torch.all(z[:, 2] == 0)
    x[0, 0] = torch.nan
    other = INPUT_MAPS["quantile"](4)
    other.fit(x)
    torch.testing.assert_close(other(x[1:]), z[1:], atol=0.05, rtol=0)


def test_wrong_models_are_refused(features: np.ndarray) -> None:
    with pytest.raises(UsageError, match="widths"):
        hepkan.KAN([4])
    with pytest.raises(UsageError, match="Did you mean 'quantile'"):
        hepkan.KAN([4, 1], input_map="quantiles")
    with pytest.raises(UsageError, match="Did you mean 'relu'"):
        hepkan.MLP([4, 1], activation="rely")
    with pytest.raises(UsageError, match=r"needs the shape \(n, 3\)"):
        hepkan.KAN([3, 1]).predict(features)


def test_damaged_foreign_and_newer_files_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "m.hepkan"
    hepkan.save(hepkan.KAN([2, 1]), path)
    content = path.read_bytes()
    (tmp_path / "cut.hepkan").write_bytes(content[:-40])
    with pytest.raises(DataError, match="cannot be read"):
        hepkan.load(tmp_path / "cut.hepkan")
    with pytest.raises(DataError, match="There is no model file"):
        hepkan.load(tmp_path / "none.hepkan")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.hepkan")
    with pytest.raises(DataError, match="not a hepkan model"):
        hepkan.load(tmp_path / "foreign.hepkan")
    tensors, metadata = load_file(path), read_metadata(path)
    for changes, error, text in (
        ({"format": 99}, DataError, "upgrade"),
        ({"class": "KANN"}, UsageError, "Did you mean 'KAN'"),
        ({"arguments": {"width": [2, 1]}}, DataError, "must be complete"),
    ):
        save_file(tensors, tmp_path / "changed.hepkan", {"hepkan": json.dumps(metadata | changes)})
        with pytest.raises(error, match=text):
            hepkan.load(tmp_path / "changed.hepkan")
    save_file({"x": torch.zeros(1)}, tmp_path / "changed.hepkan", {"hepkan": json.dumps(metadata)})
    with pytest.raises(DataError, match="must have the tensors"):
        hepkan.load(tmp_path / "changed.hepkan")


def test_products_are_those_of_neighbouring_sums(features: np.ndarray) -> None:
    layer = hepkan.KANLayer(4, 5, products=2)
    x = torch.from_numpy(features[:50]) / 30
    sums = layer.edge_functions(x).sum(dim=1) + layer.bias
    expected = torch.stack([*sums.T[:3], sums[:, 3] * sums[:, 4], sums[:, 5] * sums[:, 6]], dim=1)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    assert layer.out_features == 5
    model = hepkan.KAN([4, 5, 3, 1], products=2, input_map="standard")
    z = x
    for one in model.layers:
        z = one(z)
    torch.testing.assert_close(model.body(x), z, atol=1e-6, rtol=1e-5)


def test_products_learn_a_product() -> None:
    x = np.random.default_rng(0).uniform(-2, 2, (2000, 2))
    y = x[:, 0] * x[:, 1]
    losses = {}
    for products in (0, 1):
        model = hepkan.KAN([2, 1, 1], products=products, input_map="standard", seed=1)
        found = hepkan.fit(
            model, (x[:1500], y[:1500]), (x[1500:], y[1500:]), loss="mse", learning_rate=0.02, weight_decay=0.0,
            epochs=30, patience=30, batch=100,
        )  # fmt: skip
        losses[products] = found.best_value
    assert losses[1] < 0.01 and losses[0] > 10 * losses[1]


def test_impossible_products_are_refused() -> None:
    with pytest.raises(UsageError, match="0 to the 3 outputs"):
        hepkan.KAN([4, 3, 1], products=4)
    with pytest.raises(UsageError, match="each of the 2 layers"):
        hepkan.KAN([4, 3, 1], products=[1])
