"""Scores of a run on files of events: the right model for each, the order of entries, identical bytes, kill -9."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot
from pyarrow import csv

from hepkan.baselines import load_model
from hepkan.errors import DataError, UsageError
from hepkan.studies.card import build_card
from hepkan.studies.predict import Counters, load_scorer, predict
from hepkan.studies.run import run
from ntuple_cases import card, events, make, write

FORMATS = ("root", "parquet", "h5", "csv")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("events"))


@pytest.fixture(scope="module")
def study(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    return run(build_card(card(files)), output=folder).folder


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a file of scores."""
    if path.suffix == ".root":
        with uproot.open(path) as file:
            return dict(file["hepkan"].arrays(library="np"))
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: one[:] for name, one in file["hepkan"].items()}
    frame = pq.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
    return {name: frame[name].to_numpy(zero_copy_only=False) for name in frame.column_names}


@pytest.mark.parametrize("suffix", FORMATS)
def test_scores_lie_beside_the_events(files: Path, study: Path, tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / f"new.{suffix}", events(300, 5))
    counters = predict(study, str(source), tmp_path / f"out.{suffix}", size=120)
    found, raw = read(tmp_path / f"out.{suffix}"), events(300, 5)
    assert list(found)[:2] == ["hepkan_score", "hepkan_fold"]
    np.testing.assert_array_equal(found["event"], raw["event"])
    np.testing.assert_array_equal(found["njet"], raw["njet"])
    np.testing.assert_array_equal(found["hepkan_fold"], raw["event"] % 2)
    kept = raw["pt"] > 5
    np.testing.assert_array_equal(np.isnan(found["hepkan_score"].astype(float)), ~kept)
    np.testing.assert_array_equal(np.asarray(found["hepkan_selected"]).astype(bool), kept)
    assert (counters.events, counters.scored, counters.rejected) == (300, kept.sum(), (~kept).sum())
    assert counters.missing["mass"] == (raw["mass"][kept] == -999).sum()


