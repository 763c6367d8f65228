"""A graph as text: SymPy, NumPy and ROOT."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence

import numpy as np
import sympy
from numpy.typing import NDArray

from hepkan.interpret.expression import Call, Expression, Input, Lines, Product, Spline, Sum, ordered
from hepkan.interpret.rounding import exact_number

Floats = NDArray[np.float64]

_RESERVED = {"I", "E", "S", "N", "O", "Q", "np", "lambda", "formula"}


def symbol_names(names: Sequence[str]) -> list[str]:
    """Return names as identifiers, different from each other."""
    seen: set[str] = set()
    result = []
    for name in names:
        word = re.sub(r"\W", "_", name) or "x"
        word = f"x_{word}" if word[0].isdigit() else word
        while word in seen or keyword.iskeyword(word) or word in _RESERVED:
            word += "_"
        seen.add(word)
        result.append(word)
    return result


def to_sympy(root: Expression, names: Sequence[str], positive: Sequence[bool], *, pieces: bool) -> sympy.Expr:
    """Return a graph as a SymPy expression; splines as exact `Piecewise` or as named functions."""
    symbols = [sympy.Symbol(name, positive=True) if sign else sympy.Symbol(name, real=True)
               for name, sign in zip(names, positive, strict=True)]  # fmt: skip
    done: dict[int, sympy.Expr] = {}
    number = 0
    for node in ordered([root]):
        arguments = [done[id(argument)] for argument in node.arguments()]
        if isinstance(node, Input):
            value = symbols[node.column]
        elif isinstance(node, Sum):
            terms = [_number(c) * t for c, t in zip(node.coefficients, arguments, strict=True)]
            value = sympy.Add(*terms, _number(node.bias))
        elif isinstance(node, Product):
            value = sympy.Mul(*arguments)
        elif isinstance(node, Call):
            value = node.primitive.sympy(arguments[0])
        else:
            number += 1
            value = _piecewise(node, arguments[0]) if pieces else sympy.Function(f"s_{number}")(arguments[0])
        done[id(node)] = value
    return done[id(root)]


def _number(value: float) -> sympy.Expr:
    """Return an integer, a rational or a multiple of a known constant where the number is one, otherwise a float."""
    found = exact_number(value)
    return sympy.Float(value, 17) if found is None else found


def _piecewise(node: Expression, argument: sympy.Expr) -> sympy.Expr:
    breaks, polynomials = polynomials_of(node)
    anchors = np.concatenate([breaks[:1], breaks])
    values = [
        sympy.Add(*(sympy.Float(c, 17) * (argument - sympy.Float(anchor, 17)) ** p for p, c in enumerate(polynomial)))
        for anchor, polynomial in zip(anchors, polynomials, strict=False)
    ]
    conditions = [sympy.StrictLessThan(argument, sympy.Float(place, 17), evaluate=False) for place in breaks]
    pairs = list(zip(values[:-1], conditions, strict=False))
    return sympy.Piecewise(*pairs, (values[-1], True), evaluate=False)


def polynomials_of(node: Expression) -> tuple[Floats, Floats]:
    """Return breaks `(K + 1,)` and polynomials `(K + 2, powers)` of a spline or of straight lines.

    Each polynomial is in the distance to the break below, the first one to the first break.
    """
    if isinstance(node, Lines):
        inside = np.column_stack([node.z[:-1], np.diff(node.z) / np.diff(node.x)])
        ends = np.array([[node.z[0], 0.0], [node.z[-1], 0.0]])
        return node.x, np.concatenate([ends[:1], inside, ends[1:]])
    assert isinstance(node, Spline)
    breaks, polynomials = node.pieces()
    if len(breaks) < 2:
        return breaks, np.repeat(polynomials, 2, axis=0)
    return breaks, polynomials


def to_numpy(roots: Sequence[Expression], names: Sequence[str], link: str) -> str:
    """Return a Python function of the features that needs NumPy only."""
    used = [node.column for node in ordered(roots) if isinstance(node, Input)]
    lines, places = _statements(roots, names, lambda call: call.primitive.numpy, _numpy_spline)
    outputs = [places[id(root)] for root in roots]
    result = outputs[0] if len(outputs) == 1 else f"np.stack([{', '.join(outputs)}], axis=-1)"
    if link == "sigmoid":
        result = f"1.0 / (1.0 + np.exp(-({result})))"
    elif link == "softmax":
        lines.append(f"_values = {result}")
        lines.append("_powers = np.exp(_values - _values.max(axis=-1, keepdims=True))")
        result = "_powers / _powers.sum(axis=-1, keepdims=True)"
    arguments = ", ".join(names[column] for column in sorted(set(used)))
    body = "\n".join(f"    {line}" for line in [*lines, f"return {result}"])
    return f"import numpy as np\n\n\ndef formula({arguments}):\n{body}\n"


def _numpy_spline(node: Expression, argument: str) -> list[str]:
    """Return the statements of a piecewise polynomial; the last one is its value."""
    breaks, polynomials = polynomials_of(node)
    anchors = np.concatenate([breaks[:1], breaks])[: len(polynomials)]
    return [
        f"_breaks = np.array({_listed(breaks)})",
        f"_cell = np.searchsorted(_breaks, {argument}, side='right')",
        f"_u = {argument} - np.array({_listed(anchors)})[_cell]",
        f"_table = np.array([{', '.join(_listed(row) for row in polynomials)}])[_cell]",
        "0.0 * _u + " + _horner([f"_table[..., {p}]" for p in range(polynomials.shape[1])], "_u"),
    ]


def to_root(root: Expression, link: str) -> str:
    """Return text for ROOT's TFormula, with the features as x[0], x[1], ...: valid C++ with `<cmath>`.

    A formula without splines is one expression. With splines, or parts that are used often, it is a lambda, which
    TFormula takes when the number of features is given: `TFormula f("f", text, features, 0)`.
    """
    inputs = [node.column for node in ordered([root]) if isinstance(node, Input)]
    names = [f"x[{column}]" for column in range(max(inputs, default=0) + 1)]
    text = to_define(root, names, link)
    return "[&](double *x, double *p) { " + text + " }" if text.endswith(";") else text


def to_define(root: Expression, names: Sequence[str], link: str) -> str:
    """Return C++ text of variables with the names of the features, as RDataFrame's Define takes it.

    A formula without splines is one expression; otherwise statements of which the last one returns the value.
    """
    plain = not any(isinstance(node, Spline | Lines) for node in ordered([root]))
    close = "1.0 / (1.0 + exp(-({})))" if link == "sigmoid" else "{}"
    if plain:
        text = _single(root, {}, names)
        if len(text) < 4000:
            return close.format(text)
    lines, (value,) = to_cpp([root], names)
    return " ".join([*lines, f"return {close.format(value)};"])


def to_cpp(roots: Sequence[Expression], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return C++ statements, one per node, and the names of the variables that hold the outputs before the link."""
    form = "const double {} = {};"
    lines, places = _statements(roots, names, lambda call: call.primitive.root, _root_spline, form)
    return lines, [places[id(root)] for root in roots]


