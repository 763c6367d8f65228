"""The 43 observables against arithmetic by hand, against `vector`, and under their symmetries."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import vector
from hypothesis import given, settings
from hypothesis import strategies as st

from hepkan.errors import UsageError
from hepkan.physics.event import OBJECT_COLUMNS, W_MASS, Event
from hepkan.physics.observables import OBSERVABLES, compute

Objects = dict[str, np.ndarray]

NAMES = """
    lep_pt lep_eta lep_charge met_pt bjet_pt bjet_eta bjet_mass ljet_pt ljet_eta ljet_mass w_mt w_pt w_y nu_pz
    nu_disc dphi_lep_met top_mass top_pt top_y m_lb top_mt m_bj pt_bj dr_bj deta_bj dphi_bj ht_jets dr_lep_b
    dr_lep_j deta_lep_b m_lj dphi_met_b dphi_met_j lep_ptrel st shat_sqrt pt_sys met_sig centrality
    cos_theta_pol cos_theta_w event_c aplanarity
""".split()  # noqa: SIM905

ODD = {"lep_eta", "bjet_eta", "ljet_eta", "w_y", "nu_pz", "top_y"}
"""Change their sign when z does."""

BOOST_DEPENDENT = {
    *ODD, "nu_disc", "top_mass", "shat_sqrt", "lep_ptrel", "centrality", "cos_theta_pol", "cos_theta_w",
    "event_c", "aplanarity",
}  # fmt: skip
"""Need pz of something, or momenta in the laboratory; the rest is the same after a boost along the beam."""


def events(n: int = 2000, seed: int = 1, jet_mass: float = 8.0) -> Objects:
    """Return events of plausible size with tails."""
    rng = np.random.default_rng(seed)
    columns: Objects = {"lep_charge": rng.choice([-1.0, 1.0], n)}
    for kind, scale, width in (("lep", 50, 1.0), ("bjet", 70, 1.0), ("ljet", 70, 2.0), ("met", 50, 0.0)):
        columns[f"{kind}_pt"] = 20 + rng.exponential(scale, n)
        columns[f"{kind}_phi"] = rng.uniform(-np.pi, np.pi, n)
        if width:
            columns[f"{kind}_eta"] = rng.normal(0, width, n)
        if "jet" in kind:
            columns[f"{kind}_mass"] = rng.exponential(jet_mass, n) if jet_mass else np.zeros(n)
    return columns


def four_vectors(objects: Objects) -> dict[str, vector.VectorNumpy4D]:
    """Return lepton, b, j, MET and the neutrino of `compute` as objects of `vector`."""

    def build(kind: str, mass: np.ndarray) -> vector.VectorNumpy4D:
        keys = {key: objects[f"{kind}_{key}"] for key in ("pt", "eta", "phi")}
        return vector.array({**keys, "mass": mass})

    zero = np.zeros_like(objects["lep_pt"])
    result = {"l": build("lep", zero), "b": build("bjet", objects["bjet_mass"])}
    result["j"] = build("ljet", objects["ljet_mass"])
    px, py = (objects["met_pt"] * f(objects["met_phi"]) for f in (np.cos, np.sin))
    pz = compute(objects, ["nu_pz"])["nu_pz"]
    result["met"] = vector.array({"px": px, "py": py, "pz": zero, "E": np.hypot(px, py)})
    result["nu"] = vector.array({"px": px, "py": py, "pz": pz, "E": np.sqrt(px**2 + py**2 + pz**2)})
    return result


def change(objects: Objects, field: str, function: Callable[[np.ndarray], np.ndarray]) -> Objects:
    """Apply a function to all columns that end in `_<field>`."""
    return {name: function(v) if name.endswith(f"_{field}") else v for name, v in objects.items()}


def close(a: np.ndarray, b: np.ndarray, scale: np.ndarray | float = 1.0, tolerance: float = 1e-9) -> bool:
    """Whether two arrays agree within the tolerance times `scale` plus their size."""
    return bool(np.all(np.abs(a - b) <= tolerance * (np.abs(scale) + np.abs(a) + np.abs(b))))


def test_names_and_order() -> None:
    assert len(NAMES) == 43
    assert list(OBSERVABLES) == NAMES
    assert list(compute(events(3))) == NAMES
    for name, one in OBSERVABLES.items():
        assert one.name == name
        assert one.unit in {"", "GeV", "GeV^0.5", "rad"}
        assert one.definition and one.label.startswith("$") and one.label.endswith("$")
    assert len({one.label for one in OBSERVABLES.values()}) == 43


def test_labels_are_mathtext() -> None:
    from matplotlib.mathtext import MathTextParser

    parser = MathTextParser("path")
    for one in OBSERVABLES.values():
        assert parser.parse(one.label)[0] > 0, one.name


def test_one_event_by_hand() -> None:
    """l along x (50), MET along y (40), b along -x (100), j = (0, -80, 60) with eta = asinh(3/4)."""
    objects = {
        "lep_pt": 50.0, "lep_eta": 0.0, "lep_phi": 0.0, "lep_charge": -1.0,
        "met_pt": 40.0, "met_phi": math.pi / 2,
        "bjet_pt": 100.0, "bjet_eta": 0.0, "bjet_phi": math.pi, "bjet_mass": 0.0,
        "ljet_pt": 80.0, "ljet_eta": math.asinh(0.75), "ljet_phi": -math.pi / 2, "ljet_mass": 0.0,
    }  # fmt: skip
    got = {name: v[0] for name, v in compute({name: np.array([v]) for name, v in objects.items()}).items()}
    reach = W_MASS**2 / 2 / 50  # L / pT(l), as pT(l).MET = 0; A = 0, D = reach^2 - 40^2
    disc = math.sqrt(reach**2 - 1600)
    e_nu = math.hypot(40, disc)
    assert e_nu == pytest.approx(reach)
    top = np.array([-50.0, 40.0, -disc])
    e_top = 150 + e_nu
    m_top = math.sqrt(e_top**2 - top @ top)
    jet = np.array([0.0, -80.0, 60.0])
    eta_j = math.asinh(0.75)
    gamma = e_top / m_top

    def in_top_frame(p: np.ndarray) -> np.ndarray:
        """Boost a massless momentum by -beta of the top."""
        beta = top / e_top
        along = p @ beta
        return p + ((gamma - 1) * along / (beta @ beta) - gamma * math.hypot(*p)) * beta

    lepton_star, jet_star = in_top_frame(np.array([50.0, 0, 0])), in_top_frame(jet)
    cos_pol = lepton_star @ jet_star / (np.linalg.norm(lepton_star) * np.linalg.norm(jet_star))
    tensor = np.diag([2500.0 + 10000.0, 6400.0 + 1600.0, 3600.0])  # sums of p_a^2, then p_y p_z of the jet
    tensor[1, 2] = tensor[2, 1] = -80.0 * 60.0
    l1, l2, l3 = sorted(np.linalg.eigvals(tensor / np.trace(tensor)))
    by_hand = {
        "lep_charge": -1, "w_mt": math.sqrt(2 * 50 * 40), "w_pt": math.hypot(50, 40),
        "nu_pz": -disc, "nu_disc": disc,
        "w_y": 0.5 * math.log((50 + e_nu - disc) / (50 + e_nu + disc)), "dphi_lep_met": math.pi / 2,
        "top_mass": m_top, "top_pt": math.hypot(50, 40), "top_y": math.atanh(-disc / e_top),
        "m_lb": math.sqrt(4 * 50 * 100), "top_mt": math.sqrt((150 + 40) ** 2 - 50**2 - 40**2),
        "m_bj": math.sqrt(2 * 100 * 100), "pt_bj": math.hypot(100, 80),
        "dr_bj": math.hypot(eta_j, math.pi / 2),
        "deta_bj": eta_j, "dphi_bj": math.pi / 2, "ht_jets": 180, "dr_lep_b": math.pi, "deta_lep_b": 0,
        "dr_lep_j": math.hypot(eta_j, math.pi / 2), "m_lj": math.sqrt(2 * 50 * 100),
        "dphi_met_b": math.pi / 2,
        "dphi_met_j": math.pi, "lep_ptrel": 50, "st": 270, "pt_sys": math.hypot(50, 40),
        "shat_sqrt": math.sqrt((e_top + 100) ** 2 - 50**2 - 40**2 - (60 - disc) ** 2),
        "met_sig": 40 / math.sqrt(230), "centrality": 230 / 250, "cos_theta_pol": cos_pol,
        "event_c": 3 * (l1 * l2 + l1 * l3 + l2 * l3), "aplanarity": 1.5 * l1,
        # In the W frame E(l) E(b) (1 - cos) = m(lb)^2 / 2, E(l) = mW / 2, E(b) = (mt^2 - mW^2) / (2 mW).
        "cos_theta_w": -(1 - 2 * 4 * 50 * 100 / (m_top**2 - W_MASS**2)),
    }  # fmt: skip
    for name, value in by_hand.items():
        assert got[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
    assert set(got) - set(by_hand) == {
        name for name in NAMES if name in OBJECT_COLUMNS and name != "lep_charge"
    }


def test_against_vector() -> None:
    objects = events(5000)
    p = four_vectors(objects)
    got = compute(objects)
    lepton, b, j, nu, met = (p[name] for name in ("l", "b", "j", "nu", "met"))
    w, top, lb = lepton + nu, lepton + nu + b, lepton + b
    nearer = lepton.deltaR(b) <= lepton.deltaR(j)
    axis = vector.array(
        {key: np.where(nearer, getattr(b, key), getattr(j, key)) for key in ("px", "py", "pz")}
    )
    l_top, j_top = lepton.boostCM_of_p4(top), j.boostCM_of_p4(top)
    l_w, b_w = lepton.boostCM_of_p4(w), top.boostCM_of_p4(w)
    expected = {
        "w_mt": np.sqrt(2 * lepton.pt * met.pt * (1 - np.cos(lepton.deltaphi(met)))),
        "w_pt": w.pt,
        "w_y": w.rapidity,
        "dphi_lep_met": np.abs(lepton.deltaphi(met)),
        "top_mass": top.mass,
        "top_pt": top.pt,
        "top_y": top.rapidity,
        "m_lb": lb.mass,
        "top_mt": np.sqrt((np.hypot(lb.mass, lb.pt) + met.pt) ** 2 - top.pt**2),
        "m_bj": (b + j).mass,
        "pt_bj": (b + j).pt,
        "dr_bj": b.deltaR(j),
        "deta_bj": np.abs(b.deltaeta(j)),
        "dphi_bj": np.abs(b.deltaphi(j)),
        "dr_lep_b": lepton.deltaR(b),
        "dr_lep_j": lepton.deltaR(j),
        "deta_lep_b": np.abs(lepton.deltaeta(b)),
        "m_lj": (lepton + j).mass,
        "dphi_met_b": np.abs(met.deltaphi(b)),
        "dphi_met_j": np.abs(met.deltaphi(j)),
        "lep_ptrel": lepton.to_Vector3D().cross(axis).mag / axis.mag,
        "shat_sqrt": (top + j).mass,
        "pt_sys": (top + j).pt,
        "centrality": (lepton.pt + b.pt + j.pt) / (lepton.mag + b.mag + j.mag),
        "cos_theta_pol": np.cos(l_top.deltaangle(j_top)),
        "cos_theta_w": -np.cos(l_w.deltaangle(b_w)),
    }
    for name, values in expected.items():
        assert close(got[name], values, scale=1.0, tolerance=1e-7), name


def test_neutrino_as_defined() -> None:
    """The formulas of the definition, not rearranged; the smaller |pz| of two solutions."""
    objects = events(5000)
    p, got = four_vectors(objects), compute(objects, ["nu_pz", "nu_disc", "w_mt"])
    lepton, met = p["l"], p["met"]
    L = W_MASS**2 / 2 + lepton.px * met.px + lepton.py * met.py
    A = L * lepton.pz / lepton.pt**2
    D = A**2 - (lepton.E**2 * met.pt**2 - L**2) / lepton.pt**2
    assert 0.1 < np.mean(D < 0) < 0.9
    assert close(got["nu_disc"], np.sign(D) * np.sqrt(np.abs(D)), scale=np.abs(A) + 1, tolerance=1e-6)
    both = np.stack([A - np.sqrt(np.maximum(D, 0)), A + np.sqrt(np.maximum(D, 0))])
    smaller = np.where(np.abs(both[0]) < np.abs(both[1]), both[0], both[1])
    assert close(got["nu_pz"], np.where(D >= 0, smaller, A), scale=np.abs(A) + 1, tolerance=1e-6)
    assert np.array_equal(got["nu_disc"] < 0, got["w_mt"] > W_MASS)


def test_w_has_its_mass_where_the_equation_has_a_solution() -> None:
    objects = events(5000)
    event = Event(objects)
    mass = np.sqrt(event.mass_squared("ln"))
    solvable = event.discriminant >= 0
    assert np.allclose(mass[solvable], W_MASS, rtol=1e-9)
    assert np.all(mass[~solvable] >= W_MASS * (1 - 1e-9))


def test_momentum_tensor_as_defined() -> None:
    objects = events(3000)
    p, got = four_vectors(objects), compute(objects, ["event_c", "aplanarity"])
    momenta = np.stack([[p[k].px, p[k].py, p[k].pz] for k in ("l", "b", "j", "met")])
    tensor = np.einsum("kan,kbn->nab", momenta, momenta) / np.sum(momenta**2, axis=(0, 1))[:, None, None]
    low, mid, high = np.sort(np.linalg.eigvals(tensor).real, axis=-1).T
    assert close(got["event_c"], 3 * (low * mid + low * high + mid * high))
    assert close(got["aplanarity"], 1.5 * low)
    assert got["event_c"].min() >= 0 and got["event_c"].max() <= 1
    assert got["aplanarity"].min() >= 0 and got["aplanarity"].max() <= 0.5


def test_rotation_about_the_beam() -> None:
    objects = events()
    turned = change(objects, "phi", lambda phi: np.remainder(phi + 2.1 + np.pi, 2 * np.pi) - np.pi)
    before, after = compute(objects), compute(turned)
    for name in NAMES:
        assert close(before[name], after[name], tolerance=1e-8), name


def test_reflections() -> None:
    objects = events()
    before = compute(objects)
    along_z = compute(change(objects, "eta", np.negative))
    across = compute(change(objects, "phi", np.negative))
    for name in NAMES:
        sign = -1 if name in ODD else 1
        assert close(sign * before[name], along_z[name], tolerance=1e-10), name
        assert close(before[name], across[name], tolerance=1e-10), name


@pytest.mark.parametrize("shift", [-2.0, 0.7, 3.0])
def test_longitudinal_boost(shift: float) -> None:
    """With massless jets a boost adds to every pseudorapidity and changes nothing transverse."""
    objects = events(jet_mass=0.0)
    boosted = change(objects, "eta", lambda eta: eta + shift)
    before, after = compute(objects), compute(boosted)
    for name in set(NAMES) - BOOST_DEPENDENT:
        assert close(before[name], after[name], tolerance=1e-8), name
    for name in ("lep_eta", "bjet_eta", "ljet_eta"):
        assert close(before[name] + shift, after[name]), name
    assert np.array_equal(before["nu_disc"] < 0, after["nu_disc"] < 0)


def test_boost_exchanges_the_two_neutrinos_at_most() -> None:
    """Which |pz| is smaller depends on the frame: the top mass stays or is that of the other root."""
    objects = events(jet_mass=0.0)
    p, before = four_vectors(objects), compute(objects)
    solvable = before["nu_disc"] > 1.0
    lepton, nu = p["l"], p["nu"]
    A = (W_MASS**2 / 2 + lepton.px * nu.px + lepton.py * nu.py) * lepton.pz / lepton.pt**2
    pz = 2 * A - nu.pz  # the other root
    energy = np.sqrt(nu.px**2 + nu.py**2 + pz**2)
    other = (lepton + p["b"] + vector.array({"px": nu.px, "py": nu.py, "pz": pz, "E": energy})).mass
    after = compute(change(objects, "eta", lambda eta: eta + 1.5))["top_mass"]
    same = np.isclose(after, before["top_mass"], rtol=1e-6)
    exchanged = np.isclose(after, other, rtol=1e-6)
    assert np.all((same | exchanged)[solvable])
    assert 0.05 < np.mean(exchanged[solvable]) < 0.95


def test_extreme_kinematics_keep_their_digits() -> None:
    """Collinear and very forward pairs, where E1 E2 - p1.p2 in float64 has no digits left."""
    n, tiny = 50, 1e-7
    objects = events(n, jet_mass=0.0)
    objects["ljet_eta"] = np.linspace(-9, 9, n)
    objects["bjet_eta"], objects["bjet_phi"] = objects["ljet_eta"], objects["ljet_phi"] + tiny
    got = compute(objects, ["m_bj", "dr_bj", "dphi_bj"])
    expected = 2 * np.sqrt(objects["bjet_pt"] * objects["ljet_pt"]) * np.sin(tiny / 2)
    assert np.allclose(got["m_bj"], expected, rtol=1e-6)
    assert np.allclose(got["dphi_bj"], tiny, rtol=1e-6)


momenta = st.one_of(st.sampled_from([0.0, 5e-324, 1e-30, 1e-12, 40.0, 1e8, 3e38, 1e308]), st.floats(0, 1e4))
angles = st.one_of(st.sampled_from([0.0, np.pi, -np.pi, 1e-9, 1e9, -1e308]), st.floats(-4, 4))
rapidities = st.one_of(st.sampled_from([0.0, 12.0, -25.0, 700.0, -1e308]), st.floats(-6, 6))
by_kind = {
    "pt": momenta,
    "mass": momenta,
    "eta": rapidities,
    "phi": angles,
    "charge": st.sampled_from([-1.0, 1.0]),
}
hostile = st.fixed_dictionaries({name: by_kind[name.split("_")[1]] for name in OBJECT_COLUMNS})


@settings(max_examples=400, deadline=None)
@given(hostile)
def test_finite_objects_give_finite_observables(one: dict[str, float]) -> None:
    got = compute({name: np.array([value]) for name, value in one.items()})
    for name, values in got.items():
        assert np.isfinite(values).all(), (name, values)
    for name in ("cos_theta_pol", "cos_theta_w"):
        assert abs(got[name][0]) <= 1


def test_nothing_at_all_is_finite() -> None:
    got = compute({name: np.zeros(2) for name in OBJECT_COLUMNS})
    assert all(np.isfinite(values).all() for values in got.values())


def test_nan_stays_in_its_event() -> None:
    objects = events(4)
    clean = compute(objects)
    objects["bjet_pt"] = objects["bjet_pt"].copy()
    objects["bjet_pt"][2] = np.nan
    dirty = compute(objects)
    assert np.isnan(dirty["top_mass"][2]) and np.isnan(dirty["event_c"][2])
    keep = [0, 1, 3]
    assert all(np.array_equal(clean[name][keep], dirty[name][keep]) for name in NAMES)


def test_part_of_the_observables_needs_part_of_the_columns() -> None:
    objects = events(5)
    some = {name: objects[name] for name in ("lep_pt", "lep_eta", "lep_phi", "met_pt", "met_phi")}
    assert list(compute(some, ["nu_pz", "w_mt"])) == ["nu_pz", "w_mt"]
    single = compute({name: v.astype(np.float32) for name, v in some.items()}, ["w_mt"])["w_mt"]
    assert single.dtype == np.float64


def test_errors_name_the_column() -> None:
    objects = events(5)
    with pytest.raises(UsageError, match="top_mass"):
        compute(objects, ["top_masss"])
    with pytest.raises(UsageError, match="bjet_mass"):
        compute({name: v for name, v in objects.items() if name != "bjet_mass"})
    with pytest.raises(UsageError, match="one shape"):
        compute({**objects, "met_pt": objects["met_pt"][:3]})
