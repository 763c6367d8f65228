"""How far a scan has come: every trial with its state and the value it has reached so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hepkan.studies.members import Member, Step


@dataclass(frozen=True)
class Trial:
    """One point of a scan: its name, the values varied, its members (one per seed)."""

    label: str
    values: dict[str, Any]
    members: tuple[Member, ...]


@dataclass
class Standing:
    """Where one trial stands: validation losses of the seeds that are done, epochs of those that run."""

    trial: Trial
    losses: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, tuple[int, int]] = field(default_factory=dict)
    failure: str = ""

    @property
    def value(self) -> float | None:
        """Return the mean validation loss over the seeds that are done."""
        losses = self._in_order()
        return float(np.mean(losses)) if losses else None

    @property
    def error(self) -> float:
        """Return the standard error of the value; zero where one seed shows none."""
        losses = self._in_order()
        return float(np.std(losses, ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else 0.0

    def _in_order(self) -> list[float]:
        """Return the losses by seed: sums must not depend on which seed was first, not even in the last digit."""
        return [self.losses[member.name] for member in self.trial.members if member.name in self.losses]

    @property
    def state(self) -> str:
        """Return waiting, running, done or failed."""
        if self.failure:
            return "failed"
        if len(self.losses) == len(self.trial.members):
            return "done"
        return "running" if self.losses or self.epochs else "waiting"


class Board:
    """All trials of a scan in their order, kept up to date by the steps of their members."""

    def __init__(
        self,
        total: int,
        progress: Callable[[Step], None] | None = None,
        watch: Callable[[Board], None] | None = None,
    ) -> None:
        self.total = total
        self.standings: list[Standing] = []
        self._progress, self._watch = progress, watch

    def add(self, trials: Sequence[Trial]) -> None:
        """Add trials that begin now."""
        self.standings += [Standing(trial) for trial in trials]
        self._changed()

    def update(self, step: Step) -> None:
        """Take a step of a member into account, in every trial that has it."""
        for standing in self.standings:
            for member in standing.trial.members:
                if member.name == step.member:
                    _note(standing, member, step)
        if self._progress is not None:
            self._progress(step)
        self._changed()

    def _changed(self) -> None:
        if self._watch is not None:
            self._watch(self)

    @property
    def trials(self) -> list[Trial]:
        """Return all trials so far."""
        return [standing.trial for standing in self.standings]

    @property
    def failures(self) -> dict[str, str]:
        """Return why trials failed, by label."""
        return {one.trial.label: one.failure for one in self.standings if one.failure}

    @property
    def best(self) -> Standing | None:
        """Return the finished trial with the lowest value."""
        done = [one for one in self.standings if one.state == "done"]
        return min(done, key=lambda one: one.value or 0.0) if done else None

    def count(self, state: str) -> int:
        """Return the number of trials in a state."""
        return sum(one.state == state for one in self.standings)

    def value(self, trial: Trial) -> float | None:
        """Return the value of a finished trial; None when it failed."""
        standing = next(one for one in self.standings if one.trial is trial)
        return standing.value if standing.state == "done" else None


def _note(standing: Standing, member: Member, step: Step) -> None:
    """Write a step of a member into the standing of its trial."""
    if step.state == "failed":
        standing.failure = step.text
    elif step.state in ("done", "reused"):
        standing.epochs.pop(member.name, None)
        standing.losses[member.name] = float(member.record["validation_loss"])
    else:
        standing.epochs[member.name] = (step.done, step.total)
