"""Values and derivatives of a graph in float64: one pass forward, one backward, for all constants at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepkan.interpret.expression import (
    Call,
    Expression,
    Input,
    Lines,
    Product,
    Spline,
    Sum,
    constants_of,
    ordered,
)

Floats = NDArray[np.float64]


class Program:
    """A graph bound to events; what does not depend on constants is computed once.

    **Shape** X: `(n, features)`.

    Arguments:
        roots: the outputs.
        X: raw features in float64.
    """

    def __init__(self, roots: Sequence[Expression], X: Floats) -> None:
        self.roots = tuple(roots)
        self.n = len(X)
        self.nodes = ordered(roots)
        self.place = {id(node): number for number, node in enumerate(self.nodes)}
        self.inputs = [[self.place[id(argument)] for argument in node.arguments()] for node in self.nodes]
        self.start = constants_of(roots)
        sizes = [len(node.constants()) for node in self.nodes]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self._outputs = [self.place[id(root)] for root in self.roots]
        self._moves = self._depends_on_constants()
        self._sums = {
            number: (node.numbers(), np.asarray(node.free(), dtype=np.intp))
            for number, node in enumerate(self.nodes)
            if isinstance(node, Sum)
        }
        self._bases: dict[int, Floats] = {}
        self._fixed: dict[int, Floats] = {}
        self._prepare(X)

    def _depends_on_constants(self) -> list[bool]:
        moves: list[bool] = []
        for number, below in enumerate(self.inputs):
            own = self.offsets[number + 1] > self.offsets[number]
            moves.append(bool(own) or any(moves[place] for place in below))
        return moves

    def _prepare(self, X: Floats) -> None:
        """Compute all values that no constant changes, and the B-splines of such arguments."""
        with np.errstate(all="ignore"):
            for number, node in enumerate(self.nodes):
                below = self.inputs[number]
                if isinstance(node, Input):
                    self._fixed[number] = X[:, node.column]
                elif not self._moves[number]:
                    self._fixed[number] = self._value(number, [self._fixed[place] for place in below], self.start[:0])
                elif isinstance(node, Spline) and not self._moves[below[0]]:
                    self._bases[number] = node.basis(self._fixed[below[0]])

    def values(self, constants: Floats) -> list[Floats]:
        """Return the values of all nodes; NaN where a function is not defined."""
        values: list[Floats] = []
        with np.errstate(all="ignore"):
            for number in range(len(self.nodes)):
                if number in self._fixed:
                    values.append(self._fixed[number])
                    continue
                own = constants[self.offsets[number] : self.offsets[number + 1]]
                if number in self._bases:
                    values.append(self._bases[number] @ own)
                else:
                    values.append(self._value(number, [values[place] for place in self.inputs[number]], own))
        return values

    def _value(self, number: int, arguments: list[Floats], own: Floats) -> Floats:
        node = self.nodes[number]
        if isinstance(node, Sum):
            *coefficients, bias = self._numbers(number, own).tolist()
            total = np.full(self.n, bias)
            for coefficient, values in zip(coefficients, arguments, strict=True):
                total += coefficient * values
            return total
        if isinstance(node, Product):
            return np.asarray(np.prod(arguments, axis=0))
        if isinstance(node, Call):
            return np.asarray(node.primitive.function(arguments[0]))
        if isinstance(node, Spline):
            return np.asarray(node.basis(arguments[0]) @ (own if node.free else node.coefficients))
        assert isinstance(node, Lines)
        return np.where(np.isnan(arguments[0]), np.nan, np.interp(arguments[0], node.x, node.z))

    def _numbers(self, number: int, own: Floats) -> Floats:
        """Return coefficients and bias of a sum with new values of the free ones."""
        numbers, free = self._sums[number]
        numbers = numbers.copy()
        numbers[free] = own
        return numbers

    def cancelling(self, values: Sequence[Floats], constants: Floats) -> Floats:
        r"""Return for each free constant of a sum how much its term cancels against others, zero for other constants.

        .. math:: \frac{c_i^2 \langle t_i^2 \rangle}{\mathrm{var}(b + \sum_i c_i t_i)}

        over events, with t = 1 for the bias b: about 1 where a term is as large as the sum varies, and
        :math:`10^{2k}` where k digits of it are lost.
        """
        result = np.zeros(len(constants))
        with np.errstate(all="ignore"):
            for number, (_, free) in self._sums.items():
                if not len(free):
                    continue
                spread = values[number].var()
                if not spread > 0.0:
                    continue
                squares = np.array([*(np.square(values[place]).mean() for place in self.inputs[number]), 1.0])
                block = slice(self.offsets[number], self.offsets[number + 1])
                result[block] = np.square(constants[block]) * squares[free] / spread
        return result

    def safe(self, values: Sequence[Floats], constants: Floats, beyond: float) -> bool:
        """Return whether functions stay defined when their arguments go beyond those of the events.

        By the part `beyond` of their range; an argument without a shift keeps its sign, as energies and masses do.
        """
        for number, node in enumerate(self.nodes):
            if not isinstance(node, Call) or not np.isfinite(node.primitive.domain).any():
                continue
            place = self.inputs[number][0]
            argument, own = values[place], constants[self.offsets[place] : self.offsets[place + 1]]
            low, high = float(argument.min()), float(argument.max())
            step = beyond * (high - low)
            if place in self._sums and self._numbers(place, own)[-1] != 0.0:
                ends = low - step, high + step
            else:
                ends = (low - step if low <= 0.0 else 0.5 * low), (high + step if high >= 0.0 else 0.5 * high)
            if not node.primitive.allows(np.array(ends)):
                return False
        return True

    def outputs(self, values: Sequence[Floats]) -> Floats:
        """Return the outputs among the values, `(n, outputs)`."""
        return np.stack([values[place] for place in self._outputs], axis=1)

    def jacobian(self, values: Sequence[Floats], constants: Floats, output: int = 0) -> Floats:
        """Return the derivatives of one output by all constants, `(n, constants)`."""
        slopes: list[Floats | None] = [None] * len(self.nodes)
        slopes[self._outputs[output]] = np.ones(self.n)
        result = np.zeros((self.n, len(constants)))
        with np.errstate(all="ignore"):
            for number in range(self._outputs[output], -1, -1):
                slope = slopes[number]
                if slope is None or not self._moves[number]:
                    continue
                below = self.inputs[number]
                arguments = [values[place] for place in below]
                block = slice(self.offsets[number], self.offsets[number + 1])
                own = constants[block]
                if block.stop > block.start:
                    result[:, block] = slope[:, None] * self._own_derivative(number, arguments)
                needed = [self._moves[place] for place in below]
                if any(needed):
                    for place, factor in zip(below, self._derivatives(number, arguments, own), strict=True):
                        if self._moves[place]:
                            old = slopes[place]
                            slopes[place] = slope * factor if old is None else old + slope * factor
        return result

    def _own_derivative(self, number: int, arguments: list[Floats]) -> Floats:
        node = self.nodes[number]
        if isinstance(node, Sum):
            columns = [*arguments, np.ones(self.n)]
            return np.stack([columns[place] for place in self._sums[number][1]], axis=1)
        assert isinstance(node, Spline)
        return self._bases[number] if number in self._bases else node.basis(arguments[0])

    def _derivatives(self, number: int, arguments: list[Floats], own: Floats) -> Sequence[Floats | float]:
        node = self.nodes[number]
        if isinstance(node, Sum):
            return list(self._numbers(number, own)[:-1])
        if isinstance(node, Product):
            others = [arguments[:i] + arguments[i + 1 :] for i in range(len(arguments))]
            return [np.asarray(np.prod(rest, axis=0)) if rest else np.ones(self.n) for rest in others]
        if isinstance(node, Call):
            return [np.asarray(node.primitive.derivative(arguments[0]))]
        assert isinstance(node, Spline)
        return [np.asarray(node.slopes(arguments[0]) @ (own if node.free else node.coefficients))]


def evaluate(roots: Sequence[Expression], X: Floats) -> Floats:
    """Return the outputs of a graph for events, `(n, features)` to `(n, outputs)`."""
    program = Program(roots, X)
    return program.outputs(program.values(program.start))
