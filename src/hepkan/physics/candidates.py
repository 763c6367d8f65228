"""Particle-flow-like candidates: what the tracker and the calorimeters make of each generated particle.

Every visible particle gives one candidate: a charged one a track (or, without one, a calorimeter deposit), photons
and neutral hadrons a deposit. Where both a track and a deposit exist, the better resolution counts. Energies
fluctuate log-normally, which keeps their mean, after "DELPHES 3" (de Favereau et al., 2014), arXiv:1307.6346.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepkan.physics.particles import Particles, charge, event_index
from hepkan.physics.response import DetectorParameters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Functions = Mapping[int, Callable[[Floats, Floats], Floats]]


@dataclass(frozen=True)
class Candidates:
    """Particle-flow candidates, ordered by event; shapes (m,), GeV and radians.

    `kind` is 22 (photon), 11 (electron; charge 0 without a track), 13, 211 (charged hadron) or 130 (neutral
    hadron, or a charged one without a track); `identified` marks leptons that pass identification.
    """

    event: Ints
    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    charge: Ints
    kind: Ints
    identified: Bools


def delta_phi(a: Floats, b: Floats) -> Floats:
    """Return the difference of two azimuths folded to [-pi, pi]."""
    return np.asarray((a - b + np.pi) % (2 * np.pi) - np.pi)


def reconstruct(particles: Particles, rng: np.random.Generator, parameters: DetectorParameters) -> Candidates:
    """Turn every visible particle within the acceptance into a candidate, or lose it."""
    pt, eta, phi, keep = _visible(particles, parameters)
    pid, energy = particles.pid[keep], particles.p4[keep, 3]
    kind, q = _kind(pid), charge(pid)
    shower = (kind == 11) | (kind == 22)  # electromagnetic
    tracked = rng.random(len(pid)) < _choose(kind, _tracking(parameters), pt, eta)
    sigma = _resolution(kind, pt, eta, energy, tracked, parameters)
    factor = fluctuation(sigma, rng)
    energy = energy * factor
    threshold = np.where(shower, parameters.ecal_energy_min, parameters.hcal_energy_min)
    deposit = (kind != 13) & (energy > threshold) & ((q == 0) | (pt > parameters.calorimeter_pt_min))
    cell = np.where(shower, parameters.ecal_cell(pt, eta), parameters.hcal_cell(pt, eta))
    shift = (rng.random((2, len(pid))) - 0.5) * np.where(tracked, 0.0, cell)
    eta, phi = eta + shift[0], delta_phi(phi + shift[1], np.zeros(1))
    pt = np.where(tracked, pt * factor, energy / np.cosh(eta))
    chance = _choose(kind, _identification(parameters), pt, eta)
    identified = tracked & (rng.random(len(pid)) < chance)
    kind = np.where(tracked | shower, kind, 130)
    mass = np.select([kind == 211, kind == 13], [parameters.pion_mass, parameters.muon_mass], 0.0)
    event = event_index(particles.offsets)[keep]
    columns = (event, pt, eta, phi, mass, np.where(tracked, q, 0), kind, identified)
    return Candidates(*(column[tracked | deposit] for column in columns))


def _tracking(parameters: DetectorParameters) -> Functions:
    """Track efficiencies by type."""
    return {11: parameters.electron_tracking, 13: parameters.muon_tracking, 211: parameters.hadron_tracking}


def _identification(parameters: DetectorParameters) -> Functions:
    """Lepton identification efficiencies by type."""
    return {11: parameters.electron_identification, 13: parameters.muon_identification}


def _resolution(
    kind: Ints, pt: Floats, eta: Floats, energy: Floats, tracked: Bools, parameters: DetectorParameters
) -> Floats:
    """Relative resolution: the calorimeter's, or the track's where there is one and it is better."""
    tracks = {11: parameters.electron_track, 13: parameters.muon_track, 211: parameters.hadron_track}
    shower = (kind == 11) | (kind == 22)
    calorimeter = np.where(shower, parameters.ecal(energy, eta), parameters.hcal(energy, eta))
    calorimeter[kind == 13] = np.inf
    track = np.where(tracked, _choose(kind, tracks, pt, eta), np.inf)
    best = np.minimum(calorimeter, track)
    return np.where(np.isfinite(best), best, 0.0)  # what remains infinite is a muon without a track: lost


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


def _choose(kind: Ints, functions: Functions, pt: Floats, eta: Floats) -> Floats:
    """Evaluate for each candidate the function of its type; 0 where there is none."""
    result = np.zeros(len(pt))
    for name, function in functions.items():
        rows = kind == name
        result[rows] = function(pt[rows], eta[rows])
    return result


def fluctuation(sigma: Floats, rng: np.random.Generator) -> Floats:
    """Log-normal factors of mean 1 and relative width `sigma`."""
    width = np.sqrt(np.log1p(sigma**2))
    return np.asarray(np.exp(width * rng.standard_normal(len(sigma)) - width**2 / 2))


def pairs(event: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Pair each row of one collection (its event numbers) with all rows of another in the same event."""
    counts = np.diff(offsets)[event]
    first = np.repeat(np.arange(len(event)), counts)
    start = np.repeat(offsets[event] - (np.cumsum(counts) - counts), counts)
    return first, start + np.arange(len(first))
