"""The values of a formula's text: C++ as `Formula.root` writes it, Python as `Formula.numpy` and SymPy write it.

The texts are read by a grammar of their own, never executed, so that what is written can be checked on real events
without a compiler, and a number or bracket lost in writing is seen.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from hepkan.errors import DataError

Floats = NDArray[np.float64]
Value = Any
"""A number, an array of events, or a table of numbers."""
Functions = Mapping[str, Callable[..., Value]]

_SAME = ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "cosh", "sinh")
_ARCS = {"atan": np.arctan, "asin": np.arcsin, "acos": np.arccos, "atanh": np.arctanh, "erf": erf}
CPP: Functions = {name: getattr(np, name) for name in _SAME} | _ARCS | {"fabs": np.abs, "pow": np.power}
SYMPY: Functions = {name: getattr(np, name) for name in _SAME} | _ARCS | {"Abs": np.abs, "sign": np.sign}
NUMPY = (
    *("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "cosh", "sinh", "sign", "abs", "arctan", "arcsin", "arccos"),
    *("arctanh", "array", "searchsorted", "stack"),
)
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|([-+*/()\[\],<>?:]))")
_STATEMENT = re.compile(r"\s*(?:const double (\w+) = (.*?)|return (.*?));", re.DOTALL)
_LAMBDA = re.compile(r"\[&\]\(double \*x, double \*p\) \{(.*)\}", re.DOTALL)
_BINARY: Mapping[type[ast.AST], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: lambda base, power: np.power(np.asarray(base, dtype=np.float64), power),
}


def cpp_values(text: str, columns: Mapping[str, Floats], x: Floats) -> Floats:
    """Return the values of a C++ expression, of statements that end in `return`, or of a lambda of `double *x`.

    **Shape** x: `(n, features)`, columns: `(n,)` each, by the names in the text, result: `(n,)`.

    Raises:
        DataError: the text has something else.
    """
    inside = _LAMBDA.fullmatch(text.strip())
    statements = _STATEMENT.findall(inside[1] if inside else text) if ";" in text else [("", "", text)]
    known: dict[str, Value] = dict(columns)
    with np.errstate(all="ignore"):
        for name, value, result in statements:
            found = _Cpp(result or value, known, x).whole()
            if result:
                return np.broadcast_to(np.asarray(found, dtype=np.float64), (len(x),)).copy()
            known[name] = found
    raise DataError("The text of a formula must return a value, however it does not.")


class _Cpp:
    """One C++ expression in recursive descent: conditions, comparisons, sums, products, signs, calls."""

    def __init__(self, text: str, names: Mapping[str, Value], x: Floats) -> None:
        self.tokens = [match.group(0).strip() for match in _TOKEN.finditer(text)]
        if "".join(self.tokens) != "".join(text.split()):
            raise DataError(f"The text of a formula has characters that are no formula: {text[:80]!r}.")
        self.names, self.x, self.place = names, x, 0

    def whole(self) -> Value:
        """Return the value of all tokens."""
        value = self.condition()
        if self.place < len(self.tokens):
            raise DataError(f"The text of a formula has {self.tokens[self.place]!r} where it must end.")
        return value

    def take(self, *wanted: str) -> str:
        """Return the next token when it is one of those wanted, else nothing."""
        if self.place < len(self.tokens) and self.tokens[self.place] in wanted:
            self.place += 1
            return self.tokens[self.place - 1]
        return ""

    def demand(self, token: str) -> None:
        if not self.take(token):
            seen = self.tokens[self.place] if self.place < len(self.tokens) else "its end"
            raise DataError(f"The text of a formula needs {token!r}, however it has {seen!r}.")

    def condition(self) -> Value:
        test = self.comparison()
        if not self.take("?"):
            return test
        first = self.condition()
        self.demand(":")
        return np.where(test, first, self.condition())

    def comparison(self) -> Value:
        left = self.sum()
        sign = self.take("<", ">")
        if not sign:
            return left
        right = self.sum()
        return (np.less if sign == "<" else np.greater)(left, right)

    def sum(self) -> Value:
        value = self.product()
        while sign := self.take("+", "-"):
            other = self.product()
            if np.asarray(value).dtype == bool:  # C++ counts true as one
                value, other = np.multiply(value, 1.0), np.multiply(other, 1.0)
            value = value + other if sign == "+" else value - other
        return value

    def product(self) -> Value:
        value = self.signed()
        while sign := self.take("*", "/"):
            other = self.signed()
            value = value * other if sign == "*" else np.divide(value, other)
        return value

    def signed(self) -> Value:
        return -self.signed() if self.take("-") else self.primary()

    def primary(self) -> Value:
        if self.take("("):
            value = self.condition()
            self.demand(")")
            return value
        token = self.tokens[self.place] if self.place < len(self.tokens) else ""
        self.place += 1
        if token[:1].isdigit():
            return float(token)
        if token == "x" and self.take("["):
            column = int(self.condition())
            self.demand("]")
            return self.x[:, column]
        if token in self.names:
            return self.names[token]
        if token in CPP and self.take("("):
            arguments = [self.condition()]
            while self.take(","):
                arguments.append(self.condition())
            self.demand(")")
            return CPP[token](*(np.asarray(one, dtype=np.float64) for one in arguments))
        raise _unknown(token)


def python_values(text: str, columns: Mapping[str, Floats], functions: Functions = SYMPY) -> Floats:
    """Return the values of a Python expression, or of the only function in a module that imports NumPy.

    Raises:
        DataError: the text has something else than formulae.
    """
    try:
        body = ast.parse(text.strip()).body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(f"The text of a formula must be Python, however: {error}.") from error
    names: dict[str, Value] = dict(columns)
    inner = [one for one in body if isinstance(one, ast.FunctionDef)]
    statements: list[ast.stmt] = inner[0].body if inner else body
    with np.errstate(all="ignore"):
        for one in statements:
            if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name):
                names[one.targets[0].id] = _python(one.value, names, functions)
            elif isinstance(one, ast.Return | ast.Expr) and one.value is not None:
                return np.asarray(_python(one.value, names, functions), dtype=np.float64)
    raise DataError("The text of a formula must return a value, however it does not.")


def _python(node: ast.AST, names: Mapping[str, Value], functions: Functions) -> Value:
    """Return the value of a part of a Python expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return node.value
    if isinstance(node, ast.Name):
        if node.id in names:
            return names[node.id]
        constants = {"pi": np.pi, "E": np.e, "True": True}
        if node.id in constants:
            return constants[node.id]
        raise _unknown(node.id)
    if isinstance(node, ast.List | ast.Tuple):
        return [_python(one, names, functions) for one in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_python(node.operand, names, functions)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = (_python(one, names, functions) for one in (node.left, node.right))
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.Gt):
        left, right = (_python(one, names, functions) for one in (node.left, node.comparators[0]))
        return left < right if isinstance(node.ops[0], ast.Lt) else left > right
    if isinstance(node, ast.Subscript):
        return _part(node, names, functions)
    if isinstance(node, ast.Call):
        return _call(node, names, functions)
    raise DataError(f"The text of a formula has a {type(node).__name__}, which is no formula.")