def _root_spline(node: Expression, argument: str) -> list[str]:
    """Return the value of a piecewise polynomial as nested conditions, halving the breaks."""
    breaks, polynomials = polynomials_of(node)
    anchors = np.concatenate([breaks[:1], breaks])[: len(polynomials)]
    cells = []
    for anchor, row in zip(anchors, polynomials, strict=True):
        kept = row[: max(2, len(np.trim_zeros(row, "b")))]  # at least a slope of zero, which keeps a NaN
        cells.append(_horner([repr(float(c)) for c in kept], f"({argument} - ({float(anchor)!r}))"))

    def choose(low: int, high: int) -> str:
        if high - low == 1:
            return cells[low]
        middle = (low + high) // 2
        return f"({argument} < {float(breaks[middle - 1])!r} ? {choose(low, middle)} : {choose(middle, high)})"

    return [choose(0, len(cells))]


def _statements(
    roots: Sequence[Expression],
    names: Sequence[str],
    template: Callable[[Call], str],
    spline: Callable[[Expression, str], list[str]],
    form: str = "{} = {}",
) -> tuple[list[str], dict[int, str]]:
    """Return one statement per node and the name of each node's value."""
    lines: list[str] = []
    places: dict[int, str] = {}
    prefix = "t"
    while any(re.fullmatch(rf"{prefix}\d+", name) for name in names):
        prefix += "_"
    for number, node in enumerate(ordered(roots)):
        arguments = [places[id(argument)] for argument in node.arguments()]
        if isinstance(node, Input):
            places[id(node)] = names[node.column]
            continue
        places[id(node)] = f"{prefix}{number}"
        if isinstance(node, Spline | Lines):
            *before, value = spline(node, arguments[0])
            lines += before
        else:
            value = _plain(node, arguments, template)
        lines.append(form.format(places[id(node)], value))
    return lines, places


def _plain(node: Expression, arguments: list[str], template: Callable[[Call], str]) -> str:
    if isinstance(node, Call):
        return template(node).format(arguments[0])
    if isinstance(node, Product):
        return " * ".join(f"({argument})" for argument in arguments)
    assert isinstance(node, Sum)
    terms = []
    for coefficient, argument in zip(node.coefficients, arguments, strict=True):
        terms.append(f"({argument})" if coefficient == 1.0 else f"({coefficient!r}) * ({argument})")
    if node.bias != 0.0 or not terms:
        terms.append(f"({node.bias!r})")
    return " + ".join(terms)


def _single(node: Expression, done: dict[int, str], names: Sequence[str]) -> str:
    """Return C++ text of a graph without splines as one expression."""
    if id(node) not in done:
        if isinstance(node, Input):
            done[id(node)] = names[node.column]
        else:
            arguments = [_single(argument, done, names) for argument in node.arguments()]
            done[id(node)] = _plain(node, arguments, lambda call: call.primitive.root)
    return done[id(node)]


def _horner(coefficients: list[str], variable: str = "u") -> str:
    text = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        text = f"({coefficient} + {variable} * {text})"
    return text


def _listed(values: Floats) -> str:
    return "[" + ", ".join(repr(float(value)) for value in values) + "]"
