"""Formulas: NumPy's values, jagged columns, and nothing that is not arithmetic."""

import time

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepkan.data.expressions import Expression
from hepkan.errors import UsageError

N = 4
COLUMNS = {
    "x": np.array([1, 2, 3, 250], dtype=np.uint8),
    "y": np.array([0.5, np.nan, -2.0, 4.0]),
    "flag": np.array([True, False, True, False]),
    "process": np.array(["ttbar", "wjets", "ttbar", "qcd"]),
    "Muon.pt": np.array([1.0, 2.0, 3.0, 4.0]),
    "odd name": np.arange(4.0),
    "Jet_pt": ak.Array([[50.0, 30.0, 40.0], [], [20.0], [10.0, 60.0]]),
    "Jet_eta": ak.Array([[0.5, -3.0, 1.0], [], [2.0], [-1.0, 4.0]]),
    "Jet_id": ak.Array([[6, 2, 0], [], [3], [1, 2]]),
    "Jet_good": ak.Array([[True, False, True], [], [False], [True, True]]),
}
NAN = np.nan


def value(text: str) -> np.ndarray:
    return Expression(text).number(COLUMNS, N)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x * 200", [200, 400, 600, 50000]),  # no overflow of small integers
        ("2 ** 3 ** 2 + x // 2", [512, 513, 513, 637]),
        ("-y", [-0.5, NAN, 2, -4]),
        ("1 < x <= 3", [0, 1, 1, 0]),
        ("(x > 1) & (y > 0)", [0, 0, 0, 1]),
        ("x > 1 and not flag", [0, 1, 0, 1]),
        ("x & 2", [0, 2, 2, 2]),
        ("y if x > 1 else -1", [-1, NAN, -2, 4]),
        ("where(flag, x, 0)", [1, 0, 3, 0]),
        ('process == "ttbar"', [1, 0, 1, 0]),
        ('process not in ("ttbar", "qcd")', [0, 1, 0, 0]),
        ("Muon.pt + pi", np.arange(1, 5) + np.pi),
        ('col("odd name") * 2', [0, 2, 4, 6]),
        ("log(y)", [np.log(0.5), NAN, NAN, np.log(4)]),
        ("y / 0", [np.inf, NAN, -np.inf, np.inf]),
        ("hypot(x, 0) + maximum(y, 1)", [2, NAN, 4, 254]),
        ("clip(y, -1, 1)", [0.5, NAN, -1, 1]),
        ("delta_phi(3, -3)", [2 * np.pi - 6] * 4),
        ("flag + flag", [2, 0, 2, 0]),
        ("7", [7, 7, 7, 7]),
    ],
)
def test_flat_columns(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(value(text), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("len(Jet_pt)", [3, 0, 1, 2]),
        ("num(Jet_pt)", [3, 0, 1, 2]),
        ("Jet_pt[0]", [50, NAN, 20, 10]),
        ("Jet_pt[-1]", [40, NAN, 20, 60]),
        ("Jet_pt[2]", [40, NAN, NAN, NAN]),
        ("sum(Jet_pt)", [120, 0, 20, 70]),
        ("max(Jet_pt)", [50, NAN, 20, 60]),
        ("min(Jet_eta)", [-3, NAN, 2, -1]),
        ("mean(Jet_pt)", [40, NAN, 20, 35]),
        ("any(Jet_good)", [1, 0, 0, 1]),
        ("all(Jet_pt > 15)", [1, 1, 1, 0]),
        ("sum(Jet_pt[abs(Jet_eta) < 2.5])", [90, 0, 20, 10]),
        ("Jet_pt[Jet_good][1]", [40, NAN, NAN, 60]),
        ("Jet_eta[argmax(Jet_pt)]", [0.5, NAN, 2, 4]),
        ("Jet_pt[x - 1]", [50, NAN, NAN, NAN]),
        ("sum(Jet_pt[:2])", [80, 0, 20, 70]),
        ("sum((Jet_id & 2) != 0)", [2, 0, 1, 1]),
        ("sum(where(Jet_good, Jet_pt, 0))", [90, 0, 0, 70]),
        ("max(Jet_pt * cosh(Jet_eta))", [max(50 * np.cosh(0.5), 30 * np.cosh(3), 40 * np.cosh(1)), NAN,
                                         20 * np.cosh(2), 60 * np.cosh(4)]),
        ("max(max(Jet_pt), Muon.pt)", [50, NAN, 20, 60]),
    ],
)
def test_jagged_columns(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(value(text), expected)


def test_columns_are_those_of_the_formula_and_undefined_is_no_condition() -> None:
    assert Expression("hypot(a.b, c) + col('d e') * pi").columns == ("a.b", "c", "d e")
    np.testing.assert_array_equal(Expression("y > 0").condition(COLUMNS, N), [True, False, False, True])
    np.testing.assert_array_equal(Expression("y").condition(COLUMNS, N), [True, False, True, True])


HOSTILE = [
    "__import__('os').system('true')",
    "open('x')",
    "x.tofile('/tmp/file')",
    "x.__class__.__mro__",
    "().__class__",
    "(1).real",
    "sum(x).real",
    "lambda: 1",
    "[x for x in (1, 2)]",
    "{1: 2}",
    "x := 1",
    "f'{x}'",
    "eval('1')",
    "exec",
    "globals()",
    "col(x)",
    "col('x', 'y')",
    "sum(*x)",
    "sum(a=x)",
    "x @ y",
    "x is y",
    "x << 2",
    "Jet_pt[::0]",
    "Jet_pt[0:1:1]",
    "Jet_pt[1:x]",
    "Jet_pt[99999999999999999999]",
    "Jet_pt['a']",
    "x[0]",
    "Jet_pt",
    "len(x)",
    "process + 1",
    "process > 'a'",
    "process == 1",
    "'a' * 100000000",
    "x > 1 & y < 2",
    "x > 1 & flag",
    "y & 1.5",
    "x in 3",
    "x == (1, 2)",
    "1j",
    "None",
    "...",
    "b'a'",
    "yield x",
    "await x",
    "x if",
    "x;y",
    "x\ny",
    "import os",
    "x\0",
    "",
    " ",
    "#",
    "unknown + 1",
    "-" * 1500 + "x",
    "(" * 500 + "x" + ")" * 500,
    "x" + "+x" * 3000,
    "9" * 1900,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_everything_else_is_refused_in_words(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(UsageError) as error:
        Expression(text).number(COLUMNS, N)
    assert len(str(error.value)) > 20
    assert time.monotonic() - start < 5


def test_powers_of_whole_numbers_do_not_grow() -> None:
    start = time.monotonic()
    assert np.isinf(value("9 ** 9 ** 9 ** 9")).all()
    assert time.monotonic() - start < 1


def test_names_get_suggestions() -> None:
    with pytest.raises(UsageError, match="Did you mean 'sqrt'"):
        Expression("sqrd(x)")
    with pytest.raises(UsageError, match="Did you mean 'Jet_pt'"):
        value("sum(Jet_pT)")


@given(st.text(alphabet="xy01.+-*/()[]<>=&|~'\"_ ,:abcdefsum\\\n{}", max_size=40))
def test_any_text_is_a_number_or_a_usage_error(text: str) -> None:
    try:
        result = Expression(text).number(COLUMNS, N)
    except UsageError:
        return
    assert result.shape == (N,)


@given(st.integers(0, 4), st.integers(-5, 5))
def test_picking_an_object_is_indexing_a_list(event: int, index: int) -> None:
    lists = [[1.0, 2.0, 3.0], [], [4.0], [5.0, 6.0], [7.0]]
    found = Expression(f"a[{index}]").number({"a": ak.Array(lists)}, 5)[event]
    try:
        expected = lists[event][index]
    except IndexError:
        expected = NAN
    np.testing.assert_equal(found, expected)
