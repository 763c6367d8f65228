"""Runs on a synthetic sample: the contract of their folders, resuming, honest errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hepkan import executors
from hepkan.errors import DataError, UsageError
from hepkan.studies import evidence
from hepkan.studies.card import Card
from hepkan.studies.compare import compare, run_names
from hepkan.studies.folders import check_writable, close_folder, read_report
from hepkan.studies.members import ADDED, Step, judge_again, make_member
from hepkan.studies.options import load_card
from hepkan.studies.run import Result, plan, prepare, run

ROW = ["task", "model", "metric", "value", "error", "seeds", "parameters", "train_seconds", "settings"]
SHORT = ["bootstrap=20", "train.epochs=2", "models.bdt.rounds=5"]
FILES = {
    *("card.yaml", "model.hepkan", "history.parquet", "predictions.parquet", "train_scores.parquet"),
    *("inputs.parquet", "report.json", "index.html", "DONE", "members", "study.json"),
}


def small_card(sample: Path, models: tuple[str, ...] = ("kan", "mlp"), *overrides: str, seeds: int = 2) -> Card:
    return load_card("multijet", models=models, data=sample, seeds=seeds, overrides=[*SHORT, *overrides])


@pytest.fixture(scope="module")
def finished(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of all five models with two seeds."""
    card = small_card(sample, ("kan", "gam", "mlp", "bdt", "logistic"))
    return run(card, output=tmp_path_factory.mktemp("runs") / "all", command="hepkan run multijet")


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on how a run came about."""
    rows = [{key: value for key, value in row.items() if key != "train_seconds"} for row in report["rows"]]
    return {key: value for key, value in report.items() if key not in ("created", "rows")} | {"rows": rows}


def test_run_folder_has_every_file_of_the_contract(finished: Result) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= FILES
    assert not [name for name in names if name.startswith(".")]
    members = {path.name for path in (finished.folder / "members").iterdir()}
    assert members == {f"{kind}-seed{k}" for kind in ("kan", "gam", "mlp", "bdt", "logistic") for k in (0, 1)}
    for member in members:
        model = {"model.txt", "model.json"} if member.startswith("bdt") else {"model.hepkan"}
        expected = {*model, "history.parquet", "scores.parquet", "member.json", "DONE"}
        assert {path.name for path in (finished.folder / "members" / member).iterdir()} == expected


def test_report_has_every_key_and_row_of_the_contract(finished: Result) -> None:
    report = json.loads((finished.folder / "report.json").read_text())
    assert report == finished.report
    needed = {"task", "version", "created", "command", "environment", "data", "luminosity_fb", "rows"}
    assert set(report) >= needed | {"comparisons", "roc", "features"}
    assert all(list(row) == ROW for row in report["rows"])
    kinds = ["kan", "gam", "mlp", "bdt", "logistic"]
    models = [*kinds, *(f"{kind} ensemble" for kind in kinds), "cut w_mt"]
    assert list(dict.fromkeys(row["model"] for row in report["rows"])) == models
    metrics = {row["metric"] for row in report["rows"]}
    assert metrics == {"auc", "rejection_50", "rejection_70", "rejection_90", "asimov_z"}
    assert len(report["rows"]) == len(models) * len(metrics)
    assert {row["seeds"] for row in report["rows"] if row["model"] == "kan"} == {2}
    assert all(row["error"] > 0 for row in report["rows"] if row["metric"] == "auc")
    assert len(report["features"]) == 43
    assert set(report["roc"]) == {*kinds, "cut w_mt"}
    data = report["data"]
    assert data["n_train"] + data["n_validation"] + data["n_test"] == 1200
    assert {entry["process"] for entry in data["yields"]} == {"single_top_tchannel", "ttbar", "wjets", "multijet"}
    assert data["recipe_hash"] == "synthetic"


def test_comparisons_cover_the_main_model_and_the_reference(finished: Result) -> None:
    pairs = {(item["model"], item["reference"]) for item in finished.report["comparisons"]}
    assert {("kan", other) for other in ("gam", "mlp", "bdt", "logistic")} <= pairs
    assert {(other, "mlp") for other in ("gam", "bdt", "logistic")} <= pairs
    assert ("kan ensemble", "mlp ensemble") in pairs
    values = {row["model"]: row["value"] for row in finished.report["rows"] if row["metric"] == "auc"}
    for item in finished.report["comparisons"]:
        if item["metric"] == "auc":
            expected = values[item["model"]] - values[item["reference"]]
            assert item["difference"] == pytest.approx(expected)
            assert item["sigma"] == pytest.approx(item["difference"] / item["error"])


def test_predictions_hold_every_member_on_the_same_test_events(finished: Result, sample: Path) -> None:
    frame = pq.read_table(finished.folder / "predictions.parquet")
    assert frame.column_names[:6] == ["id", "group", "process", "target", "weight", "prediction"]
    assert len(frame.column_names) == 6 + 10
    records = {
        seed: json.loads((finished.folder / f"members/kan-seed{seed}/member.json").read_text()) for seed in (0, 1)
    }
    best = min(records, key=lambda seed: records[seed]["validation_loss"])
    assert frame["prediction"].equals(frame[f"kan-seed{best}"])
    train = pq.read_table(finished.folder / "train_scores.parquet")
    assert train.column_names == frame.column_names
    assert not set(train["group"].to_pylist()) & set(frame["group"].to_pylist())
    whole = pq.read_table(sample)
    prompt = sum(whole.filter(np.array(whole["label"]) == 1)["weight"].to_pylist())
    multijet = sum(whole.filter(np.array(whole["label"]) == 0)["weight"].to_pylist())
    shares = {"single_top_tchannel": 0.60 * prompt, "ttbar": 0.25 * prompt, "wjets": 0.15 * prompt}
    for name, expected in {**shares, "multijet": multijet}.items():
        found = sum(frame.filter(np.array(frame["process"]) == name)["weight"].to_pylist())
        assert found == pytest.approx(expected)
    inputs = pq.read_table(finished.folder / "inputs.parquet")
    assert len(inputs) == len(frame)
    assert inputs.column_names[43:] == ["target", "weight", "process"]


def test_history_has_every_epoch(finished: Result) -> None:
    history = pq.read_table(finished.folder / "history.parquet").to_pylist()
    assert {"model", "seed", "epoch", "train_loss", "validation_loss"} <= set(history[0])
    assert [row["epoch"] for row in history if row["model"] == "kan" and row["seed"] == 1] == [1, 2]


def test_run_is_idempotent(finished: Result, sample: Path) -> None:
    before = (finished.folder / "report.json").read_bytes()
    card = small_card(sample, ("kan", "gam", "mlp", "bdt", "logistic"))
    again = run(card, output=finished.folder)
    assert again.reused
    assert again.report == finished.report
    assert (finished.folder / "report.json").read_bytes() == before


def test_card_of_a_run_is_the_same_run(finished: Result) -> None:
    card = load_card(str(finished.folder / "card.yaml"))
    assert "torch" in card.versions
    assert run(card, output=finished.folder).reused


def test_killed_run_resumes_to_the_identical_result(finished: Result, sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(finished.folder, folder)
    for name in ("DONE", "report.json", "predictions.parquet", "members/mlp-seed1/DONE"):
        (folder / name).unlink()
    shutil.rmtree(folder / "members" / "kan-seed0")
    card = small_card(sample, ("kan", "gam", "mlp", "bdt", "logistic"))
    with pytest.raises(UsageError, match=r"unfinished study\. Add --resume"):
        run(card, output=folder)
    steps: list[Step] = []
    resumed = run(card, output=folder, resume=True, progress=steps.append, command="hepkan run multijet")
    assert {step.member for step in steps if step.state == "done"} == {"kan-seed0", "mlp-seed1"}
    assert len([step for step in steps if step.state == "reused"]) == 8
    assert without_times(resumed.report) == without_times(finished.report)
    for name in ("predictions.parquet", "train_scores.parquet", "inputs.parquet"):
        assert pq.read_table(folder / name).equals(pq.read_table(finished.folder / name))


def test_other_settings_need_resume_and_retrain_only_what_changed(
    finished: Result, sample: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(finished.folder, folder)
    card = small_card(sample, ("kan", "mlp"), "model.grid=3")
    with pytest.raises(UsageError, match="other settings"):
        run(card, output=folder)
    steps: list[Step] = []
    result = run(card, output=folder, resume=True, progress=steps.append)
    assert {step.member for step in steps if step.state == "done"} == {"kan-seed0", "kan-seed1"}
    settings = {row["model"]: row["settings"] for row in result.report["rows"]}
    assert (settings["kan"]["grid"], settings["kan"]["epochs"]) == (3, 2)
    assert "grid" not in settings["mlp"]


@pytest.mark.slow
def test_result_does_not_depend_on_the_number_of_processes(finished: Result, sample: Path, tmp_path: Path) -> None:
    card = small_card(sample, ("kan", "gam", "mlp", "bdt", "logistic"))
    steps: list[Step] = []
    parallel = run(card, output=tmp_path / "run", workers=2, progress=steps.append, command="hepkan run multijet")
    assert without_times(parallel.report) == without_times(finished.report)
    assert Step("all", 10, 10) in steps


def test_a_folder_that_is_no_run_is_left_alone(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an output of hepkan"):
        run(small_card(sample), output=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_unwritable_output_fails_before_training(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    steps: list[Step] = []
    with pytest.raises(OSError, match="cannot be written"):
        run(small_card(sample), output=tmp_path / "file" / "run", progress=steps.append)
    assert not steps
    check_writable(tmp_path / "fine")
    assert (tmp_path / "fine").is_dir()


def test_a_test_file_is_the_test_part(sample: Path, tmp_path: Path) -> None:
    events = pq.read_table(sample)
    pq.write_table(events.slice(0, 500), tmp_path / "own.parquet")
    card = load_card("multijet", models=["logistic"], seeds=1, data=sample, test=tmp_path / "own.parquet", quick=True)
    found = run(card, output=tmp_path / "run")
    scores = pq.read_table(found.folder / "predictions.parquet")
    assert scores["id"].to_pylist() == events["id"].to_pylist()[:500]
    data = found.report["data"]
    assert data["n_test"] == 500 and data["n_train"] + data["n_validation"] == 1200
    assert data["test_source"].endswith("own.parquet")
    with pytest.raises(DataError, match=r"none\.parquet is not a file"):
        run(load_card("multijet", data=sample, test="none.parquet"), output=tmp_path / "no")


def test_finished_members_judge_another_test_sample_without_training(sample: Path, tmp_path: Path) -> None:
    events = pq.read_table(sample)
    for name, start in (("first", 0), ("second", 500)):
        pq.write_table(events.slice(start, 500), tmp_path / f"{name}.parquet")

    def card_of(name: str, seeds: int = 1) -> Card:
        path = tmp_path / f"{name}.parquet"
        return load_card("multijet", models=["logistic", "bdt"], seeds=seeds, data=sample, test=path, quick=True)

    found = run(card_of("first"), output=tmp_path / "run")
    fresh = run(card_of("second"), output=tmp_path / "fresh")
    card = card_of("second", seeds=2)
    members = plan(card, prepare(card), tmp_path / "run")
    before = found.report["data"]["test_sha256"]
    assert [judge_again(member, before) for member in members] == [True, False, True, False]
    assert [member.complete for member in members] == [True, False, True, False]
    assert not any(judge_again(member, "another") for member in members if not member.complete)
    for member in (members[0], members[2]):
        scores = member.scores("test")
        assert scores.equals(pq.read_table(
            fresh.folder / "members" / member.name / "scores.parquet", filters=[("part", "=", "test")]
        ).drop_columns(["part"]))  # fmt: skip


def test_settings_that_came_later_leave_members_valid_until_they_are_used(sample: Path, tmp_path: Path) -> None:
    card = small_card(sample, ("kan",))
    member = plan(card, prepare(card), tmp_path)[0]
    settings = json.loads(member.settings)
    assert all(settings[name] == value for name, value in ADDED.items())
    before = {name: value for name, value in settings.items() if name not in ADDED}
    same = make_member(member.data, "kan", "kan", 0, before, tmp_path)
    other = make_member(member.data, "kan", "kan", 0, {**settings, "rank": 1}, tmp_path)
    assert same.digest == member.digest != other.digest


def test_wrong_card_or_sample_fails_before_the_folder_exists(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match=r"Did you mean 'model\.grid'"):
        run(small_card(sample, ("kan",), "model.gird=3"), output=folder)
    with pytest.raises(UsageError, match="Unknown process"):
        run(small_card(sample, ("kan",), "mix.tbar=2"), output=folder)
    with pytest.raises(UsageError, match="Unknown feature"):
        run(small_card(sample, ("kan",), "cuts=[mtw]"), output=folder)
    with pytest.raises(DataError, match="is not a file"):
        run(small_card(tmp_path / "none.parquet"), output=folder)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(sample.read_bytes()[:2000])
    with pytest.raises(DataError, match="broken"):
        run(small_card(broken), output=folder)
    assert not folder.exists()


def test_killed_process_is_an_error_with_advice(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    def broken(*_: object, **__: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(executors.ProcessPoolExecutor, "submit", broken)
    with pytest.raises(OSError, match="--resume"):
        run(small_card(sample), output=tmp_path / "run", workers=2)
    assert not (tmp_path / "run" / "DONE").exists()


def test_compare_puts_runs_side_by_side(finished: Result, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder, copy)
    rows = compare([finished.folder, copy])
    assert len(rows) == 2 * len(finished.report["rows"])
    assert {row["run"] for row in rows} == {"all", "copy"}
    assert set(rows[0]) == {*ROW, "run"}
    with pytest.raises(UsageError, match="must differ"):
        compare([copy, copy])
    assert run_names([Path("a/run"), Path("b/run"), Path("c")]) == ["a/run", "b/run", "c"]


def test_reading_what_is_no_complete_run(finished: Result, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_report(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is not one"):
        read_report(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder, copy)
    (copy / "report.json").write_text("{")
    with pytest.raises(DataError, match="not a readable report"):
        read_report(copy)
    (copy / "DONE").unlink()
    with pytest.raises(DataError, match="not complete"):
        read_report(copy)


def test_errors_join_seeds_and_events() -> None:
    one = evidence.Measured({"auc": np.array([0.8, 0.9])}, {"auc": np.array([0.84, 0.86, 0.85])})
    assert one.value("auc") == pytest.approx(0.85)
    assert one.errors("auc") == (pytest.approx(0.05), pytest.approx(0.01))
    two = evidence.Measured({"auc": np.array([0.7, 0.8])}, {"auc": np.array([0.74, 0.76, 0.75])})
    gap = evidence.difference(one, two, "auc")
    assert gap["difference"] == pytest.approx(0.1)
    assert gap["error"] == pytest.approx(0.0, abs=1e-12)  # seeds and repetitions move together
    same = evidence.difference(one, one, "auc")
    assert (same["difference"], same["sigma"]) == (0.0, 0.0)


def test_what_json_cannot_hold_becomes_none() -> None:
    endless = evidence.Measured({"r": np.array([np.inf, 2.0])}, {"r": np.array([np.inf, np.inf, 1.0])})
    row = evidence.result_rows(
        endless, {"task": "t", "model": "m", "seeds": 2, "parameters": 1, "train_seconds": 0.0, "settings": {}}
    )[0]
    assert row["value"] is None
    assert row["error"] is None


def test_closing_a_folder_removes_what_killed_processes_left(tmp_path: Path) -> None:
    members = tmp_path / "members"
    (members / ".kan-seed0.abc.part").mkdir(parents=True)
    for name in ("members/..kan-seed0-12.xyz.part.checkpoint", ".report.q.part.json", "members/kept.part"):
        (tmp_path / name).write_text("half")
    close_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["DONE", "kept.part", "members"]
