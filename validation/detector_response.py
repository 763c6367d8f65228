"""One page of the detector response: the functions as lines, what the simulation makes of them as points.

    python validation/detector_response.py [--events 4000] [--seed 1] [--output FILE.png]

The last row uses top pairs from Pythia (multiparton interactions off). A table of the numbers goes to standard output.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import itertools

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from hepkan.physics.candidates import delta_phi, reconstruct
from hepkan.physics.detector import Reco, simulate
from hepkan.physics.particles import Particles, concatenate, event_index
from hepkan.physics.response import Binned, CalorimeterResolution, DetectorParameters, TrackResolution
from hepkan.physics.showers import particles_of, start

PARAMETERS = DetectorParameters()
MASS = {11: 0.000511, 13: 0.10566, 22: 0.0, 130: 0.4976, 211: 0.13957}
N_SINGLE = 4000


def ideal_detector() -> DetectorParameters:
    """The same acceptance and jets with everything found and nothing smeared."""
    found, exact = Binned((5.0,), (0.0,), ((1.0,),)), TrackResolution((5.0,), ((0.0, 0.0),))
    sharp = CalorimeterResolution((5.0,), ((0.0, 0.0, 0.0),), ((1.0, 0.0, 0.0),))
    point = Binned((5.0,), (0.0,), ((0.0,),))
    changes = {f"{name}_tracking": found for name in ("hadron", "electron", "muon")}
    changes |= {f"{name}_track": exact for name in ("hadron", "electron", "muon")}
    changes |= {"ecal": sharp, "hcal": sharp, "jet_confusion": sharp, "ecal_cell": point, "hcal_cell": point}
    return replace(PARAMETERS, **changes, ecal_energy_min=0.0, hcal_energy_min=0.0, met_noise=0.0)


def single(pid: int, pt: float, eta: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Share of single particles that leave a track, share identified, and relative width of the measured pT."""
    phi = rng.uniform(-np.pi, np.pi, N_SINGLE)
    pz = np.full(N_SINGLE, pt * np.sinh(eta))
    energy = np.sqrt(pt**2 + pz**2 + MASS[pid] ** 2)
    p4 = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pz, energy])
    no_offsets, no_pid = np.zeros(N_SINGLE + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    events = Particles(np.arange(N_SINGLE + 1), np.full(N_SINGLE, pid), p4, no_offsets, no_pid, np.zeros((0, 4)))
    seen = reconstruct(events, rng, PARAMETERS)
    track = seen.charge != 0
    kept = track if pid in (11, 13, 211) else np.ones(len(track), dtype=bool)
    ratio = seen.pt[kept] * np.cosh(seen.eta[kept]) / (pt * np.cosh(eta))
    width = float(ratio.std()) if kept.sum() > 10 else float("nan")
    return track.sum() / N_SINGLE, seen.identified.sum() / N_SINGLE, width


def draw_efficiencies(axes: Axes, eta: float, rng: np.random.Generator) -> None:
    """Track efficiency of hadrons, electrons, muons, and lepton identification with its track."""
    pt = np.geomspace(0.2, 500, 400)
    functions = {211: ("hadron_tracking", None), 11: ("electron_tracking", "electron_identification")}
    functions[13] = ("muon_tracking", "muon_identification")
    points = np.array([0.5, 3.0, 20.0, 60.0, 200.0])
    for colour, (pid, (tracking, identification)) in enumerate(functions.items()):
        line = getattr(PARAMETERS, tracking)(pt, np.full_like(pt, eta))
        measured = np.array([single(pid, p, eta, rng) for p in points])
        axes.plot(pt, line, color=f"C{colour}", label=tracking.replace("_", " "))
        axes.plot(points, measured[:, 0], "o", color=f"C{colour}", ms=4)
        if identification is not None:
            both = line * getattr(PARAMETERS, identification)(pt, np.full_like(pt, eta))
            axes.plot(pt, both, "--", color=f"C{colour}", label="x identification")
            axes.plot(points, measured[:, 1], "s", color=f"C{colour}", ms=4, mfc="none")
    axes.set(xscale="log", ylim=(0.0, 1.08), xlabel="$p_T$ [GeV]", ylabel="efficiency", title=f"|η| = {eta}")
    axes.legend(fontsize=7)


def draw_resolution(axes: Axes, pid: int, title: str, etas: tuple[float, ...], rng: np.random.Generator) -> None:
    """Relative resolution of single particles as a function of pT."""
    pt, points = np.geomspace(2, 500, 200), np.array([5.0, 20.0, 60.0, 200.0])
    for colour, eta in enumerate(etas):
        at, energy = np.full_like(pt, eta), pt * np.cosh(eta)
        track = {211: PARAMETERS.hadron_track, 11: PARAMETERS.electron_track, 13: PARAMETERS.muon_track}.get(pid)
        deposit = {13: None, 211: PARAMETERS.hcal, 130: PARAMETERS.hcal}.get(pid, PARAMETERS.ecal)
        lines = ([] if track is None else [track(pt, at)]) + ([] if deposit is None else [deposit(energy, at)])
        axes.plot(pt, 100 * np.min(lines, axis=0), color=f"C{colour}", label=f"|η| = {eta}")
        measured = [100 * single(pid, p, eta, rng)[2] for p in points]
        axes.plot(points, measured, "o", color=f"C{colour}", ms=4)
    axes.set(xscale="log", yscale="log", xlabel="$p_T$ [GeV]", ylabel="σ / value [%]", title=title)
    axes.legend(fontsize=7)


def top_pairs(n: int, seed: int) -> Particles:
    """Top pairs from Pythia."""
    pythia = start(("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"), seed)
    return concatenate([particles_of(pythia.nextBatch(250))[0] for _ in range(n // 250)])


def matched_jets(truth: Reco, reco: Reco) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True pT, true |eta| and measured over true pT of jets that agree within 0.2, per event."""
    pt, eta, ratio = [], [], []
    for event in range(truth.n_events):
        a, b = slice(*truth.jet_offsets[event : event + 2]), slice(*reco.jet_offsets[event : event + 2])
        if a.stop == a.start or b.stop == b.start:
            continue
        distance = np.hypot(
            truth.jet_eta[a, None] - reco.jet_eta[None, b],
            delta_phi(truth.jet_phi[a, None], reco.jet_phi[None, b]),
        )
        best, close = distance.argmin(axis=1), distance.min(axis=1) < 0.2
        pt.append(truth.jet_pt[a][close])
        eta.append(np.abs(truth.jet_eta[a][close]))
        ratio.append((reco.jet_pt[b][best] / truth.jet_pt[a])[close])
    return np.concatenate(pt), np.concatenate(eta), np.concatenate(ratio)


def half_width(values: np.ndarray) -> float:
    """Half of the central 68 %."""
    low, high = np.quantile(values, [0.16, 0.84])
    return float((high - low) / 2)


def draw_jets(axes: Axes, truth: Reco, reco: Reco, label: str, colour: str) -> None:
    """Jet response width in bins of the true pT; prints mean response and width."""
    pt, eta, ratio = matched_jets(truth, reco)
    edges = np.array([30, 40, 55, 75, 100, 140, 200, 300])
    for name, inside, marker in (("|η| < 2.5", eta < 2.5, "o"), ("|η| > 3", eta > 3.0, "^")):
        centres, widths = [], []
        for low, high in itertools.pairwise(edges):
            chosen = inside & (pt > low) & (pt < high)
            if chosen.sum() > 100:
                centres.append(pt[chosen].mean())
                widths.append(half_width(ratio[chosen]))
                print(f"{label:22s} {name:9s} {low:4d}-{high:4d} {ratio[chosen].mean():.3f} {widths[-1]:.3f}")
        axes.plot(centres, 100 * np.array(widths), marker, color=colour, ms=5, label=f"{label}, {name}", mfc="none")


def draw_met(axes: Axes, truth: Reco, reco: Reco) -> None:
    """Width of a missing-momentum component against the true sum of jet pT, with the CMS parametrisation's size."""
    ht = np.bincount(event_index(truth.jet_offsets), weights=truth.jet_pt, minlength=truth.n_events)
    difference = reco.met_pt * np.exp(1j * reco.met_phi) - truth.met_pt * np.exp(1j * truth.met_phi)
    edges = np.quantile(ht, np.linspace(0, 1, 7))
    centres, widths = [], []
    for low, high in itertools.pairwise(edges):
        chosen = difference[(ht >= low) & (ht < high)]
        centres.append(ht[(ht >= low) & (ht < high)].mean())
        widths.append(half_width(np.concatenate([chosen.real, chosen.imag])))
        print(f"missing momentum, component: sum jet pT {low:5.0f}-{high:5.0f} GeV, width {widths[-1]:.1f} GeV")
    axes.plot(centres, widths, "o", label="simulated top pairs")
    axes.axhline(PARAMETERS.met_noise, color="C1", ls="--", label="pile-up noise alone")
    x = np.linspace(100, 900, 100)
    axes.plot(x, -1.5 + 0.68 * np.sqrt(x + 400), color="C2", label="CMS, 400 GeV of pile-up")
    axes.plot(x, -1.5 + 0.68 * np.sqrt(x + 800), color="C2", ls=":", label="CMS, 800 GeV of pile-up")
    axes.set(xlabel="Σ jet $p_T$ [GeV]", ylabel="σ(missing momentum, x or y) [GeV]", ylim=(0, None))
    axes.legend(fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("validation/results/detector_response.png"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    figure, axes = plt.subplots(3, 3, figsize=(14, 12), layout="constrained")
    draw_efficiencies(axes[0, 0], 0.5, rng)
    draw_efficiencies(axes[0, 1], 2.0, rng)
    draw_resolution(axes[0, 2], 211, "charged hadron", (0.2, 1.0, 2.0), rng)
    draw_resolution(axes[1, 0], 13, "muon", (0.2, 1.0, 2.0), rng)
    draw_resolution(axes[1, 1], 11, "electron with a track", (0.2, 1.0, 2.0), rng)
    draw_resolution(axes[1, 2], 22, "photon", (0.2, 1.0, 2.0, 4.0), rng)
    draw_resolution(axes[2, 0], 130, "neutral hadron", (0.2, 4.0), rng)
    events = top_pairs(arguments.events, arguments.seed)
    truth = simulate(events, rng, ideal_detector())
    reco = simulate(events, rng, PARAMETERS)
    separated = simulate(events, rng, replace(PARAMETERS, jet_confusion=ideal_detector().jet_confusion))
    print("jets: response mean and half of the central 68 %")
    draw_jets(axes[2, 1], truth, separated, "separated particles", "C1")
    draw_jets(axes[2, 1], truth, reco, "default", "C0")
    axes[2, 1].errorbar([30, 100], [17.5, 10], [2.5, 0], fmt="k*", ms=9, label="CMS, arXiv:1607.03663")
    axes[2, 1].set(xscale="log", ylim=(0, 25), xlabel="true jet $p_T$ [GeV]", ylabel="jet resolution [%]")
    axes[2, 1].legend(fontsize=7)
    draw_met(axes[2, 2], truth, reco)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=80)
    print(f"page: {arguments.output}")


if __name__ == "__main__":
    main()
