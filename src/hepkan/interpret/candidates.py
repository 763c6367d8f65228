"""What a function of one variable may be: single primitives, polynomials and primitives of primitives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import DataError
from hepkan.interpret.affine_fit import AffineFit, affine_fits
from hepkan.interpret.evaluation import Program
from hepkan.interpret.expression import Call, Expression, Input, Sum, complexity, transform
from hepkan.interpret.objective import Objective
from hepkan.interpret.primitives import PRIMITIVES, Primitive
from hepkan.interpret.refit import refit
from hepkan.interpret.tidying import tidied

Floats = NDArray[np.float64]

_X = Input(0)
_POINTS = 96
_NESTED = ("square", "sqrt", "exp", "log", "sin", "cos", "tanh", "inverse", "inverse_square", "cosh", "arctanh")
_POWERS = (1.0, -1.0, 2.0, -2.0, 0.5, -0.5)


@dataclass(frozen=True)
class Candidate:
    """A function of one variable.

    Attributes:
        body: the function, of the feature in column 0.
        r2: share of the variance that it explains.
        name: short name of its shape.
        more: what its variable costs where it stands more than once.
    """

    body: Expression
    r2: float
    name: str
    more: int = 0

    @property
    def complexity(self) -> int:
        """Cost of the function."""
        return complexity([self.body]) + self.more

    @property
    def score(self) -> float:
        """Quality of the fit against complexity; smaller is better."""
        return float(np.log10(max(1.0 - self.r2, 1e-12))) + 0.12 * self.complexity

    def of(self, variable: Expression) -> Expression:
        """Return the function of another variable."""
        return transform([self.body], lambda old, new: variable if isinstance(old, Input) else new).roots[0]


def candidates(
    x: Floats,
    y: Floats,
    weight: Floats | None = None,
    *,
    primitives: Sequence[Primitive],
    nested: str = "none",
    margin: float = 0.01,
    keep: int = 8,
    ridge: float = 0.0,
    beyond: float | None = None,
    price: int = 0,
) -> list[Candidate]:
    r"""Return the best candidates for values of a function at points, best first.

    **Shape** x, y, weight: `(n,)`.

    Arguments:
        x: points.
        y: values.
        weight: of the points.
        primitives: the table to choose from.
        nested: `none`; `log` for :math:`\frac{1}{q} \log(c f(a x + b) + d)`, the form that factors and their powers
            take in a sum of logarithms; `power` for :math:`(c f(a x + b) + d)^{1/q}`, for values of one sign.
        margin: how far beyond the range of x, relative to it, candidates must be defined. A positive x stays positive.
        keep: how many to return.
        beyond: with it, also try primitives on top of a polynomial of degree 2; and it is the `margin` of primitives
            that are not defined everywhere.
        price: complexity of the variable: a long sum is multiplied out where the variable stands beside a function of
            it.
        ridge: how much terms that cancel count against a candidate; see `hepkan.interpret.refit.refit`.

    Raises:
        DataError: too few points, or values that do not vary.
    """
    points, values, share = _thinned(x, y, weight)
    span = guarded(points, margin)
    found = [_single(fit) for fit in _fits(points, values, share, primitives, margin, beyond)]
    found += _polynomials(points, values, share)
    if nested != "none":
        found += _nested(points, values, share, span, [p for p in primitives if p.name in _NESTED], nested)
    if beyond is not None:
        found += _trended(points, values, share, primitives, margin, beyond)
    finite = [replace(one, more=price * _twice(one)) for one in found if np.isfinite(one.r2)]

    def value(one: Candidate) -> float:
        return one.score + (float(np.log10(1.0 + ridge * _cancelling(one, points))) if ridge else 0.0)

    return sorted(finite, key=value)[:keep]


def _twice(one: Candidate) -> bool:
    return isinstance(one.body, Sum) and len(one.body.terms) > 1 and _X in one.body.terms


def _cancelling(one: Candidate, points: Floats) -> float:
    program = Program([one.body], points[:, None])
    return float(program.cancelling(program.values(program.start), program.start).sum())


def _fits(
    x: Floats,
    y: Floats,
    weight: Floats,
    primitives: Sequence[Primitive],
    margin: float,
    beyond: float | None,
) -> list[AffineFit]:
    """Return fits, best first, each defined as far beyond the points as is asked of its primitive."""
    if beyond is None:
        return affine_fits(x, y, weight, primitives, span=guarded(x, margin))
    groups: dict[float, list[Primitive]] = {}
    for one in primitives:
        groups.setdefault(margin if not np.isfinite(one.domain).any() else max(margin, beyond), []).append(one)
    found = [affine_fits(x, y, weight, some, span=guarded(x, far)) for far, some in groups.items()]
    # Each group also has the straight line, which is the same in all.
    fits = found[0] + [fit for rest in found[1:] for fit in rest if fit.primitive is not None]
    return sorted(fits, key=lambda fit: -fit.r2)


def guarded(points: Floats, margin: float) -> tuple[float, float]:
    """Return the range of points widened by a margin, which does not change the sign of its ends."""
    low, high = float(points.min()), float(points.max())
    step = margin * (high - low)
    return (
        low - step if low <= 0.0 or low - step > 0.0 else 0.5 * low,
        high + step if high >= 0.0 or high + step < 0.0 else 0.5 * high,
    )


def _thinned(x: Floats, y: Floats, weight: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Return some of the points, at equal steps of their order and with both ends."""
    order = np.argsort(x, kind="stable")
    if len(order) > _POINTS:
        order = order[np.unique(np.linspace(0, len(order) - 1, _POINTS).round().astype(int))]
    share = np.ones(len(order)) if weight is None else np.maximum(weight[order], 0.0)
    return x[order], y[order], share + 1e-3 * (share.mean() + 1e-300)


