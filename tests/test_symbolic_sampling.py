"""Which of many events a formula is fitted to."""

import numpy as np
import pytest
import torch

import hepkan
from hepkan.errors import UsageError
from hepkan.interpret.sampling import sampled

RNG = np.random.default_rng(0)
X = RNG.standard_t(2, size=(20_000, 3))
MODEL = hepkan.KAN([3, 4, 1], seed=0)


def test_few_events_are_all_taken() -> None:
    weight = RNG.normal(size=50)
    rows, share = sampled(MODEL, X[:50], weight, 50)
    assert rows.tolist() == list(range(50))
    np.testing.assert_array_equal(share, weight)


@pytest.mark.parametrize(
    "weight", [None, np.ones(len(X)), RNG.exponential(size=len(X)) ** 3, RNG.normal(0.5, 1.0, len(X))]
)
def test_sums_over_some_events_are_those_over_all(weight: np.ndarray | None) -> None:
    rows, share = sampled(MODEL, X, weight, 5000)
    own = np.ones(len(X)) if weight is None else weight
    assert len(np.unique(rows)) == len(rows) <= 5000 + 2 * (3 + 4)
    assert np.all(np.diff(rows) > 0)
    every = np.abs(own).sum()
    for values in (np.ones(len(X)), np.tanh(X[:, 0]), np.cos(X[:, 1])):
        assert abs((share * values[rows]).sum() - (own * values).sum()) < 0.03 * every


def test_the_largest_weights_are_certain_and_zero_ones_are_left_out() -> None:
    weight = np.full(len(X), 1e-3)
    weight[::1000], weight[1::2] = 1.0, 0.0
    rows, _ = sampled(MODEL, X, weight, 500)
    assert set(range(0, len(X), 1000)) <= set(rows.tolist())
    assert np.all(weight[rows] > 0.0)


def test_the_outermost_events_of_inputs_and_hidden_nodes_are_taken_for_themselves() -> None:
    rows, share = sampled(MODEL, X, None, 200)
    z = MODEL.coordinates(torch.as_tensor(X, dtype=torch.float32))
    with torch.no_grad():
        values = torch.cat([z, MODEL.layers[0](z)], dim=1).numpy()
    ends = np.concatenate([values.argmin(axis=0), values.argmax(axis=0)])
    place = {row: i for i, row in enumerate(rows.tolist())}
    assert all(int(end) in place for end in ends)
    assert any(share[place[int(end)]] == 1.0 for end in ends)
    usual = len(X) / 200
    assert np.median(share) == pytest.approx(usual)


def test_a_formula_of_few_events_does_not_grow_where_the_network_does_not() -> None:
    """A cubic is as good as the network for all but five of the events."""
    x = RNG.normal(0.0, 0.3, size=(20_000, 2))
    x[7::4000, 0] = 20.0
    model = hepkan.KAN([2, 1], seed=0, grid=8, input_map="standard")
    hepkan.fit(model, (x, np.tanh(x[:, 0]) + x[:, 1]), loss="mse", epochs=10, batch=512, seed=0)
    formula = hepkan.symbolic(model, x, primitives=["square", "cube"], max_events=300)
    gap = np.abs(np.asarray(formula.predict(x)) - np.asarray(model.predict(x)))
    assert gap.max() < 1.0


def test_weights_of_another_length_are_refused() -> None:
    with pytest.raises(UsageError, match=r"weight needs the shape \(20000,\), however it has \(7,\)"):
        hepkan.symbolic(MODEL, X, weight=np.ones(7))


@pytest.mark.parametrize("number", [0, -1, 29])
def test_too_few_events_to_use_are_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"at least 30 events, however max_events={number}"):
        hepkan.symbolic(MODEL, X, max_events=number)
