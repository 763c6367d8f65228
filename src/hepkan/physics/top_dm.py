"""Inputs and targets of the top + dark matter task, in the canonical frame of `frames`.

Reconstructed: the lepton, b (the hardest tagged jet), j and j2 (the hardest others) and the missing momentum. To be
reconstructed: the momenta of the W's neutrino and of the mediator. W = l + nu with the neutrino of the W-mass
constraint (`Event.neutrino`), which here takes all of the missing momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import unknown
from hepkan.physics.event import Event
from hepkan.physics.frames import Columns, Frame, momenta_to_frame, to_frame
from hepkan.physics.kinematics import Floats, Momenta, ratio, root
from hepkan.physics.observables import OBSERVABLES, Observable

TARGETS = ("nu_px", "nu_py", "nu_pz", "nu_e", "phi_px", "phi_py", "phi_pz", "phi_e")
"""Momenta of neutrino and mediator in the canonical frame, GeV."""

TRUTH_COLUMNS = tuple(f"true_{name}_{axis}" for name in ("neutrino", "mediator") for axis in ("px", "py", "pz", "e"))
"""The same in the laboratory, as sample files hold them."""

DARK_GENERATORS = ("top_scalar", "top_pseudoscalar", "ttbar_phi")
"""Generators whose events have these truth columns."""

_JET = ("pt", "eta", "phi", "mass")
OBJECT_COLUMNS = (
    ("lep_pt", "lep_eta", "lep_phi", "lep_charge", "met_pt", "met_phi")
    + tuple(f"{jet}_{name}" for jet in ("bjet", "jet1", "jet2") for name in _JET)
    + ("has_jet2", "n_jets", "ht_jets")
)
"""What `compute_inputs` reads; GeV and radians, laboratory."""


def compute_inputs(objects: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """Return the inputs (float64, shape (n,)) from object columns of the laboratory; others are ignored.

    Raises:
        UsageError: a column is missing.
    """
    for name in OBJECT_COLUMNS:
        if name not in objects:
            raise unknown("object column", name, objects)
    columns, _ = to_frame({name: objects[name] for name in OBJECT_COLUMNS})
    event = Event({**columns, **{f"ljet_{name}": columns[f"jet1_{name}"] for name in _JET}})
    return {name: one.function(event) for name, one in INPUTS.items()}


def compute_targets(columns: Mapping[str, NDArray[Any]]) -> tuple[Columns, Frame]:
    """Return the targets (float64, shape (n,)) and the frame they are in, from truth and object columns.

    Raises:
        UsageError: a column is missing.
    """
    for name in TRUTH_COLUMNS:
        if name not in columns:
            raise unknown("column", name, columns)
    frame = Frame.of(columns)
    truth = np.column_stack([np.asarray(columns[name], dtype=np.float64) for name in TRUTH_COLUMNS])
    return dict(zip(TARGETS, momenta_to_frame(truth, frame).T, strict=True)), frame


def _second(event: Event) -> Momenta:
    """The second further jet, zero where there is none."""
    return Momenta.from_eta(*(event[f"jet2_{name}"] for name in _JET))


def _nu_pz_far(event: Event) -> Floats:
    """The solution of larger |pz|: A + sign(A) sqrt(D), or A where D < 0."""
    centre = event.reach * ratio(event.lepton.pz, event.lepton.pt)
    larger = centre + np.where(centre >= 0, 1.0, -1.0) * root(event.discriminant)
    return np.where(event.discriminant >= 0, larger, centre)


def _components(
    name: str, symbol: str, words: str, find: Callable[[Event], Momenta], energy: bool = True
) -> list[Observable]:
    """Records of px, py, pz and E of an object."""
    records = [
        Observable(f"{name}_px", "GeV", f"$p_x({symbol})$", f"px of {words}", lambda e: find(e).px),
        Observable(f"{name}_py", "GeV", f"$p_y({symbol})$", f"py of {words}", lambda e: find(e).py),
        Observable(f"{name}_pz", "GeV", f"$p_z({symbol})$", f"pz of {words}", lambda e: find(e).pz),
        Observable(f"{name}_e", "GeV", f"$E({symbol})$", f"energy of {words}", lambda e: find(e).energy),
    ]
    return records if energy else records[:3]


_SHARED = ("w_mt", "nu_disc", "dphi_lep_met", "top_mass", "top_mt", "m_lb", "m_bj", "shat_sqrt")
_RECORDS = (
    *_components("lep", r"\ell", "the lepton", lambda e: e.lepton, energy=False),
    OBSERVABLES["lep_charge"],
    OBSERVABLES["met_pt"],
    *_components("bjet", "b", "the b jet", lambda e: e.b),
    *_components("jet1", "j", "the hardest further jet", lambda e: e.j),
    *_components("jet2", "j_2", "the next jet, 0 if there is none", _second),
    Observable("has_jet2", "", r"$N(j_2)$", "1 if there is a third jet, else 0", lambda e: e["has_jet2"]),
    Observable("n_jets", "", r"$N_{jets}$", "number of selected jets", lambda e: e["n_jets"]),
    *(OBSERVABLES[name] for name in _SHARED),
    Observable("nu_pz_near", "GeV", r"$p_z^{near}(\nu)$", "smaller |pz| of the mW constraint", lambda e: e.neutrino.pz),
    Observable("nu_pz_far", "GeV", r"$p_z^{far}(\nu)$", "larger |pz| of the mW constraint", _nu_pz_far),
    OBSERVABLES["dphi_met_b"],
    OBSERVABLES["dphi_met_j"],
    Observable("ht_jets", "GeV", r"$H_T$", "summed pT of all selected jets", lambda e: e["ht_jets"]),
)

INPUTS: dict[str, Observable] = {record.name: record for record in _RECORDS}
"""The 32 inputs by name, in their fixed order. In the definitions shared with `observables`, j is `jet1`."""