def _single(fit: AffineFit) -> Candidate:
    if fit.primitive is None:
        return Candidate(Sum((_X,), (fit.c * fit.a,), fit.c * fit.b + fit.d), fit.r2, "x")
    call = Call(fit.primitive, Sum((_X,), (fit.a,), fit.b))
    return Candidate(Sum((call,), (fit.c,), fit.d), fit.r2, fit.primitive.name)


def _polynomials(x: Floats, y: Floats, weight: Floats) -> list[Candidate]:
    """Return general polynomials of degree 2 to 4, in x itself."""
    found = []
    total = weight @ np.square(y - weight @ y / weight.sum())
    scale = np.abs(x).max()
    powers = [Call(PRIMITIVES[name], _X) for name in ("square", "cube", "quartic")]
    for degree in (2, 3, 4):
        matrix = np.vander(x / scale, degree + 1, increasing=True)
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(matrix * root[:, None], y * root, rcond=None)[0]
        r2 = 1.0 - weight @ np.square(matrix @ solution - y) / total
        factors = solution / scale ** np.arange(degree + 1)
        terms = (_X, *powers[: degree - 1])
        body = Sum(terms, tuple(factors[1:].tolist()), float(factors[0]))
        found.append(Candidate(body, float(r2), f"polynomial {degree}"))
    return found


def _trended(
    x: Floats, y: Floats, weight: Floats, primitives: Sequence[Primitive], margin: float, beyond: float
) -> list[Candidate]:
    """Return the best primitive with a parabola below it, both fitted together from two starts: either one first."""
    share = weight / weight.sum()
    objective = Objective("mse", y[:, None], share)
    parabola = np.polynomial.Polynomial.fit(x, y, 2, w=np.sqrt(share)).convert()
    square, variance, found = Call(PRIMITIVES["square"], _X), objective.of_constant(), []
    for below in (parabola, np.polynomial.Polynomial([0.0])):
        try:
            fit = _fits(x, y - below(x), share, primitives, margin, beyond)[0]
        except DataError:  # the parabola leaves nothing
            continue
        shift, slope, bend = [*below.coef.tolist(), 0.0, 0.0][:3]
        start = tidied([Sum((_single(fit).body, _X, square), (1.0, slope, bend), shift)])
        body, loss, _ = refit(start, x[:, None], objective, steps=40, tolerance=1e-3)
        program = Program(body, x[:, None])
        if program.safe(program.values(program.start), program.start, beyond):
            found.append(Candidate(body[0], 1.0 - loss / variance, f"{_single(fit).name} on a parabola"))
    return found


def _nested(
    x: Floats, y: Floats, weight: Floats, span: tuple[float, float], primitives: Sequence[Primitive], form: str
) -> list[Candidate]:
    if form == "power":
        if not (np.all(y > 0.0) or np.all(y < 0.0)):
            return []
        sign = float(np.sign(y[0]))
        y = np.log(np.abs(y))
    found = []
    for power in _POWERS:
        if form == "power" and power == 1.0:
            continue
        factor = np.exp(power * (y - y.max() if power > 0 else y - y.min()))
        shift = y.max() if power > 0 else y.min()
        try:
            fits = affine_fits(x, factor, weight, primitives, span=span)
        except DataError:
            continue
        for fit in fits[:4]:
            inner = _single(fit).body
            with np.errstate(all="ignore"):
                if not (np.all(fit(np.linspace(*span, 65)) > 0.0) and np.all(fit(x) > 0.0)):
                    continue
            model = np.log(fit(x)) / power
            r2 = 1.0 - weight @ np.square(y - model - shift) / (weight @ np.square(y - weight @ y / weight.sum()))
            body: Expression = Sum((Call(PRIMITIVES["log"], inner),), (1.0 / power,), float(shift))
            if form == "power":
                body = Sum((Call(PRIMITIVES["exp"], body),), (sign,), 0.0)
            name = "x" if fit.primitive is None else fit.primitive.name
            found.append(Candidate(body, float(r2), f"{form} {power:g} {name}"))
    if form == "power":
        fits = affine_fits(x, y, weight, primitives, span=span)
        for fit in fits[:3]:
            body = Sum((Call(PRIMITIVES["exp"], _single(fit).body),), (sign,), 0.0)
            found.append(Candidate(body, fit.r2, f"exp {'x' if fit.primitive is None else fit.primitive.name}"))
    return found
