"""Generation: the same bytes for any number of workers and after a kill, and unbiased repeated decays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hepkan.errors import UsageError
from hepkan.physics import chunks, generate

pythia8mc = pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
pytestmark = pytest.mark.pythia

ROWS = {"single_top_tchannel": 20, "ttbar": 20, "wjets": 4, "multijet": 18}
COMMAND = [sys.executable, "-m", "hepkan", "generate", "multijet", "--seed", "3"]
COMMAND += [text for name, count in ROWS.items() for text in ("--rows", f"{name}={count}")]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "one.parquet"
    return generate.generate("multijet", rows=ROWS, seed=3, output=path, workers=1)


def test_share_out_adds_up() -> None:
    for total in (4, 7, 100, 1001):
        counts = chunks.share_out(total, [0.275, 0.125, 0.1, 0.5])
        assert sum(counts) == total and min(counts) >= 1


def test_chunks_never_share_a_seed_or_an_id() -> None:
    plan = chunks.plan({"ttbar": 5000, "multijet": 3000}, seed=1)
    states = {tuple(chunk.sequence.generate_state(2)) for chunk in plan}
    assert len(states) == len(plan)
    bases = np.sort([chunk.identifiers(np.array([0]))[0] for chunk in plan])
    assert np.diff(bases).min() >= 1 << 22


@pytest.mark.slow
def test_result_is_the_same_for_two_workers(sample: Path, tmp_path: Path) -> None:
    other = generate.generate("multijet", rows=ROWS, seed=3, output=tmp_path / "two.parquet", workers=2)
    assert other.read_bytes() == sample.read_bytes()
    assert not list(tmp_path.glob("*.chunks"))


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_file(sample: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed.parquet"
    command = [*COMMAND, "--workers", "2", "-o", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*.chunks/*/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not output.exists() and list(tmp_path.glob("*.chunks/*/*.parquet"))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert output.read_bytes() == sample.read_bytes()


@pytest.mark.slow
def test_sample_has_every_column_and_positive_weights(sample: Path) -> None:
    from hepkan.physics.io import read_sample
    from hepkan.physics.observables import OBSERVABLES

    content = read_sample(sample)
    columns = content.columns
    assert set(OBSERVABLES) <= set(columns)
    assert {"weight", "id", "group", "process", "label", "lep_iso", "n_jets", "true_nu_px"} <= set(columns)
    assert len(columns["id"]) == sum(ROWS.values()) == len(np.unique(columns["id"]))
    assert np.all(columns["weight"] > 0)
    assert all(np.isfinite(columns[name]).all() for name in OBSERVABLES)
    isolated = columns["label"] == 1
    assert np.all(columns["lep_iso"][isolated] < 0.06) and np.all(columns["lep_iso"][~isolated] > 0.2)
    for name, card in content.metadata["processes"].items():
        rows = columns["process"] == name
        assert card["rows"] == rows.sum() == ROWS[name]
        assert columns["weight"][rows].sum() == pytest.approx(card["selected_pb"], rel=1e-6)


@pytest.mark.slow
def test_jets_that_play_electrons_are_an_alternative_background(tmp_path: Path) -> None:
    from hepkan.physics.io import read_sample

    rows = {"jet_electron": 10}
    content = read_sample(generate.generate("multijet", rows=rows, seed=1, output=tmp_path / "jets.parquet", workers=2))
    columns, strata = content.columns, content.metadata["processes"]["jet_electron"]["strata"]
    assert np.all(columns["label"] == 0) and np.all(columns["lep_flavour"] == 11)
    assert np.all(columns["lep_pt"] > 35) and np.all(columns["weight"] > 0)
    # The strata are exact: what the flavour veto leaves of the hard process, mostly gluons and light quarks.
    assert strata["b_50"]["generator_pb"] < 0.1 * strata["light_50"]["generator_pb"]
    assert strata["b_90"]["generator_pb"] < 0.1 * strata["light_90"]["generator_pb"]


@pytest.mark.slow
def test_repeated_decays_restore_the_event_and_keep_the_branching_fraction() -> None:
    from hepkan.physics import multijet
    from hepkan.physics.showers import start

    settings = ("HardQCD:hardbbbar = on", "PhaseSpace:pTHatMin = 60.", "HadronLevel:all = off")
    pythia = start((*settings, "HadronLevel:Decay = off"), seed=4)
    once = repeated = 0.0
    events = 150
    with chunks.silent_stdout():
        for number in range(events):
            assert pythia.next() and pythia.forceHadronLevel()
            before = [(pythia.event[i].id(), pythia.event[i].status()) for i in range(pythia.event.size())]
            hadrons = pythia8mc.Event(pythia.event)
            copies = multijet.decay_repeatedly(pythia, pythia8mc.Event, number, 1.0)
            repeated += sum(copy.factor for copy in copies)
            pythia.event = hadrons
            after = [(pythia.event[i].id(), pythia.event[i].status()) for i in range(pythia.event.size())]
            assert after == before
            pythia.moreDecays()
            once += any(multijet._is_lepton_candidate(pythia.event[i]) for i in range(pythia.event.size()))
    error = np.sqrt(max(once, 1.0))
    assert abs(once - repeated) < 4 * error
    assert repeated > 0


def test_wrong_requests_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet or \.root"):
        generate.generate("multijet", events=100, seed=1, output=tmp_path / "a.csv")
    with pytest.raises(UsageError, match="workers >= 1"):
        generate.generate("multijet", events=100, seed=1, output=tmp_path / "a.parquet", workers=0)
    assert not list(tmp_path.iterdir())
