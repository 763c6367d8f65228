"""Hand hard events from NumPy to Pythia in memory, through its Les Houches interface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from hepkan.errors import require
from hepkan.physics.lhe import HardEvents, LheInit
from hepkan.physics.single_top_events import SingleTopEvents
from hepkan.physics.top_decay import rescale_pair
from hepkan.physics.top_phi_events import TopPhiEvents

MASS_BOTTOM = 4.8
MASS_LEPTON = {11: 0.000511, 13: 0.10566, 15: 1.77682}
PROCESS = 9001
_NO_SPIN = 9.0
_UNWEIGHTED, _WEIGHTED = 3, 4  # strategies of the Les Houches accord


def pythia_settings() -> list[str]:
    """Return the settings that a Pythia run needs for the events of `lhaup`.

    The dipole recoil keeps the two colour lines of the t channel apart in the initial-state shower. Masses are those
    that `lhaup` writes, and its events balance, so Pythia must not correct either.
    """
    return [
        "Beams:frameType = 5",
        "LesHouches:matchInOut = off",
        "LesHouches:setQuarkMass = 0",
        "LesHouches:setLeptonMass = 0",
        "SpaceShower:dipoleRecoil = on",
    ]


def with_masses(events: SingleTopEvents) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give the b of the decay and the charged lepton Pythia's masses (GeV); return W, b, lepton, neutrino (n, 4).

    The tops, the virtualities of the Ws and the directions in the rest frames of top and W stay as generated.
    """
    lepton, neutrino = np.empty_like(events.top), np.empty_like(events.top)
    mass_w = np.sqrt(np.maximum(events.w[:, 3] ** 2 - np.sum(events.w[:, :3] ** 2, axis=1), 0.0))
    bottom, w = rescale_pair(events.top, events.top, events.bottom, MASS_BOTTOM, mass_w)
    for flavour, mass in MASS_LEPTON.items():
        rows = np.abs(events.id_lepton) == flavour
        lepton[rows], neutrino[rows] = rescale_pair(events.w[rows], w[rows], events.lepton[rows], mass, 0.0)
    return w, bottom, lepton, neutrino


def lhaup(events: SingleTopEvents, ecm: float = 13000.0) -> Any:
    """Return a `pythia8mc.LHAup` that serves the events in order, each with weight one.

    Spins are not written: the shower uses none of light partons and b, and Pythia takes the polarisation of a tau from
    the W it comes from. The cross-section given to Pythia is that of undecayed tops, so `sigmaGen` must be multiplied
    by the branching ratio of the leptons. Keep a reference to the source while Pythia lives, and start Pythia with
    `pythia_settings()`: `pythia.setLHAupPtr(source); pythia.init()`. After the last event `pythia.next()` is false.

    Arguments:
        events: hard events; all of them are converted at once.
        ecm: collision energy in GeV.

    Raises:
        MissingExtra: pythia8mc is not installed.
    """
    beam = 0.5 * ecm
    init = LheInit((2212, 2212), (beam, beam), _UNWEIGHTED, events.sigma_pb, events.sigma_error_pb)
    rows = (_Row(1.0, scale, 0.118, particles, pdf) for scale, particles, pdf in _rows(events))
    return _provider()(init, rows)


def numbered(events: HardEvents, init: LheInit) -> Any:
    """Return a `pythia8mc.LHAup` that serves the hard events of a file in order, as they are.

    Each has its number, counted from 1, in place of a weight: `info.weights` of `Pythia.nextBatch` says which events
    Pythia has delivered, and which it has not. Keep a reference to the source while Pythia lives.

    Raises:
        MissingExtra: pythia8mc is not installed.
    """
    return _provider()(LheInit(init.beams, init.energies, _WEIGHTED, 1.0, 0.0), _numbered_rows(events))


@dataclass(frozen=True)
class _Row:
    """Arguments of `setProcess` and `addParticle` for one event, and of `setPdf` where they are known."""

    weight: float
    scale: float
    alpha_s: float
    particles: list[tuple[Any, ...]]
    pdf: tuple[Any, ...] | None


