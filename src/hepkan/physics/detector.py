"""A parametric, particle-flow-like detector: generated particles in, leptons, jets and missing momentum out.

Every particle gives one candidate: charged ones a track (or, without one, a calorimeter deposit), photons and
neutral hadrons a deposit. Energies fluctuate log-normally, so that means are kept (as in DELPHES 3, de Favereau et
al., 2014, arXiv:1307.6346). Jets are anti-kT (Cacciari, Salam, Soyez, 2008, arXiv:0802.1189) by FastJet (Cacciari,
Salam, Soyez, 2012, arXiv:1111.6097). Numbers and their sources: `hepkan.physics.response`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import require
from hepkan.physics.particles import Particles, charge, event_index, offsets_from_index
from hepkan.physics.response import DetectorParameters

__all__ = ["Candidates", "DetectorParameters", "Reco", "delta_phi", "reconstruct", "simulate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Particle-flow candidates, ordered by event; shapes (m,), GeV and radians.

    `kind` is 22 (photon-like), 11, 13, 211 (charged hadron) or 130 (neutral hadron); `identified` marks leptons
    that pass identification.
    """

    event: Ints
    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    charge: Ints
    kind: Ints
    identified: Bools


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
    jets = _jets(candidates, particles, parameters)
    met_pt, met_phi = _missing(candidates, particles.n_events, rng, parameters)
    return Reco(**leptons, **jets, met_pt=met_pt, met_phi=met_phi)


def delta_phi(a: Floats, b: Floats) -> Floats:
    """Return the difference of two azimuths folded to [-pi, pi]."""
    return np.asarray((a - b + np.pi) % (2 * np.pi) - np.pi)


def reconstruct(particles: Particles, rng: np.random.Generator, parameters: DetectorParameters) -> Candidates:
    """Turn every visible particle within the acceptance into a candidate, or lose it."""
    pt, eta, phi, keep = _visible(particles, parameters)
    pid, p4 = particles.pid[keep], particles.p4[keep]
    q, kind = charge(pid), _kind(pid)
    tracked = rng.random(len(pid)) < _choose(
        kind,
        {11: parameters.electron_tracking, 13: parameters.muon_tracking, 211: parameters.hadron_tracking},
        pt,
        eta,
    )
    electromagnetic = (kind == 11) | (kind == 22)
    sigma = np.where(electromagnetic, parameters.ecal(p4[:, 3], eta), parameters.hcal(p4[:, 3], eta))
    sigma = np.where(kind == 13, np.inf, sigma)
    track = _choose(
        kind,
        {11: parameters.electron_track, 13: parameters.muon_track, 211: parameters.hadron_track},
        pt,
        eta,
        outside=np.inf,
    )
    sigma = np.where(tracked, np.minimum(sigma, track), sigma)
    factor = _fluctuation(np.where(np.isfinite(sigma), sigma, 0.0), rng)
    energy = p4[:, 3] * factor
    threshold = np.where(electromagnetic, parameters.ecal_energy_min, parameters.hcal_energy_min)
    reaches = (q == 0) | (pt > parameters.calorimeter_pt_min)
    deposit = ~tracked & (kind != 13) & reaches & (energy > threshold)
    cell = np.where(electromagnetic, parameters.ecal_cell(pt, eta), parameters.hcal_cell(pt, eta))
    shift = (rng.random((2, len(pid))) - 0.5) * np.where(tracked, 0.0, cell)
    eta, phi = eta + shift[0], phi + shift[1]
    identification = _choose(
        kind, {11: parameters.electron_identification, 13: parameters.muon_identification}, pt, eta
    )
    identified = tracked & (rng.random(len(pid)) < identification)
    kind = np.where(tracked, kind, np.where(electromagnetic, 22, 130))
    pt = np.where(tracked, pt * factor, energy / np.cosh(eta))
    mass = np.where(kind == 211, parameters.pion_mass, np.where(kind == 13, _MUON_MASS, 0.0))
    event = event_index(particles.offsets)[keep]
    seen = tracked | deposit
    columns = (event, pt, eta, delta_phi(phi, np.zeros(1)), mass, np.where(tracked, q, 0), kind, identified)
    return Candidates(*(column[seen] for column in columns))


_MUON_MASS = 0.10566  # GeV, Review of Particle Physics (Particle Data Group, 2024)


