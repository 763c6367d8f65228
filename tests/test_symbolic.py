"""Formulae equal the networks they come from, in every form, and known functions are found again."""

from __future__ import annotations

import ctypes
import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.interpret import as_formula, discover
from hepkan.interpret.affine_fit import affine_fits
from hepkan.interpret.candidates import guarded
from hepkan.interpret.evaluation import Program
from hepkan.interpret.exchange import exchanged
from hepkan.interpret.expression import Call, Expression, Input, Product, Spline, Sum, constants_of, ordered
from hepkan.interpret.formula import Formula
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import PRIMITIVES, SILU, Primitive, choose
from hepkan.interpret.refit import refit
from hepkan.interpret.rounding import exact_number, proposals, rounded
from hepkan.interpret.shapes import edge_variable, feature_edge, feature_spline
from hepkan.interpret.tidying import tidied

ALL = [*PRIMITIVES.values(), SILU]
COMPILER = shutil.which("g++")


def points_of(primitive: Primitive, n: int = 41) -> np.ndarray:
    """Return points well inside the domain, none at a kink."""
    low, high = (max(primitive.domain[0], -2.0), min(primitive.domain[1], 2.0))
    return np.linspace(low + 0.07 * (high - low), high - 0.08 * (high - low), n) + 1e-3


@pytest.mark.parametrize("primitive", ALL, ids=lambda one: one.name)
def test_primitive_agrees_with_sympy_and_its_numerical_derivative(primitive: Primitive) -> None:
    u, h = points_of(primitive), 1e-6
    symbol = sympy.Symbol("u", real=True)
    expected = sympy.lambdify(symbol, primitive.sympy(symbol), "numpy")(u)
    np.testing.assert_allclose(primitive.function(u), expected, rtol=1e-12, atol=1e-14)
    slope = (primitive.function(u + h) - primitive.function(u - h)) / (2.0 * h)
    np.testing.assert_allclose(primitive.derivative(u), slope, rtol=1e-6, atol=1e-8)
    assert primitive.allows(u) and "u" in primitive.latex.format("u")


@pytest.mark.parametrize("primitive", [one for one in ALL if math.isfinite(one.domain[0])], ids=lambda one: one.name)
def test_domain_excludes_where_a_primitive_is_not_defined(primitive: Primitive) -> None:
    assert not primitive.allows(np.array([primitive.domain[0] - 1e-9]))
    assert not primitive.allows(np.array([primitive.domain[0]]))
    assert np.isfinite(primitive.function(points_of(primitive))).all()


@pytest.mark.parametrize("primitive", [one for one in ALL if one.degree is not None], ids=lambda one: one.name)
def test_homogeneous_primitives_scale(primitive: Primitive) -> None:
    u = np.abs(points_of(primitive)) + 0.1
    np.testing.assert_allclose(primitive.function(3.0 * u), 3.0**primitive.degree * primitive.function(u), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in PRIMITIVES if name != "sign"])
def test_affine_fit_finds_its_own_function_for_any_scale(name: str) -> None:
    primitive = PRIMITIVES[name]
    generator = np.random.default_rng(4)
    u = np.sort(generator.uniform(points_of(primitive)[2], points_of(primitive)[-3], 150))
    x = 1000.0 + 250.0 * u
    fits = affine_fits(x, -3.0 * primitive.function(u) + 7.0)
    best = {fit.primitive.name: fit for fit in fits if fit.primitive is not None}[name]
    assert 1.0 - best.r2 < 1e-8
    np.testing.assert_allclose(best(x), -3.0 * primitive.function(u) + 7.0, atol=1e-3 * np.ptp(primitive.function(u)))


def test_affine_fits_stay_inside_the_domain_on_the_whole_span() -> None:
    x = np.linspace(0.5, 2.0, 60)
    for fit in affine_fits(x, np.log(x), span=(0.1, 3.0)):
        if fit.primitive is not None:
            assert fit.primitive.allows(fit.a * np.linspace(0.1, 3.0, 99) + fit.b)


