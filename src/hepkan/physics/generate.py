"""Samples of selected events, made in chunks by several processes.

The list of chunks, each with its own seed, follows from the request alone, so the file is the same, byte for byte, for
any number of workers. A finished chunk is a file beside the output; a killed run picks up where it was.

This holds on one kind of processor. NumPy rounds exp, log and trigonometric functions in another way where there are
other vector instructions (AVX-512), and an event that is accepted there and not here changes all after it in its chunk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.executors import Dask, Processes, Report, await_seen
from hepkan.physics import chunks, user_lhe, user_showers
from hepkan.physics.chunks import Chunk
from hepkan.physics.detector import DetectorParameters
from hepkan.physics.io import read_sample, write_sample
from hepkan.physics.processes import ProcessCard, ScaledSlice, get_process
from hepkan.physics.recipes import RECIPES, get_recipe
from hepkan.physics.user_lhe import UserEvents

PROCESSES: dict[str, tuple[str, ...]] = {task: recipe.processes for task, recipe in RECIPES.items()}
"""For each task the processes of its sample. Every class receives the same number of rows, `share` divides a class."""


@dataclass(frozen=True)
class Progress:
    """How far a generation has come: rows, seconds spent and the estimate of seconds left."""

    rows: int
    total_rows: int
    chunks: int
    total_chunks: int
    seconds: float
    seconds_left: float | None

    @property
    def rows_per_second(self) -> float:
        """Selected rows per second of wall time in this run."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


