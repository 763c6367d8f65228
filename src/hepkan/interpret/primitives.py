"""The functions that a formula may be made of: NumPy, derivative, SymPy, ROOT and LaTeX text, domain, complexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sympy
from numpy.typing import NDArray
from scipy.special import expit

from hepkan.errors import UsageError, unknown

Floats = NDArray[np.float64]
Family = Literal["free", "shift", "scale", "wave", "bounded"]


@dataclass(frozen=True, kw_only=True)
class Primitive:
    r"""A function of one variable, used as :math:`c f(a x + b) + d`.

    Attributes:
        name: unique name.
        function: values of an array.
        derivative: its first derivative.
        sympy: the same on SymPy expressions.
        numpy: Python text with `{}` for the argument and `np` for NumPy.
        root: text for ROOT's TFormula, valid C++ with `<cmath>`.
        latex: LaTeX text.
        domain: open interval of the argument in which a fit must stay.
        complexity: cost in the front of complexity against loss.
        family: which of a and b matter: `free` both, `shift` only b / a (a power law, say), `scale` only a (exp),
            `wave` both, periodic in b, `bounded` both, with a domain that is bounded.
        degree: of homogeneity, :math:`f(\lambda u) = \lambda^k f(u)` for positive :math:`\lambda`, or None.
    """

    name: str
    function: Callable[[Floats], Floats]
    derivative: Callable[[Floats], Floats]
    sympy: Callable[[Any], Any]
    numpy: str
    root: str
    latex: str
    domain: tuple[float, float] = (-math.inf, math.inf)
    complexity: int = 2
    family: Family = "free"
    degree: float | None = None

    def allows(self, argument: Floats) -> bool:
        """Return whether all arguments are inside the domain."""
        low, high = self.domain
        return bool(np.all(argument > low) and np.all(argument < high))


def _gaussian(u: Floats) -> Floats:
    return np.asarray(np.exp(-u * u))


def _silu_slope(u: Floats) -> Floats:
    s = expit(u)
    return np.asarray(s * (1.0 + u * (1.0 - s)))


_POSITIVE = (0.0, math.inf)
_TABLE = (
    Primitive(
        name="square",
        function=np.square,
        derivative=lambda u: 2.0 * u,
        sympy=lambda u: u**2,
        numpy="({})**2",
        root="pow({}, 2)",
        latex=r"\left({}\right)^{{2}}",
        complexity=1,
        family="shift",
        degree=2.0,
    ),
    Primitive(
        name="cube",
        function=lambda u: u * u * u,
        derivative=lambda u: 3.0 * u * u,
        sympy=lambda u: u**3,
        numpy="({})**3",
        root="pow({}, 3)",
        latex=r"\left({}\right)^{{3}}",
        family="shift",
        degree=3.0,
    ),
    Primitive(
        name="quartic",
        function=lambda u: np.square(u * u),
        derivative=lambda u: 4.0 * u * u * u,
        sympy=lambda u: u**4,
        numpy="({})**4",
        root="pow({}, 4)",
        latex=r"\left({}\right)^{{4}}",
        complexity=3,
        family="shift",
        degree=4.0,
    ),
    Primitive(
        name="sqrt",
        function=np.sqrt,
        derivative=lambda u: 0.5 / np.sqrt(u),
        sympy=sympy.sqrt,
        numpy="np.sqrt({})",
        root="sqrt({})",
        latex=r"\sqrt{{{}}}",
        domain=_POSITIVE,
        family="shift",
        degree=0.5,
    ),
    Primitive(
        name="exp",
        function=np.exp,
        derivative=np.exp,
        sympy=sympy.exp,
        numpy="np.exp({})",
        root="exp({})",
        latex=r"e^{{{}}}",
        family="scale",
    ),
    Primitive(
        name="log",
        function=np.log,
        derivative=lambda u: 1.0 / u,
        sympy=sympy.log,
        numpy="np.log({})",
        root="log({})",
        latex=r"\log\left({}\right)",
        domain=_POSITIVE,
        family="shift",
    ),
    Primitive(
        name="sin",
        function=np.sin,
        derivative=np.cos,
        sympy=sympy.sin,
        numpy="np.sin({})",
        root="sin({})",
        latex=r"\sin\left({}\right)",
        family="wave",
    ),
    Primitive(
        name="cos",
        function=np.cos,
        derivative=lambda u: -np.sin(u),
        sympy=sympy.cos,
        numpy="np.cos({})",
        root="cos({})",
        latex=r"\cos\left({}\right)",
        family="wave",
    ),
    Primitive(
        name="tan",
        function=np.tan,
        derivative=lambda u: 1.0 + np.square(np.tan(u)),
        sympy=sympy.tan,
        numpy="np.tan({})",
        root="tan({})",
        latex=r"\tan\left({}\right)",
        domain=(-math.pi / 2, math.pi / 2),
        complexity=3,
        family="bounded",
    ),
    Primitive(
        name="arctan",
        function=np.arctan,
        derivative=lambda u: 1.0 / (1.0 + u * u),
        sympy=sympy.atan,
        numpy="np.arctan({})",
        root="atan({})",
        latex=r"\arctan\left({}\right)",
        complexity=3,
    ),
    Primitive(
        name="tanh",
        function=np.tanh,
        derivative=lambda u: 1.0 - np.square(np.tanh(u)),
        sympy=sympy.tanh,
        numpy="np.tanh({})",
        root="tanh({})",
        latex=r"\tanh\left({}\right)",
        complexity=3,
    ),
    Primitive(
        name="sigmoid",
        function=lambda u: np.asarray(expit(u)),
        derivative=lambda u: np.asarray(expit(u) * expit(-u)),
        sympy=lambda u: 1 / (1 + sympy.exp(-u)),
        numpy="1.0 / (1.0 + np.exp(-({})))",
        root="1.0 / (1.0 + exp(-({})))",
        latex=r"\frac{{1}}{{1 + e^{{-\left({}\right)}}}}",
        complexity=3,
    ),
    Primitive(
        name="gaussian",
        function=_gaussian,
        derivative=lambda u: -2.0 * u * _gaussian(u),
        sympy=lambda u: sympy.exp(-(u**2)),
        numpy="np.exp(-({})**2)",
        root="exp(-pow({}, 2))",
        latex=r"e^{{-\left({}\right)^{{2}}}}",
        complexity=3,
    ),
    Primitive(
        name="inverse",
        function=lambda u: 1.0 / u,
        derivative=lambda u: -1.0 / (u * u),
        sympy=lambda u: 1 / u,
        numpy="1.0 / ({})",
        root="1.0 / ({})",
        latex=r"\frac{{1}}{{{}}}",
        domain=_POSITIVE,
        family="shift",
        degree=-1.0,
    ),
    Primitive(
        name="inverse_square",
        function=lambda u: 1.0 / (u * u),
        derivative=lambda u: -2.0 / (u * u * u),
        sympy=lambda u: 1 / u**2,
        numpy="1.0 / ({})**2",
        root="1.0 / pow({}, 2)",
        latex=r"\frac{{1}}{{\left({}\right)^{{2}}}}",
        domain=_POSITIVE,
        family="shift",
        degree=-2.0,
    ),
    Primitive(
        name="abs",
        function=np.abs,
        derivative=np.sign,
        sympy=sympy.Abs,
        numpy="np.abs({})",
        root="fabs({})",
        latex=r"\left|{}\right|",
        complexity=3,
        family="shift",
        degree=1.0,
    ),
    Primitive(
        name="sign",
        function=np.sign,
        derivative=np.zeros_like,
        sympy=sympy.sign,
        numpy="np.sign({})",
        root="(({0}) > 0.0) - (({0}) < 0.0) + 0.0 * ({0})",
        latex=r"\operatorname{{sign}}\left({}\right)",
        complexity=3,
        family="shift",
        degree=0.0,
    ),
    Primitive(
        name="cosh",
        function=np.cosh,
        derivative=np.sinh,
        sympy=sympy.cosh,
        numpy="np.cosh({})",
        root="cosh({})",
        latex=r"\cosh\left({}\right)",
        complexity=3,
    ),
    Primitive(
        name="sinh",
        function=np.sinh,
        derivative=np.cosh,
        sympy=sympy.sinh,
        numpy="np.sinh({})",
        root="sinh({})",
        latex=r"\sinh\left({}\right)",
        complexity=3,
    ),
    Primitive(
        name="arcsin",
        function=np.arcsin,
        derivative=lambda u: 1.0 / np.sqrt(1.0 - u * u),
        sympy=sympy.asin,
        numpy="np.arcsin({})",
        root="asin({})",
        latex=r"\arcsin\left({}\right)",
        domain=(-1.0, 1.0),
        complexity=3,
        family="bounded",
    ),
    Primitive(
        name="arccos",
        function=np.arccos,
        derivative=lambda u: -1.0 / np.sqrt(1.0 - u * u),
        sympy=sympy.acos,
        numpy="np.arccos({})",
        root="acos({})",
        latex=r"\arccos\left({}\right)",
        domain=(-1.0, 1.0),
        complexity=3,
        family="bounded",
    ),
    Primitive(
        name="arctanh",
        function=np.arctanh,
        derivative=lambda u: 1.0 / (1.0 - u * u),
        sympy=sympy.atanh,
        numpy="np.arctanh({})",
        root="atanh({})",
        latex=r"\operatorname{{artanh}}\left({}\right)",
        domain=(-1.0, 1.0),
        complexity=3,
        family="bounded",
    ),
)

PRIMITIVES: Mapping[str, Primitive] = {primitive.name: primitive for primitive in _TABLE}
"""The candidates, by name. Straight lines need none: every formula is made of sums and products of these."""

SILU = Primitive(
    name="silu",
    function=lambda u: u * np.asarray(expit(u)),
    derivative=_silu_slope,
    sympy=lambda u: u / (1 + sympy.exp(-u)),
    numpy="({0}) / (1.0 + np.exp(-({0})))",
    root="({0}) / (1.0 + exp(-({0})))",
    latex=r"\operatorname{{silu}}\left({}\right)",
    complexity=3,
)
"""The base function of a KAN's edges: part of networks, no candidate."""


def choose(names: Sequence[str | Primitive] | None) -> tuple[Primitive, ...]:
    """Return the primitives of a list of names and user-defined ones, all of the table for None.

    Raises:
        UsageError: a name is unknown, or two primitives have the same.
    """
    if names is None:
        return _TABLE
    chosen = []
    for name in names:
        if isinstance(name, Primitive):
            chosen.append(name)
        elif name in PRIMITIVES:
            chosen.append(PRIMITIVES[name])
        else:
            raise unknown("primitive", str(name), PRIMITIVES)
    seen = [primitive.name for primitive in chosen]
    if not seen or len(set(seen)) < len(seen):
        raise UsageError(f"Primitives need names of their own, however: {seen}. Give each once, at least one.")
    return tuple(chosen)
