"""Compare the single-top generator with MadGraph, and shower some of its events.

    python validation/single_top_madgraph.py path/to/single_top.lhe.gz

writes results/single_top_madgraph.{json,png} and, with --reference, the file that the tests compare with. The reference
is MadGraph5_aMC@NLO 2.5.3, p p > t j (+ t~), t > b l nu (e, mu), 13 TeV, no cuts, NNPDF2.3 LO, default dynamical scale.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from hepkan.errors import require
from hepkan.physics.single_top import Parameters, SingleTop, SingleTopEvents, lhaup, pythia_settings
from hepkan.physics.top_decay import boost, dot

HERE = Path(__file__).parent
SEED = 20240713
EVENTS = 400_000
MADGRAPH = Parameters(
    mt=173.0, mw=80.419, width_t=1.4915, width_w=2.0476, gf=1.16639e-5, scale="madgraph", leptons=(11, 13)
)
MADGRAPH_PB = (44.25, 0.14)
ORDER = ("incoming1", "incoming2", "top", "w", "lepton", "neutrino", "bottom", "light")
RANGES = {
    "pt_top": (0, 300), "eta_top": (-6, 6), "y_top": (-4, 4), "pt_lepton": (0, 200), "eta_lepton": (-5, 5),
    "pt_neutrino": (0, 200), "eta_neutrino": (-5, 5), "pt_bottom": (0, 200), "eta_bottom": (-5, 5),
    "pt_light": (0, 200), "abs_eta_light": (0, 6), "m_lb": (0, 200), "cos_lq": (-1, 1), "cos_l_down": (-1, 1),
    "cos_l_w": (-1, 1), "m_t": (160, 186), "m_w": (65, 95), "y_system": (-4, 4), "log_root_s": (5, 8),
    "dphi_lq": (0, math.pi),
}  # fmt: skip


def read_lhe(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return PDG numbers (n, 8), four-vectors (n, 8, 4) in the order of `ORDER`, and SCALUP (n,)."""
    ids, momenta, scale = [], [], []
    with gzip.open(path, "rt") as file:
        for line in file:
            if line.startswith("<event>"):
                head = next(file).split()
                rows = [next(file).split() for _ in range(int(head[0]))]
                scale.append(float(head[3]))
                ids.append([int(row[0]) for row in rows])
                momenta.append([[float(x) for x in row[6:10]] for row in rows])
    return np.array(ids), np.array(momenta), np.array(scale)