def test_affine_fit_refuses_points_that_say_nothing() -> None:
    with pytest.raises(DataError, match="5 different"):
        affine_fits([1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(DataError, match="vary"):
        affine_fits(np.arange(9.0), np.ones(9))


def test_span_keeps_the_sign_of_a_positive_feature() -> None:
    assert guarded(np.array([1e-3, 5.0]), 0.01)[0] > 0.0
    assert guarded(np.array([-1.0, 1.0]), 0.01) == (-1.02, 1.02)


def graph(generator: np.random.Generator) -> Expression:
    """Return a graph with every kind of node and a product of three factors."""
    x, y, z = Input(0), Input(1), Input(2)
    spline = Spline(y, np.linspace(-2.5, 2.5, 12), generator.normal(size=8), 3)
    inner = Sum((Call(PRIMITIVES["sin"], Sum((x,), (1.3,), 0.2)), spline), (0.7, 1.1), 0.3)
    factors = (Sum((x, z), (0.5, -0.2), 2.0), Call(PRIMITIVES["exp"], Sum((z,), (0.3,), 0.0)), inner)
    return Sum((Product(factors), Call(PRIMITIVES["tanh"], inner)), (0.9, -0.4), 0.1)


def test_jacobian_is_the_derivative_by_every_constant() -> None:
    generator = np.random.default_rng(0)
    root, X = graph(generator), generator.normal(size=(50, 3))
    program = Program([root], X)
    constants = program.start
    exact = program.jacobian(program.values(constants), constants)
    for place in range(len(constants)):
        step = np.zeros(len(constants))
        step[place] = 1e-6
        up, down = (program.outputs(program.values(constants + sign * step))[:, 0] for sign in (1.0, -1.0))
        np.testing.assert_allclose(exact[:, place], (up - down) / 2e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", ["mse", "huber", "cross_entropy"])
def test_objective_has_the_slope_of_its_loss(loss: str) -> None:
    generator = np.random.default_rng(1)
    output = generator.normal(size=(20, 1))
    target = (generator.random((20, 1)) > 0.5).astype(float)
    objective = Objective(loss, target, np.full(20, 1 / 20))
    for event in range(5):
        step = np.zeros((20, 1))
        step[event] = 1e-6
        slope = 20 * (objective(output + step) - objective(output - step)) / 2e-6
        assert slope == pytest.approx(objective.terms(output).slope[event, 0], abs=1e-6)


def test_refit_finds_constants_to_machine_precision() -> None:
    generator = np.random.default_rng(2)
    X = generator.uniform(0.5, 2.0, (200, 1))
    y = 2.0 * np.exp(-1.5 * X) + 0.25
    start = Sum((Call(PRIMITIVES["exp"], Sum((Input(0),), (-1.0,), 0.0, frozenset([1]))),), (1.0,), 0.0)
    found = refit([start], X, Objective("mse", y, np.full(200, 1 / 200)))
    assert found.loss < 1e-28
    np.testing.assert_allclose(np.sort(constants_of(found.roots)), [-1.5, 0.25, 2.0], rtol=1e-9)


def test_tidying_keeps_the_function() -> None:
    generator = np.random.default_rng(3)
    X = generator.uniform(0.5, 2.0, (100, 3))
    names = ("log", "sqrt", "exp", "inverse", "square", "abs")
    parts = [Call(PRIMITIVES[name], Sum((Input(0), Input(1)), (3.0, 0.5), 2.0)) for name in names]
    root = Sum((Product((Sum((parts[0],), (2.0,), 1.0), Sum((parts[1],), (-3.0,), 0.0))), *parts[2:]), (1.0,) * 5, 0.5)
    before, after = Program([root], X), Program(tidied([root]), X)
    np.testing.assert_allclose(
        after.outputs(after.values(after.start)), before.outputs(before.values(before.start)), rtol=1e-12
    )
    assert len(after.start) < len(before.start)


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.pi, "pi"), (-0.5, "-1/2"), (1.0 / (4.0 * math.pi), "1/(4*pi)"), (math.sqrt(2.0), "sqrt(2)")],
)
def test_known_constants_have_names(value: float, text: str) -> None:
    assert str(exact_number(value)) == text


