"""Pruning and surgery: pure, the same function where nothing but dead parts goes, and never an empty layer."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.interpret import DeadNetworkError, compact, knee, pruning_curve, remove_inputs
from hepkan.interpret.surgery import remove_edges
from hepkan.interpret.trace import edge_moments, edges_of

FEATURES = 5


def events(n: int = 600, seed: int = 0) -> np.ndarray:
    """Return features of which one is a charge."""
    X = np.random.default_rng(seed).normal(size=(n, FEATURES)).astype(np.float32)
    X[:, 3] = np.sign(X[:, 3])
    return X


def random_kan(seed: int, widths: tuple[int, ...] = (4, 4, 1), products: Any = 0, share: float = 1.0) -> hepkan.KAN:
    """Return a KAN in float64 of four of the features, with lively numbers and a share of the edges."""
    model = hepkan.KAN(widths, products=products, columns=[4, 0, 2, 3], n_features=FEATURES, seed=seed).double()
    model.fit_inputs(torch.from_numpy(events()).double())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.layers:
            layer.coef.add_(0.5 * torch.randn(layer.coef.shape, generator=generator))
            layer.bias.add_(0.5 * torch.randn(layer.bias.shape, generator=generator))
            layer.mask_edges(torch.rand(layer.coef.shape[::2], generator=generator) < share)
    return model


def outputs(model: hepkan.KAN, X: np.ndarray) -> np.ndarray:
    """Return predictions in the type of the model, `(n, outputs)`."""
    x = torch.from_numpy(X).to(next(model.parameters()))
    return model.predict(x).reshape(len(X), -1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    hidden=st.lists(st.integers(1, 5), min_size=0, max_size=3),
    out=st.integers(1, 3),
    share=st.floats(0.15, 0.9),
    data=st.data(),
)
def test_compact_keeps_the_function(seed: int, hidden: list[int], out: int, share: float, data: Any) -> None:
    widths = (4, *hidden, out)
    products = [data.draw(st.integers(0, width)) for width in widths[1:]]
    model, X = random_kan(seed, widths, products, share), events(50, 1)
    try:
        small = compact(model)
    except DeadNetworkError:
        assert np.ptp(outputs(model, X), axis=0).max() < 1e-9
        return
    np.testing.assert_allclose(outputs(small, X), outputs(model, X), rtol=1e-9, atol=1e-9)
    layers = list(small.layers)
    for place, layer in enumerate(layers):
        mask = edges_of(layer)
        assert mask.any(axis=1).all(), "an input without edges is left"
        assert place == len(layers) - 1 or mask.any(axis=0).all(), "a constant hidden node is left"
    np.testing.assert_allclose(outputs(compact(small), X), outputs(small, X), rtol=1e-12, atol=1e-12)


def test_what_goes_leaves_its_mean() -> None:
    model, X = random_kan(3, (4, 1)), events()
    means = [mean for mean, _ in edge_moments(model, torch.from_numpy(X).double(), torch.ones(len(X)))]
    gone = np.zeros((4, 1), dtype=bool)
    gone[1] = True
    small = remove_edges(model, [gone], means)
    edge = model.layers[0].edge_functions(model.coordinates(torch.from_numpy(X).double()))[:, 1, 0].detach().numpy()
    np.testing.assert_allclose(outputs(model, X)[:, 0] - edge + edge.mean(), outputs(small, X)[:, 0], atol=1e-9)
    assert small.columns == (4, 2, 3) and small.widths == [3, 1]


def test_a_product_with_one_constant_factor_becomes_a_plain_node() -> None:
    model, X = random_kan(5, (4, 3, 1), [2, 0]), events()
    gone = [np.zeros(edges_of(layer).shape, dtype=bool) for layer in model.layers]
    gone[0][:, 1] = True  # sums: one alone, then two pairs
    means = [mean for mean, _ in edge_moments(model, torch.from_numpy(X).double(), torch.ones(len(X)))]
    small = remove_edges(model, gone, means)
    assert small.layers[0].products == 1 and small.widths == [4, 3, 1]
    z = model.coordinates(torch.from_numpy(X).double())
    sums = model.layers[0].sums(z).detach()
    sums[:, 1] = model.layers[0].bias[1] + float(means[0][:, 1].sum())
    expected = model.layers[1](model.layers[0].multiply(sums)).detach().numpy()
    np.testing.assert_allclose(outputs(small, X), expected, atol=1e-9)


def test_a_network_without_a_path_is_refused() -> None:
    model = random_kan(0, (4, 3, 1))
    model.layers[1].mask_edges(np.zeros((3, 1)))
    with pytest.raises(DeadNetworkError, match="no edge is left"):
        compact(model)
    for call in (hepkan.prune, hepkan.attribute):
        with pytest.raises(DataError, match="it is dead"):
            call(model, events())
        with pytest.raises(DataError, match="it is dead"):
            call(model, events(), events()[:, 0])


def toy(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return events whose target depends on three of the five features."""
    X = events(n, seed)
    noise = 0.1 * np.random.default_rng(seed + 100).normal(size=n)
    return X, np.sin(2 * X[:, 0]) + X[:, 2] ** 2 * 0.5 + 0.7 * X[:, 3] + noise


