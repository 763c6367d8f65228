"""Exchange the functions inside a fitted formula for simpler or better ones, judged by the loss of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import DataError
from hepkan.interpret.affine_fit import AffineFit, affine_fits
from hepkan.interpret.candidates import guarded
from hepkan.interpret.evaluation import Program
from hepkan.interpret.expression import Call, Expression, Sum, complexity, ordered, substituted
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import Primitive
from hepkan.interpret.refit import PRECISE, Refit, refit
from hepkan.interpret.tidying import tidied

Floats = NDArray[np.float64]

_TRIED = 4
_ALIKE = 1e-8
"""Share of a function's variance that may be missed by one that looks the same: rounding hides what is below."""
_ROUNDS = 8
_POINTS = 96
_SOME = 300
_CLOSE = 1e-2
_LIKE = 1e-18
"""Loss, relative to that of a constant, below which two formulae count as equally good."""


def exchanged(
    roots: Sequence[Expression],
    X: Floats,
    objective: Objective,
    primitives: Sequence[Primitive],
    *,
    margin: float = 0.01,
    precision: float = PRECISE,
) -> Refit:
    """Try other primitives in place of each one, fitting all constants again, while Schwarz's criterion falls.

    Trials are fitted to some of the events, what is kept to all.

    Primitives that look alike on the range of the data fit a single edge equally well, :math:`\\cosh` and a square,
    say, and the wrong one leaves a small loss that no other constant takes away.

    **Shape** X: `(n, features)`.

    Arguments:
        roots: a fitted graph without redundant constants.
        X: raw features.
        objective: the loss.
        primitives: the functions to choose from.
        margin: how far beyond the data functions must be defined, relative to their range.
        precision: fits to all events stop when a step lowers the loss by a smaller part.
    """
    scale = objective.of_constant()
    rows = np.unique(np.linspace(0, len(X) - 1, min(len(X), _SOME)).round().astype(np.intp))
    some, part = X[rows], objective.part(rows)

    def value(one: Refit) -> float:
        size = complexity(one.roots)
        return len(X) * float(np.log(one.loss / scale + _LIKE)) + size * float(np.log(len(X)))

    best = refit(roots, X, objective, steps=30, tolerance=precision)
    for _ in range(_ROUNDS):
        trials = [
            refit(tidied(trial), some, part, steps=25, tolerance=1e-2)
            for trial in _others(best.roots, X, primitives, margin)
        ]
        finite = [one for one in trials if np.isfinite(one.loss)]
        if not finite:
            break
        fitted = refit(min(finite, key=value).roots, X, objective, steps=60, tolerance=precision)
        if not np.isfinite(fitted.loss) or value(fitted) >= value(best) - 1.0:
            break
        best = fitted
    return best


def _others(
    roots: Sequence[Expression], X: Floats, primitives: Sequence[Primitive], margin: float
) -> Iterator[tuple[Expression, ...]]:
    """Give graphs with one primitive exchanged for one that looks like it on the range of its argument."""
    program = Program(roots, X)
    values = program.values(program.start)
    rows = np.unique(np.linspace(0, len(X) - 1, min(len(X), _POINTS)).round().astype(np.intp))
    for node in ordered(roots):
        if not isinstance(node, Call):
            continue
        argument = node.argument
        variable = argument.terms[0] if isinstance(argument, Sum) and len(argument.terms) == 1 else argument
        x, y = values[program.place[id(variable)]], values[program.place[id(node)]]
        others = [one for one in primitives if one.name != node.primitive.name]
        try:
            fits = affine_fits(x[rows], y[rows], primitives=others, span=guarded(x, margin))
        except DataError:
            continue
        for fit in sorted(fits, key=_score)[:_TRIED]:
            if fit.r2 < 1.0 - _CLOSE:
                continue

            def exchange(_: Expression, fit=fit, variable=variable) -> Expression:  # type: ignore[no-untyped-def]
                inner = Sum((variable,), (fit.a,), fit.b)
                return Sum((inner if fit.primitive is None else Call(fit.primitive, inner),), (fit.c,), fit.d)

            yield substituted(roots, {id(node): exchange}).roots


def _score(fit: AffineFit) -> float:
    """Return quality against complexity, smaller is better."""
    size = 0 if fit.primitive is None else fit.primitive.complexity
    return float(np.log10(max(1.0 - fit.r2, _ALIKE))) + 0.5 * size