def test_each_event_gets_the_model_that_never_saw_it(files: Path, study: Path, tmp_path: Path) -> None:
    predict(study, [str(files / "bkg.parquet"), str(files / "sig.parquet")], tmp_path / "out.parquet")
    found = read(tmp_path / "out.parquet")
    cross = pq.read_table(study / "cross_scores.parquet")
    kept = found["hepkan_selected"]
    np.testing.assert_array_equal(found["event"][kept], cross["id"].to_numpy())
    np.testing.assert_allclose(found["hepkan_score"][kept], cross["prediction"].to_numpy(), atol=1e-6)
    scorer = load_scorer(study)
    raw = events(400, 1)
    rows = (raw["event"] % 2 == 1) & (raw["pt"] > 5)
    features = np.column_stack([raw["pt"], raw["eta"], raw["mass"], np.log(raw["pt"] * np.cosh(raw["eta"]))])
    missing = raw["mass"] == -999
    features[missing, 2] = scorer.learned.fills["1"]["mass"]
    model = load_model(study / "members" / "kan-fold1")
    expected = model.predict(np.column_stack([features, missing])[rows].astype(np.float32))
    np.testing.assert_allclose(found["hepkan_score"][400:][rows], expected, atol=1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_command_gives_the_same_bytes(files: Path, study: Path, tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        predict(study, str(files / "sig.parquet"), tmp_path / name / f"out.{suffix}")
        time.sleep(1.1 if suffix == "root" else 0.0)  # ROOT's times have a resolution of seconds
    assert (tmp_path / "a" / f"out.{suffix}").read_bytes() == (tmp_path / "b" / f"out.{suffix}").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [f"out.{suffix}"]


def test_out_of_range_values_are_counted(study: Path, tmp_path: Path) -> None:
    columns = events(50, 6)
    columns["eta"][:7] = 50.0
    write(tmp_path / "a.parquet", columns)
    counters = predict(study, str(tmp_path / "a.parquet"), tmp_path / "out.csv")
    assert counters.outside["eta"] == (columns["pt"][:7] > 5).sum() + (
        (abs(columns["eta"][7:]) > 3.2) & (columns["pt"][7:] > 5)
    ).sum()
    assert isinstance(counters, Counters)


def test_only_what_scoring_needs_is_needed(study: Path, tmp_path: Path) -> None:
    columns = {name: events(20, 7)[name] for name in ("event", "pt", "eta", "mass", "njet")}
    predict(study, str(write(tmp_path / "a.parquet", columns)), tmp_path / "out.csv")
    assert len(read(tmp_path / "out.csv")["hepkan_score"]) == 20


@pytest.mark.parametrize("missing", ["pt", "event", "njet"])
def test_missing_columns_are_named_and_nothing_is_written(study: Path, tmp_path: Path, missing: str) -> None:
    columns = {name: values for name, values in events(20, 7).items() if name != missing}
    write(tmp_path / "a.parquet", columns)
    with pytest.raises(UsageError, match=f"{missing!r}|{missing}"):
        predict(study, str(tmp_path / "a.parquet"), tmp_path / "out" / "out.csv")
    assert not (tmp_path / "out").exists()


def test_bad_requests(files: Path, study: Path, tmp_path: Path) -> None:
    source = str(files / "sig.parquet")
    with pytest.raises(UsageError, match=r"written to \.root"):
        predict(study, source, tmp_path / "out.txt.gz")
    with pytest.raises(UsageError, match="a file of their own"):
        predict(study, source, files / "sig.parquet")
    with pytest.raises(UsageError, match="run folder is required"):
        predict(tmp_path, source, tmp_path / "out.csv")
    with pytest.raises(DataError, match="does not exist"):
        predict(study, "nowhere.root", tmp_path / "out.csv")
    write(tmp_path / "none.parquet", {name: values[:0] for name, values in events(5).items()})
    with pytest.raises(DataError, match="has none"):
        predict(study, str(tmp_path / "none.parquet"), tmp_path / "out.csv")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="cannot be written"):
        predict(study, source, tmp_path / "file" / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("damage", ["cut", "newer", "foreign", "pickle"])
def test_damaged_and_foreign_models_are_refused(
    files: Path, study: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(study, copy)
    model = copy / "members" / "kan-fold1" / "model.hepkan"
    content = model.read_bytes()

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, (f"touch {tmp_path / 'executed'}",))

    newer = content.replace(b'\\"format\\": 1', b'\\"format\\": 9')
    damaged = {"cut": content[:500], "newer": newer, "foreign": b"x" * 900, "pickle": pickle.dumps(Evil())}
    model.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=r"model|safetensors"):
        predict(copy, str(files / "sig.parquet"), tmp_path / "out.csv")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_kill_and_the_same_command_gives_the_identical_file(files: Path, study: Path, tmp_path: Path) -> None:
    many = {name: np.tile(values, 500) for name, values in events(400, 1).items()}
    source = write(tmp_path / "many.parquet", many)
    command = [sys.executable, "-m", "hepkan", "predict", str(study), str(source), "-o", str(tmp_path / "out.root")]
    subprocess.run(command, check=True, capture_output=True)
    whole = (tmp_path / "out.root").read_bytes()
    (tmp_path / "out.root").unlink()
    for moment in (0.5, 2.0, 4.0):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out.root").exists() or (tmp_path / "out.root").read_bytes() == whole
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "out.root").read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "three classes"])
def test_regression_and_several_classes(files: Path, tmp_path: Path, task: str) -> None:
    both = {name: np.concatenate([events(400, 2, False)[name], events(400, 1)[name]]) for name in events(1)}
    source = {"name": "all", "files": [str(write(tmp_path / "all.parquet", both))]}
    changes = {"task": "regression", "target": ["truth", "eta"]} if task == "regression" else {"target": "process"}
    train = {"loss": "mae"} if task == "regression" else {}
    done = run(build_card(card(files, data=[source], train=train, **changes)), output=tmp_path / "run")
    predict(done.folder, str(files / "sig.parquet"), tmp_path / "out.parquet")
    found = read(tmp_path / "out.parquet")
    kept = found["hepkan_selected"]
    if task == "regression":
        assert {"hepkan_truth", "hepkan_eta"} <= set(found)
        assert np.isfinite(found["hepkan_truth"][kept]).all()
        return
    scores = np.column_stack([found[f"hepkan_score_{name}"] for name in ("alt", "bkg", "sig")])[kept]
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)
    assert any(row["metric"] == "auc_alt" for row in done.report["rows"])


@pytest.mark.slow
def test_runs_of_built_in_tasks_score_samples(sample: Path, tmp_path: Path) -> None:
    from hepkan.studies.options import load_card

    overrides = ("model.epochs=1", "model.hidden=[2]", "bootstrap=5", "mix={}")
    card = load_card("multijet", models=["kan"], seeds=1, data=sample, overrides=overrides)
    done = run(card, output=tmp_path / "run")
    predict(done.folder, str(sample), tmp_path / "out.parquet")
    found = read(tmp_path / "out.parquet")
    assert set(found["hepkan_fold"]) == {-1}
    assert np.isfinite(found["hepkan_score"]).all()
