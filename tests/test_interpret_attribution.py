"""Activations, importance and interactions: against brute force, known functions and each other."""

from typing import Any

import numpy as np
import pytest
import torch

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.interpret import interactions, likelihood_ratios


def events(n: int, features: int = 4, seed: int = 0) -> np.ndarray:
    """Return independent normal features."""
    return np.random.default_rng(seed).normal(size=(n, features)).astype(np.float32)


def lively(widths: list[int], seed: int = 0, **settings: Any) -> hepkan.KAN:
    """Return a KAN with splines of order one."""
    model = hepkan.KAN(widths, seed=seed, **settings)
    model.fit_inputs(events(500, model.n_features))
    with torch.no_grad():
        for layer in model.layers:
            layer.coef.add_(0.5 * torch.randn(layer.coef.shape, generator=torch.Generator().manual_seed(seed)))
            layer.mask_edges(layer.edge_mask)
    return model


def with_mask(seed: int = 0) -> hepkan.KAN:
    """Return a KAN with products, masked edges and selected columns."""
    mask = (np.random.default_rng(seed).random((3, 5)) < 0.7).astype(int)
    return lively([3, 4, 2], seed, products=[1, 0], edge_masks=[mask, None], columns=[3, 0, 1], n_features=4)


def test_trace_is_one_pass() -> None:
    model, X = with_mask(), events(300)
    weight = np.random.default_rng(1).normal(size=300)
    traced = hepkan.trace(model, X, weight)
    assert [nodes.shape for nodes in traced.nodes] == [(300, 3), (300, 4), (300, 2)]
    assert [edges.shape for edges in traced.edges] == [(300, 3, 5), (300, 4, 2)]
    np.testing.assert_allclose(traced.nodes[-1], model.predict(X), rtol=1e-5, atol=1e-5)
    sums = traced.edges[0].sum(axis=1) + model.layers[0].bias.detach().numpy()
    hidden = np.concatenate([sums[:, :3], sums[:, 3:4] * sums[:, 4:5]], axis=1)
    np.testing.assert_allclose(traced.nodes[1], hidden, rtol=1e-4, atol=1e-4)
    share = np.abs(weight) / np.abs(weight).sum()
    for edges, mean, deviation in zip(traced.edges, traced.edge_mean, traced.edge_std, strict=True):
        expected = np.einsum("n,nio->io", share, edges)
        np.testing.assert_allclose(mean, expected, atol=1e-5)
        spread = np.sqrt(np.einsum("n,nio->io", share, (edges - expected) ** 2))
        np.testing.assert_allclose(deviation, spread, rtol=1e-3, atol=1e-5)
    for nodes, mean, deviation in zip(traced.nodes, traced.node_mean, traced.node_std, strict=True):
        np.testing.assert_allclose(mean, share @ nodes, atol=1e-5)
        np.testing.assert_allclose(deviation, np.sqrt(share @ (nodes - share @ nodes) ** 2), rtol=1e-3, atol=1e-5)


def test_trace_keeps_no_more_than_its_memory() -> None:
    model, X = lively([4, 5, 1]), events(2000)
    small, whole = hepkan.trace(model, X, memory=0.01), hepkan.trace(model, X)
    assert len(small.rows) == 100 and len(whole.rows) == 2000
    # Not to the last bit: products of matrices round otherwise for other numbers of events.
    np.testing.assert_allclose(small.edges[0], whole.edges[0][small.rows], rtol=1e-5, atol=1e-6)
    for few, all_events in zip(small.edge_std, whole.edge_std, strict=True):
        np.testing.assert_allclose(few, all_events, rtol=1e-5)
    with pytest.raises(DataError, match="1 of 2000 have NaN"):
        hepkan.trace(model, np.where(np.arange(8000).reshape(2000, 4) == 5, np.nan, X))


def knocked_out(model: hepkan.KAN, X: np.ndarray, layer: int, edges: list[tuple[int, int]]) -> np.ndarray:
    """Return the outputs with some edges replaced by their means, the slow and plain way."""
    z = model.coordinates(torch.from_numpy(X))
    for place, one in enumerate(model.layers):
        functions = one.edge_functions(z)
        if place == layer:
            for i, o in edges:
                functions[:, i, o] = functions[:, i, o].mean()
        z = one.multiply(functions.sum(dim=1) + one.bias)
    return z.detach().numpy()


