"""The 43 observables of lepton + b jet + light jet + missing momentum, as named pure functions.

l is the lepton, b the tagged jet, j the untagged jet of largest |eta|, MET the missing transverse momentum.
W = l + nu and top = W + b with the neutrino of `Event.neutrino`. Leptons are massless. Finite objects give
finite observables: what is undefined (an angle to a zero vector, a ratio 0/0) is 0; see `kinematics` for the
limits of the range.

References:
    The choice by singularities, spin correlations and thresholds: "Optimized neural networks to search for
    Higgs boson production at the Tevatron" (Boos, Dudko, 2003), NIM A502, 486; D0 Note 3612.
    CMS-TOP-14-007; CMS-PAS-TOP-17-023; arXiv:2002.09350.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import UsageError, unknown
from hepkan.physics.event import OBJECT_COLUMNS, Event
from hepkan.physics.kinematics import (
    ETA_MAX,
    Floats,
    cos_in_frame,
    delta_phi,
    dot,
    invariant_mass,
    rapidity,
    ratio,
    root,
    transverse_momentum,
)


@dataclass(frozen=True)
class Observable:
    """One observable.

    Attributes:
        name: column name.
        unit: `GeV`, `GeV^0.5`, `rad` or empty.
        label: mathtext (a subset of LaTeX), without the unit.
        definition: the formula in words or symbols.
        function: maps an `Event` to a float64 array of shape (n,).
    """

    name: str
    unit: str
    label: str
    definition: str
    function: Callable[[Event], Floats]


def compute(
    objects: Mapping[str, NDArray[Any]], names: Iterable[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return observables (float64, shape (n,)) in the order asked for; all 43 by default.

    Arguments:
        objects: columns of shape (n,) named as in `OBJECT_COLUMNS`; others are ignored.
        names: names among `OBSERVABLES`.

    Raises:
        UsageError: unknown observable, missing column, or columns of different shapes.
    """
    wanted = list(OBSERVABLES) if names is None else list(names)
    for name in wanted:
        if name not in OBSERVABLES:
            raise unknown("observable", name, OBSERVABLES)
    shapes = {name: np.shape(objects[name]) for name in OBJECT_COLUMNS if name in objects}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise UsageError(f"Object columns must all have one shape (n,), however: {shapes}.")
    event = Event(objects)
    return {name: OBSERVABLES[name].function(event) for name in wanted}


def _delta_r(event: Event, a: str, b: str) -> Floats:
    """Distance in pseudorapidity and azimuth."""
    return np.hypot(_delta_eta(event, a, b), _delta_phi(event, a, b))


def _delta_eta(event: Event, a: str, b: str) -> Floats:
    """Size of the difference in pseudorapidity."""
    ends = [np.clip(event[f"{one}_eta"], -ETA_MAX, ETA_MAX) for one in (a, b)]
    return np.abs(ends[0] - ends[1])


def _delta_phi(event: Event, a: str, b: str) -> Floats:
    """Difference in azimuth folded to [0, pi]."""
    return delta_phi(event[f"{a}_phi"], event[f"{b}_phi"])


def _top_mt(event: Event) -> Floats:
    """Transverse mass of l + b + MET: (ET + MET)^2 - |pT + MET|^2 = m^2 + 2 (ET MET - pT.MET)."""
    square = event.b.mass**2 + 2 * dot(event.lepton, event.b)
    px, py = event.lepton.px + event.b.px, event.lepton.py + event.b.py
    et = np.sqrt(square + px**2 + py**2)
    return root(square + 2 * (et * event.met.pt - px * event.met.px - py * event.met.py))


def _lep_ptrel(event: Event) -> Floats:
    """Momentum of the lepton across the nearer jet."""
    nearer = _delta_r(event, "lep", "bjet") <= _delta_r(event, "lep", "ljet")
    jet = np.where(nearer[:, None], event.b.vector, event.j.vector)
    across = np.linalg.norm(np.cross(event.lepton.vector, jet), axis=-1)
    return ratio(across, np.linalg.norm(jet, axis=-1))


def _cos_theta_pol(event: Event) -> Floats:
    """Angle of l and j in the rest frame of the top."""
    dots, top = event.products, event.mass_squared("lnb")
    lepton_top = dots["ln"] + dots["lb"]
    jet_top = dots["lj"] + dots["nj"] + dots["bj"]
    zero = np.zeros_like(top)
    return cos_in_frame(zero, event.j.mass**2, dots["lj"], lepton_top, jet_top, top)


def _cos_theta_w(event: Event) -> Floats:
    """Angle of l and -top, which is -b, in the rest frame of the W."""
    dots, w = event.products, event.mass_squared("ln")
    b_w = dots["lb"] + dots["nb"]
    return -cos_in_frame(np.zeros_like(w), event.b.mass**2, dots["lb"], dots["ln"], b_w, w)


