"""Masked edges and selected columns: zero stays zero wherever a network goes, and it still takes the raw features."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

import hepkan
from export_cases import COMPILER, Library, expected, gap, raw_events
from hepkan.errors import UsageError
from hepkan.nn import KANLayer

COLUMNS, FEATURES = (4, 0, 2), 6


def masks(generator: np.random.Generator, shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    """Return masks that keep about half of the edges."""
    return [(generator.random(shape) < 0.5).astype(int) for shape in shapes]


def network(seed: int = 0, **settings: object) -> hepkan.KAN:
    """Return a KAN with masks, products and selected columns, learned maps and lively numbers."""
    generator = np.random.default_rng(seed)
    options = {"products": [1, 0], "columns": COLUMNS, "n_features": FEATURES, "seed": seed, **settings}
    products = options["products"]
    shapes = [(3, 4 + products[0]), (4, 2 + products[1])]
    model = hepkan.KAN([3, 4, 2], edge_masks=masks(generator, shapes), **options)
    model.fit_inputs(raw_events(500, FEATURES))
    with torch.no_grad():
        for layer in model.layers:
            layer.coef.add_(torch.randn(layer.coef.shape, generator=torch.Generator().manual_seed(seed)))
            layer.mask_edges(layer.edge_mask)
    return model


def masked_numbers(model: hepkan.KAN, what: str = "data") -> float:
    """Return the largest number, or gradient, that belongs to a masked edge."""
    largest = 0.0
    for layer in model.layers:
        gone = layer.edge_mask == 0
        for parameter in (layer.coef.transpose(0, 1), layer.base_weight[None]):
            source = parameter.data
            if what == "grad":
                owner = layer.base_weight if len(parameter) == 1 else layer.coef
                source = owner.grad[None] if len(parameter) == 1 else owner.grad.transpose(0, 1)
            largest = max(largest, float(source[:, gone].abs().max()))
    return largest


def test_a_masked_edge_is_zero_and_the_others_are_as_before() -> None:
    whole = KANLayer(3, 4)
    layer = copy.deepcopy(whole)
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]])
    layer.mask_edges(mask)
    x = torch.linspace(-5, 5, 60).reshape(20, 3)
    assert torch.equal(layer.edge_functions(x), whole.edge_functions(x) * mask)
    torch.testing.assert_close(layer(x), layer.edge_functions(x).sum(dim=1) + layer.bias)
    assert "edges=8" in repr(layer) and not bool(layer.coef[1, :, 0].any())


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("products", [[0, 0], [1, 0]])
def test_gradients_of_step_are_those_of_autograd(backend: str, products: list[int]) -> None:
    model = network(products=products, backend=backend)
    with torch.no_grad():
        for layer in model.layers:  # whatever stands in the parameters of a masked edge does not count
            layer.coef.add_(0.3)
    z = model.coordinates(torch.from_numpy(raw_events(200, FEATURES)))
    model.body(z).square().mean().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    assert masked_numbers(model, "grad") == 0.0
    model.zero_grad()
    y, finish = model.step(z)
    y.square().mean().backward()
    finish()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    y, finish = model.step(z)
    y.square().mean().backward()
    finish()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "grid_updates": 2, "average": 0.9},
        {"optimizer": "sgd", "learning_rate": 1e-3, "regularisers": {"l1": 1e-3, "entropy": 1e-3, "curvature": 1e-4}},
        {"optimizer": "lbfgs", "batch": 400, "epochs": 3, "weight_decay": 1e-3},
    ],
    ids=["adamw", "sgd", "lbfgs"],
)
def test_masked_edges_stay_zero_in_training(settings: dict[str, object]) -> None:
    model = network(products=[0, 0])
    X = raw_events(400, FEATURES)
    y = np.stack([np.tanh(X[:, 4]), X[:, 1]], axis=1)
    before = model.predict(X)
    hepkan.fit(model, (X, y), loss="mse", **{"epochs": 4, "batch": 64, **settings})
    assert not np.allclose(before, model.predict(X))
    assert masked_numbers(model) == 0.0


def test_masked_edges_stay_zero_on_new_knots() -> None:
    model = network()
    X = raw_events(500, FEATURES)
    hepkan.update_grid(model, X)
    assert masked_numbers(model) == 0.0
    finer = hepkan.refine(model, 10, X)
    assert masked_numbers(finer) == 0.0 and finer.layers[0].grid == 10
    np.testing.assert_allclose(finer.predict(X), model.predict(X), atol=0.05)


def test_only_the_selected_columns_count() -> None:
    model, X = network(), raw_events(300, FEATURES)
    other = X.copy()
    other[:, [1, 3, 5]] = np.nan
    assert np.array_equal(model.predict(X), model.predict(other))
    assert model.columns == COLUMNS and model.n_features == FEATURES and model.widths[0] == 3
    plain = hepkan.KAN([3, 4, 2], products=[1, 0], edge_masks=[layer.edge_mask for layer in model.layers])
    plain.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(plain.predict(X[:, COLUMNS]), model.predict(X))
    z = model.coordinates(torch.from_numpy(X))
    assert z.shape == (300, 3)
    with pytest.raises(UsageError, match=r"\(n, 6\)"):
        model.predict(X[:, :3])


def test_names_of_the_inputs() -> None:
    model = network()
    assert model.input_names == ["x4", "x0", "x2"]
    model.feature_names = list("abcdef")
    assert model.input_names == ["e", "a", "c"]
    assert hepkan.KAN([2, 1]).input_names == ["x0", "x1"]


def test_a_network_with_a_structure_is_saved_and_described(tmp_path: Path) -> None:
    model, X = network(), raw_events(300, FEATURES)
    hepkan.save(model, tmp_path / "m.hepkan")
    again = hepkan.load(tmp_path / "m.hepkan")
    assert np.array_equal(again.predict(X), model.predict(X))
    assert again.describe() == model.describe()
    assert all(torch.equal(a.edge_mask, b.edge_mask) for a, b in zip(again.layers, model.layers, strict=True))
    copied = hepkan.KAN(**copy.deepcopy(model).describe())
    copied.load_state_dict(model.state_dict())
    assert np.array_equal(copied.predict(X), model.predict(X))
    shape = hepkan.KAN([3, 4, 2], products=[1, 0])
    assert "edge_masks" not in shape.describe() and "columns" not in shape.describe()
    masked = sum(int((layer.edge_mask == 0).sum()) for layer in model.layers)
    assert shape.n_parameters - model.n_parameters == masked * 9


def test_an_mlp_selects_columns_too(tmp_path: Path) -> None:
    X = raw_events(300, FEATURES)
    model = hepkan.MLP([3, 5, 1], columns=COLUMNS, n_features=FEATURES)
    model.fit_inputs(X)
    hepkan.fit(model, (X, (X[:, 4] > 0).astype(int)), epochs=2)
    hepkan.save(model, tmp_path / "m.hepkan")
    assert np.array_equal(hepkan.load(tmp_path / "m.hepkan").predict(X), model.predict(X))


@pytest.mark.parametrize("input_map", ["quantile", "standard", "none"])
def test_exports_know_the_structure(input_map: str, tmp_path: Path) -> None:
    model, X = network(input_map=input_map), raw_events(300, FEATURES)
    assert hepkan.export.onnx(model, tmp_path / "m.onnx", X).difference < 1e-4
    assert hepkan.export.cpp(model, tmp_path / "m.hpp", X).difference < 1e-9
    text = (tmp_path / "m.hpp").read_text()
    assert "int inputs = 6," in text and "detail::select<4, 0, 2>(x, v1)" in text


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_a_compiled_header_knows_the_structure(tmp_path: Path) -> None:
    model, X = network(), raw_events(300, FEATURES)
    X[:5, 1], X[5:10, 2] = np.nan, np.nan
    hepkan.export.cpp(model, tmp_path / "m.hpp", X)
    found = Library([tmp_path / "m.hpp"], tmp_path).batch(0, X, 2, np.float64)
    assert gap(found, expected(model, X, torch.float64)) < 1e-9


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"columns": (0, 1)}, "3 different features"),
        ({"columns": (0, 1, 1), "n_features": 5}, "3 different features"),
        ({"columns": (0, 1, 5), "n_features": 5}, "from 0 to n_features - 1"),
        ({"columns": (0, 1, 2)}, "from 0 to n_features - 1"),
        ({"n_features": 5}, "Without columns"),
        ({"edge_masks": [None]}, "each of 2 layers"),
        ({"edge_masks": [None, [[1, 1]]]}, r"shape \(4, 2\)"),
    ],
)
def test_impossible_structures_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hepkan.KAN([3, 4, 2], **wrong)
