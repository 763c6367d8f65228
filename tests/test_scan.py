"""Scans: the contract of their folders, resuming after kills, and the same result wherever they are trained."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from hepkan.errors import DataError, UsageError
from hepkan.model_io import load
from hepkan.studies.card import Card
from hepkan.studies.members import Step, split
from hepkan.studies.options import load_card
from hepkan.studies.run import Result
from hepkan.studies.scan import make_plan, make_trial, parse_grid, scan, slug
from hepkan.studies.scan_board import Board, Standing
from hepkan.studies.scan_report import loss_of
from hepkan.studies.scan_search import Range, open_search, parse_space
from hepkan.terminal import board_table, scanning

ROW = ["task", "model", "metric", "value", "error", "seeds", "parameters", "train_seconds", "settings"]
SHORT = ["bootstrap=20", "train.epochs=2"]
FILES = {"card.yaml", "scan.parquet", "times.parquet", "report.json", "index.html", "plots", "DONE", "members"}


def small_card(sample: Path, *overrides: str, seeds: int = 2) -> Card:
    return load_card("multijet", models=["kan"], data=sample, seeds=seeds, overrides=[*SHORT, *overrides])


def regression_card(*overrides: str, seeds: int = 2) -> Card:
    settings = ["rows=1500", "model.hidden=3", *SHORT, *overrides]
    return load_card("top_dm", models=["kan"], seeds=seeds, overrides=settings)


@pytest.fixture(scope="module")
def grid(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A scan over two hidden layouts."""
    return scan(small_card(sample), ["model.hidden=2,[2,2]"], output=tmp_path_factory.mktemp("scans") / "grid")