def _part(node: ast.Subscript, names: Mapping[str, Value], functions: Functions) -> Value:
    """Return rows `table[cell]` or a column `table[..., 2]` of a table."""
    table = _python(node.value, names, functions)
    if isinstance(node.slice, ast.Tuple):
        return table[..., _python(node.slice.elts[-1], names, functions)]
    return table[_python(node.slice, names, functions)]


def _call(node: ast.Call, names: Mapping[str, Value], functions: Functions) -> Value:
    """Return the value of a call: `np.exp(...)`, `exp(...)`, `x.max(axis=-1)` or `Piecewise((value, test), ...)`."""
    arguments = [_python(one, names, functions) for one in node.args]
    options = {one.arg: _python(one.value, names, functions) for one in node.keywords if one.arg}
    called = node.func
    if isinstance(called, ast.Attribute):
        if isinstance(called.value, ast.Name) and called.value.id == "np" and called.attr in NUMPY:
            return getattr(np, called.attr)(*arguments, **options)
        if called.attr in ("max", "sum"):
            return getattr(np, called.attr)(_python(called.value, names, functions), axis=-1, keepdims=True)
    elif isinstance(called, ast.Name) and called.id == "Piecewise":
        values, tests = zip(*arguments, strict=True)
        shape = np.broadcast_shapes(*(np.shape(one) for one in (*values, *tests)))
        return np.select(*([np.broadcast_to(one, shape) for one in part] for part in (tests, values)))
    elif isinstance(called, ast.Name) and called.id in functions:
        return functions[called.id](*(np.asarray(one, dtype=np.float64) for one in arguments))
    raise _unknown(ast.unparse(called))


def _unknown(name: str) -> DataError:
    return DataError(
        f"The text of a formula can be checked with the functions of the package only, however it has {name!r}."
    )
