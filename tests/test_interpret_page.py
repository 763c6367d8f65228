"""The page on formulae says what the scripts in `benchmarks/` have measured."""

from __future__ import annotations

import re

import formula_page
import numpy as np
import pytest
import sympy
from sklearn.metrics import roc_auc_score

import hepkan

PAGE = formula_page.PAGE.read_text(encoding="utf-8")
PARTS = formula_page.parts()


@pytest.mark.parametrize("part", PARTS)
def test_page_says_what_was_measured(part: str) -> None:
    found = re.search(rf"<!-- {part} -->\n(.*?)\n<!-- /{part} -->", PAGE, re.DOTALL)
    assert found is not None
    assert found[1] == PARTS[part]


def test_readme_says_what_was_measured() -> None:
    text = (formula_page.ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- formulae -->\n{formula_page.found_again()}\n<!-- /formulae -->" in text


def test_pruning_was_measured_on_five_seeds() -> None:
    content = formula_page.read(formula_page.pruning.RESULT)
    assert [one["seed"] for one in content["seeds"]] == [0, 1, 2, 3, 4]
    assert all(len(one["networks"]["few"]["inputs"]) <= 10 for one in content["seeds"])


def test_a_one_layer_network_converges_to_likelihood_ratios() -> None:
    content = formula_page.read(formula_page.likelihood_ratios.RESULT)
    errors = [row["kan"][0] for row in content["rows"]]
    assert errors == sorted(errors, reverse=True) and content["slope"] < -0.3
    assert all(row["kan"][0] < row["histograms"][0] for row in content["rows"])


def test_the_printed_formula_separates_the_sample_in_the_package() -> None:
    text = formula_page.parts()["formula"].strip("`").removeprefix("text")
    found = sympy.sympify(text.replace("\n", " "))
    table = hepkan.get_task("multijet").table()
    symbols = sorted(found.free_symbols, key=str)
    columns = [table.X[:, table.names.index(str(symbol))].astype(np.float64) for symbol in symbols]
    log_odds = sympy.lambdify(symbols, found, "numpy")(*columns)
    assert roc_auc_score(table.y, log_odds, sample_weight=table.weight) > 0.95