@pytest.fixture(scope="module")
def search(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A search of six trials in batches of two."""
    folder = tmp_path_factory.mktemp("scans") / "search"
    return scan(small_card(sample, seeds=1), SPACE, output=folder, method="tpe", trials=6, batch=2)


SPACE = ["model.hidden=2..4", "model.learning_rate=1e-3..1e-1", "model.grid=3,5"]


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on how a scan came about."""
    drop = ("created", "command", "train_seconds")
    rows = [{key: value for key, value in row.items() if key not in drop} for row in report["rows"]]
    trials = [{key: value for key, value in one.items() if key not in drop} for one in report["trials"]]
    return {key: value for key, value in report.items() if key not in drop} | {"rows": rows, "trials": trials}


def test_scan_has_every_file_and_row_of_the_contract(grid: Result) -> None:
    assert {path.name for path in grid.folder.iterdir()} >= FILES
    report = json.loads((grid.folder / "report.json").read_text())
    assert report == grid.report
    assert all(list(row) == ROW for row in report["rows"])
    assert [trial["values"] for trial in report["trials"]] == [{"model.hidden": 2}, {"model.hidden": [2, 2]}]
    assert {row["metric"] for row in report["rows"]} >= {"auc", "validation_loss", "train_loss"}
    best = report["trials"][report["best"]]
    assert best["results"]["validation_loss"]["value"] == min(
        trial["results"]["validation_loss"]["value"] for trial in report["trials"]
    )
    assert {item["reference"] for item in report["comparisons"]} == {best["label"]}
    assert {item["metric"] for item in report["comparisons"]} == {"validation_loss", "auc"}


def test_tables_are_tidy_and_times_are_apart(grid: Result, search: Result) -> None:
    table = pq.read_table(grid.folder / "scan.parquet")
    assert len(table) == 4
    names = {"number", "trial", "model.hidden", "seed", "parameters", "auc", "validation_loss", "train_loss", "failure"}
    assert names <= set(table.column_names)
    assert not [name for name in table.column_names if "second" in name or "time" in name]
    assert table["model.hidden"].to_pylist() == ["2", "2", "[2, 2]", "[2, 2]"]
    times = pq.read_table(grid.folder / "times.parquet")
    assert len(times) == 4 and all(value > 0 for value in times["train_seconds"].to_pylist())
    numbers = pq.read_table(search.folder / "scan.parquet")
    assert [str(numbers.schema.field(path).type) for path in ("model.hidden", "model.learning_rate", "model.grid")] == [
        *("int64", "double", "int64")
    ]


def test_scan_is_idempotent_and_extends(grid: Result, sample: Path, tmp_path: Path) -> None:
    card, folder = small_card(sample), tmp_path / "scan"
    assert scan(card, ["model.hidden=2,[2,2]"], output=grid.folder).reused
    scan(card, ["model.hidden=2"], output=folder)
    with pytest.raises(UsageError, match="--resume"):
        scan(card, ["model.hidden=2,[2,2]"], output=folder)
    steps: list[Step] = []
    longer = scan(card, ["model.hidden=2,[2,2]"], output=folder, resume=True, progress=steps.append)
    assert {one.member for one in steps if one.state == "done"} == {"kan-hidden=2x2-seed0", "kan-hidden=2x2-seed1"}
    assert without_times(longer.report) == without_times(grid.report)
    assert (folder / "scan.parquet").read_bytes() == (grid.folder / "scan.parquet").read_bytes()


def test_losses_of_the_report_are_those_of_training(grid: Result, sample: Path, tmp_path: Path) -> None:
    regression = scan(regression_card(seeds=1), ["model.grid=3"], output=tmp_path / "scan")
    for result, card, vary, loss in (
        (grid, small_card(sample), "model.hidden=2", "cross_entropy"),
        (regression, regression_card(seeds=1), "model.grid=3", "mae"),
    ):
        trial = make_trial(make_plan(card, [vary], result.folder), result.report["trials"][0]["values"])
        member = trial.members[0]
        validation = split(member.data, 0)[1]
        found = loss_of(load(member.folder / "model.hepkan"), validation, loss)
        assert found == pytest.approx(member.record["validation_loss"], rel=1e-5)


def test_regression_is_scanned_by_its_own_measures(tmp_path: Path) -> None:
    found = scan(regression_card(), ["model.grid=3,5", "model.degree=2,3"], output=tmp_path / "scan")
    assert found.report["metric"] == "mae" and found.report["loss"] == "mae"
    table = pq.read_table(tmp_path / "scan" / "scan.parquet")
    assert len(table) == 8
    assert {"mae", "mae_nu_px", "bias_phi_e"} <= set(table.column_names) and "auc" not in table.column_names
    pictures = {path.name for path in (tmp_path / "scan" / "plots").iterdir()}
    assert pictures == {"scan_grid.svg", "scan_grid.png", "scan_degree.svg", "scan_degree.png"}
    assert "MAE (standardised)" in (tmp_path / "scan" / "index.html").read_text()


@pytest.mark.parametrize(
    ("vary", "options", "message"),
    [
        ([], {}, "Give every setting to vary once"),
        (["model.grid=3", "model.grid=5"], {}, "Give every setting to vary once"),
        (["model.grid=3,3"], {}, "must differ"),
        (["seeds=1,2"], {}, "cannot vary"),
        (["model.grid"], {}, "key=a,b,c"),
        (["model.grid=3..5"], {}, "needs --method tpe"),
        (["model.gird=3,5"], {}, r"Did you mean 'model\.grid'"),
        (["model.grid=3,5"], {"trials": 5}, "--trials is for --method tpe"),
        (["model.grid=3,5"], {"method": "random"}, "Unknown method 'random'"),
        (["train.learning_rate=0.1,0.2"], {}, r"no effect on kan.*vary model\.learning_rate"),
        (["model.grid=3..5"], {"method": "tpe"}, "needs its number of trials"),
        (["model.grid=5..3"], {"method": "tpe", "trials": 5}, "from a smaller to a larger"),
        (["model.grid=0..3:log"], {"method": "tpe", "trials": 5}, "begins above zero"),
        (["model.grid=1..3:cubic"], {"method": "tpe", "trials": 5}, "ends in :log, :linear"),
        (["model.gird=3..5"], {"method": "tpe", "trials": 5}, r"Did you mean 'model\.grid'"),
        (["train.loss=mae,mse"], {"method": "tpe", "trials": 5}, "incomparable"),
        (["split.seed=1..9"], {"method": "tpe", "trials": 5}, "incomparable"),
    ],
)
def test_wrong_requests_are_found_before_training(
    vary: list[str], options: dict[str, Any], message: str, sample: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        scan(small_card(sample), vary, output=tmp_path / "scan", **options)
    assert not (tmp_path / "scan").exists()


def test_grid_of_several_settings() -> None:
    assert parse_grid(["model.grid=3,5", "model.hidden=[2,2],4"]) == {"model.grid": [3, 5], "model.hidden": [[2, 2], 4]}


def test_names_of_trials() -> None:
    assert slug({"model.hidden": [30, 30], "model.grid": 5}) == "hidden=30x30,grid=5"
    assert slug({"model.hidden": []}) == "hidden=none"
    assert "/" not in slug({"data": "a/b"})
    assert len(slug({f"model.setting{i}": i for i in range(20)})) == 16


def test_a_trial_that_diverges_is_told_and_the_others_go_on(sample: Path, tmp_path: Path) -> None:
    card = small_card(sample, "model.hidden=2")
    found = scan(card, ["model.learning_rate=0.01,1e30"], output=tmp_path / "scan")
    good, bad = found.report["trials"]
    assert good["failure"] is None and "finite" in bad["failure"] and bad["results"] == {}
    table = pq.read_table(tmp_path / "scan" / "scan.parquet").to_pylist()
    assert [row["failure"] is None for row in table] == [True, True, False, False]
    assert [row["validation_loss"] is None for row in table] == [False, False, True, True]
    assert "1 of 2 trials failed" in (tmp_path / "scan" / "index.html").read_text()
    with pytest.raises(DataError, match="No trial could be trained"):
        scan(card, ["model.learning_rate=1e30"], output=tmp_path / "none")


def test_board_follows_the_trials(sample: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    def watch(board: Board) -> None:
        seen.append((board.count("waiting"), board.count("running"), board.count("done")))
        assert board.total == 2

    found = scan(small_card(sample), ["model.hidden=2,3"], output=tmp_path / "scan", watch=watch)
    assert seen[0] == (2, 0, 0) and seen[-1] == (0, 0, 2)
    assert (1, 1, 0) in seen and (0, 1, 1) in seen
    assert len(found.report["trials"]) == 2


def test_value_of_a_trial_does_not_depend_on_which_seed_is_first(sample: Path, tmp_path: Path) -> None:
    plan = make_plan(small_card(sample, seeds=3), ["model.hidden=2"], tmp_path)
    trial = make_trial(plan, {"model.hidden": 2})
    losses = dict(zip((member.name for member in trial.members), (0.1, 0.2, 0.3), strict=True))
    one, two = Standing(trial, losses), Standing(trial, dict(reversed(losses.items())))
    assert one.value == two.value == np.mean([0.1, 0.2, 0.3])
    assert one.error == two.error == pytest.approx(0.1 / np.sqrt(3))
    assert (one.state, Standing(trial).state, Standing(trial, failure="no").state) == ("done", "waiting", "failed")


def test_a_search_begins_with_the_card(sample: Path, tmp_path: Path) -> None:
    card = small_card(sample, "model.hidden=3", seeds=1)
    found = scan(card, ["model.hidden=2..4"], output=tmp_path / "scan", method="tpe", trials=1)
    assert found.report["trials"][0]["values"] == {"model.hidden": 3}


def test_search_finishes_its_trials_and_judges_two_on_the_test_events(search: Result) -> None:
    report = search.report
    assert [trial["number"] for trial in report["trials"]] == list(range(6))
    for trial in report["trials"]:
        assert 2 <= trial["values"]["model.hidden"] <= 4 and 1e-3 <= trial["values"]["model.learning_rate"] <= 1e-1
        assert trial["values"]["model.grid"] in (3, 5)
    judged = {trial["number"] for trial in report["trials"] if "auc" in trial["results"]}
    assert judged == {0, report["best"]}
    assert {path.name for path in (search.folder / "plots").glob("*.svg")} == {"search.svg", "settings.svg"}


def test_search_goes_on_as_if_it_had_never_stopped(search: Result, sample: Path, tmp_path: Path) -> None:
    card, folder = small_card(sample, seeds=1), tmp_path / "scan"
    scan(card, SPACE, output=folder, method="tpe", trials=3, batch=2)
    journal = (folder / "journal.log").read_bytes()
    (folder / "journal.log").write_bytes(journal[:-20])  # killed in the middle of a line
    again = scan(card, SPACE, output=folder, method="tpe", trials=6, batch=2, resume=True)
    assert without_times(again.report) == without_times(search.report)
    assert (folder / "scan.parquet").read_bytes() == (search.folder / "scan.parquet").read_bytes()


def test_search_without_its_journal_or_members_finds_the_same(search: Result, sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    shutil.copytree(search.folder, folder)
    (folder / "DONE").unlink()
    (folder / "journal.log").unlink()
    shutil.rmtree(next((folder / "members").iterdir()))
    again = scan(small_card(sample, seeds=1), SPACE, output=folder, method="tpe", trials=6, batch=2, resume=True)
    assert (folder / "scan.parquet").read_bytes() == (search.folder / "scan.parquet").read_bytes()
    assert not again.reused


def test_damaged_journal_is_a_data_error(search: Result, sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    scan(small_card(sample, seeds=1), SPACE, output=folder, method="tpe", trials=1, batch=2)
    lines = (folder / "journal.log").read_bytes().splitlines(keepends=True)
    (folder / "journal.log").write_bytes(lines[0] + b"{\n" + b"".join(lines[1:]))
    with pytest.raises(DataError, match="damaged"):
        scan(small_card(sample, seeds=1), SPACE, output=folder, method="tpe", trials=2, batch=2, resume=True)


def test_table_and_lines_while_a_scan_runs(sample: Path, tmp_path: Path) -> None:
    plan = make_plan(small_card(sample), ["model.hidden=2,3,4,5"], tmp_path, command="hepkan scan")
    trials = [make_trial(plan, {"model.hidden": width}) for width in (2, 3, 4, 5)]
    first, second = (member.name for member in trials[1].members)
    board = Board(4)
    board.add(trials)
    board.standings[0].losses = {member.name: 0.25 for member in trials[0].members}
    board.standings[1].losses = {first: 0.5}
    board.standings[1].epochs = {second: (3, 20)}
    board.standings[2].failure = "the loss must stay finite"
    console = Console(width=100, record=True, file=io.StringIO(), force_terminal=True)
    console.print(board_table(board))
    shown = console.export_text()
    for text in ("1 of 4 trials done, 1 running, 1 failed", "0: hidden = 2", "2/2", "0.25", "epoch 3/20", "waiting"):
        assert text in shown
    console.print(board_table(board, rows=2))
    short = console.export_text()
    assert "hidden = 3" in short and "hidden = 2" in short and "hidden = 5" not in short  # the running one and the best
    file = io.StringIO()
    with scanning(Console(file=file, width=200)) as watch:
        watch(board)
        watch(board)
    lines = file.getvalue().splitlines()
    assert lines == [
        "trial 1 of 4: kan-hidden=2: validation loss 0.25, the best so far",
        "trial 2 of 4: kan-hidden=4: the loss must stay finite",
    ]


def test_two_searches_in_one_folder_exclude_each_other(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seed": 0, "batch": 2, "first": {}}
    space = parse_space(["model.grid=3..50"])
    with (
        open_search(tmp_path / "journal.log", "a", space, **options),
        pytest.raises(UsageError, match="Another process"),
        open_search(tmp_path / "journal.log", "a", space, **options),
    ):
        pass


def test_ranges_and_choices() -> None:
    texts = ["a=3..50", "b=1..9", "c=1e-4..1e-2", "d=0.1..0.5", "e=1..100:linear", "f=0.5..1:log"]
    space = parse_space([*texts, "g=x,[1,2]", "h=0..9"])
    found = {path: (kind.whole, kind.log) for path, kind in space.items() if isinstance(kind, Range)}
    assert {path for path, (whole, _) in found.items() if whole} == set("abeh")
    assert {path for path, (_, log) in found.items() if log} == set("acf")
    assert space["g"].decode(space["g"].encode([1, 2])) == [1, 2] and space["g"].encode(3) is None
    assert space["a"].encode(51) is None and space["a"].encode(2.5) is None and space["a"].encode(True) is None
    assert space["c"].decode(0.00123456) == 0.001235 and space["d"].decode(0.5) == 0.5
    again = parse_space([f"{path}={kind}" for path, kind in space.items()])
    assert again == space


def test_search_finds_the_minimum_of_a_function(tmp_path: Path) -> None:
    space = parse_space(["x=0.01..10", "n=1..40"])

    def loss(values: dict[str, Any]) -> float:
        return float(np.log(values["x"] / 0.3) ** 2 + (np.log(values["n"] / 10)) ** 2)

    def run(trials: int, batch: int, path: Path) -> list[float]:
        with open_search(path, "f", space, seed=3, batch=batch, first={"x": 5.0, "n": 2}) as search:
            for numbers in search.batches(trials):
                for number, values in [(number, search.values(number)) for number in numbers]:
                    search.tell(number, loss(values))
            return [loss(search.values(number)) for number in range(trials)]

    found = run(60, 4, tmp_path / "a.log")
    assert found[0] == pytest.approx(loss({"x": 5.0, "n": 2}))
    assert min(found[30:]) < 0.1 and np.median(found[40:]) < 0.5 * np.median(found[:10])
    assert run(60, 4, tmp_path / "b.log") == found
    assert run(60, 5, tmp_path / "c.log") != found


def command(sample: Path, folder: Path, *more: str) -> list[str]:
    """Return a scan as a command of its own."""
    options = ["--data", str(sample), "--seeds", "2", "--set", "bootstrap=20", "--resume", "-o", str(folder), *more]
    return [sys.executable, "-m", "hepkan", "scan", "multijet", *options]


GRID = ["--vary", "model.hidden=2,3,4,5", "--set", "train.epochs=12", "--workers", "2"]
TPE = ["--vary", "model.hidden=2..5", "--set", "train.epochs=12", "--method", "tpe", "--trials", "4", "--batch", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [GRID, [*TPE, "--workers", "2"]], ids=["grid", "tpe"])
def test_killed_ten_times_and_resumed_gives_the_same_file(options: list[str], sample: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    subprocess.run(command(sample, tmp_path / "whole", *options), check=True, capture_output=True, env=environment)
    duration = time.monotonic() - start
    chance, kills, killed = random.Random(1), 10, tmp_path / "killed"
    for _ in range(kills):
        process = subprocess.Popen(
            command(sample, killed, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        time.sleep(duration * chance.uniform(0.3, 0.8))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(sample, killed, *options), check=True, capture_output=True, env=environment)
    whole = (tmp_path / "whole" / "scan.parquet").read_bytes()
    assert (killed / "scan.parquet").read_bytes() == whole
    assert len(pq.read_table(killed / "scan.parquet")) == 8
    left = [path.name for path in (killed / "members").iterdir() if path.name.endswith(".checkpoint")]
    assert not left
