"""Formulae for other people's software and papers: ROOT, NumPy, SymPy, LaTeX and C++.

A formula is no copy of the network, so two things are checked before anything is written: that the text, read back, has
the values of the formula, and that the formula follows the network it came from on the events given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from torch import Tensor

from hepkan.errors import DataError, UsageError, unknown
from hepkan.export.cpp_header import namespace_of
from hepkan.export.formula_header import header, header_values
from hepkan.export.text_values import SYMPY, cpp_values, python_values
from hepkan.export.verification import Export, writing

if TYPE_CHECKING:
    from hepkan.interpret.expression import Expression
    from hepkan.interpret.formula import Formula

Floats = NDArray[np.float64]

TOLERANCE = 1e-9
ROUNDED = 1e-3
"""What the rounded numbers of LaTeX may change, in units of the output's spread."""
FIDELITY = 0.9
DIGITS = range(4, 18)
STYLES: Mapping[str, str] = {
    "root": ".txt",
    "define": ".define",
    "latex": ".tex",
    "numpy": ".py",
    "sympy": ".sympy",
    "cpp": ".hpp",
}
"""Styles and the ending by which a file's name chooses one."""
EVENTS = 256
MISSING = 3


@dataclass(frozen=True, kw_only=True)
class FormulaExport(Export):
    """What was written.

    `difference` is that of the text to the formula, and `fidelity` says how well the formula follows its network on the
    events given; None without a network. In a classification it is the rank correlation of the scores, the lowest over
    the classes: a formula fitted to labels may be calibrated better than its network, and what counts is the order of
    the events. In a regression it is one minus the mean squared difference over the variance.
    """

    style: str
    fidelity: float | None


def formula(
    formula: Formula,
    path: str | Path,
    X: ArrayLike | Tensor | None = None,
    *,
    style: str | None = None,
    network: Callable[[Floats], ArrayLike] | None = None,
    fidelity: float = FIDELITY,
) -> FormulaExport:
    """Write a formula as text.

    Styles: `root` (x[0], x[1], ... for TFormula), `define` (names of features, for `RDataFrame.Define`), `latex`,
    `numpy` (a Python module with one function), `sympy` and `cpp` (a C++17 header with the interface of
    `hepkan.export.cpp`). LaTeX and SymPy are the output before the link, one line for each, the others predictions.
    LaTeX has as many digits as change it by less than `ROUNDED` of its spread.

    Arguments:
        formula: as from `hepkan.symbolic`.
        path: the file; replaced only by a text that has the values of the formula.
        X: events for the comparison `(n, features)`, best real ones; others are drawn near them.
        style: a name in `STYLES`; by the file's ending when not given.
        network: the predictions it came from, `(n, features)` to `(n,)` or `(n, outputs)`; needs X.
        fidelity: the least `FormulaExport.fidelity` that is written, -1 for anything in a classification.

    Raises:
        UsageError: an unknown style, one that cannot say this formula, or X does not fit.
        DataError: text and formula differ, the formula does not follow the network or is not defined, or the file
            cannot be written.
    """
    target = Path(path)
    style = _style(target) if style is None else style
    if style not in STYLES:
        raise unknown("style of formulae", style, STYLES)
    given, events = _events(formula, X)
    followed = None if network is None else _fidelity(formula, given, network, fidelity, target)
    text, values, tolerance = _WRITERS[style](formula, target, events)
    before = style in ("latex", "sympy")
    expected = formula.outputs(events) if before else np.asarray(formula.predict(events)).reshape(len(events), -1)
    difference = _difference(values, expected, tolerance, f"The {style} text", target)
    with writing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return FormulaExport(
        path=target, events=len(events), difference=difference, tolerance=tolerance, style=style, fidelity=followed
    )


def _style(path: Path) -> str:
    """Return the style that a file's ending chooses."""
    endings = {ending: style for style, ending in STYLES.items()} | {".h": "cpp"}
    if path.suffix not in endings:
        raise UsageError(
            f"The style of a formula must be given, however {path.name} does not end in one of: {', '.join(endings)}."
        )
    return endings[path.suffix]


