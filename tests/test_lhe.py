"""The user's LHE files: reading, the mediator in all its spellings, parton level, weights, errors, and the shower."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import lhe_files
from hepkan.cli import app
from hepkan.errors import DataError, UsageError
from hepkan.executors import ThisProcess
from hepkan.physics import generate, user_lhe
from hepkan.physics.dark import hard_truth, merge_dark
from hepkan.physics.generate import generate_lhe
from hepkan.physics.io import Sample, read_sample
from hepkan.physics.lhe import HardEvents, lhe_blocks, read_lhe, read_lhe_init
from hepkan.physics.observables import OBSERVABLES
from hepkan.physics.partons import as_reconstructed
from hepkan.physics.top_dm import INPUTS, TRUTH_COLUMNS
from hepkan.physics.top_phi_events import MEDIATOR
from hepkan.physics.user_lhe import UserEvents, first_events

pytest.importorskip("pylhe", reason="needs the extra `generate`")


@pytest.fixture(autouse=True)
def inline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "resume" not in request.node.name and not request.node.get_closest_marker("slow"):
        # Starting another process takes longer than a file at parton level.
        monkeypatch.setattr(generate, "Processes", lambda workers: ThisProcess())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lhe_files.write(tmp_path_factory.mktemp("lhe") / "plain.lhe")


def partons(path: Path, output: Path, **options: object) -> Sample:
    """Return the sample of a file at parton level."""
    user = UserEvents(**{"task": "top_dm", "files": (path,), "parton_level": True, **options})  # type: ignore[arg-type]
    return read_sample(generate_lhe(user, seed=1, output=output))


def balanced(events: HardEvents) -> None:
    """Assert that mothers exist, intermediate particles equal their daughters and the event its beams."""
    assert np.all(events.parents <= np.diff(events.offsets)[events.event][:, None])
    assert np.array_equal(events.mother >= 0, events.parents[:, 0] > 0)
    assert np.all(events.event[events.mother[events.mother >= 0]] == events.event[events.mother >= 0])
    scale = events.p4[:, 3].max()
    for i in range(4):
        incoming, outgoing = (
            np.bincount(events.event, events.p4[:, i] * (events.status == code), len(events)) for code in (-1, 1)
        )
        assert np.allclose(incoming, outgoing, atol=1e-6 * scale)
    for row in np.flatnonzero(events.status == 2)[:200]:
        daughters = events.p4[events.mother == row]
        assert np.allclose(daughters.sum(axis=0), events.p4[row], atol=1e-6 * scale)


def test_init_and_blocks(plain: Path, tmp_path: Path) -> None:
    init = read_lhe_init(plain)
    assert init.beams == (2212, 2212) and init.energies == (6500.0, 6500.0)
    assert init.strategy == -4 and init.sigma_pb == 2.0
    whole, blocks = read_lhe(plain), list(lhe_blocks(plain, 120))
    assert [len(block) for block in blocks] == [120, 120, 60] and len(whole) == 300
    assert np.array_equal(np.concatenate([block.p4 for block in blocks]), whole.p4)
    assert np.array_equal(first_events(whole, 120).mother, blocks[0].mother)
    assert np.all(whole.colours.max(axis=1)[np.isin(np.abs(whole.pid), (5, 6))] == 501)
    assert np.all(whole.scale > 0) and np.all(whole.alpha_s == 0.118)
    packed = read_lhe(lhe_files.write(tmp_path / "packed.lhe.gz"))
    assert np.array_equal(packed.p4, whole.p4) and np.array_equal(packed.parents, whole.parents)
    balanced(whole)


@pytest.mark.parametrize(
    ("change", "ids"),
    [
        (None, ()),
        (lhe_files.renamed(25), ()),
        (lhe_files.renamed(55), ()),
        (lhe_files.renamed(5000521), ()),
        (lhe_files.renamed(9900032), (9900032,)),
        (lhe_files.decayed(52), ()),
        (lhe_files.decayed(18), ()),
        (lhe_files.decayed(52, line=False), ()),
        (lhe_files.decayed(1000022, line=False), ()),
        (lhe_files.decayed(5000522, line=False), ()),
        (lhe_files.decayed(12, mass=0.0, mediator=25), ()),
        (lhe_files.decayed(14, mass=0.0, mediator=9900032), (9900032,)),
        (lhe_files.decayed(9900033, mediator=9900032), (9900032, 9900033)),
    ],
)
def test_mediator_is_found_however_it_is_written(change, ids, tmp_path: Path) -> None:
    merged = merge_dark(read_lhe(lhe_files.write(tmp_path / "one.lhe", change=change)), ids)
    truth = lhe_files.events()
    mediator = merged.pid == MEDIATOR
    assert np.array_equal(merged.event[mediator], np.arange(300)) and np.all(merged.status[mediator] == 1)
    np.testing.assert_allclose(merged.p4[mediator], truth.mediator, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(merged.mass[mediator], 125.0, atol=1e-5)
    assert np.all(np.diff(merged.offsets) == 9)
    assert np.array_equal(merged.pid.reshape(300, 9)[:, :8], truth.pdg_ids[:, :8])
    balanced(merged)
    np.testing.assert_allclose(merged.p4[hard_truth(merged).neutrino, :3], truth.neutrino[:, :3], rtol=0.1, atol=1.0)


def test_mediator_of_a_top_keeps_its_mother(tmp_path: Path) -> None:
    def change(particles: list[tuple]) -> list[tuple]:
        top, mediator = list(particles[2]), list(particles[8])
        total = np.array(top[6:10]) + np.array(mediator[6:10])
        top[6:10] = total.tolist()
        mediator[2:4] = [3, 0]
        return [*particles[:2], tuple(top), *particles[3:8], tuple(mediator)]

    merged = merge_dark(read_lhe(lhe_files.write(tmp_path / "top.lhe", change=change)))
    assert np.all(np.abs(merged.pid[merged.mother[merged.pid == MEDIATOR]]) == 6)
    balanced(merged)


def test_only_the_neutrino_of_a_w_counts(tmp_path: Path) -> None:
    def with_tau_decay(particles: list[tuple]) -> list[tuple]:
        lepton = particles[6]
        half = [0.5 * value for value in lepton[6:10]]
        daughters = [(number, 1, 7, 0, 0, 0, *half, 0.0, 0.0, 9.0) for number in (16, -211)]
        return [*particles[:6], (15, 2, *lepton[2:]), *particles[7:], *daughters]

    def with_two(particles: list[tuple]) -> list[tuple]:
        return [*particles, (14, *particles[7][1:])]

    expected = np.arange(300) * 11 + 7
    assert np.array_equal(
        hard_truth(read_lhe(lhe_files.write(tmp_path / "tau.lhe", change=with_tau_decay))).neutrino, expected
    )
    assert np.all(hard_truth(read_lhe(lhe_files.write(tmp_path / "two.lhe", change=with_two))).neutrino == -1)


def test_partons_play_the_reconstructed_objects(plain: Path, tmp_path: Path) -> None:
    sample = partons(plain, tmp_path / "out.parquet")
    columns = sample.columns
    assert set(INPUTS) | set(TRUTH_COLUMNS) | {"weight", "id", "group", "process", "true_m_phi"} <= set(columns)
    assert 50 < len(sample) < 300 and set(columns["process"]) == {"plain"} and set(columns["label"]) == {1}
    for axis, turn in (("px", np.cos), ("py", np.sin)):
        invisible = columns[f"true_neutrino_{axis}"] + columns[f"true_mediator_{axis}"]
        np.testing.assert_allclose(columns["met_pt"] * turn(columns["met_phi"]), invisible, atol=2e-3)
    assert columns["lep_pt"].min() > 26.0 and columns["bjet_pt"].min() > 30.0 and columns["jet1_pt"].min() > 30.0
    assert np.allclose(columns["true_m_phi"], 125.0, atol=1e-3) and np.all(columns["n_tags"] == 1)
    number = columns["id"] - columns["id"].min()
    assert len(np.unique(number)) == len(sample)
    light = lhe_files.events().light[number - number.min() + first_selected(plain)]
    np.testing.assert_allclose(columns["jet1_pt"], np.hypot(light[:, 0], light[:, 1]), rtol=1e-4)
    process = sample.metadata["processes"]["plain"]
    assert process["strata"]["all"]["attempts"] == 300 and process["strata"]["all"]["normalised_to_pb"] == 2.0
    assert columns["weight"].sum() == pytest.approx(2.0 * len(sample) / 300)


def first_selected(path: Path) -> int:
    """Return the number of the first selected event: lepton, b and light quark above the thresholds."""
    reco = as_reconstructed(merge_dark(read_lhe(path)))
    first = reco.lep_offsets[:-1]
    threshold = np.where(reco.lep_flavour == 13, 26.0, 35.0)
    reach = np.where(reco.lep_flavour == 13, 2.4, 2.1)
    some = np.diff(reco.lep_offsets) == 1
    lepton = np.zeros(len(some), dtype=bool)
    rows = first[some]
    lepton[some] = (reco.lep_pt[rows] > threshold[rows]) & (np.abs(reco.lep_eta[rows]) < reach[rows])
    jets = (reco.jet_pt > 30.0) & (np.abs(reco.jet_eta) < 4.7)
    tagged = jets & (reco.jet_flavour == 5) & (np.abs(reco.jet_eta) < 2.4)
    event = np.repeat(np.arange(len(some)), np.diff(reco.jet_offsets))
    counts = [np.bincount(event[chosen], minlength=len(some)) for chosen in (jets, tagged)]
    return int(np.flatnonzero(lepton & (counts[0] >= 2) & (counts[1] > 0))[0])


def test_weights_keep_their_signs_and_add_up(plain: Path, tmp_path: Path) -> None:
    weights = np.where(np.arange(300) % 4 == 0, -1.5, 3.0)
    signed = lhe_files.write(tmp_path / "signed.lhe", weights=weights, sigma_pb=7.0)
    flat, sample = (partons(path, tmp_path / f"{path.stem}.parquet") for path in (plain, signed))
    share = weights / weights.sum() * 7.0
    number = flat.columns["id"] - flat.columns["id"].min() + first_selected(plain)
    assert np.array_equal(sample.columns["met_pt"], flat.columns["met_pt"])
    np.testing.assert_allclose(sample.columns["weight"], share[number], rtol=1e-9)
    assert sample.metadata["lhe"]["content"][0]["negative"] == 0.25
    from_weights = lhe_files.write(tmp_path / "powheg.lhe", weights=weights, sigma_pb=-1.0)
    own = partons(from_weights, tmp_path / "own.parquet")
    assert own.metadata["processes"]["powheg"]["strata"]["all"]["normalised_to_pb"] == pytest.approx(weights.mean())
    given = partons(signed, tmp_path / "given.parquet", cross_section_pb=0.5, process="mine")
    np.testing.assert_allclose(given.columns["weight"], share[number] / 14.0, rtol=1e-9)
    assert set(given.columns["process"]) == {"mine"}
    unit = lhe_files.write(tmp_path / "unit.lhe", weights=np.ones(300), sigma_pb=3.0, strategy=3)
    total = partons(unit, tmp_path / "unit.parquet").columns["weight"].sum()
    assert total == pytest.approx(3.0 * len(sample) / 300)


def test_files_of_one_sample_share_its_cross_section(plain: Path, tmp_path: Path) -> None:
    other = lhe_files.write(tmp_path / "other.lhe.gz", sigma_pb=2.6)
    both = partons(plain, tmp_path / "both.parquet", files=(plain, other))
    one = partons(plain, tmp_path / "one.parquet")
    assert len(both) == 2 * len(one)
    assert both.columns["weight"].sum() == pytest.approx(one.columns["weight"].sum() * 2.3 / 2.0)
    fewer = partons(plain, tmp_path / "fewer.parquet", files=(plain, other), events=400)
    assert fewer.metadata["processes"]["plain"]["strata"]["all"]["attempts"] == 400
    assert [one["events"] for one in fewer.metadata["lhe"]["content"]] == [300, 100]


def test_smearing_is_a_choice(plain: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastjet", reason="needs the extra `generate`")
    sample = partons(plain, tmp_path / "smeared.parquet", smear=True)
    columns = sample.columns
    off = columns["met_pt"] * np.cos(columns["met_phi"]) - columns["true_neutrino_px"] - columns["true_mediator_px"]
    assert 10.0 < off.std() < 40.0 and len(sample) > 30
    assert sample.metadata["recipe_hash"] != partons(plain, tmp_path / "exact.parquet").metadata["recipe_hash"]


@pytest.mark.slow
def test_interrupted_reading_and_making_resume_to_the_same_bytes(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_lhe, "EVENTS_PER_BLOCK", 60)
    user = UserEvents(task="top_dm", files=(plain,), parton_level=True)
    whole = generate_lhe(user, seed=1, output=tmp_path / "whole.parquet").read_bytes()
    output = tmp_path / "stopped.parquet"

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_lhe(user, seed=1, output=output, progress=stop)
    assert not output.exists() and list(tmp_path.glob("stopped.parquet.chunks/*/*.parquet"))
    assert generate_lhe(user, seed=1, output=output, workers=2).read_bytes() == whole
    assert not list(tmp_path.glob("*.chunks"))
    assert generate_lhe(user, seed=2, output=output).read_bytes() != whole


def test_other_tasks_need_no_mediator(plain: Path, tmp_path: Path) -> None:
    sample = partons(plain, tmp_path / "multijet.parquet", task="multijet")
    assert set(OBSERVABLES) <= set(sample.columns) and len(sample) > 20
    assert not any(name.startswith("true_neutrino") for name in sample.columns)
    with pytest.raises(DataError, match=r"pass the selection.*'sideband'"):
        partons(plain, tmp_path / "sideband.parquet", task="multijet", label=0)


def test_unsuitable_files_are_explained(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"

    def refused(path: Path, match: str, **options: object) -> None:
        with pytest.raises(DataError, match=match):
            partons(path, out, **options)
        assert not out.exists() and not list(tmp_path.glob("*.chunks/*/hard.json"))

    text = plain.read_text()
    cut = tmp_path / "cut.lhe"
    cut.write_text(text[: int(0.7 * len(text))])
    refused(cut, r"cut\.lhe.*truncated")
    cut.write_text(text[: text.rindex("<event>")])
    refused(cut, r"cut\.lhe.*truncated")
    cut.write_text(text.split("<event>")[0] + "</LesHouchesEvents>")
    refused(cut, "has none")
    refused(tmp_path / "absent.lhe", "does not exist")
    refused(lhe_files.write(tmp_path / "zp.lhe", change=lhe_files.renamed(32)), r"300 of 300.*--mediator-id")
    refused(plain, r"9900032.*300 of 300", mediator_ids=(9900032,))
    some = iter(range(300))
    mixed = lhe_files.write(tmp_path / "mixed.lhe", change=lambda p: p[:-1] if next(some) == 17 else p)
    refused(mixed, "1 of 300")
    visible = lhe_files.write(tmp_path / "visible.lhe", change=lhe_files.decayed(5, mass=4.8, mediator=25))
    refused(visible, "300 of 300")
    quarks = lambda p: [*p[:6], (2, *p[6][1:]), (-1, *p[7][1:]), p[8]]  # noqa: E731
    refused(lhe_files.write(tmp_path / "hadronic.lhe", change=quarks), "exactly one W -> l nu")
    undecayed = lhe_files.write(
        tmp_path / "undecayed.lhe", change=lambda p: [*p[:2], (p[2][0], 1, *p[2][2:]), p[3], p[8]]
    )
    refused(undecayed, "leave out --parton-level")
    refused(lhe_files.write(tmp_path / "zero.lhe", sigma_pb=0.0), "positive cross-section")
    refused(lhe_files.write(tmp_path / "unit.lhe", sigma_pb=-1.0, strategy=3), "positive cross-section")
    energy = tmp_path / "energy.lhe"
    energy.write_text(text.replace("6500. 6500.", "4000. 4000."))
    refused(plain, "same beams", files=(plain, energy))
    refused(lhe_files.write(tmp_path / "net.lhe", weights=np.full(300, -1.0)), "positive cross-section")
    refused(lhe_files.write(tmp_path / "nan.lhe", weights=np.full(300, np.nan)), "positive cross-section")


def test_wrong_requests_are_refused(plain: Path, tmp_path: Path) -> None:
    for match, options in (
        ("Did you mean 'top_dm'", {"task": "topdm"}),
        ("label", {"label": 2}),
        ("--parton-level", {"smear": True}),
        ("positive", {"cross_section_pb": 0.0}),
        ("At least one LHE", {"files": ()}),
        ("hard event", {"events": 0}),
    ):
        with pytest.raises(UsageError, match=match):
            UserEvents(**{"task": "top_dm", "files": (plain,), **options})
    user = UserEvents(task="top_dm", files=(plain,))
    with pytest.raises(UsageError, match="seed"):
        generate_lhe(user, seed=-1, output=tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"\.parquet or \.root"):
        generate_lhe(user, seed=1, output=tmp_path / "a.csv")


def test_command_line(plain: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    out = tmp_path / "out.parquet"
    words = ["generate", "top_dm", "-o", str(out), "--workers", "1"]
    other = lhe_files.write(tmp_path / "other.lhe.gz")
    done = run(app, [*words, "--lhe", f"{plain},{other}", "--parton-level", "--process", "mine", "--events", "310"])
    assert done.exit_code == 0, done.output
    sample = read_sample(out)
    assert set(sample.columns["process"]) == {"mine"}
    assert sample.metadata["processes"]["mine"]["strata"]["all"]["attempts"] == 310
    for wrong in (
        ["--process", "mine", "--events", "10"],
        ["--parton-level", "--events", "10"],
        ["--lhe", str(plain), "--rows", "top_phi=5"],
        ["--lhe", str(plain), "--mediator-id", "phi"],
        ["--lhe", str(plain), "--label", "2"],
    ):
        assert run(app, [*words, *wrong]).exit_code == 2
    assert run(app, [*words, "--lhe", str(tmp_path / "none.lhe")]).exit_code == 1


@pytest.mark.slow
@pytest.mark.pythia
def test_shower_keeps_weights_and_masses_with_their_events(tmp_path: Path) -> None:
    """Mediators of different masses, weights that name the event, and one event that Pythia must refuse."""
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    source = first(lhe_files.events(), 200)
    numbers = iter(range(200))

    def change(particles: list[tuple]) -> list[tuple]:
        strange = next(numbers) == 3
        return [(99999999, *one[1:]) if strange and i == 3 else one for i, one in enumerate(particles)]

    weights = np.arange(1.0, 201.0)
    path = lhe_files.write(tmp_path / "some.lhe", source, weights=weights, sigma_pb=weights.mean(), change=change)
    user = UserEvents(task="top_dm", files=(path,))
    sample = read_sample(generate_lhe(user, seed=4, output=tmp_path / "out.parquet"))
    columns = sample.columns
    assert sample.metadata["processes"]["some"]["strata"]["all"]["attempts"] == 199 and len(sample) > 20
    number = np.rint(columns["weight"] * 199).astype(int) - 1
    np.testing.assert_allclose(columns["weight"] * 199, number + 1.0, rtol=1e-6)
    hard, shift = lhe_files.events(), columns["id"] - number
    assert np.all(shift == shift[0])
    np.testing.assert_allclose(columns["true_m_phi"], 125.0, atol=0.05)
    charge = -np.sign(hard.id_lepton[number])
    direct = np.abs(hard.id_lepton[number]) != 15
    assert np.mean(columns["lep_charge"][direct] == charge[direct]) > 0.97
    again = generate_lhe(user, seed=4, output=tmp_path / "again.parquet")
    assert again.read_bytes() == (tmp_path / "out.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.pythia
def test_dark_matter_of_any_mass_survives_the_shower(tmp_path: Path) -> None:
    """Pairs without a line for the mediator and with a mass of their own come out with it; undecayed tops decay."""
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    path = lhe_files.write(tmp_path / "pairs.lhe", change=lhe_files.decayed(52, mass=30.0, line=False))
    sample = read_sample(
        generate_lhe(UserEvents(task="top_dm", files=(path,)), seed=1, output=tmp_path / "pairs.parquet")
    )
    np.testing.assert_allclose(sample.columns["true_m_phi"], 125.0, atol=0.05)
    px = sample.columns["true_neutrino_px"] + sample.columns["true_mediator_px"]
    measured = sample.columns["met_pt"] * np.cos(sample.columns["met_phi"])
    assert np.corrcoef(px, measured)[0, 1] > 0.9
    undecayed = lhe_files.write(
        tmp_path / "undecayed.lhe", change=lambda p: [*p[:2], (p[2][0], 1, *p[2][2:]), p[3], p[8]]
    )
    user = UserEvents(task="top_dm", files=(undecayed,))
    decayed = read_sample(generate_lhe(user, seed=1, output=tmp_path / "undecayed.parquet"))
    assert 0.02 * 300 < len(decayed) < 0.3 * 300


def first(events: lhe_files.TopPhiEvents, n: int) -> lhe_files.TopPhiEvents:
    """Return the first n events."""
    arrays = {k: v[:n] for k, v in vars(events).items() if isinstance(v, np.ndarray)}
    return replace(events, **arrays)