def _visible(particles: Particles, parameters: DetectorParameters) -> tuple[Floats, Floats, Floats, Bools]:
    """Transverse momentum, eta and phi of the particles that can be seen, and which those are."""
    px, py, pz, _ = particles.p4.T
    pt = np.hypot(px, py)
    keep = (pt > 0) & ~np.isin(np.abs(particles.pid), parameters.invisible)
    eta = np.arcsinh(np.divide(pz, pt, out=np.full_like(pt, np.inf), where=keep))
    keep &= np.abs(eta) < parameters.eta_max
    return pt[keep], eta[keep], np.arctan2(py[keep], px[keep]), keep


def _kind(pid: Ints) -> Ints:
    """Candidate type of a particle: 11, 13, 22 (also a stable pi0), 211 (charged) or 130 (neutral hadron)."""
    size = np.abs(pid)
    hadron = np.where(charge(pid) != 0, 211, 130)
    return np.where((size == 11) | (size == 13), size, np.where((size == 22) | (size == 111), 22, hadron))


def _choose(kind: Ints, functions: dict[int, object], pt: Floats, eta: Floats, outside: float = 0.0) -> Floats:
    """Evaluate for each candidate the function of its type; `outside` where there is none."""
    result = np.full(len(pt), outside)
    for name, function in functions.items():
        rows = kind == name
        assert callable(function)
        result[rows] = function(pt[rows], eta[rows])
    return result


def _fluctuation(sigma: Floats, rng: np.random.Generator) -> Floats:
    """Log-normal factors of mean 1 and relative width `sigma`."""
    width = np.sqrt(np.log1p(sigma**2))
    return np.asarray(np.exp(width * rng.standard_normal(len(sigma)) - width**2 / 2))


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
    pair, other = _pairs(candidates.event[leptons], offsets)
    lepton = leptons[pair]
    distance2 = (candidates.eta[lepton] - candidates.eta[other]) ** 2
    distance2 += delta_phi(candidates.phi[lepton], candidates.phi[other]) ** 2
    counts = (lepton != other) & (distance2 < parameters.isolation_radius**2)
    counts &= candidates.pt[other] > parameters.isolation_pt_min
    total = np.bincount(pair[counts], weights=candidates.pt[other[counts]], minlength=len(leptons))
    return np.asarray(total / candidates.pt[leptons])


