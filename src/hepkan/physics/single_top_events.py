"""Single-top events as arrays: what the generator makes, and what showers and studies read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepkan.physics.top_decay import boost

# Incoming light partons by generation and channel, and what leaves; incoming b by channel.
LIGHT_IN = np.array([[2, -1, -2, 1], [4, -3, -4, 3]])
_LIGHT_OUT = np.array([[1, -2, -1, 2], [3, -4, -3, 4]])
BOTTOM_IN = np.array([5, 5, -5, -5])


def pdg_ids(channel: np.ndarray, generation: np.ndarray, flavour: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Return the PDG numbers (n, 8) in the order of `SingleTopEvents.pdg_ids`."""
    sign = np.sign(BOTTOM_IN[channel])
    light, bottom = LIGHT_IN[generation, channel], BOTTOM_IN[channel]
    first, second = np.where(forward, light, bottom), np.where(forward, bottom, light)
    out = _LIGHT_OUT[generation, channel]
    decay = (24 * sign, 5 * sign, -flavour * sign, (flavour + 1) * sign)
    return np.stack([first, second, 6 * sign, out, *decay], axis=1)


@dataclass(frozen=True, eq=False)
class SingleTopEvents:
    """Unweighted events as arrays; four-vectors (n, 4) are [px, py, pz, E] in GeV, in the laboratory.

    Attributes:
        pdg_ids: (n, 8) PDG numbers of both incoming partons, top, light quark, W, b, charged lepton, neutrino.
        x1, x2: (n,) momentum fractions of the partons along +z and -z.
        incoming1, incoming2, top, light, w, bottom, lepton, neutrino: four-vectors; b, light quark and leptons are
            massless, top and W have Breit-Wigner virtualities.
        scale: (n,) factorisation scale in GeV, that of the b density if there are two.
        sigma_pb, sigma_error_pb: cross-section of the generator, top undecayed, and its error.
    """

    pdg_ids: np.ndarray
    x1: np.ndarray
    x2: np.ndarray
    incoming1: np.ndarray
    incoming2: np.ndarray
    top: np.ndarray
    light: np.ndarray
    w: np.ndarray
    bottom: np.ndarray
    lepton: np.ndarray
    neutrino: np.ndarray
    scale: np.ndarray
    sigma_pb: float
    sigma_error_pb: float

    def __len__(self) -> int:
        return len(self.x1)

    @property
    def id1(self) -> np.ndarray:
        """PDG number of the parton along +z, (n,)."""
        return self.pdg_ids[:, 0]

    @property
    def id2(self) -> np.ndarray:
        """PDG number of the parton along -z, (n,)."""
        return self.pdg_ids[:, 1]

    @property
    def id_lepton(self) -> np.ndarray:
        """PDG number of the charged lepton, (n,)."""
        return self.pdg_ids[:, 6]

    @property
    def colours(self) -> np.ndarray:
        """Les Houches colour and anticolour tags (n, 8, 2), in the order of `pdg_ids`.

        The heavy line b -> t -> b carries 501, the light-quark line 502: a W in the t channel exchanges no colour.
        """
        ids = self.pdg_ids
        heavy = np.isin(np.abs(ids), (5, 6))
        tag = np.where(heavy, 501, np.where(np.abs(ids) < 5, 502, 0))
        tags: np.ndarray = np.stack([np.where(ids > 0, tag, 0), np.where(ids < 0, tag, 0)], axis=2)
        return tags


def production(
    s: np.ndarray,
    t: np.ndarray,
    x_light: np.ndarray,
    x_bottom: np.ndarray,
    m2: np.ndarray,
    side: np.ndarray,
    turn: np.ndarray,
    ecm: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return incoming light parton, incoming b, top, outgoing light quark (n, 4) in the laboratory.

    `side` is +1 where the light parton comes along +z; `turn` in (0, 1) is the azimuth over 2 pi.
    """
    zero = np.zeros_like(s)
    quark_in = np.stack([zero, zero, 0.5 * ecm * x_light * side, 0.5 * ecm * x_light], axis=1)
    bottom_in = np.stack([zero, zero, -0.5 * ecm * x_bottom * side, 0.5 * ecm * x_bottom], axis=1)
    momentum = 0.5 * (s - m2) / np.sqrt(s)
    cos = np.clip(1.0 + 2.0 * t / (s - m2), -1.0, 1.0)
    pt = momentum * np.sqrt(1.0 - cos**2)
    phi = 2.0 * np.pi * turn
    rest = np.stack([pt * np.cos(phi), pt * np.sin(phi), momentum * cos * side, momentum], axis=1)
    quark = boost(rest, quark_in + bottom_in)
    return quark_in, bottom_in, quark_in + bottom_in - quark, quark
