"""Formulas of columns, `hypot(MET_px, MET_py) > 30` say, read by a small interpreter that can do nothing else.

Python's own parser gives the tree; a formula may hold only what `_RULES` and `FUNCTIONS` list: no attribute, method,
keyword, comprehension or lambda exists, so nothing but arithmetic can happen. Existing evaluators were looked at and
not taken: numexpr ends in Python's `eval` and knows no jagged columns, simpleeval lets a formula call methods of arrays
(`x.tofile(path)` writes a file), asteval runs whole programs, formulate translates but does not evaluate.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.data import formulas
from hepkan.data.formulas import FUNCTIONS, is_bool, is_jagged, is_text
from hepkan.errors import DataError, UsageError, unknown

LONGEST = 2000
"""Characters of a formula, at most."""

DEEPEST = 60
"""Levels of nesting, at most."""

CONSTANTS = {"pi": np.pi, "True": True, "False": False, "nan": np.nan}

_ARITHMETIC: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_BITS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.BitAnd: np.bitwise_and,
    ast.BitOr: np.bitwise_or,
    ast.BitXor: np.bitwise_xor,
}
_COMPARISONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}


@dataclass(frozen=True)
class Expression:
    """A formula of columns, checked once and evaluated on any number of chunks.

    **Syntax.** NumPy's arithmetic and comparisons on columns named as they are (`Muon.pt` too; `col("any name")` for
    others); `and`, `or`, `not` or `&`, `|`, `~` between conditions (`&` of whole numbers tests bits); `a if c else b`
    or `where(c, a, b)`; `process == "ttbar"` and `process in ("ttbar", "wjets")` for text; `FUNCTIONS`. Of a jagged
    column, `Jet_pt[0]` is the first object of each event (-1 the last), missing where there is none;
    `Jet_pt[Jet_btag > 0.5]` keeps some objects, `Jet_pt[:2]` the first ones, `Jet_eta[argmax(Jet_pt)]` picks one;
    `len`, `sum`, `mean`, `max`, `min`, `any`, `all`, `argmax`, `argmin` turn the objects of an event into a number.

    **Values.** Numbers are float64. What is undefined (a missing object, 0/0, the logarithm of a negative number) is
    NaN; a comparison with it is false.

    Attributes:
        text: the formula.
        columns: names of the columns that it needs, in order of appearance.

    Raises:
        UsageError: not a formula, or it uses something that does not exist here.
    """

    text: str
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Parse and check."""
        tree = _parse(self.text)
        object.__setattr__(self, "_tree", tree)
        found: dict[str, None] = {}
        _check(tree, self.text, found, 0)
        object.__setattr__(self, "columns", tuple(found))

    def values(self, columns: Mapping[str, Any]) -> Any:
        """Return the value on a chunk: an array `(n,)`, a jagged array of n events, or a single number.

        Raises:
            UsageError: a column is missing, or an operation does not fit the kind of its operands.
        """
        for name in self.columns:
            if name not in columns:
                raise unknown("column", name, columns)
        try:
            with np.errstate(all="ignore"):
                return _evaluate(self._tree, columns)  # type: ignore[attr-defined]
        except (UsageError, DataError) as error:
            raise type(error)(f"In the formula {self.text!r}: {error}") from error
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"The formula {self.text!r} cannot be evaluated on these columns ({reason}).") from error

    def number(self, columns: Mapping[str, Any], n: int) -> NDArray[np.float64]:
        """Return one number per event, float64 `(n,)`, NaN where undefined.

        Raises:
            UsageError: as `values`; the value is jagged or text.
        """
        value = self.values(columns)
        if is_jagged(value):
            raise UsageError(
                f"The formula {self.text!r} must give one number per event, however it gives a list of objects. Pick "
                f"one, as in Jet_pt[0], or use len, sum, max, min, any, all, mean."
            )
        if is_text(value):
            raise UsageError(f"The formula {self.text!r} must give numbers, however it gives text.")
        result = np.asarray(value, dtype=np.float64)
        return np.array(np.broadcast_to(result, (n,)))

    def condition(self, columns: Mapping[str, Any], n: int) -> NDArray[np.bool_]:
        """Return one truth value per event `(n,)`; undefined is false.

        Raises:
            UsageError: as `number`.
        """
        value = self.number(columns, n)
        return np.asarray((value != 0) & ~np.isnan(value), dtype=np.bool_)


