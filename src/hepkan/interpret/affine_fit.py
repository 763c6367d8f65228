r"""Fit :math:`c f(a x + b) + d` to a function of one variable, for many f at once.

c and d are solved for exactly at every a and b (variable projection), so that only a and b are searched: from a grid of
starts scaled to the data, then by Gauss-Newton steps of all starts of all f side by side. a and b have no bounds.

References:
    "The Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose Variables Separate" (Golub and
    Pereyra, 1973); the approximate Jacobian of "A Variable Projection Method for Solving Separable Nonlinear Least
    Squares Problems" (Kaufman, 1975).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepkan.errors import DataError
from hepkan.interpret.primitives import Family, Primitive, choose

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Start = tuple[Primitive, Floats, Floats]

_KEPT = 4
_STEPS = 6
_MORE_STEPS = 25
_FINISHED = 8
_FIRST_POINTS = 32
_TINY = 1e-300
_BLOCK = 2**18  # values of functions at a time


@dataclass(frozen=True)
class AffineFit:
    r""":math:`c f(a x + b) + d` and the share of the variance that it explains; a straight line has no primitive."""

    primitive: Primitive | None
    a: float
    b: float
    c: float
    d: float
    r2: float

    def __call__(self, x: Floats) -> Floats:
        """Return the fitted values."""
        inner = self.a * x + self.b
        return np.asarray(self.c * (inner if self.primitive is None else self.primitive.function(inner)) + self.d)


def affine_fits(
    x: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike | None = None,
    primitives: Sequence[str | Primitive] | None = None,
    *,
    span: tuple[float, float] | None = None,
) -> list[AffineFit]:
    """Return the best fit of each primitive that is defined on all of `span`, and of the straight line; best first.

    **Shape** x, y, weight: `(n,)`.

    Arguments:
        x: points.
        y: values of the function at the points.
        weight: of the points, not negative; equal ones by default.
        primitives: candidates, all of the table by default.
        span: interval in which a fit must be inside the domain of its primitive, the range of x by default.

    Raises:
        DataError: fewer than 5 different finite points, or values that do not vary.
    """
    points, values, share = _checked(x, y, weight)
    low, high = (points.min(), points.max()) if span is None else span
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    u = (points - middle) / half
    fits = [_line(u, values, share)]
    with np.errstate(all="ignore"):
        found = _searched(choose(primitives), u, values, share)
        found.sort(key=lambda fit: -fit.r2)
        fits += _finished(found[:_FINISHED], u, values, share) + found[_FINISHED:]
    back = [AffineFit(f.primitive, f.a / half, f.b - f.a * middle / half, f.c, f.d, f.r2) for f in fits]
    return sorted(back, key=lambda fit: -fit.r2)


def _checked(x: ArrayLike, y: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    points, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    share = np.ones(len(points)) if weight is None else np.asarray(weight, dtype=np.float64)
    kept = np.isfinite(points) & np.isfinite(values) & (share > 0)
    points, values, share = points[kept], values[kept], share[kept]
    if len(np.unique(points)) < 5:
        raise DataError(
            f"A fit of functions needs at least 5 different finite points, however there are {len(np.unique(points))}."
        )
    if np.ptp(values) <= 1e-14 * max(1.0, float(np.abs(values).max())):
        raise DataError("A fit of functions needs values that vary, however they are constant.")
    return points, values, share / share.sum()


def _line(u: Floats, y: Floats, weight: Floats) -> AffineFit:
    c, d, r2 = _project(u[None, :], y, weight)
    return AffineFit(None, 1.0, 0.0, float(c[0]), float(d[0]), float(r2[0]))


def _project(f: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Return c, d and R2 of the best c f + d for each row of f, `(starts, n)`; R2 is -inf where f is not finite."""
    mean = f @ weight
    centred, target = f - mean[:, None], y - weight @ y
    square = np.square(centred) @ weight
    total = weight @ np.square(target)
    with np.errstate(all="ignore"):
        c = (centred * target) @ weight / np.where(square > _TINY, square, np.inf)
        residual = np.square(target - c[:, None] * centred) @ weight
    r2 = 1.0 - residual / total
    r2 = np.where(np.isfinite(r2) & np.isfinite(f).all(axis=1), r2, -np.inf)
    return c, weight @ y - c * mean, r2


