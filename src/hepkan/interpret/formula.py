"""A formula: what a network, or data, came down to, in every form in which it is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.files import write_text
from hepkan.interpret import text
from hepkan.interpret.evaluation import evaluate
from hepkan.interpret.expression import Expression, Input, complexity, from_list, ordered, splines_of, to_list
from hepkan.interpret.primitives import Primitive

Floats = NDArray[np.float64]

FORMAT = 1
_CHUNK = 65536


@dataclass(frozen=True)
class Row:
    """A row of the front of complexity against loss.

    Attributes:
        complexity: cost of the formula, or of the network.
        loss: its loss on the events of the fit.
        splines: functions that are no formula.
        text: the formula, or what the row is.
    """

    complexity: int
    loss: float
    splines: int
    text: str


@dataclass(frozen=True, eq=False)
class Formula:
    """A function of raw features, equal in all its forms.

    Attributes:
        roots: the outputs before the link, as graphs.
        names: of the raw features, all of them.
        link: `identity`, `sigmoid` or `softmax`, which turns outputs into predictions.
        positive: which features were positive in all events.
        table: complexity against loss, the spline network first as the reference.
        loss: the loss on the events of the fit.
        loss_name: which loss that is; `fidelity` is the mean squared difference to the network.
    """

    roots: tuple[Expression, ...]
    names: tuple[str, ...]
    link: str = "identity"
    positive: tuple[bool, ...] = ()
    table: tuple[Row, ...] = ()
    loss: float = float("nan")
    loss_name: str = "mse"

    @property
    def n_features(self) -> int:
        """Number of raw features that `predict` takes."""
        return len(self.names)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the features that the formula depends on."""
        columns = {node.column for node in ordered(self.roots) if isinstance(node, Input)}
        return tuple(self.names[column] for column in sorted(columns))

    @property
    def complexity(self) -> int:
        """Cost of all its functions, terms and constants."""
        return complexity(self.roots)

    @property
    def n_splines(self) -> int:
        """Functions that are no formula but piecewise polynomials."""
        return len(splines_of(self.roots))

    def outputs(self, X: ArrayLike | Tensor) -> Floats:
        """Return the outputs before the link, `(n, features)` to `(n, outputs)`, in float64.

        Raises:
            UsageError: X does not have the features of the formula.
        """
        x = np.asarray(X.detach().cpu().numpy() if isinstance(X, Tensor) else X, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise UsageError(f"X needs the shape (n, {self.n_features}), however it has {x.shape}.")
        parts = [evaluate(self.roots, x[start : start + _CHUNK]) for start in range(0, max(1, len(x)), _CHUNK)]
        result = np.concatenate(parts)
        result[np.isnan(x).any(axis=1)] = np.nan
        return result

    def predict(self, X: ArrayLike | Tensor) -> Floats:
        """Return predictions: after the link, `(n,)` for one output, else `(n, outputs)`; NaN where it is not defined.

        Raises:
            UsageError: X does not have the features of the formula.
        """
        y = self.outputs(X)
        if self.link == "sigmoid":
            y = expit(y)
        elif self.link == "softmax":
            y = softmax(y, axis=1)
        return y[:, 0] if y.shape[1] == 1 else y

    def __call__(self, X: ArrayLike | Tensor) -> Floats:
        """Return `predict(X)`."""
        return self.predict(X)

    def sympy(self, output: int = 0, *, pieces: bool = True) -> sympy.Expr:
        """Return an output before the link as a SymPy expression of symbols with the features' names.

        Splines are exact `Piecewise` polynomials, or functions s_1, s_2, ... without `pieces`, which a formula with
        splines of hidden values needs: SymPy writes the argument out in every piece. Known constants are exact numbers.
        """
        positive = self.positive or (False,) * self.n_features
        names = text.symbol_names(self.names)
        return text.to_sympy(self.roots[output], names, positive, pieces=pieces)

    def latex(self, output: int = 0, digits: int = 4) -> str:
        """Return an output before the link as LaTeX, numbers with some digits, splines as named functions."""
        expression = self.sympy(output, pieces=False)
        numbers = {one: sympy.Float(one, digits) for one in expression.atoms(sympy.Float)}
        return str(sympy.latex(expression.xreplace(numbers)))

    def numpy(self) -> str:
        """Return the text of a Python function `formula(...)` of the features used, link included; it needs NumPy."""
        return text.to_numpy(self.roots, text.symbol_names(self.names), self.link)

    def root(self, output: int = 0) -> str:
        """Return text for ROOT's TFormula: C++ of x[0], x[1], ... in the order of `names`.

        A sigmoid is part of it; splines and long formulae make it a lambda, for `TFormula f("f", text, features, 0)`.

        Raises:
            UsageError: the link is `softmax`, whose outputs need each other.
        """
        if self.link == "softmax":
            raise UsageError("ROOT's text is one number, however the formula has classes. Take numpy() instead.")
        return text.to_root(self.roots[output], self.link)

    def define(self, output: int = 0) -> str:
        """Return text for ROOT's `RDataFrame.Define`: C++ of the features' names, a sigmoid included.

        Raises:
            UsageError: the link is `softmax`, or a feature has a name that C++ does not allow.
        """
        if self.link == "softmax":
            raise UsageError("ROOT's text is one number, however the formula has classes. Take numpy() instead.")
        wrong = [name for name in self.used if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)]
        if wrong:
            raise UsageError(f"Define needs features with names that C++ allows, however: {wrong[0]!r}. Take root().")
        return text.to_define(self.roots[output], self.names, self.link)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able data."""
        return {
            "format": FORMAT,
            **to_list(self.roots),
            "names": list(self.names),
            "link": self.link,
            "positive": list(self.positive),
            "table": [vars(row) for row in self.table],
            "loss": self.loss,
            "loss_name": self.loss_name,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], primitives: Sequence[Primitive] = ()) -> Formula:
        """Return the formula that `to_dict` described; user-defined primitives have to be given again.

        Raises:
            DataError: the description is damaged or of a newer format.
        """
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            raise DataError(f"A formula needs the format {FORMAT}, however this one has another. Upgrade hepkan.")
        roots = from_list(content, {primitive.name: primitive for primitive in primitives})
        try:
            return cls(
                roots,
                tuple(str(name) for name in content["names"]),
                str(content["link"]),
                tuple(bool(one) for one in content["positive"]),
                tuple(Row(**row) for row in content["table"]),
                float(content["loss"]),
                str(content["loss_name"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"A formula must be complete, however: {type(error).__name__} {error}.") from error

    def save(self, path: str | Path) -> None:
        """Write the formula as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        write_text(path, json.dumps(self.to_dict()))

    @classmethod
    def load(cls, path: str | Path, primitives: Sequence[Primitive] = ()) -> Formula:
        """Read what `save` wrote.

        Raises:
            DataError: the file is no formula.
            OSError: the file cannot be read.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} must be a formula in JSON, however it cannot be read ({error}).") from error
        return cls.from_dict(content, primitives)

    def __str__(self) -> str:
        parts = [str(rounded_text(self.sympy(output, pieces=False))) for output in range(len(self.roots))]
        return parts[0] if len(parts) == 1 else "(" + ", ".join(parts) + ")"


def rounded_text(expression: sympy.Expr, digits: int = 4) -> str:
    """Return an expression as text with some digits."""
    return str(expression.xreplace({one: sympy.Float(one, digits) for one in expression.atoms(sympy.Float)}))
