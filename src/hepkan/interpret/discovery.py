"""From data to a formula by one recipe: small KANs first, larger ones where they are needed, then their formulae."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hepkan.interpret.checks import Events, checked_events
from hepkan.interpret.expression import Call, Expression, Product, Sum, complexity, ordered
from hepkan.interpret.finishing import EXACT, finished, front, row_of, tolerance_of
from hepkan.interpret.formula import Formula, Row
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import PRIMITIVES, Primitive, choose
from hepkan.interpret.refit import refit
from hepkan.interpret.shapes import (
    Shape,
    additive,
    criterion,
    eliminated,
    interacting,
    monotone_products,
    monotone_starts,
    multiplied,
    ridged,
)
from hepkan.interpret.snapping import Snapping, snapped
from hepkan.interpret.tidying import tidied

Floats = NDArray[np.float64]

GRID = 6
RESOLVED = 1e-6
"""The loss, relative to that of a constant, below which splines of this grid cannot tell shapes apart."""
POOR = 3e-3
"""A loss, relative to that of a constant, above which only the best shape's formula is searched."""
SEEDS = 2
TRIED = 3
"""Shapes whose formula is searched when none reaches that loss."""


@dataclass(frozen=True)
class _View:
    """The target as one of the recipe's networks sees it: as it is, or the logarithm of its size."""

    name: str
    objective: Objective
    sign: float
    scale: float

    def back(self, root: Expression) -> Expression:
        """Return the formula of the target itself."""
        if self.name != "log":
            return root
        return Sum((Call(PRIMITIVES["exp"], root),), (self.sign,), 0.0)


def discover(
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    names: Sequence[str] | None = None,
    primitives: Sequence[str | Primitive] | None = None,
    margin: float = 0.01,
    seed: int = 0,
) -> Formula:
    r"""Find a formula of a target by a fixed recipe.

    For a target of one sign its logarithm comes first, so that products are sums; then the target itself. Of each, KANs
    of splines are fitted from small to large: a sum of one function per feature [n, 1], or for a target of both signs
    their product; then, of the features that interact, one hidden node :math:`h(\sum_i \phi_i(x_i))` beside functions
    of single features, with the sum taken of logarithms, lines or squares, of free splines, or exchanged for a product.
    Edges are taken away while Schwarz's criterion falls. Then splines are exchanged for primitives, layer by layer, and
    combinations compared by the loss after a joint fit; terms that are not needed go, and constants are rounded where
    the loss does not suffer. Where no formula comes near the splines, the best network stays as piecewise polynomials.

    **Shape** X: `(n, features)`, y, weight: `(n,)`.

    Arguments:
        X: raw features.
        y: target.
        weight: of the events.
        names: of the features.
        primitives: the functions to choose from, all of the table by default.
        margin: how far beyond the data functions must be defined, relative to their range.
        seed: of the initial values of splines.

    Raises:
        UsageError: shapes that do not fit, an unknown primitive.
        DataError: NaN, too few events, or a target or all features that do not vary.
    """
    events = checked_events(X, y, weight, names=names)
    table = choose(primitives)
    own = Objective("mse", events.y, events.weight)
    scale = own.of_constant()
    found: list[tuple[float, tuple[Expression, ...], float]] = []
    reference: tuple[Expression, ...] | None = None
    reference_value, reference_loss = np.inf, np.inf
    for view in _views(events):
        generator = np.random.default_rng(seed)
        for shape in _shapes(events, view, generator):
            roots = (view.back(shape.roots[0]),)
            network = refit(roots, events.X, own, steps=10, tolerance=1e-3)
            value = _value(network.roots, network.loss / scale, len(events.X))
            if value < reference_value:
                reference, reference_value, reference_loss = network.roots, value, network.loss
            how = Snapping(primitives=table, form=_form(view, shape), margin=margin, exact=EXACT * view.scale)
            for one in snapped(shape, events.X, view.objective, how)[:2]:
                end = finished((view.back(tidied(one.roots)[0]),), events.X, own, tolerance=tolerance_of(len(events.X)))
                if np.isfinite(end.loss):
                    found.append((_value(end.roots, end.loss / scale, len(events.X)), end.roots, end.loss))
            if found and min(one[2] for one in found) <= 1e2 * EXACT * scale:
                break
        else:
            continue
        break
    assert reference is not None
    reference_row = row_of(reference, reference_loss, events.names, events.positive)
    rows = [Row(reference_row.complexity, reference_loss, reference_row.splines, "spline network")]
    rows += [row_of(roots, loss, events.names, events.positive) for _, roots, loss in found]
    found.append((reference_value, reference, reference_loss))
    _, best, best_loss = min(found, key=lambda one: one[0])
    return Formula(best, events.names, "identity", events.positive, front(rows), best_loss)