def _parse(text: str) -> ast.expr:
    """Return the tree of a formula."""
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"A formula must be a text such as 'a + b', however: {text!r}.")
    if len(text) > LONGEST:
        raise UsageError(f"A formula may have {LONGEST} characters, however {text[:40]!r}... has {len(text)}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise UsageError(
            f"A formula must be written as in 'pt * cosh(eta)', however {text[:200]!r} is not one ({reason})."
        ) from error


def _check(node: ast.AST, text: str, found: dict[str, None], depth: int) -> None:
    """Refuse everything that the interpreter does not know, and collect the names of columns."""
    if depth > DEEPEST:
        raise UsageError(f"A formula may be nested {DEEPEST} levels deep, however {text[:60]!r}... is deeper.")
    if type(node) not in _RULES:
        word = type(node).__name__
        raise UsageError(f"A formula may use arithmetic, comparisons and functions, however {text!r} uses: {word}.")
    name = column_name(node)
    if name is not None:
        found[name] = None
        return
    if isinstance(node, ast.Attribute):
        raise UsageError(f"A name with dots must be a column, as in Muon.pt, however in {text!r} it is not.")
    if isinstance(node, ast.Constant) and not isinstance(node.value, str | bool | int | float):
        raise UsageError(f"A constant must be a number or a text, however {text!r} has {node.value!r}.")
    if isinstance(node, ast.Call):
        _check_call(node, text)
    if isinstance(node, ast.Compare) and len(node.ops) > 1:
        for part in (node.left, *node.comparators):
            if isinstance(part, ast.BinOp) and type(part.op) in _BITS:
                raise UsageError(f"Comparisons joined by & or | need parentheses around each, however: {text!r}.")
    if isinstance(node, ast.Slice) and (node.step or not all(map(_is_whole, (node.lower, node.upper)))):
        raise UsageError(f"A range of objects is written [:2] or [1:3], however: {text!r}.")
    for operator in _operators(node):
        if type(operator) not in _OPERATORS:
            raise UsageError(f"The operator {type(operator).__name__} does not exist in formulas, however: {text!r}.")
    for child in _children(node):
        _check(child, text, found, depth + 1)


def _check_call(node: ast.Call, text: str) -> None:
    """Refuse unknown functions, keywords and wrong numbers of arguments."""
    if not isinstance(node.func, ast.Name):
        raise UsageError(f"Only functions can be called in a formula, however {text!r} calls something else.")
    name = node.func.id
    if name == "col":
        raise UsageError(f'col takes the name of a column in quotes, as in col("jet pt"), however: {text!r}.')
    if name not in FUNCTIONS:
        raise unknown("function", name, [*FUNCTIONS, "col"])
    allowed = FUNCTIONS[name].arguments
    if node.keywords or any(isinstance(one, ast.Starred) for one in node.args) or len(node.args) not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise UsageError(f"The function {name} takes {wanted} plain arguments, however: {text!r}.")


def column_name(node: ast.AST) -> str | None:
    """Return the column that a node names: a word, words joined by dots, or `col("...")`."""
    if isinstance(node, ast.Name):
        return None if node.id in CONSTANTS else node.id
    if isinstance(node, ast.Attribute):
        before = column_name(node.value)
        named = isinstance(node.value, ast.Name | ast.Attribute) and before is not None
        return f"{before}.{node.attr}" if named else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "col":
        only = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if isinstance(only, ast.Constant) and isinstance(only.value, str):
            return only.value
    return None


def _operators(node: ast.AST) -> list[ast.AST]:
    """Return the operators of a node."""
    if isinstance(node, ast.Compare):
        return list(node.ops)
    return [node.op] if isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp) else []


