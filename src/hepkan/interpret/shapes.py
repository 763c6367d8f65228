"""Small KANs in float64 whose splines are fitted by Levenberg-Marquardt: sums of functions, and of ridges of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepkan.interpret.conversion import Edge
from hepkan.interpret.evaluation import Program, evaluate
from hepkan.interpret.expression import (
    Call,
    Expression,
    Input,
    Moved,
    Product,
    Spline,
    Sum,
    constants_of,
    ordered,
    transform,
)
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import PRIMITIVES
from hepkan.interpret.refit import Refit, refit

Floats = NDArray[np.float64]

DEGREE = 3
GRID = 6
"""Intervals of splines of features."""
RESOLVED = 1e-6
"""The loss, relative to that of a constant, below which splines of this grid cannot tell shapes apart."""
TAIL = 4.0
"""How many times larger than its median a feature must become to be taken by its logarithm."""
HIDDEN = 40
"""Intervals of splines of hidden values that are known from the start."""
_SOME = 400


class Shape(NamedTuple):
    """A graph with one output, its edges that are not yet formulae, and its loss."""

    roots: tuple[Expression, ...]
    edges: tuple[Edge, ...]
    loss: float

    def moved(self, result: Refit) -> Shape:
        """Return the shape after a fit of its constants."""
        return Shape(result.roots, follow(self.edges, result.new), result.loss)


def follow(edges: Sequence[Edge], new: Mapping[int, Expression]) -> tuple[Edge, ...]:
    """Return the edges in a changed graph."""
    return tuple(
        edge._replace(function=new[id(edge.function)], variable=new[id(edge.variable)])
        for edge in edges
    )


def even_knots(low: float, high: float, grid: int) -> Floats:
    """Return knots at equal steps around a range, `(grid + 2 degree + 1,)`."""
    step = max(high - low, 1e-9 * max(1.0, abs(low))) / grid
    return np.asarray(low + step * np.arange(-DEGREE, grid + DEGREE + 1), dtype=np.float64)


def spline_edge(variable: Expression, low: float, high: float, grid: int, values: Floats | None = None) -> Spline:
    """Return a spline of a variable on a range, with given coefficients or zero."""
    size = grid + DEGREE
    return Spline(variable, even_knots(low, high, grid), np.zeros(size) if values is None else values, DEGREE)


def feature_spline(X: Floats, i: int, grid: int, values: Floats | None = None) -> Spline:
    """Return a spline of a feature on its range, of its logarithm where it is positive with a long tail."""
    low, high = float(X[:, i].min()), float(X[:, i].max())
    if low > 0.0 and high > TAIL * float(np.median(X[:, i])):
        return spline_edge(Call(PRIMITIVES["log"], Input(i)), float(np.log(low)), float(np.log(high)), grid, values)
    return spline_edge(Input(i), low, high, grid, values)


def feature_edge(function: Spline, layer: int, i: int, output: int = 0) -> Edge:
    """Return the edge of such a spline, whose variable is the feature itself."""
    return Edge(function, edge_variable(function), layer, i, output)


def edge_variable(function: Spline) -> Expression:
    """Return what a spline is a function of, the feature where it is one of its logarithm."""
    argument = function.argument
    return argument.argument if isinstance(argument, Call) else argument


def feature_basis(function: Spline, X: Floats) -> Floats:
    """Return the B-splines of a spline whose argument no constant changes."""
    return function.basis(_values(function.argument, X))


def joined(functions: Sequence[Expression]) -> Sum:
    """Return the sum of functions, whose constant alone is free."""
    return Sum(tuple(functions), (1.0,) * len(functions), 0.0, frozenset(range(len(functions))))


def additive(X: Floats, columns: Sequence[int], objective: Objective, grid: int) -> Shape:
    """Return the fitted KAN [n, 1] of some features."""
    functions = [feature_spline(X, i, grid) for i in columns]
    edges = tuple(feature_edge(one, 1, i) for one, i in zip(functions, columns, strict=True))
    shape = Shape((joined(functions),), edges, np.inf)
    return shape.moved(refit(shape.roots, X, objective, steps=4))


def ridged(
    X: Floats,
    columns: Sequence[int],
    objective: Objective,
    grid: int,
    *,
    ridges: int = 1,
    beside: Sequence[int] = (),
    product: bool = False,
    generator: np.random.Generator,
    start: Shape | None = None,
    steps: int = 40,
) -> Shape:
    """Return the fitted KAN [n, ridges, 1], with functions of the features beside its hidden nodes where asked.

    Arguments:
        X: raw features `(n, features)`.
        columns: the features used.
        objective: the loss.
        grid: intervals of each spline.
        ridges: hidden nodes.
        beside: features that have a function of their own that goes to the output.
        product: whether hidden nodes are products of their edges instead of sums.
        generator: source of the initial values.
        start: a sum of functions of the same features, from which the first hidden node begins.
        steps: of each of two fits; between them the grids of the hidden nodes follow the data.
    """
    edges: list[Edge] = []
    outer: list[Expression] = []
    for number in range(ridges):
        inner: list[Spline] = []
        for i in columns:
            values = _random_curve(grid, generator) / np.sqrt(len(columns))
            if number == 0 and start is not None:
                first = next(edge.function for edge in start.edges if edge.input == i)
                assert isinstance(first, Spline)
                values = (first.coefficients - first.coefficients.mean()) / _spread(start, X)
            inner.append(feature_spline(X, i, grid, values + 1.0 if product else values))
        hidden: Expression = Sum(tuple(inner), (1.0,) * len(inner), 0.0, frozenset(range(len(inner) + 1)))
        hidden = Product(tuple(inner)) if product else hidden
        line = np.linspace(-1.0, 1.0, grid + DEGREE) * (2.0 + 2.0 * DEGREE / grid) / (1.0 + 2.0 / grid)
        function = spline_edge(hidden, -2.0, 2.0, grid, line * generator.choice([-1.0, 1.0]))
        edges += [feature_edge(one, 0, i, number) for one, i in zip(inner, columns, strict=True)]
        edges.append(Edge(function, hidden, 1, -1 - number, 0))
        outer.append(function)
    for i in beside:
        function = feature_spline(X, i, grid)
        edges.append(feature_edge(function, 1, i))
        outer.append(function)
    shape = Shape((joined(outer),), tuple(edges), np.inf)
    shape = shape.moved(refit(shape.roots, X, objective, steps=steps, tolerance=1e-3))
    shape = with_fresh_grids(shape, X)
    return shape.moved(refit(shape.roots, X, objective, steps=steps, tolerance=1e-3))


def monotone_starts(
    X: Floats, columns: Sequence[int], objective: Objective, grid: int, *, beside: Sequence[int], keep: int = 2
) -> list[Shape]:
    r"""Return the fitted KANs [n, 1, 1] whose inner functions are :math:`\pm \log x`, :math:`\pm x` or :math:`\pm x^2`.

    All signs are tried, at most 64 of them; what remains, a function of the sum and those of the features beside, is
    linear in its coefficients. The best few are then fitted in all their constants.
    """
    rows = _some_rows(X)
    some, part = X[rows], objective.part(rows)
    others = [feature_spline(X, i, grid) for i in beside]
    base = [feature_basis(one, some) for one in others]
    found: list[tuple[float, Expression]] = []
    for hidden, s in _simple_sums(some, columns):
        design = np.column_stack([*base, _hidden_spline(hidden, s).basis(s)])
        found.append((_linear_fit(design, part)[0], hidden))
    found.sort(key=lambda one: one[0])
    shapes = []
    for _, hidden in found[:keep]:
        function = _hidden_spline(hidden, _values(hidden, X))
        edges = [Edge(function, hidden, 1, -1, 0)]
        edges += [feature_edge(one, 1, i) for one, i in zip(others, beside, strict=True)]
        shape = Shape((joined([function, *others]),), tuple(edges), np.inf)
        shape = shape.moved(refit(shape.roots, X, objective, steps=4))
        shapes.append(shape.moved(refit(shape.roots, X, objective, steps=40, tolerance=1e-3)))
    return shapes


def monotone_products(
    X: Floats, columns: Sequence[int], y: Floats, objective: Objective, grid: int, *, keep: int = 2
) -> list[Shape]:
    """Return fitted products of a function of such a sum of two or three features and one function of each feature.

    All pairs and triples of at most six features are tried, with the mean of y given a feature as its factor, and with
    or without factors of the features that the sum is made of.
    """
    if len(columns) > 6:
        return []
    factors = {i: _marginal(X, i, y, grid) for i in columns}
    rows = _some_rows(X)
    some, part = X[rows], objective.part(rows)
    means = {i: feature_basis(factors[i], some) @ factors[i].coefficients for i in columns}
    found: list[tuple[float, tuple[int, ...], Expression, Floats]] = []
    for size in (2, 3):
        for inside in itertools.combinations(columns, size):
            apart = tuple(i for i in columns if i not in inside)
            for hidden, s in _simple_sums(some, inside):
                basis = _hidden_spline(hidden, s).basis(s)
                for beside in (apart, tuple(columns)):
                    factor = np.prod([means[i] for i in beside], axis=0) * np.ones(len(rows))
                    loss, solution = _linear_fit(factor[:, None] * basis, part)
                    found.append((loss, beside, hidden, solution))
    found.sort(key=lambda one: one[0])
    shapes = []
    for _, beside, hidden, solution in found[:keep]:
        function = replace(_hidden_spline(hidden, _values(hidden, some)), coefficients=solution)
        parts = [function, *(factors[i] for i in beside)]
        edges = [Edge(function, hidden, 1, -1, 0), *(feature_edge(factors[i], 1, i) for i in beside)]
        root = Sum((Product(tuple(parts)),), (1.0,), 0.0)
        shape = Shape((root,), tuple(edges), np.inf)
        shapes.append(shape.moved(refit(shape.roots, X, objective, steps=40, tolerance=1e-3)))
    return shapes


def _some_rows(X: Floats) -> NDArray[np.intp]:
    """Return some of the events, at equal steps."""
    return np.unique(np.linspace(0, len(X) - 1, min(len(X), _SOME)).round().astype(np.intp))


def _simple_sums(X: Floats, columns: Sequence[int]) -> Iterator[tuple[Expression, Floats]]:
    """Give sums of logarithms, lines and squares with all signs, products and ratios, and their values."""
    positive = all(X[:, i].min() > 0.0 for i in columns)
    for name in ("log", "x", "square"):
        if name == "log" and not positive:
            continue
        terms = tuple(Input(i) if name == "x" else Call(PRIMITIVES[name], Input(i)) for i in columns)
        values = np.stack([X[:, i] if name == "x" else PRIMITIVES[name].function(X[:, i]) for i in columns], axis=1)
        scale = values.std(axis=0).mean() if name != "log" else 1.0
        for signs in itertools.islice(itertools.product((1.0, -1.0), repeat=len(columns) - 1), 64):
            factors = np.array([1.0, *signs]) / scale
            hidden = Sum(terms, tuple(factors.tolist()), 0.0, frozenset([0, len(terms)]))
            yield hidden, values @ factors
            if name == "log" and np.ptp(values @ factors) > 1.0:
                fixed = replace(hidden, fixed=frozenset(range(len(terms) + 1)))
                yield Call(PRIMITIVES["exp"], fixed), np.exp(values @ factors)
    if not positive:
        yield Product(tuple(Input(i) for i in columns)), np.prod([X[:, i] for i in columns], axis=0)


def _linear_fit(design: Floats, objective: Objective) -> tuple[float, Floats]:
    """Return the loss of the best linear combination of columns by least squares, and its coefficients."""
    root = np.sqrt(np.maximum(objective.weight, 0.0))
    found = np.linalg.lstsq(root[:, None] * design, root * objective.target[:, 0], rcond=1e-10)[0]
    solution = np.asarray(found, dtype=np.float64)
    return objective((design @ solution)[:, None]), solution


def _values(node: Expression, X: Floats) -> Floats:
    return evaluate([node], X)[:, 0]


def _hidden_spline(hidden: Expression, s: Floats) -> Spline:
    """Return a spline of a hidden value, finer than those of features because it is better known."""
    return spline_edge(hidden, float(s.min()), float(s.max()), int(np.clip(len(s) // 10, 6, HIDDEN)))


def _marginal(X: Floats, i: int, y: Floats, grid: int) -> Spline:
    """Return the mean of y given one feature, relative to the mean of y where that is not about zero."""
    function = feature_spline(X, i, grid)
    basis = feature_basis(function, X)
    ridge = 1e-3 * np.eye(basis.shape[1]) * len(X) / basis.shape[1]
    curve = np.linalg.solve(basis.T @ basis + ridge, basis.T @ y)
    mean = float(y.mean())
    scale = mean if abs(mean) > 1e-3 * y.std() else float(np.abs(curve).max())
    return replace(function, coefficients=curve / scale)


def multiplied(X: Floats, columns: Sequence[int], y: Floats, objective: Objective, grid: int) -> Shape:
    """Return the fitted product of one function of each feature, which may change sign.

    For independent features the mean of y given one of them is its factor up to a scale: there the fit begins.
    """
    factors = [_marginal(X, i, y, grid) for i in columns]
    mean = float(y.mean())
    edges = tuple(feature_edge(one, 1, i) for one, i in zip(factors, columns, strict=True))
    root = Sum((Product(tuple(factors)),), (mean if abs(mean) > 1e-3 * y.std() else float(y.std()),), 0.0)
    shape = Shape((root,), edges, np.inf)
    return shape.moved(refit(shape.roots, X, objective, steps=60, tolerance=1e-3))


def _random_curve(grid: int, generator: np.random.Generator) -> Floats:
    """Return coefficients of a random straight line with some bend."""
    t = np.linspace(-1.0, 1.0, grid + DEGREE)
    return np.asarray(generator.normal() * t + 0.5 * generator.normal() * t**2 + 0.1 * generator.normal(size=len(t)))


def _spread(shape: Shape, X: Floats) -> float:
    return float(evaluate(shape.roots, X).std()) or 1.0


def with_fresh_grids(shape: Shape, X: Floats) -> Shape:
    """Return a shape in which splines of hidden values have grids over the range of their data, refitted there."""
    program = Program(shape.roots, X)
    values = program.values(program.start)

    def change(old: Expression, new: Expression) -> Expression:
        if not isinstance(new, Spline) or isinstance(edge_variable(new), Input):
            return new
        x = values[program.place[id(old.arguments()[0])]]
        low, high = float(x.min()), float(x.max())
        if not high - low > 1e-9 * max(1.0, abs(low)):
            return new
        fresh = replace(new, knots=even_knots(low, high, len(new.coefficients) - DEGREE))
        points = np.concatenate([x, np.linspace(low, high, 64)])
        found = np.linalg.lstsq(fresh.basis(points), new.basis(points) @ new.coefficients, rcond=1e-10)[0]
        return replace(fresh, coefficients=np.asarray(found, dtype=np.float64))

    moved = transform(shape.roots, change)
    return Shape(moved.roots, follow(shape.edges, moved.new), shape.loss)


def without(shape: Shape, dropped: Sequence[Edge]) -> Shape:
    """Return a shape without some edges, nor what then hangs loose: empty hidden nodes and their functions."""
    gone = {id(edge.function) for edge in dropped}
    empty: set[int] = set(gone)

    def change(old: Expression, new: Expression) -> Expression:
        if isinstance(old, Product):
            pairs = zip(new.arguments(), old.factors, strict=True)
            kept_factors = [factor for factor, source in pairs if id(source) not in empty]
            if not kept_factors:
                empty.add(id(old))
            return Product(tuple(kept_factors))
        if isinstance(old, Sum) and isinstance(new, Sum):
            kept = [place for place, term in enumerate(old.terms) if id(term) not in empty]
            if not kept and old is not shape.roots[0]:
                empty.add(id(old))
            places = [*kept, len(old.terms)]
            fixed = frozenset(places.index(one) for one in new.fixed if one in places)
            return Sum(tuple(new.terms[i] for i in kept), tuple(new.coefficients[i] for i in kept), new.bias, fixed)
        if old.arguments() and all(id(argument) in empty for argument in old.arguments()):
            empty.add(id(old))
        return new

    moved: Moved = transform(shape.roots, change)
    left = [edge for edge in shape.edges if id(edge.function) not in empty]
    needed = _reachable(moved.roots)
    edges = follow(left, moved.new)
    return Shape(moved.roots, tuple(edge for edge in edges if id(edge.function) in needed), np.inf)


def _reachable(roots: Sequence[Expression]) -> set[int]:
    return {id(node) for node in ordered(roots)}


def criterion(loss: float, size: float, n: int, floor: float) -> float:
    """Return Schwarz's criterion of a loss that counts as no smaller than `floor`."""
    return n * float(np.log(loss + floor)) + size * float(np.log(n))


