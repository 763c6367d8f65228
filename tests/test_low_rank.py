"""Layers of low rank: KAN layers whose edges share a few functions, in every place a KAN goes."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

import hepkan
from export_cases import expected, raw_events
from hepkan.errors import UsageError
from hepkan.export.evaluation import evaluate
from hepkan.interpret.surgery import remove_inputs
from hepkan.nn.low_rank import LowRankLayer
from training_cases import events


def layer_of(rank: int = 2, **settings: object) -> LowRankLayer:
    """Return a layer with lively numbers in float64."""
    generator = torch.Generator().manual_seed(rank)
    layer = LowRankLayer(3, 4, rank=rank, generator=generator, **settings).double()
    with torch.no_grad():
        layer.mix.normal_(0.0, 1.0, generator=generator)
    return layer


def points(n: int = 300, inputs: int = 3) -> torch.Tensor:
    """Return events, some of them outside the grid."""
    return 2.5 * torch.randn(n, inputs, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_edges_are_combinations_of_the_functions_of_their_input(rank: int) -> None:
    layer = layer_of(rank, base="none")
    functions = layer.edge_functions(points()).detach().numpy()  # (n, inputs, sums)
    for i in range(3):
        assert np.linalg.matrix_rank(functions[:, i], tol=1e-8) == min(rank, 4)
    assert layer.coef.shape == (3, 8, 4) and layer.edge_parameters == rank
    assert [tuple(p.shape) for p in layer.parameters()] == [(3, 8, rank), (3, rank, 4), (4,)]


@pytest.mark.parametrize("products", [0, 1])
def test_the_full_layer_is_the_same_function(products: int) -> None:
    layer = layer_of(products=products)
    full = layer.full()
    assert type(full) is hepkan.KANLayer
    torch.testing.assert_close(full(points()), layer(points()), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_gradients_of_a_step_are_those_of_the_formula(masked: bool, backend: str) -> None:
    model = hepkan.KAN([3, 4, 5, 2], rank=2, backend=backend, input_map="none").double()
    if masked:
        model.layers[0].mask_edges(torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]]))
    x, weight = points(), points(300, 2)
    output, finish = model.step(x)
    (output * weight).sum().backward()
    finish()
    found = {name: one.grad.clone() for name, one in model.named_parameters()}
    model.zero_grad()
    z = x
    for layer in model.layers:
        z = layer.edge_functions(z).sum(dim=1) + layer.bias
    torch.testing.assert_close(output, z, atol=1e-10, rtol=1e-10)
    (z * weight).sum().backward()
    for name, one in model.named_parameters():
        torch.testing.assert_close(found[name], one.grad, atol=1e-8, rtol=1e-8, msg=name)
    if masked:
        assert not bool(found["layers.0.mix"][:, :, 0][1].any())


def test_steps_add_to_the_gradients_that_are_there() -> None:
    model = hepkan.KAN([3, 4, 1], rank=2, input_map="none")
    for _ in range(2):
        output, finish = model.step(points().float())
        output.sum().backward()
        finish()
    twice = model.layers[0].mix.grad.clone()
    model.zero_grad()
    output, finish = model.step(points().float())
    output.sum().backward()
    finish()
    torch.testing.assert_close(twice, 2 * model.layers[0].mix.grad, rtol=1e-5, atol=1e-5)


def test_refinement_and_new_knots_keep_the_functions_and_the_rank() -> None:
    layer, x = layer_of(), points()
    before = layer(x)
    finer = copy.deepcopy(layer)
    assert finer.refine(20).largest < 1e-9
    torch.testing.assert_close(finer(x), before, atol=1e-9, rtol=1e-9)
    assert (finer.grid, finer.rank) == (20, 2) and finer.shapes.shape == (3, 23, 2)
    change = finer.update_grid(x)
    assert 0.0 < change.rms < 0.02
    gap = (finer(x) - before).detach().square().mean().sqrt() / before.detach().square().mean().sqrt()
    assert float(gap) < 0.02


def test_a_refined_network_is_saved_and_read_again(tmp_path: Path) -> None:
    X, _ = events()
    model = hepkan.KAN([2, 6, 5, 1], rank=1, seed=3)
    model.fit_inputs(X)
    finer = hepkan.refine(model, 10)
    hepkan.save(finer, tmp_path / "m.hepkan")
    again = hepkan.load(tmp_path / "m.hepkan")
    assert np.array_equal(again.predict(X), finer.predict(X))
    assert again.describe()["rank"] == 1 and all(isinstance(layer, LowRankLayer) for layer in again.layers)
    np.testing.assert_allclose(finer.predict(X), model.predict(X), atol=1e-5)


def test_it_has_the_parameters_it_says() -> None:
    model = hepkan.KAN([32, 60, 60, 8], grid=3, rank=1)
    edges = 32 * 60 + 60 * 60 + 60 * 8
    assert model.n_parameters == 2 * edges + 6 * (32 + 60 + 60) + 60 + 60 + 8
    mask = torch.ones(32, 60)
    mask[0] = 0
    model.layers[0].mask_edges(mask)
    assert model.n_parameters == 2 * (edges - 60) + 6 * (32 + 60 + 60) + 60 + 60 + 8


@pytest.mark.parametrize("grid_updates", [0, 2])
def test_it_learns_and_its_knots_follow(grid_updates: int) -> None:
    X, y = events()
    model = hepkan.KAN([2, 8, 8, 1], rank=2, seed=1)
    settings = {"loss": "cross_entropy", "epochs": 20, "batch": 64, "learning_rate": 0.01, "weight_decay": 0.01}
    settings |= {"seed": 0, "grid_updates": grid_updates}
    result = hepkan.fit(model, (X, y), **settings)
    assert result.history[-1]["train_loss"] < 0.8 * result.history[0]["train_loss"]
    moved = not torch.equal(model.layers[0].knots[0], hepkan.KAN([2, 8, 8, 1]).layers[0].knots[0])
    assert moved == (grid_updates > 0)


def test_its_penalties_are_those_of_the_full_layers() -> None:
    from hepkan.losses import penalty

    model = hepkan.KAN([3, 4, 2], rank=2, input_map="none").double()
    full = model.rewired(list(model.layers), range(3))
    strengths = {"l1": 1e-2, "entropy": 1e-2, "curvature": 1e-3}
    torch.testing.assert_close(penalty(model, points(), strengths), penalty(full, points(), strengths))


def test_surgery_and_pruning_make_full_layers_of_the_same_function() -> None:
    X = raw_events(400, 4)
    model = hepkan.KAN([4, 5, 4, 1], rank=2, seed=2)
    model.fit_inputs(X)
    small = remove_inputs(model, ["x1"], X)
    assert small.columns == (0, 2, 3) and "rank" not in small.describe()
    constant = X.copy()
    again = hepkan.prune(model, constant, edges=30)
    assert again.n_parameters < 8 * (20 + 20 + 4) + 10 and np.isfinite(again.predict(X)).all()
    whole = model.rewired(list(model.layers), range(4))
    np.testing.assert_allclose(whole.predict(X), model.predict(X), atol=1e-6)


def test_its_export_is_equal_to_the_network(tmp_path: Path) -> None:
    X = raw_events(300, 4)
    model = hepkan.KAN([4, 5, 4, 2], rank=1, seed=2)
    model.fit_inputs(X)
    hepkan.export.cpp(model, tmp_path / "m.hpp", X)
    found = evaluate((tmp_path / "m.hpp").read_text(encoding="utf-8"), X)
    np.testing.assert_allclose(found, expected(model, X, torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grid", [6, 12, 48])
def test_the_first_functions_do_not_depend_on_the_grid(grid: int) -> None:
    x = points()
    coarse, fine = (LowRankLayer(3, 4, rank=2, grid=number, base="none").double() for number in (3, grid))
    one, other = coarse.edge_functions(x).detach(), fine.edge_functions(x).detach()
    scale = one.std(dim=0) / other.std(dim=0)  # shares are smaller where there are more coefficients
    torch.testing.assert_close(other * scale, one, atol=1e-5 * float(one.std()), rtol=1e-5)


@pytest.mark.parametrize("rank", [0, -1, 1.5, "two"])
def test_an_impossible_rank_is_refused(rank: object) -> None:
    with pytest.raises(UsageError, match="rank needs to be a whole number of at least 1"):
        hepkan.KAN([3, 4, 1], rank=rank)
