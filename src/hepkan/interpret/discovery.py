"""From data to a formula by one recipe: small KANs first, larger ones where they are needed, then their formulae."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hepkan.interpret.checks import Events, checked_events
from hepkan.interpret.evaluation import evaluate
from hepkan.interpret.expression import Call, Expression, Product, Sum, complexity, ordered
from hepkan.interpret.finishing import EXACT, SINGLE, State, finished, front, tolerance_of
from hepkan.interpret.formula import Formula
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import PRIMITIVES, Primitive, choose
from hepkan.interpret.refit import refit
from hepkan.interpret.residuals import interacting, white
from hepkan.interpret.shapes import (
    GRID,
    RESOLVED,
    Shape,
    additive,
    criterion,
    eliminated,
    monotone_products,
    monotone_starts,
    multiplied,
    ridged,
)
from hepkan.interpret.snapping import Snapping, snapped
from hepkan.interpret.symmetry import Joined, joined_pairs
from hepkan.interpret.tidying import tidied

Floats = NDArray[np.float64]

POOR = 3e-3
"""A loss, relative to that of a constant, above which only the best shape's formula is searched."""
SEEDS = 2
TRIED = 3
"""Shapes whose formula is searched."""


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


@dataclass
class _Search:
    """What has been found: formulae with criterion and loss, and the best network of splines."""

    events: Events
    primitives: Sequence[Primitive]
    margin: float

    def __post_init__(self) -> None:
        self.own = Objective("mse", self.events.y, self.events.weight)
        self.scale = self.own.of_constant()
        self.level = tolerance_of(len(self.events.X))
        self.found: list[tuple[float, tuple[Expression, ...], float]] = []
        self.network: tuple[float, tuple[Expression, ...], float] | None = None

    def value(self, roots: Sequence[Expression], loss: float) -> float:
        """Return Schwarz's criterion with complexity in place of the number of constants."""
        return criterion(loss / self.scale, complexity(roots), len(self.events.X), 1e-18)

    def loss(self, view: _View, shape: Shape) -> float:
        """Return the loss of a shape for the target itself."""
        return self.own(evaluate((view.back(shape.roots[0]),), self.events.X))

    def keep(self, view: _View, shape: Shape) -> float:
        """Fit a network of splines to the target itself, keep the best one by the criterion, and return the loss."""
        fitted = refit((view.back(shape.roots[0]),), self.events.X, self.own, steps=10, tolerance=1e-3)
        value = self.value(fitted.roots, fitted.loss)
        if self.network is None or value < self.network[0]:
            self.network = (value, fitted.roots, fitted.loss)
        return fitted.loss

    def add(self, view: _View, shape: Shape) -> bool:
        """Search the formulae of a shape; return whether one is exact, or as good as the shape where that is noise."""
        X, network = self.events.X, self.keep(view, shape)
        noise = shape.loss > RESOLVED * view.scale and white(X, self.events.columns, view.objective, shape)
        how = Snapping(
            primitives=self.primitives, form=_form(view, shape), margin=self.margin, exact=EXACT * view.scale
        )
        enough = network * (1.0 + 3.0 * self.level) if noise else 10.0 * SINGLE * self.scale
        for one in snapped(shape, X, view.objective, how)[:2]:
            roots = (view.back(tidied(one.roots)[0]),)
            end = finished(
                roots, X, self.own, tolerance=self.level, primitives=self.primitives, margin=self.margin
            )
            if np.isfinite(end.loss):
                self.found.append((self.value(end.roots, end.loss), end.roots, end.loss))
            if end.loss <= enough:
                return True
        return False

    def take(self, part: _Search, pairs: Joined) -> None:
        """Add what has been found with pairs of features joined."""
        for _, roots, loss in part.found:
            back = pairs.back(roots)
            self.found.append((self.value(back, loss), back, loss))
        assert part.network is not None
        back = pairs.back(part.network[1])
        self.network = (self.value(back, part.network[2]), back, part.network[2])

    def formula(self) -> Formula:
        """Return the best by the criterion, and the front."""
        assert self.network is not None
        names, positive = self.events.names, self.events.positive
        rows = front(State(*self.network[1:]), [State(*one[1:]) for one in self.found], names, positive)
        _, best, loss = min([*self.found, self.network], key=lambda one: one[0])
        return Formula(best, names, "identity", positive, rows, loss)


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

    Pairs of features that act by their difference or sum alone are joined first. KANs of splines are fitted from small
    to large, each to the logarithm of a target of one sign, so that products are sums, and to the target itself: a sum
    of one function per feature [n, 1] and their product; then, of the features that interact, one hidden node
    :math:`h(\sum_i \phi_i(x_i))` beside, or times, functions of single features, with the sum taken of logarithms,
    lines or squares, of free splines, or exchanged for a product. What misses the target by no more than splines
    resolve, or by noise alone, counts as found, otherwise the best networks do. Edges are taken away while Schwarz's
    criterion falls. Then splines are exchanged for primitives, layer by layer, and combinations compared by the loss
    after a joint fit; terms that are not needed go, and constants are rounded where the loss does not suffer. Where no
    formula comes near the splines, the best network stays as piecewise polynomials.

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
    search = _Search(events, choose(primitives), margin)
    pairs = joined_pairs(events, [view.objective for view in _views(events)])
    if pairs is not None:
        part = _Search(pairs.events, search.primitives, margin)
        exact = _searched(part, seed)
        search.take(part, pairs)
        if exact:
            return search.formula()
    _searched(search, seed)
    return search.formula()


