"""Four-vectors as arrays, with invariants written as sums of positive terms so that nothing cancels.

With light-cone components p+- = E +- pz and mT^2 = m^2 + pT^2 = p+ p-,

    a.b = (sqrt(a+ b-) - sqrt(a- b+))^2 / 2 + (mT_a mT_b - pT_a pT_b) + 2 pT_a pT_b sin^2(dphi / 2),

and the bracket in the middle is (m_a^2 m_b^2 + m_a^2 pT_b^2 + m_b^2 pT_a^2) / (mT_a mT_b + pT_a pT_b). The
difference E_a E_b - p_a.p_b would lose all digits for collinear or very forward particles. Everything is
float64, GeV and radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SMALLEST, LARGEST = 1e-30, 1e30
"""Sizes (GeV) below the first count as zero, beyond the second as that value: no product overflows."""

ETA_MAX = 30.0
"""Pseudorapidities beyond this are taken as this: a proton of 13 TeV stays below 10."""


def bounded(momentum: ArrayLike) -> Floats:
    """Return momenta or masses (GeV) limited to the range in which no product over- or underflows."""
    values = np.clip(np.asarray(momentum, dtype=np.float64), -LARGEST, LARGEST)
    return np.where(np.abs(values) < SMALLEST, 0.0, values)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return numerator / denominator, 0 where the denominator is 0, and never beyond 1e100."""
    out = np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)))
    with np.errstate(over="ignore"):
        np.divide(numerator, denominator, out=out, where=denominator != 0)
    return np.clip(out, -1e100, 1e100)


def root(square: Floats) -> Floats:
    """Return the square root, and 0 where rounding made the square negative."""
    return np.sqrt(np.maximum(square, 0.0))


def delta_phi(a: Floats, b: Floats) -> Floats:
    """Return the angle between two azimuths, folded to [0, pi]."""
    difference = np.remainder(a, 2 * np.pi) - np.remainder(b, 2 * np.pi)
    return np.asarray(np.pi - np.abs(np.pi - np.abs(difference)))


@dataclass(frozen=True, eq=False)
class Momenta:
    """One particle per event; every array has shape (n,).

    Attributes:
        pt: transverse momentum in GeV, not negative.
        phi: azimuth in radians.
        pz: momentum along the beam in GeV.
        mass: mass in GeV, not negative.
    """

    pt: Floats
    phi: Floats
    pz: Floats
    mass: Floats

    @classmethod
    def from_eta(cls, pt: ArrayLike, eta: ArrayLike, phi: ArrayLike, mass: ArrayLike = 0.0) -> Momenta:
        """Return the momenta with pseudorapidity `eta`, within the range of `bounded` and `ETA_MAX`."""
        size = bounded(pt)
        pz = size * np.sinh(np.clip(np.asarray(eta, dtype=np.float64), -ETA_MAX, ETA_MAX))
        masses = np.broadcast_to(np.abs(bounded(mass)), size.shape)
        return cls(size, np.asarray(phi, dtype=np.float64), pz, masses)

    @cached_property
    def px(self) -> Floats:
        """Momentum along x in GeV."""
        return self.pt * np.cos(self.phi)

    @cached_property
    def py(self) -> Floats:
        """Momentum along y in GeV."""
        return self.pt * np.sin(self.phi)

    @cached_property
    def p(self) -> Floats:
        """Size of the momentum in GeV."""
        return np.hypot(self.pt, self.pz)

    @cached_property
    def mt(self) -> Floats:
        """Transverse mass sqrt(m^2 + pT^2) in GeV."""
        return np.hypot(self.mass, self.pt)

    @cached_property
    def energy(self) -> Floats:
        """Energy in GeV."""
        return np.hypot(self.mt, self.pz)

    @cached_property
    def light_cone(self) -> tuple[Floats, Floats]:
        """E + pz and E - pz in GeV, the smaller one as mT^2 over the larger."""
        large = self.energy + np.abs(self.pz)
        small = ratio(self.mt**2, large)
        forward = self.pz >= 0
        return np.where(forward, large, small), np.where(forward, small, large)

    @cached_property
    def vector(self) -> Floats:
        """Momentum in GeV; shape (n, 3)."""
        return np.stack([self.px, self.py, self.pz], axis=-1)


def dot(a: Momenta, b: Momenta) -> Floats:
    """Return the Minkowski product of two momenta in GeV^2; never negative."""
    a_plus, a_minus = a.light_cone
    b_plus, b_minus = b.light_cone
    along = (np.sqrt(a_plus * b_minus) - np.sqrt(a_minus * b_plus)) ** 2 / 2
    masses = (a.mass * b.mass) ** 2 + (a.mass * b.pt) ** 2 + (b.mass * a.pt) ** 2
    across = 2 * a.pt * b.pt * np.sin((a.phi - b.phi) / 2) ** 2
    return np.asarray(along + ratio(masses, a.mt * b.mt + a.pt * b.pt) + across)


def invariant_mass(*momenta: Momenta) -> Floats:
    """Return the mass of a system in GeV."""
    square = sum(one.mass**2 for one in momenta) + 2 * sum(dot(a, b) for a, b in combinations(momenta, 2))
    return root(np.asarray(square))


def transverse_momentum(*momenta: Momenta) -> Floats:
    """Return the size of the summed transverse momentum in GeV."""
    return np.hypot(sum(one.px for one in momenta), sum(one.py for one in momenta))


def rapidity(*momenta: Momenta) -> Floats:
    """Return the rapidity of a system, 0 for a zero vector and large but finite along the beam."""
    mt = np.hypot(invariant_mass(*momenta), transverse_momentum(*momenta))
    pz = np.asarray(sum(one.pz for one in momenta))
    return np.arcsinh(pz / np.maximum(mt, SMALLEST))


def cos_in_frame(aa: Floats, bb: Floats, ab: Floats, ap: Floats, bp: Floats, pp: Floats) -> Floats:
    """Return the cosine of the angle between a and b in the rest frame of P, from the six invariants (GeV^2).

    cos = (a.P b.P / P^2 - a.b) / (|a*| |b*|), |a*|^2 = (a.P)^2 / P^2 - a^2; 0 where a direction is undefined.
    """
    size = root(ratio(ap**2, pp) - aa) * root(ratio(bp**2, pp) - bb)
    return np.clip(ratio(ratio(ap * bp, pp) - ab, size), -1.0, 1.0)