def _children(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a node that are values."""
    parts = [one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.operator | ast.unaryop | ast.boolop)]
    parts = [one for one in parts if not isinstance(one, ast.cmpop | ast.expr_context)]
    return parts[1:] if isinstance(node, ast.Call) else parts


def _evaluate(node: Any, columns: Mapping[str, Any]) -> Any:
    """Return the value of a node."""
    name = column_name(node)
    if name is not None:
        return formulas.as_operand(columns[name], name)
    return _RULES[type(node)](node, columns)


def _constant(node: ast.Constant, columns: Mapping[str, Any]) -> Any:
    """Numbers are float64, so that no power of integers can grow without bound."""
    value = node.value
    return value if isinstance(value, str | bool) else np.float64(value)  # type: ignore[arg-type]


def _binary(node: ast.BinOp, columns: Mapping[str, Any]) -> Any:
    left, right = _evaluate(node.left, columns), _evaluate(node.right, columns)
    if type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](formulas.as_number(left), formulas.as_number(right))
    bits = _BITS[type(node.op)]
    if is_bool(left) and is_bool(right):
        return bits(left, right)
    if is_bool(left) or is_bool(right):
        raise UsageError(
            "& and | need two conditions or two whole numbers, however one is a number: put parentheses around every "
            "comparison, as in (a > 1) & (b < 2)."
        )
    return formulas.as_number(bits(formulas.as_whole(left), formulas.as_whole(right)))


def _unary(node: ast.UnaryOp, columns: Mapping[str, Any]) -> Any:
    value = _evaluate(node.operand, columns)
    if isinstance(node.op, ast.Not | ast.Invert):
        return np.logical_not(formulas.as_condition(value))
    return np.negative(formulas.as_number(value)) if isinstance(node.op, ast.USub) else formulas.as_number(value)


def _boolean(node: ast.BoolOp, columns: Mapping[str, Any]) -> Any:
    join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
    values = [formulas.as_condition(_evaluate(one, columns)) for one in node.values]
    result = values[0]
    for value in values[1:]:
        result = join(result, value)
    return result


def _compare(node: ast.Compare, columns: Mapping[str, Any]) -> Any:
    result: Any = True
    left = _evaluate(node.left, columns)
    for operator, comparator in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(comparator, columns)
        result = np.logical_and(result, _pair(operator, left, right))
        left = right
    return result


def _pair(operator: ast.cmpop, left: Any, right: Any) -> Any:
    """Return one comparison; text is compared with text, by equality."""
    if isinstance(operator, ast.In | ast.NotIn):
        if not isinstance(right, tuple) or not right:
            raise UsageError('`in` needs a list of values, as in process in ("ttbar", "wjets").')
        found: Any = False
        for one in right:
            found = np.logical_or(found, _pair(ast.Eq(), left, one))
        return np.logical_not(found) if isinstance(operator, ast.NotIn) else found
    if isinstance(left, tuple) or isinstance(right, tuple):
        raise UsageError("A list of values can only stand after `in`.")
    if is_text(left) != is_text(right):
        raise UsageError("Text can only be compared with text, and numbers with numbers.")
    if is_text(left) and not isinstance(operator, ast.Eq | ast.NotEq):
        raise UsageError("Text can only be compared by == and !=.")
    return _COMPARISONS[type(operator)](left, right)


def _choice(node: ast.IfExp, columns: Mapping[str, Any]) -> Any:
    parts = [_evaluate(one, columns) for one in (node.test, node.body, node.orelse)]
    return FUNCTIONS["where"].function(*parts)


def _call(node: ast.Call, columns: Mapping[str, Any]) -> Any:
    assert isinstance(node.func, ast.Name)
    return FUNCTIONS[node.func.id].function(*(_evaluate(one, columns) for one in node.args))


def _subscript(node: ast.Subscript, columns: Mapping[str, Any]) -> Any:
    objects = _evaluate(node.value, columns)
    if isinstance(node.slice, ast.Slice):
        return formulas.part(objects, _whole(node.slice.lower), _whole(node.slice.upper))
    index = _whole(node.slice)
    return formulas.pick(objects, _evaluate(node.slice, columns) if index is None else index)


def _slice(node: ast.Slice, columns: Mapping[str, Any]) -> Any:
    raise UsageError("A range such as [:2] can only stand alone in brackets.")


def _whole(node: ast.AST | None) -> int | None:
    """Return a whole number that is written out."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _whole(node.operand)
        return None if inner is None else -inner
    constant = node.value if isinstance(node, ast.Constant) else None
    return constant if isinstance(constant, int) and not isinstance(constant, bool) else None


def _is_whole(node: ast.AST | None) -> bool:
    """Return whether the end of a range is left out or written out."""
    return node is None or _whole(node) is not None


def _tuple(node: ast.Tuple | ast.List, columns: Mapping[str, Any]) -> Any:
    return tuple(_evaluate(one, columns) for one in node.elts)


def _named(node: ast.Name | ast.Attribute, columns: Mapping[str, Any]) -> Any:
    assert isinstance(node, ast.Name)
    return CONSTANTS[node.id]


_RULES: dict[type[ast.AST], Callable[[Any, Mapping[str, Any]], Any]] = {
    ast.Constant: _constant,
    ast.Name: _named,
    ast.Attribute: _named,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.Compare: _compare,
    ast.IfExp: _choice,
    ast.Call: _call,
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.Tuple: _tuple,
    ast.List: _tuple,
}
_OPERATORS = {*_ARITHMETIC, *_BITS, *_COMPARISONS, ast.In, ast.NotIn, ast.And, ast.Or}
_OPERATORS |= {ast.Not, ast.Invert, ast.USub, ast.UAdd}