def eliminated(shape: Shape, X: Floats, objective: Objective, *, floor: float) -> Shape:
    """Take hidden nodes, then edges away, those with the smallest effect first, while Schwarz's criterion falls.

    Trials are fitted to some of the events, what is kept to all.

    Arguments:
        shape: a fitted shape.
        X: raw features `(n, features)`.
        objective: the loss.
        floor: the loss that splines of this size cannot resolve.

    References:
        "Estimating the Dimension of a Model" (Schwarz, 1978).
    """
    rows = _some_rows(X)
    some, part = X[rows], objective.part(rows)

    def value(one: Shape, loss: float) -> float:
        return criterion(loss, len(constants_of(one.roots)), len(rows), floor)

    best = _fewer_nodes(shape, some, part, value)
    current = value(best, part(evaluate(best.roots, some)))
    while len(best.edges) > 1:
        for edge in _by_spread(best, some):
            trial = without(best, [edge])
            if not trial.edges:
                continue
            trial = trial.moved(refit(trial.roots, some, part, steps=15, tolerance=1e-2))
            if value(trial, trial.loss) < current:
                best, current = with_fresh_grids(trial, some), value(trial, trial.loss)
                break
        else:
            break
    if best is shape:
        return shape
    return best.moved(refit(best.roots, X, objective, steps=30, tolerance=1e-3))