def _event_c(event: Event) -> Floats:
    """3 (l1 l2 + l1 l3 + l2 l3) = 3 sum_{i<k} |p_i x p_k|^2 / (sum p^2)^2 by the Cauchy-Binet formula."""
    p = event.visible_and_met
    pairs = [np.cross(p[:, i], p[:, k]) for i, k in combinations(range(4), 2)]
    return 3 * ratio(np.asarray(sum(np.sum(one**2, axis=-1) for one in pairs)), event.momentum_squared**2)


def _aplanarity(event: Event) -> Floats:
    """3/2 of the smallest eigenvalue of the momentum tensor."""
    p = event.visible_and_met
    tensor = ratio(np.swapaxes(p, -1, -2) @ p, event.momentum_squared[:, None, None])
    usable = np.asarray(np.isfinite(tensor).all(axis=(1, 2)))
    lowest = np.linalg.eigvalsh(np.where(usable[:, None, None], tensor, 0.0))[:, 0]
    return np.where(usable, 1.5 * np.maximum(lowest, 0.0), np.nan)


def _nu_disc(event: Event) -> Floats:
    """Signed root of the discriminant of the neutrino's equation."""
    return np.asarray(np.sign(event.discriminant) * np.sqrt(np.abs(event.discriminant)))


def _pt_sys(event: Event) -> Floats:
    """Transverse momentum of everything."""
    return transverse_momentum(event.lepton, event.met, event.b, event.j)


def _met_sig(event: Event) -> Floats:
    """Missing momentum over the root of the visible activity."""
    return ratio(event.met.pt, root(event.lepton.pt + event.b.pt + event.j.pt))


def _centrality(event: Event) -> Floats:
    """Transverse over full momenta."""
    visible = (event.lepton, event.b, event.j)
    return ratio(np.asarray(sum(one.pt for one in visible)), np.asarray(sum(one.p for one in visible)))


def _record(
    name: str, unit: str, label: str, definition: str, function: Callable[[Event], Floats]
) -> Observable:
    return Observable(name, unit, f"${label}$", definition, function)


