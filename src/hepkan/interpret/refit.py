"""Fit all constants of a graph together, in float64, by the method of Levenberg and Marquardt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from hepkan.interpret.evaluation import Program
from hepkan.interpret.expression import Expression, with_constants
from hepkan.interpret.objective import Objective

Floats = NDArray[np.float64]

PRECISE = 1e-10
"""Part of the loss below which a step is not worth another one, where constants are to be exact."""
BEYOND = 0.25
"""Part of the range of its argument by which a function must stay defined beyond the events, with a ridge."""
_DAMPING = 1e-3
_LARGEST_DAMPING = 1e12
_LARGEST_ROW = 1e150
_BLOCK = 32  # columns that LAPACK takes together


class Refit(NamedTuple):
    """A fitted graph, its loss (infinity where it is not finite on some event), and the new node of each old one."""

    roots: tuple[Expression, ...]
    loss: float
    new: Mapping[int, Expression]


def refit(
    roots: Sequence[Expression],
    X: Floats,
    objective: Objective,
    *,
    steps: int = 50,
    tolerance: float = PRECISE,
    enough: float = 0.0,
) -> Refit:
    r"""Lower the loss by steps :math:`(J^T H J + \lambda D) \delta = -J^T g` in all free constants.

    H and g are curvature and slope of the loss by the outputs, D the diagonal of :math:`J^T H J`. The steps come from
    an orthogonal factorisation, so that nearly redundant constants do no harm. A step that leaves the domain of a
    function makes the loss infinite and is refused.

    With a `ridge` of the objective, r, what is lowered is :math:`L (1 + r \sum_i k_i)` with
    :math:`k_i` of `Program.cancelling`: functions far out on their flat parts, whose huge multiples cancel, can imitate
    anything, but neither a printed constant nor an event beyond those of the fit survives it. A loss of zero stays one.
    Then functions must also stay defined somewhat beyond the events (`BEYOND`), else the loss is infinite.

    **Shape** X: `(n, features)`.

    Arguments:
        roots: the outputs.
        X: raw features.
        objective: the loss.
        steps: at most.
        tolerance: stops when a step lowers the loss by a smaller part.
        enough: a loss that is good enough.

    References:
        "Numerical Optimization" (Nocedal and Wright, 2006), chapter 10.3.
    """
    program = Program(roots, X)
    constants = program.start.copy()
    values = program.values(constants)
    loss = objective(program.outputs(values))
    if not np.isfinite(loss) or not len(constants):
        return Refit(tuple(roots), loss, {id(node): node for node in program.nodes})
    level = _level(program, values, constants, objective)
    damping, still = _DAMPING, 0
    for _ in range(steps):
        rows, right = _equations(program, values, constants, objective)
        if not np.abs(rows).max(initial=0.0) < _LARGEST_ROW:  # or not a number
            break
        factor, projected, scale = _reduced(rows, right)
        moved = False
        while damping < _LARGEST_DAMPING:
            step = _solve(factor, projected, scale, damping)
            trial = constants + step
            new_values = program.values(trial)
            new = _level(program, new_values, trial, objective)
            if new < level:
                gain = level - new
                constants, values, level, moved = trial, new_values, new, True
                damping = max(damping / 8.0, 1e-14)
                break
            damping *= 6.0
        if not moved or level <= enough:
            break
        still = still + 1 if gain < tolerance * level else 0
        if still >= 2:
            break
    moved_to = with_constants(roots, constants)
    return Refit(moved_to.roots, objective(program.outputs(values)) if np.isfinite(level) else np.inf, moved_to.new)


def spreads(roots: Sequence[Expression], X: Floats, objective: Objective, rise: float) -> Floats:
    r"""Return how far each free constant may move, all others following, until the loss has risen by `rise`.

    .. math:: \delta_i = \sqrt{2 \, \Delta L \, (H^{-1})_{ii}}

    with the curvature H of the loss by the constants in the approximation of Gauss and Newton; huge or infinite where
    others make up for any move.

    **Shape** X: `(n, features)`, result: as `constants_of`.
    """
    program = Program(roots, X)
    rows, right = _equations(program, program.values(program.start), program.start, objective)
    factor, _, scale = _reduced(rows, right)
    if not np.all(np.diag(factor)):
        return np.full(len(scale), np.inf)
    inverse = scipy.linalg.solve_triangular(factor, np.eye(len(factor)), check_finite=False)
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(2.0 * rise * np.square(inverse).sum(axis=1)) / scale)


def _level(program: Program, values: Sequence[Floats], constants: Floats, objective: Objective) -> float:
    """Return what a fit lowers: the loss, and more of it the more terms cancel."""
    loss = objective(program.outputs(values))
    if not objective.ridge or not np.isfinite(loss):
        return loss
    if not program.safe(values, constants, BEYOND):
        return np.inf
    return loss * (1.0 + objective.ridge * float(program.cancelling(values, constants).sum()))


def _equations(
    program: Program, values: Sequence[Floats], constants: Floats, objective: Objective
) -> tuple[Floats, Floats]:
    """Return the weighted rows of the Jacobian and what they should equal, all outputs below each other."""
    terms = objective.terms(program.outputs(values))
    rows, right = [], []
    for output in range(len(program.roots)):
        root = np.sqrt(np.abs(objective.weight) * terms.curvature[:, output])
        rows.append(root[:, None] * program.jacobian(values, constants, output))
        share = np.sqrt(np.abs(objective.weight)) * np.sign(objective.weight)
        right.append(-share * terms.slope[:, output] / np.sqrt(terms.curvature[:, output]))
    if objective.ridge:
        loss = objective(program.outputs(values))
        size = np.sqrt(2.0 * objective.ridge * loss * program.cancelling(values, constants))
        kept = size > 0.0
        rows.append(np.diag(size / np.where(kept, np.abs(constants), 1.0))[kept])
        right.append(-(size * np.sign(constants))[kept])
    return np.concatenate(rows), np.concatenate(right)


def _reduced(rows: Floats, right: Floats) -> tuple[Floats, Floats, Floats]:
    """Return R and Q^T b of the scaled rows, and the scale of each constant."""
    scale = np.sqrt(np.square(rows).sum(axis=0))
    scale[scale == 0.0] = 1.0
    size = rows.shape[1]
    matrix = np.zeros((max(len(rows), size + 1), size + 1), order="F")
    np.divide(rows, scale, out=matrix[: len(rows), :size])
    matrix[: len(rows), size] = right
    factor, *_ = scipy.linalg.lapack.dgeqrf(matrix, lwork=_BLOCK * (size + 1), overwrite_a=1)
    triangle = np.triu(factor[:size])
    return triangle[:, :size], triangle[:, size], scale


def _solve(factor: Floats, projected: Floats, scale: Floats, damping: float) -> Floats:
    """Return the step of least squares with damping: one factorisation of the triangle with a diagonal below it."""
    size = len(factor)
    above = np.zeros((size + 1, size + 1), order="F")
    above[:size, :size], above[:size, size] = factor, projected
    below = np.zeros((size, size + 1), order="F")
    np.fill_diagonal(below, np.sqrt(damping))
    triangle, *_ = scipy.linalg.lapack.dtpqrt(size, min(_BLOCK, size), above, below, overwrite_a=1, overwrite_b=1)
    step = scipy.linalg.solve_triangular(triangle[:size, :size], triangle[:size, size], check_finite=False)
    return np.asarray(step / scale)