def _events(formula: Formula, X: ArrayLike | Tensor | None) -> tuple[Floats, Floats]:
    """Return the events given, and these with drawn ones, of which the last have a NaN in what the formula uses."""
    generator = np.random.default_rng(0)
    if X is None:
        given, drawn = np.empty((0, formula.n_features)), generator.normal(size=(EVENTS, formula.n_features))
        drawn[:, list(formula.positive)] = np.abs(drawn[:, list(formula.positive)]) if formula.positive else 0.0
    else:
        try:
            given = np.asarray(X.detach().cpu() if isinstance(X, Tensor) else X, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"X needs numbers, however it cannot be read as such ({error}).") from error
        if given.ndim != 2 or given.shape[1] != formula.n_features:
            raise UsageError(f"X needs the shape (n, {formula.n_features}), however it has {given.shape}.")
        given = given[np.isfinite(given).all(axis=1)]
        if not len(given):
            raise DataError("X needs events with finite features, however there are none.")
        # Every feature from an event of its own: combinations that no event has, over the range that there is.
        rows = generator.integers(len(given), size=(EVENTS, formula.n_features))
        drawn = given[rows, np.arange(formula.n_features)]
    used = [formula.names.index(name) for name in formula.used]
    for row in range(MISSING if used else 0):
        drawn[-1 - row, used[row % len(used)]] = np.nan
    return given, np.concatenate([given, drawn])


def _fidelity(
    formula: Formula, X: Floats, network: Callable[[Floats], ArrayLike], least: float, path: Path
) -> float:
    """Return how well the formula follows its network on the events given."""
    if not len(X):
        raise UsageError("A comparison with the network needs events X, however none are given.")
    wanted = np.asarray(network(X), dtype=np.float64).reshape(len(X), -1)
    found = np.asarray(formula.predict(X)).reshape(len(X), -1)
    undefined = int((~np.isfinite(found)).any(axis=1).sum())
    if undefined:
        raise DataError(
            f"A formula must be defined where the network is, however it is not for {undefined} of {len(X)} events. "
            f"{path} was not written."
        )
    if formula.link == "identity":
        spread = float(np.square(wanted - wanted.mean(axis=0)).sum())
        result = 1.0 - float(np.square(found - wanted).sum()) / max(spread, 1e-300)
    else:
        result = min(_rank_correlation(*pair) for pair in zip(found.T, wanted.T, strict=True))
    if not result >= least:
        raise DataError(
            f"The formula must follow the network to a fidelity of {least:g} (at most 1), however it reaches "
            f"{result:.4f} on {len(X)} events. {path} was not written. Make a closer one with hepkan symbolic "
            "--tolerance, or accept this one with --fidelity."
        )
    return result


def _rank_correlation(one: Floats, other: Floats) -> float:
    """Return Spearman's correlation, 0 where one of both is constant."""
    ranks = [rankdata(values) for values in (one, other)]
    if min(np.ptp(rank) for rank in ranks) == 0.0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _difference(found: Floats, expected: Floats, tolerance: float, kind: str, path: Path) -> float:
    """Return the largest difference of a text to its formula, in units of the spread and size of the output."""
    usable = np.isfinite(expected).all(axis=1)
    if not usable.any():
        raise DataError(f"The formula is not defined for any of {len(expected)} events: {path} was not written.")
    if bool(np.isfinite(found[np.isnan(expected).all(axis=1)]).any()):
        raise DataError(f"{kind} must give NaN where the formula does, however it does not. {path} was not written.")
    good = expected[usable]
    unit = np.abs(good - np.median(good, axis=0)) + good.std(axis=0) + 1e-300
    constant = np.ptp(good, axis=0) == 0.0
    unit = np.where(constant, np.maximum(np.abs(good), 1.0), unit)
    with np.errstate(invalid="ignore"):
        gap = np.abs(found[usable] - good) / unit
    difference = float(np.max(np.where(np.isnan(gap), np.inf, gap)))
    if not difference <= tolerance:
        raise DataError(
            f"{kind} must agree with the formula to {tolerance:g} of its spread, however it differs by "
            f"{difference:.3g} on {int(usable.sum())} events. {path} was not written."
        )
    return difference


def _columns(formula: Formula, events: Floats, names: list[str] | None = None) -> dict[str, Floats]:
    return dict(zip(names or formula.names, events.T, strict=True))


def _root(formula: Formula, path: Path, events: Floats) -> tuple[str, Floats, float]:
    lines = [formula.root(output) for output in range(len(formula.roots))]
    values = np.stack([cpp_values(line, {}, events) for line in lines], axis=1)
    return "\n".join(lines) + "\n", values, TOLERANCE


