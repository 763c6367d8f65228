"""`hepkan export` on run folders: every kind of model and target, folds, formulae, kill -9, a full disk, Ctrl-C."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import hepkan
from export_cases import COMPILER, Library, gap, hostile_events, lively
from hepkan import errors
from hepkan.baselines import MODELS, train_model
from hepkan.cli import app
from hepkan.data import Table
from hepkan.errors import DataError, MissingExtra, UsageError
from hepkan.interpret.extraction import as_formula
from hepkan.interpret.formula import Formula
from hepkan.studies import export_run as module
from hepkan.studies.card import build_card
from hepkan.studies.export_run import TARGETS, export_run
from hepkan.studies.options import parse_yaml
from hepkan.studies.run import run
from ntuple_cases import card, make
from test_baselines import QUICK as CLASSIFIERS
from test_regressors import EXTRA
from test_regressors import QUICK as REGRESSORS

runtime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")

FILES = {"onnx": "m.onnx", "cpp": "m.hpp", "torch": "m.pt", "formula": "m.py"}
NETWORKS = ("kan", "gam", "mlp", "logistic", "linear")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of own files with two folds, a KAN first."""
    folder = make(tmp_path_factory.mktemp("events"))
    changes = {"models": {"kan": {}, "bdt": {"rounds": 5}}, "reference": "bdt"}
    return run(build_card(card(folder, **changes)), output=tmp_path_factory.mktemp("runs") / "small").folder


@pytest.fixture
def with_formula(study: Path, tmp_path: Path) -> Path:
    """A copy of the run with the formula that equals its network, as `hepkan symbolic` leaves it."""
    copy = tmp_path / "run"
    shutil.copytree(study, copy)
    (copy / "symbolic").mkdir()
    model = hepkan.load(copy / "model.hepkan")
    as_formula(model, names_of(copy)).save(copy / "symbolic" / "formula.json")
    (copy / "symbolic" / "report.json").write_text(json.dumps({"network": "model.hepkan"}))
    return copy


def names_of(study: Path) -> list[str]:
    """Return the names of a run's features."""
    return [one["name"] for one in json.loads((study / "report.json").read_text())["features"]]


def real(study: Path) -> np.ndarray:
    """Return the run's test events as its networks take them."""
    table = pq.read_table(study / "inputs.parquet")
    return np.column_stack([table[name].to_numpy() for name in names_of(study)]).astype(np.float32)


def scores(path: Path, X: np.ndarray) -> np.ndarray:
    """Return what the software that a file is for makes of events."""
    if path.suffix == ".onnx":
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"features": X})[0])
    if path.suffix == ".pt":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            loaded: Any = torch.jit.load(str(path))
        return np.asarray(loaded(torch.from_numpy(X)).detach().numpy())
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    return np.asarray(Library([path], path.parent).batch(0, X, 1, np.float64))


def table(task: str, seed: int) -> Table:
    """Return events of a task."""
    if task == "regression":
        return hepkan.get_task("top_dm").table(n=300)
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=300)
    return Table(rng.normal(size=(300, 3)) + y[:, None], y, names=("pt", "eta", "mass"))


