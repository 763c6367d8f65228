"""Top pairs with a mediator: its card, the hook, a mediator of fixed mass, truth, and MadGraph."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hepkan.errors import UsageError
from hepkan.physics import chunks, ttbar_phi
from hepkan.physics.generate import generate, normalisation, row_counts
from hepkan.physics.processes import ScaledSlice, get_process, parse_card
from hepkan.physics.showers import Batch

ROOT = Path(__file__).parents[1]
CARD = get_process("ttbar_phi")


def test_card_has_the_masses_of_the_other_topology_and_a_factor_for_each() -> None:
    masses = [dict(line.split(" = ") for line in piece.pythia)["25:m0"] for piece in CARD.slices]
    assert masses == [piece.pythia[0].split(" = ")[1] for piece in get_process("top_phi").slices]
    assert all(isinstance(piece, ScaledSlice) and 0.9 < piece.k_factor < 1.4 for piece in CARD.slices)
    assert row_counts("top_dm", rows={"ttbar_phi": 9}) == {"ttbar_phi": 9}
    with pytest.raises(UsageError, match="without a mediator"):
        row_counts("multijet", rows={"ttbar_phi": 9})


def test_rate_of_a_slice_is_scaled_by_its_own_factor() -> None:
    piece = CARD.slices[4]
    assert isinstance(piece, ScaledSlice)
    assert normalisation(CARD, 2.0, piece.name) == pytest.approx(2.0 * piece.k_factor * CARD.cross_section.k_factor)
    other = get_process("top_phi")
    assert normalisation(other, 2.0, "m125") == pytest.approx(2.0 * other.cross_section.k_factor)


def test_other_cards_are_what_they_were() -> None:
    """Their content is part of the recipe's hash, so a factor must not appear in them."""
    for name in ("top_phi", "multijet", "ttbar"):
        assert all("k_factor" not in piece for piece in get_process(name).model_dump()["slices"])
    content = CARD.model_dump(mode="json")
    assert parse_card(content, "again.yaml") == CARD and content["slices"][4]["k_factor"] == CARD.slices[4].k_factor


def test_mass_must_be_given() -> None:
    piece = ScaledSlice(name="none", k_factor=1.0, k_error=0.0)
    with pytest.raises(UsageError, match="25:m0"):
        next(ttbar_phi.ttbar_phi_batches(CARD, piece, 1))


class Particle:
    """What the hook asks of a particle of Pythia."""

    def __init__(self, number: int, pt: float) -> None:
        self.number, self.transverse = number, pt

    def idAbs(self) -> int:
        return abs(self.number)

    def pT(self) -> float:
        return self.transverse


class Process(list[Particle]):
    def size(self) -> int:
        return len(self)


@pytest.mark.pythia
@pytest.mark.parametrize(
    ("outgoing", "kept"),
    [
        ([(13, 40.0), (-14, 20.0), (2, 30.0), (-1, 30.0)], True),
        ([(-11, 16.0), (12, 20.0)], True),
        ([(-11, 14.0), (12, 90.0)], False),
        ([(15, 24.0)], False),
        ([(15, 26.0)], True),
        ([(2, 40.0), (-1, 50.0)], False),
        ([(13, 40.0), (-11, 50.0)], False),
        ([(15, 40.0), (-11, 1.0)], False),
    ],
)
def test_hook_keeps_one_lepton(outgoing: list[tuple[int, float]], kept: bool) -> None:
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    hook = ttbar_phi.one_lepton_hook()()
    process = Process([Particle(13, 99.0)] * 5 + [Particle(*one) for one in outgoing])
    assert hook.canVetoProcessLevel() and hook.doVetoProcessLevel(process) is not kept


def batch_of(name: str) -> Batch:
    """Return the first batch of a slice."""
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    piece = next(piece for piece in CARD.slices if piece.name == name)
    with chunks.silent_stdout():
        return next(chunks.GENERATORS[CARD.generator](CARD, piece, 5))


