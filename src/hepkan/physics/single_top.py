"""Leading-order t-channel single top, q b -> q' t, t -> b l nu, unweighted, with exact top spin.

All channels of the five-flavour scheme with massless b and diagonal CKM matrix: u b -> d t and dbar b -> ubar t, the
second generation, charge conjugates and both beam assignments. With d the down-type and u the up-type light quark,

    |M|^2 ~ (p_u.p_b) (p_b'.p_nu) (p_d.K_l) / [(t - mW^2)^2 |BW_t|^2 |BW_W|^2],  K_l = 2 (p_t.p_l) p_t - p_t^2 p_l,

and p_d.K_l = V.p_l with the massless V of `top_decay.decay_axis`: production and virtualities are sampled first, with
the decay integrated, and the decay then follows without rejection.

References:
    "Improved spin basis for angular correlation studies in single top quark production at the Tevatron" (Mahlon and
    Parke, 1997), https://arxiv.org/abs/hep-ph/9611367
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hepkan.errors import UsageError, unknown
from hepkan.physics.les_houches import lhaup, pythia_settings
from hepkan.physics.parton_densities import PartonDensities, from_pythia
from hepkan.physics.single_top_events import BOTTOM_IN, LIGHT_IN, SingleTopEvents, pdg_ids, production
from hepkan.physics.top_decay import breit_wigner, breit_wigner_edges, decay_axis, decay_spectrum, decay_top, dot

__all__ = ["Parameters", "SingleTop", "SingleTopEvents", "lhaup", "matrix_element", "pythia_settings"]

PICOBARN = 0.3893793721e9  # (hbar c)^2 in GeV^2 pb
SCALES = ("fixed", "madgraph")
_SEED = 20240229
_CELLS = (48, 32)
_PROBES = 48
_MARGIN = 1.15
_MADGRAPH_PT_MIN = 2.0


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Constants of the process; masses, widths and energies in GeV, `gf` in GeV^-2.

    Sources: mW, width_w and GF from the Review of Particle Physics (2020), mt the usual LHC reference value, width_t
    the NNLO width at that mass (Gao, Li and Zhu, 2013, https://arxiv.org/abs/1210.2808).

    Attributes:
        scale: factorisation scale, `fixed` (`mu_f`, or mt / 2 when that is None) or `madgraph`, what version 2.5 does
            by default: the light parton's density at the light quark's pt, the b density at the top's transverse
            mass, no events below pt = 2 GeV (`validation/README.md` shows how this was found).
        mu_f: fixed factorisation scale.
        cutoff: virtualities of top and W are kept within this number of widths.
        leptons: flavours of the charged lepton, drawn with equal probabilities.
    """

    ecm: float = 13000.0
    mt: float = 172.5
    mw: float = 80.379
    width_t: float = 1.322
    width_w: float = 2.085
    gf: float = 1.1663787e-5
    scale: Literal["fixed", "madgraph"] = "fixed"
    mu_f: float | None = None
    cutoff: float = 15.0
    leptons: tuple[int, ...] = (11, 13, 15)

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise unknown("scale", self.scale, SCALES)
        if not self.leptons or not set(self.leptons) <= {11, 13, 15}:
            raise UsageError(f"Leptons must be some of 11, 13 and 15, however: {self.leptons}.")
        if self.mt - self.cutoff * self.width_t <= self.mw + self.cutoff * self.width_w:
            raise UsageError("The top must stay heavier than the W within `cutoff` widths; lower the cutoff.")

    @property
    def alpha_w(self) -> float:
        """Weak coupling g^2 / (4 pi) = sqrt(2) GF mW^2 / pi."""
        return math.sqrt(2.0) * self.gf * self.mw**2 / math.pi


