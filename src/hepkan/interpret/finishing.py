"""From a fitted graph to a formula: no redundant constants, few terms, known constants; and its place on the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepkan.interpret import text
from hepkan.interpret.exchange import exchanged
from hepkan.interpret.expression import Expression, complexity, splines_of
from hepkan.interpret.formula import Row, rounded_text
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import Primitive
from hepkan.interpret.refit import PRECISE, Refit, refit
from hepkan.interpret.rounding import rounded
from hepkan.interpret.tidying import reduced, straightened, tidied

Floats = NDArray[np.float64]

class State(NamedTuple):
    """A graph of a search and its loss."""

    roots: tuple[Expression, ...]
    loss: float


EXACT = 1e-20
"""A loss this small relative to that of a constant is zero to rounding."""
SINGLE = 1e-15
"""The same where target and features were once written in single precision."""
SEPARATED = 1e-6
"""The same of a cross-entropy: classes are told apart without error, and ever larger constants only say so louder."""


def finished(
    roots: Sequence[Expression],
    X: Floats,
    objective: Objective,
    *,
    tolerance: float,
    primitives: Sequence[Primitive],
    margin: float = 0.01,
    precision: float = PRECISE,
) -> Refit:
    """Return a formula after a joint fit, with functions exchanged for better or simpler ones that look like them.

    Terms that the loss does not need go, and known constants come last.

    Arguments:
        roots: a graph.
        X: raw features `(n, features)`.
        objective: the loss.
        tolerance: part of the loss by which a simplification may raise it.
        primitives: the functions to choose from.
        margin: how far beyond the data functions must be defined, relative to their range.
        precision: fits stop when a step lowers the loss by a smaller part.
    """
    scale = objective.of_constant()
    enough, zero = (SEPARATED, SEPARATED) if objective.name == "cross_entropy" else (1e-3 * EXACT, SINGLE)
    best = refit(tidied(roots), X, objective, steps=100, tolerance=precision, enough=enough * scale)
    if not np.isfinite(best.loss):
        return best
    best = straightened(best.roots, X, objective, precision=precision)
    best = exchanged(best.roots, X, objective, primitives, margin=margin, precision=precision)
    allowed = best.loss * (1.0 + tolerance) + zero * scale
    best = reduced(best.roots, X, objective, allowed=allowed, precision=precision)
    best = rounded(tidied(best.roots), X, objective, allowed=allowed, precision=precision)
    return Refit(best.roots, best.loss, {})


def tolerance_of(n: int) -> float:
    """Return the part of the loss that one constant is worth by Schwarz's criterion."""
    return float(np.log(n)) / n


def front(network: State, formulae: Sequence[State], names: Sequence[str], positive: Sequence[bool]) -> tuple[Row, ...]:
    """Return the rows of a network and of the formulae that no other one beats in both complexity and loss.

    Simple ones come first. The text of a formula takes time, so only those that stay have one.
    """
    kept: list[State] = []
    for state in sorted(formulae, key=lambda one: (complexity(one.roots), one.loss)):
        if np.isfinite(state.loss) and all(state.loss < one.loss for one in kept):
            kept.append(state)
    symbols = text.symbol_names(names)

    def words(state: State) -> str:
        roots = (text.to_sympy(root, symbols, positive, pieces=False) for root in state.roots)
        return "; ".join(rounded_text(root) for root in roots)

    return (_row(network, "spline network"), *(_row(state, words(state)) for state in kept))


def _row(state: State, words: str) -> Row:
    return Row(complexity(state.roots), float(state.loss), len(splines_of(state.roots)), words)