def test_an_ordinary_number_has_no_name() -> None:
    assert exact_number(0.7310585786300049) is None


def test_unknown_and_repeated_primitives_are_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'sin'"):
        choose(["sinn"])
    with pytest.raises(UsageError, match="names of their own"):
        choose(["sin", "sin"])


def network(seed: int, input_map: str = "quantile") -> tuple[hepkan.KAN, np.ndarray]:
    """Return a random network with products, masks or a selection of inputs, and events."""
    generator = np.random.default_rng(seed)
    features, hidden = int(generator.integers(3, 6)), int(generator.integers(2, 5))
    widths = [features, hidden, *([3] if seed % 2 else []), 1 + seed % 3]
    products = [int(generator.integers(0, min(width, 3))) for width in widths[1:]]
    masks = [
        (generator.random((n_in, n_out + p)) > 0.3).astype(int) | np.eye(n_in, n_out + p, dtype=int)
        for n_in, n_out, p in zip(widths[:-1], widths[1:], products, strict=True)
    ]
    columns = generator.permutation(features + 2)[:features].tolist()
    model = hepkan.KAN(
        widths,
        grid=int(generator.integers(2, 7)),
        base=("silu", "linear", "none")[seed % 3],
        input_map=input_map,
        products=products,
        columns=columns,
        n_features=features + 2,
        edge_masks=masks if seed % 2 == 0 else None,
        seed=seed,
    ).double()
    X = generator.normal(size=(300, features + 2)) * 30.0 + 10.0
    model.fit_inputs(torch.from_numpy(X))
    if seed % 2:
        kept = torch.from_numpy((generator.random(model.layers[0].coef.shape[::2]) > 0.3).astype(float))
        kept[0] = 1.0
        model.layers[0].mask_edges(kept)
    return model, np.concatenate([X, 3.0 * X[:50]])


def expected(model: hepkan.KAN, X: np.ndarray) -> np.ndarray:
    """Return the network's outputs in float64."""
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(X)).numpy())


@pytest.mark.parametrize("input_map", ["quantile", "standard", "none"])
@pytest.mark.parametrize("seed", range(6))
def test_formula_equals_the_network(seed: int, input_map: str) -> None:
    model, X = network(seed, input_map)
    y = expected(model, X)
    formula = as_formula(model)
    scale = np.abs(y).max()
    np.testing.assert_allclose(formula.outputs(X), y, rtol=0, atol=1e-9 * max(1.0, scale))
    again = Formula.from_dict(json.loads(json.dumps(formula.to_dict())))
    np.testing.assert_array_equal(again.outputs(X), formula.outputs(X))


def test_formula_of_a_pruned_network_equals_it_in_any_order() -> None:
    from hepkan.interpret import remove_edges, remove_inputs

    model = hepkan.KAN([4, 3, 1], seed=2, products=[1, 0]).double()
    X = np.random.default_rng(0).normal(size=(400, 4))
    model.fit_inputs(torch.from_numpy(X))

    def fewer_edges(one: hepkan.KAN) -> hepkan.KAN:
        shapes = [tuple(layer.coef.shape[::2]) for layer in one.layers]
        gone = [np.zeros(shape, dtype=bool) for shape in shapes]
        gone[0][0, 1] = gone[0][2, 0] = True
        return remove_edges(one, gone, [np.full(shape, 0.3) for shape in shapes])

    def fewer_inputs(one: hepkan.KAN) -> hepkan.KAN:
        return remove_inputs(one, [3], X)

    for small in (fewer_inputs(fewer_edges(model)), fewer_edges(fewer_inputs(model))):
        formula = as_formula(small)
        assert "x3" not in formula.used
        np.testing.assert_allclose(formula.outputs(X), expected(small.double(), X), rtol=0, atol=1e-9)


