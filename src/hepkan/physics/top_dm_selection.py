"""One lepton, one or more b jets and a further jet: the selection of the top + dark matter task.

Leptons, veto and geometry are those of `Selection` (single top, CMS, arXiv:1907.08330); jets count from 30 GeV and one
b tag or more is asked for, as in the one-lepton channel of "Search for dark matter produced in association with a
single top quark or a top quark pair" (CMS, 2019), arXiv:1901.01553. Its cuts on the missing momentum and the
transverse mass are not made: a reconstruction is wanted for every event, and a cut can follow.

Every jet is tagged or not by a draw with its probability, so that all events have the same weight.
"""

from __future__ import annotations

import numpy as np

from hepkan.errors import unknown
from hepkan.physics.detector import Reco
from hepkan.physics.selection import (
    Columns,
    Floats,
    Ints,
    Region,
    Selected,
    Selection,
    _compact,
    _selected_jets,
    _take,
    _tight,
    _vetoed,
)

TOP_DM_SELECTION = Selection(jet_pt_min=30.0)
"""The thresholds, in GeV and radians."""

REGIONS = ("isolated", "sideband")
JET_FIELDS = ("pt", "eta", "phi", "mass")


def select_top_dm(reco: Reco, selection: Selection, region: Region, rng: np.random.Generator) -> Selected:
    """Return the events with one lepton, one b jet or more, and `n_jets_min` jets in all.

    `bjet` is the hardest tagged jet, `jet1` and `jet2` are the hardest others, tagged or not. Columns: lep_pt,
    lep_eta, lep_phi, lep_charge, lep_flavour, lep_iso; pt, eta, phi and mass of bjet, jet1 and jet2; has_jet2, 1 or 0
    (then all of jet2 is 0); n_jets, n_tags; ht_jets, the summed pT of all selected jets; met_pt, met_phi. GeV, radians.

    Raises:
        UsageError: the region is neither `isolated` nor `sideband`.
    """
    if region not in REGIONS:
        raise unknown("region", region, REGIONS)
    cutflow = {"events": reco.n_events}
    leptons = _tight(reco, selection, region)
    cutflow["lepton"] = len(leptons.event)
    leptons = _take(leptons, ~_vetoed(reco, leptons, selection))
    cutflow["veto"] = len(leptons.event)
    jets = _selected_jets(reco, leptons, selection)
    enough = (jets >= 0).sum(axis=1) >= selection.n_jets_min
    leptons, jets = _take(leptons, enough), jets[enough]
    cutflow["jets"] = len(leptons.event)
    tagged = _tags(reco, jets, selection, rng)
    some = np.asarray(tagged.any(axis=1))
    leptons, jets, tagged = _take(leptons, some), jets[some], tagged[some]
    cutflow["tag"] = len(leptons.event)
    columns = leptons.columns | _jet_columns(reco, jets, tagged)
    columns |= {"met_pt": reco.met_pt[leptons.event], "met_phi": reco.met_phi[leptons.event]}
    compact = {name: _compact(values) for name, values in columns.items()}
    return Selected(leptons.event, compact, np.ones(len(leptons.event)), cutflow)


def _tags(reco: Reco, jets: Ints, selection: Selection, rng: np.random.Generator) -> np.ndarray:
    """Whether each jet is tagged, shaped like `jets`; one number is drawn for every jet."""
    usable = jets >= 0
    row = jets[usable]
    rate = reco.jet_tag_probability[row] * (np.abs(reco.jet_eta[row]) < selection.tag_eta_max)
    tagged = np.zeros(jets.shape, dtype=bool)
    tagged[usable] = rng.random(len(row)) < rate
    return tagged


def _jet_columns(reco: Reco, jets: Ints, tagged: np.ndarray) -> Columns:
    """The three jets; those of an event are ordered by pT, so the first of a kind is the hardest."""
    present = jets >= 0
    columns: Columns = {"n_jets": present.sum(axis=1), "n_tags": tagged.sum(axis=1)}
    pt = np.where(present, reco.jet_pt[jets], 0.0) if len(reco.jet_pt) else np.zeros(jets.shape)
    columns["ht_jets"] = pt.sum(axis=1)
    if not len(jets):
        first = second = third = np.zeros(0, dtype=np.int64)
    else:
        rows = np.arange(len(jets))
        place = tagged.argmax(axis=1)
        first = jets[rows, place]
        others = np.where(np.arange(jets.shape[1]) == place[:, None], -1, jets)
        order = np.argsort(others < 0, axis=1, kind="stable")
        others = np.take_along_axis(others, order, axis=1)
        second = others[:, 0]
        third = others[:, 1]
    columns["has_jet2"] = (third >= 0).astype(np.int64)
    for name, jet in (("bjet", first), ("jet1", second), ("jet2", third)):
        for field in JET_FIELDS:
            columns[f"{name}_{field}"] = _of(getattr(reco, f"jet_{field}"), jet)
    return columns


def _of(values: Floats, jet: Ints) -> Floats:
    """Values of jets, 0 for those of row -1."""
    return np.where(jet >= 0, values[jet], 0.0) if len(jet) else np.zeros(0)