@pytest.mark.parametrize("kind", ["regression", "binary", "classes", "fidelity"])
def test_exact_importance_is_that_of_brute_force(kind: str) -> None:
    X = events(400)
    outputs = {"binary": 1, "classes": 3}.get(kind, 2)
    model = lively([4, 3, outputs], products=[1, 0])
    generator = np.random.default_rng(0)
    y: Any = generator.normal(size=(400, outputs)).astype(np.float32)
    if kind in ("binary", "classes"):
        model.link = "sigmoid" if kind == "binary" else "softmax"
        y = generator.integers(0, max(2, outputs), 400)
    base = knocked_out(model, X, 0, [])

    def loss(output: np.ndarray) -> float:
        if kind == "fidelity":
            return float(np.mean((output - base) ** 2 / base.var(axis=0)))
        if kind == "regression":
            return float(np.mean((output - y) ** 2))
        logits = output if outputs > 1 else np.concatenate([np.zeros_like(output), output], axis=1)
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(400), y]))

    found = hepkan.attribute(model, X, None if kind == "fidelity" else y, exact=True)
    assert found.value == pytest.approx(loss(base), rel=1e-4, abs=1e-6)
    for layer, shape in enumerate([(4, 4), (3, outputs)]):
        wanted = [[loss(knocked_out(model, X, layer, [(i, o)])) - loss(base) for o in range(shape[1])]
                  for i in range(shape[0])]  # fmt: skip
        np.testing.assert_allclose(found.edges[layer].value, wanted, rtol=1e-3, atol=1e-4)
        nodes = [loss(knocked_out(model, X, layer, [(i, o) for o in range(shape[1])])) - loss(base)
                 for i in range(shape[0])]  # fmt: skip
        mine = found.inputs if layer == 0 else found.nodes[0]
        np.testing.assert_allclose(mine.value, nodes, rtol=1e-3, atol=1e-4)


