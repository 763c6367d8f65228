"""Where tasks run makes no difference, and a killed worker loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import hepkan
from hepkan import executors
from hepkan.errors import DataError, MissingExtra
from hepkan.executors import Dask, Processes, Report, ThisProcess, make_executor
from hepkan.files import atomic_file
from hepkan.physics import chunks
from hepkan.physics.chunks import Chunk
from hepkan.physics.generate import Progress, _run, generate
from hepkan.studies import pool
from hepkan.studies.options import load_card
from hepkan.studies.scan import scan

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}


def double(task: int, report: Report) -> int:
    """Return twice the task and report it."""
    report({"task": task})
    return 2 * task


def fail(task: int, report: Report) -> int:
    """Refuse odd tasks."""
    if task % 2:
        raise DataError(f"task {task} is odd")
    return task


def die_once(task: str, report: Report) -> str:
    """Kill this very process the first time."""
    mark = Path(task)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark.name


def die(task: int, report: Report) -> int:
    """Kill this very process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def pid(task: int, report: Report) -> int:
    """Return the process, after a while."""
    time.sleep(0.2)
    return os.getpid()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask scheduler in a process of its own."""
    pytest.importorskip("distributed")
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    process = start("distributed.cli.dask_scheduler", *options)
    end = time.monotonic() + 240
    while not (file.exists() and file.read_text().rstrip().endswith("}")) and time.monotonic() < end:
        time.sleep(0.1)
    yield json.loads(file.read_text())["address"]
    process.kill()
    process.wait()


def start(module: str, *options: str) -> subprocess.Popen[bytes]:
    """Start a Python module in the background."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", module, *options], env=ENVIRONMENT, **quiet)


def start_worker(address: str, folder: Path, threads: int = 1) -> subprocess.Popen[bytes]:
    """Start a Dask worker without a nurse: killed is killed. It ends by itself soon after its scheduler."""
    options = ["--no-nanny", "--no-dashboard", "--death-timeout", "30", "--nthreads", str(threads)]
    return start("distributed.cli.dask_worker", address, *options, "--local-directory", str(folder))


