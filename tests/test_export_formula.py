"""Texts of formulae: read back by a grammar of their own, equal to the formula, or not written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import hepkan
from export_cases import COMPILER, Library, gap
from hepkan.errors import DataError, UsageError
from hepkan.export import formula as write
from hepkan.export.formula_text import STYLES
from hepkan.export.text_values import cpp_values, python_values
from hepkan.interpret.expression import Call, Input, Product, Sum
from hepkan.interpret.extraction import as_formula
from hepkan.interpret.formula import Formula
from hepkan.interpret.primitives import PRIMITIVES, SILU, Primitive

ALL = [*PRIMITIVES.values(), SILU]


def formula_of(primitive: Primitive, link: str = "identity") -> tuple[Formula, np.ndarray]:
    """Return a formula with a primitive and events inside its domain."""
    low, high = (max(-2.0, primitive.domain[0]), min(2.0, primitive.domain[1]))
    X = np.random.default_rng(0).uniform(low + 0.01, high - 0.01, (60, 2))
    inner = Call(primitive, Input(0))
    root = Sum((Product((inner, Input(1))), inner), (1.5, -math.pi), 0.25)
    return Formula((root,), ("m_lb", "pt"), link), X


def network(widths: list[int], link: str, names: list[str]) -> tuple[Formula, np.ndarray, hepkan.KAN]:
    """Return a network of splines as a formula, with events and the network."""
    X = (2.0 * np.random.default_rng(1).normal(size=(300, widths[0]))).astype(np.float32)
    model = hepkan.KAN(widths, grid=3, seed=5)
    model.fit_inputs(X)
    model.link = link
    return as_formula(model, names), X, model


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("primitive", ALL, ids=lambda one: one.name)
def test_every_primitive_in_every_style(primitive: Primitive, style: str, tmp_path: Path) -> None:
    formula, X = formula_of(primitive, "sigmoid")
    done = write(formula, tmp_path / "f", X, style=style)
    assert done.difference <= done.tolerance <= 1e-3
    assert done.fidelity is None
    assert done.events > len(X)


@pytest.mark.parametrize("link, widths", [("sigmoid", [2, 2, 1]), ("identity", [2, 1]), ("softmax", [2, 2, 3])])
@pytest.mark.parametrize("style", STYLES)
def test_networks_of_splines(style: str, link: str, widths: list[int], tmp_path: Path) -> None:
    formula, X, model = network(widths, link, ["t1", "u"])  # names that texts might want for themselves
    if style == "sympy" or (style in ("root", "define") and link == "softmax"):
        with pytest.raises(UsageError, match="numpy"):
            write(formula, tmp_path / "f", X, style=style)
        return
    done = write(formula, tmp_path / "f", X, style=style, network=model.predict)
    assert done.difference <= done.tolerance
    assert done.fidelity is not None and done.fidelity > 0.999999


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("link, outputs", [("sigmoid", 1), ("identity", 2), ("softmax", 3)])
def test_headers_of_formulae_compile_and_agree(link: str, outputs: int, tmp_path: Path) -> None:
    formula, X, _ = network([2, 2, outputs], link, ["pt", 'quoted "eta"'])
    hepkan.export.cpp(formula, tmp_path / "f.hpp", X)
    library = Library([tmp_path / "f.hpp"], tmp_path)
    wanted = formula.predict(X).reshape(len(X), -1)
    assert gap(library.batch(0, X, outputs, np.float64), wanted) < 1e-10
    assert gap(library.batch(0, X, outputs, np.float32), wanted) < 1e-5
    nothing = np.full((1, 2), np.nan, dtype=np.float32)
    assert np.isnan(library.batch(0, nothing, outputs, np.float64)).all()


def test_latex_has_as_many_digits_as_it_needs(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(100, 1))
    smooth = Formula((Sum((Input(0),), (1.23456789,), 0.5),), ("x",))
    write(smooth, tmp_path / "smooth.tex", X)
    assert "1.235" in (tmp_path / "smooth.tex").read_text()
    steep = Formula((Sum((Input(0),), (1234.56789,), -123456.789),), ("x",))  # large numbers that nearly cancel
    write(steep, tmp_path / "steep.tex", X + 100.0)
    assert "1234.57" in (tmp_path / "steep.tex").read_text()


def test_define_needs_names_of_cpp(tmp_path: Path) -> None:
    formula = Formula((Sum((Input(0),), (2.0,), 0.0),), ("jet pt",))
    with pytest.raises(UsageError, match=r"'jet pt'.*root\(\)"):
        write(formula, tmp_path / "f.define")
    assert not (tmp_path / "f.define").exists()


def test_a_number_lost_in_the_text_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formula, X = formula_of(PRIMITIVES["exp"])
    for style, method in (("root", "root"), ("define", "define"), ("numpy", "numpy")):
        right = getattr(Formula, method)
        monkeypatch.setattr(Formula, method, lambda self, *a, right=right: right(self, *a).replace("1.5", "1.4999"))
        with pytest.raises(DataError, match=r"agree with the formula to 1e-09.*was not written"):
            write(formula, tmp_path / "f", X, style=style)
    assert not list(tmp_path.iterdir())


def test_a_formula_that_is_not_defined_is_refused(tmp_path: Path) -> None:
    formula, X = formula_of(PRIMITIVES["log"])
    with pytest.raises(DataError, match=r"not for 1 of 60 events"):
        write(formula, tmp_path / "f.txt", np.where(np.arange(60)[:, None] == 0, -1.0, X), network=lambda x: x[:, 0])
    with pytest.raises(DataError, match="not defined for any"):
        write(formula, tmp_path / "f.txt", -np.abs(X))
    with pytest.raises(UsageError, match=r"needs the shape \(n, 2\)"):
        write(formula, tmp_path / "f.txt", X[:, :1])
    with pytest.raises(DataError, match="finite features"):
        write(formula, tmp_path / "f.txt", X * np.nan)
    assert not list(tmp_path.iterdir())


def test_a_user_defined_function_cannot_be_checked(tmp_path: Path) -> None:
    bessel = Primitive(name="bessel", function=np.sin, derivative=np.cos, sympy=lambda u: u, numpy="special.j0({})",
                       root="TMath::BesselJ0({})", latex="J_0({})")  # fmt: skip
    formula = Formula((Call(bessel, Input(0)),), ("x",))
    for style in ("root", "numpy"):
        with pytest.raises(DataError, match="formula"):
            write(formula, tmp_path / "f", style=style)


@pytest.mark.parametrize(
    "text", ["", "1 +", "x[0", "exp(", "exp(1", "system(1)", "1 2", "x[0]; y", "a", "1 ? 2", "`1`"]
)
def test_what_is_no_formula_in_cpp_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="text of a formula"):
        cpp_values(text, {}, np.ones((3, 1)))


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "x.y", "__import__('os')", "open('f')", "np.load('f')", "[i for i in x]", "lambda: 1", "x if x else 1",
     "y", "x[0](1)", "import os", "().__class__", "x := 1", "np.exp.__self__", "f'{x}'"],
)  # fmt: skip
def test_what_is_no_formula_in_python_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="text of a formula"):
        python_values(text, {"x": np.ones(3)})


def test_precedence_and_conditions() -> None:
    x = np.array([[0.5, 2.0], [3.0, -1.0]])
    text = "-x[0] * 2.0 + 3.0 / x[1] - (x[0] < 1.0 ? pow(x[1], 2) : x[1] > 0.0 ? 1e-1 : -7.5e+0)"
    found = cpp_values(text, {}, x)
    wanted = -x[:, 0] * 2 + 3 / x[:, 1] - np.where(x[:, 0] < 1, x[:, 1] ** 2, np.where(x[:, 1] > 0, 0.1, -7.5))
    np.testing.assert_allclose(found, wanted)
    assert cpp_values("const double t0 = 2.0 * pt; return t0 - 1.0;", {"pt": x[:, 0]}, x).tolist() == [0.0, 5.0]