def target(X: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a target of the first two features, with noise."""
    noise = 0.1 * np.random.default_rng(seed).normal(size=len(X))
    return np.asarray(np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + noise)


@pytest.fixture(scope="module")
def trained() -> hepkan.KAN:
    """Return a network trained on the target."""
    X, model = events(3000), hepkan.KAN([4, 4, 1])
    hepkan.fit(model, (X, target(X)), loss="mse", epochs=30, batch=256, weight_decay=0.0)
    return model


def test_the_estimate_agrees_with_the_exact_effect(trained: hepkan.KAN) -> None:
    X = events(2000, seed=1)
    exact, estimate = (hepkan.attribute(trained, X, target(X), exact=one) for one in (True, False))
    np.testing.assert_allclose(estimate.edges[1].value, exact.edges[1].value, atol=1e-5)  # the last layer is linear
    first, second = estimate.edges[0].value.ravel(), exact.edges[0].value.ravel()
    assert np.corrcoef(first, second)[0, 1] > 0.98
    assert np.abs(first - second).max() < 0.15 * second.max()
    assert (np.argsort(estimate.inputs.value)[2:] == np.argsort(exact.inputs.value)[2:]).all()
    assert [name for name, *_ in exact.ranking()][:2] == ["x1", "x0"]
    assert (np.abs(exact.inputs.value[2:]) < 0.01).all() and (exact.inputs.value[:2] > 0.1).all()


def test_errors_are_those_of_other_samples(trained: hepkan.KAN) -> None:
    one = hepkan.attribute(trained, events(1000, seed=1), target(events(1000, seed=1)), n_boot=200)
    others = [
        hepkan.attribute(trained, X, target(X, s), n_boot=2) for s in range(2, 42) for X in [events(1000, seed=s)]
    ]
    spread = np.std([other.inputs.value for other in others], axis=0, ddof=1)[:2]
    np.testing.assert_allclose(one.inputs.error[:2], spread, rtol=0.4)


def test_copies_of_an_event_count_once(trained: hepkan.KAN) -> None:
    X = events(500, seed=1)
    y = target(X)
    once = hepkan.attribute(trained, X, y, n_boot=300)
    copied = {"X": np.repeat(X, 4, axis=0), "y": np.repeat(y, 4)}
    grouped = hepkan.attribute(trained, **copied, group=np.repeat(np.arange(500), 4), n_boot=300)
    alone = hepkan.attribute(trained, **copied, n_boot=300)
    np.testing.assert_allclose(grouped.inputs.value, once.inputs.value, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(grouped.inputs.error[:2], once.inputs.error[:2], rtol=0.2)
    np.testing.assert_allclose(alone.inputs.error[:2], 0.5 * once.inputs.error[:2], rtol=0.2)


def test_weights_are_as_good_as_copies(trained: hepkan.KAN) -> None:
    X = events(500, seed=1)
    weight = np.random.default_rng(0).integers(1, 4, 500)
    weighted = hepkan.attribute(trained, X, target(X), weight, exact=True)
    rows = np.repeat(np.arange(500), weight)
    copied = hepkan.attribute(trained, X[rows], target(X)[rows], exact=True)
    np.testing.assert_allclose(weighted.edges[0].value, copied.edges[0].value, rtol=1e-3, atol=1e-5)


def test_unused_features_have_no_importance_and_seeds_are_averaged() -> None:
    models, X = [with_mask(seed) for seed in (1, 2, 3)], events(500)
    parts = [hepkan.attribute(model, X) for model in models]
    assert all(part.inputs.value[2] == 0.0 and part.inputs.error[2] == 0.0 for part in parts)
    assert parts[0].inputs.value.shape == (4,) and parts[0].names == ("x0", "x1", "x2", "x3")
    many = hepkan.attribute(models, X)
    values = np.array([part.inputs.value for part in parts])
    np.testing.assert_allclose(many.inputs.value, values.mean(axis=0))
    assert (many.inputs.error >= values.std(axis=0, ddof=1) / np.sqrt(3) - 1e-12).all()
    assert many.nodes == () and many.edges == ()
    with pytest.raises(UsageError, match="at least one network"):
        hepkan.attribute([], X)
    with pytest.raises(UsageError, match="at least 2 repetitions"):
        hepkan.attribute(models[0], X, n_boot=1)


def test_interactions_of_a_product() -> None:
    X, model = events(4000), hepkan.KAN([4, 6, 1], products=2)
    y = X[:, 0] + X[:, 1] * X[:, 2]
    hepkan.fit(model, (X, y), loss="mse", epochs=60, batch=256, weight_decay=0.0)
    found = interactions(model, events(8000, seed=1), events=8000)
    assert found.ranking()[0][:2] == ("x1", "x2")
    # The variances are 1 and 1: half of it comes from the pair.
    assert found.value[1, 2] == pytest.approx(0.5, abs=0.05)
    assert found.value[0, 0] == pytest.approx(0.5, abs=0.05)
    others = [found.value[pair] for pair in ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3))]
    assert max(others) < 0.02 and np.array_equal(found.value, found.value.T)
    some = interactions(model, events(8000, seed=1), events=8000, inputs=["x2", "x1"])
    assert some.value[0, 1] == pytest.approx(found.value[1, 2])
    with pytest.raises(UsageError, match="Unknown input"):
        interactions(model, X, inputs=["x9"])


def test_one_layer_has_no_interactions() -> None:
    found = interactions(lively([4, 1]), events(500))
    assert np.abs(found.value - np.diag(np.diag(found.value))).max() < 1e-9
    assert np.trace(found.value) == pytest.approx(1.0, abs=0.15)


def shifted(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return two classes of independent features whose log-likelihood ratios are 2 x0, and that of a count."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, n)
    normal = generator.normal(size=n) + np.where(y == 1, 1.0, -1.0)
    return np.stack([normal, generator.poisson(np.where(y == 1, 2.0, 4.0))], axis=1).astype(np.float32), y


def test_learned_functions_are_likelihood_ratios() -> None:
    X, y = shifted(20_000)
    model = hepkan.KAN([2, 1])
    hepkan.fit(model, (X, y), shifted(5000, 1), epochs=25, batch=512, learning_rate=0.03, weight_decay=0.01)
    first, second = likelihood_ratios(model, *shifted(20_000, 2))
    inside = np.abs(first.centres) < 2
    np.testing.assert_allclose(first.ratio[inside], 2 * first.centres[inside], atol=0.35)
    slope = np.polyfit(first.centres[inside], first.binned[inside], 1)[0]
    assert slope == pytest.approx(2.0, abs=0.15)
    few = second.centres <= 6
    expected = np.log(2.0**second.centres * np.exp(-2.0) / (4.0**second.centres * np.exp(-4.0)))
    found = second.ratio[few] - expected[few]
    assert np.abs(found - found.mean()).max() < 0.3
    assert all(one.chi2[0] < 6 * one.chi2[1] for one in (first, second))
    assert first.x.shape == first.learned.shape == (200,) and len(second.centres) == len(
        np.unique(shifted(20_000, 2)[0][:, 1])
    )


def test_ratios_need_one_layer_and_two_classes() -> None:
    X, y = shifted(500)
    with pytest.raises(UsageError, match="without hidden layers"):
        likelihood_ratios(hepkan.KAN([2, 2, 1]), X, y)
    with pytest.raises(DataError, match="class 1 has none"):
        likelihood_ratios(lively([2, 1]), X, np.zeros(500, dtype=int))
    with pytest.raises(DataError, match="must be the integers"):
        likelihood_ratios(lively([2, 1]), X, y + 1)
