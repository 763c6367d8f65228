"""The event selection on hand-made reconstructed events, and tag weights against brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hepkan.errors import UsageError
from hepkan.physics.detector import Reco
from hepkan.physics.particles import offsets_from_counts
from hepkan.physics.selection import Selection, select

CUTS = Selection()
Lepton = dict[str, float]


def lepton(pt: float = 50.0, eta: float = 0.0, flavour: int = 13, iso: float = 0.0, phi: float = 0.0) -> Lepton:
    return {"pt": pt, "eta": eta, "phi": phi, "charge": -1, "flavour": flavour, "iso": iso}


def jet(pt: float, eta: float, phi: float, tag: float = 0.0, em: float = 0.1) -> Lepton:
    flavour = {0.68: 5, 0.12: 4}.get(tag, 0)
    return {
        "pt": pt, "eta": eta, "phi": phi, "mass": 0.1 * pt, "flavour": flavour,
        "tag_probability": tag, "em_fraction": em, "n_charged": 7,
    }  # fmt: skip


JETS = [jet(80, 0.5, 2.0, 0.68), jet(60, -3.0, -2.0), jet(45, 1.0, -1.0, 0.12)]
LEPTON_FIELDS = {"pt": float, "eta": float, "phi": float, "charge": int, "flavour": int, "iso": float}
JET_FIELDS = {
    "pt": float, "eta": float, "phi": float, "mass": float, "flavour": int,
    "tag_probability": float, "em_fraction": float, "n_charged": int,
}  # fmt: skip


def reco(*events: tuple[list[Lepton], list[Lepton]]) -> Reco:
    """Build reconstructed events from lists of leptons and jets."""
    columns = {}
    for prefix, fields, place in (("lep", LEPTON_FIELDS, 0), ("jet", JET_FIELDS, 1)):
        rows = [row for event in events for row in event[place]]
        columns[f"{prefix}_offsets"] = offsets_from_counts([len(event[place]) for event in events])
        for name, kind in fields.items():
            columns[f"{prefix}_{name}"] = np.array([row[name] for row in rows], dtype=kind)
    met = np.arange(len(events), dtype=float)
    return Reco(**columns, met_pt=20.0 + met, met_phi=0.1 * met)


def run(events: Reco, region: str = "isolated", seed: int = 0, cuts: Selection = CUTS):
    return select(events, cuts, region, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("leptons", "isolated", "sideband"),
    [
        ([lepton()], True, False),
        ([lepton(pt=25.9)], False, False),
        ([lepton(eta=2.39)], True, False),
        ([lepton(eta=-2.41)], False, False),
        ([lepton(pt=34.0, flavour=11)], False, False),
        ([lepton(pt=36.0, flavour=11)], True, False),
        ([lepton(eta=2.2, flavour=11)], False, False),
        ([lepton(iso=0.1)], False, False),
        ([lepton(iso=0.5)], False, True),
        ([lepton(), lepton(pt=11.0, iso=0.1, flavour=11, eta=2.45)], False, False),
        ([lepton(), lepton(pt=11.0, iso=0.1, eta=2.45)], True, False),
        ([lepton(), lepton(pt=30.0, iso=0.3)], True, False),  # and the anti-isolated one has an isolated partner
        ([lepton(iso=0.5), lepton(pt=30.0, iso=0.9)], False, True),
        ([lepton(iso=0.5), lepton(pt=12.0, iso=0.19)], False, False),
        ([], False, False),
    ],
)
def test_lepton_and_veto(leptons, isolated, sideband):
    events = reco((leptons, JETS))
    assert len(run(events, "isolated")) == isolated
    assert len(run(events, "sideband")) == sideband


def test_columns_of_a_selected_event():
    wide = [jet(80, 0.5, 2.0, 0.68), jet(60, -4.6, -2.0), jet(90, 1.0, -1.0), jet(39, 0, 3), jet(70, 4.8, 3.0)]
    near = jet(55, 0.2, 0.2)
    events = reco(([], JETS), ([lepton(51.0, 0.1)], [*wide, near]))
    selected = run(events)
    row = {name: column[0] for name, column in selected.columns.items()}
    assert selected.index.tolist() == [1]
    assert selected.weight == pytest.approx([0.68])
    assert row["n_jets"] == 3
    assert (row["bjet_pt"], row["ljet_pt"]) == (80.0, 60.0)
    assert row["ljet_eta"] == np.float32(-4.6)
    assert row["bjet_mass"] == pytest.approx(8.0)
    assert row["met_pt"] == 21.0
    assert (row["lep_pt"], row["lep_charge"], row["lep_flavour"]) == (51.0, -1, 13)
    assert set(row) == {
        *(f"lep_{name}" for name in ("pt", "eta", "phi", "charge", "flavour", "iso")),
        *(f"{which}_{name}" for which in ("bjet", "ljet") for name in ("pt", "eta", "phi", "mass")),
        *("met_pt", "met_phi", "n_jets"),
    }
    kinds = {name: column.dtype.name for name, column in selected.columns.items()}
    assert {name for name, kind in kinds.items() if kind == "int32"} == {"lep_charge", "lep_flavour", "n_jets"}
    assert set(kinds.values()) == {"int32", "float32"}
    assert selected.cutflow == {"events": 2, "lepton": 1, "veto": 1, "jets": 1, "tag": 1}


def test_events_without_a_possible_tag_or_enough_jets_are_dropped():
    events = reco(
        ([lepton()], [jet(80, 2.45, 2.0, 0.68), jet(60, 0.0, -2.0)]),  # the only tag is too far forward
        ([lepton()], JETS[:1]),
        ([lepton()], []),
        ([lepton()], JETS),
    )
    selected = run(events)
    assert selected.index.tolist() == [3]
    assert selected.cutflow == {"events": 4, "lepton": 4, "veto": 4, "jets": 2, "tag": 1}


@pytest.mark.parametrize("rates", [(0.68, 0.011), (0.68, 0.68, 0.12), (0.5, 0.011, 0.0, 1.0), (1.0, 0.3)])
def test_tag_weight_and_choice_against_brute_force(rates):
    jets = [jet(50 + i, 0.1 * (i + 1), 1.5 + 0.5 * i, rate) for i, rate in enumerate(rates)]
    events = reco(*[([lepton()], jets)] * 20_000)
    selected = run(events, seed=3)
    probability = np.zeros(len(rates))  # of jet i being the only tagged one, by listing all outcomes
    for outcome in product((False, True), repeat=len(rates)):
        if sum(outcome) == 1:
            chances = [rate if tag else 1 - rate for tag, rate in zip(outcome, rates, strict=True)]
            probability[outcome.index(True)] = np.prod(chances)
    assert selected.weight == pytest.approx(np.full(20_000, probability.sum()))
    thrown = np.random.default_rng(4).random((100_000, len(rates))) < rates
    assert (thrown.sum(axis=1) == 1).mean() == pytest.approx(probability.sum(), abs=0.007)
    chosen = np.array([(selected.columns["bjet_pt"] == 50 + i).mean() for i in range(len(rates))])
    assert chosen == pytest.approx(probability / probability.sum(), abs=0.015)
    assert np.all(chosen[probability == 0] == 0)
    assert np.all(selected.columns["bjet_pt"] != selected.columns["ljet_pt"])


def test_a_certain_second_tag_drops_the_event():
    certain = [jet(50, 0.1, 2.0, 1.0), jet(60, 0.2, 3.0, 1.0), jet(70, 0.3, -2.0)]
    assert len(run(reco(([lepton()], certain)))) == 0


def test_light_jet_is_the_most_forward_untagged_one():
    rng = np.random.default_rng(5)
    events = []
    for _ in range(500):
        n = rng.integers(2, 6)
        events.append(
            ([lepton()], [jet(41 + 10 * i, rng.uniform(-4.6, 4.6), rng.uniform(1, 5), 0.5) for i in range(n)])
        )
    selected = run(reco(*events))
    assert len(selected) > 300
    for row, event in enumerate(selected.index):
        tagged, light = (selected.columns[f"{which}_pt"][row] for which in ("bjet", "ljet"))
        others = [j for j in events[event][1] if j["pt"] != tagged]
        assert light == max(others, key=lambda j: abs(j["eta"]))["pt"]
        assert abs(selected.columns["bjet_eta"][row]) < 2.4


def test_jet_electron_region():
    fake = jet(70, 1.0, 0.5, em=0.8)
    events = reco(
        ([], [fake, *JETS]),
        ([], [replace_em(fake, 0.6), *JETS]),
        ([lepton()], [fake, *JETS]),  # a real lepton vetoes
        ([lepton(iso=0.5)], [fake, *JETS]),
        ([], [jet(34, 1.0, 0.5, em=0.9), *JETS]),
        ([], [jet(70, 2.2, 0.5, em=0.9), *JETS]),
    )
    selected = run(events, "jet_electron")
    assert selected.index.tolist() == [0, 3]
    assert selected.columns["lep_pt"].tolist() == [70.0, 70.0]
    assert selected.columns["lep_flavour"].tolist() == [11, 11]
    assert set(np.abs(selected.columns["lep_charge"]).tolist()) == {1}
    assert selected.columns["lep_iso"] == pytest.approx([0.25, 0.25])
    assert selected.columns["n_jets"].tolist() == [3, 3]  # the fake is no jet any more
    charges = run(reco(*[([], [fake, *JETS])] * 1000), "jet_electron").columns["lep_charge"]
    assert abs(charges.sum()) < 4 * np.sqrt(1000)


def replace_em(row: Lepton, em: float) -> Lepton:
    return {**row, "em_fraction": em}


@pytest.mark.parametrize("region", ["isolated", "sideband", "jet_electron"])
def test_nothing_in_nothing_out(region):
    for events in (reco(), reco(([], []), ([], JETS)), reco(([lepton()], []), ([lepton(iso=0.5)], []))):
        selected = run(events, region)
        assert len(selected) == len(selected.weight) == 0
        assert all(len(column) == 0 for column in selected.columns.values())
        assert selected.cutflow["events"] == events.n_events
        assert selected.cutflow["tag"] == 0


def test_one_seed_one_result_and_thresholds_from_the_record():
    events = reco(*[([lepton(iso=0.01 * i)], [*JETS, jet(50, 0.3, -1.5, 0.5)]) for i in range(200)])
    first, again = run(events, seed=9), run(events, seed=9)
    assert all(np.array_equal(column, again.columns[name]) for name, column in first.columns.items())
    assert len(first) == 6
    assert len(run(events, cuts=replace(CUTS, iso_max=0.105))) == 11
    assert len(run(events, cuts=replace(CUTS, n_jets_min=5))) == 0


def test_unknown_region_is_refused():
    with pytest.raises(UsageError, match="Did you mean 'sideband'"):
        run(reco(), "sidebnd")
