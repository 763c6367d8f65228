"""Pairs of features that act only by their difference or their sum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepkan.interpret.checks import Events, checked_events
from hepkan.interpret.expression import Expression, Input, Sum, ordered, substituted
from hepkan.interpret.objective import Objective

Floats = NDArray[np.float64]

ALIKE = 0.1
"""Part of the slopes by a pair that may depend on more than their difference; pairs at random have 0.3 and more."""
EVENTS = 4000
"""Events that the polynomial is fitted to, at most."""
TERMS = 600
"""Terms of the polynomial, at most; there are four times as many events."""
HIGHEST = 8


class Joined(NamedTuple):
    """Events with differences or sums in place of pairs of features, and what the new columns are of the old ones."""

    events: Events
    columns: tuple[Expression, ...]

    def back(self, roots: Sequence[Expression]) -> tuple[Expression, ...]:
        """Return a graph of the old features."""
        inputs = [node for node in ordered(roots) if isinstance(node, Input)]
        exchange = {id(node): (lambda _, new=self.columns[node.column]: new) for node in inputs}
        return substituted(roots, exchange).roots  # type: ignore[arg-type]


def joined_pairs(events: Events, objectives: Iterable[Objective]) -> Joined | None:
    """Return all events with difference or sum in place of pairs that act by it alone; None where no pair does.

    A translation of both features leaves such a target as it is, so that its slopes by the two are equal or opposite.
    The slopes are those of a polynomial fitted to the target.

    Arguments:
        events: the events.
        objectives: views of the target; the first in which there are pairs counts.

    References:
        Translational symmetry in "AI Feynman" (Udrescu and Tegmark, 2020), arXiv:1905.11481.
    """
    rows = np.unique(np.linspace(0, len(events.X) - 1, min(len(events.X), EVENTS)).round().astype(np.intp))
    X = events.X[rows][:, list(events.columns)]
    for objective in objectives:
        pairs = _pairs(X, objective.part(rows))
        if pairs:
            return _joined(events, pairs)
    return None


def _joined(events: Events, pairs: Sequence[tuple[int, int, float]]) -> Joined:
    X, columns, names = [], [], []
    gone = {place for i, j, _ in pairs for place in (i, j)}
    for place, i in enumerate(events.columns):
        if place not in gone:
            X.append(events.X[:, i])
            columns.append(Input(i))
            names.append(events.names[i])
    joined: list[Expression] = [*columns]
    for one, two, sign in pairs:
        i, j = events.columns[one], events.columns[two]
        X.append(events.X[:, i] + sign * events.X[:, j])
        joined.append(Sum((Input(i), Input(j)), (1.0, sign), 0.0, frozenset(range(3))))
        names.append(f"{events.names[i]} {'+' if sign > 0 else '-'} {events.names[j]}")
    return Joined(checked_events(np.column_stack(X), events.y, events.weight, names=names), tuple(joined))


def _pairs(X: Floats, objective: Objective) -> list[tuple[int, int, float]]:
    """Return pairs without common members and the sign of the second one, the most symmetric first."""
    slopes = _slopes(X, objective)
    if slopes is None:
        return []
    share = objective.weight[:, None]
    found = []
    for i, j in itertools.combinations(range(X.shape[1]), 2):
        both = float((share * np.square(slopes[:, [i, j]])).sum())
        for sign in (-1.0, 1.0):
            apart = float((share[:, 0] * np.square(slopes[:, i] - sign * slopes[:, j])).sum())
            if apart < ALIKE**2 * both:
                found.append((apart / both, i, j, sign))
    pairs: list[tuple[int, int, float]] = []
    for _, i, j, sign in sorted(found):
        if not any({i, j} & {one, two} for one, two, _ in pairs):
            pairs.append((i, j, sign))
    return pairs


def _slopes(X: Floats, objective: Objective) -> Floats | None:
    """Return the slopes `(n, features)` of a polynomial of the highest degree that the events allow, None below 2."""
    features, most = X.shape[1], min(TERMS, len(X) // 4)
    degree = max((k for k in range(1, HIGHEST + 1) if math.comb(features + k, k) <= most), default=1)
    if features < 2 or degree < 2:
        return None
    low, high = X.min(axis=0), X.max(axis=0)
    U = 2.0 * (X - low) / (high - low) - 1.0
    terms = itertools.chain(*(itertools.combinations_with_replacement(range(features), k) for k in range(degree + 1)))
    powers = np.array([[term.count(i) for i in range(features)] for term in terms])
    raised = np.stack([U**k for k in range(degree + 1)])
    root = np.sqrt(np.maximum(objective.weight, 0.0))
    design = root[:, None] * _monomials(raised, powers)
    solution = np.linalg.lstsq(design, root * objective.target[:, 0], rcond=1e-10)[0]
    slopes = []
    for i in range(features):
        lowered = powers.copy()
        lowered[:, i] = np.maximum(lowered[:, i] - 1, 0)
        slopes.append(_monomials(raised, lowered) @ (powers[:, i] * solution) * 2.0 / (high[i] - low[i]))
    return np.stack(slopes, axis=1)


def _monomials(raised: Floats, powers: NDArray[np.int64]) -> Floats:
    """Return products of powers `(degree + 1, n, features)` of features, `(n, terms)`."""
    values = np.ones((raised.shape[1], len(powers)))
    for i in range(powers.shape[1]):
        values *= raised[powers[:, i], :, i].T
    return values
