"""The command line as a user meets it: exit codes, one-paragraph errors, JSON and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import hepkan
from hepkan.cli import app

SHORT = ["--set", "bootstrap=20", "--set", "train.epochs=2", "--seeds", "1", "--workers", "1"]
ROW = ["task", "model", "metric", "value", "error", "seeds", "parameters", "train_seconds", "settings"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def finished(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by the command line."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    result = invoke("run", "multijet", "--model", "kan,mlp", "--data", sample, *SHORT, "-o", folder)
    assert result.exit_code == 0, result.output
    assert "KAN" in result.stdout and "AUC" in result.stdout and str(folder / "index.html") in result.stdout
    return folder


def test_version_and_help_of_every_command() -> None:
    assert invoke("--version").stdout.split() == ["hepkan", hepkan.__version__]
    for name in ("generate", "run", "scan", "compare", "report", "env"):
        result = invoke(name, "--help")
        assert result.exit_code == 0
        assert "--debug" in result.stdout


def test_env_names_versions_kernels_and_pip_lines() -> None:
    content = json.loads(invoke("env", "--json").stdout)
    assert content["versions"]["hepkan"] == hepkan.__version__
    assert content["kernels"]["torch"] == ""
    assert all(not reason or "pip install 'hepkan[" in reason for reason in content["extras"].values())
    assert "kernel cpu" in invoke("env").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "multijt"], "Did you mean 'multijet'"),
        (["run", "multijet", "--model", "kam"], "Did you mean 'kan'"),
        (["run", "multijet", "--set", "model.gird=3"], "Did you mean 'model.grid'"),
        (["run", "card.yaml"], "There is no card 'card.yaml'"),
        (["scan", "multijet", "--vary", "model.grid"], "key=a,b,c"),
        (["generate", "multijets", "--events", "10", "-o", "x.parquet"], "Did you mean 'multijet'"),
        (["generate", "multijet", "--rows", "ttbr=5", "-o", "x.parquet"], "Did you mean 'ttbar'"),
        (["generate", "multijet", "--rows", "ttbar", "-o", "x.parquet"], "as in ttbar=1000"),
        (["generate", "multijet", "-o", "x.parquet"], "neither is"),
        (["generate", "top_dm", "--rows", "ttbar=5", "-o", "x.parquet"], "with a mediator"),
        (["generate", "multijet", "--events", "9", "--rows", "ttbar=5", "-o", "x.parquet"], "both are"),
        (["generate", "multijet", "--events", "9", "-o", "x.csv"], ".parquet or .root"),
        (["compare", "nothing"], "nothing"),
        (["report", "nothing"], "nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_paragraph_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("hepkan: ") and message in result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_corrupted_sample_and_unwritable_output_exit_with_1(sample: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(sample.read_bytes()[:3000])
    result = invoke("run", "multijet", "--data", broken, "-o", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "broken.parquet" in result.stderr
    (tmp_path / "file").touch()
    for command in (
        ["run", "multijet", "--data", sample, "-o", tmp_path / "file" / "run"],
        ["generate", "multijet", "--events", 9, "-o", tmp_path / "file" / "x.parquet"],
    ):
        result = invoke(*command)
        assert result.exit_code == 1
        assert "cannot be written" in result.stderr


def test_missing_extra_names_the_pip_line(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kan", None)
    result = invoke("run", "multijet", "--model", "pykan", "--data", sample, *SHORT, "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert "pip install 'hepkan[rivals]'" in result.stderr


def test_debug_shows_the_traceback() -> None:
    result = invoke("run", "multijt", "--debug")
    assert isinstance(result.exception, hepkan.errors.UsageError)


def test_json_is_one_list_of_rows_and_nothing_else(finished: Path, sample: Path) -> None:
    same = ["multijet", "--model", "kan,mlp", "--data", sample, *SHORT, "-o", finished, "--json"]
    rows = json.loads(invoke("run", *same).stdout)
    assert [list(row) for row in rows] == [ROW] * len(rows)
    assert {"kan", "mlp"} <= {row["model"] for row in rows}
    compared = json.loads(invoke("compare", finished, "--json").stdout)
    assert [row["value"] for row in compared] == [row["value"] for row in rows]


def test_finished_run_is_not_trained_again(finished: Path, sample: Path) -> None:
    before = (finished / "report.json").stat().st_mtime_ns
    result = invoke("run", "multijet", "--model", "kan,mlp", "--data", sample, *SHORT, "-o", finished)
    assert result.exit_code == 0
    assert "nothing was trained" in result.stderr
    assert (finished / "report.json").stat().st_mtime_ns == before


def test_report_writes_the_page_again(finished: Path) -> None:
    page = (finished / "index.html").read_bytes()
    (finished / "index.html").unlink()
    assert invoke("report", finished).exit_code == 0
    assert (finished / "index.html").read_bytes() == page


def test_compare_and_scan_show_tables(finished: Path, sample: Path, tmp_path: Path) -> None:
    assert "Runs side by side" in invoke("compare", finished).stdout
    vary = ["--vary", "model.hidden=2,3", "--data", sample, *SHORT, "-o", tmp_path / "scan"]
    result = invoke("scan", "multijet", *vary)
    assert result.exit_code == 0, result.stderr
    assert "model.hidden" in result.stdout
    assert (tmp_path / "scan" / "plots" / "scan_hidden.png").is_file()
    page = (tmp_path / "scan" / "index.html").read_bytes()
    assert invoke("report", tmp_path / "scan").exit_code == 0
    assert (tmp_path / "scan" / "index.html").read_bytes() == page