def _searched(search: _Search, seed: int) -> bool:
    """Search through shapes of growing size; return whether a formula is exact, or misses the target by noise alone."""
    shapes = _shapes(search.events, search, np.random.default_rng(seed))
    return any(search.add(view, shape) for view, shape in shapes)


def _views(events: Events) -> Iterator[_View]:
    y, weight = events.y[:, 0], events.weight
    if np.all(y > 0.0) or np.all(y < 0.0):
        share = weight * np.maximum(np.square(y), 1e-2 * float(np.median(np.square(y))))
        objective = Objective("mse", np.log(np.abs(y))[:, None], share / share.sum())
        yield _View("log", objective, float(np.sign(y[0])), objective.of_constant())
    objective = Objective("mse", events.y, weight)
    yield _View("plain", objective, 1.0, objective.of_constant())


def _form(view: _View, shape: Shape) -> str:
    """Return how the functions of the last layer nest."""
    if view.name == "log":
        return "log"
    outer = sum(edge.layer == 1 for edge in shape.edges)
    product = any(isinstance(node, Product) for node in ordered(shape.roots))
    return "power" if product or (outer == 1 and len(shape.edges) > 1) else "none"


def _shapes(events: Events, search: _Search, generator: np.random.Generator) -> Iterator[tuple[_View, Shape]]:
    """Give shapes for the search of formulae, the simplest first, without the edges that they do not need.

    Those that describe the target come at once; when there is none, those that come nearest.
    """
    views = list(_views(events))
    starts = {view.name: additive(events.X, events.columns, view.objective, GRID) for view in views}
    others: list[tuple[float, _View, Shape]] = []
    tried = 0
    for stage in (_separable, _monotone, _ridges):
        here = [
            (search.loss(view, shape), view, shape)
            for view in views
            for shape in stage(events, view, starts[view.name], generator)
        ]
        least = min((loss for loss, _, _ in here), default=np.inf)
        floor = RESOLVED * search.scale
        for loss, view, shape in sorted(here, key=lambda one: (max(one[0], floor), len(one[2].edges), one[0])):
            if loss > 2.0 * least + floor or not _described(events, view, shape):
                others.append((loss, view, shape))
                continue
            yield view, eliminated(shape, events.X, view.objective, floor=RESOLVED * view.scale)
            tried += 1
            if tried == TRIED:
                return

    if tried == 0:
        others += [
            (search.loss(view, shape), view, shape)
            for view in views
            for shape in _wide(events, view, starts[view.name], generator)
        ]
    for _, view, shape in _nearest(others, search)[: TRIED - tried]:
        yield view, eliminated(shape, events.X, view.objective, floor=RESOLVED * view.scale)


