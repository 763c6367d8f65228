"""Constants that mean something: whole numbers, small fractions, multiples of pi and of roots."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import sympy
from numpy.typing import NDArray

from hepkan.interpret.expression import Expression, Sum, ordered, transform, walk_sums
from hepkan.interpret.objective import Objective
from hepkan.interpret.refit import PRECISE, Refit, refit, spreads

Floats = NDArray[np.float64]


class Known(NamedTuple):
    """A constant with a name."""

    value: float
    symbol: sympy.Expr
    cost: float


_UNITS: tuple[tuple[float, sympy.Expr, float], ...] = (
    (1.0, sympy.Integer(1), 0.0),
    (math.pi, sympy.pi, 1.0),
    (1.0 / math.pi, 1 / sympy.pi, 1.5),
    (math.sqrt(2.0), sympy.sqrt(2), 1.5),
    (math.sqrt(3.0), sympy.sqrt(3), 2.0),
    (math.sqrt(math.pi), sympy.sqrt(sympy.pi), 2.5),
    (1.0 / math.sqrt(2.0 * math.pi), 1 / sympy.sqrt(2 * sympy.pi), 2.5),
    (math.pi**2, sympy.pi**2, 2.5),
    (1.0 / math.pi**2, 1 / sympy.pi**2, 2.5),
)
_CHANCE = 0.02
"""How likely a random number may be to lie as close to a known constant of the same or a lower cost."""
_UNCERTAIN = 0.1
"""The same for the uncertainty of the number: where it is large, some known constant is always near."""
_DENOMINATORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)


@functools.cache
def known_constants() -> tuple[Floats, tuple[Known, ...]]:
    """Return positive known constants, by size: their values, and the same with symbols; the cheapest of equals."""
    best: dict[float, Known] = {}
    for unit, symbol, price in _UNITS:
        for denominator in _DENOMINATORS:
            for numerator in range(1, 41):
                if math.gcd(numerator, denominator) > 1 or (denominator > 1 and numerator > 25):
                    continue
                value = unit * numerator / denominator
                cost = price + math.log2(numerator) * 0.5 + math.log2(denominator)
                key = float(f"{value:.12e}")
                if key not in best or cost < best[key].cost:
                    fraction = sympy.Rational(numerator, denominator)
                    best[key] = Known(value, symbol * fraction, cost)
    table = tuple(sorted(best.values(), key=lambda known: known.value))
    return np.array([known.value for known in table]), table


def exact_number(value: float) -> sympy.Expr | None:
    """Return the symbol of a float that is a known constant to its last digits, or None."""
    if value == 0.0:
        return sympy.Integer(0)
    if float(value).is_integer() and abs(value) < 1e6:
        return sympy.Integer(int(value))
    values, table = known_constants()
    place = int(np.searchsorted(values, abs(value)))
    for near in table[max(0, place - 1) : place + 1]:
        if abs(near.value - abs(value)) <= 4e-16 * near.value:
            return near.symbol if value > 0 else -near.symbol
    fraction = Fraction(value).limit_denominator(1000)
    if float(fraction) == value and abs(value) < 1e6:
        return sympy.Rational(fraction.numerator, fraction.denominator)
    return None


def proposals(value: float, spread: float, uncertainty: float = 0.0) -> Iterator[float]:
    """Give known constants within `spread` of a value, the simplest first, that are there for more than chance."""
    if abs(value) <= spread:
        yield 0.0
    values, table = known_constants()
    size = abs(value)
    low, high = np.searchsorted(values, [size - spread, size + spread])
    near = [
        known
        for known in table[low:high]
        if 2.0**known.cost * max(abs(known.value - size) / _CHANCE, uncertainty / _UNCERTAIN) <= size
    ]
    near.sort(key=lambda known: (known.cost, abs(known.value - size)))
    for known in near[:4]:
        yield math.copysign(known.value, value)
    if size >= 40.5 and abs(round(size) - size) <= spread and uncertainty <= _UNCERTAIN:
        yield math.copysign(float(round(size)), value)


def rounded(
    roots: Sequence[Expression],
    X: Floats,
    objective: Objective,
    *,
    allowed: float,
    closeness: float = 0.02,
    precision: float = PRECISE,
) -> Refit:
    """Replace constants by known ones, one at a time and fitting the others again, where the loss stays good enough.

    Arguments:
        roots: a fitted graph.
        X: raw features `(n, features)`.
        objective: the loss.
        allowed: the largest loss that is good enough.
        closeness: how far a known constant may be, relative to the constant.
        precision: fits stop when a step lowers the loss by a smaller part.
    """
    best = refit(roots, X, objective, steps=30, tolerance=precision)
    refused: set[tuple[int, int]] = set()
    while True:
        target = _closest(best.roots, _uncertainties(best, X, objective, allowed), refused, closeness)
        if target is None:
            return best
        number, place, values = target
        for value in values:
            other = _fixed(best.roots, number, place, value)
            trial = refit(other, X, objective, steps=20, tolerance=precision, enough=0.0)
            if trial.loss <= allowed:
                best = trial
                break
        else:
            refused.add((number, place))


def _uncertainties(found: Refit, X: Floats, objective: Objective, allowed: float) -> dict[tuple[int, int], float]:
    """Return the standard deviation of every free number of every sum: the loss rises by what one event is worth."""
    rise = max(allowed - found.loss, 0.0) / max(float(np.log(len(X))), 1.0)
    deviations = spreads(found.roots, X, objective, rise)
    result: dict[tuple[int, int], float] = {}
    start = number = 0
    for node in ordered(found.roots):
        if isinstance(node, Sum):
            result |= {(number, place): float(deviations[start + i]) for i, place in enumerate(node.free())}
            number += 1
        start += len(node.constants())
    return result


def _closest(
    roots: Sequence[Expression],
    uncertainties: Mapping[tuple[int, int], float],
    refused: set[tuple[int, int]],
    closeness: float,
) -> tuple[int, int, list[float]] | None:
    """Return the free number that is relatively closest to a simple constant, and the constants to try.

    A bias may always be zero, however large it is: that comes last.
    """
    best: tuple[float, int, int, list[float]] | None = None
    for number, node in enumerate(walk_sums(roots)):
        numbers = node.numbers()
        for place in node.free():
            if (number, place) in refused:
                continue
            value = float(numbers[place])
            spread = closeness * max(abs(value), 1e-2 if place == len(node.terms) else 1e-3)
            values = list(proposals(value, spread, uncertainties[number, place]))
            if place == len(node.terms) and 0.0 not in values:
                values.append(0.0)
            if not values:
                continue
            distance = min(abs(value - one) for one in values) / max(abs(value), 1e-2)
            if best is None or distance < best[0]:
                best = (distance, number, place, values)
    return None if best is None else best[1:]


def _fixed(roots: Sequence[Expression], number: int, place: int, value: float) -> tuple[Expression, ...]:
    """Return a graph with one number of one sum fixed."""
    target = list(walk_sums(roots))[number]

    def change(old: Expression, new: Expression) -> Expression:
        if old is not target:
            return new
        assert isinstance(new, Sum)
        numbers = new.numbers()
        numbers[place] = value
        fixed = new.fixed | {place}
        return Sum(new.terms, tuple(numbers[:-1].tolist()), float(numbers[-1]), frozenset(fixed))

    return transform(roots, change).roots
