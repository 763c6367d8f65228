"""From a fitted graph to a formula: no redundant constants, few terms, known constants; and its place on the front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepkan.interpret import text
from hepkan.interpret.expression import Expression, complexity, splines_of
from hepkan.interpret.formula import Row, rounded_text
from hepkan.interpret.objective import Objective
from hepkan.interpret.refit import Refit, refit
from hepkan.interpret.rounding import rounded
from hepkan.interpret.tidying import reduced, tidied

Floats = NDArray[np.float64]

EXACT = 1e-20
"""A loss this small relative to that of a constant is zero to rounding."""


def finished(roots: Sequence[Expression], X: Floats, objective: Objective, *, tolerance: float) -> Refit:
    """Return a formula after a joint fit, without terms that the loss does not need and with known constants.

    Arguments:
        roots: a graph.
        X: raw features `(n, features)`.
        objective: the loss.
        tolerance: part of the loss by which a simplification may raise it.
    """
    scale = objective.of_constant()
    best = refit(tidied(roots), X, objective, steps=100, enough=1e-3 * EXACT * scale)
    if not np.isfinite(best.loss):
        return best
    allowed = best.loss * (1.0 + tolerance) + EXACT * scale
    best = reduced(best.roots, X, objective, allowed=allowed)
    best = rounded(tidied(best.roots), X, objective, allowed=allowed)
    return Refit(best.roots, best.loss, {})


def tolerance_of(n: int) -> float:
    """Return the part of the loss that one constant is worth by Schwarz's criterion."""
    return float(np.log(n)) / n


def front(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the reference, then the rows that no other one beats in both complexity and loss, simple ones first."""
    reference, *others = rows
    kept: list[Row] = []
    for row in sorted(others, key=lambda one: (one.complexity, one.loss)):
        if np.isfinite(row.loss) and all(row.loss < one.loss for one in kept):
            kept.append(row)
    return (reference, *kept)


def row_of(roots: Sequence[Expression], loss: float, names: Sequence[str], positive: Sequence[bool]) -> Row:
    """Return a formula's row."""
    symbols = text.symbol_names(names)
    lines = [rounded_text(text.to_sympy(root, symbols, positive, pieces=False)) for root in roots]
    return Row(complexity(roots), float(loss), len(splines_of(roots)), "; ".join(lines))
