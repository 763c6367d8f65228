"""The single-top generator: formula, phase space, rates, colours, the way to Pythia, and MadGraph's distributions."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.integrate import simpson

from hepkan.errors import UsageError
from hepkan.physics.les_houches import MASS_BOTTOM, MASS_LEPTON, with_masses
from hepkan.physics.parton_densities import FLAVOURS, PartonDensities, _nodes, from_pythia
from hepkan.physics.single_top import Parameters, SingleTop, SingleTopEvents, matrix_element
from hepkan.physics.top_decay import boost, decay_axis, decay_top, dot

ROOT = Path(__file__).parents[1]
PARTICLES = ("incoming1", "incoming2", "top", "light", "w", "bottom", "lepton", "neutrino")
PARAMETERS = Parameters()


@cache
def toy_densities() -> PartonDensities:
    """Return densities that need no Pythia: x f = c (1 - x)^3 / sqrt(x), rising with Q for the b."""
    x, n_q = _nodes(240), 48
    shape = (1.0 - x) ** 3 / np.sqrt(x)
    strength = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 1.0, 0.5, 1.0, 0.15, 0.1, 0.05])
    assert len(strength) == len(FLAVOURS)
    return PartonDensities(strength[:, None, None] * shape[:, None] * np.linspace(0.5, 1.5, n_q), "toy")


@cache
def toy() -> SingleTop:
    return SingleTop(pdf=toy_densities())


@cache
def toy_events() -> SingleTopEvents:
    return toy().generate(40_000, np.random.default_rng(3))


@cache
def validation() -> ModuleType:
    """Return the comparison script as a module."""
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    spec = importlib.util.spec_from_file_location("madgraph", ROOT / "validation" / "single_top_madgraph.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def light_lines(events: SingleTopEvents) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the up- and down-type light quark and the incoming b."""
    first = np.abs(events.id1) < 5
    quark = np.where(first[:, None], events.incoming1, events.incoming2)
    bottom = np.where(first[:, None], events.incoming2, events.incoming1)
    up_in = (np.where(first, events.id1, events.id2) % 2 == 0)[:, None]
    return np.where(up_in, quark, events.light), np.where(up_in, events.light, quark), bottom


def matrix_elements(events: SingleTopEvents, turn: np.ndarray | None = None) -> np.ndarray:
    p = [*light_lines(events), events.top, events.bottom, events.lepton, events.neutrino]
    if turn is not None:
        p = [np.concatenate([q[:, :3] @ turn.T, q[:, 3:]], axis=1) for q in p]
    return matrix_element(*p, PARAMETERS)


def test_momentum_is_conserved() -> None:
    e = toy_events()
    scale = (e.incoming1 + e.incoming2)[:, 3:]
    total = e.incoming1 + e.incoming2
    assert np.abs((total - e.top - e.light) / scale).max() < 1e-9
    assert np.abs((e.top - e.bottom - e.w) / scale).max() < 1e-9
    assert np.abs((e.w - e.lepton - e.neutrino) / scale).max() < 1e-9
    assert np.allclose(total[:, 2], 6500.0 * (e.x1 - e.x2), rtol=1e-12, atol=1e-9)


def test_masses() -> None:
    e = toy_events()
    for name in ("incoming1", "incoming2", "light", "bottom", "lepton", "neutrino"):
        p = getattr(e, name)
        assert np.abs(dot(p, p) / p[:, 3] ** 2).max() < 1e-9
    for p, mass, width in (
        (e.top, PARAMETERS.mt, PARAMETERS.width_t),
        (e.w, PARAMETERS.mw, PARAMETERS.width_w),
    ):
        m = np.sqrt(dot(p, p))
        assert np.abs(m - mass).max() < PARAMETERS.cutoff * width + 1e-6
        assert np.mean(np.abs(m - mass) < 0.5 * width) == pytest.approx(0.51, abs=0.015)


@pytest.mark.parametrize("n", [0, 1, 2500])
def test_same_seed_same_bytes(n: int) -> None:
    first = toy().generate(n, np.random.default_rng(7))
    second = SingleTop(pdf=toy_densities()).generate(n, np.random.default_rng(7))
    assert len(first) == n
    for field in fields(SingleTopEvents):
        one, two = getattr(first, field.name), getattr(second, field.name)
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
    if n > 1:
        assert not np.array_equal(first.top, toy().generate(n, np.random.default_rng(8)).top)


def test_matrix_element_is_invariant() -> None:
    e = toy_events()
    axis = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5])
    cross = np.cross(np.eye(3), axis)
    turn = np.eye(3) + np.sin(1.1) * cross + (1 - np.cos(1.1)) * cross @ cross
    value = matrix_elements(e)
    assert np.all(value > 0.0)
    assert np.allclose(matrix_elements(e, turn), value, rtol=1e-6)
    frame = np.tile([30.0, -70.0, 110.0, 250.0], (len(e), 1))
    p = [boost(q, frame) for q in (*light_lines(e), e.top, e.bottom, e.lepton, e.neutrino)]
    assert np.allclose(matrix_element(*p, PARAMETERS), value, rtol=1e-6)


