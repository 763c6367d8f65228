"""A parametric, particle-flow-like detector: generated particles in, leptons, jets and missing momentum out.

Three steps: particles become candidates (`candidates`), candidates are clustered into jets (`jets`), and here
leptons get their isolation and the event its missing momentum. Numbers and sources: `hepkan.physics.response`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.physics.candidates import Candidates, delta_phi, pairs, reconstruct
from hepkan.physics.jets import find_jets
from hepkan.physics.particles import Particles, offsets_from_index
from hepkan.physics.response import DetectorParameters

__all__ = ["DetectorParameters", "Reco", "simulate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Reco:
    """Reconstructed events, GeV and radians. Event `i` owns `lep_offsets[i]:lep_offsets[i + 1]` and the same of jets.

    Leptons and jets fall in pT within an event. `lep_iso` is the sum of the pT of the other candidates around the
    lepton over the lepton's pT. Jets contain the leptons too. `jet_flavour` is 5, 4 or 0, `jet_tag_probability` the
    probability that this jet is b-tagged, `jet_em_fraction` the photons' share of the jet's energy.
    """

    lep_offsets: Ints
    lep_pt: Floats
    lep_eta: Floats
    lep_phi: Floats
    lep_charge: Ints
    lep_flavour: Ints
    lep_iso: Floats
    jet_offsets: Ints
    jet_pt: Floats
    jet_eta: Floats
    jet_phi: Floats
    jet_mass: Floats
    jet_flavour: Ints
    jet_tag_probability: Floats
    jet_em_fraction: Floats
    jet_n_charged: Ints
    met_pt: Floats
    met_phi: Floats

    @property
    def n_events(self) -> int:
        """The number of events."""
        return len(self.met_pt)


def simulate(particles: Particles, rng: np.random.Generator, parameters: DetectorParameters | None = None) -> Reco:
    """Return what the detector measures of generated events.

    The result depends on the events, the parameters and the state of `rng` only.

    Raises:
        MissingExtra: FastJet is not installed.
    """
    parameters = parameters or DetectorParameters()
    candidates = reconstruct(particles, rng, parameters)
    leptons = _leptons(candidates, particles.n_events, parameters)
    jets, change = find_jets(candidates, particles, rng, parameters)
    met = _missing(candidates, change, rng, parameters)
    return Reco(**leptons, **jets, met_pt=np.hypot(*met), met_phi=np.arctan2(met[1], met[0]))


def _leptons(candidates: Candidates, n_events: int, parameters: DetectorParameters) -> dict[str, NDArray[Any]]:
    """Identified leptons above threshold with their isolation, hardest first."""
    rows = np.flatnonzero(candidates.identified & (candidates.pt > parameters.lepton_pt_min))
    rows = rows[np.lexsort((-candidates.pt[rows], candidates.event[rows]))]
    return {
        "lep_offsets": offsets_from_index(candidates.event[rows], n_events),
        "lep_pt": candidates.pt[rows],
        "lep_eta": candidates.eta[rows],
        "lep_phi": candidates.phi[rows],
        "lep_charge": candidates.charge[rows],
        "lep_flavour": candidates.kind[rows],
        "lep_iso": _isolation(candidates, rows, n_events, parameters),
    }


def _isolation(candidates: Candidates, leptons: Ints, n_events: int, parameters: DetectorParameters) -> Floats:
    """Sum of the pT of other candidates in the cone around each lepton, over its pT."""
    offsets = offsets_from_index(candidates.event, n_events)
    pair, other = pairs(candidates.event[leptons], offsets)
    lepton = leptons[pair]
    distance2 = (candidates.eta[lepton] - candidates.eta[other]) ** 2
    distance2 += delta_phi(candidates.phi[lepton], candidates.phi[other]) ** 2
    counts = (lepton != other) & (distance2 < parameters.isolation_radius**2)
    counts &= candidates.pt[other] > parameters.isolation_pt_min
    total = np.bincount(pair[counts], weights=candidates.pt[other[counts]], minlength=len(leptons))
    return np.asarray(total / candidates.pt[leptons])


def _missing(
    candidates: Candidates, jet_change: Floats, rng: np.random.Generator, parameters: DetectorParameters
) -> Floats:
    """Minus the vector sum of all candidates and of the jets' `change` (2, events), plus pile-up noise."""
    n_events = jet_change.shape[1]
    noise = parameters.met_noise * rng.standard_normal((2, n_events))
    px, py = candidates.pt * np.cos(candidates.phi), candidates.pt * np.sin(candidates.phi)
    seen = [np.bincount(candidates.event, weights=p, minlength=n_events) for p in (px, py)]
    return np.asarray(noise - np.array(seen) - jet_change)
