"""Top + dark matter: the canonical frame and its symmetries, selection, truth, sample and task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepkan.errors import DataError, UsageError
from hepkan.physics.event import W_MASS
from hepkan.physics.frames import OBJECTS, TRUE, Frame, from_frame, momenta_to_frame, to_frame
from hepkan.physics.generate import generate, recipe_of, row_counts
from hepkan.physics.io import read_sample, write_sample
from hepkan.physics.processes import get_process
from hepkan.physics.top_dm import INPUTS, OBJECT_COLUMNS, TARGETS, TRUTH_COLUMNS, compute_inputs, compute_targets
from hepkan.physics.top_dm_selection import TOP_DM_SELECTION, select_top_dm
from hepkan.tasks import embedded, get_task
from hepkan.tasks.top_dm import choose, mass_factors
from test_selection import JETS, jet, lepton, reco

Columns = dict[str, np.ndarray]
MASSES = [10.0, 20.0, 50.0, 100.0, 125.0, 200.0, 300.0, 500.0, 1000.0]


@pytest.fixture(scope="module")
def shipped() -> Columns:
    return read_sample(embedded("top_dm")).columns


def make(n: int = 400, seed: int = 0) -> Columns:
    """Return objects and truth in the laboratory, a third of the events without a third jet."""
    rng = np.random.default_rng(seed)
    columns: Columns = {}
    for name in OBJECTS:
        columns[f"{name}_pt"] = 30 + rng.exponential(60, n)
        columns[f"{name}_phi"] = rng.uniform(-np.pi, np.pi, n)
        if name != "met":
            columns[f"{name}_eta"] = rng.normal(0, 1.5, n)
        if name not in ("met", "lep"):
            columns[f"{name}_mass"] = rng.uniform(2, 20, n)
    columns["lep_charge"] = rng.choice([-1.0, 1.0], n)
    columns["has_jet2"] = (np.arange(n) % 3 > 0).astype(float)
    for key in ("pt", "eta", "phi", "mass"):
        columns[f"jet2_{key}"] *= columns["has_jet2"]
    columns["n_jets"] = 2 + columns["has_jet2"]
    columns["ht_jets"] = columns["bjet_pt"] + columns["jet1_pt"] + columns["jet2_pt"]
    for name, mass in zip(TRUE, (0.0, 125.0), strict=True):
        p = rng.normal(0, 100, (3, n))
        columns |= {f"{name}_{axis}": one for axis, one in zip(("px", "py", "pz"), p, strict=True)}
        columns[f"{name}_e"] = np.sqrt(np.sum(p**2, axis=0) + mass**2)
    return columns


def moved(columns: Columns, angle: float = 0.0, flip_y: float = 1.0, flip_z: float = 1.0) -> Columns:
    """Return the event turned by an angle about the beam, then reflected."""
    changed = dict(columns)
    for name in OBJECTS:
        changed[f"{name}_phi"] = flip_y * (columns[f"{name}_phi"] + angle)
        if f"{name}_eta" in columns:
            changed[f"{name}_eta"] = flip_z * columns[f"{name}_eta"]
    for name in TRUE:
        p = np.column_stack([columns[f"{name}_{axis}"] for axis in ("px", "py", "pz", "e")])
        p = moved_momenta(p, angle, flip_y, flip_z)
        changed |= {f"{name}_{axis}": p[:, i] for i, axis in enumerate(("px", "py", "pz", "e"))}
    return changed


def moved_momenta(p: np.ndarray, angle: float, flip_y: float, flip_z: float) -> np.ndarray:
    """Return momenta (n, 4 k) turned and reflected."""
    turn = np.diag([1.0, flip_y, flip_z, 1.0]) @ np.array(
        [[np.cos(angle), -np.sin(angle), 0, 0], [np.sin(angle), np.cos(angle), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    return (p.reshape(len(p), -1, 4) @ turn.T).reshape(len(p), -1)


MOVES = [(0.7, 1.0, 1.0), (-3.0, 1.0, 1.0), (0.0, -1.0, 1.0), (0.0, 1.0, -1.0), (2.1, -1.0, -1.0), (11.0, 1.0, -1.0)]


@pytest.mark.parametrize("move", MOVES)
def test_inputs_do_not_change_and_predictions_move_along(move: tuple[float, float, float]) -> None:
    columns = make()
    other = moved(columns, *move)
    inputs, again = compute_inputs(columns), compute_inputs(other)
    for name in INPUTS:
        np.testing.assert_allclose(again[name], inputs[name], rtol=1e-9, atol=1e-7, err_msg=name)
    X = np.column_stack(list(inputs.values()))
    predicted = np.tanh(X @ np.random.default_rng(1).normal(size=(len(INPUTS), 8)) / 100)  # any function of the inputs
    before, after = from_frame(predicted, Frame.of(columns)), from_frame(predicted, Frame.of(other))
    np.testing.assert_allclose(after, moved_momenta(before, *move), atol=1e-9)


@pytest.mark.parametrize("move", MOVES)
def test_targets_do_not_change(move: tuple[float, float, float]) -> None:
    columns = make()
    targets, again = compute_targets(columns)[0], compute_targets(moved(columns, *move))[0]
    for name in TARGETS:
        np.testing.assert_allclose(again[name], targets[name], atol=1e-8, err_msg=name)


def test_frame_is_what_its_text_says() -> None:
    columns = make()
    framed, frame = to_frame(columns)
    assert np.allclose(framed["met_phi"], 0.0)
    assert np.all(np.sin(framed["lep_phi"]) >= 0) and np.all(framed["lep_eta"] >= 0)
    assert set(np.unique(frame.flip_y)) == set(np.unique(frame.flip_z)) == {-1.0, 1.0}
    for name in ("lep_pt", "lep_charge", "true_mediator_e"):
        assert framed[name] is columns[name]
    targets, _ = compute_targets(columns)
    for target, truth in zip(TARGETS, TRUTH_COLUMNS, strict=True):
        assert np.allclose(framed[truth], targets[target])
    again, second = to_frame(framed)
    assert np.allclose(second.angle, 0) and np.all(second.flip_y == 1) and np.all(second.flip_z == 1)
    assert np.allclose(again["bjet_phi"], framed["bjet_phi"])


def test_frame_is_undone() -> None:
    columns = make()
    truth = np.column_stack([columns[name] for name in TRUTH_COLUMNS])
    targets, frame = compute_targets(columns)
    y = np.column_stack(list(targets.values()))
    assert np.allclose(from_frame(y, frame), truth) and np.allclose(momenta_to_frame(truth, frame), y)
    assert np.allclose(from_frame(y[:, 4:], Frame.from_columns(frame.columns())), truth[:, 4:])
    with pytest.raises(UsageError, match=r"shape \(400, 4 k\)"):
        from_frame(y[:, :3], frame)
    with pytest.raises(UsageError, match=r"shape \(400, 4 k\)"):
        from_frame(y[:3], frame)


def test_inputs_are_named_finite_and_apart_from_the_targets() -> None:
    assert len(INPUTS) == 32 and not set(INPUTS) & set(TARGETS)
    assert len({one.label for one in INPUTS.values()}) == 32
    assert all(name == one.name and one.unit in ("GeV", "rad", "") for name, one in INPUTS.items())
    for scale in (0.0, 1.0, 1e20):
        columns = make()
        columns |= {name: columns[name] * scale for name in columns if name.endswith(("_pt", "_mass"))}
        assert all(np.isfinite(values).all() for values in compute_inputs(columns).values())
    with pytest.raises(UsageError, match="jet2_eta"):
        compute_inputs({name: values for name, values in make().items() if name != "jet2_eta"})


def test_both_neutrino_solutions_give_the_w_mass() -> None:
    columns = make(2000)
    inputs = compute_inputs(columns)
    lep = np.stack([inputs[f"lep_p{axis}"] for axis in "xyz"])
    met, solved = columns["met_pt"], inputs["nu_disc"] > 1.0
    assert 100 < solved.sum() < 1900
    for name in ("nu_pz_near", "nu_pz_far"):
        pz = inputs[name]
        mass2 = 2 * (np.linalg.norm(lep, axis=0) * np.hypot(met, pz) - lep[0] * met - lep[2] * pz)
        assert np.allclose(np.sqrt(mass2[solved]), W_MASS, rtol=1e-6)
    assert np.all(np.abs(inputs["nu_pz_near"]) <= np.abs(inputs["nu_pz_far"]) + 1e-9)
    none = inputs["nu_disc"] < 0
    assert np.allclose(inputs["nu_pz_near"][none], inputs["nu_pz_far"][none])


def test_no_second_jet_is_zero_and_flagged() -> None:
    inputs = compute_inputs(make())
    none = inputs["has_jet2"] == 0
    assert none.sum() > 100
    for axis in ("px", "py", "pz", "e"):
        assert np.all(inputs[f"jet2_{axis}"][none] == 0)
    assert np.all(inputs["jet2_e"][~none] > 0)


def run(*events: Any, seed: int = 0) -> Any:
    return select_top_dm(reco(*events), TOP_DM_SELECTION, "isolated", np.random.default_rng(seed))


SURE = [jet(80, 0.5, 2.0, 1.0), jet(60, -3.0, -2.0)]


@pytest.mark.parametrize(
    ("leptons", "jets", "passes"),
    [
        ([lepton()], SURE, True),
        ([lepton(pt=25.9)], SURE, False),
        ([lepton(iso=0.07)], SURE, False),
        ([lepton(), lepton(pt=11, phi=1.0)], SURE, False),  # a second lepton
        ([], SURE, False),
        ([lepton()], SURE[:1], False),  # no further jet
        ([lepton()], [SURE[0], jet(29.9, 1.0, -2.0)], False),
        ([lepton()], [SURE[0], jet(30.1, 1.0, -2.0)], True),
        ([lepton()], [SURE[1], jet(50, 1.0, -1.0)], False),  # no b tag
        ([lepton()], [jet(80, 2.5, 2.0, 1.0), SURE[1]], False),  # beyond the tracker
        ([lepton(phi=2.0, eta=0.5)], SURE, False),  # the b jet is the lepton's
        ([lepton()], [SURE[0], jet(70, 1.0, -1.0, 1.0), SURE[1]], True),  # two b tags
    ],
)
def test_selection_is_one_lepton_a_b_jet_and_a_further_jet(leptons: Any, jets: Any, passes: bool) -> None:
    assert len(run((leptons, jets))) == int(passes)


def test_jets_are_named_by_tag_and_pt() -> None:
    two = run(([lepton()], [jet(90, -3.0, 1.0), jet(80, 0.5, 2.0, 1.0), jet(70, 1.0, -1.0, 1.0), jet(40, 2.0, -2.0)]))
    assert [two.columns[f"{name}_pt"][0] for name in ("bjet", "jet1", "jet2")] == [80.0, 90.0, 70.0]
    assert two.columns["n_tags"][0] == 2 and two.columns["n_jets"][0] == 4 and two.columns["ht_jets"][0] == 280.0
    one = run(([lepton()], SURE))
    assert one.columns["has_jet2"][0] == 0 and one.columns["jet2_pt"][0] == one.columns["jet2_eta"][0] == 0.0
    assert set(OBJECT_COLUMNS) <= set(one.columns)


def test_tags_are_drawn_with_their_probability() -> None:
    n = 4000
    selected = run(*[([lepton()], [jet(80, 0.5, 2.0, 0.68), jet(60, -3.0, -2.0)])] * n)
    assert abs(len(selected) / n - 0.68) < 4 * np.sqrt(0.68 * 0.32 / n)
    assert np.all(selected.weight == 1.0) and selected.cutflow["jets"] == n
    again = run(*[([lepton()], [jet(80, 0.5, 2.0, 0.68), jet(60, -3.0, -2.0)])] * n)
    assert np.array_equal(selected.index, again.index)


def test_nothing_in_nothing_out() -> None:
    for events in ([], [([], [])], [([], JETS)], [([lepton()], [])]):
        selected = run(*events)
        assert len(selected) == 0 and all(len(column) == 0 for column in selected.columns.values())
    with pytest.raises(UsageError, match="region"):
        select_top_dm(reco(), TOP_DM_SELECTION, "jet_electron", np.random.default_rng(0))


def test_truth_is_on_its_mass_shells() -> None:
    table = get_task("top_dm").table()
    nu, phi = table.y[:, :4], table.y[:, 4:]
    mass2 = [p[:, 3] ** 2 - np.sum(p[:, :3] ** 2, axis=1) for p in (nu, phi)]
    mass = table.extra["true_m_phi"].astype(np.float64)
    assert np.all(np.abs(mass2[0]) < 1e-6 * nu[:, 3] ** 2)  # float32 columns
    assert np.all(np.abs(mass2[1] - mass**2) < 1e-6 * phi[:, 3] ** 2)
    assert np.unique(mass).tolist() == MASSES


def test_missing_momentum_is_the_sum_of_the_two(shipped: Columns) -> None:
    for axis, turn in (("px", np.cos), ("py", np.sin)):
        total = shipped[f"true_neutrino_{axis}"] + shipped[f"true_mediator_{axis}"]
        missing = shipped["met_pt"] * turn(shipped["met_phi"])
        for mass in MASSES:
            rows = shipped["true_m_phi"] == mass
            assert np.corrcoef(total[rows], missing[rows])[0, 1] > 0.9
        # 12 GeV of noise for pile-up, the jets' resolution, and the neutrinos of taus and b hadrons.
        assert 15.0 < np.std(total - missing) < 30.0
    table = get_task("top_dm").table()
    across = table.y[:, 1] + table.y[:, 5]
    assert np.std(across) < 25.0  # along y of the frame nothing is missing


def test_embedded_events_pass_the_selection(shipped: Columns) -> None:
    cuts, muon = TOP_DM_SELECTION, shipped["lep_flavour"] == 13
    assert np.all(shipped["lep_pt"] > np.where(muon, cuts.muon_pt_min, cuts.electron_pt_min))
    assert np.all(shipped["lep_iso"] < cuts.iso_max) and np.all(shipped["n_tags"] >= 1)
    assert np.all(np.abs(shipped["bjet_eta"]) < cuts.tag_eta_max)
    for name in ("bjet", "jet1"):
        assert np.all(shipped[f"{name}_pt"] > cuts.jet_pt_min)
    third = shipped["has_jet2"] == 1
    assert np.array_equal(third, shipped["n_jets"] > 2) and np.all(shipped["jet2_pt"][third] > cuts.jet_pt_min)
    assert np.all(shipped["jet1_pt"] >= shipped["jet2_pt"])
    assert len(np.unique(shipped["id"])) == len(shipped["id"])


def test_embedded_inputs_are_those_of_today(shipped: Columns) -> None:
    for name, values in compute_inputs(shipped).items():
        assert np.array_equal(values.astype(np.float32), shipped[name]), name


def test_embedded_sample_is_what_the_cards_of_today_give() -> None:
    metadata = read_sample(embedded("top_dm"), ["label"]).metadata
    assert metadata["recipe_hash"] == recipe_of("top_dm", row_counts("top_dm", 8000), seed=1)["recipe_hash"]
    assert embedded("top_dm").stat().st_size < 2_500_000


def test_table_has_the_inputs_and_targets_of_the_card(shipped: Columns) -> None:
    table = get_task("top_dm").table()
    assert len(table) == 8000 and table.names == tuple(INPUTS) and table.target_names == TARGETS
    assert table.units[table.names.index("w_mt")] == "GeV" and not table.classification
    joint = np.corrcoef(np.column_stack([table.X, table.y]).T)
    assert np.abs(joint[:32, 32:]).max() < 0.95  # no input is a target
    lab = from_frame(table.y, Frame.from_columns(table.extra))
    assert np.allclose(lab, np.column_stack([shipped[name] for name in TRUTH_COLUMNS]), atol=1e-6)
    train, validation, test = table.split()
    assert len(train) + len(validation) + len(test) == 8000


@pytest.mark.parametrize("flip", ["frame_flip_y", "frame_flip_z"])
def test_generated_events_have_the_symmetries_that_the_frame_takes_out(flip: str) -> None:
    """Reflected events are distributed like the others; 40 comparisons, so that p < 1e-4 has a chance of 0.4 %."""
    from scipy.stats import ks_2samp

    table = get_task("top_dm").table()
    reflected = table.extra[flip] < 0
    assert abs(reflected.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(table))
    values = np.column_stack([table.X, table.y])
    p = [ks_2samp(one[reflected], one[~reflected]).pvalue for one in values.T]
    assert min(p) > 1e-4


def test_mix_sets_the_shares_of_masses() -> None:
    task = get_task("top_dm")
    equal, published = task.table(), task.table(mix={})
    mass = equal.extra["true_m_phi"]
    assert equal.weight.sum() == pytest.approx(published.weight.sum())
    assert equal.weight[mass == 300].sum() == pytest.approx(equal.weight.sum() / 9)
    assert published.weight[mass == 10].sum() > 1000 * published.weight[mass == 1000].sum()
    only = task.table(mix={f"m{value:g}": float(value == 300) for value in MASSES})
    assert np.all(only.weight[mass != 300] == 0)
    with pytest.raises(UsageError, match="does not name m1000"):
        task.table(mix={f"m{value:g}": 1.0 for value in MASSES[:-1]})
    with pytest.raises(UsageError, match="not negative"):
        mass_factors(np.array(["m10"]), np.ones(1), {"m10": -1.0})
    assert mass_factors(np.array(["m10"]), np.ones(1), {"m10": 2.0, "m20": 1.0}).tolist() == [1.0]


def test_fewer_events_keep_the_masses() -> None:
    task = get_task("top_dm")
    full, part = task.table(), task.table(n=500, seed=1)
    assert len(part) == 500 and part.weight.sum() == pytest.approx(full.weight.sum())
    assert min(np.count_nonzero(part.extra["true_m_phi"] == value) for value in MASSES) >= 54
    assert np.array_equal(part.id, task.table(n=500, seed=1).id)
    assert not np.array_equal(part.id, task.table(n=500, seed=2).id)
    assert len(task.table(n=100_000)) == 8000
    with pytest.raises(UsageError, match="n=0"):
        choose(np.array(["m10"]), 0, 0)


def test_truth_is_never_an_input() -> None:
    task = get_task("top_dm")
    assert task.table(features=["nu_pz_near", "met_pt"]).names == ("nu_pz_near", "met_pt")
    for name in ("nu_pz", "true_mediator_px", "met_ptt"):
        with pytest.raises(UsageError, match=f"Unknown (input|column) '{name}'"):
            task.table(features=[name])


def test_missing_damaged_or_foreign_samples(tmp_path: Path, sample: Path) -> None:
    task = get_task("top_dm")
    with pytest.raises(DataError, match=r"nothing\.parquet"):
        task.table(path=tmp_path / "nothing.parquet")
    content = embedded("top_dm").read_bytes()
    broken = tmp_path / "broken.parquet"
    for damaged in (b"", content[:5000], content[: len(content) // 2], content[:-200], content[200:]):
        broken.write_bytes(damaged)
        with pytest.raises(DataError, match=r"broken\.parquet"):
            task.table(path=broken)
    flipped = bytearray(content)
    flipped[50_000:50_016] = bytes(16)
    broken.write_bytes(bytes(flipped))
    with pytest.raises(DataError, match=r"broken\.parquet"):
        task.table(path=broken)
    with pytest.raises(UsageError, match="true_m_phi"):
        task.table(path=sample)  # of the multijet task
    some = {name: values[:5] for name, values in read_sample(embedded("top_dm")).columns.items()}
    some["true_mediator_px"] = np.full(5, np.nan)
    write_sample(tmp_path / "nan.parquet", some, {})
    with pytest.raises(DataError, match="finite"):
        task.table(path=tmp_path / "nan.parquet")


def test_only_processes_with_a_mediator_are_generated() -> None:
    assert row_counts("top_dm", 100) == {"top_phi": 100}
    assert row_counts("top_dm", rows={"top_phi_pseudoscalar": 5, "top_phi": 3})["top_phi"] == 3
    with pytest.raises(UsageError, match="with a mediator"):
        row_counts("top_dm", rows={"ttbar": 5})
    with pytest.raises(UsageError, match="without a mediator"):
        row_counts("multijet", rows={"top_phi": 5, "ttbar": 5})
    assert [piece.name for piece in get_process("top_phi").slices] == [f"m{value:g}" for value in MASSES]


@pytest.mark.slow
@pytest.mark.pythia
def test_generation_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    rows = {"top_phi": 2, "top_phi_pseudoscalar": 2}
    one = generate("top_dm", rows=rows, seed=3, output=tmp_path / "one.parquet", workers=1)
    two = generate("top_dm", rows=rows, seed=3, output=tmp_path / "two.parquet", workers=2)
    assert one.read_bytes() == two.read_bytes() and not list(tmp_path.glob("*.chunks"))
    other = generate("top_dm", rows={"top_phi": 2}, seed=4, output=tmp_path / "other.parquet", workers=1)
    content, another = read_sample(one), read_sample(other)
    columns = content.columns
    assert {"weight", "id", "group", "process", "label", "true_m_phi", *INPUTS, *TRUTH_COLUMNS} <= set(columns)
    assert columns["process"].tolist() == ["top_phi"] * 2 + ["top_phi_pseudoscalar"] * 2
    assert columns["true_m_phi"].tolist() == [10.0, 20.0] * 2
    assert np.all(columns["weight"] > 0) and all(np.isfinite(columns[name]).all() for name in INPUTS)
    assert not np.array_equal(columns["lep_pt"][:2], another.columns["lep_pt"])
    assert len(get_task("top_dm").table(path=one)) == 4
    for name, record in content.metadata["processes"].items():
        assert columns["weight"][columns["process"] == name].sum() == pytest.approx(record["selected_pb"], rel=1e-6)
