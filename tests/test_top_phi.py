"""Single top with a mediator: amplitude against spinors, phase space, rates, the way to the detector, MadGraph."""

from __future__ import annotations

import importlib
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hepkan.errors import UsageError
from hepkan.physics.les_houches import _rows
from hepkan.physics.processes import get_process
from hepkan.physics.single_top import PICOBARN
from hepkan.physics.top_decay import boost, breit_wigner, decay_axis, dot, two_body, two_body_decay
from hepkan.physics.top_phi import TopPhi, _linear_cos
from hepkan.physics.top_phi_amplitude import TopPhiParameters, matrix_element, radiation, radiation_slope, radiator
from hepkan.physics.top_phi_events import MEDIATOR, TopPhiEvents
from hepkan.physics.top_phi_showers import mediator_mass
from test_single_top import toy_densities
from top_phi_spinors import GAMMA, amplitude_squared, produced_squared, slash, spinor

ROOT = Path(__file__).parents[1]
KINDS = ("scalar", "pseudoscalar")
CONSTANTS = {kind: TopPhiParameters(mediator=kind) for kind in KINDS}  # type: ignore[arg-type]


@cache
def toy(kind: str = "scalar", mass: float = 125.0) -> TopPhi:
    parameters = replace(CONSTANTS[kind], m_phi=mass)
    return TopPhi(parameters, pdf=toy_densities())


@cache
def toy_events(kind: str = "scalar") -> TopPhiEvents:
    return toy(kind).generate(30_000, np.random.default_rng(3))