def _define(formula: Formula, path: Path, events: Floats) -> tuple[str, Floats, float]:
    lines = [formula.define(output) for output in range(len(formula.roots))]
    columns = _columns(formula, events)
    values = np.stack([cpp_values(line, columns, events) for line in lines], axis=1)
    return "\n".join(lines) + "\n", values, TOLERANCE


def _numpy(formula: Formula, path: Path, events: Floats) -> tuple[str, Floats, float]:
    from hepkan.interpret.text import symbol_names

    text = formula.numpy()
    found = python_values(text, _columns(formula, events, symbol_names(formula.names)))
    return text, _shaped(found, events, len(formula.roots)), TOLERANCE


def _sympy(formula: Formula, path: Path, events: Floats) -> tuple[str, Floats, float]:
    from hepkan.interpret.expression import splines_of
    from hepkan.interpret.text import symbol_names

    splines = splines_of(formula.roots)
    if any(splines_of(list(spline.arguments())) for spline in splines):
        raise UsageError(
            "SymPy writes the argument of a spline out in every piece, however this formula has splines of splines. "
            "Take the style numpy, root or cpp."
        )
    lines = [str(formula.sympy(output)) for output in range(len(formula.roots))]
    columns = _columns(formula, events, symbol_names(formula.names))
    values = np.stack([_shaped(python_values(line, columns), events, 1)[:, 0] for line in lines], axis=1)
    return "\n".join(lines) + "\n", values, TOLERANCE


def _latex(formula: Formula, path: Path, events: Floats) -> tuple[str, Floats, float]:
    """Return LaTeX with enough digits, and the values that these digits give; splines keep their values."""
    from hepkan.interpret.formula import rounded_text
    from hepkan.interpret.text import symbol_names

    columns = _columns(formula, events, symbol_names(formula.names))
    expected = formula.outputs(events)
    for digits in DIGITS:
        parts = []
        for output, root in enumerate(formula.roots):
            text = rounded_text(formula.sympy(output, pieces=False), digits)
            parts.append(_shaped(python_values(text, columns, {**SYMPY, **_splines(root)}), events, 1)[:, 0])
        values = np.stack(parts, axis=1)
        try:
            _difference(values, expected, ROUNDED, "LaTeX", path)
        except DataError:
            if digits == DIGITS[-1]:
                raise
            continue
        break
    lines = [formula.latex(output, digits) for output in range(len(formula.roots))]
    return "\n".join(lines) + "\n", values, ROUNDED


def _splines(root: Expression) -> dict[str, Callable[[Floats], Floats]]:
    """Return the splines that SymPy and LaTeX call s_1, s_2, ... as functions."""
    from hepkan.interpret.expression import Lines, Spline, ordered
    from hepkan.interpret.text import polynomials_of

    def function(node: Expression) -> Callable[[Floats], Floats]:
        breaks, polynomials = polynomials_of(node)
        anchors = np.concatenate([breaks[:1], breaks])[: len(polynomials)]

        def value(x: Floats) -> Floats:
            cell = np.searchsorted(breaks, x, side="right")
            powers = (x - anchors[cell])[..., None] ** np.arange(polynomials.shape[1])
            result: Floats = (polynomials[cell] * powers).sum(axis=-1) + 0.0 * x
            return result

        return value

    nodes = [node for node in ordered([root]) if isinstance(node, Spline | Lines)]
    return {f"s_{number}": function(node) for number, node in enumerate(nodes, 1)}


def _shaped(values: Floats, events: Floats, outputs: int) -> Floats:
    """Return values as `(n, outputs)`; a constant formula gives one number for all events."""
    if outputs == 1 and values.ndim < 2:
        return np.broadcast_to(values, (len(events),)).reshape(-1, 1).copy()
    return np.broadcast_to(values, (len(events), outputs)).copy()


def _cpp(formula: Formula, path: Path, events: Floats) -> tuple[str, Floats, float]:
    text = header(formula, namespace_of(path.stem))
    return text, header_values(text, events), TOLERANCE


_WRITERS: Mapping[str, Callable[[Formula, Path, Floats], tuple[str, Floats, float]]] = {
    "root": _root,
    "define": _define,
    "latex": _latex,
    "numpy": _numpy,
    "sympy": _sympy,
    "cpp": _cpp,
}
