"""Events of CMS NanoAOD as object columns: the helper that leads from its collections to the 43 observables.

Written for versions 7 to 12 of the format, simulation and data.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hepkan.data.reading import readable
from hepkan.errors import DataError, UsageError
from hepkan.physics.collections import Columns, select_objects
from hepkan.physics.selection import Selection

BTAG_MIN = 0.2783
"""Medium working point of `Jet_btagDeepFlavB` (DeepJet) in CMS simulation of 2018, as published by CMS for Run 2."""

JET_TIGHT = 2
"""Bit of `Jet_jetId`: tight identification."""

ELECTRON_TIGHT, ELECTRON_VETO = 4, 1
"""Levels of `Electron_cutBased`."""

BRANCHES = (
    *(f"Muon_{name}" for name in ("pt", "eta", "phi", "charge", "pfRelIso04_all", "tightId", "looseId")),
    *(f"Electron_{name}" for name in ("pt", "eta", "phi", "charge", "pfRelIso03_all", "cutBased")),
    *(f"Jet_{name}" for name in ("pt", "eta", "phi", "mass", "jetId", "btagDeepFlavB")),
    *("MET_pt", "MET_phi"),
)
"""Branches that the selection reads."""


def read_nanoaod(
    path: str | Path, selection: Selection | None = None, btag_min: float = BTAG_MIN, tree: str = "Events"
) -> Columns:
    """Read a NanoAOD file and keep what passes the prompt selection; `compute` makes the 43 observables of it.

    Exactly one lepton: a muon with pT > 26 GeV, |eta| < 2.4, `tightId` and `pfRelIso04_all` < 0.06, or an electron
    with pT > 35 GeV, |eta| < 2.1, `cutBased` tight and `pfRelIso03_all` < 0.06; no further muon (`looseId`) or
    electron (`cutBased` veto) with pT > 10 GeV and a relative isolation below 0.2; two or more jets with pT > 40 GeV,
    |eta| < 4.7, tight `jetId`, dR(l, j) > 0.4; exactly one with |eta| < 2.4 tagged by DeepJet (with the `selection`
    given, its thresholds). Missing momentum is `MET` with particle-flow type-1 corrections. No trigger, no corrections
    beyond those in the file.

    Returns:
        Columns of shape (n,) as in `event.OBJECT_COLUMNS` (float64, GeV and radians), with lep_iso, lep_flavour,
        n_jets, `weight` (`genWeight`, 1 in data) and `id` (the entry in the file).

    Raises:
        DataError: the file is missing, damaged or no NanoAOD; no event passes.
    """
    import awkward as ak
    import uproot

    source = Path(path)
    with readable(source, "NanoAOD ROOT"), uproot.open(source) as file:
        content = file[tree]
        check_branches(content.keys(), source)
        weighted = "genWeight" in content
        events = content.arrays([*BRANCHES, *(["genWeight"] if weighted else [])])
    columns = select_nanoaod(events, selection, btag_min)
    if not len(columns["id"]):
        raise DataError(f"Selected events are needed, however none of {len(events)} in {source} passes the selection.")
    weight = ak.to_numpy(events.genWeight) if weighted else np.ones(len(events))
    return {**columns, "weight": np.asarray(weight, dtype=np.float64)[columns["id"]]}


def check_branches(present: Iterable[str], source: object) -> None:
    """Refuse files without the branches of the selection.

    Raises:
        UsageError: which are missing.
    """
    missing = [name for name in BRANCHES if name not in set(present)]
    if missing:
        raise UsageError(f"NanoAOD needs the branches {', '.join(missing)}, however {source} lacks them.")


def select_nanoaod(events: Any, selection: Selection | None = None, btag_min: float = BTAG_MIN) -> Columns:
    """Return the object columns of n events in memory, records with the fields `BRANCHES`; possibly of none."""
    import awkward as ak

    cuts = selection if selection is not None else Selection()
    jets = _zip(events, "Jet", ("pt", "eta", "phi", "mass"))
    jets = ak.with_field(jets, (events.Jet_jetId & JET_TIGHT) != 0, "good")
    jets = ak.with_field(jets, events.Jet_btagDeepFlavB > btag_min, "tag")
    leptons = ak.concatenate([_muons(events, cuts), _electrons(events, cuts)], axis=1)
    return select_objects(leptons, jets, (events.MET_pt, events.MET_phi), cuts)


def _muons(events: Any, cuts: Selection) -> Any:
    """Muons with their flags."""
    import awkward as ak

    muons = _zip(events, "Muon", ("pt", "eta", "phi", "charge"))
    iso = ak.values_astype(events.Muon_pfRelIso04_all, np.float64)
    tight = (muons.pt > cuts.muon_pt_min) & (abs(muons.eta) < cuts.muon_eta_max) & (iso < cuts.iso_max)
    loose = (muons.pt > cuts.veto_pt_min) & (abs(muons.eta) < cuts.veto_muon_eta_max) & (iso < cuts.veto_iso_max)
    return _flagged(muons, iso, 13, tight & events.Muon_tightId, loose & events.Muon_looseId)


def _electrons(events: Any, cuts: Selection) -> Any:
    """Electrons with their flags."""
    import awkward as ak

    one = _zip(events, "Electron", ("pt", "eta", "phi", "charge"))
    iso, level = ak.values_astype(events.Electron_pfRelIso03_all, np.float64), events.Electron_cutBased
    tight = (one.pt > cuts.electron_pt_min) & (abs(one.eta) < cuts.electron_eta_max) & (iso < cuts.iso_max)
    loose = (one.pt > cuts.veto_pt_min) & (abs(one.eta) < cuts.veto_electron_eta_max) & (iso < cuts.veto_iso_max)
    return _flagged(one, iso, 11, tight & (level >= ELECTRON_TIGHT), loose & (level >= ELECTRON_VETO))


def _zip(events: Any, kind: str, names: tuple[str, ...]) -> Any:
    """Records of a collection in double precision."""
    import awkward as ak

    return ak.zip({name: ak.values_astype(events[f"{kind}_{name}"], np.float64) for name in names})


def _flagged(leptons: Any, iso: Any, flavour: int, tight: Any, veto: Any) -> Any:
    """Leptons with everything that `select_objects` asks for."""
    import awkward as ak

    names = ("pt", "eta", "phi", "charge")
    extra = {"iso": iso, "flavour": ak.full_like(leptons.pt, flavour), "tight": tight, "veto": veto}
    return ak.zip({**{name: leptons[name] for name in names}, **extra})
