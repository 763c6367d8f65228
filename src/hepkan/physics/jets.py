"""Anti-kT jets of candidates, with energy resolution, flavour, tag probability and content.

Jets are anti-kT (Cacciari, Salam, Soyez, 2008, arXiv:0802.1189) by FastJet (Cacciari, Salam, Soyez, 2012,
arXiv:1111.6097). Candidates are separated perfectly here; what particle flow loses by overlaps and pile-up is a
further fluctuation of each jet, which the missing momentum follows.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import require
from hepkan.physics.candidates import Candidates, delta_phi, fluctuation, pairs
from hepkan.physics.particles import Particles, event_index, offsets_from_index
from hepkan.physics.response import DetectorParameters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def find_jets(
    candidates: Candidates, particles: Particles, rng: np.random.Generator, parameters: DetectorParameters
) -> tuple[dict[str, NDArray[Any]], Floats]:
    """Return the jet columns of `Reco`, hardest first, and how the jets' fluctuation changed the momentum.

    The second result, (2, n_events), is the sum over the jets of their change of px and py in GeV. Identified
    leptons inside a jet do not fluctuate again.
    """
    n_events = particles.n_events
    p4 = _momenta(candidates)
    owner, constituent = _cluster(p4, candidates.event, n_events, parameters)
    n_jets = int(owner.max()) + 1 if len(owner) else 0
    hadronic = ~candidates.identified[constituent]
    photon = (candidates.kind[constituent] == 22).astype(np.float64)
    charged = (candidates.charge[constituent] != 0).astype(np.float64)
    jet = _sum_by(owner, p4[:, constituent], n_jets)
    rest = _sum_by(owner[hadronic], p4[:, constituent[hadronic]], n_jets)
    photons = _sum_by(owner, p4[3:, constituent] * photon, n_jets)[0]
    n_charged = _sum_by(owner, charged[None], n_jets)[0].astype(np.int64)
    em_fraction = photons / jet[3]
    change = rest * (_jet_factor(rest, rng, parameters) - 1.0)
    jet = jet + change
    event = np.zeros(n_jets, dtype=np.int64)
    event[owner] = candidates.event[constituent]
    order = np.lexsort((-np.hypot(jet[0], jet[1]), event))
    columns = _shape(jet[:, order]) | {"jet_em_fraction": em_fraction[order], "jet_n_charged": n_charged[order]}
    offsets = offsets_from_index(event[order], n_events)
    columns |= _tags(columns["jet_eta"], columns["jet_phi"], offsets, particles, parameters)
    return {"jet_offsets": offsets, **columns}, _sum_by(event, change[:2], n_events)


def _momenta(candidates: Candidates) -> Floats:
    """px, py, pz, E as rows, shape (4, m)."""
    pt, eta, phi, mass = candidates.pt, candidates.eta, candidates.phi, candidates.mass
    p = pt * np.cosh(eta)
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), np.sqrt(p**2 + mass**2)])


def _sum_by(owner: Ints, rows: Floats, size: int) -> Floats:
    """Sum each row of numbers by owner: (r, m) -> (r, size)."""
    return np.array([np.bincount(owner, weights=row, minlength=size) for row in rows]).reshape(len(rows), size)


def _jet_factor(p4: Floats, rng: np.random.Generator, parameters: DetectorParameters) -> Floats:
    """The further fluctuation of each jet; only where there is something to fluctuate within the acceptance."""
    pt = np.hypot(p4[0], p4[1])
    some = pt > 0
    eta = np.arcsinh(np.divide(p4[2], pt, out=np.zeros_like(pt), where=some))
    sigma = np.where(some, parameters.jet_confusion(np.where(some, pt, 1.0), eta), 0.0)
    return fluctuation(np.where(np.isfinite(sigma), sigma, 0.0), rng)


def _shape(jet: Floats) -> dict[str, NDArray[Any]]:
    """Transverse momentum, direction and mass of px, py, pz, E."""
    px, py, pz, energy = jet
    pt = np.hypot(px, py)
    mass = np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0))
    return {"jet_pt": pt, "jet_eta": np.arcsinh(pz / pt), "jet_phi": np.arctan2(py, px), "jet_mass": mass}


def _cluster(p4: Floats, event: Ints, n_events: int, parameters: DetectorParameters) -> tuple[Ints, Ints]:
    """Anti-kT jets above threshold, as (jet number, candidate row) pairs; jets are numbered by event."""
    if not len(event):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    fastjet, ak = _fastjet(), require("awkward", "generate", "Jet clustering")
    offsets = offsets_from_index(event, n_events)
    flat = ak.zip(dict(zip(("px", "py", "pz", "E"), p4, strict=True)), with_name="Momentum4D")
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, parameters.jet_radius)
    sequence = fastjet.ClusterSequence(ak.unflatten(flat, np.diff(offsets)), definition)
    content = sequence.constituent_index(min_pt=parameters.jet_pt_min)
    per_event = ak.to_numpy(ak.num(content, axis=1)).astype(np.int64)
    per_jet = ak.to_numpy(ak.flatten(ak.num(content, axis=2), axis=None)).astype(np.int64)
    owner = np.repeat(np.arange(len(per_jet)), per_jet)
    first = np.repeat(offsets[:-1], per_event)  # of each jet's event
    return owner, ak.to_numpy(ak.flatten(content, axis=None)).astype(np.int64) + first[owner]


def _fastjet() -> ModuleType:
    """FastJet without its banner on standard output (the citation stands in this module's text)."""
    fastjet = require("fastjet", "generate", "Jet clustering")
    stream = getattr(getattr(fastjet, "_swig", None), "ClusterSequence", None)
    if stream is not None and hasattr(stream, "set_fastjet_banner_stream"):
        stream.set_fastjet_banner_stream(None)
    return fastjet


def _tags(
    eta: Floats, phi: Floats, offsets: Ints, particles: Particles, parameters: DetectorParameters
) -> dict[str, NDArray[Any]]:
    """True flavour and tag probability."""
    flavour = _flavour(eta, phi, offsets, particles, parameters)
    rate = np.select([flavour == 5, flavour == 4], [parameters.tag_b, parameters.tag_c], parameters.tag_light)
    rate = np.where(np.abs(eta) < parameters.tag_eta_max, rate, 0.0)
    return {"jet_flavour": flavour, "jet_tag_probability": rate}


def _flavour(eta: Floats, phi: Floats, offsets: Ints, particles: Particles, parameters: DetectorParameters) -> Ints:
    """5, 4 or 0 of each jet: the heaviest of the heavy hadrons whose nearest jet it is, within the radius."""
    px, py, pz, _ = particles.heavy_p4.T
    pt = np.hypot(px, py)
    keep = pt > parameters.heavy_pt_min
    event, pid = event_index(particles.heavy_offsets)[keep], np.abs(particles.heavy_pid[keep])
    heavy_eta, heavy_phi = np.arcsinh(pz[keep] / pt[keep]), np.arctan2(py[keep], px[keep])
    pair, jet = pairs(event, offsets)
    distance = np.hypot(heavy_eta[pair] - eta[jet], delta_phi(heavy_phi[pair], phi[jet]))
    order = np.lexsort((distance, pair))
    pair, jet, distance = pair[order], jet[order], distance[order]
    nearest = np.concatenate([np.ones(min(len(pair), 1), dtype=bool), pair[1:] != pair[:-1]])
    nearest &= distance < parameters.heavy_radius
    flavour = np.zeros(len(eta), dtype=np.int64)
    np.maximum.at(flavour, jet[nearest], pid[pair[nearest]])
    return flavour