def matrix_element(
    up: np.ndarray,
    down: np.ndarray,
    bottom_in: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    lepton: np.ndarray,
    neutrino: np.ndarray,
    parameters: Parameters,
) -> np.ndarray:
    """Return |M|^2 of production and decay, up to a constant, from physical momenta (n, 4).

    `up` and `down` are the up- and down-type light quarks, either of them incoming. The charge-conjugate process has
    the same value (CP). Shape (n,); Lorentz invariant.
    """
    w = lepton + neutrino
    k = 2.0 * dot(top, lepton)[:, None] * top - dot(top, top)[:, None] * lepton
    transfer = -2.0 * dot(up, down)
    numerator = dot(up, bottom_in) * dot(bottom, neutrino) * dot(down, k)
    width_t = (dot(top, top) - parameters.mt**2) ** 2 + (parameters.mt * parameters.width_t) ** 2
    width_w = (dot(w, w) - parameters.mw**2) ** 2 + (parameters.mw * parameters.width_w) ** 2
    result: np.ndarray = numerator / ((transfer - parameters.mw**2) ** 2 * width_t * width_w)
    return result


@dataclass(frozen=True, eq=False)
class _Hard:
    """Points of production; momentum fractions `x` and squared scales `q2` (2, n) of light parton and b; weight, pb."""

    channel: np.ndarray
    s: np.ndarray
    t: np.ndarray
    x: np.ndarray
    q2: np.ndarray
    weight: np.ndarray


