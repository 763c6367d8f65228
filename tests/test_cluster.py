"""The recipes for batch systems: the job scripts that they submit."""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RECIPES = Path(__file__).parents[1] / "docs" / "cluster"

if importlib.util.find_spec("dask_jobqueue") is None:
    pytest.skip("dask-jobqueue is not installed", allow_module_level=True)


@pytest.fixture(autouse=True)
def own_interruptions() -> Iterator[None]:
    """Keep the handler of Ctrl-C: dask-jobqueue sets its own when it is imported."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cluster of a recipe, without jobs."""
    monkeypatch.chdir(tmp_path)
    with runpy.run_path(str(RECIPES / f"{request.param}.py"))["make"]() as made:
        yield made


@pytest.mark.parametrize("cluster", ["slurm"], indirect=True)
def test_job_script_of_slurm(cluster: Any) -> None:
    lines = cluster.job_script().splitlines()
    for line in ("#SBATCH -p main", "#SBATCH -n 1", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=3G"):
        assert line in lines
    assert "#SBATCH -t 04:00:00" in lines and "export OMP_NUM_THREADS=1" in lines
    check_worker(next(line for line in lines if "dask_worker" in line), cluster.scheduler_address)


@pytest.mark.parametrize("cluster", ["htcondor"], indirect=True)
def test_job_script_of_htcondor(cluster: Any) -> None:
    script = cluster.job_script()
    lines = script.splitlines()
    for line in ("should_transfer_files = NO", "+MaxRuntime = 14400", "MY.DaskWorkerCores = 1", "Queue"):
        assert line in lines
    assert "MY.DaskWorkerMemory = 3000000000" in lines
    arguments = next(line for line in lines if line.startswith("Arguments"))
    assert "export OMP_NUM_THREADS=1" in arguments
    check_worker(arguments, cluster.scheduler_address)


def check_worker(line: str, address: str) -> None:
    """Check the command that starts a worker."""
    assert f"{sys.executable} -m distributed.cli.dask_worker {address}" in line
    assert "--nthreads 1" in line and "--lifetime 230m" in line


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["slurm"], indirect=True)
def test_submitted_job_is_a_worker(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for `sbatch` that runs the job script at once; the worker joins and works."""
    from hepkan.executors import Dask
    from test_executors import double

    commands = {"sbatch": 'sh "$1" >/dev/null 2>&1 &\necho $!', "scancel": 'kill "$1"'}
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    cluster.scale(jobs=1)
    with Dask(cluster.scheduler_address) as executor:
        assert sorted(executor.run(double, [1, 2])) == [(0, 2), (1, 4)]
        assert executor.workers == 1


def test_the_page_names_every_recipe_and_the_options_exist() -> None:
    from typer.testing import CliRunner

    from hepkan.cli import app

    page = (RECIPES.parent / "cluster.md").read_text(encoding="utf-8")
    for recipe in RECIPES.glob("*.py"):
        assert f"cluster/{recipe.name}" in page
    for command in ("scan", "generate"):
        assert "--scheduler" in CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
