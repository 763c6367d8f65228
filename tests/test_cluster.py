"""The recipes for batch systems: the job scripts that they submit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[1] / "docs" / "cluster"

if importlib.util.find_spec("dask_jobqueue") is None:
    pytest.skip("dask-jobqueue is not installed", allow_module_level=True)


MAKE = """
import json, runpy, sys
if __name__ == "__main__":
    with runpy.run_path(sys.argv[1])["make"]() as cluster:
        print(json.dumps([cluster.job_script(), cluster.scheduler_address]), flush=True)
        cluster.scale(jobs=int(sys.argv[2]))
        sys.stdin.read()
"""


@contextmanager
def started(recipe: str, folder: Path, jobs: int = 0, **environment: str) -> Iterator[tuple[str, str]]:
    """The job script and the address of a recipe's cluster, in a process of its own.

    dask-jobqueue sets a handler for Ctrl-C when it is imported, and keeps an event loop.
    """
    (folder / "make.py").write_text(MAKE)
    command = [sys.executable, "make.py", str(RECIPES / f"{recipe}.py"), str(jobs)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, text=True, **pipes) as process:
        script, address = json.loads(process.stdout.readline())
        yield script, address
        process.stdin.close()
        assert process.wait(60) == 0


def test_job_script_of_slurm(tmp_path: Path) -> None:
    with started("slurm", tmp_path) as (script, address):
        lines = script.splitlines()
    for line in ("#SBATCH -p main", "#SBATCH -n 1", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=3G"):
        assert line in lines
    assert "#SBATCH -t 04:00:00" in lines and "export OMP_NUM_THREADS=1" in lines
    check_worker(next(line for line in lines if "dask_worker" in line), address)


def test_job_script_of_htcondor(tmp_path: Path) -> None:
    with started("htcondor", tmp_path) as (script, address):
        lines = script.splitlines()
    for line in ("should_transfer_files = NO", "+MaxRuntime = 14400", "MY.DaskWorkerCores = 1", "Queue"):
        assert line in lines
    assert "MY.DaskWorkerMemory = 3000000000" in lines
    arguments = next(line for line in lines if line.startswith("Arguments"))
    assert "export OMP_NUM_THREADS=1" in arguments
    check_worker(arguments, address)


def check_worker(line: str, address: str) -> None:
    """Check the command that starts a worker."""
    assert f"{sys.executable} -m distributed.cli.dask_worker {address}" in line
    assert "--nthreads 1" in line and "--lifetime 230m" in line


@pytest.mark.slow
def test_submitted_job_is_a_worker(tmp_path: Path) -> None:
    """A stand-in for `sbatch` that runs a copy of the job script at once (dask-jobqueue deletes its own); it works."""
    from hepkan.executors import Dask
    from test_executors import double

    commands = {"sbatch": 'cp "$1" job.sh\nsh job.sh >/dev/null 2>&1 &\necho $!', "scancel": 'kill "$1"'}
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    places = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parent)}
    with started("slurm", tmp_path, 1, **places) as (_, address), Dask(address) as executor:
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
