"""Single-top events of the CMS HEP tutorial (2011, 7 TeV, full detector simulation) as object columns.

CERN Open Data record 212 (CC0): the tree `events` holds jagged muons, electrons and jets as momenta and
energies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.data.reading import readable
from hepkan.errors import DataError
from hepkan.physics.collections import select_objects
from hepkan.physics.selection import Selection

Columns = dict[str, NDArray[Any]]

BTAG_MIN = 1.74
"""Working point of `Jet_btag`, a discriminator of secondary vertices; -1 where a jet has none."""

_MOMENTUM = ("Px", "Py", "Pz", "E")
BRANCHES = (
    *(f"{kind}_{name}" for kind in ("Jet", "Muon", "Electron") for name in _MOMENTUM),
    *("Jet_btag", "Jet_ID", "Muon_Charge", "Muon_Iso", "Electron_Charge", "Electron_Iso"),
    *("MET_px", "MET_py", "EventWeight"),
)
"""Branches of the tutorial that the selection reads."""


def read_cms_single_top(
    path: str | Path, selection: Selection | None = None, btag_min: float = BTAG_MIN
) -> Columns:
    """Read a file of the tutorial and keep what passes the prompt selection with a muon.

    Exactly one muon with pT > 26 GeV, |eta| < 2.4 and relative isolation < 0.06 and no second lepton; two or
    more jets with pT > 40 GeV, |eta| < 4.7, dR(l, j) > 0.4; exactly one of them tagged (with the `selection`
    given, its thresholds). What differs from generated events: 7 TeV; muons only; jets are stored from 30 GeV
    on and up to |eta| = 2.5, and must pass `Jet_ID`; the isolation is the stored sum (GeV) over pT, without
    pile-up correction; a tag is a cut on `Jet_btag`.

    Returns:
        Columns of shape (n,) as in `event.OBJECT_COLUMNS` (float64, GeV and radians), with `lep_iso`,
        `lep_flavour`, `n_jets`, `weight` (the file's `EventWeight`) and `id` (the entry in the file).

    Raises:
        DataError: the file is missing, damaged or another one.
    """
    import uproot

    source = Path(path)
    with readable(source, "CMS tutorial ROOT"), uproot.open(source) as file:
        events = file["events"].arrays(list(BRANCHES))
    columns = select_cms_single_top(events, selection, btag_min)
    if not len(columns["id"]):
        raise DataError(f"Selected events are needed, however none in {source} passes the selection.")
    return columns


def select_cms_single_top(events: Any, selection: Selection | None = None, btag_min: float = BTAG_MIN) -> Columns:
    """Return the same of n events in memory, records with the fields `BRANCHES`; possibly of none."""
    import awkward as ak

    cuts = selection if selection is not None else Selection()
    muons, electrons, jets = (_objects(events, kind) for kind in ("Muon", "Electron", "Jet"))
    muons, electrons = _with_flags(muons, electrons, cuts)
    jets = ak.with_field(jets, jets.btag > btag_min, "tag")
    px, py = (np.asarray(events[name], dtype=np.float64) for name in ("MET_px", "MET_py"))
    leptons = ak.concatenate([muons, electrons], axis=1)
    columns = select_objects(leptons, jets, (np.hypot(px, py), np.arctan2(py, px)), cuts)
    weight = np.asarray(events["EventWeight"], dtype=np.float64)
    return {**columns, "weight": weight[columns["id"]]}


def _objects(events: Any, kind: str) -> Any:
    """Records pt, eta, phi, mass and what else the branches of a kind hold."""
    import awkward as ak

    px, py, pz, energy = (ak.values_astype(events[f"{kind}_{name}"], np.float64) for name in _MOMENTUM)
    pt = np.hypot(px, py)
    square = energy**2 - pt**2 - pz**2
    fields = {"pt": pt, "eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px)}
    fields["mass"] = np.sqrt(ak.where(square > 0, square, 0.0))
    if kind == "Jet":
        fields |= {"btag": events.Jet_btag, "good": events.Jet_ID}
    else:
        fields["iso"] = ak.values_astype(events[f"{kind}_Iso"], np.float64) / pt
        fields["charge"] = events[f"{kind}_Charge"]
    return ak.zip(fields)


def _with_flags(muons: Any, electrons: Any, cuts: Selection) -> tuple[Any, Any]:
    """Leptons with flavour and the flags `tight` (muons only) and `veto`."""
    import awkward as ak

    tight = (muons.pt > cuts.muon_pt_min) & (abs(muons.eta) < cuts.muon_eta_max) & (muons.iso < cuts.iso_max)
    loose = (muons.pt > cuts.veto_pt_min) & (abs(muons.eta) < cuts.veto_muon_eta_max)
    soft = (electrons.pt > cuts.veto_pt_min) & (abs(electrons.eta) < cuts.veto_electron_eta_max)
    flags = (
        (muons, 13, tight, loose & (muons.iso < cuts.veto_iso_max)),
        (electrons, 11, electrons.pt < 0, soft & (electrons.iso < cuts.veto_iso_max)),
    )
    full = []
    for one, flavour, chosen, vetoing in flags:
        fields = {name: one[name] for name in ("pt", "eta", "phi", "iso", "charge")}
        extra = {"flavour": ak.full_like(one.pt, flavour), "tight": chosen, "veto": vetoing}
        full.append(ak.zip({**fields, **extra}))
    return full[0], full[1]