def _pairs(event: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Pair each row of one collection (its event numbers) with all rows of another in the same event."""
    counts = np.diff(offsets)[event]
    first = np.repeat(np.arange(len(event)), counts)
    start = np.repeat(offsets[event] - (np.cumsum(counts) - counts), counts)
    return first, start + np.arange(len(first))


def _jets(candidates: Candidates, particles: Particles, parameters: DetectorParameters) -> dict[str, NDArray[Any]]:
    """Jets with flavour, tag probability and content, hardest first."""
    n_events = particles.n_events
    owner, constituent = _cluster(candidates, n_events, parameters)
    n_jets = int(owner.max()) + 1 if len(owner) else 0
    pt, eta, phi, mass = (column[constituent] for column in _columns(candidates))
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    kind = candidates.kind[constituent]

    def total(values: Floats) -> Floats:
        return np.bincount(owner, weights=values, minlength=n_jets).astype(np.float64)

    px, py, pz = total(pt * np.cos(phi)), total(pt * np.sin(phi)), total(pt * np.sinh(eta))
    jet_energy = total(energy)
    jet_pt = np.hypot(px, py)
    event = np.zeros(n_jets, dtype=np.int64)
    event[owner] = candidates.event[constituent]
    jets = {
        "jet_pt": jet_pt,
        "jet_eta": np.arcsinh(pz / jet_pt),
        "jet_phi": np.arctan2(py, px),
        "jet_mass": np.sqrt(np.maximum(jet_energy**2 - jet_pt**2 - pz**2, 0.0)),
        "jet_em_fraction": total(energy * (kind == 22)) / jet_energy,
        "jet_n_charged": total((candidates.charge[constituent] != 0).astype(np.float64)).astype(np.int64),
    }
    order = np.lexsort((-jet_pt, event))
    jets = {name: column[order] for name, column in jets.items()}
    offsets = offsets_from_index(event[order], n_events)
    flavour = _flavour(jets["jet_eta"], jets["jet_phi"], offsets, particles, parameters)
    rate = np.select([flavour == 5, flavour == 4], [parameters.tag_b, parameters.tag_c], parameters.tag_light)
    rate = np.where(np.abs(jets["jet_eta"]) < parameters.tag_eta_max, rate, 0.0)
    return {"jet_offsets": offsets, **jets, "jet_flavour": flavour, "jet_tag_probability": rate}


def _columns(candidates: Candidates) -> tuple[Floats, Floats, Floats, Floats]:
    """The four momentum columns."""
    return candidates.pt, candidates.eta, candidates.phi, candidates.mass


def _cluster(candidates: Candidates, n_events: int, parameters: DetectorParameters) -> tuple[Ints, Ints]:
    """Anti-kT jets above threshold, as (jet number, candidate row) pairs; jets are numbered by event."""
    if not len(candidates.pt):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    fastjet, ak = _fastjet(), require("awkward", "generate", "Jet clustering")
    pt, eta, phi, mass = _columns(candidates)
    flat = {
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
        "E": np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2),
    }
    offsets = offsets_from_index(candidates.event, n_events)
    events = ak.unflatten(ak.zip(flat, with_name="Momentum4D"), np.diff(offsets))
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, parameters.jet_radius)
    content = fastjet.ClusterSequence(events, definition).constituent_index(min_pt=parameters.jet_pt_min)
    per_event = ak.to_numpy(ak.num(content, axis=1)).astype(np.int64)
    per_jet = ak.to_numpy(ak.num(content, axis=2).layout.content).astype(np.int64)
    owner = np.repeat(np.arange(len(per_jet)), per_jet)
    local = ak.to_numpy(ak.flatten(content, axis=None)).astype(np.int64)
    event = np.repeat(np.arange(n_events), per_event)
    return owner, local + offsets[event[owner]]


def _fastjet() -> ModuleType:
    """FastJet without its banner on standard output (the citation stands in this module's text)."""
    fastjet = require("fastjet", "generate", "Jet clustering")
    stream = getattr(getattr(fastjet, "_swig", None), "ClusterSequence", None)
    if stream is not None and hasattr(stream, "set_fastjet_banner_stream"):
        stream.set_fastjet_banner_stream(None)
    return fastjet


def _flavour(eta: Floats, phi: Floats, offsets: Ints, particles: Particles, parameters: DetectorParameters) -> Ints:
    """5, 4 or 0 of each jet: the heaviest of the heavy hadrons whose nearest jet it is, within the radius."""
    px, py, pz, _ = particles.heavy_p4.T
    pt = np.hypot(px, py)
    keep = pt > parameters.heavy_pt_min
    event, pid = event_index(particles.heavy_offsets)[keep], np.abs(particles.heavy_pid[keep])
    heavy_eta, heavy_phi = np.arcsinh(pz[keep] / pt[keep]), np.arctan2(py[keep], px[keep])
    pair, jet = _pairs(event, offsets)
    distance = np.hypot(heavy_eta[pair] - eta[jet], delta_phi(heavy_phi[pair], phi[jet]))
    order = np.lexsort((distance, pair))
    pair, jet, distance = pair[order], jet[order], distance[order]
    nearest = np.concatenate([np.ones(min(len(pair), 1), dtype=bool), pair[1:] != pair[:-1]])
    nearest &= distance < parameters.heavy_radius
    flavour = np.zeros(len(eta), dtype=np.int64)
    np.maximum.at(flavour, jet[nearest], pid[pair[nearest]])
    return flavour


def _missing(
    candidates: Candidates, n_events: int, rng: np.random.Generator, parameters: DetectorParameters
) -> tuple[Floats, Floats]:
    """Minus the vector sum of all candidates, plus pile-up noise: magnitude and azimuth."""
    noise = parameters.met_noise * rng.standard_normal((2, n_events))
    px, py = candidates.pt * np.cos(candidates.phi), candidates.pt * np.sin(candidates.phi)
    x = noise[0] - np.bincount(candidates.event, weights=px, minlength=n_events)
    y = noise[1] - np.bincount(candidates.event, weights=py, minlength=n_events)
    return np.hypot(x, y), np.arctan2(y, x)
