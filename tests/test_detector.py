"""The parametric detector: single particles against the functions, jets against a plain anti-kT, special events."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from hepkan.physics.candidates import delta_phi, pairs, reconstruct
from hepkan.physics.particles import Particles, charge, concatenate, event_index, from_events
from hepkan.physics.response import Binned, CalorimeterResolution, DetectorParameters, TrackResolution

PARAMETERS = DetectorParameters()
MASS = {11: 0.000511, 12: 0.0, 25: 125.0, 1000022: 100.0, 13: 0.10566, 22: 0.0, 130: 0.4976, 211: 0.13957}
PERFECT = replace(
    PARAMETERS,
    hadron_tracking=Binned((5.0,), (0.0,), ((1.0,),)),
    electron_tracking=Binned((5.0,), (0.0,), ((1.0,),)),
    muon_tracking=Binned((5.0,), (0.0,), ((1.0,),)),
    electron_identification=Binned((5.0,), (0.0,), ((1.0,),)),
    muon_identification=Binned((5.0,), (0.0,), ((1.0,),)),
    hadron_track=TrackResolution((5.0,), ((0.0, 0.0),)),
    electron_track=TrackResolution((5.0,), ((0.0, 0.0),)),
    muon_track=TrackResolution((5.0,), ((0.0, 0.0),)),
    ecal=CalorimeterResolution((5.0,), ((0.0, 0.0, 0.0),), ((1.0, 0.0, 0.0),)),
    hcal=CalorimeterResolution((5.0,), ((0.0, 0.0, 0.0),), ((1.0, 0.0, 0.0),)),
    ecal_energy_min=0.0,
    hcal_energy_min=0.0,
    ecal_cell=Binned((5.0,), (0.0,), ((0.0,),)),
    hcal_cell=Binned((5.0,), (0.0,), ((0.0,),)),
    jet_confusion=CalorimeterResolution((5.0,), ((0.0, 0.0, 0.0),), ((1.0, 0.0, 0.0),)),
    met_noise=0.0,
)


def momentum(pt: float, eta: float, phi: float, mass: float = 0.0) -> tuple[float, float, float, float]:
    pz = pt * np.sinh(eta)
    return pt * np.cos(phi), pt * np.sin(phi), pz, float(np.sqrt(pt**2 + pz**2 + mass**2))


def copies(pid: int, pt: float, eta: float, n: int) -> Particles:
    """Events with one particle each, at random azimuth."""
    phi = np.random.default_rng(1).uniform(-np.pi, np.pi, n)
    p4 = np.stack(np.broadcast_arrays(*momentum(pt, eta, phi, MASS[abs(pid)])), axis=1)
    none, zeros = np.zeros(0, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    return Particles(np.arange(n + 1), np.full(n, pid), p4, zeros, none, np.zeros((0, 4)))


def simulate(particles: Particles, seed: int = 0, parameters: DetectorParameters = PARAMETERS):
    pytest.importorskip("fastjet")
    from hepkan.physics.detector import simulate as run

    return run(particles, np.random.default_rng(seed), parameters)


def random_event(rng: np.random.Generator, n: int) -> tuple:
    """Charged and neutral particles without heavy hadrons."""
    pid = rng.choice([211, -211, 22, 130], n)
    p4 = [
        momentum(pt, eta, phi, MASS[abs(i)])
        for pt, eta, phi, i in zip(
            rng.exponential(8.0, n) + 1, rng.normal(0, 1.5, n), rng.uniform(-3.1, 3.1, n), pid, strict=True
        )
    ]
    return pid, p4, [], []


def test_charges_of_the_stable_particles():
    pid = np.array([11, -13, 22, 12, 211, -321, 130, 310, 2212, 2112, 3112, 3122, 3222, -3312, 3334, 521, 411])
    expected = [-1, 1, 0, 0, 1, -1, 0, 0, 1, 0, -1, 0, 1, 1, -1, 1, 1]
    assert charge(pid).tolist() == expected
    assert charge(np.array([1000022, 1000020040, 25, 511, 4122, 5122])).tolist() == [0, 2, 0, 0, 1, 0]


def test_particles_refuse_contradictions_and_concatenate():
    one = from_events([([211], [momentum(5, 0, 0)], [5], [momentum(9, 0, 0)]), ([], [], [], [])])
    both = concatenate([one, from_events([]), one])
    assert both.n_events == len(both) == 4
    assert both.offsets.tolist() == [0, 1, 1, 2, 2]
    assert both.heavy_pid.tolist() == [5, 5]
    assert event_index(both.offsets).tolist() == [0, 2]
    assert concatenate([]).n_events == 0
    with pytest.raises(ValueError, match="offsets of particles"):
        replace(one, offsets=np.array([0, 2, 1]))
    with pytest.raises(ValueError, match="same events"):
        replace(one, offsets=np.array([0, 1]))
    with pytest.raises(ValueError, match="Event 0"):
        from_events([([211, 22], [momentum(5, 0, 0)], [], [])])


def test_pairs_enumerate_rows_of_the_same_event():
    first, second = pairs(np.array([0, 2, 2]), np.array([0, 2, 2, 3]))
    assert first.tolist() == [0, 0, 1, 2]
    assert second.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("pid", "pt", "eta", "efficiency"),
    [(211, 0.5, 0.3, 0.70), (211, 20.0, -1.0, 0.95), (-211, 20.0, 2.0, 0.85), (13, 20.0, 2.0, 0.98)],
)
def test_track_efficiency_is_recovered(pid, pt, eta, efficiency):
    n = 20_000
    seen = reconstruct(copies(pid, pt, eta, n), np.random.default_rng(3), PARAMETERS)
    tracks = np.count_nonzero(seen.charge)
    assert abs(tracks / n - efficiency) < 4 * np.sqrt(efficiency * (1 - efficiency) / n)


@pytest.mark.parametrize(
    ("pid", "eta", "efficiency"), [(11, 0.3, 0.95 * 0.95), (11, 2.0, 0.83 * 0.85), (13, 2.0, 0.98 * 0.95)]
)
def test_lepton_identification_is_recovered(pid, eta, efficiency):
    n = 20_000
    seen = reconstruct(copies(pid, 40.0, eta, n), np.random.default_rng(4), PARAMETERS)
    found = np.count_nonzero(seen.identified)
    assert abs(found / n - efficiency) < 4 * np.sqrt(efficiency * (1 - efficiency) / n)


@pytest.mark.parametrize(
    ("pid", "pt", "eta", "expected"),
    [
        (211, 20.0, 0.2, np.hypot(0.01, 20 * 1.5e-4)),
        (211, 20.0, 2.0, np.hypot(0.025, 20 * 5.5e-4)),
        (13, 50.0, 1.0, np.hypot(0.015, 50 * 1.5e-4)),
        (22, 50.0, 0.0, np.sqrt(0.008**2 + 0.11**2 / 50 + (0.4 / 50) ** 2)),
        (22, 50.0, 1.0, 1.64 * np.sqrt(0.008**2 + 0.11**2 / 77.15 + (0.4 / 77.15) ** 2)),
        (11, 50.0, 0.0, np.sqrt(0.008**2 + 0.11**2 / 50 + (0.4 / 50) ** 2)),
        (130, 100.0, 0.0, np.sqrt(0.05**2 + 1.5**2 / 100)),
        (130, 10.0, 4.0, np.sqrt(0.13**2 + 2.7**2 / 273.1)),
    ],
)
def test_resolution_is_recovered(pid, pt, eta, expected):
    n = 20_000
    seen = reconstruct(copies(pid, pt, eta, n), np.random.default_rng(5), PARAMETERS)
    kept = seen.charge != 0 if pid in (11, 13, 211) else np.ones(len(seen.pt), dtype=bool)
    ratio = seen.pt[kept] * np.cosh(seen.eta[kept]) / (pt * np.cosh(eta))
    assert abs(ratio.mean() - 1) < 4 * expected / np.sqrt(len(ratio))
    assert ratio.std() == pytest.approx(expected, rel=0.04)


def test_thresholds_acceptance_and_invisibles():
    def count(pid: int, pt: float, eta: float) -> int:
        return len(reconstruct(copies(pid, pt, eta, 200), np.random.default_rng(0), PARAMETERS).pt)

    assert count(22, 30.0, 5.1) == 0
    assert count(22, 0.2, 0.0) < 20
    for invisible in (12, 1000022, 25):
        assert count(invisible, 50.0, 0.0) == 0
    assert count(13, 50.0, 2.6) == 0  # no track, no deposit
    assert count(211, 50.0, 2.6) == 200  # a deposit instead


def test_an_unidentified_or_lost_electron_is_no_photon():
    seen = reconstruct(copies(11, 40.0, 2.0, 2000), np.random.default_rng(0), PARAMETERS)
    assert len(seen.pt) == 2000
    assert set(seen.kind.tolist()) == {11}
    assert 0.1 < np.mean(seen.charge == 0) < 0.25


@pytest.mark.pythia
def test_balanced_visible_event_has_noise_only():
    back_to_back = [momentum(30.0, 0.5, 1.0, MASS[13]), momentum(30.0, -0.5, 1.0 - np.pi, MASS[13])]
    events = from_events([([13, -13], back_to_back, [], [])] * 4000)
    exact = simulate(events, parameters=PERFECT)
    assert np.abs(exact.met_pt).max() < 1e-9
    noisy = simulate(events, parameters=replace(PERFECT, met_noise=12.0))
    met_x = noisy.met_pt * np.cos(noisy.met_phi)
    assert met_x.std() == pytest.approx(12.0, rel=0.05)
    assert abs(met_x.mean()) < 4 * 12.0 / np.sqrt(4000)


@pytest.mark.pythia
def test_missing_momentum_is_the_neutrino_of_a_perfect_detector():
    event = ([13, 14], [momentum(30.0, 0.5, 1.0, MASS[13]), momentum(45.0, 1.5, -2.0)], [], [])
    reco = simulate(from_events([event]), parameters=PERFECT)
    measured = reco.met_pt[0] * np.exp(1j * reco.met_phi[0])
    assert measured == pytest.approx(-30.0 * np.exp(1j))


@pytest.mark.pythia
def test_isolation_by_hand():
    lepton = momentum(40.0, 0.0, 0.0, MASS[13])
    near = [momentum(4.0, 0.1, 0.1, MASS[211]), momentum(2.0, 0.3, 0.0)]
    soft, far = momentum(0.4, 0.1, 0.0, MASS[211]), momentum(50.0, 0.5, 0.0, MASS[211])
    events = [
        ([13], [lepton], [], []),
        ([13, 211, 22, 211, 211, 14], [lepton, *near, soft, far, momentum(9.0, 0.0, 0.1)], [], []),
        ([11, 13], [momentum(20.0, 0.0, 0.2), lepton], [], []),
    ]
    reco = simulate(from_events(events), parameters=PERFECT)
    assert reco.lep_offsets.tolist() == [0, 1, 2, 4]
    assert reco.lep_iso == pytest.approx([0.0, 6.0 / 40.0, 20.0 / 40.0, 40.0 / 20.0])
    assert reco.lep_flavour.tolist() == [13, 13, 13, 11]
    assert reco.lep_charge.tolist() == [-1] * 4
    assert reco.lep_pt == pytest.approx([40.0, 40.0, 40.0, 20.0])


@pytest.mark.pythia
def test_jet_flavour_tag_and_content():
    light, bottom = momentum(60.0, 0.5, 0.0, MASS[211]), momentum(80.0, -1.0, 2.0)
    forward, charm = momentum(50.0, 3.0, -2.0), momentum(55.0, 2.0, -1.0)
    event = (
        [211, 22, 22, 130],
        [light, bottom, forward, charm],
        [5, 4, 4, 5, 5],
        [
            momentum(70.0, -1.1, 2.1),  # the b jet's
            momentum(50.0, -1.0, 2.0),  # charm in the same jet does not lower its flavour
            momentum(40.0, 2.1, -1.0),
            momentum(3.0, 0.5, 0.0),  # too soft
            momentum(30.0, 0.5, 0.6),  # too far
        ],
    )
    reco = simulate(from_events([event, ([], [], [], [])]), parameters=PERFECT)
    assert reco.jet_offsets.tolist() == [0, 4, 4]
    assert reco.jet_pt == pytest.approx([80.0, 60.0, 55.0, 50.0])
    assert reco.jet_flavour.tolist() == [5, 0, 4, 0]
    assert reco.jet_tag_probability == pytest.approx([0.68, 0.011, 0.12, 0.0])
    assert reco.jet_em_fraction == pytest.approx([1.0, 0.0, 0.0, 1.0])
    assert reco.jet_n_charged.tolist() == [0, 1, 0, 0]
    assert reco.jet_mass[1] == pytest.approx(0.13957, rel=1e-3)


def anti_kt(p4: np.ndarray, radius: float) -> list[tuple[float, set[int]]]:
    """Jets by the definition: the smallest distance of all is merged or becomes a jet, until nothing is left."""
    bits = [(p, {i}) for i, p in enumerate(p4)]
    jets = []
    while bits:
        pt2 = np.array([p[0] ** 2 + p[1] ** 2 for p, _ in bits])
        y = np.array([np.arctanh(p[2] / p[3]) for p, _ in bits])
        phi = np.array([np.arctan2(p[1], p[0]) for p, _ in bits])
        distance2 = (y[:, None] - y) ** 2 + delta_phi(phi[:, None], phi[None]) ** 2
        d = np.minimum(1 / pt2[:, None], 1 / pt2) * distance2 / radius**2
        np.fill_diagonal(d, 1 / pt2)
        i, j = np.unravel_index(d.argmin(), d.shape)
        if i == j:
            p, content = bits.pop(i)
            jets.append((float(np.hypot(p[0], p[1])), content))
        else:
            merged = (bits[i][0] + bits[j][0], bits[i][1] | bits[j][1])
            bits = [b for k, b in enumerate(bits) if k not in (i, j)] + [merged]
    return jets


@pytest.mark.pythia
def test_jets_are_anti_kt():
    rng = np.random.default_rng(7)
    events = [random_event(rng, n) for n in (40, 1, 60, 25)]
    parameters = replace(PERFECT, jet_pt_min=5.0, pion_mass=MASS[211])
    reco = simulate(from_events(events), parameters=parameters)
    n_jets = 0
    for number, (pid, p4, _, _) in enumerate(events):
        p4 = np.array(p4)
        inside = np.abs(np.arcsinh(p4[:, 2] / np.hypot(p4[:, 0], p4[:, 1]))) < 5.0
        p4, pid = p4[inside], pid[inside]
        scale = np.where(pid == 130, p4[:, 3] / np.linalg.norm(p4[:, :3], axis=1), 1.0)
        p4 = np.column_stack([p4[:, :3] * scale[:, None], p4[:, 3]])  # neutral deposits are massless
        expected = sorted((jet for jet in anti_kt(p4, 0.4) if jet[0] > 5.0), key=lambda jet: -jet[0])
        rows = slice(*reco.jet_offsets[number : number + 2])
        assert reco.jet_pt[rows] == pytest.approx([pt for pt, _ in expected])
        charged = [sum(abs(pid[i]) == 211 for i in content) for _, content in expected]
        assert reco.jet_n_charged[rows].tolist() == charged
        n_jets += len(expected)
    assert n_jets > 20


@pytest.mark.pythia
def test_jet_resolution_is_the_published_one():
    reco = simulate(copies(211, 100.0, 0.2, 20_000), 1, replace(PERFECT, jet_confusion=PARAMETERS.jet_confusion))
    expected = np.sqrt(0.041**2 + 0.82**2 / 100 + (1.24 / 100) ** 2)
    assert reco.jet_pt.std() / 100 == pytest.approx(expected, rel=0.04)
    measured = reco.met_pt * np.exp(1j * reco.met_phi) + reco.jet_pt * np.exp(1j * reco.jet_phi)
    assert np.abs(measured).max() < 1e-6  # the missing momentum follows the jet
    muons = simulate(copies(13, 100.0, 0.2, 100), 1, replace(PERFECT, jet_confusion=PARAMETERS.jet_confusion))
    assert muons.jet_pt == pytest.approx(np.full(100, 100.0))


@pytest.mark.pythia
def test_empty_events_and_no_events():
    for n in (0, 3):
        reco = simulate(from_events([([], [], [], [])] * n))
        assert reco.n_events == n
        assert reco.jet_offsets.tolist() == reco.lep_offsets.tolist() == [0] * (n + 1)
        assert len(reco.jet_pt) == len(reco.lep_pt) == 0
        assert np.isfinite(reco.met_pt).all()
    only_invisible = simulate(from_events([([12, 14], [momentum(9, 0, 0)] * 2, [5], [momentum(9, 0, 0)])]))
    assert len(only_invisible.jet_pt) == 0


@pytest.mark.pythia
def test_one_seed_one_result():
    rng = np.random.default_rng(2)
    events = from_events([random_event(rng, 50) for _ in range(20)])
    first, again, other = simulate(events, 1), simulate(events, 1), simulate(events, 2)
    for name, column in vars(first).items():
        assert np.array_equal(column, getattr(again, name)), name
    assert not np.array_equal(first.met_pt, other.met_pt)


@pytest.mark.pythia
def test_nothing_is_printed(capfd):
    simulate(from_events([random_event(np.random.default_rng(0), 30)]))
    assert capfd.readouterr().out == ""


@pytest.mark.pythia
def test_rate():
    rng = np.random.default_rng(2)
    events = from_events([random_event(rng, 250) for _ in range(400)])
    simulate(events)
    start = time.process_time()
    simulate(events)
    assert 400 / (time.process_time() - start) > 300  # measured: 4000 events/s; the margin is for busy machines
