"""Inputs are exchanged for those that tell more about the network's output."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.interpret import Selection
from hepkan.interpret import select_inputs as patient_selection

select_inputs = partial(patient_selection, steps=400, hidden=64)
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
    assert (found.new, found.old) == (("a", "b"), ("near_a", "noise"))
    assert seen[-1] == found and len(seen) > 1


def test_a_partner_is_found_for_an_input_that_says_nothing_alone(trained: hepkan.KAN) -> None:
    found = select_inputs(trained, events()[0], start=["a", "b", "noise"], depth=2)
    assert found.names == ("a", "b", "c")
    assert (found.new, found.old) == (("c",), ("noise",))


def test_further_inputs_are_named_in_the_order_of_their_help(trained: hepkan.KAN) -> None:
    found = select_inputs(trained, events()[0], start=["b"])
    assert found.names == ("a",)
    assert set(found.further[:2]) == {"b", "c"} and len(found.further) == 3


def test_inputs_are_added_until_there_are_as_many_as_wanted(trained: hepkan.KAN) -> None:
    found = select_inputs(trained, events()[0], inputs=3)
    assert found.names == ("a", "b", "c")
    assert select_inputs(trained, events()[0], start=["b"], inputs=2).names == ("b", "c")


def test_infidelity_is_the_part_of_the_variance_that_the_inputs_do_not_know(trained: hepkan.KAN) -> None:
    X, _ = events()
    found = select_inputs(trained, X, start=["b", "c"])
    output = trained.predict(X)
    rest = np.var(output - X[:, 1] * X[:, 2]) / np.var(output)
    assert found.infidelity == pytest.approx(float(rest), abs=0.08)


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
    assert found.names == tuple(NAMES) and found.new == ()


@pytest.mark.parametrize("start", [["a", "a"], ["a", "unknown"]])
def test_impossible_starts_are_refused(trained: hepkan.KAN, start: list[str]) -> None:
    with pytest.raises(UsageError, match="start needs different names among a, b, c"):
        select_inputs(trained, events()[0], start=start)


@pytest.mark.parametrize(("start", "inputs"), [([], None), ([], 7), (["a", "b"], 1)])
def test_impossible_numbers_are_refused(trained: hepkan.KAN, start: list[str], inputs: int | None) -> None:
    with pytest.raises(UsageError, match=f"inputs must be from {max(1, len(start))} to 6"):
        select_inputs(trained, events()[0], start=start, inputs=inputs)


def test_bad_events_are_refused(trained: hepkan.KAN) -> None:
    X, _ = events()
    with pytest.raises(DataError, match="at least 100 events of some weight, however there are 50"):
        select_inputs(trained, X[:50], start=["a"])
    broken = X.copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in c"):
        select_inputs(trained, broken, start=["a"])
    with pytest.raises(UsageError, match="weight needs the shape"):
        select_inputs(trained, X, np.ones(3), start=["a"])
    with pytest.raises(UsageError, match="depth, beam, hidden and steps must be at least 1, starts at least 0"):
        select_inputs(trained, X, start=["a"], depth=0)


@pytest.mark.parametrize(("link", "bias"), [("identity", 0.0), ("identity", 0.3), ("sigmoid", 0.3)])
def test_a_dead_network_is_refused(link: str, bias: float) -> None:
    dead = hepkan.KAN([len(NAMES), 1], seed=0)
    for parameter in dead.parameters():
        parameter.data.zero_()
    dead.output_map.mean.fill_(bias)
    dead.feature_names, dead.link = NAMES, link
    with pytest.raises(DataError, match="same for all events"):
        select_inputs(dead, events()[0], start=["a"])


def test_inputs_of_two_classes_are_judged_by_the_information_they_keep() -> None:
    X, _ = events(4000)
    odds = 2.0 * X[:, 0] + X[:, 1]
    y = np.random.default_rng(1).random(len(X)) < 1.0 / (1.0 + np.exp(-odds))
    model = hepkan.KAN([len(NAMES), 1], grid=4, seed=1)
    model.feature_names = NAMES
    hepkan.fit(model, (X, y.astype(np.int64)), epochs=30, batch=256, learning_rate=0.02, weight_decay=0.0, seed=1)
    found = select_inputs(model, X, start=["near_a", "noise"])
    assert found.names == ("a", "b")
    assert 0.0 < found.infidelity < 0.05 < 0.2 < found.start < 1.0
