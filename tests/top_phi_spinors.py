"""q b -> q' t phi, t -> b l nu from Dirac matrices and helicity spinors: an independent evaluation of |M|^2.

Nothing is simplified by hand: full numerators of the top propagators, W propagators in unitary gauge with their
momentum terms, all helicities, spinors and antispinors for each of the four channels of the generator.
"""

from __future__ import annotations

import itertools

import numpy as np

from hepkan.physics.top_phi_amplitude import TopPhiParameters

METRIC = np.diag([1.0, -1.0, -1.0, -1.0])
_SIGMA = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=complex)
_ZERO, _ONE = np.zeros((2, 2)), np.eye(2)
GAMMA = np.array(
    [np.block([[_ONE, _ZERO], [_ZERO, -_ONE]]), *(np.block([[_ZERO, s], [-s, _ZERO]]) for s in _SIGMA)], dtype=complex
)
GAMMA5 = 1j * GAMMA[0] @ GAMMA[1] @ GAMMA[2] @ GAMMA[3]
LEFT = 0.5 * (np.eye(4) - GAMMA5)


def slash(p: np.ndarray) -> np.ndarray:
    """Return p_mu gamma^mu (n, 4, 4) of four-vectors (n, 4) in the order [px, py, pz, E]."""
    result: np.ndarray = np.einsum("nm,mab->nab", _upper(p) @ METRIC, GAMMA)
    return result


def spinor(p: np.ndarray, helicity: int, anti: bool = False, mass: float = 0.0) -> np.ndarray:
    """Return u(p) or v(p) (n, 4) of the given helicity (+1, -1) in the Dirac representation, norm ubar u = 2 m."""
    momentum = np.linalg.norm(p[:, :3], axis=1)
    theta = np.arccos(np.clip(p[:, 2] / momentum, -1.0, 1.0))
    turn = np.exp(1j * np.arctan2(p[:, 1], p[:, 0]))
    plus = np.stack([np.cos(theta / 2), turn * np.sin(theta / 2)], axis=1)
    minus = np.stack([-np.conj(turn) * np.sin(theta / 2), np.cos(theta / 2)], axis=1)
    energy = np.sqrt(momentum**2 + mass**2)
    large, small = np.sqrt(energy + mass)[:, None], (momentum / np.sqrt(energy + mass))[:, None]
    if not anti:
        chi = plus if helicity > 0 else minus
        return np.concatenate([large * chi, helicity * small * chi], axis=1)
    chi = minus if helicity > 0 else plus
    return np.concatenate([-helicity * small * chi, large * chi], axis=1)


def amplitude_squared(momenta: dict[str, np.ndarray], channel: int, parameters: TopPhiParameters) -> np.ndarray:
    """Return |M|^2 (n,), summed over final and averaged over initial spins and colours, GeV^-6.

    Arguments:
        momenta: physical four-vectors `light_in`, `bottom_in`, `light_out`, `mediator`, `bottom`, `lepton`, `neutrino`.
        channel: 0: u b -> d t, 1: dbar b -> ubar t, 2 and 3 their charge conjugates.
        parameters: masses, widths and couplings.
    """
    p = parameters
    m = momenta
    w = m["lepton"] + m["neutrino"]
    top = w + m["bottom"]
    virtual = top + m["mediator"]
    tops = [(slash(q), _square(q) - p.mt**2 + 1j * p.mt * p.width_t) for q in (top, virtual)]
    vertex = np.eye(4) if p.mediator == "scalar" else 1j * GAMMA5
    left = GAMMA @ LEFT
    exchange = _w_propagator(m["light_in"] - m["light_out"], p.mw, 0.0)
    decay = _w_propagator(w, p.mw, p.width_w)
    total = np.zeros(len(w))
    for helicities in itertools.product((1, -1), repeat=6):
        spinors = _spinors(m, channel, helicities)
        light = _current(spinors["light_left"], left, spinors["light_right"])
        leptons = _current(spinors["lepton_left"], left, spinors["lepton_right"])
        one = np.einsum("nmk,nk->nm", decay, leptons)
        two = np.einsum("nmk,nk->nm", exchange, light)
        sign = 1.0 if channel < 2 else -1.0
        numerators = [(sign * q + p.mt * np.eye(4)) / d[:, None, None] for q, d in tops]
        line = [np.einsum("nm,mab->nab", one, left), numerators[0], vertex, numerators[1]]
        line.append(np.einsum("nm,mab->nab", two, left))
        if channel >= 2:
            line.reverse()
        value = spinors["heavy_left"][:, None, :]
        for factor in line:
            value = value @ factor
        total += np.abs(np.einsum("nia,na->n", value, spinors["heavy_right"])) ** 2
    g2 = 4.0 * np.pi * p.alpha_w
    result: np.ndarray = (0.5 * g2) ** 4 * p.yukawa2 * total / 4.0
    return result


