"""Compare single top with a scalar mediator with MadGraph, and shower some events of both mediators.

    python validation/top_phi.py path/to/single_top_phi125_mu149.lhe.gz path/to/single_top_phi125_undecayed.lhe.gz

writes results/top_phi.{json,png} and, with --reference, the file that the tests compare with. The reference is
MadGraph5_aMC@NLO 2.5.3, p p > t j phi (+ t~), t > b l nu (e, mu) or undecayed, 13 TeV, no cuts, NNPDF2.3 LO,
m_phi = 125 GeV, muR = muF = 149 GeV.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kstest
from single_top_madgraph import ORDER, compare, observables, plot, read_lhe

from hepkan.physics import chunks
from hepkan.physics.detector import simulate
from hepkan.physics.parton_densities import from_pythia
from hepkan.physics.processes import get_process
from hepkan.physics.selection import Selection, select
from hepkan.physics.top_decay import boost, decay_axis, dot
from hepkan.physics.top_phi import TopPhi
from hepkan.physics.top_phi_amplitude import MEDIATORS, TopPhiParameters, radiation_slope, radiator
from hepkan.physics.top_phi_events import TopPhiEvents

HERE = Path(__file__).parent
SEED = 20241124
EVENTS = 1_000_000
MADGRAPH = TopPhiParameters(
    mt=173.0, mw=80.419, width_t=1.4915, width_w=2.0476, gf=1.16639e-5, leptons=(11, 13), m_phi=125.0, mu_f=149.0
)
DECAYED_PB, UNDECAYED_PB = (0.04176, 0.00017), (0.1940, 0.0014)
MASSES = (10.0, 20.0, 50.0, 100.0, 125.0, 200.0, 300.0, 500.0, 1000.0)
UNDECAYED_ORDER = ("incoming1", "incoming2", "top", "light", "mediator")
COMPARED = (
    "pt_mediator", "eta_mediator", "pt_top", "eta_top", "pt_bottom", "eta_bottom", "pt_lepton", "eta_lepton",
    "pt_neutrino", "eta_neutrino", "pt_light", "abs_eta_light", "m_lb", "cos_lq", "m_top_mediator", "pt_invisible",
)  # fmt: skip
FURTHER = ("cos_l_down", "cos_l_w", "dphi_lq", "dphi_top_mediator", "m_t", "m_w", "y_system", "log_root_s")
UNDECAYED = ("pt_mediator", "eta_mediator", "pt_top", "eta_top", "pt_light", "abs_eta_light", "m_top_mediator")
RANGES: dict[str, tuple[float, float]] = {
    "pt_mediator": (0, 400), "eta_mediator": (-6, 6), "pt_top": (0, 400), "eta_top": (-6, 6), "pt_bottom": (0, 250),
    "eta_bottom": (-5, 5), "pt_lepton": (0, 250), "eta_lepton": (-5, 5), "pt_neutrino": (0, 250),
    "eta_neutrino": (-5, 5), "pt_light": (0, 300), "abs_eta_light": (0, 6), "m_lb": (0, 200), "cos_lq": (-1, 1),
    "m_top_mediator": (290, 1200), "pt_invisible": (0, 400), "cos_l_down": (-1, 1), "cos_l_w": (-1, 1),
    "dphi_lq": (0, np.pi), "dphi_top_mediator": (0, np.pi),
}  # fmt: skip


def from_momenta(p: dict[str, np.ndarray], ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return the observables (n,) of four-vectors (n, 4) by name; without a decay those of `UNDECAYED` only."""
    result = {
        "pt_mediator": _pt(p["mediator"]),
        "eta_mediator": _eta(p["mediator"]),
        "m_top_mediator": np.sqrt(dot(p["top"] + p["mediator"], p["top"] + p["mediator"])),
    }
    if "lepton" not in p:
        for name in ("top", "light"):
            result |= {f"pt_{name}": _pt(p[name]), f"eta_{name}": _eta(p[name])}
        result["abs_eta_light"] = np.abs(result["eta_light"])
        return {name: result[name] for name in UNDECAYED}
    turn = np.arctan2(p["top"][:, 1], p["top"][:, 0]) - np.arctan2(p["mediator"][:, 1], p["mediator"][:, 0])
    result["dphi_top_mediator"] = np.abs((turn + np.pi) % (2 * np.pi) - np.pi)
    result["pt_invisible"] = _pt(p["neutrino"] + p["mediator"])
    result |= observables(p, ids, np.zeros(len(ids)))
    return {name: result[name] for name in (*COMPARED, *FURTHER)}


