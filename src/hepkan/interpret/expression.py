"""Formulae as graphs of sums, products and univariate functions; a part may be used by several others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hepkan.errors import DataError
from hepkan.interpret.primitives import PRIMITIVES, SILU, Primitive
from hepkan.splines.basis import bspline_basis, bspline_derivative

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Expression:
    """A part of a formula. Parts are compared by identity: the same object is one node of the graph."""

    def arguments(self) -> tuple[Expression, ...]:
        """Return what it is a function of."""
        return ()

    def constants(self) -> Floats:
        """Return its numbers that a fit may change."""
        return np.zeros(0)

    def with_arguments(self, arguments: Sequence[Expression]) -> Expression:
        """Return the same function of other arguments."""
        return self

    def with_constants(self, constants: Floats) -> Expression:
        """Return the same with other numbers."""
        return self

    @property
    def complexity(self) -> int:
        """Cost of this node alone."""
        return 1


@dataclass(frozen=True, eq=False)
class Input(Expression):
    """A raw feature by its column."""

    column: int


@dataclass(frozen=True, eq=False)
class Sum(Expression):
    r""":math:`b + \sum_i c_i t_i`; `fixed` holds positions of numbers that fits keep, the bias at the last."""

    terms: tuple[Expression, ...]
    coefficients: tuple[float, ...]
    bias: float = 0.0
    fixed: frozenset[int] = frozenset()

    def arguments(self) -> tuple[Expression, ...]:
        return self.terms

    def numbers(self) -> Floats:
        """Return coefficients and bias."""
        return np.array([*self.coefficients, self.bias], dtype=np.float64)

    def free(self) -> list[int]:
        """Return the positions that fits may change."""
        return [place for place in range(len(self.terms) + 1) if place not in self.fixed]

    def constants(self) -> Floats:
        return np.asarray(self.numbers()[self.free()])

    def with_arguments(self, arguments: Sequence[Expression]) -> Sum:
        return replace(self, terms=tuple(arguments))

    def with_constants(self, constants: Floats) -> Sum:
        numbers = self.numbers()
        numbers[self.free()] = constants
        return replace(self, coefficients=tuple(numbers[:-1].tolist()), bias=float(numbers[-1]))

    @property
    def complexity(self) -> int:
        return len(self.terms) + sum(c not in (0.0, 1.0, -1.0) for c in self.coefficients) + (self.bias != 0.0)


@dataclass(frozen=True, eq=False)
class Product(Expression):
    """The product of any number of factors."""

    factors: tuple[Expression, ...]

    def arguments(self) -> tuple[Expression, ...]:
        return self.factors

    def with_arguments(self, arguments: Sequence[Expression]) -> Product:
        return Product(tuple(arguments))

    @property
    def complexity(self) -> int:
        return len(self.factors) - 1


@dataclass(frozen=True, eq=False)
class Call(Expression):
    """A primitive function of its argument."""

    primitive: Primitive
    argument: Expression

    def arguments(self) -> tuple[Expression, ...]:
        return (self.argument,)

    def with_arguments(self, arguments: Sequence[Expression]) -> Call:
        return Call(self.primitive, *arguments)

    @property
    def complexity(self) -> int:
        return self.primitive.complexity


@dataclass(frozen=True, eq=False)
class Spline(Expression):
    """A B-spline that continues linearly; knots `(G + 2 degree + 1,)`, coefficients `(G + degree,)`.

    Fits change its coefficients only when it is `free`.
    """

    argument: Expression
    knots: Floats
    coefficients: Floats
    degree: int
    free: bool = True

    def arguments(self) -> tuple[Expression, ...]:
        return (self.argument,)

    def constants(self) -> Floats:
        return self.coefficients if self.free else np.zeros(0)

    def with_arguments(self, arguments: Sequence[Expression]) -> Spline:
        return replace(self, argument=arguments[0])

    def with_constants(self, constants: Floats) -> Spline:
        return replace(self, coefficients=np.array(constants))

    @property
    def complexity(self) -> int:
        return len(self.coefficients)

    def basis(self, values: Floats) -> Floats:
        """Return the B-splines, `(n, G + degree)`."""
        return _tensor_basis(bspline_basis, values, self.knots, self.degree)

    def slopes(self, values: Floats) -> Floats:
        """Return their derivatives, `(n, G + degree)`."""
        return _tensor_basis(bspline_derivative, values, self.knots, self.degree)

    def pieces(self) -> tuple[Floats, Floats]:
        """Return breaks `(K + 1,)` and polynomials `(K + 2, degree + 1)` in the distance to the break below.

        The first and the last polynomial are the straight lines outside, in the distance to the ends.
        """
        inner = self.knots[self.degree : len(self.knots) - self.degree]
        breaks = np.unique(inner)
        if len(breaks) < 2:
            value = self.basis(breaks[:1]) @ self.coefficients
            return breaks, np.concatenate([value, np.zeros(self.degree)])[None, :]
        steps = 0.5 - 0.5 * np.cos(np.pi * (np.arange(self.degree + 1) + 0.5) / (self.degree + 1))
        width = np.diff(breaks)
        values = self.basis((breaks[:-1, None] + width[:, None] * steps).ravel()) @ self.coefficients
        scaled = np.linalg.solve(np.vander(steps, increasing=True), values.reshape(len(width), -1).T).T
        cells = scaled / width[:, None] ** np.arange(self.degree + 1)
        ends = breaks[[0, -1]]
        lines = np.zeros((2, self.degree + 1))
        lines[:, 0] = self.basis(ends) @ self.coefficients
        if self.degree:
            lines[:, 1] = self.slopes(ends) @ self.coefficients
        return breaks, np.concatenate([lines[:1], cells, lines[1:]])


@dataclass(frozen=True, eq=False)
class Lines(Expression):
    """Straight between nodes and constant outside: the input map `quantile` of one feature; `(K,)` each."""

    argument: Expression
    x: Floats
    z: Floats

    def arguments(self) -> tuple[Expression, ...]:
        return (self.argument,)

    def with_arguments(self, arguments: Sequence[Expression]) -> Lines:
        return replace(self, argument=arguments[0])

    @property
    def complexity(self) -> int:
        return len(self.x)


def _tensor_basis(function: Callable[..., torch.Tensor], values: Floats, knots: Floats, degree: int) -> Floats:
    x = torch.from_numpy(np.ascontiguousarray(values))[:, None]
    return np.asarray(function(x, torch.from_numpy(knots)[None, :], degree)[:, 0].numpy())


def ordered(roots: Sequence[Expression]) -> list[Expression]:
    """Return all nodes, each after its arguments and once."""
    seen: dict[int, Expression] = {}

    def visit(node: Expression) -> None:
        if id(node) in seen:
            return
        for argument in node.arguments():
            visit(argument)
        seen[id(node)] = node

    for root in roots:
        visit(root)
    return list(seen.values())


class Moved(NamedTuple):
    """A changed graph, and where its nodes went: the new node of each old one by its `id`."""

    roots: tuple[Expression, ...]
    new: Mapping[int, Expression]


def transform(roots: Sequence[Expression], change: Callable[[Expression, Expression], Expression]) -> Moved:
    """Return a graph in which each node is `change(old, rebuilt)`, `rebuilt` having the new arguments."""
    new: dict[int, Expression] = {}
    for node in ordered(roots):
        arguments = node.arguments()
        fresh = [new[id(argument)] for argument in arguments]
        same = all(a is b for a, b in zip(arguments, fresh, strict=True))
        new[id(node)] = change(node, node if same else node.with_arguments(fresh))
    return Moved(tuple(new[id(root)] for root in roots), new)


def substituted(roots: Sequence[Expression], exchange: Mapping[int, Callable[[Expression], Expression]]) -> Moved:
    """Return a graph with nodes exchanged: by the `id` of the old one, what takes its place given the rebuilt one."""
    return transform(roots, lambda old, rebuilt: exchange[id(old)](rebuilt) if id(old) in exchange else rebuilt)


def constants_of(roots: Sequence[Expression]) -> Floats:
    """Return all free numbers, node after node."""
    return np.concatenate([np.zeros(0), *(node.constants() for node in ordered(roots))])


def with_constants(roots: Sequence[Expression], constants: Floats) -> Moved:
    """Return the same graph with other free numbers."""
    places: dict[int, Floats] = {}
    start = 0
    for node in ordered(roots):
        size = len(node.constants())
        places[id(node)] = constants[start : start + size]
        start += size
    return transform(roots, lambda old, new: new.with_constants(places[id(old)]) if len(places[id(old)]) else new)


def complexity(roots: Sequence[Expression]) -> int:
    """Return the complexity of a graph, shared parts counted once."""
    return sum(node.complexity for node in ordered(roots))


def splines_of(roots: Sequence[Expression]) -> list[Spline | Lines]:
    """Return the nodes that are no primitive functions."""
    return [node for node in ordered(roots) if isinstance(node, Spline | Lines)]


def to_list(roots: Sequence[Expression]) -> dict[str, Any]:
    """Return a graph as JSON-able data."""
    nodes = ordered(roots)
    place = {id(node): number for number, node in enumerate(nodes)}
    return {"nodes": [_describe(node, place) for node in nodes], "outputs": [place[id(root)] for root in roots]}


def _describe(node: Expression, place: Mapping[int, int]) -> dict[str, Any]:
    content: dict[str, Any] = {"kind": type(node).__name__}
    if node.arguments():
        content["arguments"] = [place[id(argument)] for argument in node.arguments()]
    if isinstance(node, Input):
        content["column"] = node.column
    elif isinstance(node, Sum):
        content |= {"coefficients": list(node.coefficients), "bias": node.bias, "fixed": sorted(node.fixed)}
    elif isinstance(node, Call):
        content["primitive"] = node.primitive.name
    elif isinstance(node, Spline):
        content |= {"knots": node.knots.tolist(), "coefficients": node.coefficients.tolist(), "degree": node.degree}
    elif isinstance(node, Lines):
        content |= {"x": node.x.tolist(), "z": node.z.tolist()}
    return content


def from_list(content: Mapping[str, Any], primitives: Mapping[str, Primitive]) -> tuple[Expression, ...]:
    """Return the graph that `to_list` described.

    Raises:
        DataError: the description is not complete, or a primitive is unknown.
    """
    known = {**PRIMITIVES, SILU.name: SILU, **primitives}
    nodes: list[Expression] = []
    try:
        for one in content["nodes"]:
            if any(not 0 <= place < len(nodes) for place in one.get("arguments", [])):
                raise ValueError("a node must stand after its arguments")
            nodes.append(_build(one, [nodes[place] for place in one.get("arguments", [])], known))
        return tuple(nodes[place] for place in content["outputs"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"A formula must be complete and its functions known, however: {type(error).__name__} {error}. "
            "Give user-defined primitives to from_dict."
        ) from error


def _build(one: Mapping[str, Any], arguments: list[Expression], known: Mapping[str, Primitive]) -> Expression:
    kind = one["kind"]
    if kind == "Input":
        return Input(int(one["column"]))
    if kind == "Sum":
        coefficients = tuple(float(c) for c in one["coefficients"])
        if len(coefficients) != len(arguments):
            raise ValueError("a sum needs one coefficient for each term")
        return Sum(tuple(arguments), coefficients, float(one["bias"]), frozenset(one["fixed"]))
    if kind == "Product":
        return Product(tuple(arguments))
    if kind == "Call":
        return Call(known[one["primitive"]], *arguments)
    if kind == "Spline":
        return Spline(arguments[0], np.array(one["knots"]), np.array(one["coefficients"]), int(one["degree"]))
    if kind == "Lines":
        return Lines(arguments[0], np.array(one["x"]), np.array(one["z"]))
    raise ValueError(f"unknown kind {kind!r}")


def walk_sums(roots: Sequence[Expression]) -> Iterator[Sum]:
    """Give the sums of a graph."""
    return (node for node in ordered(roots) if isinstance(node, Sum))
