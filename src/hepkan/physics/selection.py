"""One lepton, two or more jets, exactly one b tag: the thresholds of one record, applied to reconstructed events.

After "Differential cross sections and charge ratios for t-channel single top quark production" (CMS, 2020),
CMS-PAS-TOP-17-023 / arXiv:1907.08330. Nothing is cut on the transverse mass of the W: that is the classical
multijet cut which a network replaces.

b tags enter as weights. With tag probabilities e_i of the selected jets, the weight of an event is the probability
of exactly one tag, P = sum_i e_i prod_{j != i} (1 - e_j), and the tagged jet is drawn in proportion to its term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import unknown
from hepkan.physics.candidates import delta_phi
from hepkan.physics.detector import Reco
from hepkan.physics.particles import event_index

Region = Literal["isolated", "sideband", "jet_electron"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Selection:
    """The thresholds, in GeV and radians; all cuts are strict."""

    muon_pt_min: float = 26.0
    muon_eta_max: float = 2.4
    electron_pt_min: float = 35.0
    electron_eta_max: float = 2.1
    iso_max: float = 0.06  # region `isolated`
    sideband_iso_min: float = 0.2  # region `sideband`, where experiments take their multijet template
    veto_pt_min: float = 10.0  # a further lepton of this kind vetoes the event
    veto_muon_eta_max: float = 2.4
    veto_electron_eta_max: float = 2.5
    veto_iso_max: float = 0.2
    jet_pt_min: float = 40.0
    jet_eta_max: float = 4.7
    jet_lepton_dr_min: float = 0.4
    n_jets_min: int = 2
    tag_eta_max: float = 2.4
    em_fraction_min: float = 0.7  # region `jet_electron`: the photon-rich jet that plays the electron


@dataclass(frozen=True)
class Selected:
    """Selected events.

    Attributes:
        index: (n,), the number of the event that each row comes from.
        columns: (n,) each: lep_pt, lep_eta, lep_phi, lep_iso, bjet_pt, bjet_eta, bjet_phi, bjet_mass, the same of
            ljet, met_pt, met_phi (float32, GeV and radians), lep_charge, lep_flavour and n_jets (int32).
            In `jet_electron` the charge is drawn and lep_iso is the jet's other energy over its photons'.
        weight: (n,), the probability of exactly one tag.
        cutflow: events left after each step, in order; the last step, `tag`, counts rows, not weights.
    """

    index: Ints
    columns: Columns
    weight: Floats
    cutflow: dict[str, int]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class _Leptons:
    """The chosen lepton of each event that has one; `event` rises strictly, `row` is -1 for a jet."""

    event: Ints
    row: Ints
    columns: Columns


def select(reco: Reco, selection: Selection, region: Region, rng: np.random.Generator) -> Selected:
    """Return the events of a region: `isolated`, `sideband` (inverted isolation) or `jet_electron`.

    The light jet `ljet` is the untagged selected jet of largest |eta|. Events that cannot have exactly one tag
    are dropped.

    Raises:
        UsageError: the region is unknown.
    """
    if region not in get_args(Region):
        raise unknown("region", region, get_args(Region))
    cutflow = {"events": reco.n_events}
    leptons = _jet_electrons(reco, selection, rng) if region == "jet_electron" else _tight(reco, selection, region)
    cutflow["lepton"] = len(leptons.event)
    leptons = _take(leptons, ~_vetoed(reco, leptons, selection))
    cutflow["veto"] = len(leptons.event)
    jets = _selected_jets(reco, leptons, selection)
    enough = (jets >= 0).sum(axis=1) >= selection.n_jets_min
    leptons, jets = _take(leptons, enough), jets[enough]
    cutflow["jets"] = len(leptons.event)
    terms = _one_tag_terms(reco, jets, selection)
    weight = terms.sum(axis=1)
    possible = weight > 0
    leptons, jets, terms, weight = _take(leptons, possible), jets[possible], terms[possible], weight[possible]
    cutflow["tag"] = len(leptons.event)
    columns = leptons.columns | _jet_columns(reco, jets, terms, rng)
    columns |= {"met_pt": reco.met_pt[leptons.event], "met_phi": reco.met_phi[leptons.event]}
    return Selected(leptons.event, {k: _compact(v) for k, v in columns.items()}, weight, cutflow)


def _compact(column: NDArray[Any]) -> NDArray[Any]:
    """Float columns as float32, integer ones as int32."""
    return column.astype(np.float32 if column.dtype.kind == "f" else np.int32)


def _take(leptons: _Leptons, keep: NDArray[Any]) -> _Leptons:
    """The leptons of some events."""
    columns = {name: column[keep] for name, column in leptons.columns.items()}
    return _Leptons(leptons.event[keep], leptons.row[keep], columns)


def _tight(reco: Reco, selection: Selection, region: Region) -> _Leptons:
    """The hardest lepton of each event that passes the region's cuts."""
    muon, eta = reco.lep_flavour == 13, np.abs(reco.lep_eta)
    passes = reco.lep_pt > np.where(muon, selection.muon_pt_min, selection.electron_pt_min)
    passes &= eta < np.where(muon, selection.muon_eta_max, selection.electron_eta_max)
    if region == "isolated":
        passes &= reco.lep_iso < selection.iso_max
    else:
        passes &= reco.lep_iso > selection.sideband_iso_min
    rows = np.flatnonzero(passes)
    event, first = np.unique(event_index(reco.lep_offsets)[rows], return_index=True)
    rows = rows[first]
    names = ("lep_pt", "lep_eta", "lep_phi", "lep_charge", "lep_flavour", "lep_iso")
    return _Leptons(event, rows, {name: getattr(reco, name)[rows] for name in names})