def lambdified(formula: Formula, X: np.ndarray, output: int = 0) -> np.ndarray:
    """Return the SymPy form evaluated by NumPy."""
    symbols = sorted(formula.sympy(output).free_symbols, key=str)
    function = sympy.lambdify(symbols, formula.sympy(output), "numpy")
    places = [formula.names.index(str(one)) for one in symbols]
    with np.errstate(all="ignore"):
        return np.asarray(function(*(X[:, place] for place in places)))


def compiled(text: str, X: np.ndarray, folder: Path) -> np.ndarray:
    """Return ROOT's text evaluated by a C++ compiler."""
    body = f"return ({text})(x, nullptr);" if text.startswith("[&]") else f"return {text};"
    source, library = folder / "f.cpp", folder / "f.so"
    source.write_text(f'#include <cmath>\nusing namespace std;\nextern "C" double f(double *x) {{ {body} }}\n')
    subprocess.run([str(COMPILER), "-std=c++17", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    function = ctypes.CDLL(str(library)).f
    function.restype, function.argtypes = ctypes.c_double, [ctypes.POINTER(ctypes.c_double)]
    rows = [np.ascontiguousarray(row, dtype=np.float64) for row in X]
    return np.array([function(row.ctypes.data_as(ctypes.POINTER(ctypes.c_double))) for row in rows])


def run_numpy(formula: Formula, X: np.ndarray, folder: Path) -> np.ndarray:
    """Return the NumPy text's values, run as a module of its own."""
    import importlib.util
    import inspect

    (folder / "text.py").write_text(formula.numpy())
    spec = importlib.util.spec_from_file_location("text_of_a_formula", folder / "text.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = list(inspect.signature(module.formula).parameters)
    return np.asarray(module.formula(*(X[:, formula.names.index(name)] for name in names)))


def plain_formula() -> tuple[Formula, np.ndarray]:
    """Return a formula without splines and events."""
    x, y = Input(0), Input(1)
    root = Sum(
        (
            Product((Call(PRIMITIVES["sin"], Sum((x,), (math.pi,), 0.0)), Call(PRIMITIVES["sqrt"], y), y)),
            Call(PRIMITIVES["sign"], Sum((x,), (1.0,), -0.2)),
            Call(PRIMITIVES["gaussian"], x),
            Call(PRIMITIVES["arctanh"], Sum((x,), (0.4,), 0.0)),
        ),
        (1.5, 0.25, -2.0, 1.0),
        0.125,
    )
    X = np.random.default_rng(0).uniform(0.1, 2.0, (40, 2)) * [1.0, 3.0]
    return Formula((root,), ("mass", "pt"), "sigmoid", (False, True)), X


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
@pytest.mark.parametrize("kind", ["plain", "splines", "deep"])
def test_all_forms_agree(kind: str, tmp_path: Path) -> None:
    if kind == "plain":
        formula, X = plain_formula()
    else:
        widths = [2, 1] if kind == "splines" else [2, 2, 1]
        model = hepkan.KAN(widths, grid=3, seed=5, input_map="standard").double()
        X = np.random.default_rng(1).normal(size=(40, 2)) * 2.0
        model.fit_inputs(torch.from_numpy(X[:20]))
        model.link = "sigmoid"
        formula = as_formula(model, ["mass", "pt"])
    logits, scores = formula.outputs(X)[:, 0], formula.predict(X)
    if kind != "deep":  # SymPy repeats the hidden values in every piece: correct, but far too long
        np.testing.assert_allclose(lambdified(formula, X), logits, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(run_numpy(formula, X, tmp_path), scores, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(compiled(formula.root(), X, tmp_path), scores, rtol=1e-10, atol=1e-10)


def test_latex_has_the_numbers_and_functions() -> None:
    formula, _ = plain_formula()
    text = formula.latex()
    for piece in (r"pt^{\frac{3}{2}}", r"\sin", r"\pi mass", r"\operatorname{atanh}", r"\operatorname{sign}"):
        assert piece in text


def test_user_defined_primitive_survives_a_file(tmp_path: Path) -> None:
    bump = Primitive(
        name="bump",
        function=lambda u: 1.0 / (1.0 + u**4),
        derivative=lambda u: -4.0 * u**3 / (1.0 + u**4) ** 2,
        sympy=lambda u: 1 / (1 + u**4),
        numpy="1.0 / (1.0 + ({})**4)",
        root="1.0 / (1.0 + pow({}, 4))",
        latex=r"\frac{{1}}{{1 + {}^4}}",
    )
    formula = Formula((Call(bump, Input(0)),), ("x",))
    formula.save(tmp_path / "f.json")
    X = np.linspace(-2, 2, 9)[:, None]
    np.testing.assert_array_equal(Formula.load(tmp_path / "f.json", [bump]).predict(X), formula.predict(X))
    with pytest.raises(DataError, match="primitives"):
        Formula.load(tmp_path / "f.json")
    (tmp_path / "g.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        Formula.load(tmp_path / "g.json")


def test_nan_gives_nan_for_its_event_only() -> None:
    formula, X = plain_formula()
    X = X.copy()
    X[3, 1] = np.nan
    assert np.flatnonzero(np.isnan(formula.predict(X))).tolist() == [3]


def trained(y: np.ndarray, X: np.ndarray, widths: list[int], seed: int = 0) -> hepkan.KAN:
    """Return a network after a short training."""
    model = hepkan.KAN(widths, input_map="standard", seed=seed)
    hepkan.fit(model, (X, y[:, None]), loss="mse", optimizer="lbfgs", batch=len(X), epochs=6)
    return model


def test_symbolic_finds_a_sum_and_leaves_the_model_as_it_is() -> None:
    generator = np.random.default_rng(0)
    X = generator.uniform(-1.0, 1.0, (400, 2))
    y = np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2
    model = trained(y, X, [2, 1])
    before = {name: values.clone() for name, values in model.state_dict().items()}
    formula = hepkan.symbolic(model, X, y, names=["a", "b"])
    a, b = sympy.symbols("a b", real=True)
    assert sympy.simplify(formula.sympy() - (sympy.sin(sympy.pi * a) + b**2)) == 0
    assert formula.table[0].text == "spline network" and formula.loss < 1e-20
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_symbolic_without_target_follows_the_network() -> None:
    generator = np.random.default_rng(1)
    X = generator.uniform(0.5, 2.0, (400, 2))
    model = trained(np.exp(X[:, 0]) - X[:, 1], X, [2, 1])
    formula = hepkan.symbolic(model, X)
    assert formula.loss_name == "fidelity"
    network_values = model.predict(X)
    assert np.mean((formula.predict(X) - network_values) ** 2) < 1e-4 * network_values.var()


def test_an_edge_that_no_primitive_describes_stays_a_spline() -> None:
    generator = np.random.default_rng(2)
    X = generator.uniform(-1.0, 1.0, (500, 2))
    y = np.abs(np.sin(7.0 * X[:, 0])) + X[:, 1]
    model = hepkan.KAN([2, 1], grid=24, input_map="standard")
    hepkan.fit(model, (X, y[:, None]), loss="mse", optimizer="lbfgs", batch=500, epochs=6)
    formula = hepkan.symbolic(model, X, y, primitives=["square", "exp"])
    assert 1 <= formula.n_splines <= 2
    assert np.mean((formula.predict(X) - y) ** 2) < 0.05 * y.var()


@pytest.mark.slow
def test_symbolic_of_the_papers_function_is_closed_and_accurate() -> None:
    generator = np.random.default_rng(3)
    X = generator.uniform(-1.0, 1.0, (600, 2))
    y = np.exp(np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2)
    formula = hepkan.symbolic(trained(y, X, [2, 5, 1]), X, y)
    assert formula.n_splines == 0
    assert np.mean((formula.predict(X) - y) ** 2) < 1e-6 * y.var()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_symbolic_of_the_papers_function(seed: int) -> None:
    generator = np.random.default_rng(3 + seed)
    X = generator.uniform(-1.0, 1.0, (600, 2))
    y = np.exp(np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2)
    formula = hepkan.symbolic(trained(y, X, [2, 5, 1], seed), X, y)
    other = generator.uniform(-1.0, 1.0, (500, 2))
    truth = np.exp(np.sin(np.pi * other[:, 0]) + other[:, 1] ** 2)
    assert formula.n_splines == 0
    np.testing.assert_allclose(formula.predict(other), truth, rtol=1e-9)


def test_functions_that_look_alike_are_exchanged_for_the_one_that_fits() -> None:
    generator = np.random.default_rng(7)
    X = generator.uniform(-1.0, 1.0, (300, 2))
    y = np.exp(X[:, :1] + X[:, 1:] ** 2)
    flat = Sum((Call(PRIMITIVES["cos"], Sum((Input(1),), (0.05,), 0.0)),), (-800.0,), 800.0)
    start = Sum((Call(PRIMITIVES["exp"], Sum((Input(0), flat), (1.0, 1.0), 0.0)),), (1.0,), 0.0)
    objective = Objective("mse", y, np.full(300, 1 / 300))
    found = exchanged(tidied([start]), X, objective, choose(None))
    names = {node.primitive.name for node in ordered(found.roots) if isinstance(node, Call)}
    assert names == {"exp", "square"} and found.loss < 1e-20 * y.var()


def test_a_bias_that_the_loss_does_not_need_becomes_zero() -> None:
    generator = np.random.default_rng(8)
    X = generator.uniform(-1.0, 1.0, (500, 1))
    y = X + 0.1 * generator.normal(size=(500, 1))
    start = Sum((Input(0),), (1.0,), 0.02)
    objective = Objective("mse", y, np.full(500, 1 / 500))
    allowed = 1.02 * objective(X)
    (root,) = rounded([start], X, objective, allowed=allowed).roots
    assert isinstance(root, Sum) and root.numbers().tolist() == [1.0, 0.0]


def test_few_numbers_are_taken_for_known_constants_by_chance() -> None:
    numbers = np.random.default_rng(12).uniform(0.1, 10.0, 300)
    for spread, most in ((1e-3, 0.3), (1e-5, 0.01)):
        assert np.mean([len(list(proposals(number, spread * number))) > 0 for number in numbers]) < most
    assert next(proposals(3.1419, 0.06)) == pytest.approx(np.pi, abs=1e-12)
    assert next(proposals(0.4999, 0.01)) == 0.5


def test_features_with_a_long_tail_are_taken_by_their_logarithm() -> None:
    generator = np.random.default_rng(9)
    X = np.column_stack([generator.exponential(30.0, 400) + 20.0, generator.uniform(0.0, np.pi, 400)])
    X[0, 0] = 900.0
    tail, flat = feature_spline(X, 0, 6), feature_spline(X, 1, 6)
    assert isinstance(tail.argument, Call) and tail.argument.primitive.name == "log"
    assert isinstance(flat.argument, Input)
    assert feature_edge(tail, 1, 0).variable is edge_variable(tail) and isinstance(edge_variable(tail), Input)


@pytest.mark.slow
def test_discover_finds_the_transverse_mass_among_long_tails() -> None:
    generator = np.random.default_rng(10)

    def events(n: int) -> tuple[np.ndarray, np.ndarray]:
        pt, met = generator.exponential(25.0, n) + 26.0, generator.exponential(35.0, n) + 1.0
        dphi = generator.uniform(0.0, np.pi, n)
        return np.column_stack([pt, met, dphi]), np.sqrt(2.0 * pt * met * (1.0 - np.cos(dphi)))

    formula = discover(*events(500), names=["pt", "met", "dphi"])
    X, truth = events(500)
    assert formula.n_splines == 0
    np.testing.assert_allclose(formula.predict(X), truth, rtol=1e-9)


def test_discover_ends_at_the_noise_with_the_right_shape() -> None:
    generator = np.random.default_rng(11)
    X = generator.uniform(1.0, 3.0, (500, 2))
    truth = X[:, 0] * X[:, 1] ** 2
    formula = discover(X, truth + 0.01 * truth.std() * generator.normal(size=500))
    assert formula.n_splines == 0
    assert np.mean((formula.predict(X) - truth) ** 2) < 1e-5 * truth.var()


def test_classifier_keeps_its_link() -> None:
    generator = np.random.default_rng(4)
    X = generator.normal(size=(600, 2))
    y = (generator.random(600) < 1.0 / (1.0 + np.exp(-2.0 * X[:, 0] - X[:, 1]))).astype(float)
    model = hepkan.KAN([2, 1], grid=3)
    hepkan.fit(model, (X, y), loss="cross_entropy", epochs=150, batch=200, learning_rate=0.02, weight_decay=0.01)
    formula = hepkan.symbolic(model, X, y)
    assert formula.link == "sigmoid" and formula.loss_name == "cross_entropy"
    scores = formula.predict(X)
    assert ((scores > 0.0) & (scores < 1.0)).all()
    assert scores[y == 1].mean() > scores[y == 0].mean() + 0.2


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda X: X[:, 0] * X[:, 1] / (4 * np.pi * X[:, 2] ** 2), "a*b/(4*pi*c**2)"),
        (lambda X: -X[:, 0] * np.cos(X[:, 1]), "-a*cos(b)"),
        (lambda X: X[:, 2] / np.sqrt(1 - X[:, 0] ** 2 / (9 * X[:, 1] ** 2)), "c/sqrt(1 - a**2/(9*b**2))"),
    ],
    ids=["product", "both signs", "one hidden node"],
)
@pytest.mark.slow
def test_discover_finds_equations(function: object, text: str) -> None:
    X = np.random.default_rng(5).uniform(1.0, 2.5, (500, 3))
    y = function(X)  # type: ignore[operator]
    formula = discover(X, y, names=["a", "b", "c"])
    other = np.random.default_rng(6).uniform(1.0, 2.5, (300, 3))
    truth = function(other)  # type: ignore[operator]
    assert formula.n_splines == 0, str(formula)
    assert np.mean((formula.predict(other) - truth) ** 2) < 1e-9 * truth.var(), (str(formula), text)


def test_bad_input_is_refused_in_words() -> None:
    X = np.random.default_rng(0).normal(size=(100, 2))
    y = X[:, 0]
    model = hepkan.KAN([2, 1])
    model.fit_inputs(X)
    spoilt = X.copy()
    spoilt[7, 1] = np.nan
    symbolic = hepkan.symbolic
    for call in (lambda: symbolic(model, spoilt, y), lambda: symbolic(model, spoilt), lambda: discover(spoilt, y)):
        with pytest.raises(DataError, match="NaN"):
            call()
    with pytest.raises(DataError, match="at least 30"):
        discover(X[:10], y[:10])
    with pytest.raises(DataError, match="at least 30"):
        hepkan.symbolic(model, X[:10], y[:10])
    with pytest.raises(DataError, match="columns of X are constant"):
        discover(np.ones((100, 2)), y)
    with pytest.raises(DataError, match="y is constant"):
        discover(X, np.ones(100))
    with pytest.raises(UsageError, match="one value for each"):
        discover(X, y[:50])
    with pytest.raises(UsageError, match="shape"):
        hepkan.symbolic(model, X[:, :1], y)
    with pytest.raises(UsageError, match="MLP"):
        hepkan.symbolic(hepkan.MLP([2, 1]), X, y)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="names"):
        discover(X, y, names=["a"])
    dead = hepkan.KAN([2, 3, 1])
    for layer in dead.layers:
        layer.mask_edges(np.zeros(layer.coef.shape[::2]))
    with pytest.raises(DataError, match="all zero"):
        hepkan.symbolic(dead, X, y)


def test_a_constant_column_is_no_part_of_the_formula() -> None:
    generator = np.random.default_rng(8)
    X = np.column_stack([generator.uniform(1.0, 2.0, 200), np.full(200, 3.0)])
    formula = discover(X, 5.0 * X[:, 0] ** 2, names=["a", "b"])
    assert formula.used == ("a",)
    np.testing.assert_allclose(formula.predict(X), 5.0 * X[:, 0] ** 2, rtol=1e-10)