def _value(roots: Sequence[Expression], loss: float, n: int) -> float:
    """Return Schwarz's criterion with complexity in place of the number of constants."""
    return criterion(loss, complexity(roots), n, 1e-18)


def _views(events: Events) -> Iterator[_View]:
    y, weight = events.y[:, 0], events.weight
    if np.all(y > 0.0) or np.all(y < 0.0):
        share = weight * np.maximum(np.square(y), 1e-2 * float(np.median(np.square(y))))
        objective = Objective("mse", np.log(np.abs(y))[:, None], share / share.sum())
        yield _View("log", objective, float(np.sign(y[0])), objective.of_constant())
    else:
        objective = Objective("mse", events.y, weight)
        yield _View("product", objective, 1.0, objective.of_constant())
    objective = Objective("mse", events.y, weight)
    yield _View("sum", objective, 1.0, objective.of_constant())


def _form(view: _View, shape: Shape) -> str:
    """Return how the functions of the last layer nest."""
    if view.name == "log":
        return "log"
    outer = sum(edge.layer == 1 for edge in shape.edges)
    product = any(isinstance(node, Product) for node in ordered(shape.roots))
    return "power" if product or (outer == 1 and len(shape.edges) > 1) else "none"


def _shapes(events: Events, view: _View, generator: np.random.Generator) -> Iterator[Shape]:
    """Give shapes for the search of formulae, the simplest first, without the edges that they do not need."""
    X, objective, columns = events.X, view.objective, list(events.columns)
    enough = RESOLVED * view.scale
    start = additive(X, columns, objective, GRID)
    first = multiplied(X, columns, events.y[:, 0], objective, GRID + 2) if view.name == "product" else start
    tried = 0
    others = [first]
    if first.loss <= enough:
        yield eliminated(first, X, objective, floor=enough)
        tried += 1
    if len(columns) < 2:
        return
    ridges = _ridges(X, objective, columns, start, generator)
    if view.name != "log":
        ridges = itertools.chain(monotone_products(X, columns, events.y[:, 0], objective, GRID), ridges)
    for shape in ridges:
        if shape.loss > enough:
            others.append(shape)
            continue
        yield eliminated(shape, X, objective, floor=enough)
        tried += 1
        if tried == TRIED:
            return
    others.sort(key=lambda shape: criterion(shape.loss / view.scale, 2.0 * len(shape.edges), len(X), RESOLVED))
    for shape in others[: TRIED - tried]:
        if tried and shape.loss > POOR * view.scale:
            return
        tried += 1
        yield eliminated(shape, X, objective, floor=enough)


def _ridges(
    X: Floats, objective: Objective, columns: list[int], start: Shape, generator: np.random.Generator
) -> Iterator[Shape]:
    """Give fitted KANs with one hidden node, first beside features that do not interact, then beside all."""
    inside = interacting(X, columns, objective, start)
    inside = inside if len(inside) > 1 else columns
    plans = [[i for i in columns if i not in inside], columns]
    for beside in plans:
        yield from monotone_starts(X, inside, objective, GRID, beside=beside)
    for beside in plans:
        for product in (False, True):
            for number in range(SEEDS):
                yield ridged(
                    X,
                    inside,
                    objective,
                    GRID,
                    beside=beside,
                    product=product,
                    generator=generator,
                    start=start if number == 0 else None,
                )