def from_lhe(path: Path, order: tuple[str, ...]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the observables of an LHE file, and the charge of its tops."""
    ids, p, _ = read_lhe(path)
    return from_momenta(dict(zip(order, np.moveaxis(p, 1, 0), strict=True)), ids[:, :2]), np.sign(ids[:, 2])


def from_events(events: TopPhiEvents) -> dict[str, np.ndarray]:
    """Return the observables of generated events."""
    return from_momenta({name: getattr(events, name) for name in (*ORDER, "mediator")}, events.pdg_ids[:, :2])


def structure(path: Path, parameters: TopPhiParameters) -> dict[str, float]:
    """Hold MadGraph's events to two exact laws of the matrix element, each at the event's own production momenta.

    In the frame of the top the lepton follows (1 - c) / 2 around V; in the frame of t phi the top follows
    (1 + k c) / 2 around the down-type quark. Returns the Kolmogorov-Smirnov p-value of both, and the mean of c in
    the first, which is -1/3.
    """
    ids, momenta, _ = read_lhe(path)
    p = dict(zip((*ORDER, "mediator"), np.moveaxis(momenta, 1, 0), strict=True))
    bottom_first = np.abs(ids[:, 0]) == 5
    quark_in = np.where(bottom_first[:, None], p["incoming2"], p["incoming1"])
    up_in = np.where(bottom_first, ids[:, 1], ids[:, 0]) % 2 == 0
    down = np.where(up_in[:, None], p["light"], quark_in)
    axis = decay_axis(radiator(p["top"], p["mediator"], parameters), down)
    decay = _cos(p["lepton"], axis, p["top"])
    virtual = p["top"] + p["mediator"]
    slope = radiation_slope(dot(virtual, virtual), dot(p["top"], p["top"]), parameters)
    turn = _cos(p["top"], down, virtual)
    uniform = 0.5 * (turn + 1.0) + 0.25 * slope * (turn**2 - 1.0)
    return {
        "decay_p": float(kstest(decay, lambda c: 1.0 - 0.25 * (1.0 - c) ** 2).pvalue),
        "decay_mean": float(decay.mean()),
        "decay_mean_error": float(decay.std() / np.sqrt(len(decay))),
        "radiation_p": float(kstest(uniform, "uniform").pvalue),
    }


def masses() -> list[dict[str, Any]]:
    """Return cross-sections (pb, undecayed), efficiency and speed for each mediator and mass, default parameters."""
    rows = []
    for mediator in MEDIATORS:
        for mass in MASSES:
            start = time.process_time()
            generator = TopPhi(TopPhiParameters(mediator=mediator, m_phi=mass))
            ready = time.process_time()
            generator.generate(50_000, np.random.default_rng(SEED))
            rows.append({
                "mediator": mediator, "m_phi": mass, "sigma_pb": generator.sigma_pb,
                "error_pb": generator.sigma_error_pb, "efficiency": round(generator.efficiency, 3),
                "survey_seconds": round(ready - start, 2),
                "events_per_second": round(50_000 / (time.process_time() - ready)),
            })  # fmt: skip
    return rows


def shower_summary(name: str, slice_name: str, batches: int) -> dict[str, Any]:
    """Shower and reconstruct a few batches of a process card: speed, selected share, missing against invisible pt."""
    card = get_process(name)
    piece = next(piece for piece in card.slices if piece.name == slice_name)
    rng = np.random.default_rng(SEED)
    attempts = rows = 0
    residual, invisible = [], []
    with chunks.silent_stdout():
        source = chunks.GENERATORS[card.generator](card, piece, SEED)
        next(source)
        start = time.process_time()
        for batch in (next(source) for _ in range(batches)):
            reco = simulate(batch.particles, rng)
            attempts += batch.attempts
            rows += len(select(reco, Selection(), card.region, rng))
            truth = batch.truth["true_neutrino_px"] + batch.truth["true_mediator_px"]
            residual.append(reco.met_pt * np.cos(reco.met_phi) - truth)
            invisible.append(truth)
    seconds = time.process_time() - start
    return {
        "process": name, "slice": slice_name, "events": attempts, "selected": rows,
        "events_per_second": round(attempts / seconds), "selected_per_second": round(rows / seconds),
        "missing_px_minus_true_std": float(np.std(np.concatenate(residual))),
        "missing_px_correlation": float(
            np.corrcoef(np.concatenate(invisible), np.concatenate(residual) + np.concatenate(invisible))[0, 1]
        ),
    }  # fmt: skip


def summary(decayed: Path, undecayed: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the whole comparison, and the observables of both sides with the decay."""
    reference, charge = from_lhe(decayed, (*ORDER, "mediator"))
    stable, _ = from_lhe(undecayed, UNDECAYED_ORDER)
    pdf = from_pythia()
    generator = TopPhi(MADGRAPH, pdf=pdf)
    start = time.process_time()
    events = generator.generate(EVENTS, np.random.default_rng(SEED))
    seconds = time.process_time() - start
    ours = from_events(events)
    top_fraction = float(np.mean(events.pdg_ids[:, 2] > 0))
    result = {
        "reference": {
            "decayed": {"file": decayed.name, "events": len(charge), "sigma_pb": DECAYED_PB},
            "undecayed": {"file": undecayed.name, "events": len(stable["pt_top"]), "sigma_pb": UNDECAYED_PB},
        },
        "seed": SEED,
        "events": EVENTS,
        "events_per_second": round(EVENTS / seconds),
        "efficiency": generator.efficiency,
        "sigma_decayed_pb": generator.sigma_decayed_pb,
        "sigma_undecayed_pb": generator.sigma_pb,
        "sigma_undecayed_error_pb": generator.sigma_error_pb,
        "charge_ratio": top_fraction / (1 - top_fraction),
        "madgraph_charge_ratio": float(np.mean(charge > 0) / np.mean(charge < 0)),
        "structure": {mediator: structure(decayed, replace(MADGRAPH, mediator=mediator)) for mediator in MEDIATORS},
        "masses": masses(),
        "ks": compare(ours, reference),
        "ks_undecayed": compare(ours, stable),
    }
    return result, ours, reference


def main() -> None:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decayed", type=Path, help="single_top_phi125_mu149.lhe.gz of the reference")
    parser.add_argument("undecayed", type=Path, help="single_top_phi125_undecayed.lhe.gz of the reference")
    parser.add_argument("--batches", type=int, default=4, help="batches of 250 events to shower (default 4)")
    parser.add_argument("--reference", type=Path, help="also write the reference observables of the tests (.npz)")
    options = parser.parse_args()
    result, ours, reference = summary(options.decayed, options.undecayed)
    result["shower"] = [shower_summary(name, "m300", options.batches) for name in ("top_phi", "top_phi_pseudoscalar")]
    plot(
        HERE / "results" / "top_phi.png", ours, reference, result["ks"], RANGES,
        "t-channel single top + scalar mediator of 125 GeV",
    )  # fmt: skip
    (HERE / "results" / "top_phi.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.reference:
        stable, _ = from_lhe(options.undecayed, UNDECAYED_ORDER)
        columns = {name: reference[name] for name in COMPARED} | {f"undecayed_{k}": v for k, v in stable.items()}
        np.savez_compressed(options.reference, **{name: _short(values) for name, values in columns.items()})
    for key in ("ks", "ks_undecayed"):
        for name, row in result.pop(key).items():
            means = f"{row['mean']:9.4f} {row['madgraph_mean']:9.4f}"
            print(f"{key} {name:18s} KS {row['ks']:.4f}  p {row['p']:.3f}  mean {means}")
    print(json.dumps(result, indent=1))


def _short(values: np.ndarray) -> np.ndarray:
    """Return float32 with 13 bits of mantissa, which compress well and lie within 1e-4 of the values."""
    bits = values.astype(np.float32).view(np.uint32)
    return np.asarray(((bits + (1 << 9)) & np.uint32(0xFFFFFC00)).view(np.float32))


def _pt(p: np.ndarray) -> np.ndarray:
    return np.hypot(p[:, 0], p[:, 1])


def _cos(p: np.ndarray, q: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return the cosine between p and q in the rest frame of `frame`, (n,)."""
    a, b = boost(p, frame, -1.0)[:, :3], boost(q, frame, -1.0)[:, :3]
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def _eta(p: np.ndarray) -> np.ndarray:
    return np.arcsinh(p[:, 2] / _pt(p))


if __name__ == "__main__":
    main()
