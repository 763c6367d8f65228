"""Inputs are exchanged for those that tell more about the network's output."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.interpret import Selection, select_inputs

NAMES = ["a", "b", "c", "near_a", "noise", "idle"]


def events(n: int = 2000, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return features and a target that a, b and c decide; near_a knows a with noise."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(n, len(NAMES)))
    X[:, 3] = X[:, 0] + 0.5 * X[:, 3]
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    return X.astype(np.float32), y.astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def trained() -> hepkan.KAN:
    X, y = events()
    model = hepkan.KAN([len(NAMES), 6, 1], grid=4, seed=1)
    model.feature_names = NAMES
    hepkan.fit(model, (X, y), loss="mse", epochs=60, batch=256, learning_rate=0.02, weight_decay=0.0, seed=1)
    return model


def test_wrong_inputs_are_exchanged_for_those_that_matter(trained: hepkan.KAN) -> None:
    seen: list[Selection] = []
    found = select_inputs(trained, events()[0], start=["near_a", "noise", "c"], progress=seen.append)
    assert set(found.names) == {"a", "b", "c"}
    assert found.infidelity < 0.1 < 0.5 < found.start
    assert [one.exchanges for one in seen] == [found.exchanges[: n + 1] for n in range(len(found.exchanges))]
    assert found.exchanges[-1][2] == found.infidelity


def test_a_partner_is_found_for_an_input_that_says_nothing_alone(trained: hepkan.KAN) -> None:
    found = select_inputs(trained, events()[0], start=["a", "b", "noise"], depth=2)
    assert found.names == ("a", "b", "c")
    assert found.exchanges[-1][:2] == (("c",), ("noise",))


def test_same_seed_same_selection_and_the_network_stays(trained: hepkan.KAN) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    first, second = (select_inputs(trained, events()[0], start=["noise", "b"], seed=3) for _ in range(2))
    assert first == second
    assert all(bool((value == before[name]).all()) for name, value in trained.state_dict().items())


def test_events_without_weight_do_not_count(trained: hepkan.KAN) -> None:
    X, _ = events(1000)
    weight = np.ones(len(X))
    bad = X.copy()
    bad[::7, 0], weight[::7] = 50.0, 0.0
    found = select_inputs(trained, bad, weight, start=["a", "b", "noise"])
    assert set(found.names) == {"a", "b", "c"}


def test_all_inputs_stay(trained: hepkan.KAN) -> None:
    found = select_inputs(trained, events()[0], start=NAMES)
    assert found.names == tuple(NAMES) and found.exchanges == ()


@pytest.mark.parametrize("start", [[], ["a", "a"], ["a", "unknown"]])
def test_impossible_starts_are_refused(trained: hepkan.KAN, start: list[str]) -> None:
    with pytest.raises(UsageError, match="start needs different names among a, b, c"):
        select_inputs(trained, events()[0], start=start)


def test_bad_events_are_refused(trained: hepkan.KAN) -> None:
    X, _ = events()
    with pytest.raises(DataError, match="at least 100 events, however there are 50"):
        select_inputs(trained, X[:50], start=["a"])
    broken = X.copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in c"):
        select_inputs(trained, broken, start=["a"])
    with pytest.raises(UsageError, match="weight needs the shape"):
        select_inputs(trained, X, np.ones(3), start=["a"])
    with pytest.raises(UsageError, match="depth, rounds and hidden must be at least 1"):
        select_inputs(trained, X, start=["a"], depth=0)
    dead = hepkan.KAN([len(NAMES), 1], seed=0)
    for parameter in dead.parameters():
        parameter.data.zero_()
    dead.feature_names = NAMES
    with pytest.raises(DataError, match="same for all events"):
        select_inputs(dead, X, start=["a"])