def _vetoed(reco: Reco, leptons: _Leptons, selection: Selection) -> NDArray[np.bool_]:
    """Whether the event has a loosely isolated lepton besides the chosen one."""
    eta_max = np.where(reco.lep_flavour == 13, selection.veto_muon_eta_max, selection.veto_electron_eta_max)
    loose = (reco.lep_pt > selection.veto_pt_min) & (np.abs(reco.lep_eta) < eta_max)
    loose &= reco.lep_iso < selection.veto_iso_max
    loose[leptons.row[leptons.row >= 0]] = False
    count = np.bincount(event_index(reco.lep_offsets)[loose], minlength=reco.n_events)
    return np.asarray(count[leptons.event] > 0)


def _jet_electrons(reco: Reco, selection: Selection, rng: np.random.Generator) -> _Leptons:
    """The hardest photon-rich jet of each event, dressed as an electron of random charge."""
    passes = reco.jet_em_fraction > selection.em_fraction_min
    passes &= reco.jet_pt > selection.electron_pt_min
    passes &= np.abs(reco.jet_eta) < selection.electron_eta_max
    rows = np.flatnonzero(passes)
    event, first = np.unique(event_index(reco.jet_offsets)[rows], return_index=True)
    rows = rows[first]
    columns: Columns = {
        "lep_pt": reco.jet_pt[rows],
        "lep_eta": reco.jet_eta[rows],
        "lep_phi": reco.jet_phi[rows],
        "lep_charge": rng.choice(np.array([-1, 1]), size=len(rows)),
        "lep_flavour": np.full(len(rows), 11),
        "lep_iso": 1.0 / reco.jet_em_fraction[rows] - 1.0,
    }
    return _Leptons(event, np.full_like(rows, -1), columns)


def _selected_jets(reco: Reco, leptons: _Leptons, selection: Selection) -> Ints:
    """Rows of the jets that pass, (events, most jets of an event), filled with -1 behind the last."""
    position = np.full(reco.n_events, -1, dtype=np.int64)
    position[leptons.event] = np.arange(len(leptons.event))
    row = position[event_index(reco.jet_offsets)]
    passes = (row >= 0) & (reco.jet_pt > selection.jet_pt_min)
    passes &= np.abs(reco.jet_eta) < selection.jet_eta_max
    jet = np.flatnonzero(passes)
    row = row[jet]
    distance = np.hypot(
        reco.jet_eta[jet] - leptons.columns["lep_eta"][row],
        delta_phi(reco.jet_phi[jet], leptons.columns["lep_phi"][row]),
    )
    away = distance > selection.jet_lepton_dr_min
    jet, row = jet[away], row[away]
    counts = np.bincount(row, minlength=len(leptons.event))
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((len(leptons.event), counts.max(initial=0)), -1, dtype=np.int64)
    table[row, column] = jet
    return table


def _one_tag_terms(reco: Reco, jets: Ints, selection: Selection) -> Floats:
    """The probability that this jet is the only tagged one, shaped like `jets`."""
    usable = jets >= 0
    rate = np.zeros(jets.shape)
    rate[usable] = reco.jet_tag_probability[jets[usable]]
    rate[usable] *= np.abs(reco.jet_eta[jets[usable]]) < selection.tag_eta_max
    ones = np.ones((len(jets), 1))
    before = np.cumprod(np.hstack([ones, 1 - rate]), axis=1)[:, :-1]
    after = np.cumprod(np.hstack([ones, 1 - rate[:, ::-1]]), axis=1)[:, :-1][:, ::-1]
    return np.asarray(rate * before * after)


def _jet_columns(reco: Reco, jets: Ints, terms: Floats, rng: np.random.Generator) -> Columns:
    """Draw the tagged jet, find the most forward other one, and return both and the number of jets."""
    rows = np.arange(len(jets))
    if jets.shape[1] == 0:
        tagged = light = np.zeros(0, dtype=np.int64)
    else:
        share = np.cumsum(terms, axis=1)
        choice = (rng.random(len(jets))[:, None] * share[:, -1:] >= share).sum(axis=1)
        tagged = jets[rows, choice]
        eta = np.where(jets >= 0, np.abs(reco.jet_eta)[jets], -1.0)
        eta[rows, choice] = -1.0
        light = jets[rows, eta.argmax(axis=1)]
    columns: Columns = {"n_jets": (jets >= 0).sum(axis=1)}
    for name, jet in (("bjet", tagged), ("ljet", light)):
        for field in ("pt", "eta", "phi", "mass"):
            columns[f"{name}_{field}"] = getattr(reco, f"jet_{field}")[jet]
    return columns