@cache
def _provider() -> type:
    pythia8mc = require("pythia8mc", "generate", "Showering the events")

    class MemoryEvents(pythia8mc.LHAup):  # type: ignore[misc, name-defined]
        """Serves rows in order under one process number; the cross-section comes with the process."""

        def __init__(self, init: LheInit, rows: Iterator[_Row]) -> None:
            super().__init__(init.strategy)
            self.init = init
            self.rows = rows

        def setInit(self) -> bool:
            self.setBeamA(self.init.beams[0], self.init.energies[0])
            self.setBeamB(self.init.beams[1], self.init.energies[1])
            self.setStrategy(self.init.strategy)
            self.addProcess(PROCESS, self.init.sigma_pb, self.init.error_pb, 1.0)
            return True

        def setEvent(self, process: int = 0) -> bool:
            row = next(self.rows, None)
            if row is None:
                return False
            self.setProcess(PROCESS, row.weight, row.scale, 1.0 / 128.0, row.alpha_s)
            for particle in row.particles:
                self.addParticle(*particle)
            if row.pdf is not None:
                self.setPdf(*row.pdf, row.scale, 0.0, 0.0, False)
            return True

    return MemoryEvents


def _numbered_rows(events: HardEvents) -> Iterator[_Row]:
    """Yield the rows of the events of a file; lifetimes are left out."""
    columns = [events.pid, events.status, *events.parents.T, *events.colours.T]
    whole = np.stack(columns, axis=1).tolist()
    floats = np.concatenate([events.p4, events.mass[:, None]], axis=1).tolist()
    particles = [(*w, *f, 0.0, s) for w, f, s in zip(whole, floats, events.spin.tolist(), strict=True)]
    scales, alpha_s = events.scale.tolist(), events.alpha_s.tolist()
    for i, (first, last) in enumerate(zip(events.offsets[:-1], events.offsets[1:], strict=True)):
        yield _Row(i + 1.0, scales[i], alpha_s[i], particles[first:last], None)


def _rows(events: SingleTopEvents) -> Any:
    """Yield (scale, argument lists of `addParticle`, (id1, id2, x1, x2)) of each event; a mediator comes last."""
    w, bottom, lepton, neutrino = with_masses(events)
    columns = [events.incoming1, events.incoming2, events.top, events.light, w, bottom, lepton, neutrino]
    status_mothers = [
        (-1, 0, 0), (-1, 0, 0), (2, 1, 2), (1, 1, 2), (2, 3, 0), (1, 3, 0), (1, 5, 0), (1, 5, 0)
    ]  # fmt: skip
    heavy = [2, 4]
    if isinstance(events, TopPhiEvents):
        columns.append(events.mediator)
        status_mothers.append((1, 1, 2))
        heavy.append(8)
    momenta = np.stack(columns, axis=1)
    mass2 = momenta[..., 3] ** 2 - np.sum(momenta[..., :3] ** 2, axis=-1)
    mass = np.zeros_like(mass2)
    mass[:, heavy] = np.sqrt(np.maximum(mass2[:, heavy], 0.0))
    mass[:, 5] = MASS_BOTTOM
    mass[:, 6] = np.array([MASS_LEPTON[abs(int(i))] for i in events.id_lepton])
    ids, colours = events.pdg_ids.tolist(), events.colours.tolist()
    floats = np.concatenate([momenta, mass[..., None]], axis=2).tolist()
    scales, x1, x2 = events.scale.tolist(), events.x1.tolist(), events.x2.tolist()
    for i, scale in enumerate(scales):
        particles = [
            (ids[i][k], *place, *colours[i][k], *floats[i][k], 0.0, _NO_SPIN) for k, place in enumerate(status_mothers)
        ]
        yield scale, particles, (ids[i][0], ids[i][1], x1[i], x2[i])
