"""Compare generated single-top events with the full detector simulation of CMS, all 43 observables.

    python validation/cms_comparison.py [--sample sample.parquet] [--cms tests/data/cms_single_top.root]

writes results/cms_comparison.{json,png}. Both sides: one isolated muon, exactly two selected jets with pT >
40 GeV and |eta| < 2.5, exactly one of them tagged. What differs by nature: 13 TeV against 7 TeV, t-channel
against the single top of the tutorial, whose record names no channel, and jets beyond |eta| = 2.5, which the
CMS file does not hold: there such an event looks as if it had no further jet. Shapes are expected to be
alike, not equal.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from hepkan.physics.io import read_cms_single_top, read_sample
from hepkan.physics.observables import OBSERVABLES, compute
from hepkan.tasks import embedded

HERE = Path(__file__).parent
CMS = HERE.parent / "tests" / "data" / "cms_single_top.root"
ETA_MAX = 2.5
Columns = dict[str, np.ndarray]


def both_central(columns: Columns) -> np.ndarray:
    """Return the mask (n,) of events with two jets, both within the acceptance of the CMS file."""
    central = (np.abs(columns["bjet_eta"]) < ETA_MAX) & (np.abs(columns["ljet_eta"]) < ETA_MAX)
    return (columns["n_jets"] == 2) & central


def generated(path: Path) -> tuple[Columns, np.ndarray]:
    """Return observables and weights (pb) of the muon channel of a sample's single top."""
    columns = read_sample(path).columns
    rows = (
        (columns["process"] == "single_top_tchannel") & (columns["lep_flavour"] == 13) & both_central(columns)
    )
    return {name: columns[name][rows] for name in OBSERVABLES}, columns["weight"][rows]


def full_simulation(path: Path) -> tuple[Columns, np.ndarray]:
    """Return observables and weights of the CMS file."""
    columns = read_cms_single_top(path)
    rows = both_central(columns)
    selected = {name: values[rows] for name, values in columns.items()}
    return compute(selected), selected["weight"]


def quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    """Return a weighted quantile."""
    order = np.argsort(values)
    return float(np.interp(share, np.cumsum(weight[order]) / weight.sum(), values[order]))


def distance(a: np.ndarray, wa: np.ndarray, b: np.ndarray, wb: np.ndarray) -> float:
    """Return the largest difference of the two weighted cumulative distributions."""
    values, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    steps = np.concatenate([wa / wa.sum(), -wb / wb.sum()])
    return float(np.abs(np.cumsum(np.bincount(place, steps, len(values)))).max())


def compare(ours: tuple[Columns, np.ndarray], cms: tuple[Columns, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return medians and Kolmogorov-Smirnov distances, with the distance that chance alone exceeds in 1 % of
    cases."""
    effective = [w.sum() ** 2 / np.sum(w**2) for w in (ours[1], cms[1])]
    by_chance = 1.63 * np.sqrt(1 / effective[0] + 1 / effective[1])
    return {
        name: {
            "ks": distance(ours[0][name], ours[1], cms[0][name], cms[1]),
            "ks_by_chance_1_percent": float(by_chance),
            "median": quantile(ours[0][name], ours[1], 0.5),
            "cms_median": quantile(cms[0][name], cms[1], 0.5),
        }
        for name in OBSERVABLES
    }


def draw(ours: tuple[Columns, np.ndarray], cms: tuple[Columns, np.ndarray], table: Any, path: Path) -> None:
    """Draw all observables, each normalised to one."""
    figure, axes = plt.subplots(8, 6, figsize=(18, 20), layout="constrained")
    for axis, (name, one) in zip(axes.flat, OBSERVABLES.items(), strict=False):
        both = np.concatenate([ours[0][name], cms[0][name]])
        edges = np.linspace(*np.quantile(both, [0.005, 0.98 if one.unit == "GeV" else 0.995]), 25)
        for (columns, weight), style in (
            (ours, {"label": "hepkan 13 TeV"}),
            (cms, {"label": "CMS full simulation"}),
        ):
            height, _ = np.histogram(columns[name], edges, weights=weight)
            square, _ = np.histogram(columns[name], edges, weights=weight**2)
            width = weight.sum() * np.diff(edges)
            middle = (edges[1:] + edges[:-1]) / 2
            axis.errorbar(
                middle, height / width, np.sqrt(square) / width, drawstyle="steps-mid", lw=1, **style
            )
        axis.set_xlabel(f"{one.label} [{one.unit}]" if one.unit else one.label)
        axis.set_title(f"KS {table[name]['ks']:.2f}", fontsize=9, loc="right")
        axis.set_yticks([])
    for axis in axes.flat[len(OBSERVABLES) :]:
        axis.axis("off")
    axes.flat[0].legend(fontsize=8)
    figure.savefig(path, dpi=60)


def main() -> None:
    """Compare and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=Path, default=embedded("multijet"))
    parser.add_argument("--cms", type=Path, default=CMS)
    arguments = parser.parse_args()
    ours, cms = generated(arguments.sample), full_simulation(arguments.cms)
    table = compare(ours, cms)
    rows = {"hepkan": len(ours[1]), "cms": len(cms[1])}
    recipe = read_sample(arguments.sample, ["id"]).metadata.get("recipe_hash", "")
    result = {"events": rows, "recipe_hash": recipe, "observables": table}
    (HERE / "results" / "cms_comparison.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(ours, cms, table, HERE / "results" / "cms_comparison.png")
    for name, row in sorted(table.items(), key=lambda item: -item[1]["ks"]):
        print(f"{name:14s} KS {row['ks']:.3f}  median {row['median']:9.3f}  CMS {row['cms_median']:9.3f}")
    print(rows, "chance (1 %):", table["st"]["ks_by_chance_1_percent"])


if __name__ == "__main__":
    main()
