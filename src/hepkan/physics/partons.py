"""Hard events without a shower: the partons themselves play the reconstructed objects.

Electrons and muons are leptons, isolated whatever is near; quarks, gluons and taus are jets, one each, without
clustering; b quarks are tagged with certainty. The missing momentum is that of all neutrinos and dark particles. With
smearing the partons go through the detector instead: its resolutions, thresholds, efficiencies and tags.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hepkan.physics.dark import DARK_IDS, MEDIATOR_IDS
from hepkan.physics.detector import Reco, simulate
from hepkan.physics.lhe import HardEvents
from hepkan.physics.particles import Particles, offsets_from_index
from hepkan.physics.response import CalorimeterResolution, DetectorParameters
from hepkan.physics.showers import NEUTRINOS

INVISIBLE = (*NEUTRINOS, *DARK_IDS, *MEDIATOR_IDS)
DETECTOR = DetectorParameters(invisible=tuple(dict.fromkeys((*DetectorParameters().invisible, *INVISIBLE))))
"""The detector for events of files: dark matter leaves no signal whatever number it has."""

_LEPTONS = (11, 13)
_JETS = (1, 2, 3, 4, 5, 15, 21)
# What the response gives for whole jets of simulated top pairs (see `jet_confusion`), for a jet of one parton.
_JET_RESPONSE = CalorimeterResolution((5.0,), ((0.0, 0.37, 0.0),), ((1.0, 0.0, 0.0),))


def as_reconstructed(events: HardEvents) -> Reco:
    """Return the outgoing partons as perfectly measured leptons, jets and missing momentum."""
    pt, eta, phi = _directions(events.p4)
    size, final = np.abs(events.pid), events.status == 1
    lepton = _ordered(events, final & np.isin(size, _LEPTONS) & (pt > 0), pt)
    jet = _ordered(events, final & np.isin(size, _JETS) & (pt > 0), pt)
    hidden = final & np.isin(size, INVISIBLE)
    met = [np.bincount(events.event[hidden], events.p4[hidden, i], minlength=len(events)) for i in (0, 1)]
    p4 = events.p4[jet]
    flavour = np.where(np.isin(size[jet], (4, 5)), size[jet], 0)
    return Reco(
        lep_offsets=offsets_from_index(events.event[lepton], len(events)),
        lep_pt=pt[lepton],
        lep_eta=eta[lepton],
        lep_phi=phi[lepton],
        lep_charge=-np.sign(events.pid[lepton]),
        lep_flavour=size[lepton],
        lep_iso=np.zeros(len(lepton)),
        jet_offsets=offsets_from_index(events.event[jet], len(events)),
        jet_pt=pt[jet],
        jet_eta=eta[jet],
        jet_phi=phi[jet],
        jet_mass=np.sqrt(np.maximum(p4[:, 3] ** 2 - np.sum(p4[:, :3] ** 2, axis=1), 0.0)),
        jet_flavour=flavour,
        jet_tag_probability=(flavour == 5).astype(np.float64),
        jet_em_fraction=np.zeros(len(jet)),
        jet_n_charged=np.zeros(len(jet), dtype=np.int64),
        met_pt=np.hypot(*met),
        met_phi=np.arctan2(met[1], met[0]),
    )


def smeared(events: HardEvents, rng: np.random.Generator) -> Reco:
    """Return what the detector measures when every outgoing parton arrives as one particle.

    Raises:
        MissingExtra: FastJet is not installed.
    """
    final = events.status == 1
    heavy = np.flatnonzero(final & np.isin(np.abs(events.pid), (4, 5)))
    pid = np.where(np.abs(events.pid[final]) == 15, 21, events.pid[final])  # a tau's jet comes to the calorimeter, too
    particles = Particles(
        offsets=offsets_from_index(events.event[final], len(events)),
        pid=pid,
        p4=events.p4[final],
        heavy_offsets=offsets_from_index(events.event[heavy], len(events)),
        heavy_pid=np.abs(events.pid[heavy]),
        heavy_p4=events.p4[heavy],
    )
    return simulate(particles, rng, replace(DETECTOR, hcal=_JET_RESPONSE))


def parton_truth(events: HardEvents) -> dict[str, np.ndarray]:
    """Return `true_nu_px`, `_py`, `_pz` (all neutrinos, GeV) and `true_n_b_hadrons`, here of b quarks, (n,) each."""
    size, final, n = np.abs(events.pid), events.status == 1, len(events)
    neutrino = final & np.isin(size, NEUTRINOS)
    columns = {
        f"true_nu_p{axis}": np.bincount(events.event[neutrino], events.p4[neutrino, i], minlength=n)
        for i, axis in enumerate("xyz")
    }
    columns["true_n_b_hadrons"] = np.bincount(events.event[final & (size == 5)], minlength=n)
    return columns


def _directions(p4: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pt, eta and phi; eta is 0 where pt is."""
    pt = np.hypot(p4[:, 0], p4[:, 1])
    eta = np.arcsinh(np.divide(p4[:, 2], pt, out=np.zeros_like(pt), where=pt > 0))
    return pt, eta, np.arctan2(p4[:, 1], p4[:, 0])


def _ordered(events: HardEvents, chosen: np.ndarray, pt: np.ndarray) -> np.ndarray:
    """Return the chosen rows, event by event, hardest first."""
    rows = np.flatnonzero(chosen)
    return rows[np.lexsort((-pt[rows], events.event[rows]))]