def _nearest(others: Sequence[tuple[float, _View, Shape]], search: _Search) -> list[tuple[float, _View, Shape]]:
    """Return what may still lead to a formula: of each number of edges the best shape, if fewer edges do not as well.

    The best of all serves as the network of splines in any case; networks of many edges are not searched.
    """
    if not others:
        return []
    best = min(others, key=lambda one: one[0])
    search.keep(*best[1:])
    most = 2 * len(search.events.columns) + 1
    front: list[tuple[float, _View, Shape]] = []
    for one in sorted(others, key=lambda one: (len(one[2].edges), one[0])):
        if len(one[2].edges) <= most and one[0] <= POOR * search.scale and (not front or one[0] < 0.5 * front[-1][0]):
            front.append(one)
    return front or ([] if search.found or len(best[2].edges) > most else [best])


def _described(events: Events, view: _View, shape: Shape) -> bool:
    """Return whether a shape misses the target by no more than splines resolve, or by noise alone."""
    if shape.loss <= RESOLVED * view.scale:
        return True
    return shape.loss <= POOR * view.scale and white(events.X, events.columns, view.objective, shape)


def _separable(events: Events, view: _View, start: Shape, generator: np.random.Generator) -> Iterator[Shape]:
    """Give a sum of functions of single features, and of the target itself their product."""
    yield start
    if view.name != "log" and len(events.columns) > 1:
        yield multiplied(events.X, events.columns, events.y[:, 0], view.objective, GRID + 2)


def _monotone(events: Events, view: _View, start: Shape, generator: np.random.Generator) -> Iterator[Shape]:
    """Give shapes with one hidden value that is a simple sum, product or ratio."""
    if len(events.columns) < 2:
        return
    if view.name != "log":
        yield from monotone_products(events.X, events.columns, events.y[:, 0], view.objective, GRID)
    for inside, beside in _plans(events, view, start):
        yield from monotone_starts(events.X, inside, view.objective, GRID, beside=beside)


def _ridges(events: Events, view: _View, start: Shape, generator: np.random.Generator) -> Iterator[Shape]:
    """Give fitted KANs with one hidden node, first beside features that do not interact, then beside all."""
    if len(events.columns) < 2:
        return
    for place, (inside, beside) in enumerate(_plans(events, view, start)):
        # Which plan holds is not known beforehand: those with one feature apart get their best start alone.
        ways = list(itertools.product((False, True), range(SEEDS))) if place < 2 else [(False, 0)]
        for product, number in ways:
            yield ridged(
                events.X,
                inside,
                view.objective,
                GRID,
                beside=beside,
                product=product,
                generator=generator,
                start=start if number == 0 else None,
            )


def _wide(events: Events, view: _View, start: Shape, generator: np.random.Generator) -> Iterator[Shape]:
    """Give KANs with more hidden nodes: they predict well where no formula is found."""
    if len(events.columns) < 2:
        return
    for ridges in (2, 3):
        yield ridged(
            events.X,
            events.columns,
            view.objective,
            GRID,
            ridges=ridges,
            beside=events.columns,
            generator=generator,
            start=start,
        )


def _plans(events: Events, view: _View, start: Shape) -> list[tuple[list[int], list[int]]]:
    """Return the features of the hidden node and those beside it: the features that interact against the others.

    Then the same with all beside, and where few features seem to interact, all of them, each one apart.
    """
    columns = list(events.columns)
    inside = interacting(events.X, columns, view.objective, start)
    inside = inside if len(inside) > 1 else columns
    plans = [(inside, [i for i in columns if i not in inside]), (inside, columns)]
    if 2 < len(inside) == len(columns) <= 4:
        plans += [([j for j in columns if j != i], [i]) for i in columns]
    return plans
