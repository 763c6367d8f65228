"""How much time and memory a call takes on a machine that does other things too.

All calls of a group take turns, round after round, so that a busy machine hits them alike. A ratio is taken within a
round; what counts is the median over rounds.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

Action = Callable[[], None]
Key = TypeVar("Key")

SECONDS_PER_TURN = 0.08
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """Seconds per call: CPU time in user mode, CPU time in the system, and by the clock."""

    user: float
    system: float
    wall: float

    @property
    def cpu(self) -> float:
        """CPU time, user and system."""
        return self.user + self.system


def seconds_of(action: Action) -> float:
    """Return the seconds by the clock of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def turn(action: Action, repeats: int) -> Turn:
    """Return the mean over some calls; when these are many, the first one only warms the caches."""
    if repeats > 3:
        action()
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(repeats):
        action()
    after, end = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    return Turn(
        user=(after.ru_utime - before.ru_utime) / repeats,
        system=(after.ru_stime - before.ru_stime) / repeats,
        wall=(end - start) / repeats,
    )


def take_turns(work: Mapping[Key, Action], rounds: int) -> dict[Key, list[Turn]]:
    """Return the turns of every action, one per round; each round starts with another action."""
    repeats = {}
    for key, action in work.items():
        action()
        repeats[key] = max(1, round(SECONDS_PER_TURN / seconds_of(action)))
    keys = list(work)
    taken: dict[Key, list[Turn]] = {key: [] for key in keys}
    for n in range(rounds):
        first = n % len(keys)
        for key in keys[first:] + keys[:first]:
            gc.collect()
            taken[key].append(turn(work[key], repeats[key]))
    return taken


def summary_of(kind: str, theirs: Sequence[Turn], mine: Sequence[Turn]) -> dict[str, Any]:
    """Return medians of an action's turns and of their ratios to other turns, under names that start with `kind`."""
    ratios = [b.cpu / a.cpu for a, b in zip(mine, theirs, strict=True)]
    return {
        f"{kind}_ms": 1e3 * statistics.median(t.cpu for t in theirs),
        f"{kind}_system_share": sum(t.system for t in theirs) / sum(t.cpu for t in theirs),
        f"{kind}_ratio": statistics.median(ratios),
        f"{kind}_ratio_range": [min(ratios), max(ratios)],
        f"{kind}_wall_ms": 1e3 * statistics.median(t.wall for t in theirs),
        f"{kind}_wall_ratio": statistics.median(b.wall / a.wall for a, b in zip(mine, theirs, strict=True)),
    }


def peak_rise(action: Action, calls: int = 3) -> int | None:
    """Return how many bytes the peak of resident memory lies above the start of a call, None outside Linux.

    Free memory goes back to the system before each call, so that all that a call uses has to come anew.
    """
    if not CLEAR.exists():
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    rises = []
    for _ in range(calls):
        gc.collect()
        if trim is not None:
            trim(0)
        try:
            CLEAR.write_text("5")
        except OSError:
            return None
        before = resident("VmHWM")
        action()
        rises.append(resident("VmHWM") - before)
    return int(statistics.median(rises))


def resident(field: str) -> int:
    """Return a memory size of this process in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])