@pytest.mark.slow
@pytest.mark.pythia
@pytest.mark.parametrize(("name", "mass"), [("m10", 10.0), ("m300", 300.0), ("m1000", 1000.0)])
def test_truth_has_a_mediator_of_fixed_mass_and_the_neutrino_of_the_w(name: str, mass: float) -> None:
    """Pythia would give a Higgs boson of 300 GeV a width, and one of 10 GeV a mass above 50 GeV."""
    batch = batch_of(name)
    truth, particles = batch.truth, batch.particles
    energy = truth["true_mediator_e"]
    mass2 = energy**2 - sum(truth[f"true_mediator_p{axis}"] ** 2 for axis in "xyz")
    assert np.allclose(mass2, mass**2, atol=1e-9 * energy.max() ** 2) and np.all(truth["true_m_phi"] == mass)
    size = np.sqrt(sum(truth[f"true_neutrino_p{axis}"] ** 2 for axis in "xyz"))
    assert np.allclose(size, truth["true_neutrino_e"], rtol=1e-6, atol=1e-6)
    assert np.sum(particles.pid == ttbar_phi.MEDIATOR) == len(particles) == batch.attempts
    event = np.repeat(np.arange(len(particles)), np.diff(particles.offsets))
    for i in (0, 1):
        assert np.abs(np.bincount(event, particles.p4[:, i])).max() < 1e-2
    again = batch_of(name)
    assert all(np.array_equal(truth[key], again.truth[key]) for key in truth)


@pytest.mark.slow
@pytest.mark.pythia
def test_sample_is_normalised_to_the_reference(tmp_path: Path) -> None:
    pytest.importorskip("fastjet", reason="needs the extra `generate`")
    from hepkan.physics.io import read_sample
    from hepkan.physics.top_dm import INPUTS, TRUTH_COLUMNS

    sample = read_sample(generate("top_dm", rows={"ttbar_phi": 18}, seed=2, output=tmp_path / "some.parquet"))
    columns, summary = sample.columns, sample.metadata["processes"]["ttbar_phi"]
    assert set(INPUTS) | set(TRUTH_COLUMNS) <= set(columns) and len(sample) == 18
    assert sorted(set(columns["true_m_phi"])) == [10.0, 20.0, 50.0, 100.0, 125.0, 200.0, 300.0, 500.0, 1000.0]
    at_125 = summary["strata"]["m125"]
    # 0.3998 pb, one of two Ws to l nu (0.3258), nine in ten of them hard enough
    assert at_125["normalised_to_pb"] == pytest.approx(0.3998 * 2 * 0.3258 * (1 - 0.3258) * 0.9, rel=0.08)
    assert at_125["normalised_to_pb"] == pytest.approx(at_125["generator_pb"] * CARD.slices[4].k_factor)  # type: ignore[attr-defined]


@cache
def validation() -> ModuleType:
    """Return the comparison script as a module."""
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "validation"))
        return importlib.import_module("ttbar_phi")


@pytest.mark.slow
@pytest.mark.pythia
def test_shapes_agree_with_madgraph_but_for_the_spin_correlation() -> None:
    script = validation()
    with np.load(ROOT / "tests" / "data" / "ttbar_phi_madgraph.npz") as file:
        reference = {name: file[name] for name in file.files}
    ours = script.observables(script.pythia_events(4000))
    table = script.compare(ours, reference)
    assert {name: row["p"] for name, row in table.items() if name in script.COMPARED and row["p"] < 1e-3} == {}
    own, error = script.correlation(ours)
    theirs, their_error = script.correlation(reference)
    assert abs(own) < 4 * error, "Pythia has none"
    assert theirs < -4 * their_error, "MadGraph has one, so that the test could see it"


def test_factors_of_the_card_are_those_of_the_validation() -> None:
    import json

    rows = json.loads((ROOT / "validation" / "results" / "ttbar_phi.json").read_text(encoding="utf-8"))["factors"]
    for piece, row in zip(CARD.slices, rows, strict=True):
        assert isinstance(piece, ScaledSlice)
        assert piece.pythia == (f"25:m0 = {row['m_phi']:g}.",)
        assert piece.k_factor == pytest.approx(row["k_factor"], abs=0.006)
