"""What notes need of a page: rejections, significance against the threshold, permutation, several classes, styles."""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from typer.testing import CliRunner

from hepkan.cli import app
from hepkan.errors import UsageError
from hepkan.metrics import auc, best_asimov_z
from hepkan.report import class_figures, permutation, selection_figures, style
from hepkan.report.figures import sections
from hepkan.report.html import write_page
from hepkan.report.reading import read_run
from hepkan.studies.card import build_card
from hepkan.studies.run import run
from ntuple_cases import card, events, make, write
from test_report import build_run


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real small run with a KAN and trees."""
    folder = make(tmp_path_factory.mktemp("events"))
    models = {"kan": {}, "bdt": {"rounds": 10}}
    content = card(folder, models=models, reference="bdt", folds=None)
    return run(build_card(content), output=tmp_path_factory.mktemp("runs") / "binary").folder


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real small run with three classes."""
    place = tmp_path_factory.mktemp("several")
    both = {name: np.concatenate([events(400, 2, False)[name], events(400, 1)[name]]) for name in events(1)}
    source = {"name": "all", "files": [str(write(place / "all.parquet", both))]}
    models = {"kan": {}, "bdt": {"rounds": 10}}
    content = card(place, data=[source], target="process", folds=None, models=models, reference="bdt")
    return run(build_card(content), output=place / "run").folder


def test_a_page_has_rejections_at_four_efficiencies(tmp_path: Path) -> None:
    found = read_run(build_run(tmp_path / "run"))
    table = selection_figures.rejection_table(found)
    assert list(table.columns) == ["at 30 %", "at 50 %", "at 70 %", "at 90 %"]
    (lines,) = table.groups.values()
    assert [line.model for line in lines] == list(found.report["roc"])
    assert all("±" in cell.text for line in lines for cell in line.cells)
    assert [sum(line.cells[i].best for line in lines) for i in range(4)] == [1, 1, 1, 1]
    kan = float(lines[0].cells[0].text.partition(" ")[0])
    curve = found.report["roc"]["kan"]
    left = np.interp(0.3, curve["signal_efficiency"], curve["background_efficiency"])
    assert kan == pytest.approx(1 / left, rel=0.02)


def test_significance_is_that_of_the_table_at_its_best_threshold(tmp_path: Path) -> None:
    found = read_run(build_run(tmp_path / "run"))
    figure = selection_figures.significance(found.test, ["kan", "bdt"], 138.0)
    wanted, threshold = best_asimov_z(found.test["target"], found.test["kan"], found.test["weight"], 138.0)
    left, right = figure.axes
    assert max(left.lines[0].get_ydata()) == pytest.approx(wanted, rel=0.02)
    assert float(left.lines[1].get_xdata()[0]) == pytest.approx(threshold, abs=0.05)
    assert max(right.lines[0].get_ydata()) < wanted
    thresholds, signal, background = selection_figures.sums(found.test, "kan", 1.0)
    above = found.test["kan"] >= thresholds[5]
    weight, target = found.test["weight"], found.test["target"]
    assert signal[5] == pytest.approx(weight[above & (target == 1)].sum())
    assert background[5] == pytest.approx(weight[above & (target == 0)].sum())


def test_no_threshold_is_left_without_background(tmp_path: Path) -> None:
    found = read_run(build_run(tmp_path / "run", rows=600))
    columns = {**found.test, "weight": np.where(found.test["target"] == 0, 0.0, 1.0)}
    assert len(selection_figures.sums(columns, "kan", 1.0)[0]) == 0
    selection_figures.significance(columns, ["kan"], 138.0)


def test_shuffling_hurts_where_the_model_looks(binary: Path) -> None:
    found = read_run(binary)
    lost = permutation.losses(found, "bdt")
    assert lost is not None
    names = [one.name for one in found.features]
    assert int(np.argmax(lost.mean)) in (names.index("mass"), names.index("pt"), names.index("energy"))
    again = permutation.losses(found, "bdt")
    assert again is not None and np.array_equal(again.mean, lost.mean)
    shuffled = lost.mean[names.index("mass")]
    X = np.column_stack([found.inputs[name] for name in names]).astype(np.float32)
    from hepkan.trained import load_model

    score = load_model(binary / "members" / "bdt-seed0").predict(X)
    assert shuffled < auc(found.inputs["target"], score, found.inputs["weight"]) - 0.3


