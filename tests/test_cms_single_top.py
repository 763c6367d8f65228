"""Full-simulation events of CMS: the reader against an event loop, observables on what it selects."""

import math
from pathlib import Path

import numpy as np
import pytest
import uproot

from hepkan.errors import DataError
from hepkan.physics.cms import BTAG_MIN
from hepkan.physics.event import OBJECT_COLUMNS
from hepkan.physics.io import Sample, read_cms_single_top, sample_table
from hepkan.physics.observables import OBSERVABLES, compute
from hepkan.physics.selection import Selection

FILE = Path(__file__).parent / "data" / "cms_single_top.root"

Columns = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def columns() -> Columns:
    return read_cms_single_top(FILE)


def kinematics(tree: Columns, kind: str, entry: int) -> list[tuple[float, float, float, float]]:
    """Return (pt, eta, phi, mass) of the objects of one event."""
    result = []
    for px, py, pz, energy in zip(
        *(tree[f"{kind}_{k}"][entry] for k in ("Px", "Py", "Pz", "E")), strict=True
    ):
        px, py, pz, energy = map(float, (px, py, pz, energy))
        p = math.sqrt(px**2 + py**2 + pz**2)
        pt = math.hypot(px, py)
        result.append((pt, math.atanh(pz / p), math.atan2(py, px), math.sqrt(max(energy**2 - p**2, 0.0))))
    return result


def select_one(tree: Columns, entry: int) -> tuple | None:
    """Return muon, b jet and light jet of one event, or None: the selection in plain Python."""
    muons = list(zip(kinematics(tree, "Muon", entry), tree["Muon_Iso"][entry], strict=True))
    tight = [i for i, (p, iso) in enumerate(muons) if p[0] > 26 and abs(p[1]) < 2.4 and iso / p[0] < 0.06]
    if len(tight) != 1:
        return None
    for i, (p, iso) in enumerate(muons):
        if i != tight[0] and p[0] > 10 and abs(p[1]) < 2.4 and iso / p[0] < 0.2:
            return None
    for p, iso in zip(kinematics(tree, "Electron", entry), tree["Electron_Iso"][entry], strict=True):
        if p[0] > 10 and abs(p[1]) < 2.5 and iso / p[0] < 0.2:
            return None
    muon = muons[tight[0]][0]
    tagged, untagged = [], []
    jets = zip(kinematics(tree, "Jet", entry), tree["Jet_btag"][entry], tree["Jet_ID"][entry], strict=True)
    for p, score, good in jets:
        dphi = abs(math.remainder(p[2] - muon[2], 2 * math.pi))
        if good and p[0] > 40 and abs(p[1]) < 4.7 and math.hypot(p[1] - muon[1], dphi) > 0.4:
            (tagged if score > 1.74 and abs(p[1]) < 2.4 else untagged).append(p)
    if len(tagged) != 1 or not untagged:
        return None
    return muon, tagged[0], max(untagged, key=lambda p: abs(p[1]))


def test_reader_equals_an_event_loop(columns: Columns) -> None:
    with uproot.open(FILE) as file:
        tree = file["events"].arrays(library="np")
    found = {}
    for entry in range(len(tree["NJet"])):
        chosen = select_one(tree, entry)
        if chosen is not None:
            found[entry] = chosen
    assert columns["id"].tolist() == list(found)
    for k, kind in enumerate(("lep", "bjet", "ljet")):
        for m, name in enumerate(("pt", "eta", "phi", "mass")):
            if f"{kind}_{name}" in columns:
                expected = [objects[k][m] for objects in found.values()]
                assert np.allclose(columns[f"{kind}_{name}"], expected, rtol=1e-6, atol=1e-5), (kind, name)


def test_selected_objects(columns: Columns) -> None:
    assert set(OBJECT_COLUMNS) <= set(columns)
    assert len(columns["id"]) == 1047
    assert BTAG_MIN == 1.74
    assert columns["lep_pt"].min() > 26 and columns["lep_iso"].max() < 0.06
    assert set(np.unique(columns["lep_charge"])) == {-1.0, 1.0}
    assert columns["n_jets"].min() == 2 and set(columns["lep_flavour"]) == {13}
    assert all(values.shape == (1047,) for values in columns.values())


def test_observables_of_full_simulation(columns: Columns) -> None:
    got = compute(columns)
    assert len(got) == 43
    for name, values in got.items():
        assert np.isfinite(values).all(), name
    assert np.median(got["top_mass"]) == pytest.approx(178, abs=3)
    assert 0.5 < np.mean(columns["lep_charge"] > 0) < 0.8  # more t than tbar in pp collisions


def test_the_top_is_in_the_events(columns: Columns) -> None:
    """With the b jet of another event the peak of the top mass is gone."""
    mixed = {name: np.roll(v, 1) if name.startswith("bjet") else v for name, v in columns.items()}
    inside, mixed_inside = (
        np.mean(np.abs(compute(one, ["top_mass"])["top_mass"] - 172.5) < 25) for one in (columns, mixed)
    )
    error = math.sqrt(0.5 / len(columns["id"]))  # of a difference of two fractions, at most
    assert inside - mixed_inside > 5 * error


def test_other_thresholds() -> None:
    loose = read_cms_single_top(FILE, Selection(jet_pt_min=30.0, iso_max=1.0))
    assert loose["bjet_pt"].min() < 40 and loose["lep_iso"].max() > 0.06
    assert len(read_cms_single_top(FILE, btag_min=3.0)["id"]) < len(loose["id"])


def test_a_table_of_one_class(columns: Columns) -> None:
    label = np.zeros(len(columns["id"]), dtype=np.int64)
    sample = Sample({**columns, **compute(columns), "label": label}, {})
    table = sample_table(sample, classes=("single top",))
    assert len(table) == len(label) and table.names == tuple(OBSERVABLES)
    assert table.units[0] == "GeV" and np.array_equal(table.id, columns["id"])


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_cms_single_top(tmp_path / "none.root")
    cut = tmp_path / "cut.root"
    cut.write_bytes(FILE.read_bytes()[:100_000])
    with pytest.raises(DataError, match="truncated"):
        read_cms_single_top(cut)
    with pytest.raises(DataError, match="none in"):
        read_cms_single_top(FILE, Selection(muon_pt_min=1e6))
