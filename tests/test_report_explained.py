"""The network, what pruning left of it and the formula, on the page of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import hepkan
from hepkan.errors import DataError
from hepkan.report.explained import explained
from hepkan.report.html import write_page
from hepkan.report.mathml import formula_markup
from hepkan.report.reading import read_run
from test_report import Document, build_run, events

BOTH = {"difference": [-0.01, 0.002]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a KAN as its main model, a pruned network and a formula."""
    folder = build_run(tmp_path_factory.mktemp("explained") / "run", rows=600, models={"kan": 1})
    shutil.copy(folder / "members" / "kan-seed0" / "model.hepkan", folder / "model.hepkan")
    pruned = folder / "pruned"
    pruned.mkdir()
    (pruned / "diagram.svg").write_text('<svg width="144pt" height="72pt" xmlns="http://www.w3.org/2000/svg"></svg>')
    sizes = {"before": {"inputs": list("abcde"), "edges": 18}, "after": {"inputs": ["w_mt", "ljet_eta"], "edges": 4}}
    auc = {"before": [0.95, 0.004], "after": [0.94, 0.004], **BOTH}
    (pruned / "report.json").write_text(json.dumps({**sizes, "test": {"auc": auc}}))
    symbolic = folder / "symbolic"
    symbolic.mkdir()
    columns = events(1, 600)
    X = np.column_stack([columns[name] for name in ("w_mt", "lep_charge")])
    y = np.log(X[:, 0]) - 2.0 * X[:, 1]
    formula = hepkan.symbolic(hepkan.KAN([2, 1]), X, y, names=["w_mt", "lep_charge"])
    formula.save(symbolic / "formula.json")
    test = {"undefined": 0, "events": 600, "auc": {"run": [0.95, 0.004], "formula": [0.94, 0.004], **BOTH}}
    content = {"complexity": 7, "splines": 0, "inputs": ["w_mt", "lep_charge"], "formula": str(formula), "test": test}
    (symbolic / "report.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def run(source: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(source, tmp_path / "run"))


def test_the_page_shows_network_pruned_network_and_formula(run: Path) -> None:
    text = write_page(run).read_text(encoding="utf-8")
    page = Document(text)
    words = " ".join("".join(page.text).split())
    assert "Pruned from 5 inputs and 18 edges to 2 inputs and 4 edges. Inputs kept: w_mt, ljet_eta." in words
    assert "Test AUC: 0.9500 ± 0.0040 → 0.9400 ± 0.0040, difference −0.0100 ± 0.0020." in words
    assert {"network", "pruned", "formula"} <= set(page.all("id"))
    assert sum(tag == "math" for tag, _ in page.tags) == 1
    assert (run / "plots" / "network.svg").is_file() and (run / "plots" / "pruned-diagram.svg").is_file()


def test_a_run_without_a_kan_has_no_such_sections(run: Path) -> None:
    for name in ("pruned", "symbolic"):
        shutil.rmtree(run / name)
    (run / "model.hepkan").unlink()
    assert list(explained(read_run(run))) == []


@pytest.mark.parametrize("folder", ["pruned", "symbolic"])
@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"test": {}}'])
def test_damaged_reports_are_named_with_the_command_that_mends_them(run: Path, folder: str, content: str) -> None:
    (run / folder / "report.json").write_text(content)
    command = {"pruned": "prune", "symbolic": "symbolic"}[folder]
    with pytest.raises(DataError, match=f"report.json is damaged .*: hepkan {command} "):
        list(explained(read_run(run)))


def test_a_picture_of_something_else_is_refused(run: Path) -> None:
    (run / "pruned" / "diagram.svg").write_text("<svg/>")
    with pytest.raises(DataError, match=r"diagram\.svg must be a picture of hepkan's"):
        list(explained(read_run(run)))


def test_terms_of_a_formula_stand_on_lines_of_their_own_and_numbers_are_short(run: Path) -> None:
    markup = formula_markup(run / "symbolic" / "formula.json", [])
    formula = hepkan.interpret.Formula.load(run / "symbolic" / "formula.json")
    terms = len(formula.sympy(pieces=False).as_ordered_terms())
    assert markup.count("<mtr>") == terms >= 1
    assert max((len(part.split("<")[0]) for part in markup.split("<mn>")[1:]), default=0) <= 8
