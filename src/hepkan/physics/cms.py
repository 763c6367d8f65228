"""Single-top events of the CMS HEP tutorial (2011, 7 TeV, full detector simulation) as object columns.

CERN Open Data record 212 (CC0): the tree `events` holds jagged muons, electrons and jets as momenta and
energies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import DataError
from hepkan.physics.reading import readable
from hepkan.physics.selection import Selection

Columns = dict[str, NDArray[Any]]

BTAG_MIN = 1.74
"""Working point of `Jet_btag`, a discriminator of secondary vertices; -1 where a jet has none."""

_MOMENTUM = ("Px", "Py", "Pz", "E")
_BRANCHES = [
    *(f"{kind}_{name}" for kind in ("Jet", "Muon", "Electron") for name in _MOMENTUM),
    *("Jet_btag", "Jet_ID", "Muon_Charge", "Muon_Iso", "Electron_Iso", "MET_px", "MET_py", "EventWeight"),
]


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
    import awkward as ak
    import uproot

    cuts = selection if selection is not None else Selection()
    source = Path(path)
    with readable(source, "CMS tutorial ROOT"), uproot.open(source) as file:
        events = file["events"].arrays(_BRANCHES)
    muons, electrons, jets = (_objects(events, kind) for kind in ("Muon", "Electron", "Jet"))
    tight, vetoed = _leptons(muons, electrons, cuts)
    entry = np.flatnonzero(np.asarray((ak.sum(tight, axis=1) == 1) & ~vetoed))
    lepton = muons[tight][entry][:, 0]
    jets = _jets(jets[entry], lepton, cuts)
    tag = (jets.btag > btag_min) & (abs(jets.eta) < cuts.tag_eta_max)
    keep = np.asarray((ak.num(jets) >= cuts.n_jets_min) & (ak.sum(tag, axis=1) == 1))
    if not keep.any():
        raise DataError(f"Selected events are needed, however none in {source} passes the selection.")
    entry, lepton, jets, tag = entry[keep], lepton[keep], jets[keep], tag[keep]
    untagged = jets[~tag]
    light = untagged[ak.argmax(abs(untagged.eta), axis=1, keepdims=True)][:, 0]
    columns = _columns(lepton, jets[tag][:, 0], light, events[entry])
    return {**columns, "n_jets": np.asarray(ak.num(jets), dtype=np.int32), "id": entry.astype(np.int64)}


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
    if kind == "Muon":
        fields["charge"] = events.Muon_Charge
    return ak.zip(fields)


def _leptons(muons: Any, electrons: Any, cuts: Selection) -> tuple[Any, Any]:
    """Mask of the tight muons (jagged), and of events with a loose lepton more."""
    import awkward as ak

    tight = (muons.pt > cuts.muon_pt_min) & (abs(muons.eta) < cuts.muon_eta_max) & (muons.iso < cuts.iso_max)
    loose = (muons.pt > cuts.veto_pt_min) & (abs(muons.eta) < cuts.veto_muon_eta_max)
    loose = loose & (muons.iso < cuts.veto_iso_max) & ~tight
    soft = (electrons.pt > cuts.veto_pt_min) & (abs(electrons.eta) < cuts.veto_electron_eta_max)
    soft = soft & (electrons.iso < cuts.veto_iso_max)
    return tight, ak.any(loose, axis=1) | ak.any(soft, axis=1)


def _jets(jets: Any, lepton: Any, cuts: Selection) -> Any:
    """Selected jets (jagged) of events with one lepton."""
    dphi = abs((jets.phi - lepton.phi + np.pi) % (2 * np.pi) - np.pi)
    away = np.hypot(jets.eta - lepton.eta, dphi) > cuts.jet_lepton_dr_min
    return jets[jets.good & (jets.pt > cuts.jet_pt_min) & (abs(jets.eta) < cuts.jet_eta_max) & away]


def _columns(lepton: Any, b: Any, light: Any, events: Any) -> Columns:
    """Flat columns of the selected events."""
    fields = {"lep": ("pt", "eta", "phi", "charge", "iso")}
    columns = {
        f"{kind}_{name}": np.asarray(one[name], dtype=np.float64)
        for kind, one in {"lep": lepton, "bjet": b, "ljet": light}.items()
        for name in fields.get(kind, ("pt", "eta", "phi", "mass"))
    }
    met_px, met_py = (np.asarray(events[name], dtype=np.float64) for name in ("MET_px", "MET_py"))
    return {
        **columns,
        "met_pt": np.hypot(met_px, met_py),
        "met_phi": np.arctan2(met_py, met_px),
        "lep_flavour": np.full(len(met_px), 13, dtype=np.int32),
        "weight": np.asarray(events["EventWeight"], dtype=np.float64),
    }
