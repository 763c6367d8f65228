"""`hepkan symbolic` on run folders, and the picture of complexity against loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hepkan.cli import app
from hepkan.errors import UsageError
from hepkan.interpret.expression import Call, Input, Sum
from hepkan.interpret.finishing import State, front
from hepkan.interpret.formula import Formula, Row
from hepkan.interpret.primitives import PRIMITIVES
from hepkan.report.front import complexity_front
from hepkan.studies.interpret_run import prune_run
from hepkan.studies.options import load_card
from hepkan.studies.run import run
from hepkan.studies.symbolic_run import symbolic_run

ROWS = (Row(200, 1e-4, 15, "spline network"), Row(9, 1e-3, 0, "x"), Row(20, 1e-26, 0, "exact"))


def test_front_keeps_the_network_and_what_nothing_beats() -> None:
    square, cosine = (Call(PRIMITIVES[name], Input(0)) for name in ("square", "cos"))
    both = Sum((square, cosine), (1.0, 2.0), 0.0)
    states = [(square, 2e-3), (both, 1e-26), (square, 1e-3), (Sum((both, Input(1)), (1.0, 1.0), 3.0), 1e-5)]
    rows = front(State((both,), 1e-4), [State((root,), loss) for root, loss in states], ["x", "y"], [False, False])
    assert [row.text for row in rows] == ["spline network", "x**2", "x**2 + 2*cos(x)"]
    assert [row.loss for row in rows] == [1e-4, 1e-3, 1e-26] and rows[1].complexity < rows[2].complexity


def test_front_is_drawn_on_a_logarithmic_axis_with_the_reference() -> None:
    (axes,) = complexity_front(ROWS).axes
    assert axes.get_yscale() == "log"
    drawn = np.concatenate([line.get_xdata() for line in axes.lines])
    assert {200, 9, 20} <= set(np.asarray(drawn, dtype=float).tolist())
    with pytest.raises(UsageError, match="empty"):
        complexity_front(())


@pytest.mark.slow
def test_symbolic_of_a_run(sample: Path, tmp_path: Path) -> None:
    overrides = ["bootstrap=20", "train.epochs=2", "models.kan.hidden=[1]", "models.kan.grid=3"]
    card = load_card("multijet", models=("kan",), data=sample, seeds=1, overrides=overrides)
    folder = run(card, output=tmp_path / "one", command="hepkan run multijet").folder
    prune_run(folder, inputs=8, epochs=1, fraction=0.5)
    done = symbolic_run(folder, tolerance=0.1, events=300)
    names = {path.name for path in done.folder.iterdir()}
    assert names == {"formula.json", "formula.tex", "formula.py", "formula_root.txt", "report.json", "front.svg"}
    report = json.loads((done.folder / "report.json").read_text())
    auc = report["test"]["auc"]
    assert auc["difference"][0] == pytest.approx(auc["formula"][0] - auc["run"][0])
    assert Formula.load(done.folder / "formula.json").names == done.formula.names
    assert report["network"] == "pruned/model.hepkan" and len(report["inputs"]) <= 8


def test_a_network_too_large_to_read_is_refused_with_the_command_that_prunes_it(sample: Path, tmp_path: Path) -> None:
    overrides = ["bootstrap=20", "train.epochs=1", "models.kan.hidden=[10]", "models.kan.grid=3"]
    card = load_card("multijet", models=("kan",), data=sample, seeds=1, overrides=overrides)
    folder = run(card, output=tmp_path / "large").folder
    with pytest.raises(UsageError, match=r"at most 200 edges, however this network has 440 .*hepkan prune .*large"):
        symbolic_run(folder)
    assert not (folder / "symbolic").exists()


def test_symbolic_of_no_run_is_a_wrong_use(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["symbolic", str(tmp_path / "nothing")])
    assert result.exit_code == 2
