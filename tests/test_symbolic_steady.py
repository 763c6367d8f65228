"""Formulae whose terms do not cancel: their printed digits and events beyond those of the fit are to be trusted."""

from __future__ import annotations

import numpy as np
import pytest

import hepkan
from hepkan.interpret.candidates import candidates
from hepkan.interpret.evaluation import Program, evaluate
from hepkan.interpret.expression import Call, Expression, Input, Sum, ordered, splines_of
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import PRIMITIVES, choose
from hepkan.interpret.refit import refit
from hepkan.interpret.tidying import straightened

X = np.random.default_rng(3).uniform(-1.0, 1.0, (300, 1))
TANH = PRIMITIVES["tanh"]


def objective_of(y: np.ndarray, ridge: float = 0.0) -> Objective:
    """Return the mean squared error."""
    return Objective("mse", y, np.full(len(y), 1.0 / len(y)), ridge)


def digits_lost(roots: tuple[Expression, ...], x: np.ndarray) -> float:
    """Return how many digits cancel in the worst sum."""
    program = Program(roots, x)
    return 0.5 * float(np.log10(program.cancelling(program.values(program.start), program.start).max()))


def test_a_term_is_measured_by_what_its_sum_varies() -> None:
    inner = Sum((Input(0),), (2.0,), 5.0, frozenset([0]))
    root = Sum((Call(TANH, inner), Input(0)), (1e3, 0.5), -1e3)
    values = [2.0 * X[:, 0] + 5.0, 1e3 * np.tanh(2.0 * X[:, 0] + 5.0), 0.5 * X[:, 0]]
    total = values[1] + values[2] - 1e3
    squares = [25.0 / values[0].var(), *(np.square(one).mean() / total.var() for one in (*values[1:], [1e3]))]
    program = Program([root], X)
    np.testing.assert_allclose(program.cancelling(program.values(program.start), program.start), squares, rtol=1e-9)


def test_a_sum_that_does_not_vary_and_a_spline_count_for_nothing() -> None:
    root = Sum((Sum((), (), 3.0),), (2.0,), 1.0)
    program = Program([root], X)
    assert program.cancelling(program.values(program.start), program.start).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.filterwarnings("error")
def test_terms_too_large_for_a_number_are_refused_in_silence() -> None:
    root = Sum((Call(PRIMITIVES["exp"], Sum((Input(0),), (400.0,), 300.0)), Input(0)), (1.0, 1.0), 0.0)
    program = Program([root], X)
    assert not np.isfinite(program.cancelling(program.values(program.start), program.start).sum())


def test_a_ridge_keeps_functions_from_their_flat_parts() -> None:
    y = np.exp(2.0 * X) + 0.1 * np.random.default_rng(5).normal(size=X.shape)
    start = Sum((Call(TANH, Sum((Input(0),), (1.0,), -4.0)),), (1e3,), 1e3)
    free = refit([start], X, objective_of(y), steps=200)
    held = refit([start], X, objective_of(y, 1e-6), steps=200)
    assert digits_lost(free.roots, X) > 3.0 > 2.0 > digits_lost(held.roots, X)
    assert held.loss < 1.02 * free.loss


def test_a_ridge_leaves_exact_constants_exact() -> None:
    y = 3.0 * np.tanh(2.0 * X + 1.0) - 40.0
    start = Sum((Call(TANH, Sum((Input(0),), (1.5,), 0.7)),), (2.5,), -39.0)
    found = refit([start], X, objective_of(y, 1e-6), steps=100)
    assert found.loss < 1e-24
    np.testing.assert_allclose(Program(found.roots, X).start, [2.0, 1.0, 3.0, -40.0], rtol=1e-9)


@pytest.mark.parametrize(("bias", "safe"), [(1.02, False), (1.6, True), (0.0, True)])
def test_functions_stay_defined_beyond_the_events(bias: float, safe: bool) -> None:
    x = X if bias else X + 1.001
    program = Program([Call(PRIMITIVES["log"], Sum((Input(0),), (1.0,), bias))], x)
    assert program.safe(program.values(program.start), program.start, 0.25) is safe
    spline_free = Program([Call(TANH, Sum((Input(0),), (1.0,), bias))], x)
    assert spline_free.safe(spline_free.values(spline_free.start), spline_free.start, 0.25)