def random_momenta(p: TopPhiParameters, n: int, seed: int, m2: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return physical momenta of the whole process with flat angles, virtualities on and off the poles, boosted."""
    rng = np.random.default_rng(seed)

    def pair(mother: np.ndarray, m1: np.ndarray, m2: float) -> tuple[np.ndarray, np.ndarray]:
        axis = np.concatenate([rng.normal(size=(n, 3)), np.full((n, 1), 9.0)], axis=1)
        return two_body_decay(mother, axis, rng.uniform(-1, 1, n), rng.uniform(0, 2 * np.pi, n), m1, m2)

    root_s = rng.uniform(p.mt + p.m_phi + 100.0, 4000.0, n)
    zero = np.zeros(n)
    total = np.stack([zero, zero, zero, root_s], axis=1)
    light_in = np.stack([zero, zero, 0.5 * root_s, 0.5 * root_s], axis=1)
    m_top = rng.uniform(150.0, 190.0, n) if m2 is None else np.sqrt(m2)
    threshold = m_top + p.m_phi
    virtual, light_out = pair(total, threshold + rng.random(n) * (root_s - threshold), 0.0)
    top, mediator = pair(virtual, m_top, p.m_phi)
    w, bottom = pair(top, rng.uniform(50.0, 110.0, n), 0.0)
    lepton, neutrino = pair(w, np.zeros(n), 0.0)
    momenta = {
        "light_in": light_in, "bottom_in": total - light_in, "light_out": light_out, "top": top,
        "mediator": mediator, "bottom": bottom, "lepton": lepton, "neutrino": neutrino,
    }  # fmt: skip
    frame = np.tile([30.0, -70.0, 110.0, 250.0], (n, 1))
    return {name: boost(q, frame) for name, q in momenta.items()}


def test_spinors_solve_the_dirac_equation() -> None:
    rng = np.random.default_rng(0)
    for mass in (0.0, 173.0):
        p = rng.normal(size=(50, 4)) * 100.0
        p[:, 3] = np.sqrt(np.sum(p[:, :3] ** 2, axis=1) + mass**2)
        for anti, sign in ((False, 1.0), (True, -1.0)):
            pair = [spinor(p, h, anti, mass) for h in (1, -1)]
            total = sum(np.einsum("na,nb->nab", u, np.conj(u) @ GAMMA[0]) for u in pair)
            assert np.allclose(total, slash(p) + sign * mass * np.eye(4), atol=1e-10)


@pytest.mark.parametrize("mass", [10.0, 125.0, 1000.0])
@pytest.mark.parametrize("channel", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_matrix_element_agrees_with_spinors(kind: str, channel: int, mass: float) -> None:
    p = replace(CONSTANTS[kind], m_phi=mass)
    m = random_momenta(p, 200, seed=channel)
    up, down = ("light_in", "light_out") if channel % 2 == 0 else ("light_out", "light_in")
    rest = (m[name] for name in ("bottom_in", "top", "mediator", "bottom", "lepton", "neutrino"))
    ours = matrix_element(m[up], m[down], *rest, p)
    assert np.all(ours > 0.0)
    np.testing.assert_allclose(ours, amplitude_squared(m, channel, p), rtol=1e-9)


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_production_agrees_with_spinors(kind: str, channel: int) -> None:
    """The decay integrated, V.p_l becomes m_t^2 V.p_t / p_t^2: what `radiation` is built from."""
    p = CONSTANTS[kind]
    m = random_momenta(p, 200, seed=channel, m2=np.full(200, p.mt**2))
    np.testing.assert_allclose(produced(m, channel, p), produced_squared(m, channel, p), rtol=1e-9)


def produced(m: dict[str, np.ndarray], channel: int, p: TopPhiParameters) -> np.ndarray:
    """Return |M|^2 of production with an on-shell top in closed form."""
    up, down = ("light_in", "light_out") if channel == 0 else ("light_out", "light_in")
    axis = decay_axis(radiator(m["top"], m["mediator"], p), m[down])
    virtual = m["top"] + m["mediator"]
    transfer = -2.0 * dot(m[up], m[down]) - p.mw**2
    width = (dot(virtual, virtual) - p.mt**2) ** 2 + (p.mt * p.width_t) ** 2
    g2 = 4.0 * np.pi * p.alpha_w
    return g2**2 * p.yukawa2 * dot(m[up], m["bottom_in"]) * dot(axis, m["top"]) / (transfer**2 * width)


@pytest.mark.parametrize("kind", KINDS)
def test_angles_integrate_to_the_spectrum(kind: str) -> None:
    """V.p_t is linear in the cosine with `radiation_slope`, and its mean is C p_d.Q of `radiation`."""
    p = CONSTANTS[kind]
    n, cos = 40, np.linspace(-1.0, 1.0, 5)
    rng = np.random.default_rng(2)
    m2 = rng.uniform(150.0, 190.0, n) ** 2
    virtual2 = ((np.sqrt(m2) + p.m_phi) * rng.uniform(1.01, 5.0, n)) ** 2
    frame = np.concatenate([rng.normal(size=(n, 3)) * 200.0, np.zeros((n, 1))], axis=1)
    frame[:, 3] = np.sqrt(virtual2 + np.sum(frame**2, axis=1))
    down = rng.normal(size=(n, 4))
    down[:, 3] = np.linalg.norm(down[:, :3], axis=1)
    values = []
    for c in cos:
        top, mediator = two_body_decay(frame, down, np.full(n, c), rng.random(n), np.sqrt(m2), p.m_phi)
        values.append(dot(decay_axis(radiator(top, mediator, p), down), top) / dot(down, frame))
    middle = values[2]
    np.testing.assert_allclose(np.array(values), middle * (1.0 + radiation_slope(virtual2, m2, p) * cos[:, None]))
    width = (virtual2 - p.mt**2) ** 2 + (p.mt * p.width_t) ** 2
    momentum = two_body(virtual2, np.sqrt(m2), p.m_phi)
    expected = p.yukawa2 * p.mt**2 / m2 * middle * momentum / (8.0 * np.pi**2 * np.sqrt(virtual2) * width)
    np.testing.assert_allclose(radiation(virtual2, m2, p), expected, rtol=1e-9)


@pytest.mark.parametrize("slope", [-1.0, -1e-9, 0.0, 0.4, 1.0])
def test_cosine_inverts_its_distribution(slope: float) -> None:
    u = np.linspace(0.0, 1.0, 101)
    cos = _linear_cos(u, np.full(101, slope))
    assert np.allclose(0.5 * (cos + 1.0) + 0.25 * slope * (cos**2 - 1.0), u, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_momentum_is_conserved_and_masses_hold(kind: str) -> None:
    e = toy_events(kind)
    p = CONSTANTS[kind]
    total = e.incoming1 + e.incoming2
    scale = total[:, 3:]
    assert np.abs((total - e.top - e.light - e.mediator) / scale).max() < 1e-9
    assert np.abs((e.top - e.bottom - e.w) / scale).max() < 1e-9
    assert np.abs((e.w - e.lepton - e.neutrino) / scale).max() < 1e-9
    assert np.allclose(dot(e.mediator, e.mediator), p.m_phi**2, atol=1e-9 * scale.max() ** 2)
    for name in ("incoming1", "incoming2", "light", "bottom", "lepton", "neutrino"):
        q = getattr(e, name)
        assert np.abs(dot(q, q) / q[:, 3] ** 2).max() < 1e-9
    assert np.abs(np.sqrt(dot(e.top, e.top)) - p.mt).max() < p.cutoff * p.width_t + 1e-6


def test_light_mediators_keep_the_radiating_top_off_its_pole() -> None:
    e = toy(mass=10.0).generate(5000, np.random.default_rng(1))
    virtual = e.top + e.mediator
    assert np.sqrt(dot(virtual, virtual)).min() > CONSTANTS["scalar"].mt + 4.99


@pytest.mark.parametrize("n", [0, 1, 2500])
def test_same_seed_same_bytes(n: int) -> None:
    first = toy().generate(n, np.random.default_rng(7))
    second = TopPhi(pdf=toy_densities()).generate(n, np.random.default_rng(7))
    assert len(first) == n
    for field in fields(TopPhiEvents):
        one, two = getattr(first, field.name), getattr(second, field.name)
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


@pytest.mark.parametrize("mass", [10.0, 50.0, 1000.0])
@pytest.mark.parametrize("kind", KINDS)
def test_few_points_exceed_their_maximum(kind: str, mass: float) -> None:
    generator, rng = toy(kind, mass), np.random.default_rng(5)
    cells = rng.choice(len(generator._maximum), 100_000, p=generator._maximum / generator._maximum.sum())
    m2, _ = generator._virtualities(len(cells), rng)
    ratio = generator._hard(cells, rng.random((4, len(cells))), m2).weight / generator._maximum[cells]
    assert np.maximum(ratio - 1.0, 0.0).sum() < 2e-3 * ratio.sum()
    assert ratio.mean() == pytest.approx(generator.efficiency, rel=0.02)
    assert generator.efficiency > 0.25


def flat_events(p: TopPhiParameters, n: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return u b -> d t phi with flat angles everywhere, the decay included, and weights in pb: no shared sampling.

    Phase space by successive two-body decays: dPhi_n = dPhi_2 prod dq^2 / (2 pi), dPhi_2 = p / (4 pi root) flat.
    """
    rng = np.random.default_rng(seed)
    low = (p.mt - p.cutoff * p.width_t + p.m_phi) ** 2 / p.ecm**2
    tau, y = low ** rng.random(n), rng.uniform(-1.0, 1.0, n)
    y_max = -0.5 * np.log(tau)
    x = np.sqrt(tau) * np.exp(np.stack([y, -y]) * y_max)
    s = tau * p.ecm**2
    weight = -np.log(low) * 2.0 * y_max
    scale2 = np.full(n, (0.5 * (p.mt + p.m_phi)) ** 2)
    densities = toy_densities()
    weight *= densities.xf(2, x[0], scale2) * densities.xf(5, x[1], scale2)
    m2 = breit_wigner(rng.random(n), p.mt, p.width_t, p.cutoff)
    w2 = breit_wigner(rng.random(n), p.mw, p.width_w, p.cutoff)
    for q2, mass, width in ((m2, p.mt, p.width_t), (w2, p.mw, p.width_w)):
        edge = p.cutoff * width
        area = np.arctan(((mass + edge) ** 2 - mass**2) / (mass * width))
        area -= np.arctan(((mass - edge) ** 2 - mass**2) / (mass * width))
        weight *= area * ((q2 - mass**2) ** 2 + (mass * width) ** 2) / (mass * width) / (2.0 * np.pi)
    q_low = np.sqrt(m2) + p.m_phi
    open_ = np.sqrt(s) > q_low
    reach = np.where(open_, s - q_low**2, 0.0)
    virtual2 = q_low**2 + rng.random(n) ** 2 * reach
    weight *= reach * 2.0 * np.sqrt((virtual2 - q_low**2) / np.maximum(reach, 1e-9)) / (2.0 * np.pi)
    s = np.where(open_, s, 2.0 * q_low**2)
    zero = np.zeros(n)
    total = np.stack([zero, zero, zero, np.sqrt(s)], axis=1)
    beam = np.stack([zero, zero, 0.5 * np.sqrt(s), 0.5 * np.sqrt(s)], axis=1)
    m: dict[str, np.ndarray] = {"up": beam, "bottom_in": total - beam}

    def pair(mother: np.ndarray, m1: np.ndarray, m2: float, axis: np.ndarray, cos: np.ndarray) -> None:
        nonlocal weight
        mass2 = dot(mother, mother)
        weight = weight * two_body(mass2, m1, m2) / (4.0 * np.pi * np.sqrt(mass2))
        first, second = two_body_decay(mother, axis, cos, rng.uniform(0.0, 2.0 * np.pi, n), m1, m2)
        m["first"], m["second"] = first, second

    power = 3.0  # the light quark goes forward: c = 1 - 2 v^3 from the quark, that is -1 + 2 v^3 for the top
    v = rng.random(n)
    pair(total, np.sqrt(virtual2), 0.0, beam, -1.0 + 2.0 * v**power)
    weight *= power * v ** (power - 1.0)
    virtual, m["down"] = m["first"], m["second"]
    pair(virtual, np.sqrt(m2), p.m_phi, beam, rng.uniform(-1.0, 1.0, n))
    m["top"], m["mediator"] = m["first"], m["second"]
    pair(m["top"], np.sqrt(w2), 0.0, beam, rng.uniform(-1.0, 1.0, n))
    w, m["bottom"] = m["first"], m["second"]
    pair(w, np.zeros(n), 0.0, beam, rng.uniform(-1.0, 1.0, n))
    m["lepton"], m["neutrino"] = m["first"], m["second"]
    names = ("up", "down", "bottom_in", "top", "mediator", "bottom", "lepton", "neutrino")
    weight = weight * matrix_element(*(m[name] for name in names), p) * PICOBARN / (2.0 * s)
    return m, weight


def features(m: dict[str, np.ndarray]) -> np.ndarray:
    """Return invariants (k, n) that see production, radiation and decay."""
    total, virtual = m["up"] + m["bottom_in"], m["top"] + m["mediator"]
    shape = [
        np.log(dot(total, total)), np.log(dot(virtual, virtual)), np.log(dot(m["up"], m["down"]) + 3e3),
        dot(m["down"], m["top"]) / dot(m["down"], virtual), dot(m["bottom"], m["lepton"]) / 1e4,
        dot(m["down"], m["lepton"]) / dot(m["down"], m["top"]),
        dot(m["mediator"], m["lepton"]) / dot(m["mediator"], m["top"]),
        dot(m["mediator"], m["neutrino"]) / dot(m["mediator"], m["top"]),
    ]  # fmt: skip
    return np.concatenate([shape, np.square(shape)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_events_follow_the_matrix_element(kind: str) -> None:
    """Rate and means of flat phase space, weighted with |M|^2 and the densities of u and b, for u b -> d t phi."""
    p = replace(CONSTANTS[kind], leptons=(11,))
    generator = TopPhi(p, charge=1, pdf=toy_densities())
    e = generator.generate(200_000, np.random.default_rng(6))
    first = np.abs(e.id1) < 5
    light = np.where(first, e.id1, e.id2)
    pick = light == 2
    quark = np.where(first[:, None], e.incoming1, e.incoming2)
    m = {"up": quark, "bottom_in": np.where(first[:, None], e.incoming2, e.incoming1), "down": e.light}
    m |= {name: getattr(e, name) for name in ("top", "mediator", "bottom", "lepton", "neutrino")}
    sampled = features({name: q[pick] for name, q in m.items()})
    flat, weight = flat_events(p, 600_000, seed=8)
    rate, error = 2.0 * weight.mean(), 2.0 * weight.std() / np.sqrt(len(weight))
    fraction = pick.mean()
    assert error < 0.02 * rate
    assert generator.sigma_decayed_pb * fraction == pytest.approx(rate, abs=4 * error + 0.005 * rate)
    value = features(flat)
    mean = np.average(value, axis=1, weights=weight)
    variance = np.sum(weight**2 * (value - mean[:, None]) ** 2, axis=1) / weight.sum() ** 2
    spread = np.sqrt(variance + sampled.var(axis=1) / pick.sum())
    assert np.abs((sampled.mean(axis=1) - mean) / spread).max() < 4.0


def test_rate_scales_with_the_coupling() -> None:
    strong = TopPhi(TopPhiParameters(g_q=0.5), pdf=toy_densities())
    assert strong.sigma_pb == pytest.approx(0.25 * toy().sigma_pb, rel=1e-9)


def test_charges_and_colours() -> None:
    e = toy_events()
    assert np.all(e.pdg_ids[:, 8] == MEDIATOR)
    colours = e.colours
    assert colours.shape == (len(e), 9, 2) and not colours[:, [4, 6, 7, 8]].any()
    assert np.all(np.sort(colours.max(axis=2)[:, :4], axis=1) == [501, 501, 502, 502])
    plus = TopPhi(charge=1, pdf=toy_densities())
    assert np.all(plus.generate(200, np.random.default_rng(1)).pdg_ids[:, 2] == 6)


def test_record_for_the_shower_balances() -> None:
    e = toy().generate(50, np.random.default_rng(4))
    for _, particles, _ in _rows(e):
        assert [particle[1] for particle in particles] == [-1, -1, 2, 1, 2, 1, 1, 1, 1]
        p4 = np.array([particle[6:10] for particle in particles])
        status = np.array([particle[1] for particle in particles])
        assert np.allclose(p4[status == -1].sum(axis=0), p4[status == 1].sum(axis=0), atol=1e-6)
        assert particles[8][0] == MEDIATOR and particles[8][10] == pytest.approx(125.0, abs=1e-4)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="pseudoscalar"):
        TopPhiParameters(mediator="pseudoscaler")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="10 to 1000"):
        TopPhiParameters(m_phi=5.0)
    with pytest.raises(UsageError, match="fixed"):
        TopPhiParameters(scale="madgraph")
    with pytest.raises(UsageError, match="coupling"):
        TopPhiParameters(g_q=0.0)
    with pytest.raises(UsageError, match="negative"):
        toy().generate(-1, np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"54:m0"):
        mediator_mass(("Top:all = on",))
    assert mediator_mass(("54:mWidth = 1.", "54:m0 = 300.")) == 300.0


@cache
def validation() -> ModuleType:
    """Return the comparison script as a module."""
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "validation"))
        return importlib.import_module("top_phi")