def _fewer_nodes(
    shape: Shape, X: Floats, objective: Objective, value: Callable[[Shape, float], float]
) -> Shape:
    """Return a shape with the fewest hidden nodes of the first layer that do not raise the criterion."""
    nodes = sorted({edge.output for edge in shape.edges if edge.layer == 0})
    if len(nodes) < 2 or {edge.layer for edge in shape.edges} != {0, 1}:
        return shape
    current = value(shape, objective(evaluate(shape.roots, X)))
    order = [-1 - edge.input for edge in _by_spread(shape, X) if edge.layer == 1 and edge.input < 0][::-1]
    for size in range(1, len(nodes)):
        for kept in itertools.islice(itertools.combinations(order, size), 4):
            gone = [edge for edge in shape.edges if edge.layer == 0 and edge.output not in kept]
            trial = without(shape, gone)
            for _ in range(2):
                trial = trial.moved(refit(trial.roots, X, objective, steps=30, tolerance=1e-2))
                trial = with_fresh_grids(trial, X)
            if value(trial, objective(evaluate(trial.roots, X))) < current:
                return trial
    return shape


def _by_spread(shape: Shape, X: Floats) -> list[Edge]:
    """Return the edges, those whose values vary least first."""
    program = Program(shape.roots, X)
    values = program.values(program.start)
    return sorted(shape.edges, key=lambda edge: float(values[program.place[id(edge.function)]].std()))