@dataclass(frozen=True)
class _Rows:
    """a and b of several primitives side by side, `(rows,)`; each primitive has neighbouring rows."""

    parts: list[tuple[Primitive, slice]]
    a: Floats
    b: Floats

    @classmethod
    def of(cls, starts: Sequence[Start]) -> _Rows:
        ends = np.cumsum([0, *(len(a) for _, a, _ in starts)])
        parts = [(one, slice(*ends[i : i + 2].tolist())) for i, (one, _, _) in enumerate(starts)]
        return cls(parts, *(np.concatenate([start[i] for start in starts]) for i in (1, 2)))

    def spread(self, values: ArrayLike) -> Floats:
        """Repeat one value of each primitive for its rows."""
        return np.repeat(np.asarray(values, dtype=np.float64), [len(self.a[rows]) for _, rows in self.parts])

    def values(self, a: Floats, b: Floats, u: Floats, *, derivative: bool = False) -> Floats:
        """Return f(a u + b) or its slope f'(a u + b), `(rows, n)`."""
        argument = a[:, None] * u + b[:, None]
        result = np.empty_like(argument)
        for one, rows in self.parts:
            result[rows] = (one.derivative if derivative else one.function)(argument[rows])
        return result


def _searched(primitives: Sequence[Primitive], u: Floats, y: Floats, weight: Floats) -> list[AffineFit]:
    """Return the best fit of each primitive from all its starts, of those that are defined on the span."""
    some = slice(None, None, max(1, len(u) // _FIRST_POINTS))
    share = weight[some] / weight[some].sum()
    kept: list[Start] = []
    for one in primitives:
        a, b = _starts(one.family, one.domain)
        if not len(a):
            continue
        r2 = _project(one.function(a[:, None] * u[some] + b[:, None]), y[some], share)[2]
        best = np.argsort(-r2)[:_KEPT]
        if np.isfinite(r2[best[0]]):
            kept.append((one, a[best], b[best]))
    return _polished(kept, u, y, weight, _STEPS)


def _finished(fits: Sequence[AffineFit], u: Floats, y: Floats, weight: Floats) -> list[AffineFit]:
    """Return fits after more steps."""
    starts = [(fit.primitive, np.array([fit.a]), np.array([fit.b])) for fit in fits if fit.primitive is not None]
    more = {fit.primitive: fit for fit in _polished(starts, u, y, weight, _MORE_STEPS)}
    return [max(fit, more.get(fit.primitive, fit), key=lambda one: one.r2) for fit in fits]


def _polished(starts: Sequence[Start], u: Floats, y: Floats, weight: Floats, steps: int) -> list[AffineFit]:
    """Return the best fit of each primitive after Gauss-Newton steps from its starts."""
    found = []
    for some in _blocks(starts, len(u)):
        rows = _Rows.of(some)
        a, b = _polish(rows, u, y, weight, steps)
        c, d, r2 = _project(rows.values(a, b, u), y, weight)
        for one, own in rows.parts:
            place = own.start + int(np.argmax(r2[own]))
            if np.isfinite(r2[place]):
                found.append(AffineFit(one, *(float(values[place]) for values in (a, b, c, d, r2))))
    return found


def _blocks(starts: Sequence[Start], n: int) -> Iterator[Sequence[Start]]:
    """Give primitives in groups whose values at n points fit into the cache of a processor, at least one at a time."""
    size = max(1, _BLOCK // (_KEPT * n))
    return (starts[i : i + size] for i in range(0, len(starts), size))


@cache
def _starts(family: Family, domain: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return starts for a and b in units of the half range that keep the argument inside the domain."""
    a, b = _grid(family, domain)
    inside = _allowed(a, b, *domain)
    return a[inside], b[inside]


def _allowed(a: Floats, b: Floats, low: float | Floats, high: float | Floats) -> Bools:
    """Return which a and b keep the argument between two ends for all u between -1 and 1."""
    return np.asarray((b - np.abs(a) > low) & (b + np.abs(a) < high))


def _grid(family: Family, domain: tuple[float, float]) -> tuple[Floats, Floats]:
    near = np.array([1e-3, 1e-2, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0])
    if family == "shift":
        if domain[0] == 0.0:
            a, b = np.meshgrid([1.0, -1.0], 1.0 + near)
        else:
            a, b = np.meshgrid([1.0], np.concatenate([-1.0 - near, np.linspace(-1.0, 1.0, 17), 1.0 + near]))
    elif family == "scale":
        steps = np.array([0.05, 0.15, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0])
        a, b = np.meshgrid(np.concatenate([-steps, steps]), [0.0])
    elif family == "wave":
        a, b = np.meshgrid(np.geomspace(0.2, 30.0, 40), np.arange(6) * (np.pi / 6.0))
    elif family == "bounded":
        middle = 0.5 * (domain[1] - domain[0])
        steps = np.array([-0.99, -0.8, -0.5, -0.2, 0.2, 0.5, 0.8, 0.99]) * middle
        a, b = np.meshgrid(steps, np.array([-0.8, -0.5, -0.2, 0.0, 0.2, 0.5, 0.8]) * middle)
    else:
        a, b = np.meshgrid([0.3, 0.7, 1.5, 3.0, 7.0, 15.0, 40.0, 100.0], np.linspace(-3.0, 3.0, 13))
        b = b * np.maximum(1.0, a)
        a, b = np.concatenate([a, -a]), np.concatenate([b, b])
    return a.ravel().astype(np.float64), b.ravel().astype(np.float64)


def _polish(rows: _Rows, u: Floats, y: Floats, weight: Floats, steps: int) -> tuple[Floats, Floats]:
    """Return a and b after damped Gauss-Newton steps of all rows; a primitive stops where no step can help it."""
    low, high = (rows.spread([one.domain[i] for one, _ in rows.parts]) for i in (0, 1))
    moves = [rows.spread([one.family != fixed for one, _ in rows.parts]) for fixed in ("shift", "scale")]
    first = [own.start for _, own in rows.parts]
    a, b, damping = rows.a, rows.b, np.full(len(rows.a), 1e-3)
    f = rows.values(a, b, u)
    c, d, r2 = _project(f, y, weight)
    going = np.ones(len(a), dtype=bool)
    for _ in range(steps):
        slope = c[:, None] * rows.values(a, b, u, derivative=True)
        residual = y - c[:, None] * f - d[:, None]
        columns = [_apart(slope * factor, f, weight) for factor in (u, 1.0)]
        step_a, step_b = _step(columns, moves, residual, weight, damping)
        new_a, new_b = a + step_a, b + step_b
        new_f = rows.values(new_a, new_b, u)
        new_c, new_d, new_r2 = _project(new_f, y, weight)
        better = going & (new_r2 > r2) & _allowed(new_a, new_b, low, high)
        a, b, c, d, r2 = (
            np.where(better, new, old) for new, old in ((new_a, a), (new_b, b), (new_c, c), (new_d, d), (new_r2, r2))
        )
        f = np.where(better[:, None], new_f, f)
        damping = np.clip(np.where(better, damping / 10.0, damping * 5.0), 1e-12, 1e8)
        done = np.maximum.reduceat(r2, first) >= 1.0 - 1e-15
        done |= np.minimum.reduceat(damping, first) > 1e5
        going &= rows.spread(~done) > 0
        if not going.any():
            break
    return a, b


def _apart(column: Floats, f: Floats, weight: Floats) -> Floats:
    """Return a column of the Jacobian without what f and a constant explain."""
    centred = f - (f @ weight)[:, None]
    column = column - (column @ weight)[:, None]
    square = np.square(centred) @ weight
    share = (centred * column) @ weight / np.where(square > _TINY, square, np.inf)
    return np.asarray(column - share[:, None] * centred)


def _step(
    columns: Sequence[Floats], moves: Sequence[Floats], residual: Floats, weight: Floats, damping: Floats
) -> tuple[Floats, Floats]:
    """Return the damped steps of a and b; zero for one that does not move, which then leaves the other alone."""
    right = [(column * residual) @ weight * moving for column, moving in zip(columns, moves, strict=True)]
    square = [
        np.where(moving > 0, (np.square(column) @ weight) * (1.0 + damping) + _TINY, 1.0)
        for column, moving in zip(columns, moves, strict=True)
    ]
    cross = (columns[0] * columns[1]) @ weight * moves[0] * moves[1]
    determinant = square[0] * square[1] - cross**2
    determinant = np.where(np.abs(determinant) > _TINY, determinant, np.inf)
    step_a = (right[0] * square[1] - right[1] * cross) / determinant
    step_b = (right[1] * square[0] - right[0] * cross) / determinant
    return np.nan_to_num(step_a), np.nan_to_num(step_b)
