"""Two processes that train together do what one does with the same batches."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import distributed

import hepkan
from hepkan.data import ParquetStream
from hepkan.errors import UsageError
from hepkan.train.training import Training
from training_cases import Killed, events, same_results

ODD = events(301)
REGRESSION = (ODD[0], 50 * np.sin(2 * ODD[0][:, :1]) + ODD[0])
FIRST = {"epochs": 4, "batch": 50, "learning_rate": 0.02}
CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "plain": (lambda: hepkan.KAN([2, 5, 1]), ODD, FIRST),
    "everything": (
        lambda: hepkan.KAN([2, 5, 1]).double(),
        (*ODD, np.linspace(0.1, 2.0, 301)),
        {**FIRST, "regularisers": {"l1": 1e-3, "entropy": 1e-3}, "gradient_clip": 0.1, "grid_updates": 2}
        | {"average": 0.9},
    ),
    "regression": (lambda: hepkan.MLP([2, 8, 2]), REGRESSION, {**FIRST, "loss": "mse", "optimizer": "sgd"}),
    "streamed": (lambda: hepkan.KAN([2, 5, 1]), None, {**FIRST, "grid_updates": 1}),
    "a batch of one": (lambda: hepkan.KAN([2, 1]), ODD, {**FIRST, "batch": 100}),
    "lbfgs": (
        lambda: hepkan.KAN([2, 3, 1], base="none").double(),
        ODD,
        {"epochs": 2, "batch": 301, "optimizer": "lbfgs", "weight_decay": 1e-3},
    ),
}
"""Every case: a network, its data (None: a stream) and settings; float32 except where rounding is amplified: by the
line search, and by the kinks of the L1 penalty under Adam."""


def train(name: str, folder: Path, **changes: Any) -> Any:
    model, data, settings = CASES[name]
    held_out = events(77, 1) if name != "regression" else (REGRESSION[0][:77], REGRESSION[1][:77])
    if data is None:
        data = ParquetStream(folder / "events.parquet", ["pt", "eta"], weight=None, buffer=120)
    return hepkan.fit(model(), data, held_out, **settings | changes)


def work(folder: Path) -> None:
    """What each process does: all cases, a training with dropout killed and continued, and one that differs."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    found: dict[str, Any] = {}
    for name in CASES:
        shown: list[int] = []
        result = train(name, folder, progress=lambda epoch, *_: shown.append(epoch))  # noqa: B023
        found[name] = {"history": result.history, "weights": result.model.state_dict(), "shown": len(shown)}
    found["resumed"], found["left"] = killed_and_continued(folder / f"folder of {rank}" / "checkpoint")
    try:
        hepkan.fit(hepkan.KAN([2, 1], seed=rank), ODD, epochs=1)
    except UsageError as error:
        found["refused"] = str(error)
    torch.save(found, folder / f"found-{rank}.pt")
    distributed.destroy_process_group()


def killed_and_continued(path: Path) -> tuple[bool, list[bool]]:
    """Return whether the result is the same to the bit, and when there was a checkpoint: killed, and at the end."""

    def fit() -> Any:
        return hepkan.fit(hepkan.MLP([2, 16, 1], dropout=0.3), ODD, epochs=4, batch=50, checkpoint=path)

    straight, epoch = fit(), Training.epoch

    def stopping(self: Training) -> dict[str, float]:
        if len(self.history) == 2:
            raise Killed
        return epoch(self)

    Training.epoch = stopping  # type: ignore[method-assign]
    with pytest.raises(Killed):
        fit()
    Training.epoch = epoch  # type: ignore[method-assign]
    distributed.barrier()
    left = path.exists()
    same = same_results(fit(), straight)
    distributed.barrier()
    return same, [left, path.exists()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the events as a file."""
    path = tmp_path_factory.mktemp("processes")
    content = {"pt": ODD[0][:, 0], "eta": ODD[0][:, 1], "label": ODD[1]}
    pq.write_table(pa.table(content), path / "events.parquet", row_group_size=50)
    return path


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What two processes found."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [*torchrun, __file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_with_the_joint_batch(name: str, found: list[dict[str, Any]], folder: Path) -> None:
    one, two = found[0][name], found[1][name]
    assert all(torch.equal(one["weights"][key], two["weights"][key]) for key in one["weights"])
    alone = train(name, folder)
    for key, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(one["weights"][key], tensor, atol=1e-5, rtol=1e-4)
    assert len(one["history"]) == len(two["history"]) == len(alone.history)
    for mine, its, row in zip(one["history"], two["history"], alone.history, strict=True):
        assert mine.keys() == row.keys()
        for key in set(row) - {"seconds"}:
            assert mine[key] == its[key] == pytest.approx(row[key], rel=1e-4, abs=1e-7)


def test_the_first_process_alone_shows_progress_and_writes(found: list[dict[str, Any]]) -> None:
    assert [one["plain"]["shown"] for one in found] == [4, 0]
    assert [one["left"] for one in found] == [[True, False], [False, False]]


def test_a_killed_training_of_two_processes_continues_to_the_identical_result(found: list[dict[str, Any]]) -> None:
    assert [one["resumed"] for one in found] == [True, True]


def test_processes_that_differ_are_refused(found: list[dict[str, Any]]) -> None:
    assert all("same model, data and settings" in one["refused"] for one in found)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
