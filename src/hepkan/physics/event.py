"""Events as the observables see them: lepton, b jet, light jet, missing momentum and the neutrino."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import unknown
from hepkan.physics.kinematics import Floats, Momenta, dot, ratio, root

W_MASS = 80.377
"""Mass of the W boson in GeV (Particle Data Group, 2022)."""

OBJECT_COLUMNS = (
    ("lep_pt", "lep_eta", "lep_phi", "lep_charge")
    + tuple(f"{jet}_{name}" for jet in ("bjet", "ljet") for name in ("pt", "eta", "phi", "mass"))
    + ("met_pt", "met_phi")
)
"""What `compute` reads; GeV and radians."""


@dataclass(frozen=True, eq=False)
class Event:
    """Object columns of n events with the intermediate quantities that observables share, each computed once.

    A column is read when an observable needs it, so a part of the observables needs a part of the columns.

    Raises:
        UsageError: a column that is needed is missing (on access).
    """

    columns: Mapping[str, NDArray[Any]]
    _floats: dict[str, Floats] = field(default_factory=dict, init=False, repr=False)

    def __getitem__(self, name: str) -> Floats:
        """Return a column as float64."""
        if name not in self._floats:
            if name not in self.columns:
                raise unknown("object column", name, self.columns)
            self._floats[name] = np.asarray(self.columns[name], dtype=np.float64)
        return self._floats[name]

    @cached_property
    def lepton(self) -> Momenta:
        """The lepton, massless."""
        return Momenta.from_eta(self["lep_pt"], self["lep_eta"], self["lep_phi"])

    @cached_property
    def b(self) -> Momenta:
        """The tagged jet."""
        return self._jet("bjet")

    @cached_property
    def j(self) -> Momenta:
        """The light jet."""
        return self._jet("ljet")

    def _jet(self, name: str) -> Momenta:
        return Momenta.from_eta(*(self[f"{name}_{key}"] for key in ("pt", "eta", "phi", "mass")))

    @cached_property
    def met(self) -> Momenta:
        """The missing momentum as a massless vector with pz = 0."""
        return Momenta.from_eta(self["met_pt"], np.zeros_like(self["met_pt"]), self["met_phi"])

    @cached_property
    def w_mt(self) -> Floats:
        """Transverse mass of the W in GeV; 1 - cos(dphi) = 2 sin^2(dphi/2)."""
        product = np.maximum(self.lepton.pt, 0) * np.maximum(self.met.pt, 0)
        return np.asarray(2 * np.sqrt(product) * np.abs(np.sin((self.lepton.phi - self.met.phi) / 2)))

    @cached_property
    def reach(self) -> Floats:
        """L / pT(l) in GeV, with L = mW^2/2 + pT(l).MET."""
        cosine = np.cos(self.lepton.phi - self.met.phi)
        share = ratio(np.full_like(self.lepton.pt, W_MASS**2 / 2), self.lepton.pt)
        return np.asarray(share + self.met.pt * cosine)

    @cached_property
    def discriminant(self) -> Floats:
        """D = A^2 - (E(l)^2 MET^2 - L^2)/pT(l)^2 in GeV^2 of the neutrino's equation.

        For a massless lepton D = (E/pT)^2 (L/pT - MET)(L/pT + MET), and L/pT - MET is
        (mW^2 - mT(W)^2) / (2 pT), which keeps the sign of D exact.
        """
        slope = ratio(self.lepton.p, self.lepton.pt)
        gap = ratio((W_MASS - self.w_mt) * (W_MASS + self.w_mt), 2 * self.lepton.pt)
        return np.asarray(slope**2 * gap * (self.reach + self.met.pt))

    @cached_property
    def neutrino(self) -> Momenta:
        """The neutrino whose pz gives the W its mass: the solution of smaller |pz|, or A where D < 0.

        The roots of pz^2 - 2 A pz + C are A +- sqrt(D); the smaller is C / (A + sign(A) sqrt(D)).
        At A = 0, where both are equally small, the negative one is taken.
        """
        centre = self.reach * ratio(self.lepton.pz, self.lepton.pt)
        slope = ratio(self.lepton.p, self.lepton.pt) * self.met.pt
        constant = (slope - self.reach) * (slope + self.reach)
        larger = centre + np.where(centre >= 0, 1.0, -1.0) * root(self.discriminant)
        smaller = np.clip(ratio(constant, larger), -np.abs(larger), np.abs(larger))  # rounding near D = 0
        pz = np.where(self.discriminant >= 0, smaller, centre)
        return Momenta(self.met.pt, self.met.phi, pz, np.zeros_like(pz))

    @cached_property
    def products(self) -> dict[str, Floats]:
        """Minkowski products in GeV^2 of l, n (neutrino), b, j, keyed `lb` etc. in this order."""
        named = {"l": self.lepton, "n": self.neutrino, "b": self.b, "j": self.j}
        return {a + b: dot(named[a], named[b]) for a, b in combinations("lnbj", 2)}

    def mass_squared(self, letters: str) -> Floats:
        """Return the squared mass in GeV^2 of a system such as `lnb`."""
        masses = {"b": self.b.mass, "j": self.j.mass}
        pairs = sum(self.products[a + b] for a, b in combinations(letters, 2))
        return np.asarray(sum(masses[one] ** 2 for one in letters if one in masses) + 2 * pairs)

    @cached_property
    def visible_and_met(self) -> Floats:
        """Three-momenta in GeV of l, b, j and (MET, 0); shape (n, 4, 3)."""
        return np.stack([one.vector for one in (self.lepton, self.b, self.j, self.met)], axis=-2)

    @cached_property
    def momentum_squared(self) -> Floats:
        """Sum of p^2 in GeV^2 over l, b, j and (MET, 0)."""
        return np.asarray(np.sum(self.visible_and_met**2, axis=(-2, -1)))