CASES = [(kind, task) for kind, model in MODELS.items() for task in model.tasks]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def member(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A trained model of every kind and task in a folder of its own."""
    kind, task = request.param
    if kind in EXTRA:
        pytest.importorskip(EXTRA[kind])
    settings = {**(CLASSIFIERS if task == "classification" else REGRESSORS).get(kind, {})}
    settings |= {"epochs": 1} if "epochs" in settings else {}
    folder = tmp_path_factory.mktemp("members") / kind
    train_model(kind, table(task, 0), table(task, 1), settings).save(folder)
    return kind, folder


@pytest.mark.parametrize("to", TARGETS)
def test_every_kind_is_exported_or_says_why_not(member: tuple[str, Path], to: str, tmp_path: Path) -> None:
    kind, folder = member
    path = tmp_path / "out" / FILES[to]
    if to != "formula" and kind in NETWORKS:
        report = export_run(folder, path, to=to)
        assert report["difference"] <= report["tolerance"] <= 1e-2
        assert path.stat().st_size > 300
        return
    words = "hepkan symbolic" if to == "formula" else "needs a network of this package"
    with pytest.raises(UsageError, match=words):
        export_run(folder, path, to=to)
    assert not path.parent.exists()


@pytest.mark.parametrize("to", ["onnx", "cpp", "torch"])
def test_scores_of_a_run_are_those_of_its_network(study: Path, to: str, tmp_path: Path) -> None:
    X = np.concatenate([real(study), hostile_events(200, len(names_of(study)))])
    report = export_run(study, tmp_path / FILES[to])
    wanted = hepkan.load(study / "model.hepkan").predict(X).reshape(-1, 1)
    assert gap(scores(tmp_path / FILES[to], X), wanted) < 1e-4
    assert report["real_events"] == len(real(study))
    assert report["folds"] == 2
    assert [one["name"] for one in report["inputs"]] == names_of(study)
    filled = {one["name"]: one["missing"] for one in report["inputs"]}
    assert filled["mass"] == json.loads((study / "inputs.json").read_text())["fills"]["split"]["mass"]
    assert [one["name"] for one in report["inputs"] if one["flag"]] == ["mass_missing"]


def test_a_fold_is_the_model_that_never_saw_it(study: Path, tmp_path: Path) -> None:
    report = export_run(study, tmp_path / "m.pt", fold=1)
    wanted = hepkan.load(study / "members" / "kan-fold1" / "model.hepkan").predict(real(study)).reshape(-1, 1)
    assert gap(scores(tmp_path / "m.pt", real(study)), wanted) < 1e-4
    assert report["fold"] == 1
    with pytest.raises(UsageError, match="one of the run's 2, 0 to 1, however: 2"):
        export_run(study, tmp_path / "n.pt", fold=2)
    with pytest.raises(UsageError, match="Folds are parts of a run"):
        export_run(study / "members" / "kan-seed0", tmp_path / "n.pt", fold=0)


def test_members_model_files_and_pruned_networks(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(study, copy)
    model = hepkan.load(copy / "model.hepkan")
    small = hepkan.prune(model, real(copy), nodes=2)
    hepkan.save(small, copy / "pruned" / "model.hepkan")
    places = (copy / "pruned", copy / "pruned" / "model.hepkan", copy / "members" / "kan-seed0")
    for place, to in itertools.product(places, ("onnx", "cpp", "torch")):
        report = export_run(place, tmp_path / "out" / FILES[to])
        assert report["real_events"] == len(real(study))
    export_run(copy / "pruned", tmp_path / "out" / "m.pt")
    assert gap(scores(tmp_path / "out" / "m.pt", real(copy)), small.predict(real(copy)).reshape(-1, 1)) < 1e-4
    hepkan.save(model, tmp_path / "alone.hepkan")
    assert export_run(tmp_path / "alone.hepkan", tmp_path / "out" / "m.pt")["real_events"] == 0


def test_logits_on_request(study: Path, tmp_path: Path) -> None:
    export_run(study, tmp_path / "m.pt", link=False)
    with torch.no_grad():
        wanted = hepkan.load(study / "model.hepkan")(torch.from_numpy(real(study))).numpy()
    assert gap(scores(tmp_path / "m.pt", real(study)), wanted) < 1e-4


@pytest.mark.parametrize("style", ["root", "define", "latex", "numpy", "cpp"])
def test_formulae_are_written_in_every_style(with_formula: Path, style: str, tmp_path: Path) -> None:
    report = export_run(with_formula, tmp_path / "f.txt", to="formula", style=style)
    assert report["fidelity"] > 0.999999
    assert report["difference"] <= report["tolerance"]
    assert report["real_events"] == len(real(with_formula))
    assert (tmp_path / "f.txt").stat().st_size > 100


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_the_header_of_a_formula_has_the_interface_of_networks(with_formula: Path, tmp_path: Path) -> None:
    export_run(with_formula, tmp_path / "f.hpp", to="formula")
    formula, X = Formula.load(with_formula / "symbolic" / "formula.json"), real(with_formula)
    assert gap(scores(tmp_path / "f.hpp", X), formula.predict(X).reshape(-1, 1)) < 1e-10
    with pytest.raises(UsageError, match="named after its file"):
        hepkan.export.cpp(formula, tmp_path / "g.hpp", class_name="Selector")


def test_the_ending_chooses_target_and_style(with_formula: Path, tmp_path: Path) -> None:
    assert export_run(with_formula, tmp_path / "f.tex")["style"] == "latex"
    assert export_run(with_formula / "symbolic", tmp_path / "f.py")["style"] == "numpy"
    with pytest.raises(UsageError, match="use --to onnx"):
        export_run(with_formula, tmp_path / "f.dat")
    with pytest.raises(UsageError, match="style of a formula must be given"):
        export_run(with_formula, tmp_path / "f.dat", to="formula")
    with pytest.raises(UsageError, match="Did you mean 'latex'"):
        export_run(with_formula, tmp_path / "f.dat", to="formula", style="latx")
    with pytest.raises(UsageError, match="are for formulae"):
        export_run(with_formula, tmp_path / "f.onnx", style="root")
    with pytest.raises(UsageError, match="no folds"):
        export_run(with_formula, tmp_path / "f.tex", fold=0)


def test_a_formula_that_left_its_network_is_refused_unless_accepted(with_formula: Path, tmp_path: Path) -> None:
    model = lively(hepkan.load(with_formula / "model.hepkan"), 3)
    hepkan.save(model, with_formula / "model.hepkan")
    with pytest.raises(DataError, match=r"fidelity of 0.9 .* was not written"):
        export_run(with_formula, tmp_path / "f.tex")
    assert not (tmp_path / "f.tex").exists()
    assert export_run(with_formula, tmp_path / "f.tex", fidelity=-1.0)["fidelity"] < 0.9


def test_a_file_that_differs_is_not_written(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hepkan.export import traced

    right = traced.cells_of
    monkeypatch.setattr(traced, "cells_of", lambda layer: right(layer)._replace(bias=right(layer).bias + 0.01))
    (tmp_path / "m.pt").write_text("the old one")
    with pytest.raises(DataError, match="was not written"):
        export_run(study, tmp_path / "m.pt")
    assert (tmp_path / "m.pt").read_text() == "the old one"
    assert len(list(tmp_path.iterdir())) == 1


def test_bad_requests(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "m.onnx"
    with pytest.raises(UsageError, match="does not exist"):
        export_run(tmp_path / "nothing", path)
    with pytest.raises(UsageError, match="has no DONE"):
        export_run(tmp_path, path)
    (tmp_path / "text").write_text("")
    with pytest.raises(UsageError, match=r"\.hepkan file"):
        export_run(tmp_path / "text", path)
    with pytest.raises(UsageError, match="Did you mean 'onnx'"):
        export_run(study, path, to="onx")
    with pytest.raises(UsageError, match=r"gradient boosted trees.*hepkan predict"):
        export_run(study / "members" / "bdt-seed0", path)
    with pytest.raises(UsageError, match="hepkan symbolic"):
        export_run(study, tmp_path / "out" / "f.tex")
    (tmp_path / "cut.hepkan").write_bytes((study / "model.hepkan").read_bytes()[:300])
    with pytest.raises(DataError, match="safetensors"):
        export_run(tmp_path / "cut.hepkan", path)
    assert not path.parent.exists()


@pytest.mark.parametrize("file", ["DONE", "model.hepkan", "inputs.parquet", "inputs.json", "card.yaml"])
def test_incomplete_and_damaged_runs(study: Path, file: str, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(study, copy)
    if file == "DONE":
        (copy / file).unlink()
    else:
        (copy / file).write_bytes(b"\x00\x01 nonsense: [")
    with pytest.raises((DataError, UsageError)) as caught:
        export_run(copy, tmp_path / "out" / "m.pt")
    assert copy.name in str(caught.value)
    assert not list(tmp_path.glob("out/*"))


def test_the_missing_extra_is_named(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(errors.importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'hepkan\[export\]'"):
        export_run(study, tmp_path / "m.onnx")


class TestCommand:
    """The command line: words, JSON, exit codes."""

    def test_words(self, study: Path, tmp_path: Path) -> None:
        done = CliRunner().invoke(app, ["export", str(study), "--to", "onnx", "-o", str(tmp_path / "m.onnx")])
        assert done.exit_code == 0, done.output
        for words in ("Wrote", "test events of the run", "0 pt", "replace missing values: pt", "--fold K"):
            assert words in done.output

    def test_json(self, study: Path, tmp_path: Path) -> None:
        done = CliRunner().invoke(app, ["export", str(study), "-o", str(tmp_path / "m.hpp"), "--json"])
        report = json.loads(done.stdout)
        assert (report["to"], report["link"], report["outputs"]) == ("cpp", "sigmoid", 1)

    def test_wrong_use_is_2_and_a_bad_file_is_1(self, study: Path, tmp_path: Path) -> None:
        wrong = CliRunner().invoke(app, ["export", str(study), "-o", str(tmp_path / "f.tex")])
        assert wrong.exit_code == 2
        assert "hepkan symbolic" in wrong.output
        (tmp_path / "bad.hepkan").write_bytes(b"no model")
        bad = CliRunner().invoke(app, ["export", str(tmp_path / "bad.hepkan"), "-o", str(tmp_path / "m.pt")])
        assert bad.exit_code == 1

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a place where nobody can write")
    def test_a_place_where_nobody_can_write(self, study: Path) -> None:
        done = CliRunner().invoke(app, ["export", str(study), "-o", "/proc/m.pt"])
        assert done.exit_code == 1
        assert "cannot be written" in done.output

    def test_interruption(self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(target: str) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "_writer", interrupt)
        done = CliRunner().invoke(app, ["export", str(study), "-o", str(tmp_path / "m.pt")])
        assert done.exit_code == 130
        assert "give the same command again" in done.output
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["m.onnx", "m.pt"])
def test_an_interruption_while_writing_leaves_the_old_file(
    study: Path, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, content: bytes) -> int:
        with path.open("wb") as target:
            target.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    (tmp_path / file).write_text("the old one")
    monkeypatch.setattr(Path, "write_bytes", half)
    done = CliRunner().invoke(app, ["export", str(study), "-o", str(tmp_path / file)])
    assert done.exit_code == 130
    assert (tmp_path / file).read_text() == "the old one"
    assert len(list(tmp_path.iterdir())) == 1


def command(study: Path, path: Path) -> list[str]:
    """Return the command line of an export."""
    return [sys.executable, "-m", "hepkan", "export", str(study), "-o", str(path)]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["m.hpp", "m.onnx", "m.pt"])
def test_kill_and_the_same_command_gives_the_identical_file(study: Path, file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    started = time.monotonic()
    subprocess.run(command(study, path), check=True, capture_output=True)
    seconds, whole = time.monotonic() - started, path.read_bytes()
    path.unlink()
    for part in (0.3, 0.8, 0.95):
        process = subprocess.Popen(command(study, path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(part * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not path.exists() or path.read_bytes() == whole
    subprocess.run(command(study, path), check=True, capture_output=True)
    assert path.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("file", ["m.hpp", "m.onnx", "m.pt"])
def test_a_full_disk_leaves_the_old_file(study: Path, file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("the old one")
    limited = f"ulimit -f 1; exec {' '.join(command(study, tmp_path / file))}"  # no file may grow over some blocks
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert file in done.stderr
    assert (tmp_path / file).read_text() == "the old one"
    assert [one.name for one in tmp_path.iterdir()] == [file]


@pytest.mark.slow
def test_ctrl_c_in_predict_is_one_line_and_leaves_nothing(study: Path, tmp_path: Path) -> None:
    source = build_card(parse_yaml((study / "card.yaml").read_text(), "card")).data[0].files[0]
    pq.write_table(pa.concat_tables([pq.read_table(source)] * 3000), tmp_path / "many.parquet")
    out = tmp_path / "out" / "scores.parquet"
    words = [sys.executable, "-m", "hepkan", "predict", str(study), str(tmp_path / "many.parquet"), "-o", str(out)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    give_up = time.monotonic() + 120
    while not list(tmp_path.glob("out/.scores*")) and time.monotonic() < give_up:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "give the same command again" in said
    assert not list(out.parent.iterdir())
