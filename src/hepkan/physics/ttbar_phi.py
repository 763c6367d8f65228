"""Top-quark pairs with a scalar mediator and one leptonic W: Pythia's Higgs processes with another mass.

The mediator is Pythia's Higgs boson (25), stable and with a fixed mass. A hook on the hard process keeps exactly one
W -> l nu (e, mu, tau), whose charged lepton is hard enough to be selected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from hepkan.errors import require
from hepkan.physics.invisible import invisible_truth
from hepkan.physics.processes import ProcessCard, Slice
from hepkan.physics.showers import Batch, start, stream
from hepkan.physics.top_phi_showers import mediator_mass

MEDIATOR = 25
MASS_SETTING = f"{MEDIATOR}:m0"
MEDIATOR_SETTINGS = (
    f"{MEDIATOR}:mayDecay = off",
    f"{MEDIATOR}:isResonance = off",
    # Otherwise it has a Higgs boson's width and limits: no mass below 50 GeV, and down to 69 GeV for 300 GeV.
    f"{MEDIATOR}:doForceWidth = on",
    f"{MEDIATOR}:mWidth = 0.",
    f"{MEDIATOR}:mMin = 0.",
)
# GeV, before the shower; of 2,900 selected events without these cuts two lay below (0.07 %).
LEPTON_PT = {11: 15.0, 13: 15.0, 15: 25.0}


@cache
def one_lepton_hook() -> type:
    """Return the hook class that keeps hard processes with exactly one charged lepton, of `pt_min` and its flavours.

    Other numbers of leptons are vetoed, and so are other flavours and softer ones.
    """
    pythia8mc = require("pythia8mc", "generate", "Event generation")

    class OneLepton(pythia8mc.UserHooks):  # type: ignore[misc, name-defined]
        def __init__(self, pt_min: Mapping[int, float] = LEPTON_PT) -> None:
            super().__init__()
            self.pt_min = pt_min

        def canVetoProcessLevel(self) -> bool:
            return True

        def doVetoProcessLevel(self, process: Any) -> bool:
            leptons = [i for i in range(5, process.size()) if process[i].idAbs() in (11, 13, 15)]
            if len(leptons) != 1:
                return True
            lepton = process[leptons[0]]
            return bool(lepton.pT() < self.pt_min.get(lepton.idAbs(), math.inf))

    return OneLepton


def ttbar_phi_batches(card: ProcessCard, piece: Slice, seed: int) -> Iterator[Batch]:
    """Yield batches of top pairs with a mediator; every hard event that passed the hook is an attempt.

    The mediator's mass is that of Pythia's setting `25:m0` in the slice. Truth columns are those of all batches and of
    `invisible_truth`, and `true_m_phi`, the mediator's mass.

    Raises:
        UsageError: the slice gives no mass.
    """
    settings = (*card.pythia, *piece.pythia)
    mass = mediator_mass(settings, MASS_SETTING)
    hook = one_lepton_hook()()  # a name of its own: Pythia drops a hook that Python no longer holds
    pythia = start((*settings, *MEDIATOR_SETTINGS), seed, hook)
    for batch in stream(pythia, more_truth=partial(invisible_truth, mediator=MEDIATOR)):
        yield replace(batch, truth={**batch.truth, "true_m_phi": np.full(len(batch.parent), mass)})
