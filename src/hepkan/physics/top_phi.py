"""Leading-order t-channel single top with a mediator, q b -> q' t phi, t -> b l nu, unweighted, with exact top spin.

All channels of `single_top`; the top radiates a scalar or pseudoscalar (`top_phi_amplitude`), which stays
undecayed, at its mass: it is invisible.

Sampling: with the decay integrated, V.p_t = 2 (K.p_d)(K.p_t) - K^2 (p_d.p_t) is left of the spins. It is linear in
p_d.p_t, as K.p_t and K^2 depend on Q^2 and p_t^2 only; averaged over the angles of t in the frame of Q it is a constant
C times p_d.Q. So the process is single top with a top of virtuality Q^2 and the spectrum of `radiation`; the angles
then follow in closed form, and the decay without rejection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hepkan.physics.parton_densities import PartonDensities
from hepkan.physics.single_top import PICOBARN, SingleTop, _Hard
from hepkan.physics.single_top_events import pdg_ids, production
from hepkan.physics.top_decay import decay_axis, decay_top, two_body_decay
from hepkan.physics.top_phi_amplitude import TopPhiParameters, matrix_element, radiation, radiation_slope, radiator
from hepkan.physics.top_phi_events import MEDIATOR, TopPhiEvents

__all__ = ["TopPhi", "TopPhiEvents", "TopPhiParameters", "matrix_element"]

_CELLS = (16, 24, 16)
_PROBES = 32
_MARGIN = 1.4


@dataclass(frozen=True, eq=False)
class _Radiating(_Hard):
    """Points of production with the squared virtuality Q^2 of the top before it radiates, (n,), GeV^2."""

    virtual2: np.ndarray


class TopPhi(SingleTop):
    """Generator of unweighted t phi and tbar phi events; same parameters, same generator state: same bytes.

    (Q^2, s / Q^2, rapidity) of each of the four channels of `SingleTop` are divided into cells whose maxima are
    estimated once, in about a second, from a fixed seed; t follows 1 / (t - mW^2)^2. The rare point above its cell's
    maximum (below 2e-3 of the cross-section) counts as one event.

    Virtual masses of t end at mt - m_phi / 2 where `cutoff` widths reach further down (m_phi below 40 GeV): beyond it
    the top that radiates comes to its own pole, and the process becomes single top with the decay t -> b W phi.

    Arguments:
        parameters: constants, mediator, scale and lepton flavours.
        charge: +1 for t, -1 for tbar, `both`.
        pdf: parton densities; None tabulates Pythia's default set, NNPDF2.3 LO.

    Attributes:
        sigma_pb, sigma_error_pb: leading-order cross-section with an on-shell, undecayed top, and its error.
        sigma_decayed_pb: the same with the decays to `leptons`, off-shell within the limits above.
        efficiency: accepted fraction of trials.
    """

    parameters: TopPhiParameters

    def __init__(
        self,
        parameters: TopPhiParameters | None = None,
        charge: Literal["both", 1, -1] = "both",
        pdf: PartonDensities | None = None,
    ) -> None:
        super().__init__(parameters or TopPhiParameters(), charge, pdf)

    def generate(self, n: int, rng: np.random.Generator) -> TopPhiEvents:
        """Return `n` unweighted events; memory grows with n, about 600 bytes each.

        Raises:
            UsageError: `n` is negative.
        """
        events = super().generate(n, rng)
        assert isinstance(events, TopPhiEvents)
        return events

    def _survey(self, rng: np.random.Generator) -> None:
        """Find each cell's maximum, and both cross-sections from the same stratified points."""
        n_cells = math.prod(self._shape)
        cell = np.repeat(np.arange(n_cells), _PROBES)
        cube = rng.random((4, len(cell)))
        m2, _ = self._virtualities(len(cell), rng)
        shell, moving = (
            self._hard(cell, cube, mass2).weight.reshape(-1, _PROBES)
            for mass2 in (np.full(len(cell), self.parameters.mt**2), m2)
        )
        scale = len(self._channels) / n_cells
        self.sigma_pb = float(shell.mean(axis=1).sum()) * scale
        self.sigma_error_pb = math.sqrt(float(shell.var(axis=1, ddof=1).sum()) / _PROBES) * scale
        self.sigma_decayed_pb = float(moving.mean(axis=1).sum()) * scale * self._decays()
        self._maximum = _MARGIN * np.maximum(shell.max(axis=1), moving.max(axis=1))
        self._cumulative = np.cumsum(self._maximum) / self._maximum.sum()
        self.efficiency = float(moving.mean(axis=1).sum() / self._maximum.sum())

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        """Numbers of channels and of cells in Q^2, s and rapidity."""
        return (len(self._channels), *_CELLS)

    def _hard(self, cell: np.ndarray, cube: np.ndarray, m2: np.ndarray) -> _Radiating:
        """Turn cells and points of the unit cube (4, n) into production kinematics with weights.

        As in `SingleTop`, with a top of virtuality Q^2 = Q_min^2 exp(L a^2), L = ln(ecm^2 / Q_min^2), and the
        factor `radiation` dQ^2 / da.
        """
        p = self.parameters
        place, *cells = np.unravel_index(cell, self._shape)
        a, b, c = ((k + u) / n for k, u, n in zip(cells, cube[:3], _CELLS, strict=True))
        channel = np.asarray(self._channels)[place]
        low = (np.sqrt(m2) + p.m_phi) ** 2
        reach_q = np.log(p.ecm**2 / low)
        virtual2 = low * np.exp(reach_q * a**2)
        reach_s = reach_q * (1.0 - a**2)
        s = virtual2 * np.exp(reach_s * b)
        y_max = np.maximum(-0.5 * np.log(s / p.ecm**2), 0.0)
        y = (2.0 * c - 1.0) * y_max
        root = np.sqrt(s) / p.ecm
        x = np.stack([root * np.exp(y), root * np.exp(-y)])
        reach = 1.0 / p.mw**2 - 1.0 / (p.mw**2 + s - virtual2)
        t = p.mw**2 - 1.0 / (1.0 / p.mw**2 - cube[3] * reach)
        u = virtual2 - s - t
        q2, allowed = self._scales(s, t, u, virtual2)
        allowed = allowed & (np.sqrt(m2) > p.mt - 0.5 * p.m_phi)
        flux = np.where(channel % 2 == 0, s * (s - virtual2), u * (u - virtual2)) / s**2
        light, bottom = self._densities(channel, x, q2)
        jacobian = 2.0 * reach_s * 2.0 * y_max * reach * 2.0 * a * reach_q * virtual2
        factor = PICOBARN * math.pi * p.alpha_w**2 / 4.0 * jacobian
        weight = factor * light.sum(axis=0) * bottom * flux * radiation(virtual2, m2, p) * allowed
        return _Radiating(channel, s, t, x, q2, weight, virtual2)

    def _scales(self, s: np.ndarray, t: np.ndarray, u: np.ndarray, m2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared scales (2, n) of light parton and b, GeV^2, and where they are allowed: everywhere."""
        p = self.parameters
        return np.full((2, len(s)), (p.mu_f or 0.5 * (p.mt + p.m_phi)) ** 2), np.ones(len(s), bool)

    def _trials(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return the accepted of `n` trials as rows: channel, s, t, x (2), q2 (2), Q^2, m2, w2."""
        m2, w2 = self._virtualities(n, rng)
        u = rng.random((6, n))
        cell = np.minimum(np.searchsorted(self._cumulative, u[0], side="right"), len(self._cumulative) - 1)
        hard = self._hard(cell, u[1:5], m2)
        rows = np.stack([hard.channel, hard.s, hard.t, *hard.x, *hard.q2, hard.virtual2, m2, w2], axis=1)
        accepted: np.ndarray = rows[u[5] * self._maximum[cell] < hard.weight]
        return accepted

    def _events(self, rows: np.ndarray, rng: np.random.Generator) -> TopPhiEvents:
        """Choose flavours, beams and angles for accepted rows, let the virtual tops radiate, and decay the tops."""
        p = self.parameters
        n = len(rows)
        channel = rows[:, 0].astype(np.int64)
        s, t, x_light, x_bottom, _, q2_bottom, virtual2, m2, w2 = rows[:, 1:].T
        u = rng.random((6, n))
        light, _ = self._densities(channel, rows[:, 3:5].T, rows[:, 5:7].T)
        generation = (u[0] * light.sum(axis=0) >= light[0]).astype(np.int64)
        forward = u[1] < 0.5
        side = np.where(forward, 1.0, -1.0)
        quark_in, bottom_in, virtual, quark = production(s, t, x_light, x_bottom, virtual2, side, u[2], p.ecm)
        down = np.where((channel % 2 == 0)[:, None], quark, quark_in)
        cos = _linear_cos(u[4], radiation_slope(virtual2, m2, p))
        top, mediator = two_body_decay(virtual, down, cos, 2.0 * np.pi * u[5], np.sqrt(m2), p.m_phi)
        bottom, lepton, neutrino = decay_top(top, w2, decay_axis(radiator(top, mediator, p), down), rng)
        flavour = np.asarray(p.leptons)[(u[3] * len(p.leptons)).astype(np.int64)]
        ids = pdg_ids(channel, generation, flavour, forward)
        return TopPhiEvents(
            pdg_ids=np.concatenate([ids, np.full((n, 1), MEDIATOR)], axis=1),
            x1=np.where(forward, x_light, x_bottom),
            x2=np.where(forward, x_bottom, x_light),
            incoming1=np.where(forward[:, None], quark_in, bottom_in),
            incoming2=np.where(forward[:, None], bottom_in, quark_in),
            top=top,
            light=quark,
            w=lepton + neutrino,
            bottom=bottom,
            lepton=lepton,
            neutrino=neutrino,
            scale=np.sqrt(q2_bottom),
            sigma_pb=self.sigma_pb,
            sigma_error_pb=self.sigma_error_pb,
            mediator=mediator,
        )


def _linear_cos(u: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Map u in (0, 1) to a cosine with density (1 + slope cos) / 2; stable for a small slope."""
    rest = 2.0 - slope - 4.0 * u
    cos: np.ndarray = -rest / (1.0 + np.sqrt(np.maximum(1.0 - slope * rest, 0.0)))
    return cos
