"""From a trained KAN to a formula: edges are exchanged one by one, judged by the loss of the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.interpret.candidates import Candidate, candidates
from hepkan.interpret.checks import FEWEST, Events, checked_events, floats
from hepkan.interpret.conversion import Edge, network_graph
from hepkan.interpret.evaluation import Program, evaluate
from hepkan.interpret.expression import Expression, Spline, Sum, constants_of, splines_of, substituted, transform
from hepkan.interpret.finishing import EXACT, State, finished, front, tolerance_of
from hepkan.interpret.formula import Formula
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import Primitive, choose
from hepkan.interpret.refit import BEYOND, refit
from hepkan.interpret.sampling import sampled
from hepkan.interpret.shapes import GRID, RESOLVED, Shape, additive, criterion, eliminated, follow
from hepkan.interpret.snapping import Snapping, snapped
from hepkan.nn.networks import KAN

Floats = NDArray[np.float64]
Known = dict[tuple[int, int, int], tuple[Floats, Floats, list[Candidate]]]
"""By layer, input and output of an edge: what it is a function of, its values, and candidates for it."""

SMALL = 400
"""Numbers of a network up to which its splines are fitted again while edges are taken away and exchanged."""
RIDGE = 1e-6
"""Of the loss when edges of a large network are exchanged: three digits that cancel cost as much as the loss itself."""
NEAR = 1e-4
"""Fits of what comes from a large network stop when a step lowers the loss by a smaller part: no constant is exact."""
LOST = 0.1
"""Part of the network's gain that edges may take with them; with more, Schwarz's criterion had too few events."""
_IN_CONTEXT = 3


def symbolic(
    model: KAN,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor | None = None,
    weight: ArrayLike | Tensor | None = None,
    *,
    names: Sequence[str] | None = None,
    loss: str | None = None,
    primitives: Sequence[str | Primitive] | None = None,
    tolerance: float = 0.01,
    margin: float = 0.01,
    max_events: int = 4000,
) -> Formula:
    r"""Exchange the edges of a trained KAN for formulae.

    Each edge is a function of one variable, in the first layer of the raw feature, the input map included. Candidates
    are :math:`c f(a x + b) + d` and polynomials that are defined on the range of the data and a bit beyond. They are
    tried in the network, each after a fit of all constants, and the simplest one wins whose loss stays within
    `tolerance`; where none does the edge stays a spline, which the formula carries as a piecewise polynomial. A network
    of few numbers also loses the edges it does not need first, or gives way to a plain sum of functions of its features
    that does as well, and its splines are fitted again all the time. In a larger one an edge may also become a
    primitive on a parabola, and sums of large terms that cancel are avoided, so that printed digits suffice and other
    events of the same kind are safe. Last come a joint fit, the removal of terms, and known constants, where the loss
    does not suffer.

    **Shape** X: `(n, features)`, y: `(n,)` labels or `(n, outputs)`, weight: `(n,)`.

    Arguments:
        model: the network; it is not changed.
        X: raw features, all that the model takes.
        y: target; without it the formula is fitted to the network's outputs before the link (`fidelity`).
        weight: of the events.
        names: of the features, the model's by default.
        loss: as in `hepkan.fit`; by default cross-entropy for classifiers and the mean squared error otherwise.
        primitives: the functions to choose from, all of the table by default.
        tolerance: how much worse than the network the formula may be, in parts of what the network gains over a
            constant; of a network of few numbers: than the simpler structure that Schwarz's criterion prefers to it.
        margin: how far beyond the data functions must be defined, relative to their range.
        max_events: about so many events are used, in proportion to their weights; see `interpret.sampling`.

    Raises:
        UsageError: no KAN, shapes that do not fit, too few max_events, an unknown loss or primitive.
        DataError: NaN, too few events, features or targets that do not vary, a network that is constant.

    References:
        Choice in context: "GSR" (arXiv:2603.15250).
    """
    graph = network_graph(model)
    events, name, label = _events(model, X, y, weight, names, loss, max_events)
    objective = Objective(name, events.y, events.weight)
    shape = Shape(graph.roots, _edges(graph.edges, model), objective(evaluate(graph.roots, events.X)))
    if not np.isfinite(shape.loss):
        raise DataError("A formula needs events on which the network is finite, however it is not on some of these.")
    scale = objective.of_constant()
    table = choose(primitives)
    network, seen = State(shape.roots, shape.loss), []
    small = len(constants_of(shape.roots)) <= SMALL and len(shape.roots) == 1
    ends: list[tuple[tuple[Expression, ...], float, dict[str, Any]]] = []
    if small:
        shape = _simplest(shape, events, objective, tolerance, scale)
        seen.append(State(shape.roots, shape.loss))
    allowed = shape.loss + tolerance * max(scale - shape.loss, 0.0)
    if small:
        how = Snapping(primitives=table, margin=margin, exact=EXACT * scale)
        ends = [(one.roots, one.loss, {"objective": objective}) for one in snapped(shape, events.X, objective, how)[:2]]
    if not ends or min(end[1] for end in ends) > allowed:
        steady = replace(objective, ridge=RIDGE)
        exchanged = _greedy(_frozen(shape), events.X, steady, table, margin, allowed, seen)
        ends.append((*exchanged, {"objective": steady, "precision": NEAR}))
    formulas = []
    for roots, _, how_fitted in ends:
        level = tolerance_of(len(events.X))
        end = finished(roots, events.X, tolerance=level, primitives=table, margin=margin, **how_fitted)
        if np.isfinite(end.loss):
            formulas.append((end.loss, end.roots))
            seen.append(State(end.roots, end.loss))
    good = [one for one in formulas if one[0] <= allowed] or formulas
    value, best = min(good, key=lambda one: (len(splines_of(one[1])), one[0]))
    rows = front(network, seen, events.names, events.positive)
    return Formula(best, events.names, model.link, events.positive, rows, value, label)


def as_formula(model: KAN, names: Sequence[str] | None = None) -> Formula:
    """Return a KAN as it is, every edge a piecewise polynomial: equal to the network in float64.

    Raises:
        UsageError: no KAN.
        DataError: numbers that are not finite, or a network that is constant.
    """
    graph = network_graph(model)
    return Formula(graph.roots, _names(model, names), model.link, (False,) * model.n_features)


def _names(model: KAN, names: Sequence[str] | None) -> tuple[str, ...]:
    chosen = names if names is not None else model.feature_names
    words = tuple(f"x{i}" for i in range(model.n_features)) if chosen is None else tuple(chosen)
    if len(words) != model.n_features:
        raise UsageError(f"names needs {model.n_features} names, one for each feature, however: {len(words)}.")
    return words


def _events(
    model: KAN,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor | None,
    weight: ArrayLike | Tensor | None,
    names: Sequence[str] | None,
    loss: str | None,
    most: int,
) -> tuple[Events, str, str]:
    """Return events, the loss, and what it is called."""
    x = floats(X)
    if x.ndim != 2 or x.shape[1] != model.n_features:
        raise UsageError(f"X needs the shape (n, {model.n_features}), however it has {x.shape}.")
    own = None if weight is None else floats(weight)
    if own is not None and own.shape != (len(x),):
        raise UsageError(f"weight needs the shape ({len(x)},), however it has {own.shape}.")
    if most < FEWEST:
        raise UsageError(f"A formula needs at least {FEWEST} events, however max_events={most}.")
    rows, share = sampled(model, x, own, most)
    if y is None:
        target = evaluate(network_graph(model).roots, x[rows])
        kept = np.isfinite(x[rows]).all(axis=1)
        if kept.all():
            return checked_events(x[rows], target, share, names=_names(model, names)), "mse", "fidelity"
        return checked_events(x[rows], np.zeros(len(rows)), share, names=_names(model, names)), "mse", "fidelity"
    target = floats(y)
    if len(target) != len(x):
        raise UsageError(f"y needs one value for each of the {len(x)} events, however its shape is {target.shape}.")
    name = loss or ("mse" if model.link == "identity" else "cross_entropy")
    events = checked_events(x[rows], target[rows], share, names=_names(model, names))
    outputs = model.widths[-1]
    if name == "cross_entropy":
        if events.y.shape[1] != 1 or not np.isin(events.y, np.arange(max(outputs, 2))).all():
            raise DataError(f"Labels must be whole numbers from 0 to {max(outputs, 2) - 1}, however some are not.")
    elif events.y.shape[1] != outputs:
        raise UsageError(f"y needs {outputs} columns, one for each output, however: {events.y.shape[1]}.")
    return events, name, name


def _edges(edges: Sequence[Edge], model: KAN) -> tuple[Edge, ...]:
    """Return edges of hidden layers counted from 0, the last one being 1 as in the shapes of the recipe."""
    last = len(model.layers) - 1
    if last == 0:
        return tuple(edge._replace(layer=1) for edge in edges)
    return tuple(
        edge if edge.layer == 0 else edge._replace(layer=edge.layer - last + 1, input=-1 - edge.input) for edge in edges
    )


def _simplest(shape: Shape, events: Events, objective: Objective, tolerance: float, scale: float) -> Shape:
    """Return the network, the network without the edges it does not need, or a plain sum of functions of its features.

    Schwarz's criterion chooses among those that do not lose much. A network that fits noise has a lower loss than the
    true function, so the simpler one is what a formula is compared with from there on.
    """
    floor = RESOLVED * scale
    used = sorted({edge.input for edge in shape.edges if edge.input >= 0})
    trials = [eliminated(shape, events.X, objective, floor=floor)]
    if any(edge.layer == 0 for edge in shape.edges):
        trials.append(eliminated(additive(events.X, used, objective, GRID), events.X, objective, floor=floor))
    most = shape.loss + max(tolerance, LOST) * max(scale - shape.loss, 0.0)

    def value(one: Shape) -> float:
        return criterion(one.loss, len(constants_of(one.roots)), len(events.X), floor)

    return min([shape, *(one for one in trials if one.loss <= most)], key=value)


def _frozen(shape: Shape) -> Shape:
    """Return a shape whose splines fits do not change, each with a scale that they may."""

    def change(old: Expression, new: Expression) -> Expression:
        if isinstance(new, Spline):
            return replace(new, free=False)
        return new

    moved = transform(shape.roots, change)
    return Shape(moved.roots, follow(shape.edges, moved.new), shape.loss)


def _greedy(
    shape: Shape,
    X: Floats,
    objective: Objective,
    primitives: Sequence[Primitive],
    margin: float,
    allowed: float,
    seen: list[State],
) -> tuple[tuple[Expression, ...], float]:
    """Exchange edges one by one, those that are described best first, while the loss stays at most `allowed`."""
    refused: set[int] = set()
    known: Known = {}
    while True:
        open_edges = [(place, edge) for place, edge in enumerate(shape.edges) if place not in refused]
        if not open_edges:
            return shape.roots, shape.loss
        tables = _tables(shape, [edge for _, edge in open_edges], X, primitives, margin, known)
        order = sorted(range(len(open_edges)), key=lambda i: tables[i][0].score if tables[i] else np.inf)
        place, edge = open_edges[order[0]]
        step = shape.loss + (allowed - shape.loss) / max(1, len(open_edges)) * 2.0
        trial = _in_context(shape, edge, tables[order[0]], X, objective, min(allowed, step))
        if trial is None:
            refused.add(place)
            continue
        shape = Shape(trial.roots, trial.edges[:place] + trial.edges[place + 1 :], trial.loss)
        refused = {one - (one > place) for one in refused}
        seen.append(State(shape.roots, shape.loss))


def _tables(
    shape: Shape, edges: Sequence[Edge], X: Floats, primitives: Sequence[Primitive], margin: float, known: Known
) -> list[list[Candidate]]:
    """Return candidates of each edge, none where its function does not vary; what is known stays while values do."""
    program = Program(shape.roots, X)
    values = program.values(program.start)
    tables = []
    for edge in edges:
        x, y = values[program.place[id(edge.variable)]], values[program.place[id(edge.function)]]
        key = edge[2:]
        if key not in known or not (np.array_equal(known[key][0], x) and np.array_equal(known[key][1], y)):
            try:
                more: dict[str, Any] = {"ridge": RIDGE, "beyond": BEYOND, "price": _price(edge.variable)}
                table = candidates(x, y, primitives=primitives, margin=margin, keep=_IN_CONTEXT, **more)
            except DataError:
                flat = Sum((), (), float(np.median(y)))
                table = [Candidate(flat, 1.0, "constant")] if np.ptp(y) < 1e-9 * (1.0 + np.abs(y).max()) else []
            known[key] = x, y, table
        tables.append(known[key][2])
    return tables


def _price(variable: Expression) -> int:
    """Return the complexity of writing a variable once more."""
    return 2 * len(variable.terms) if isinstance(variable, Sum) else 0


def _in_context(
    shape: Shape, edge: Edge, table: Sequence[Candidate], X: Floats, objective: Objective, allowed: float
) -> Shape | None:
    """Return the shape with an edge exchanged for the simplest candidate whose loss is allowed, or None."""
    for one in sorted(table, key=lambda candidate: candidate.complexity):
        moved = substituted(shape.roots, {id(edge.function): lambda _, one=one: one.of(edge.variable)})  # type: ignore[misc]
        others = [other for other in shape.edges if other is not edge]
        trial = Shape(moved.roots, follow(others, moved.new), np.inf)
        trial = trial.moved(refit(trial.roots, X, objective, steps=12, tolerance=1e-3))
        if trial.loss <= allowed:
            place = shape.edges.index(edge)
            edges = [*trial.edges[:place], edge, *trial.edges[place:]]
            return Shape(trial.roots, tuple(edges), trial.loss)
    return None