def generate(
    task: str,
    *,
    events: int | None = None,
    rows: Mapping[str, int] | None = None,
    seed: int,
    output: str | Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Generate a sample of selected rows and write it as Parquet (`.parquet`) or ROOT (`.root`).

    Arguments:
        task: name of the task whose processes are generated.
        events: rows in the file, shared among the processes as `PROCESSES` says.
        rows: rows of each process, instead of `events`; any process card that the task's sample can hold.
        seed: any non-negative integer; every chunk derives its own.
        output: the file; chunks are kept in `<output>.chunks` until it is complete.
        workers: processes to use; does not change the result.
        scheduler: address of a Dask scheduler whose workers are used instead; does not change the result either.
        progress: called after every chunk.

    Raises:
        UsageError: unknown task or process, or a number out of range.
        MissingExtra: pythia8mc or fastjet is not installed, or dask.distributed is needed and not installed.
        DataError: Pythia refuses a card.
        OSError: the output cannot be written.
    """
    counts = row_counts(task, events, rows)
    path = _checked(output, seed, workers)
    plan = chunks.plan(counts, seed, task)
    recipe = recipe_of(task, counts, seed)
    folder = path.with_name(path.name + ".chunks") / recipe["recipe_hash"][:16]
    folder.mkdir(parents=True, exist_ok=True)
    _run(plan, folder, workers, progress, scheduler=scheduler)
    columns, processes = merge(plan, folder, task)
    write_sample(path, columns, {**recipe, "processes": processes})
    shutil.rmtree(folder.parent)
    return path


def generate_lhe(
    user: UserEvents,
    *,
    seed: int,
    output: str | Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Make a sample of the user's own hard events; `seed`, `output` and all that follows as in `generate`.

    Every hard event is used once, and every selected one is a row. The metadata's `lhe` say what the files hold.

    Raises:
        UsageError: a number out of range.
        MissingExtra: pylhe, pythia8mc or fastjet is not installed.
        DataError: a file is damaged, or its events do not suit the task (see `user_lhe.prepare`), or none is selected.
        OSError: the output cannot be written.
    """
    path = _checked(output, seed, workers)
    recipe = user.recipe(seed)
    folder = path.with_name(path.name + ".chunks") / recipe["recipe_hash"][:16]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        plan = user_showers.plan_user(user, user_lhe.prepare(user, folder), seed)
    except DataError:  # nothing to resume
        shutil.rmtree(folder)
        raise
    _run(plan, folder, workers, progress, user_showers.run_user, scheduler)
    columns, processes = merge(plan, folder, user.task, lambda name: user.card)
    if not len(columns["weight"]):
        raise DataError(
            f"Some events must pass the selection, however none of {sum(chunk.rows for chunk in plan)} of {user.name} "
            f"does in the region {user.card.region!r}; give more events, or another --label or task."
        )
    recipe["lhe"]["content"] = user_lhe.file_summaries(folder)
    write_sample(path, columns, {**recipe, "processes": processes})
    shutil.rmtree(folder.parent)
    return path


def _checked(output: str | Path, seed: int, workers: int) -> Path:
    """The path of the output, once what all generations ask for is in range."""
    if seed < 0 or workers < 1:
        raise UsageError(f"seed must be >= 0 and workers >= 1, however: seed={seed}, workers={workers}.")
    path = Path(output)
    if path.suffix not in (".parquet", ".root"):
        raise UsageError(f"The output must end in .parquet or .root, however it is {path.name!r}.")
    return path


def row_counts(task: str, events: int | None = None, rows: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the rows of each process: those of `rows`, or `events` shared out.

    Raises:
        UsageError: unknown task or process, one that the sample cannot hold, fewer than one row, or not exactly one
            of `events` and `rows`.
    """
    recipe = get_recipe(task)
    if (events is None) == (not rows):
        raise UsageError(
            f"Either events (--events N) or rows of processes (--rows {PROCESSES[task][0]}=N) must be given, however "
            f"{'neither is' if events is None else 'both are'}."
        )
    if rows:
        if min(rows.values()) < 1:
            raise UsageError(f"Every process needs at least one row, however: {dict(rows)}.")
        for name in rows:
            recipe.check(get_process(name))
        return {name: int(count) for name, count in rows.items()}
    assert events is not None
    if events < len(PROCESSES[task]):
        raise UsageError(f"events must be at least {len(PROCESSES[task])}, one per process, however: {events}.")
    cards = [get_process(name) for name in PROCESSES[task]]
    labels = sorted({card.label for card in cards})
    share_of_class = {label: sum(card.share for card in cards if card.label == label) for label in labels}
    shares = [card.share / share_of_class[card.label] for card in cards]
    return dict(zip(PROCESSES[task], chunks.share_out(events, shares), strict=True))


def recipe_of(task: str, counts: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Return everything the content of a sample depends on, with its SHA-256 as `recipe_hash`."""
    recipe: dict[str, Any] = {
        "task": task,
        "seed": seed,
        "version": hepkan.__version__,
        "rows": dict(counts),
        "cards": {name: get_process(name).model_dump(mode="json") for name in counts},
        "selection": dataclasses.asdict(get_recipe(task).selection),
        "detector": dataclasses.asdict(DetectorParameters()),
    }
    canonical = json.dumps(recipe, sort_keys=True, default=str)
    return {**json.loads(canonical), "recipe_hash": hashlib.sha256(canonical.encode()).hexdigest()}


def _run(
    plan: Sequence[Chunk],
    folder: Path,
    workers: int,
    progress: Callable[[Progress], None] | None,
    make: Callable[[Any, Path], float] = chunks.run,
    scheduler: str | None = None,
) -> None:
    """Make the chunks that are missing in `folder`, each by `make(chunk, folder)`, which returns its seconds."""
    todo = [chunk for chunk in plan if not chunk.path(folder).exists()]
    start = time.monotonic()
    costs: dict[str, tuple[float, int]] = {}
    done_rows = 0
    if not todo:
        return
    pending = dict(enumerate(todo))
    tasks = [(make, chunk, folder.absolute()) for chunk in todo]
    with Processes(workers) if scheduler is None else Dask(scheduler) as executor:
        for place, spent in executor.run(_make, tasks):
            chunk = pending.pop(place)
            await_seen(chunk.path(folder).exists, chunk.path(folder))
            seconds, chunk_rows = costs.get(chunk.stratum, (0.0, 0))
            costs[chunk.stratum] = (seconds + spent, chunk_rows + chunk.rows)
            done_rows += chunk.rows
            if progress is not None:
                left = _seconds_left(list(pending.values()), costs, executor.workers)
                ready = len(plan) - len(pending)
                total = sum(chunk.rows for chunk in todo)
                progress(Progress(done_rows, total, ready, len(plan), time.monotonic() - start, left))


def _make(task: tuple[Callable[[Any, Path], float], Any, Path], report: Report) -> float:
    """Make one chunk wherever this runs."""
    make, chunk, folder = task
    return make(chunk, folder)


def _seconds_left(pending: list[Chunk], costs: dict[str, tuple[float, int]], workers: int) -> float | None:
    """Estimate from the cost per row of each stratum, the mean cost where a stratum was not seen yet."""
    seconds = sum(cost for cost, _ in costs.values())
    rows = sum(count for _, count in costs.values())
    if not rows:
        return None
    mean = seconds / rows
    per_row = {name: cost / count for name, (cost, count) in costs.items()}
    return sum(chunk.rows * per_row.get(chunk.stratum, mean) for chunk in pending) / workers


def merge(
    plan: Sequence[Chunk],
    folder: Path,
    task: str = "multijet",
    card_of: Callable[[str], ProcessCard] = get_process,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Join the chunks in the order of the plan, give every row its weight in pb and compute the observables.

    All chunks of a stratum share one estimate of its cross-section per hard event,
    `weight = factor * sigma / sum of attempts`, so the weights of a process add up to its selected cross-section.
    """
    parts: list[dict[str, np.ndarray]] = []
    summary: dict[str, Any] = {}
    strata = list(dict.fromkeys(chunk.stratum for chunk in plan))
    for stratum in strata:
        members = [chunk for chunk in plan if chunk.stratum == stratum]
        samples = [read_sample(chunk.path(folder)) for chunk in members]
        card = card_of(members[0].process)
        attempts = np.array([sample.metadata["attempts"] for sample in samples], dtype=np.float64)
        sigmas = np.array([sample.metadata["sigma_pb"] for sample in samples])
        generator_pb = float(np.average(sigmas, weights=attempts))
        total_pb = normalisation(card, generator_pb, members[0].slice)
        names = list(samples[0].columns)
        columns = {name: np.concatenate([sample.columns[name] for sample in samples]) for name in names}
        columns["weight"] = columns["weight"] * (total_pb / attempts.sum())
        parts.append(columns)
        entry = summary.setdefault(
            card.name, {"title": card.title, "label": card.label, "rows": 0, "selected_pb": 0.0, "strata": {}}
        )
        entry["rows"] += len(columns["weight"])
        entry["selected_pb"] += float(columns["weight"].sum())
        entry["strata"][members[0].slice] = {
            "attempts": int(attempts.sum()),
            "generator_pb": generator_pb,
            "normalised_to_pb": total_pb,
            "selected_pb": float(columns["weight"].sum()),
            "rows": len(columns["weight"]),
        }
    if not parts:
        raise DataError("A sample needs at least one chunk, however the plan is empty; ask for more events.")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    observables = {name: values.astype(np.float32) for name, values in get_recipe(task).compute(joined).items()}
    return {**observables, **{name: joined[name] for name in joined if name not in observables}}, summary


def normalisation(card: ProcessCard, generator_pb: float, slice_name: str = "") -> float:
    """Return the cross-section in pb that the attempted events of a process, or of one of its slices, stand for."""
    section = card.cross_section
    if section.value_pb is not None:
        return section.value_pb * section.branching
    own = [piece.k_factor for piece in card.slices if isinstance(piece, ScaledSlice) and piece.name == slice_name]
    return generator_pb * section.k_factor * (own[0] if own else 1.0)
