"""Formulae are as simple as the data allow: joined pairs, plain sums under noise, no constants by chance."""

from __future__ import annotations

import numpy as np
import pytest

import hepkan
from hepkan.interpret import discover
from hepkan.interpret.checks import checked_events
from hepkan.interpret.evaluation import evaluate
from hepkan.interpret.expression import Call, Input, Sum
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import PRIMITIVES
from hepkan.interpret.refit import spreads
from hepkan.interpret.rounding import proposals, rounded
from hepkan.interpret.symmetry import joined_pairs


def objective_of(y: np.ndarray) -> Objective:
    return Objective("mse", y.reshape(-1, 1), np.full(len(y), 1.0 / len(y)))


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_pairs_that_act_by_their_difference_or_sum_are_joined(noise: float) -> None:
    generator = np.random.default_rng(1)
    X = generator.uniform(0.5, 2.0, (600, 6))
    y = X[:, 2] * np.sin(X[:, 0] - X[:, 4]) + (X[:, 1] + X[:, 5]) ** 2
    y += noise * y.std() * generator.normal(size=600)
    names = list("abcdef")
    joined = joined_pairs(checked_events(X, y, names=names), [objective_of(y)])
    assert joined is not None
    assert joined.events.names[:2] == ("c", "d") and set(joined.events.names[2:]) == {"a - e", "b + f"}
    np.testing.assert_allclose(
        joined.events.X[:, joined.events.names.index("a - e")], X[:, 0] - X[:, 4], rtol=0, atol=1e-15
    )
    roots = tuple(Call(PRIMITIVES["square"], Input(i)) for i in range(4))
    back = joined.back(roots)
    np.testing.assert_allclose(evaluate(back, X), joined.events.X**2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("function", [np.multiply, np.divide, lambda a, b: a**2 + b**2], ids=["a b", "a / b", "circle"])
def test_pairs_that_do_more_are_left_alone(function: object) -> None:
    X = np.random.default_rng(2).uniform(1.0, 3.0, (400, 3))
    y = X[:, 2] * function(X[:, 0], X[:, 1])  # type: ignore[operator]
    assert joined_pairs(checked_events(X, y), [objective_of(y), objective_of(np.log(y))]) is None


def test_many_events_and_features_cost_no_more_memory() -> None:
    generator = np.random.default_rng(9)
    X = generator.uniform(1.0, 2.0, (100_000, 4))
    y = np.exp(X[:, 0] - X[:, 3]) + X[:, 1] * X[:, 2]
    joined = joined_pairs(checked_events(X, y), [objective_of(y)])
    assert joined is not None and joined.events.names == ("x1", "x2", "x0 - x3") and len(joined.events.X) == 100_000
    wide = generator.normal(size=(50_000, 40))
    assert joined_pairs(checked_events(wide, wide[:, 0]), [objective_of(wide[:, 0])]) is None


def test_discover_finds_the_law_of_gravity_between_points() -> None:
    def events(seed: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        X = generator.uniform(1.0, 2.0, (800, 5))
        X[:, [1, 3]] += 2.0
        return X, X[:, 0] / ((X[:, 1] - X[:, 2]) ** 2 + (X[:, 3] - X[:, 4]) ** 2)

    formula = discover(*events(3), names=["m", "x1", "x2", "y1", "y2"])
    X, truth = events(4)
    assert formula.n_splines == 0
    np.testing.assert_allclose(formula.predict(X), truth, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 7, 9])
def test_noise_makes_no_network_of_a_sum(seed: int) -> None:
    generator = np.random.default_rng(seed)
    X = generator.uniform(-1.0, 1.0, (1000, 2))
    truth = np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2
    y = truth + 0.3 * generator.normal(size=1000)
    model = hepkan.KAN([2, 5, 1], input_map="standard", seed=seed)
    hepkan.fit(model, (X, y[:, None]), loss="mse", optimizer="lbfgs", batch=1000, epochs=10, seed=seed)
    formula = hepkan.symbolic(model, X, y)
    assert formula.n_splines == 0 and formula.used == ("x0", "x1")
    assert np.mean((formula.predict(X) - truth) ** 2) < 1e-2 * truth.var()


def test_an_uncertain_number_is_no_known_constant() -> None:
    value = 1.001 * np.pi / 3.0
    assert next(proposals(value, 0.02 * value)) == pytest.approx(np.pi / 3.0)
    assert list(proposals(value, 0.02 * value, uncertainty=1e-3)) == list(proposals(value, 0.02 * value))
    assert list(proposals(value, 0.02 * value, uncertainty=0.1)) == []


def test_spreads_are_standard_deviations_of_least_squares() -> None:
    generator = np.random.default_rng(6)
    X = generator.normal(size=(500, 2))
    y = 3.0 * X[:, :1] - 2.0 * X[:, 1:] + 1.0 + 0.5 * generator.normal(size=(500, 1))
    design = np.column_stack([X, np.ones(500)])
    solution, squares, *_ = np.linalg.lstsq(design, y[:, 0], rcond=None)
    root = Sum((Input(0), Input(1)), tuple(solution[:2]), float(solution[2]))
    variance = float(squares[0]) / 500
    expected = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * variance)
    np.testing.assert_allclose(spreads([root], X, objective_of(y), variance / 500), expected, rtol=1e-9)
    twice = Sum((Input(0), Input(0)), (1.0, 2.0), 0.0)
    first, second, bias = spreads([twice], X, objective_of(y), 1.0)
    assert min(first, second) > 1e6 and bias < 1.1
    idle = Sum((Input(0), Sum((), (), 0.0)), (1.0, 1.0), 0.0, frozenset([2]))
    assert np.isinf(spreads([idle], X, objective_of(y), 1.0)).any()


@pytest.mark.parametrize(("noise", "known"), [(1e-9, True), (0.3, False)])
def test_noise_decides_which_constants_are_known(noise: float, known: bool) -> None:
    generator = np.random.default_rng(8)
    X = generator.uniform(-1.0, 1.0, (400, 1))
    y = 7.0 * np.sqrt(3.0) / 5.0 * X + noise * generator.normal(size=X.shape)
    start = Sum((Input(0),), (7.0 * np.sqrt(3.0) / 5.0,), 0.0, frozenset([1]))
    (root,) = rounded([start], X, objective_of(y), allowed=1.02 * objective_of(y)(7.0 * np.sqrt(3.0) / 5.0 * X)).roots
    assert isinstance(root, Sum) and (0 in root.fixed) == known