@cache
def reference() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests" / "data" / "top_phi_madgraph.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.pythia
def test_rate_and_shapes_agree_with_madgraph() -> None:
    script = validation()
    generator = TopPhi(script.MADGRAPH)
    assert generator.sigma_decayed_pb == pytest.approx(script.DECAYED_PB[0], rel=0.02)
    assert generator.sigma_pb == pytest.approx(script.UNDECAYED_PB[0], rel=0.02)
    ours = script.from_events(generator.generate(20_000, np.random.default_rng(script.SEED)))
    table = script.compare(ours, {name: reference()[name][:2000] for name in script.COMPARED})
    assert len(table) == 16
    assert {name: row["p"] for name, row in table.items() if row["p"] < 0.005} == {}


@pytest.mark.slow
@pytest.mark.pythia
def test_sixteen_distributions_agree_with_madgraph() -> None:
    script = validation()
    generator = TopPhi(script.MADGRAPH)
    ours = script.from_events(generator.generate(500_000, np.random.default_rng(script.SEED)))
    table = script.compare(ours, {name: reference()[name] for name in script.COMPARED})
    undecayed = {name: reference()[f"undecayed_{name}"] for name in script.UNDECAYED}
    table |= {f"undecayed {name}": row for name, row in script.compare(ours, undecayed).items()}
    assert len(table) == 23
    assert {name: row["p"] for name, row in table.items() if row["p"] < 0.01} == {}


