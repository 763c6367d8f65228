"""What is in a multijet sample: yields beside published cross-sections, and the shapes that a physicist knows.

    python validation/multijet_sample.py [SAMPLE.parquet]

Writes results/multijet_sample.json and results/multijet_sample.png. The default is the sample in the package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepkan.physics.io import Sample, read_sample
from hepkan.physics.observables import OBSERVABLES
from hepkan.tasks import embedded

RESULTS = Path(__file__).parent / "results"
LUMINOSITY_FB = 138.0
COLOURS = {"single_top_tchannel": "#D55E00", "ttbar": "#0072B2", "wjets": "#009E73", "multijet": "#555555"}
SHAPES = {
    "ljet_eta": (-4.7, 4.7, False),
    "m_lb": (0.0, 300.0, False),
    "w_mt": (0.0, 160.0, False),
    "top_mass": (100.0, 500.0, False),
    "met_pt": (0.0, 200.0, False),
    "lep_pt": (26.0, 200.0, True),
    "lep_ptrel": (0.0, 250.0, False),
    "cos_theta_pol": (-1.0, 1.0, False),
    "dphi_lep_met": (0.0, np.pi, False),
}


def effective(weight: np.ndarray, group: np.ndarray) -> float:
    """Number of events of equal weight with the same relative error; copies of one hard event count together."""
    sums = np.bincount(np.unique(group, return_inverse=True)[1], weight)
    return float(sums.sum() ** 2 / np.sum(sums**2))


def numbers(sample: Sample) -> dict[str, Any]:
    """Yields of each process, and the quantities with a known answer."""
    column = sample.columns
    process = column["process"].astype(str)
    result: dict[str, Any] = {"recipe_hash": sample.metadata["recipe_hash"], "luminosity_fb": LUMINOSITY_FB}
    for name, card in sample.metadata["processes"].items():
        rows = process == name
        weight = column["weight"][rows]
        section = sample.metadata["cards"][name]["cross_section"]
        strata = card["strata"]
        result[name] = {
            "published_pb": section["value_pb"],
            "order": section["order"],
            "normalised_to_pb": sum(stratum["normalised_to_pb"] for stratum in strata.values()),
            "generator_pb": sum(stratum["generator_pb"] for stratum in strata.values()),
            "rows": int(rows.sum()),
            "effective": effective(weight, column["group"][rows]),
            "selected_pb": float(weight.sum()),
            "selected_pb_error": float(weight.sum() / effective(weight, column["group"][rows]) ** 0.5),
            "events_at_luminosity": float(weight.sum() * LUMINOSITY_FB * 1e3),
            "strata_pb": {key: stratum["selected_pb"] for key, stratum in strata.items()},
        }
    top = process == "single_top_tchannel"
    weight, charge = column["weight"][top], column["lep_charge"][top]
    forward = np.abs(column["ljet_eta"][top])
    histogram, edges = np.histogram(forward, bins=24, range=(0.0, 4.8), weights=weight)
    peak = int(np.argmax(histogram))
    above = column["m_lb"][top] > 153.0
    result["single_top_checks"] = {
        "charge_ratio_selected": float(weight[charge > 0].sum() / weight[charge < 0].sum()),
        "light_jet_abs_eta_peak": [float(edges[peak]), float(edges[peak + 1])],
        "fraction_m_lb_above_153": float(weight[above].sum() / weight.sum()),
        "mean_cos_theta_pol": float(np.average(column["cos_theta_pol"][top], weights=weight)),
        "fraction_w_mt_above_100": float(weight[column["w_mt"][top] > 100.0].sum() / weight.sum()),
    }
    return result


def draw(axes: Axes, sample: Sample, name: str, low: float, high: float, log: bool) -> None:
    """Draw one observable, each process normalised to one."""
    process = sample.columns["process"].astype(str)
    for key, colour in COLOURS.items():
        rows = process == key
        axes.hist(
            np.clip(sample.columns[name][rows], low, high),
            bins=40,
            range=(low, high),
            weights=sample.columns["weight"][rows],
            density=True,
            histtype="step",
            color=colour,
            label=key.replace("_", " "),
        )
    record = OBSERVABLES[name]
    unit = f" [{record.unit}]" if record.unit else ""
    axes.set_xlabel(f"{record.label}{unit}")
    axes.set_ylabel("normalised")
    if log:
        axes.set_yscale("log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", nargs="?", type=Path, default=embedded("multijet"))
    sample = read_sample(parser.parse_args().sample)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "multijet_sample.json").write_text(json.dumps(numbers(sample), indent=1) + "\n")
    figure = Figure(figsize=(13, 11), layout="constrained")
    for axes, (name, (low, high, log)) in zip(figure.subplots(3, 3).flat, SHAPES.items(), strict=True):
        draw(axes, sample, name, low, high, log)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(RESULTS / "multijet_sample.png", dpi=110)
    print(json.dumps(numbers(sample), indent=1))


if __name__ == "__main__":
    main()
