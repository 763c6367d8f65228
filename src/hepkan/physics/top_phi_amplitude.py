"""The amplitude of t-channel single top with a spin-0 mediator, q b -> q' t phi, t -> b l nu, with exact top spin.

The spin-0 mediator of the simplified model couples to quarks in proportion to their masses,

    L = -g_q sum_q (m_q / v) phi qbar q  (scalar)   or   -i g_q sum_q (m_q / v) phi qbar gamma5 q  (pseudoscalar),

and not to W bosons. With massless b and light quarks one diagram is left: the W turns the b into a virtual top of
momentum Q = p_t + p_phi, which radiates phi. The charged currents keep the part of the top line with an odd number of
Dirac matrices, so that phi only replaces p_t by m_t K,

    <|M|^2> = 2 g^8 y^2 m_t^2 (p_u.p_b) (p_b'.p_nu) (p_d.K_l) / [(t - mW^2)^2 |D_t(Q^2)|^2 |D_t(p_t^2)|^2 |D_W|^2],
    K_l = 2 (K.p_l) K - K^2 p_l,   K = 2 p_t + p_phi (scalar) or p_phi (pseudoscalar),   y = g_q m_t / v,

with d the down-type and u the up-type light quark, D(q^2) = q^2 - m^2 + i m Gamma. This holds for virtual tops too;
`tests/test_top_phi.py` compares it with explicit spinors.

References:
    "Dark matter benchmark models for early LHC Run-2 searches" (Abercrombie et al., 2015),
        https://arxiv.org/abs/1507.00966
    "Single top quarks and dark matter" (Pinna, Zucchetta, Buckley and Canelli, 2017),
        https://arxiv.org/abs/1701.05195
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hepkan.errors import UsageError, unknown
from hepkan.physics.single_top import Parameters
from hepkan.physics.top_decay import decay_axis, dot, two_body

MEDIATORS = ("scalar", "pseudoscalar")
MASS_RANGE = (10.0, 1000.0)


@dataclass(frozen=True, kw_only=True)
class TopPhiParameters(Parameters):
    """Constants of the process, those of single top and three more; masses, widths and energies in GeV.

    Attributes:
        m_phi: mass of the mediator, 10 to 1000 GeV; its width is neglected.
        mediator: `scalar` or `pseudoscalar`.
        g_q: coupling of the mediator to quarks, in units of the standard model's Yukawa couplings; the cross-section
            goes with its square.
        scale: `fixed` only.
        mu_f: factorisation scale; None is (mt + m_phi) / 2.
    """

    m_phi: float = 125.0
    mediator: Literal["scalar", "pseudoscalar"] = "scalar"
    g_q: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mediator not in MEDIATORS:
            raise unknown("mediator", self.mediator, MEDIATORS)
        if self.scale != "fixed":
            raise UsageError(f"The scale must be 'fixed' in top + mediator, however: {self.scale!r}; set mu_f.")
        low, high = MASS_RANGE
        if not low <= self.m_phi <= high:
            raise UsageError(f"The mediator's mass must be {low:g} to {high:g} GeV, however: m_phi={self.m_phi}.")
        if self.g_q <= 0.0:
            raise UsageError(f"The coupling must be positive, however: g_q={self.g_q}.")

    @property
    def yukawa2(self) -> float:
        """Squared coupling of the mediator to the top, (g_q m_t / v)^2 with 1 / v^2 = sqrt(2) GF."""
        return math.sqrt(2.0) * self.gf * (self.g_q * self.mt) ** 2


def matrix_element(
    up: np.ndarray,
    down: np.ndarray,
    bottom_in: np.ndarray,
    top: np.ndarray,
    mediator: np.ndarray,
    bottom: np.ndarray,
    lepton: np.ndarray,
    neutrino: np.ndarray,
    parameters: TopPhiParameters,
) -> np.ndarray:
    """Return |M|^2 of production and decay from physical momenta (n, 4), averaged over initial spins and colours.

    `up` and `down` are the up- and down-type light quarks, either of them incoming. The charge-conjugate process has
    the same value. Shape (n,), GeV^-6; Lorentz invariant.
    """
    p = parameters
    virtual, w = top + mediator, lepton + neutrino
    axis = decay_axis(radiator(top, mediator, p), down)
    numerator = dot(up, bottom_in) * dot(bottom, neutrino) * dot(axis, lepton)
    transfer = -2.0 * dot(up, down) - p.mw**2
    propagators = transfer**2 * _propagator2(dot(w, w), p.mw, p.width_w)
    for q in (virtual, top):
        propagators = propagators * _propagator2(dot(q, q), p.mt, p.width_t)
    g2 = 4.0 * math.pi * p.alpha_w
    result: np.ndarray = 2.0 * g2**4 * p.yukawa2 * p.mt**2 * numerator / propagators
    return result


def radiator(top: np.ndarray, mediator: np.ndarray, parameters: TopPhiParameters) -> np.ndarray:
    """Return K, which takes the place of p_t in the spin structure; (n, 4), GeV."""
    return 2.0 * top + mediator if parameters.mediator == "scalar" else mediator


def radiation(virtual2: np.ndarray, m2: np.ndarray, parameters: TopPhiParameters) -> np.ndarray:
    """Return the spectrum d P / d Q^2 of t*(Q) -> t(m2) phi that multiplies single top with a top of virtuality Q^2.

    y^2 m_t^2 C |p| / (8 pi^2 sqrt(Q^2) m2 |D_t(Q^2)|^2), |p| the momentum of t in the frame of Q and
    C = 2 (K.p_t) (K.Q) / Q^2 - K^2 (Q.p_t) / Q^2. **Shape**: all (n,), GeV^2 in and GeV^-2 out.
    """
    p = parameters
    q_top = 0.5 * (virtual2 + m2 - p.m_phi**2)
    k_top, k_virtual, k2 = _radiator_products(virtual2, m2, p)
    mean = (2.0 * k_top * k_virtual - k2 * q_top) / virtual2
    momentum = two_body(virtual2, np.sqrt(m2), p.m_phi)
    norm = 8.0 * math.pi**2 * np.sqrt(virtual2) * m2 * _propagator2(virtual2, p.mt, p.width_t)
    spectrum: np.ndarray = p.yukawa2 * p.mt**2 * mean * momentum / norm
    return spectrum


def _radiator_products(
    virtual2: np.ndarray, m2: np.ndarray, p: TopPhiParameters
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return K.p_t, K.Q and K^2, which depend on the virtualities Q^2 and p_t^2 only; (n,), GeV^2."""
    q_top = 0.5 * (virtual2 + m2 - p.m_phi**2)
    if p.mediator == "scalar":
        return m2 + q_top, virtual2 + q_top, m2 + 2.0 * q_top + virtual2
    return q_top - m2, virtual2 - q_top, np.full_like(virtual2, p.m_phi**2)


def _propagator2(q2: np.ndarray, mass: float, width: float) -> np.ndarray:
    """Return |q^2 - m^2 + i m Gamma|^2, (n,), GeV^4."""
    return np.asarray((q2 - mass**2) ** 2 + (mass * width) ** 2)


def radiation_slope(virtual2: np.ndarray, m2: np.ndarray, parameters: TopPhiParameters) -> np.ndarray:
    """Return k in the density (1 + k cos) / 2 of the cosine between t and the down-type quark in the frame of Q.

    V.p_t = 2 (K.p_d)(K.p_t) - K^2 (p_d.p_t) = A + B p_d.p_t, and in that frame, with a down quark of unit energy,
    p_d.Q = sqrt(Q^2) and p_d.p_t = E - |p| cos. **Shape**: all (n,), virtualities in GeV^2.
    """
    p = parameters
    k_top, _, k2 = _radiator_products(virtual2, m2, p)
    momentum = two_body(virtual2, np.sqrt(m2), p.m_phi)
    constant = 2.0 * k_top * np.sqrt(virtual2)
    slope = (2.0 if p.mediator == "scalar" else -2.0) * k_top - k2
    result: np.ndarray = -slope * momentum / (constant + slope * np.sqrt(momentum**2 + m2))
    return result
