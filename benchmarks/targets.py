"""What the networks have to reach, and whether they did; computed from the rows of a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Report = Mapping[str, Any]
SMALL, WIDE = "43-30-30-1 G=5", "43-100-100-1 G=5"
FINE, FINER = "24-30-30-8 G=20", "24-30-30-8 G=50"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A number that has to be at least (`>=`) or at most (`<=`) a limit."""

    text: str
    sign: str
    limit: float
    measure: Callable[[Report], float | None]

    def judged(self, report: Report) -> dict[str, Any]:
        """Return the target with what was measured; `met` is None when it was not."""
        found = self.measure(report)
        met = None if found is None else found >= self.limit if self.sign == ">=" else found <= self.limit
        return {"target": self.text, "wanted": f"{self.sign} {self.limit:g}", "measured": found, "met": met}


def targets(report: Report) -> list[dict[str, Any]]:
    """Return all targets with what was measured; they are meant for one thread."""
    return [target.judged(report) for target in TARGETS]


def faster(kind: str, network: str, batch: int, peer: str, limit: float) -> Target:
    """Return the target that we are some times faster than a peer."""
    return Target(
        text=f"{KINDS[kind]} {network}, batch {batch}: times faster than {peer}",
        sign=">=",
        limit=limit,
        measure=lambda report: ratio(report, kind, f"{network} batch {batch}", peer),
    )


def at_most(kind: str, network: str, batch: int, peer: str, limit: float) -> Target:
    """Return the target that we take at most some times as long as a peer."""

    def measure(report: Report) -> float | None:
        found = ratio(report, kind, f"{network} batch {batch}", peer)
        return None if found is None else 1.0 / found

    text = f"{KINDS[kind]} {network}, batch {batch}: our time / time of {peer}"
    return Target(text=text, sign="<=", limit=limit, measure=measure)


def ratio(report: Report, kind: str, case: str, peer: str) -> float | None:
    """Return the time of a peer over ours."""
    rows = [row for row in report["rows"] if row["case"] == case and row["peer"] == peer]
    return rows[0].get(f"{kind}_ratio") if rows else None


def grid_ratio(report: Report) -> float | None:
    """Return our training step with the finest grid over that with the coarsest."""
    return report["finer_grids"][-1]["train_ratio"] if report["finer_grids"] else None


def speedup(report: Report) -> float | None:
    """Return how much faster two threads make our training step."""
    rows = [row for row in report["second_thread"] if row["case"] == f"{SMALL} batch 8192"]
    return rows[0]["train_speedup"] if rows else None


KINDS = {"train": "training step", "infer": "inference"}
TARGETS = [
    faster("train", SMALL, 1024, "dense", 9.0),
    faster("train", SMALL, 8192, "dense", 12.0),
    faster("train", WIDE, 1024, "dense", 7.0),
    faster("train", FINE, 1024, "dense", 16.0),
    faster("train", FINER, 1024, "dense", 35.0),
    Target(
        text="training step 24-30-30-8, batch 1024: our time at G=50 / at G=5",
        sign="<=",
        limit=1.15,
        measure=grid_ratio,
    ),
    faster("train", SMALL, 1024, "dense compiled", 3.0),
    *(at_most("train", SMALL, batch, "MLP 2x100", 1.2) for batch in (256, 1024, 8192)),
    faster("infer", SMALL, 1024, "dense", 16.0),
    at_most("infer", SMALL, 1024, "onnxruntime MLP 2x100", 1.0),
    Target(
        text=f"training step {SMALL}, batch 8192: two threads against one, by the clock",
        sign=">=",
        limit=1.6,
        measure=speedup,
    ),
]