@pytest.fixture
def workers(scheduler: str, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two workers of the scheduler, in processes of their own."""
    processes = [start_worker(scheduler, tmp_path / f"worker{i}") for i in range(2)]
    with Dask(scheduler) as dask:
        end = time.monotonic() + 240
        while dask.workers < 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert dask.workers == 2
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_reports_of_every_task(workers: int) -> None:
    seen: list[dict[str, int]] = []
    with make_executor(workers) as executor:
        assert isinstance(executor, Processes if workers > 1 else ThisProcess)
        assert sorted(executor.run(double, [3, 5, 7], seen.append)) == [(0, 6), (1, 10), (2, 14)]
        assert list(executor.run(double, [], seen.append)) == []
    assert sorted(one["task"] for one in seen) == [3, 5, 7]


def test_error_of_a_task_is_raised_and_processes_are_usable_again() -> None:
    with Processes(2) as executor:
        with pytest.raises(DataError, match="task 1 is odd"):
            list(executor.run(fail, [0, 1, 2]))
        assert sorted(executor.run(fail, [0, 2])) == [(0, 0), (1, 2)]


def test_killed_process_begins_its_task_again(tmp_path: Path) -> None:
    tasks = [str(tmp_path / name) for name in ("a", "b")]  # a third could make it three breakdowns in a row
    with Processes(2) as executor:
        assert sorted(executor.run(die_once, tasks)) == [(0, "a"), (1, "b")]


def test_killed_again_and_again_is_an_error() -> None:
    with Processes(2) as executor, pytest.raises(OSError, match=r"3 times in a row.*--resume"):
        list(executor.run(die, [1, 2]))


def test_processes_end_with_the_executor() -> None:
    with Processes(2) as executor:
        first = {found for _, found in executor.run(pid, list(range(4)))}
        assert {found for _, found in executor.run(pid, list(range(4)))} <= first  # kept for the next tasks
        assert len(first) == 2
    end = time.monotonic() + 10
    while any(Path(f"/proc/{one}").exists() for one in first) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{one}").exists() for one in first)


def test_no_scheduler_is_one_sentence() -> None:
    pytest.importorskip("distributed")
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "no-such-host.invalid:8786"):
        with pytest.raises(OSError, match="dask scheduler"):
            Dask(address, timeout=3)


def test_missing_dask_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra, match=r"pip install 'hepkan\[dask\]'"):
        make_executor(1, "tcp://127.0.0.1:8786")


@pytest.mark.slow
def test_dask_gives_the_same_and_says_what_is_wrong(
    scheduler: str, workers: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, int]] = []
    with Dask(scheduler) as executor:
        assert executor.workers == 2
        assert sorted(executor.run(double, [3, 5, 7], seen.append)) == [(0, 6), (1, 10), (2, 14)]
        assert sorted(one["task"] for one in seen) == [3, 5, 7]
        with pytest.raises(DataError, match="is odd"):
            list(executor.run(fail, [0, 1, 2]))
        monkeypatch.setattr(hepkan, "__version__", "0.0.0")
        with pytest.raises(OSError, match=r"must have hepkan 0\.0\.0"):
            list(executor.run(double, [1]))


@pytest.mark.slow
def test_scan_on_dask_with_a_killed_worker_is_the_same_scan(
    scheduler: str, workers: list[subprocess.Popen[bytes]], sample: Path, tmp_path: Path
) -> None:
    overrides = ["bootstrap=20", "train.epochs=30", "train.patience=30", "model.batch=16"]
    card = load_card("multijet", models=["kan"], data=sample, seeds=2, overrides=overrides)
    vary = ["model.hidden=2,3,4"]
    scan(card, vary, output=tmp_path / "here")
    killed: list[int] = []

    def watch(board: object) -> None:
        standings = board.standings  # type: ignore[attr-defined]
        epochs = [epoch for one in standings for epoch, _ in one.epochs.values()]
        if not killed and len(epochs) == 2 and max(epochs) >= 2:
            workers[0].kill()
            killed.append(sum(len(one.losses) for one in standings))

    scan(card, vary, output=tmp_path / "there", scheduler=scheduler, watch=watch)
    assert killed and killed[0] < 6  # in the middle of the scan
    assert (tmp_path / "there" / "scan.parquet").read_bytes() == (tmp_path / "here" / "scan.parquet").read_bytes()
    assert len(pq.read_table(tmp_path / "there" / "scan.parquet")) == 6


@pytest.mark.slow
def test_a_worker_with_many_threads_trains_one_member_at_a_time(
    scheduler: str, sample: Path, tmp_path: Path
) -> None:
    worker = start_worker(scheduler, tmp_path / "worker", threads=4)
    card = load_card("multijet", models=["kan"], data=sample, seeds=3, overrides=["bootstrap=20", "train.epochs=3"])
    scan(card, ["model.hidden=2"], output=tmp_path / "here")
    scan(card, ["model.hidden=2"], output=tmp_path / "there", scheduler=scheduler)
    worker.kill()
    worker.wait()
    assert (tmp_path / "there" / "scan.parquet").read_bytes() == (tmp_path / "here" / "scan.parquet").read_bytes()


def test_folder_that_is_never_seen_is_an_error(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "PATIENCE", 0.1)
    monkeypatch.setattr(pool, "train_member", lambda member, show: None)
    card = load_card("multijet", models=["kan"], data=sample, seeds=1, overrides=["bootstrap=20"])
    (tmp_path / "scan" / "members").mkdir(parents=True)
    (tmp_path / "scan" / "study.json").write_text("{}")
    with pytest.raises(OSError, match="same file system"):
        scan(card, ["model.hidden=2"], output=tmp_path / "scan", resume=True)


def test_executors_know_their_place() -> None:
    assert executors.ThisProcess().workers == 1
    assert Processes(3).workers == 3


def mark(chunk: Chunk, folder: Path) -> float:
    """Stand in for the making of a chunk."""
    time.sleep(0.2)
    with atomic_file(chunk.path(folder)) as temporary:
        temporary.write_text(f"{chunk.stratum} {chunk.rows} {chunk.seed}")
    return 0.2


@pytest.mark.slow
def test_chunks_on_dask_with_a_killed_worker_are_all_there(
    scheduler: str, workers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    plan = chunks.plan({"single_top_tchannel": 30_000, "ttbar": 5_000}, 3)
    left: list[int] = []

    def progress(now: Progress) -> None:
        if now.chunks == 3:
            workers[1].kill()
        left.append(now.total_chunks - now.chunks)

    _run(plan, tmp_path, 1, progress, mark, scheduler)
    assert left == list(range(len(plan) - 1, -1, -1)) and len(plan) > 6
    assert all(chunk.path(tmp_path).read_text().endswith(f"{chunk.rows} 3") for chunk in plan)


@pytest.mark.slow
@pytest.mark.pythia
def test_generation_on_dask_gives_the_same_file(
    scheduler: str, workers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    pytest.importorskip("pythia8mc")
    rows = {"single_top_tchannel": 20}
    generate("multijet", rows=rows, seed=3, output=tmp_path / "here.parquet")
    generate("multijet", rows=rows, seed=3, output=tmp_path / "there.parquet", scheduler=scheduler)
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