def test_models_that_are_not_kept_have_no_permutation(binary: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(binary, tmp_path / "run"))
    shutil.rmtree(copy / "members" / "bdt-seed0")
    (copy / "members" / "kan-seed0" / "model.hepkan").write_bytes(b"damaged")
    assert permutation.losses(read_run(copy), "bdt") is None
    assert permutation.losses(read_run(copy), "kan") is None
    assert permutation.permutation_section(read_run(copy)) is None


def test_sections_of_a_classification(binary: Path) -> None:
    anchors = [section.anchor for section in sections(read_run(binary))]
    for anchor in ("roc", "permutation", "scores", "significance", "calibration", "correlations"):
        assert anchor in anchors
    assert (binary / "index.html").stat().st_size < 5e6


def test_sections_of_several_classes(several: Path) -> None:
    found = read_run(several)
    assert found.classes == ("alt", "bkg", "sig")
    assert found.test["kan"].shape == (len(found.test["target"]), 3)
    parts = {section.anchor: section for section in sections(found)}
    assert {"roc", "confusion", "permutation", "scores", "calibration", "inputs", "correlations"} <= set(parts)
    assert [plot.name for plot in parts["roc"].plots] == ["roc-alt", "roc-bkg", "roc-sig"]
    assert len(parts["correlations"].more) == 3
    assert "significance" not in parts
    assert (several / "index.html").stat().st_size < 5e6


def test_confusion_adds_up_to_one_and_knows_the_classes() -> None:
    target = np.array([0, 0, 1, 2, 2])
    score = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]])
    matrix = class_figures.confusion(target, score, np.array([3.0, 1.0, 1.0, -2.0, 2.0]))
    np.testing.assert_allclose(matrix, [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def test_the_curve_of_a_class_is_named_with_its_area(several: Path) -> None:
    found = read_run(several)
    figure = class_figures.one_against_rest(found.test, ["kan"], 2, "sig")
    value = auc((found.test["target"] == 2).astype(int), found.test["kan"][:, 2], found.test["weight"])
    (text,) = figure.axes[0].get_legend().get_texts()
    assert f"{value:.4f}" in text.get_text()


class TestStyle:
    """`--style CMS|ATLAS|plain`."""

    def test_settings_are_those_of_mplhep_inside_only(self) -> None:
        plain = style.settings()
        for look in ("CMS", "ATLAS", "atlas"):
            with style.drawn_as(look):
                inside = style.settings()
            assert inside["font.sans-serif"][0] == "TeX Gyre Heros"
            assert style.settings() == plain
        assert plain["font.family"] == "DejaVu Sans"

    def test_unknown_styles_are_refused(self) -> None:
        with pytest.raises(UsageError, match="Did you mean 'ATLAS'"), style.drawn_as("ATLASS"):
            pass

    def test_the_choice_ends_with_an_error(self) -> None:
        with pytest.raises(RuntimeError), style.drawn_as("CMS"):
            raise RuntimeError
        assert style.settings()["font.family"] == "DejaVu Sans"

    def test_pictures_differ_and_repeat(self, tmp_path: Path) -> None:
        found = read_run(build_run(tmp_path / "run", rows=300))
        pictures = {}
        before = dict(matplotlib.rcParams)
        for look in ("plain", "CMS", "ATLAS", "plain", "CMS"):
            with style.drawn_as(look):
                picture = style.svg(selection_figures.significance(found.test, ["kan"], 138.0))
            assert pictures.setdefault(look, picture) == picture
        assert len(set(pictures.values())) == 3
        assert dict(matplotlib.rcParams) == before

    def test_command_line(self, binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        copy = Path(shutil.copytree(binary, tmp_path / "run"))
        done = CliRunner().invoke(app, ["report", str(copy), "--style", "CMS"])
        assert done.exit_code == 0, done.output
        cms = (copy / "plots" / "roc.svg").read_bytes()
        write_page(copy)
        assert (copy / "plots" / "roc.svg").read_bytes() != cms
        wrong = CliRunner().invoke(app, ["run", "multijet", "--quick", "--style", "LHCb", "-o", str(tmp_path / "no")])
        assert wrong.exit_code == 2
        assert not (tmp_path / "no").exists()