def produced_squared(momenta: dict[str, np.ndarray], channel: int, parameters: TopPhiParameters) -> np.ndarray:
    """Return |M|^2 (n,) of q b -> q' t phi with an on-shell, undecayed top; channels 0 and 1, GeV^-2."""
    p = parameters
    m = momenta
    virtual = m["top"] + m["mediator"]
    vertex = np.eye(4) if p.mediator == "scalar" else 1j * GAMMA5
    left = GAMMA @ LEFT
    exchange = _w_propagator(m["light_in"] - m["light_out"], p.mw, 0.0)
    width = _square(virtual) - p.mt**2 + 1j * p.mt * p.width_t
    numerator = (slash(virtual) + p.mt * np.eye(4)) / width[:, None, None]
    total = np.zeros(len(virtual))
    for first, second, third, fourth in itertools.product((1, -1), repeat=4):
        a, b = spinor(m["light_in"], first, anti=channel == 1), spinor(m["light_out"], second, anti=channel == 1)
        light = _current(_bar(a), left, b) if channel == 1 else _current(_bar(b), left, a)
        two = np.einsum("nmk,nk->nm", exchange, light)
        heavy = _bar(spinor(m["top"], third, mass=p.mt))[:, None, :] @ vertex @ numerator
        heavy = heavy @ np.einsum("nm,mab->nab", two, left)
        total += np.abs(np.einsum("nia,na->n", heavy, spinor(m["bottom_in"], fourth))) ** 2
    g2 = 4.0 * np.pi * p.alpha_w
    result: np.ndarray = (0.5 * g2) ** 2 * p.yukawa2 * total / 4.0
    return result


def _spinors(m: dict[str, np.ndarray], channel: int, helicities: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return the spinors (n, 4) at both ends of the light, heavy and lepton lines; left ones are barred."""
    light_in, light_out, bottom_in, bottom, lepton, neutrino = (
        (m[name], h)
        for name, h in zip(
            ("light_in", "light_out", "bottom_in", "bottom", "lepton", "neutrino"), helicities, strict=True
        )
    )
    antiquark = channel in (1, 2)
    ends = (light_in, light_out) if antiquark else (light_out, light_in)
    result = {
        "light_left": _bar(spinor(*ends[0], anti=antiquark)),
        "light_right": spinor(*ends[1], anti=antiquark),
    }
    if channel < 2:
        heavy, leptons = (bottom, bottom_in), (neutrino, lepton)
        result["heavy_left"], result["heavy_right"] = _bar(spinor(*heavy[0])), spinor(*heavy[1])
    else:
        heavy, leptons = (bottom_in, bottom), (lepton, neutrino)
        result["heavy_left"] = _bar(spinor(*heavy[0], anti=True))
        result["heavy_right"] = spinor(*heavy[1], anti=True)
    result["lepton_left"], result["lepton_right"] = _bar(spinor(*leptons[0])), spinor(*leptons[1], anti=True)
    return result


def _current(left: np.ndarray, matrices: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the current (n, 4) with an upper index."""
    return np.asarray(np.einsum("na,mab,nb->nm", left, matrices, right))


def _w_propagator(q: np.ndarray, mass: float, width: float) -> np.ndarray:
    """Return (-g + q q / m^2) / (q^2 - m^2 + i m w) with lower indices, (n, 4, 4)."""
    lower = _upper(q) @ METRIC
    tensor = -METRIC + lower[:, :, None] * lower[:, None, :] / mass**2
    return np.asarray(tensor / (_square(q) - mass**2 + 1j * mass * width)[:, None, None])


def _bar(u: np.ndarray) -> np.ndarray:
    return np.conj(u) @ GAMMA[0]


def _upper(p: np.ndarray) -> np.ndarray:
    """Return [E, px, py, pz] from [px, py, pz, E]."""
    return p[:, [3, 0, 1, 2]]


def _square(p: np.ndarray) -> np.ndarray:
    return np.asarray(p[:, 3] ** 2 - np.sum(p[:, :3] ** 2, axis=1))
