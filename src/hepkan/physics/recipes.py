"""What the sample of each task is made of: its processes, its selection and its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import UsageError, unknown
from hepkan.physics.detector import Reco
from hepkan.physics.observables import compute
from hepkan.physics.processes import ProcessCard
from hepkan.physics.selection import Region, Selected, Selection, select
from hepkan.physics.top_dm import DARK_GENERATORS, compute_inputs
from hepkan.physics.top_dm_selection import TOP_DM_SELECTION, select_top_dm


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How hard events become the rows of a task's sample.

    Attributes:
        processes: those of the default sample. Every class receives the same number of rows, the cards' `share`
            divides a class.
        mediator: whether its processes have one, and its truth columns.
        selection: the thresholds.
        select: applies them to reconstructed events.
        compute: observables from object columns, (n,) each.
    """

    processes: tuple[str, ...]
    mediator: bool = False
    selection: Selection
    select: Callable[[Reco, Selection, Region, np.random.Generator], Selected]
    compute: Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[np.float64]]]

    def check(self, card: ProcessCard) -> None:
        """Refuse a process whose events cannot fill the sample's columns.

        Raises:
            UsageError: it is one.
        """
        if (card.generator in DARK_GENERATORS) != self.mediator:
            kind = "with a mediator" if self.mediator else "without a mediator"
            raise UsageError(
                f"This sample needs processes {kind} ({', '.join(self.processes)}), however: {card.name}. Generate it "
                "with another task."
            )


RECIPES: dict[str, Recipe] = {
    "multijet": Recipe(
        processes=("single_top_tchannel", "ttbar", "wjets", "multijet"),
        selection=Selection(),
        select=select,
        compute=compute,
    ),
    "top_dm": Recipe(
        processes=("top_phi",),
        mediator=True,
        selection=TOP_DM_SELECTION,
        select=select_top_dm,
        compute=compute_inputs,
    ),
}
"""By task."""


def get_recipe(task: str) -> Recipe:
    """Return what the sample of a task is made of.

    Raises:
        UsageError: no sample is made for this task.
    """
    if task not in RECIPES:
        raise unknown("task for generation", task, RECIPES)
    return RECIPES[task]