def from_lhe(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the observables of an LHE file, and the charge of its tops."""
    ids, p, scale = read_lhe(path)
    return observables(dict(zip(ORDER, np.moveaxis(p, 1, 0), strict=True)), ids[:, :2], scale), np.sign(ids[:, 2])


def from_events(events: SingleTopEvents) -> dict[str, np.ndarray]:
    """Return the observables of generated events."""
    return observables({name: getattr(events, name) for name in ORDER}, events.pdg_ids[:, :2], events.scale)


def observables(p: dict[str, np.ndarray], incoming: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Return parton-level observables (n,) of four-vectors (n, 4): GeV, radians, rapidities, cosines."""
    result = {f"pt_{name}": _pt(p[name]) for name in ("top", "lepton", "neutrino", "bottom", "light")}
    result |= {f"eta_{name}": _eta(p[name]) for name in ("top", "lepton", "neutrino", "bottom")}
    light_id = np.where(np.abs(incoming[:, 0]) == 5, incoming[:, 1], incoming[:, 0])
    quark_in = np.where((np.abs(incoming[:, 0]) == 5)[:, None], p["incoming2"], p["incoming1"])
    down = np.where((light_id % 2 == 0)[:, None], p["light"], quark_in)
    system = p["incoming1"] + p["incoming2"]
    turn = np.arctan2(p["lepton"][:, 1], p["lepton"][:, 0]) - np.arctan2(p["light"][:, 1], p["light"][:, 0])
    return result | {
        "abs_eta_light": np.abs(_eta(p["light"])),
        "y_top": np.arctanh(p["top"][:, 2] / p["top"][:, 3]),
        "y_system": np.arctanh(system[:, 2] / system[:, 3]),
        "log_root_s": 0.5 * np.log(dot(system, system)),
        "m_t": _mass(p["bottom"] + p["lepton"] + p["neutrino"]),
        "m_w": _mass(p["lepton"] + p["neutrino"]),
        "m_lb": _mass(p["lepton"] + p["bottom"]),
        "cos_lq": _cos(p["lepton"], p["light"], p["top"]),
        "cos_l_down": _cos(p["lepton"], down, p["top"]),
        "cos_l_w": -_cos(p["lepton"], p["bottom"], p["w"]),
        "dphi_lq": np.abs((turn + np.pi) % (2 * np.pi) - np.pi),
        "scale": scale,
    }


def compare(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return the two-sample Kolmogorov-Smirnov test and both means for each observable."""
    table = {}
    for name in sorted(reference):
        test = ks_2samp(ours[name], reference[name])
        error = float(reference[name].std() / math.sqrt(len(reference[name])))
        table[name] = {
            "ks": float(test.statistic), "p": float(test.pvalue), "mean": float(ours[name].mean()),
            "madgraph_mean": float(reference[name].mean()), "madgraph_mean_error": error,
        }  # fmt: skip
    return table


def cos_after_shower(event: Any) -> float:
    """Return cos(l, q) in the top's frame from the last copies in a Pythia record, q as it left the hard process."""
    hard = {abs(event[i].id()): i for i in range(event.size()) if event[i].statusAbs() == 22}
    quark = next(i for i in range(event.size()) if event[i].statusAbs() == 23 and abs(event[i].id()) < 5)
    top = event[event[hard[6]].iBotCopyId()]
    w = event[event[hard[24]].iBotCopyId()]
    lepton = next(event[i] for i in w.daughterList() if abs(event[i].id()) in (11, 13, 15))
    rows = [np.array([[v.px(), v.py(), v.pz(), v.e()]]) for v in (lepton, event[quark], top)]
    return float(_cos(*rows)[0])


def shower(events: SingleTopEvents) -> Iterator[Any]:
    """Yield the running Pythia after each showered event; multiparton interactions are off."""
    pythia8mc = require("pythia8mc", "generate", "Showering the events")
    source = lhaup(events)
    pythia = pythia8mc.Pythia("", False)
    for line in (*pythia_settings(), "PartonLevel:MPI = off", "Print:quiet = on", "Random:setSeed = on"):
        pythia.readString(line)
    pythia.setLHAupPtr(source)
    pythia.init()
    for _ in range(len(events)):
        if pythia.next():
            yield pythia


def shower_summary(generator: SingleTop, n: int) -> dict[str, float]:
    """Shower `n` events: rate, failures, the worst momentum imbalance (GeV), mean cos(l, q) before and after."""
    events = generator.generate(n, np.random.default_rng(SEED + 1))
    start = time.perf_counter()
    done = sum(1 for _ in shower(events))
    seconds = time.perf_counter() - start
    cosines, imbalance = [], 0.0
    for pythia in shower(events):
        cosines.append(cos_after_shower(pythia.event))
        final = [pythia.event[i].p() for i in range(pythia.event.size()) if pythia.event[i].isFinal()]
        sums = np.sum([(p.px(), p.py(), p.pz(), p.e() - 13000.0 / len(final)) for p in final], axis=0)
        imbalance = max(imbalance, float(np.abs(sums).max()))
    return {
        "events": n, "failed": n - done, "events_per_second": round(done / seconds), "imbalance": imbalance,
        "cos_lq_before": float(from_events(events)["cos_lq"].mean()), "cos_lq_after": float(np.mean(cosines)),
        "cos_lq_error": float(np.std(cosines) / math.sqrt(len(cosines))),
    }  # fmt: skip


def scale_hypotheses(reference: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return, for each guess of (scale^2 of the light density, of the b density), the rate and three KS p-values."""
    guesses = {
        "geometric mean of pt and mT": lambda t, u, pt2, m2: (np.sqrt(pt2 * (m2 + pt2)), np.sqrt(pt2 * (m2 + pt2))),
        "mT of the top": lambda t, u, pt2, m2: (m2 + pt2, m2 + pt2),
        "-t and mt^2 - t": lambda t, u, pt2, m2: (-t, m2 - t),
        "pt and mT": lambda t, u, pt2, m2: (pt2, m2 + pt2),
    }
    table = {}
    for name, guess in guesses.items():
        generator = _WithScales(guess)
        ours = from_events(generator.generate(100_000, np.random.default_rng(SEED)))
        row = {"sigma_decayed_pb": generator.sigma_decayed_pb}
        for key in ("pt_top", "abs_eta_light", "log_root_s"):
            row[f"p_{key}"] = float(ks_2samp(ours[key], reference[key]).pvalue)
        table[name] = row
    return table


class _WithScales(SingleTop):
    """The generator with other factorisation scales."""

    def __init__(self, guess: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
        self.guess = guess
        super().__init__(MADGRAPH)

    def _scales(self, s: np.ndarray, t: np.ndarray, u: np.ndarray, m2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pt2 = np.maximum(t * u / s, 0.0)
        return np.stack(self.guess(t, u, pt2, m2)), pt2 > 4.0


def plot(
    path: Path,
    ours: dict[str, np.ndarray],
    reference: dict[str, np.ndarray],
    table: dict[str, Any],
    ranges: dict[str, tuple[float, float]] = RANGES,
    process: str = "t-channel single top",
) -> None:
    """Draw one panel for each observable: reference with errors, our histogram as a line, their ratio below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 5
    rows = math.ceil(len(ranges) / columns)
    figure = plt.figure(figsize=(3.6 * columns, 3.2 * rows), layout="constrained")
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[3, 1] * rows)
    for k, (name, (low, high)) in enumerate(ranges.items()):
        main = figure.add_subplot(grid[2 * (k // columns), k % columns])
        ratio = figure.add_subplot(grid[2 * (k // columns) + 1, k % columns], sharex=main)
        edges = np.linspace(low, high, 31)
        centres, width = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]
        count = np.histogram(reference[name], edges)[0]
        expected = np.histogram(ours[name], edges)[0] * len(reference[name]) / len(ours[name])
        norm = len(reference[name]) * width
        main.stairs(expected / norm, edges, color="tab:blue", label="hepkan")
        main.errorbar(centres, count / norm, np.sqrt(count) / norm, fmt="k.", ms=3, lw=0.8, label="MadGraph")
        unit = " [GeV]" if name.startswith(("pt_", "m_")) else ""
        main.set_title(f"{name}{unit}   p = {table[name]['p']:.2f}", fontsize=9)
        main.tick_params(labelsize=7, labelbottom=False)
        shown = (count > 0) & (expected > 0)
        error = np.sqrt(count[shown]) / expected[shown]
        ratio.errorbar(centres[shown], count[shown] / expected[shown], error, fmt="k.", ms=3, lw=0.8)
        ratio.axhline(1.0, color="tab:blue", lw=1)
        ratio.set_ylim(0.7, 1.3)
        ratio.tick_params(labelsize=7)
        if k == 0:
            main.legend(fontsize=7)
    figure.suptitle(f"{process}, parton level: lines hepkan, points MadGraph; below: MadGraph / hepkan")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def summary(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the whole comparison, and the observables of both sides."""
    reference, charge = from_lhe(path)
    matched = SingleTop(MADGRAPH)
    start = time.perf_counter()
    events = matched.generate(EVENTS, np.random.default_rng(SEED))
    seconds = time.perf_counter() - start
    ours = from_events(events)
    usual = SingleTop()
    charges = {q: SingleTop(charge=q).sigma_pb for q in (1, -1)}
    top_fraction = float(np.mean(events.pdg_ids[:, 2] > 0))
    edge = math.sqrt(MADGRAPH.mt**2 - MADGRAPH.mw**2)
    result = {
        "reference": {"file": path.name, "events": len(charge), "sigma_pb": MADGRAPH_PB},
        "seed": SEED,
        "events": EVENTS,
        "events_per_second": round(EVENTS / seconds),
        "efficiency": matched.efficiency,
        "sigma_decayed_pb": matched.sigma_decayed_pb,
        "sigma_undecayed_pb": matched.sigma_pb,
        "default": {
            "sigma_pb": usual.sigma_pb, "error_pb": usual.sigma_error_pb, "charge_ratio": charges[1] / charges[-1]
        },
        "charge_ratio": top_fraction / (1 - top_fraction),
        "madgraph_charge_ratio": float(np.mean(charge > 0) / np.mean(charge < 0)),
        "m_lb_beyond_edge": float(np.mean(ours["m_lb"] > edge)),
        "madgraph_m_lb_beyond_edge": float(np.mean(reference["m_lb"] > edge)),
        "scales": scale_hypotheses(reference),
        "ks": compare(ours, reference),
    }  # fmt: skip
    return result, ours, reference


def main() -> None:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lhe", type=Path, help="single_top.lhe.gz of the reference")
    parser.add_argument("--shower", type=int, default=2000, help="events to shower (default 2000)")
    parser.add_argument("--reference", type=Path, help="also write the first 3000 reference events' observables (.npz)")
    options = parser.parse_args()
    result, ours, reference = summary(options.lhe)
    result["shower"] = shower_summary(SingleTop(), options.shower)
    plot(HERE / "results" / "single_top_madgraph.png", ours, reference, result["ks"])
    (HERE / "results" / "single_top_madgraph.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.reference:
        short = {name: values[:3000].astype(np.float32) for name, values in reference.items()}
        np.savez_compressed(options.reference, **short)
    for name, row in result.pop("ks").items():
        print(f"{name:15s} KS {row['ks']:.4f}  p {row['p']:.3f}  mean {row['mean']:8.4f} {row['madgraph_mean']:8.4f}")
    print(json.dumps(result, indent=1))


def _pt(p: np.ndarray) -> np.ndarray:
    return np.hypot(p[:, 0], p[:, 1])


def _eta(p: np.ndarray) -> np.ndarray:
    return np.arcsinh(p[:, 2] / _pt(p))


def _mass(p: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(dot(p, p), 0.0))


def _cos(p: np.ndarray, q: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return the cosine between p and q in the rest frame of `frame`, (n,)."""
    a, b = boost(p, frame, -1.0)[:, :3], boost(q, frame, -1.0)[:, :3]
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


if __name__ == "__main__":
    main()
