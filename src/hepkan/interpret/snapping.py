"""Exchange splines for formulae, layer after layer, and choose by the loss of the whole after a fit of the whole."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import DataError
from hepkan.interpret.candidates import Candidate, candidates
from hepkan.interpret.conversion import Edge
from hepkan.interpret.evaluation import Program
from hepkan.interpret.expression import (
    Call,
    Expression,
    Sum,
    complexity,
    splines_of,
    substituted,
)
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import PRIMITIVES, Primitive
from hepkan.interpret.refit import refit
from hepkan.interpret.shapes import Shape, follow, with_fresh_grids

Floats = NDArray[np.float64]

_SOME = 400


@dataclass(frozen=True, kw_only=True)
class Snapping:
    """How to search.

    Attributes:
        primitives: the table.
        form: how the last layer's functions nest, see `candidates`.
        inner: combinations that are tried for an inner layer.
        last: combinations that are tried for the last layer.
        beam: partial formulae that are followed.
        margin: how far beyond the data functions must be defined, relative to their range.
        exact: a loss at which the search ends.
    """

    primitives: Sequence[Primitive]
    form: str = "none"
    inner: int = 6
    last: int = 24
    beam: int = 2
    margin: float = 0.01
    exact: float = 0.0


def snapped(shape: Shape, X: Floats, objective: Objective, how: Snapping) -> list[Shape]:
    """Return shapes without splines, the best first; empty when no combination is defined on all events.

    Combinations are compared on some of the events, the best of a layer are fitted to all.
    """
    rows = np.unique(np.linspace(0, len(X) - 1, min(len(X), _SOME)).round().astype(np.intp))
    some, part = X[rows], objective.part(rows)
    layers = sorted({edge.layer for edge in shape.edges})
    beam = [shape]
    for layer in layers:
        final = layer == layers[-1]
        found: list[Shape] = []
        for state in beam:
            for trial in itertools.islice(_expanded(state, layer, X, how), how.last if final else how.inner):
                result = _tried(trial, some, part, how, final=final, good=1e-2 * shape.loss)
                if np.isfinite(result.loss):
                    found.append(result)
                if result.loss <= how.exact:
                    break
        found.sort(key=lambda one: merit(one, len(X)))
        beam = [one.moved(refit(one.roots, X, objective, steps=40, enough=how.exact)) for one in found[: how.beam]]
        beam = [one for one in beam if np.isfinite(one.loss)]
    beam.sort(key=lambda one: merit(one, len(X)))
    return [one for one in beam if not splines_of(one.roots)]


def _tried(trial: Shape, X: Floats, objective: Objective, how: Snapping, *, final: bool, good: float) -> Shape:
    """Return a combination after a short fit, a longer one when it is promising."""
    start = trial if final else with_fresh_grids(trial, X)
    steps = 12 if final else 25
    result = start.moved(refit(start.roots, X, objective, steps=steps, tolerance=1e-3, enough=how.exact))
    if final and result.loss < good:
        return result.moved(refit(result.roots, X, objective, steps=80, enough=how.exact))
    return result


def merit(shape: Shape, n: int) -> float:
    """Return loss and complexity in one number, smaller is better."""
    return n * float(np.log(shape.loss + 1e-300)) + 2.0 * float(np.log(n)) * complexity(shape.roots)


def _expanded(state: Shape, layer: int, X: Floats, how: Snapping) -> Iterator[Shape]:
    """Give the state with all splines of a layer exchanged, the most likely combination first."""
    program = Program(state.roots, X)
    values = program.values(program.start)
    edges = [edge for edge in state.edges if edge.layer == layer]
    choices: list[list[tuple[float, Candidate, Expression]]] = []
    for edge in edges:
        choices.append(_choices(edge, values, program, how))
        if not choices[-1]:
            return
    for combination in _ordered(choices):
        exchange = {
            id(edge.function): (lambda _, one=one, variable=variable: one.of(variable))
            for edge, (_, one, variable) in zip(edges, combination, strict=True)
        }
        # Variables may themselves hold edges of this layer only if they are deeper, so they stay as they are.
        moved = substituted(state.roots, exchange)  # type: ignore[arg-type]
        left = [edge for edge in state.edges if edge.layer != layer]
        yield Shape(moved.roots, follow(left, moved.new), np.inf)


def _choices(
    edge: Edge, values: Sequence[Floats], program: Program, how: Snapping
) -> list[tuple[float, Candidate, Expression]]:
    """Return candidates of an edge and what they are a function of, best first."""
    x, y = values[program.place[id(edge.variable)]], values[program.place[id(edge.function)]]
    nested = how.form if edge.layer == 1 else "none"
    found: list[tuple[float, Candidate, Expression]] = []
    for variable, points in _variables(edge.variable, x):
        try:
            table = candidates(points, y, primitives=how.primitives, nested=nested, margin=how.margin)
        except DataError:
            continue
        extra = 0.0 if variable is edge.variable else 0.12
        found += [(one.score + extra, one, variable) for one in table]
    return sorted(found, key=lambda one: one[0])[:8]


def _variables(variable: Expression, x: Floats) -> Iterator[tuple[Expression, Floats]]:
    """Give a hidden value, and when it is a sum of logarithms also the powers of the product that it is the log of."""
    yield variable, x
    exponents = _exponents(variable)
    if not exponents:
        return
    smallest = min(abs(one) for one in exponents)
    for power in (1.0, 2.0, 0.5):
        for sign in (1.0, -1.0):
            scale = sign * power / smallest
            middle = float(scale * 0.5 * (x.min() + x.max()))
            points = np.exp(np.clip(scale * x - middle, -200.0, 200.0))
            yield Call(PRIMITIVES["exp"], Sum((variable,), (scale,), -middle)), points


def _exponents(variable: Expression) -> list[float]:
    """Return the factors of a sum of logarithms of plain variables, empty when it is something else."""
    if not isinstance(variable, Sum):
        return []
    exponents = []
    for outer, term in zip(variable.coefficients, variable.terms, strict=True):
        call = term.terms[0] if isinstance(term, Sum) and len(term.terms) == 1 else term
        inner = term.coefficients[0] if isinstance(term, Sum) and call is not term else 1.0
        if not isinstance(call, Call) or call.primitive.name != "log":
            return []
        exponents.append(outer * inner)
    return [one for one in exponents if one != 0.0]


def _ordered(
    choices: Sequence[Sequence[tuple[float, Candidate, Expression]]],
) -> Iterator[list[tuple[float, Candidate, Expression]]]:
    """Give combinations of choices: those in which all edges have one shape first, then all by the sum of scores."""
    seen = {(0,) * len(choices)}
    yield [table[0] for table in choices]
    for name in ("log", "square", "x"):
        alike = [[i for i, one in enumerate(table) if one[1].name == name][:1] for table in choices]
        chosen = tuple(place for found in alike for place in found)
        if len(chosen) == len(choices) > 1 and chosen not in seen:
            seen.add(chosen)
            yield [table[i] for table, i in zip(choices, chosen, strict=True)]
    heap = [(sum(table[0][0] for table in choices), (0,) * len(choices))]
    queued = {heap[0][1]}
    while heap:
        _, places = heapq.heappop(heap)
        if places not in seen:
            seen.add(places)
            yield [table[i] for table, i in zip(choices, places, strict=True)]
        for edge, place in enumerate(places):
            if place + 1 < len(choices[edge]):
                following = (*places[:edge], place + 1, *places[edge + 1 :])
                if following not in queued:
                    queued.add(following)
                    total = sum(table[i][0] for table, i in zip(choices, following, strict=True))
                    heapq.heappush(heap, (total, following))