@pytest.mark.slow
@pytest.mark.pythia
@pytest.mark.parametrize("name", ["top_phi", "top_phi_pseudoscalar"])
def test_shower_and_detector_see_the_mediator_as_missing(name: str) -> None:
    pytest.importorskip("fastjet", reason="needs the extra `generate`")
    card = get_process(name)
    assert {piece.name for piece in card.slices} >= {"m10", "m125", "m1000"}
    result = validation().shower_summary(name, "m300", 1)
    assert 250 <= result["events"] < 400 and result["selected"] > 20  # 250 showered, and those whose lepton is too soft
    assert result["missing_px_correlation"] > 0.9


@pytest.mark.slow
@pytest.mark.pythia
def test_truth_follows_the_hard_event() -> None:
    """After the shower the mediator keeps its mass, and truth is the same for the same seed."""
    from hepkan.physics import chunks

    card = get_process("top_phi")
    piece = next(piece for piece in card.slices if piece.name == "m125")
    with chunks.silent_stdout():
        one, two = (next(chunks.GENERATORS[card.generator](card, piece, 5)) for _ in range(2))
    truth = one.truth
    mass2 = truth["true_mediator_e"] ** 2 - sum(truth[f"true_mediator_p{axis}"] ** 2 for axis in "xyz")
    assert np.allclose(np.sqrt(mass2), 125.0, atol=1e-6)
    neutrino = np.sqrt(sum(truth[f"true_neutrino_p{axis}"] ** 2 for axis in "xyz"))
    assert np.allclose(neutrino, truth["true_neutrino_e"], rtol=1e-9, atol=1e-6)
    assert all(np.array_equal(truth[key], two.truth[key]) for key in truth)
    assert np.all(one.particles.pid[one.particles.pid == MEDIATOR] == MEDIATOR)
    assert np.sum(one.particles.pid == MEDIATOR) == len(one.particles)
