"""The built-in tasks: frozen records in a dict. A new task is one module and one line here."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import yaml

from hepkan.errors import DataError, unknown
from hepkan.tasks import multijet, top_dm

if TYPE_CHECKING:
    from hepkan.data import Table
    from hepkan.physics.top_dm_derived import Derived


class TableFunction(Protocol):
    """Reads a sample file as a table of inputs, label or targets, and weights."""

    def __call__(
        self,
        path: Path,
        *,
        n: int | None = None,
        seed: int = 0,
        mix: Mapping[str, float] | None = None,
        features: Sequence[str] | None = None,
    ) -> Table: ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """A question with its data.

    Attributes:
        name: The name used on the command line.
        title: One line for tables and pages.
        question: What is asked, in a sentence.
        card: Name of the YAML card, beside this module.
        read: Turns a sample file into a `Table`.
        derived: Returns the quantities that follow from the targets of a regression.
    """

    name: str
    title: str
    question: str
    card: str
    read: TableFunction
    derived: Callable[[], Sequence[Derived]] = tuple

    def card_text(self) -> str:
        """Return the task's card as YAML text."""
        return (importlib.resources.files(__package__) / self.card).read_text(encoding="utf-8")

    def table(
        self,
        n: int | None = None,
        seed: int = 0,
        path: str | Path | None = None,
        mix: Mapping[str, float] | None = None,
        features: Sequence[str] | None = None,
    ) -> Table:
        """Return the task's events as a table.

        Arguments:
            n: At most this many events (all by default), half of each class or every mass in proportion; weights keep
                every yield.
            seed: Chooses which events.
            path: A sample file made by `hepkan generate`; the embedded sample by default.
            mix: Shares of processes within their class, or of masses; those of the task's card by default; `{}` keeps
                the published yields.
            features: Names of the inputs; all observables of the task by default.

        Raises:
            DataError: the sample is missing or corrupted.
            UsageError: a process or an observable is unknown.
        """
        sample = Path(path) if path is not None else embedded(self.name)
        if mix is None:
            mix = yaml.safe_load(self.card_text())["mix"]
        return self.read(sample, n=n, seed=seed, mix=mix, features=features)


TASKS = {
    task.name: task
    for task in (
        Task(
            name="multijet",
            title="Prompt leptons against QCD multijet",
            question="Does a KAN separate prompt-lepton events from multijet production better than an MLP?",
            card="multijet.yaml",
            read=multijet.read,
        ),
        Task(
            name="top_dm",
            title="Momenta of neutrino and dark matter in single top events",
            question="Does a KAN reconstruct the two invisible momenta better than an MLP?",
            card="top_dm.yaml",
            read=top_dm.read,
            derived=top_dm.derived,
        ),
    )
}


def get_task(name: str) -> Task:
    """Return a built-in task by its name."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


def embedded(name: str) -> Path:
    """Return the path of a task's embedded sample.

    Raises:
        DataError: this installation does not have it.
    """
    path = Path(str(importlib.resources.files(__package__) / "samples" / f"{name}.parquet"))
    if not path.is_file():
        raise DataError(
            f"This installation has no embedded sample {path}. Make one with: hepkan generate {name} "
            f"--events 20000 --seed 1 -o {name}.parquet, and give it by --data {name}.parquet."
        )
    return path