def test_decay_follows_the_matrix_element() -> None:
    """Flat decay angles weighted with |M|^2 give the same means as the sampled decay."""
    rng = np.random.default_rng(11)
    e = toy_events()
    n = 200_000
    up, down, bottom_in, top, w_row = (np.repeat(p[:1], n, axis=0) for p in (*light_lines(e), e.top, e.w))
    w2 = dot(w_row, w_row)
    m2 = dot(top, top)
    w, bottom = flat_pair(top, (m2 + w2) / (2 * np.sqrt(m2)), (m2 - w2) / (2 * np.sqrt(m2)), rng)
    lepton, neutrino = flat_pair(w, 0.5 * np.sqrt(w2), 0.5 * np.sqrt(w2), rng)
    weight = matrix_element(up, down, bottom_in, top, bottom, lepton, neutrino, PARAMETERS)
    flat = decay_features(top, down, bottom, lepton)
    sampled = decay_features(top, down, *decay_top(top, w2, decay_axis(top, down), rng)[:2])
    mean = np.average(flat, axis=1, weights=weight)
    variance = np.sum(weight**2 * (flat - mean[:, None]) ** 2, axis=1) / weight.sum() ** 2
    error = np.sqrt(variance + sampled.var(axis=1) / n)
    assert np.all(np.abs(sampled.mean(axis=1) - mean) < 4 * error)