_RECORDS = (
    _record("lep_pt", "GeV", r"p_T(\ell)", "pT of the lepton", lambda e: e["lep_pt"]),
    _record("lep_eta", "", r"\eta(\ell)", "pseudorapidity of the lepton", lambda e: e["lep_eta"]),
    _record("lep_charge", "", r"q(\ell)", "charge of the lepton", lambda e: e["lep_charge"]),
    _record("met_pt", "GeV", r"p_T^{miss}", "missing transverse momentum", lambda e: e["met_pt"]),
    _record("bjet_pt", "GeV", r"p_T(b)", "pT of the b jet", lambda e: e["bjet_pt"]),
    _record("bjet_eta", "", r"\eta(b)", "pseudorapidity of the b jet", lambda e: e["bjet_eta"]),
    _record("bjet_mass", "GeV", r"m(b)", "mass of the b jet", lambda e: e["bjet_mass"]),
    _record("ljet_pt", "GeV", r"p_T(j)", "pT of the light jet", lambda e: e["ljet_pt"]),
    _record("ljet_eta", "", r"\eta(j)", "pseudorapidity of the light jet", lambda e: e["ljet_eta"]),
    _record("ljet_mass", "GeV", r"m(j)", "mass of the light jet", lambda e: e["ljet_mass"]),
    _record("w_mt", "GeV", r"m_T(W)", "sqrt(2 pT(l) MET (1 - cos dphi(l, MET)))", lambda e: e.w_mt),
    _record("w_pt", "GeV", r"p_T(W)", "pT of l + MET", lambda e: transverse_momentum(e.lepton, e.met)),
    _record("w_y", "", r"y(W)", "rapidity of l + nu", lambda e: rapidity(e.lepton, e.neutrino)),
    _record("nu_pz", "GeV", r"p_z(\nu)", "pz of the neutrino, mW constraint", lambda e: e.neutrino.pz),
    _record("nu_disc", "GeV", r"\sqrt{D}_\nu", "sign(D) sqrt|D| of the mW constraint", _nu_disc),
    _record(
        "dphi_lep_met",
        "rad",
        r"\Delta\phi(\ell, p_T^{miss})",
        "dphi(l, MET)",
        lambda e: _delta_phi(e, "lep", "met"),
    ),
    _record("top_mass", "GeV", r"m(\ell\nu b)", "m(l nu b)", lambda e: np.sqrt(e.mass_squared("lnb"))),
    _record(
        "top_pt",
        "GeV",
        r"p_T(\ell\nu b)",
        "pT of l + MET + b",
        lambda e: transverse_momentum(e.lepton, e.met, e.b),
    ),
    _record(
        "top_y", "", r"y(\ell\nu b)", "rapidity of l + nu + b", lambda e: rapidity(e.lepton, e.neutrino, e.b)
    ),
    _record("m_lb", "GeV", r"m(\ell b)", "m(l b)", lambda e: invariant_mass(e.lepton, e.b)),
    _record(
        "top_mt", "GeV", r"m_T(\ell b, p_T^{miss})", "sqrt((ET(lb) + MET)^2 - |pT(lb) + MET|^2)", _top_mt
    ),
    _record("m_bj", "GeV", r"m(bj)", "m(b j)", lambda e: invariant_mass(e.b, e.j)),
    _record("pt_bj", "GeV", r"p_T(bj)", "pT of b + j", lambda e: transverse_momentum(e.b, e.j)),
    _record(
        "dr_bj", "", r"\Delta R(b, j)", "sqrt(deta^2 + dphi^2) of b, j", lambda e: _delta_r(e, "bjet", "ljet")
    ),
    _record(
        "deta_bj", "", r"|\Delta\eta(b, j)|", "|eta(b) - eta(j)|", lambda e: _delta_eta(e, "bjet", "ljet")
    ),
    _record("dphi_bj", "rad", r"\Delta\phi(b, j)", "dphi(b, j)", lambda e: _delta_phi(e, "bjet", "ljet")),
    _record("ht_jets", "GeV", r"H_T(b, j)", "pT(b) + pT(j)", lambda e: e.b.pt + e.j.pt),
    _record(
        "dr_lep_b",
        "",
        r"\Delta R(\ell, b)",
        "sqrt(deta^2 + dphi^2) of l, b",
        lambda e: _delta_r(e, "lep", "bjet"),
    ),
    _record(
        "dr_lep_j",
        "",
        r"\Delta R(\ell, j)",
        "sqrt(deta^2 + dphi^2) of l, j",
        lambda e: _delta_r(e, "lep", "ljet"),
    ),
    _record(
        "deta_lep_b",
        "",
        r"|\Delta\eta(\ell, b)|",
        "|eta(l) - eta(b)|",
        lambda e: _delta_eta(e, "lep", "bjet"),
    ),
    _record("m_lj", "GeV", r"m(\ell j)", "m(l j)", lambda e: invariant_mass(e.lepton, e.j)),
    _record(
        "dphi_met_b",
        "rad",
        r"\Delta\phi(p_T^{miss}, b)",
        "dphi(MET, b)",
        lambda e: _delta_phi(e, "met", "bjet"),
    ),
    _record(
        "dphi_met_j",
        "rad",
        r"\Delta\phi(p_T^{miss}, j)",
        "dphi(MET, j)",
        lambda e: _delta_phi(e, "met", "ljet"),
    ),
    _record(
        "lep_ptrel", "GeV", r"p_T^{rel}(\ell)", "|p(l) x p(J)|/|p(J)|, J the nearer of b, j in dR", _lep_ptrel
    ),
    _record(
        "st", "GeV", r"S_T", "pT(l) + MET + pT(b) + pT(j)", lambda e: e.lepton.pt + e.met.pt + e.b.pt + e.j.pt
    ),
    _record("shat_sqrt", "GeV", r"\sqrt{\hat{s}}", "m(l nu b j)", lambda e: np.sqrt(e.mass_squared("lnbj"))),
    _record("pt_sys", "GeV", r"p_T(\ell\nu bj)", "|vector sum of pT of l, MET, b, j|", _pt_sys),
    _record("met_sig", "GeV^0.5", r"p_T^{miss}/\sqrt{H_T}", "MET/sqrt(pT(l) + pT(b) + pT(j))", _met_sig),
    _record("centrality", "", r"\sum p_T/\sum p", "sum pT(l, b, j)/sum |p|(l, b, j)", _centrality),
    _record(
        "cos_theta_pol", "", r"\cos\theta^*_{pol}", "cos angle(l, j) in the top rest frame", _cos_theta_pol
    ),
    _record("cos_theta_w", "", r"\cos\theta^*_W", "cos angle(l, -top) in the W rest frame", _cos_theta_w),
    _record(
        "event_c",
        "",
        r"C",
        "3 (l1 l2 + l1 l3 + l2 l3), S_ab = sum p_a p_b/sum p^2 of l, b, j, (MET, 0)",
        _event_c,
    ),
    _record("aplanarity", "", r"A", "3/2 of the smallest eigenvalue of the same S_ab", _aplanarity),
)

OBSERVABLES: dict[str, Observable] = {record.name: record for record in _RECORDS}
"""The 43 observables by name, in their fixed order."""