class SingleTop:
    """Generator of unweighted t-channel events; same parameters, same generator state: same bytes.

    Channels are numbered 0: u-type + b, 1: dbar-type + b, 2 and 3 their conjugates. In each, (ln(shat / m_t^2),
    rapidity) is divided into cells; t follows 1 / (t - mW^2)^2. Cell maxima are estimated once from a fixed seed;
    the rare point above its cell's maximum (below 1e-3 of the cross-section) counts as one event.

    Arguments:
        parameters: constants, scale choice and lepton flavours.
        charge: +1 for t, -1 for tbar, `both`.
        pdf: parton densities; None tabulates Pythia's default set, NNPDF2.3 LO.

    Attributes:
        sigma_pb, sigma_error_pb: leading-order cross-section with an on-shell, undecayed top, and its error.
        sigma_decayed_pb: the same with the decays to `leptons`, off-shell within `cutoff` widths: |M|^2 as it stands,
            branching ratios follow from partial widths at leading order over `width_t` and `width_w`.
        efficiency: accepted fraction of trials.
    """

    def __init__(
        self,
        parameters: Parameters | None = None,
        charge: Literal["both", 1, -1] = "both",
        pdf: PartonDensities | None = None,
    ) -> None:
        if charge not in ("both", 1, -1):
            raise UsageError(f"The charge must be 'both', 1 (top) or -1 (antitop), however: {charge!r}.")
        self.parameters = parameters or Parameters()
        self.pdf = pdf or from_pythia()
        self._channels = {"both": (0, 1, 2, 3), 1: (0, 1), -1: (2, 3)}[charge]
        self._survey(np.random.default_rng(_SEED))

    def generate(self, n: int, rng: np.random.Generator) -> SingleTopEvents:
        """Return `n` unweighted events; memory grows with n, about 500 bytes each.

        Raises:
            UsageError: `n` is negative.
        """
        if n < 0:
            raise UsageError(f"The number of events must not be negative, however: n={n}.")
        parts: list[np.ndarray] = []
        missing = n
        while missing > 0 or not parts:
            trials = min(200_000, int(1.1 * missing / self.efficiency) + 64)
            part = self._trials(trials, rng)
            parts.append(part[:missing] if len(part) > missing else part)
            missing -= len(parts[-1])
        return self._events(np.concatenate(parts), rng)

    def _survey(self, rng: np.random.Generator) -> None:
        """Find each cell's maximum, and the on-shell cross-section from the same stratified points."""
        n_r, n_eta = _CELLS
        cell = np.repeat(np.arange(len(self._channels) * n_r * n_eta), _PROBES)
        cube = rng.random((3, len(cell)))
        shell = self._hard(cell, cube, np.full(len(cell), self.parameters.mt**2)).weight.reshape(-1, _PROBES)
        n_cells = len(shell)
        self.sigma_pb = float(shell.mean(axis=1).sum() / n_cells * len(self._channels))
        error = math.sqrt(float(shell.var(axis=1, ddof=1).sum()) / _PROBES)
        self.sigma_error_pb = error / n_cells * len(self._channels)
        m2, _ = self._virtualities(len(cell), rng)
        moving = self._hard(cell, cube, m2).weight.reshape(-1, _PROBES)
        self.sigma_decayed_pb = float(moving.mean(axis=1).sum() / n_cells * len(self._channels)) * self._decays()
        self._maximum = _MARGIN * np.maximum(shell.max(axis=1), moving.max(axis=1))
        self._cumulative = np.cumsum(self._maximum) / self._maximum.sum()
        self.efficiency = float(moving.mean(axis=1).sum() / self._maximum.sum())

    def _hard(self, cell: np.ndarray, cube: np.ndarray, m2: np.ndarray) -> _Hard:
        """Turn cells and points of the unit cube (3, n) into production kinematics with weights.

        The weight is d sigma / d(cube, cell) in pb with the flavours and both beam assignments summed:
        2 xf_light(x) xf_b(x) r_max 2 y_max (pi alpha_w^2 / 4) [4 h / s^2] T, where h = (p_u.p_b)(p_d.p_t) and
        T = integral dt / (t - mW^2)^2; from d sigma / dt = pi alpha_w^2 (s - mt^2) / (4 s (t - mW^2)^2) for u b.
        """
        p = self.parameters
        n_r, n_eta = _CELLS
        place, row, column = np.unravel_index(cell, (len(self._channels), n_r, n_eta))
        channel = np.asarray(self._channels)[place]
        r_max = math.log(p.ecm**2 / (p.mt - p.cutoff * p.width_t) ** 2)
        s = m2 * np.exp(r_max * (row + cube[0]) / n_r)
        y_max = np.maximum(-0.5 * np.log(s / p.ecm**2), 0.0)
        y = (2.0 * (column + cube[1]) / n_eta - 1.0) * y_max
        root = np.sqrt(s) / p.ecm
        x_light, x_bottom = root * np.exp(y), root * np.exp(-y)
        reach = 1.0 / p.mw**2 - 1.0 / (p.mw**2 + s - m2)
        t = p.mw**2 - 1.0 / (1.0 / p.mw**2 - cube[2] * reach)
        u = m2 - s - t
        q2, allowed = self._scales(s, t, u, m2)
        flux = np.where(channel % 2 == 0, s * (s - m2), u * (u - m2)) / s**2
        x = np.stack([x_light, x_bottom])
        light, bottom = self._densities(channel, x, q2)
        factor = PICOBARN * math.pi * p.alpha_w**2 / 4.0 * 2.0 * r_max
        weight = factor * 2.0 * y_max * light.sum(axis=0) * bottom * flux * reach * allowed
        return _Hard(channel, s, t, x, q2, weight)

    def _scales(self, s: np.ndarray, t: np.ndarray, u: np.ndarray, m2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared scales (2, n) of light parton and b, GeV^2, and where they are allowed; pt^2 = t u / s."""
        p = self.parameters
        if p.scale == "fixed":
            return np.full((2, len(s)), (p.mu_f or 0.5 * p.mt) ** 2), np.ones(len(s), bool)
        pt2 = np.maximum(t * u / s, 0.0)
        return np.stack([pt2, m2 + pt2]), pt2 > _MADGRAPH_PT_MIN**2

    def _densities(self, channel: np.ndarray, x: np.ndarray, q2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x f of the two generations of the light parton (2, n) and of the b (n,)."""
        return self.pdf.xf(LIGHT_IN[:, channel], x[0], q2[0]), self.pdf.xf(BOTTOM_IN[channel], x[1], q2[1])

    def _virtualities(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw (m_t^2, m_W^2) from both Breit-Wigners times the decay's spectrum over m_t^2, shapes (n,)."""
        p = self.parameters
        low = (p.mw - p.cutoff * p.width_w) ** 2
        bound = _spectrum((p.mt + p.cutoff * p.width_t) ** 2, low)
        parts: list[np.ndarray] = []
        missing = n
        while missing > 0 or not parts:
            u = rng.random((3, int(2.2 * missing) + 64))
            m2 = breit_wigner(u[0], p.mt, p.width_t, p.cutoff)
            w2 = breit_wigner(u[1], p.mw, p.width_w, p.cutoff)
            kept = np.stack([m2, w2])[:, u[2] * bound < _spectrum(m2, w2)][:, :missing]
            parts.append(kept)
            missing -= kept.shape[1]
        m2, w2 = np.concatenate(parts, axis=1)
        return m2, w2

    def _decays(self) -> float:
        """Return the rate of the chosen decays over that of undecayed tops, from both Breit-Wigners.

        n_l alpha_w^2 / (192 pi^2) integral dm^2 dw BW_t(m^2) BW_W(w) X^2 (m^2 + 2 w) / m^2, BW = 1 / |propagator|^2,
        from m Gamma(t -> b W) and sqrt(w) Gamma(W -> l nu) at virtualities m^2 and w.
        """
        p = self.parameters
        middle = (np.arange(400) + 0.5) / 400
        m2 = breit_wigner(middle, p.mt, p.width_t, p.cutoff)[:, None]
        w2 = breit_wigner(middle, p.mw, p.width_w, p.cutoff)
        area = 1.0
        for mass, width in ((p.mt, p.width_t), (p.mw, p.width_w)):
            low, high = breit_wigner_edges(mass, width, p.cutoff)
            area *= (high - low) / (mass * width)
        mean = float(np.mean(_spectrum(m2, w2)))
        rate: float = len(p.leptons) * p.alpha_w**2 / (192.0 * math.pi**2) * area * mean
        return rate

    def _trials(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return the accepted of `n` trials as rows: channel, s, t, x (2), q2 (2), m2, w2."""
        m2, w2 = self._virtualities(n, rng)
        u = rng.random((5, n))
        cell = np.minimum(np.searchsorted(self._cumulative, u[0], side="right"), len(self._cumulative) - 1)
        hard = self._hard(cell, u[1:4], m2)
        rows = np.stack([hard.channel, hard.s, hard.t, *hard.x, *hard.q2, m2, w2], axis=1)
        accepted: np.ndarray = rows[u[4] * self._maximum[cell] < hard.weight]
        return accepted

    def _events(self, rows: np.ndarray, rng: np.random.Generator) -> SingleTopEvents:
        """Choose flavours, beams and angles for accepted rows, and decay the tops."""
        n = len(rows)
        channel = rows[:, 0].astype(np.int64)
        s, t, x_light, x_bottom, _, q2_bottom, m2, w2 = rows[:, 1:].T
        u = rng.random((4, n))
        light, _ = self._densities(channel, rows[:, 3:5].T, rows[:, 5:7].T)
        generation = (u[0] * light.sum(axis=0) >= light[0]).astype(np.int64)
        forward = u[1] < 0.5
        side = np.where(forward, 1.0, -1.0)
        quark_in, bottom_in, top, quark = production(s, t, x_light, x_bottom, m2, side, u[2], self.parameters.ecm)
        up_in = (channel % 2 == 0)[:, None]
        axis = decay_axis(top, np.where(up_in, quark, quark_in))
        bottom, lepton, neutrino = decay_top(top, w2, axis, rng)
        flavour = np.asarray(self.parameters.leptons)[(u[3] * len(self.parameters.leptons)).astype(np.int64)]
        return SingleTopEvents(
            pdg_ids=pdg_ids(channel, generation, flavour, forward),
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
        )


def _spectrum(m2: np.ndarray | float, w2: np.ndarray | float) -> np.ndarray:
    """Return the decay's factor in the rate at virtualities (m2, w2): X^2 (m2 + 2 w2) / m2."""
    return np.asarray(decay_spectrum(np.asarray(m2), np.asarray(w2)) / m2)