def flat_pair(
    mother: np.ndarray, e1: np.ndarray, e2: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return two-body decays with flat angles; the second daughter is massless."""
    way = rng.normal(size=(len(mother), 3))
    way *= (e2 / np.linalg.norm(way, axis=1))[:, None]
    pair = (np.concatenate([way, e1[:, None]], axis=1), np.concatenate([-way, e2[:, None]], axis=1))
    return boost(pair[0], mother), boost(pair[1], mother)


def decay_features(top: np.ndarray, down: np.ndarray, bottom: np.ndarray, lepton: np.ndarray) -> np.ndarray:
    cos = 1.0 - dot(lepton, down) * dot(top, top) / (dot(top, lepton) * dot(top, down))
    m_lb2 = dot(lepton, bottom) / 1e4
    return np.stack([cos, cos**2, m_lb2, m_lb2**2, m_lb2 * cos, lepton[:, 0] / 100, lepton[:, 3] / 100])


def test_lepton_prefers_the_down_quark() -> None:
    e = toy_events()
    cos = decay_features(e.top, light_lines(e)[1], e.bottom, e.lepton)[0]
    assert cos.mean() == pytest.approx(1 / 3, abs=4 * 0.4714 / np.sqrt(len(e)))


def test_charges_and_colours() -> None:
    e = toy_events()
    charge = np.select([np.abs(e.pdg_ids) % 2 == 0, np.abs(e.pdg_ids) < 6], [2, -1], 0) * np.sign(e.pdg_ids)
    assert np.all(charge[:, :2].sum(axis=1) == charge[:, 2:4].sum(axis=1))
    assert np.all(np.sign(e.id_lepton) == -np.sign(e.pdg_ids[:, 2]))
    assert set(np.unique(np.abs(e.id_lepton))) == {11, 13, 15}
    colours = e.colours
    assert np.all((colours > 0).sum(axis=2)[:, [0, 1, 2, 3, 5]] == 1) and not colours[:, [4, 6, 7]].any()
    lines = np.sort(colours.max(axis=2)[:, :4], axis=1)
    assert np.all(lines == [501, 501, 502, 502])
    assert np.all(colours[:, 2] == colours[:, 5])


def test_few_points_exceed_their_maximum() -> None:
    generator, rng = toy(), np.random.default_rng(5)
    cells = rng.choice(len(generator._maximum), 200_000, p=generator._maximum / generator._maximum.sum())
    m2, _ = generator._virtualities(len(cells), rng)
    ratio = generator._hard(cells, rng.random((3, len(cells))), m2).weight / generator._maximum[cells]
    assert np.maximum(ratio - 1.0, 0.0).sum() < 1e-3 * ratio.sum()
    assert ratio.mean() == pytest.approx(generator.efficiency, rel=0.01)


def test_charge_selects_the_top() -> None:
    plus, minus = (SingleTop(charge=q, pdf=toy_densities()) for q in (1, -1))
    assert np.all(plus.generate(500, np.random.default_rng(1)).pdg_ids[:, 2] == 6)
    assert np.all(minus.generate(500, np.random.default_rng(1)).pdg_ids[:, 2] == -6)
    assert plus.sigma_pb + minus.sigma_pb == pytest.approx(toy().sigma_pb, rel=5e-3)


def test_masses_for_the_shower() -> None:
    e = toy_events()
    w, bottom, lepton, neutrino = with_masses(e)
    assert np.abs(e.top - w - bottom).max() < 1e-8 and np.abs(w - lepton - neutrino).max() < 1e-8
    assert np.allclose(dot(bottom, bottom), MASS_BOTTOM**2, atol=1e-4)
    for flavour, mass in MASS_LEPTON.items():
        chosen = lepton[np.abs(e.id_lepton) == flavour]
        assert np.allclose(dot(chosen, chosen), mass**2, atol=1e-5)
    assert np.abs(dot(neutrino, neutrino)).max() < 1e-4
    assert np.abs(lepton - e.lepton).mean() < 0.5


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="madgraph"):
        Parameters(scale="madgraf")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Leptons"):
        Parameters(leptons=(12,))
    with pytest.raises(UsageError, match="cutoff"):
        Parameters(mt=110.0)
    with pytest.raises(UsageError, match="charge"):
        SingleTop(charge=2, pdf=toy_densities())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="negative"):
        toy().generate(-1, np.random.default_rng(0))


@pytest.mark.pythia
def test_table_agrees_with_pythia() -> None:
    pythia8mc = pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    pythia = pythia8mc.Pythia("", False)
    for line in ("Print:quiet = on", "ProcessLevel:all = off"):
        pythia.readString(line)
    pythia.init()
    source, table, rng = pythia.getPDFPtr(2212), from_pythia(), np.random.default_rng(2)
    x, q2 = np.exp(rng.uniform(np.log(1e-4), np.log(0.6), 400)), np.exp(rng.uniform(5.0, 12.0, 400))
    for pid in (-2, -1, 1, 2, 3, 4, 5):
        exact = np.array([source.xf(pid, *point) for point in zip(x.tolist(), q2.tolist(), strict=True)])
        assert np.abs(table.xf(pid, x, q2) - exact).max() < 2e-3 * exact.max()
        assert np.median(np.abs(table.xf(pid, x, q2) / exact - 1)) < 1e-3
    assert np.all(table.xf([2, 5], [1.0, 1.5], 100.0) == 0.0)


@pytest.mark.pythia
def test_cross_section_agrees_with_direct_integration() -> None:
    """Integrate d sigma / dt with Pythia's own densities on a grid in ln x1, ln x2."""
    pythia8mc = pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    pythia = pythia8mc.Pythia("", False)
    for line in ("Print:quiet = on", "ProcessLevel:all = off"):
        pythia.readString(line)
    pythia.init()
    source, p = pythia.getPDFPtr(2212), PARAMETERS
    log_x = np.linspace(np.log(p.mt**2 / p.ecm**2), -1e-6, 801)
    scale2 = (0.5 * p.mt) ** 2
    f = {i: np.array([source.xf(i, x, scale2) for x in np.exp(log_x).tolist()]) for i in FLAVOURS}
    s = p.ecm**2 * np.exp(log_x[:, None] + log_x)
    reach = np.maximum(s - p.mt**2, 0.0)
    part = np.zeros_like(s), np.zeros_like(s)
    for z in (np.arange(200) + 0.5) / 200:
        t = p.mw**2 - p.mw ** (2 - 2 * z) * (p.mw**2 + reach) ** z
        measure = (p.mw**2 - t) * np.log1p(reach / p.mw**2) / (t - p.mw**2) ** 2 / 200
        u = p.mt**2 - s - t
        part[0][:] += measure * reach / s
        part[1][:] += measure * np.maximum(u * (u - p.mt**2), 0.0) / s**2
    up, down = f[2] + f[4], f[-1] + f[-3]
    anti_up, anti_down = f[-2] + f[-4], f[1] + f[3]
    by_class = np.outer(up, f[5]) + np.outer(anti_up, f[-5]), np.outer(down, f[5]) + np.outer(anti_down, f[-5])
    density = sum(a * b for a, b in zip(part, by_class, strict=True))
    total = simpson(simpson(density, x=log_x), x=log_x)
    total *= 2 * np.pi * p.alpha_w**2 / 4 * 0.3893793721e9
    generator = SingleTop()
    assert generator.sigma_pb == pytest.approx(total, rel=0.005)
    assert generator.sigma_pb == pytest.approx(179.0, abs=1.0)
    assert generator.sigma_error_pb < 0.002 * generator.sigma_pb
    assert SingleTop(charge=1).sigma_pb / SingleTop(charge=-1).sigma_pb == pytest.approx(1.70, abs=0.02)


@pytest.mark.pythia
def test_pythia_showers_the_events() -> None:
    script = validation()
    result = script.shower_summary(SingleTop(), 300)
    assert result["failed"] == 0
    assert result["imbalance"] < 1e-3
    assert result["cos_lq_after"] == pytest.approx(result["cos_lq_before"], abs=0.03)


@pytest.mark.pythia
def test_distributions_agree_with_madgraph() -> None:
    script = validation()
    generator = SingleTop(script.MADGRAPH)
    ours = script.from_events(generator.generate(60_000, np.random.default_rng(script.SEED)))
    with np.load(ROOT / "tests" / "data" / "single_top_madgraph.npz") as file:
        table = script.compare(ours, {name: file[name] for name in file.files})
    assert len(table) == 21
    assert {name: row["p"] for name, row in table.items() if row["p"] < 0.01} == {}
    sigma, error = script.MADGRAPH_PB
    assert generator.sigma_decayed_pb == pytest.approx(sigma, abs=4 * error)
