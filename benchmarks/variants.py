"""Our network against itself: finer grids, other degrees, uneven knots, a second thread.

What is compared takes turns in one group, so that a drift of the machine does not enter the ratios.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from players import Case, torch_player
from rivals import hepkan
from timing import Action, Turn, summary_of, take_turns
from torch import Tensor

from hepkan.nn import KAN

GRIDS = (5, 20, 50)
GRID_WIDTHS, GRID_BATCH = (24, 30, 30, 8), 1024
WIDTHS = (43, 30, 30, 1)
DEGREES = range(1, 6)
THREADS_BATCH = 8192
THREADS_ROUNDS = 3  # times as many rounds by the clock as of CPU time: other programs disturb it more


def finer_grids(rounds: int) -> list[dict[str, Any]]:
    """Return a row per grid, with ratios to the coarsest one."""
    actions: dict[tuple[int, str], Action] = {}
    for grid in GRIDS:
        player = hepkan(Case(widths=GRID_WIDTHS, grid=grid, batch=GRID_BATCH))
        actions |= {(grid, kind): action for kind, action in player.actions.items()}
    taken = take_turns(actions, rounds)
    name = Case(widths=GRID_WIDTHS, grid=GRIDS[0], batch=GRID_BATCH).name
    return [{"grid": grid, "against": name, **both_kinds(taken, grid, GRIDS[0])} for grid in GRIDS]


def adaptive(rounds: int, batch: int) -> list[dict[str, Any]]:
    """Return a row per degree with even and with uneven knots, with ratios to the cubic layer with even knots."""
    case = Case(widths=WIDTHS, grid=5, batch=batch)
    actions: dict[tuple[tuple[int, bool], str], Action] = {}
    for degree in DEGREES:
        for uneven in (False, True):
            player = torch_player(spline_network(case, degree, uneven), case)
            actions |= {((degree, uneven), kind): action for kind, action in player.actions.items()}
    taken = take_turns(actions, rounds)
    rows = []
    for key in dict.fromkeys(key for key, _ in actions):
        facts = {"case": case.name, "degree": key[0], "knots": "uneven" if key[1] else "even"}
        rows.append({**facts, **both_kinds(taken, key, (3, False))})
    return rows


def spline_network(case: Case, degree: int, uneven: bool) -> KAN:
    """Return our network with a degree; uneven knots are even ones moved by up to 0.3 of an interval."""
    model = KAN(case.widths, grid=case.grid, degree=degree, input_map="none", grid_range=(-1.0, 1.0), backend="cpu")
    if uneven:
        generator = torch.Generator().manual_seed(0)
        for name, knots in model.named_buffers():
            if name.endswith("knots"):
                knots.copy_(moved(knots, generator))
    return model


def moved(knots: Tensor, generator: torch.Generator) -> Tensor:
    """Return knots that keep their order, each moved at random."""
    step = (knots[:, -1:] - knots[:, :1]) / (knots.shape[1] - 1)
    return knots + 0.3 * step * (2 * torch.rand(knots.shape, generator=generator) - 1)


def both_kinds(taken: dict[tuple[Any, str], list[Turn]], key: Any, against: Any) -> dict[str, Any]:
    """Return medians of training step and inference, with ratios to another member of the group."""
    parts = [summary_of(kind, taken[key, kind], taken[against, kind]) for kind in ("train", "infer")]
    return parts[0] | parts[1]


def second_thread(shapes: Sequence[tuple[tuple[int, ...], int]], rounds: int) -> list[dict[str, Any]]:
    """Return a row per shape: how much faster two threads are than one by the clock; none on a single core.

    `cpu_ratio` is the CPU time of two threads over that of one; `wait_ratio` time by the clock over CPU time with one
    thread, which is 1 where nothing else runs.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return []
    before = torch.get_num_threads()
    rows = []
    for widths, grid in shapes:
        case = Case(widths=widths, grid=grid, batch=THREADS_BATCH)
        player = hepkan(case)
        actions = {
            (threads, kind): with_threads(action, threads)
            for threads in (1, 2)
            for kind, action in player.actions.items()
        }
        taken = take_turns(actions, THREADS_ROUNDS * rounds)
        row: dict[str, Any] = {"case": case.name}
        for kind in player.actions:
            one, two = taken[1, kind], taken[2, kind]
            ratios = [a.wall / b.wall for a, b in zip(one, two, strict=True)]
            row[f"{kind}_speedup"] = median(ratios)
            row[f"{kind}_speedup_range"] = [min(ratios), max(ratios)]
            row[f"{kind}_cpu_ratio"] = median(b.cpu / a.cpu for a, b in zip(one, two, strict=True))
            row[f"{kind}_wait_ratio"] = median(a.wall / a.cpu for a in one)
        rows.append(row)
    torch.set_num_threads(before)
    return rows


def with_threads(action: Action, threads: int) -> Action:
    """Return the action with a fixed number of threads."""

    def run() -> None:
        torch.set_num_threads(threads)
        action()

    return run
