"""Four-vectors as arrays, and the exact spin-correlated decay t -> b W, W -> l nu.

A four-vector array has shape (n, 4) in the order [px, py, pz, E], in GeV.
"""

from __future__ import annotations

import math

import numpy as np

METRIC = np.array([-1.0, -1.0, -1.0, 1.0])


def dot(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the Minkowski products (n,) of two four-vector arrays, signature (+, -, -, -), in GeV^2."""
    result: np.ndarray = np.sum(p * q * METRIC, axis=-1)
    return result


def boost(p: np.ndarray, frame: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """Take `p` from the rest frame of `frame` to the frame in which `frame` is given; `sign=-1` goes back.

    **Shape**: `p`, `frame` and the result (n, 4).
    """
    mass = np.sqrt(np.maximum(dot(frame, frame), 0.0))[:, None]
    axis, energy = sign * frame[:, :3], frame[:, 3:]
    along = np.sum(axis * p[:, :3], axis=1, keepdims=True)
    e = (energy * p[:, 3:] + along) / mass
    return np.concatenate([p[:, :3] + axis * (p[:, 3:] + e) / (energy + mass), e], axis=1)


def decay_axis(q: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return V = 2 (Q.p_d) Q - Q^2 p_d, the massless vector with (p_d.K_l) = (V.p_l) that steers the lepton.

    Q = p_t in the standard model; a scalar mediator emitted by the top has Q = 2 p_t + p_phi.

    **Shape**: `q` and `down` (the down-type light quark) (n, 4); result (n, 4), GeV^3.
    """
    axis: np.ndarray = 2.0 * dot(q, down)[:, None] * q - dot(q, q)[:, None] * down
    return axis


def decay_spectrum(mass2: np.ndarray, w2: np.ndarray) -> np.ndarray:
    """Return X^2 (m^2 + 2 w), X = m^2 - w: the decay integrated over angles, up to a constant, at virtualities
    m^2 of the top and w of the W (massless b and leptons). Falls with w. Shape (n,), GeV^6.
    """
    spectrum: np.ndarray = (mass2 - w2) ** 2 * (mass2 + 2.0 * w2)
    return spectrum


def decay_top(
    top: np.ndarray, w2: np.ndarray, axis: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decay tops into massless b, l, nu, distributed as (p_b.p_nu) (V.p_l); every draw is an event.

    In the top's rest frame V.p_l = E_V E_l (1 - cos(l, V)), and p_b.p_nu = x / 2 with x = m^2 - 2 m E_l, so that
    cos(l, V) and x are independent: x (m^2 - x) on (0, m^2 - w) is the derivative of a smoothstep, inverted in
    closed form. The b-nu plane turns freely around the lepton.

    **Shape**: `top` (n, 4), `w2` = m_W^2 (n,), `axis` = V (n, 4); returns b, lepton, neutrino (n, 4).
    """
    n = len(top)
    u = rng.random((4, n))
    m2 = dot(top, top)
    m = np.sqrt(m2)
    a = 1.0 - w2 / m2
    q = u[0] * a * a * (3.0 - 2.0 * a)
    s = 0.5 - np.sin(np.arcsin(1.0 - 2.0 * q) / 3.0)
    e_lepton = 0.5 * m * (1.0 - s)
    e_bottom = 0.5 * m * a
    e_neutrino = m - e_lepton - e_bottom
    spin = boost(axis, top, sign=-1.0)[:, :3]
    lepton_way = _around(_unit(spin), 1.0 - 2.0 * np.sqrt(u[1]), 2.0 * np.pi * u[2])
    cos = np.clip(1.0 - 0.5 * w2 / (e_lepton * e_neutrino), -1.0, 1.0)
    neutrino_way = _around(lepton_way, cos, 2.0 * np.pi * u[3])
    lepton = np.concatenate([lepton_way * e_lepton[:, None], e_lepton[:, None]], axis=1)
    neutrino = np.concatenate([neutrino_way * e_neutrino[:, None], e_neutrino[:, None]], axis=1)
    bottom = np.concatenate([-(lepton + neutrino)[:, :3], e_bottom[:, None]], axis=1)
    return boost(bottom, top), boost(lepton, top), boost(neutrino, top)


def breit_wigner(u: np.ndarray, mass: float, width: float, cutoff: float) -> np.ndarray:
    """Map u in (0, 1) to q^2 with density 1 / ((q^2 - m^2)^2 + m^2 w^2) within `cutoff` widths of the mass."""
    low, high = breit_wigner_edges(mass, width, cutoff)
    q2: np.ndarray = mass**2 + mass * width * np.tan(low + u * (high - low))
    return q2


def breit_wigner_edges(mass: float, width: float, cutoff: float) -> tuple[float, float]:
    """Return atan((q^2 - m^2) / (m w)) at both ends of the allowed virtualities."""
    low, high = ((mass + k * cutoff * width) ** 2 - mass**2 for k in (-1, 1))
    return math.atan(low / (mass * width)), math.atan(high / (mass * width))


def two_body(mass2: np.ndarray, m1: float | np.ndarray, m2: float | np.ndarray) -> np.ndarray:
    """Return the momentum (n,) of the daughters `m1`, `m2` in the rest frame of a mother of virtuality `mass2`."""
    product = (mass2 - (m1 + m2) ** 2) * (mass2 - (m1 - m2) ** 2)
    momentum: np.ndarray = np.sqrt(np.maximum(product, 0.0) / (4.0 * mass2))
    return momentum


def two_body_decay(
    mother: np.ndarray, axis: np.ndarray, cos: np.ndarray, phi: np.ndarray, m1: float | np.ndarray, m2: float
) -> tuple[np.ndarray, np.ndarray]:
    """Decay `mother` into masses `m1`, `m2`, the first at the angle `cos` from `axis` in the mother's rest frame.

    `phi` turns it around the axis. **Shape**: `mother`, `axis` and both daughters (n, 4); `cos`, `phi` (n,).
    """
    p = two_body(dot(mother, mother), m1, m2)
    way = _around(_unit(boost(axis, mother, sign=-1.0)[:, :3]), cos, phi)
    first = np.concatenate([way * p[:, None], np.sqrt(p**2 + m1**2)[:, None]], axis=1)
    second = np.concatenate([-way * p[:, None], np.sqrt(p**2 + m2**2)[:, None]], axis=1)
    return boost(first, mother), boost(second, mother)


def rescale_pair(
    mother: np.ndarray, new_mother: np.ndarray, first: np.ndarray, m1: float, m2: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give the two daughters of `mother` the masses `m1`, `m2` and put them into `new_mother`.

    The direction of `first` in the mother's rest frame is kept. **Shape**: all four-vectors (n, 4).
    """
    way = _unit(boost(first, mother, sign=-1.0)[:, :3])
    p = two_body(dot(new_mother, new_mother), m1, m2)[:, None]
    rest = np.concatenate([way * p, np.sqrt(p**2 + m1**2)], axis=1)
    one = boost(rest, new_mother)
    return one, new_mother - one


def _unit(v: np.ndarray) -> np.ndarray:
    """Return the directions (n, 3) of vectors (n, 3)."""
    result: np.ndarray = v / np.linalg.norm(v, axis=1, keepdims=True)
    return result


def _around(axis: np.ndarray, cos: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Return unit vectors (n, 3) at the angle `cos` from the unit vectors `axis`, turned by `phi`."""
    small = np.argmin(np.abs(axis), axis=1)
    first = _unit(np.cross(axis, np.eye(3)[small]))
    second = np.cross(axis, first)
    sin = np.sqrt(np.maximum(1.0 - cos**2, 0.0))
    way: np.ndarray = cos[:, None] * axis + (sin * np.cos(phi))[:, None] * first + (sin * np.sin(phi))[:, None] * second
    return way
