r"""Fit :math:`c f(a x + b) + d` to a function of one variable, for many f at once.

c and d are solved for exactly at every a and b (variable projection), so that only a and b are searched: from a grid of
starts scaled to the data, then by Gauss-Newton steps of all starts side by side. a and b have no bounds.

References:
    "The Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose Variables Separate" (Golub and
    Pereyra, 1973); the approximate Jacobian of "A Variable Projection Method for Solving Separable Nonlinear Least
    Squares Problems" (Kaufman, 1975).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepkan.errors import DataError
from hepkan.interpret.primitives import Primitive, choose

Floats = NDArray[np.float64]

_KEPT = 4
_STEPS = 6
_MORE_STEPS = 25
_FINISHED = 8
_FIRST_POINTS = 32
_TINY = 1e-300


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
        found = [fit for primitive in choose(primitives) if (fit := _best(primitive, u, values, share)) is not None]
        found.sort(key=lambda fit: -fit.r2)
        fits += [_finished(fit, u, values, share) for fit in found[:_FINISHED]] + found[_FINISHED:]
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


def _best(primitive: Primitive, u: Floats, y: Floats, weight: Floats) -> AffineFit | None:
    """Return the best fit from all starts, or None when none is defined on the span."""
    a, b = _starts(primitive)
    inside = _allowed(primitive, a, b)
    a, b = a[inside], b[inside]
    if not len(a):
        return None
    some = slice(None, None, max(1, len(u) // _FIRST_POINTS))
    share = weight[some] / weight[some].sum()
    r2 = _project(primitive.function(a[:, None] * u[some] + b[:, None]), y[some], share)[2]
    kept = np.argsort(-r2)[:_KEPT]
    if not np.isfinite(r2[kept[0]]):
        return None
    return _polished(primitive, u, y, weight, a[kept], b[kept], _STEPS)


def _finished(fit: AffineFit, u: Floats, y: Floats, weight: Floats) -> AffineFit:
    """Return a fit after more steps."""
    assert fit.primitive is not None
    more = _polished(fit.primitive, u, y, weight, np.array([fit.a]), np.array([fit.b]), _MORE_STEPS)
    return fit if more is None or more.r2 < fit.r2 else more


def _polished(
    primitive: Primitive, u: Floats, y: Floats, weight: Floats, a: Floats, b: Floats, steps: int
) -> AffineFit | None:
    """Return the best fit after Gauss-Newton steps from several starts."""
    a, b = _polish(primitive, u, y, weight, a, b, steps)
    c, d, r2 = _project(primitive.function(a[:, None] * u + b[:, None]), y, weight)
    place = int(np.argmax(r2))
    if not np.isfinite(r2[place]):
        return None
    return AffineFit(primitive, *(float(values[place]) for values in (a, b, c, d, r2)))


def _allowed(primitive: Primitive, a: Floats, b: Floats) -> NDArray[np.bool_]:
    """Return which a and b keep the argument inside the domain for all u between -1 and 1."""
    low, high = primitive.domain
    return np.asarray((b - np.abs(a) > low) & (b + np.abs(a) < high))


def _starts(primitive: Primitive) -> tuple[Floats, Floats]:
    """Return starts for a and b in units of the half range."""
    near = np.array([1e-3, 1e-2, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0])
    if primitive.family == "shift":
        if primitive.domain[0] == 0.0:
            a, b = np.meshgrid([1.0, -1.0], 1.0 + near)
        else:
            a, b = np.meshgrid([1.0], np.concatenate([-1.0 - near, np.linspace(-1.0, 1.0, 17), 1.0 + near]))
    elif primitive.family == "scale":
        steps = np.array([0.05, 0.15, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0])
        a, b = np.meshgrid(np.concatenate([-steps, steps]), [0.0])
    elif primitive.family == "wave":
        a, b = np.meshgrid(np.geomspace(0.2, 30.0, 40), np.arange(6) * (np.pi / 6.0))
    elif primitive.family == "bounded":
        middle = 0.5 * (primitive.domain[1] - primitive.domain[0])
        steps = np.array([-0.99, -0.8, -0.5, -0.2, 0.2, 0.5, 0.8, 0.99]) * middle
        a, b = np.meshgrid(steps, np.array([-0.8, -0.5, -0.2, 0.0, 0.2, 0.5, 0.8]) * middle)
    else:
        a, b = np.meshgrid([0.3, 0.7, 1.5, 3.0, 7.0, 15.0, 40.0, 100.0], np.linspace(-3.0, 3.0, 13))
        b = b * np.maximum(1.0, a)
        a, b = np.concatenate([a, -a]), np.concatenate([b, b])
    return a.ravel().astype(np.float64), b.ravel().astype(np.float64)


def _polish(
    primitive: Primitive, u: Floats, y: Floats, weight: Floats, a: Floats, b: Floats, steps: int
) -> tuple[Floats, Floats]:
    """Return a and b after damped Gauss-Newton steps of all starts side by side."""
    damping = np.full(len(a), 1e-3)
    moves_a, moves_b = primitive.family != "shift", primitive.family != "scale"
    f = primitive.function(a[:, None] * u + b[:, None])
    c, d, r2 = _project(f, y, weight)
    for _ in range(steps):
        slope = c[:, None] * primitive.derivative(a[:, None] * u + b[:, None])
        residual = y - c[:, None] * f - d[:, None]
        columns = [_apart(slope * factor, f, weight) for factor, moves in ((u, moves_a), (1.0, moves_b)) if moves]
        step = _steps(columns, residual, weight, damping)
        step_a = step[0] if moves_a else np.zeros(len(a))
        step_b = step[-1] if moves_b else np.zeros(len(a))
        new_a, new_b = a + step_a, b + step_b
        new_f = primitive.function(new_a[:, None] * u + new_b[:, None])
        new_c, new_d, new_r2 = _project(new_f, y, weight)
        better = (new_r2 > r2) & _allowed(primitive, new_a, new_b)
        a, b, c, d, r2 = (
            np.where(better, new, old)
            for new, old in ((new_a, a), (new_b, b), (new_c, c), (new_d, d), (new_r2, r2))
        )
        f = np.where(better[:, None], new_f, f)
        damping = np.clip(np.where(better, damping / 10.0, damping * 5.0), 1e-12, 1e8)
        if r2.max() >= 1.0 - 1e-15 or damping.min() > 1e5:
            break
    return a, b


def _apart(column: Floats, f: Floats, weight: Floats) -> Floats:
    """Return a column of the Jacobian without what f and a constant explain."""
    centred = f - (f @ weight)[:, None]
    column = column - (column @ weight)[:, None]
    square = np.square(centred) @ weight
    share = (centred * column) @ weight / np.where(square > _TINY, square, np.inf)
    return np.asarray(column - share[:, None] * centred)


def _steps(columns: list[Floats], residual: Floats, weight: Floats, damping: Floats) -> list[Floats]:
    """Return the damped steps of one or two numbers per start."""
    right = [(column * residual) @ weight for column in columns]
    square = [(np.square(column) @ weight) * (1.0 + damping) + _TINY for column in columns]
    if len(columns) == 1:
        return [np.nan_to_num(right[0] / square[0])]
    cross = (columns[0] * columns[1]) @ weight
    determinant = square[0] * square[1] - cross**2
    determinant = np.where(np.abs(determinant) > _TINY, determinant, np.inf)
    steps = [
        (right[0] * square[1] - right[1] * cross) / determinant,
        (right[1] * square[0] - right[0] * cross) / determinant,
    ]
    return [np.nan_to_num(step) for step in steps]