@pytest.fixture(scope="module")
def trained() -> hepkan.KAN:
    """Return a network trained on the toy."""
    model = hepkan.KAN([FEATURES, 4, 1], seed=0)
    hepkan.fit(model, toy(), toy(1000, 1), loss="mse", epochs=40, weight_decay=0.0, batch=256)
    return model


def state(model: hepkan.KAN) -> dict[str, torch.Tensor]:
    """Return a copy of all numbers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_pruning_finds_the_inputs_and_touches_nothing(trained: hepkan.KAN) -> None:
    before, described = state(trained), trained.describe()
    small = hepkan.prune(trained, *toy(), validation=toy(1000, 1), inputs=3)
    assert small.columns == (0, 2, 3) and small.n_features == FEATURES
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in before.items())
    assert trained.describe() == described
    X, y = toy(2000, 2)
    loss = np.mean((trained.predict(X) - y) ** 2)
    assert np.mean((small.predict(X) - y) ** 2) < 1.1 * loss
    other = X.copy()
    other[:, [1, 4]] = np.nan
    assert np.array_equal(small.predict(X), small.predict(other))


def test_pruning_composes_in_any_order(trained: hepkan.KAN, tmp_path: Path) -> None:
    X, y = toy(2000, 2)
    steps: list[Callable[[hepkan.KAN], hepkan.KAN]] = [
        lambda m: hepkan.prune(m, X, y, inputs=3),
        lambda m: hepkan.prune(m, X, y, tolerance=2e-3),
        lambda m: hepkan.refine(m, 10),
        lambda m: hepkan.prune(m, X, tolerance=1e-2),
        lambda m: remove_inputs(m, [m.input_names[-1]], X),
    ]
    for order in (steps, steps[::-1]):
        model = trained
        for step in order:
            previous = outputs(model, X)
            smaller = step(model)
            assert np.array_equal(previous, outputs(model, X))
            model = smaller
        assert model.n_features == FEATURES and model.widths[0] <= 4
        hepkan.save(model, tmp_path / "m.hepkan")
        assert np.array_equal(hepkan.load(tmp_path / "m.hepkan").predict(X), model.predict(X))
        hepkan.update_grid(model, X)
        hepkan.fit(model, (X, y), loss="mse", epochs=1)
        assert np.isfinite(model.predict(X)).all()


def test_the_tolerance_is_kept_and_used(trained: hepkan.KAN) -> None:
    X, y = toy(2000, 2)
    sizes = []
    for tolerance in (0.0, 1e-3, 1e-2, 0.1, 10.0):
        curve = pruning_curve(trained, X, y, tolerance=tolerance)
        stage = curve.within(tolerance)
        assert stage.increase <= tolerance
        assert stage.loss == pytest.approx(curve.stages[0].loss + stage.increase, rel=1e-5)
        deviation = float(trained.output_map.scale[0])
        loss = np.mean(((outputs(stage.model, X)[:, 0] - y) / deviation) ** 2)
        assert loss == pytest.approx(stage.loss, rel=1e-4)
        sizes.append(stage.edges)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] <= 24 and sizes[-1] == 2


def test_the_curve_is_a_record(trained: hepkan.KAN) -> None:
    X, y = toy(2000, 2)
    curve = pruning_curve(trained, X, y)
    rows = curve.rows()
    assert rows[0] == {"inputs": 5, "nodes": 4, "edges": 24, "loss": rows[0]["loss"], "increase": 0.0, "error": 0.0}
    assert [row["edges"] for row in rows] == sorted((row["edges"] for row in rows), reverse=True)
    assert rows[-1]["edges"] == 2 and all(row["error"] > 0 for row in rows[1:])
    chosen = curve.knee()
    assert 3 <= chosen.edges < 24 and chosen.loss < 0.5 * rows[-1]["loss"]
    assert hepkan.prune(trained, X, y).describe() == chosen.model.describe()
    assert curve.largest(10).edges <= 10
    with pytest.raises(UsageError, match="smallest network has 2 edges"):
        curve.largest(1)


def test_nodes_and_edges_go_down_to_their_number(trained: hepkan.KAN) -> None:
    X, y = toy(2000, 2)
    small = hepkan.prune(trained, X, y, nodes=2)
    assert small.widths[1] == 2
    fewer = hepkan.prune(small, X, y, edges=4)
    assert sum(edges_of(layer).sum() for layer in fewer.layers) <= 4
    assert hepkan.prune(trained, X, y, nodes=9).widths == trained.widths


def test_fine_tuning_recovers(trained: hepkan.KAN) -> None:
    X, y = toy(2000, 2)
    judged: dict[str, Any] = {"validation": toy(1000, 1), "least": 6}
    plain = pruning_curve(trained, *toy(), **judged)
    tuned = pruning_curve(trained, *toy(), **judged, finetune={"epochs": 3, "weight_decay": 0.0})
    short = {"epochs": 1, "weight_decay": 0.0}
    best = pruning_curve(trained, *toy(), **judged, finetune=short, candidates=3, fraction=0.1)
    assert best.stages[-1].edges <= 6 and np.isfinite(best.stages[-1].loss)
    losses = [np.mean((curve.stages[-1].model.predict(X) - y) ** 2) for curve in (plain, tuned)]
    assert losses[1] < 0.7 * losses[0]
    assert tuned.stages[-1].model.link == "identity"


def test_without_targets_the_outputs_are_kept(trained: hepkan.KAN) -> None:
    X, _ = toy(2000, 2)
    curve = pruning_curve(trained, X, least=6)
    assert curve.loss == "fidelity" and curve.stages[0].loss == 0.0
    stage = curve.within(0.05)
    difference = outputs(stage.model, X) - outputs(trained, X)
    assert np.var(outputs(trained, X)) * stage.loss == pytest.approx(np.mean(difference**2), rel=1e-3)
    tuned = pruning_curve(trained, X, least=6, finetune={"epochs": 3, "weight_decay": 0.0, "batch": 256})
    assert tuned.stages[-1].loss < curve.stages[-1].loss


@pytest.mark.parametrize("classes", [2, 3])
def test_classifiers(classes: int) -> None:
    X, y = toy(3000, 3)
    labels = np.digitize(y, np.quantile(y, np.linspace(0, 1, classes + 1)[1:-1]))
    model = hepkan.KAN([FEATURES, 4, 1 if classes == 2 else classes], products=1, seed=2)
    hepkan.fit(model, (X, labels), epochs=20, weight_decay=0.0, batch=256)
    weight = np.random.default_rng(0).exponential(size=len(X)) - 0.2
    small = hepkan.prune(model, X, labels, weight, inputs=3, tolerance=0.02)
    assert small.link == model.link and set(small.columns) == {0, 2, 3}
    assert small.predict(X).shape == model.predict(X).shape
    distilled = hepkan.prune(model, X, inputs=3, finetune={"epochs": 1})
    assert distilled.link == model.link


def test_another_loss() -> None:
    X, y = toy(1000, 3)
    model = hepkan.KAN([FEATURES, 3, 2], seed=2)
    hepkan.fit(model, (X, np.stack([y, X[:, 1]], axis=1)), loss="mae", epochs=10, batch=128)
    curve = pruning_curve(model, X, np.stack([y, X[:, 1]], axis=1), loss="huber", part="nodes")
    assert curve.loss == "huber" and curve.stages[-1].nodes == 1


def test_knee_of_known_curves() -> None:
    assert knee([100, 50, 20, 10, 5, 2], [0.2, 0.2, 0.2, 0.21, 0.6, 0.7]) == 3
    assert knee([5], [1.0]) == 0
    assert knee([9, 6, 3], [0.5, 0.5, 0.5]) == 2
    with pytest.raises(UsageError, match="knee needs"):
        knee([1, 2], [0.1])


def test_inputs_are_removed_by_name_and_column(trained: hepkan.KAN) -> None:
    X, _ = toy(500)
    named = copy.deepcopy(trained)
    named.feature_names = list("abcde")
    small = remove_inputs(named, ["b", 4], X)
    assert small.input_names == ["a", "c", "d"] and small.feature_names == list("abcde")
    with pytest.raises(UsageError, match="'b' is not among a, c, d"):
        remove_inputs(small, ["b"], X)
    with pytest.raises(DeadNetworkError):
        remove_inputs(small, ["a", "c", "d"], X)


def spoiled(column: int, value: float, rows: slice) -> np.ndarray:
    """Return events with another value in a column."""
    X = events()
    X[rows, column] = value
    return X


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (spoiled(2, np.nan, slice(3, 5)), "2 of 600 have NaN or infinity in x2"),
        (spoiled(1, np.inf, slice(0, 1)), "1 of 600 have NaN or infinity in x1"),
        (spoiled(0, 7.0, slice(None)), "x0 is the same in all 600 events"),
        (events(5), "At least 10 events"),
        (events()[:, :3], r"shape \(n, 5\)"),
    ],
)
def test_bad_events_are_refused(trained: hepkan.KAN, X: np.ndarray, message: str) -> None:
    for call in (hepkan.prune, hepkan.attribute):
        with pytest.raises((DataError, UsageError), match=message):
            call(trained, X, np.zeros(len(X)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"inputs": 0}, "least and candidates must be"),
        ({"edges": 2, "fraction": 1.5}, "fraction between"),
        ({"loss": "msee"}, "Did you mean 'mse'"),
        ({"weight": np.zeros(600)}, "positive sum"),
        ({"weight": np.ones(5)}, r"weight needs the shape"),
        ({"group": np.ones(5)}, r"group needs the shape"),
    ],
)
def test_impossible_requests_are_refused(trained: hepkan.KAN, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        hepkan.prune(trained, events(), events()[:, 0], **settings)
    with pytest.raises(UsageError, match=r"needs a hepkan\.KAN"):
        hepkan.prune(hepkan.MLP([5, 1]), events(), inputs=2)
