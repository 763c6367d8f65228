"""Bring a graph into a form without redundant constants, and take away what the loss does not need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.interpret.evaluation import Program, evaluate
from hepkan.interpret.expression import (
    Call,
    Expression,
    Input,
    Product,
    Sum,
    ordered,
    substituted,
    transform,
    walk_sums,
)
from hepkan.interpret.objective import Objective
from hepkan.interpret.refit import PRECISE, Refit, refit

Floats = NDArray[np.float64]

_STRAIGHT = 1e-6
"""Part of the variance of a function that may be missed by the line that takes its place."""
_LARGEST_EXPONENT = 300.0
"""Exponents of this size stay where they are: their exponential would be no number."""


def tidied(roots: Sequence[Expression]) -> tuple[Expression, ...]:
    r"""Return the same function with nested sums and products merged and free constants only where they matter.

    :math:`\log(2 x + 4)` becomes :math:`\log(x + 2) + \log 2`, whose log 2 joins the sum above; likewise for powers,
    exp and factors of products. Scales that became 1 are fixed.
    """
    return transform(roots, lambda old, new: _tidy(new)).roots


def _tidy(node: Expression) -> Expression:
    if isinstance(node, Sum):
        return _merged(node)
    if isinstance(node, Product):
        return _product(node)
    if isinstance(node, Call):
        return _call(node)
    return node


def _as_sum(node: Expression) -> Sum:
    return node if isinstance(node, Sum) else Sum((node,), (1.0,), 0.0)


def _merged(node: Sum) -> Expression:
    """Return a sum with the sums among its terms opened, and equal terms joined."""
    totals: dict[int, float] = {}
    terms: dict[int, Expression] = {}
    bias = node.bias
    for coefficient, term in zip(node.coefficients, node.terms, strict=True):
        inner = _as_sum(term)
        bias += coefficient * inner.bias
        for c, t in zip(inner.coefficients, inner.terms, strict=True):
            terms[id(t)] = t
            totals[id(t)] = totals.get(id(t), 0.0) + coefficient * c
    kept = [place for place, total in totals.items() if total != 0.0]
    if len(kept) == 1 and bias == 0.0 and totals[kept[0]] == 1.0:
        return terms[kept[0]]
    return Sum(tuple(terms[place] for place in kept), tuple(totals[place] for place in kept), bias)


def _scaled(node: Sum, scale: float, fixed: frozenset[int]) -> Sum:
    coefficients = tuple(c / scale for c in node.coefficients)
    return replace(node, coefficients=coefficients, bias=node.bias / scale, fixed=fixed)


def _largest(node: Sum) -> int:
    return max(range(len(node.terms)), key=lambda place: abs(node.coefficients[place]))


def _product(node: Product) -> Expression:
    """Return a product of factors whose scale is 1, times their scales."""
    scale = 1.0
    factors: list[Expression] = []
    for factor in node.factors:
        inner = _as_sum(factor)
        if not inner.terms:
            scale *= inner.bias
            continue
        if len(inner.terms) == 1 and inner.bias == 0.0:
            scale *= inner.coefficients[0]
            (term,) = inner.terms
            factors += term.factors if isinstance(term, Product) else [term]
            continue
        place = _largest(inner)
        size = inner.coefficients[place]
        scale *= size
        factors.append(_scaled(inner, size, frozenset([place])))
    if not factors:
        return Sum((), (), scale)
    body = factors[0] if len(factors) == 1 else Product(tuple(factors))
    return body if scale == 1.0 else Sum((body,), (scale,), 0.0)


def _call(node: Call) -> Expression:
    """Return a call whose argument has no redundant scale or shift."""
    inner, primitive = _as_sum(node.argument), node.primitive
    if not inner.terms:
        value = float(primitive.function(np.array([inner.bias]))[0])
        return Sum((), (), value) if math.isfinite(value) else node
    if primitive.name == "exp" and abs(inner.bias) < _LARGEST_EXPONENT:
        argument = _merged(replace(inner, bias=0.0, fixed=frozenset()))
        if isinstance(argument, Sum):
            argument = replace(argument, fixed=frozenset([len(argument.terms)]))
        return Sum((Call(primitive, argument),), (math.exp(inner.bias),), 0.0)
    if primitive.name == "log" or primitive.degree is not None:
        place = _largest(inner)
        size = abs(inner.coefficients[place])
        argument = _simple(_scaled(inner, size, frozenset([place])))
        call = Call(primitive, argument)
        if primitive.name == "log":
            return Sum((call,), (1.0,), math.log(size))
        assert primitive.degree is not None
        return Sum((call,), (size**primitive.degree,), 0.0)
    return node


def _simple(node: Sum) -> Expression:
    return node.terms[0] if len(node.terms) == 1 and node.coefficients[0] == 1.0 and node.bias == 0.0 else node


def straightened(roots: Sequence[Expression], X: Floats, objective: Objective, *, precision: float = PRECISE) -> Refit:
    """Put a straight line in place of every function that is one on the range of its argument, and fit again.

    A line that costs more than `precision` of the loss is not taken.

    **Shape** X: `(n, features)`.
    """
    best = Refit(tuple(roots), objective(evaluate(roots, X)), {})
    refused: set[int] = set()
    while True:
        program = Program(best.roots, X)
        values = program.values(program.start)
        for number, node in enumerate(program.nodes):
            if not isinstance(node, Call) or number in refused:
                continue
            line = _line(values[program.place[id(node.argument)]], values[number])
            if line is not None:
                break
        else:
            return best
        slope, shift = line
        moved = substituted(
            best.roots, {id(node): lambda new, c=slope, d=shift: Sum((new.argument,), (c,), d)}  # type: ignore[attr-defined, misc]
        )
        trial = refit(tidied(moved.roots), X, objective, steps=20, tolerance=precision)
        if trial.loss <= best.loss * (1.0 + precision):
            best, refused = trial, set()
        else:
            refused.add(number)


def _line(x: Floats, y: Floats) -> tuple[float, float] | None:
    """Return slope and value at zero of a line through all points, or None where they bend."""
    middle, away = y.mean(), x - x.mean()
    square = away @ away
    slope = (away @ y) / square if square > 0.0 else 0.0
    rest = y - middle - slope * away
    if not rest @ rest <= _STRAIGHT * ((y - middle) @ (y - middle)):
        return None
    return float(slope), float(middle - slope * x.mean())


def reduced(
    roots: Sequence[Expression], X: Floats, objective: Objective, *, allowed: float, precision: float = PRECISE
) -> Refit:
    """Take terms of sums away, one at a time and fitting the rest again, while the loss stays at most `allowed`.

    In the end every term that is left has been tried on the final graph. A term that a larger graph could not spare is
    tried late, for a smaller one can hardly spare it either.

    **Shape** X: `(n, features)`.

    Arguments:
        roots: a fitted graph.
        X: raw features.
        objective: the loss.
        allowed: loss that a simpler graph may have.
        precision: fits stop when a step lowers the loss by a smaller part.
    """
    best = refit(roots, X, objective, steps=30, tolerance=precision)
    known: dict[tuple[Any, ...], int] = {}
    needed: set[int] = set()
    refused: set[tuple[int, int]] = set()
    while True:
        shapes = _shapes(best.roots, known)
        choice = _weakest(best.roots, shapes, needed, refused)
        if choice is None:
            return best
        number, node, place = choice
        trial = refit(_without(best.roots, node, place), X, objective, steps=20, tolerance=precision)
        if trial.loss <= allowed:
            best = Refit(tidied(trial.roots), trial.loss, {})
            refused = set()
        else:
            refused.add((number, place))
            needed.add(shapes[id(node.terms[place])])


def _weakest(
    roots: Sequence[Expression], shapes: Mapping[int, int], needed: Set[int], refused: Set[tuple[int, int]]
) -> tuple[int, Sum, int] | None:
    """Return the number of a sum, the sum and the place of its smallest coefficient that was not refused.

    Terms of a shape that was needed before come after all others.
    """
    sums = [(number, node) for number, node in enumerate(walk_sums(roots)) if len(node.terms) > 1]
    for later in (False, True):
        for number, node in sums:
            places = [
                place
                for place, term in enumerate(node.terms)
                if (number, place) not in refused and (later or shapes[id(term)] not in needed)
            ]
            if places:
                return number, node, min(places, key=lambda one: abs(node.coefficients[one]))
    return None


def _shapes(roots: Sequence[Expression], known: dict[tuple[Any, ...], int]) -> dict[int, int]:
    """Return a number for each node, by its id, that is the same for what differs in constants only."""
    shapes: dict[int, int] = {}
    for node in ordered(roots):
        name = node.column if isinstance(node, Input) else node.primitive.name if isinstance(node, Call) else None
        key = (type(node), name, *(shapes[id(argument)] for argument in node.arguments()))
        shapes[id(node)] = known.setdefault(key, len(known))
    return shapes


def _without(roots: Sequence[Expression], target: Sum, place: int) -> tuple[Expression, ...]:
    def change(old: Expression, new: Expression) -> Expression:
        if old is not target:
            return new
        assert isinstance(new, Sum)
        kept = [other for other in range(len(new.terms)) if other != place]
        fixed = frozenset(kept.index(one) if one < len(new.terms) else len(kept) for one in new.fixed if one != place)
        return Sum(tuple(new.terms[one] for one in kept), tuple(new.coefficients[one] for one in kept), new.bias, fixed)

    return transform(roots, change).roots