def test_a_ridge_keeps_singularities_away_from_the_events() -> None:
    y = np.log(1.02 + X)
    start = Sum((Call(PRIMITIVES["log"], Sum((Input(0),), (1.0,), 1.8)),), (1.0,), 0.0)
    free, held = (refit([start], X, objective_of(y, ridge), steps=60) for ridge in (0.0, 1e-6))
    assert free.loss < 1e-20
    beyond = np.array([[X.min() - 0.2 * np.ptp(X)]])
    assert np.isfinite(evaluate(held.roots, beyond)).all()
    with np.errstate(all="ignore"):
        assert not np.isfinite(evaluate(free.roots, beyond)).all()


def test_a_step_on_a_parabola_is_a_candidate() -> None:
    x = X[:, 0]
    y = np.tanh(6.0 * x) + 1.5 * x**2 - x
    table = choose(["tanh", "square"])
    plain, more = (candidates(x, y, primitives=table, keep=20, beyond=beyond) for beyond in (None, 0.25))
    found = max((one for one in more if one.name == "tanh on a parabola"), key=lambda one: one.r2)
    assert max(one.r2 for one in plain) < 0.999 < 0.9999 < found.r2
    program = Program([found.body], X)
    residual = program.outputs(program.values(program.start))[:, 0] - y
    assert np.square(residual).mean() == pytest.approx((1.0 - found.r2) * y.var(), rel=0.3)


def test_cancelling_terms_count_against_a_candidate() -> None:
    x = X[:, 0]
    y = np.exp(1.5 * x)
    table = choose(["gaussian", "square"])
    first, second = (candidates(x, y, primitives=table, ridge=ridge)[0].name for ridge in (0.0, 1.0))
    assert first == "gaussian" and second.startswith("polynomial")


def test_a_function_that_is_a_line_becomes_one() -> None:
    bent = Call(TANH, Sum((Input(0),), (1.0,), 0.0))
    straight = Call(TANH, Sum((Input(0),), (1e-6,), 0.0))
    root = Sum((bent, straight), (1.0, 1e6), 0.5)
    y = np.tanh(X) + X + 0.5
    found = straightened([root], X, objective_of(y))
    calls = [node for node in ordered(found.roots) if isinstance(node, Call)]
    assert len(calls) == 1 and found.loss < 1e-20
    np.testing.assert_allclose(evaluate(found.roots, X), y, atol=1e-9)


def test_a_line_that_costs_too_much_is_not_taken() -> None:
    call = Call(TANH, Sum((Input(0),), (3e-3,), 0.0))
    root = Sum((call,), (1.0,), 0.0)
    y = np.tanh(3e-3 * X)
    found = straightened([root], X, objective_of(y))
    assert [node for node in ordered(found.roots) if isinstance(node, Call)] == [call]


def test_terms_of_a_formula_of_many_edges_do_not_cancel() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(1500, 4)) * [1.0, 30.0, 200.0, 1.0] + [0.0, 90.0, 400.0, 3.0]
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    target = np.tanh(z[:, 0] + z[:, 1]) + np.exp(-((z[:, 2] - z[:, 1]) ** 2)) + 0.3 * z[:, 3]
    model = hepkan.KAN([4, 4, 1], grid=8, degree=2, base="linear", input_map="standard", seed=0)
    hepkan.fit(model, (features, target[:, None]), loss="mse", optimizer="lbfgs", batch=1500, epochs=20, seed=0)
    names = ["tanh", "square", "gaussian", "arctan"]
    formula = hepkan.symbolic(model.refined(20), features, target, primitives=names, tolerance=0.02, max_events=300)
    assert not splines_of(formula.roots)
    assert digits_lost(formula.roots, features) < 3.0
    assert np.square(formula.predict(features) - target).mean() < 1e-4 * target.var()
