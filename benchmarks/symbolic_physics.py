"""Find two known formulae of collider physics again from events.

    python benchmarks/symbolic_physics.py

Dimuon mass: real collisions of CMS 2011 (`shared/data/zmumu`). Inputs are documented choices: the product pt1 pt2,
delta eta, and delta phi folded into [0, pi] as usual. The target is the mass computed in float64 from the file's pt,
eta and phi; the recipe sees values, not the formula.

Transverse mass of the W: all simulated events of the embedded multijet sample, with leptons from W bosons and others;
inputs lep_pt, met_pt, dphi_lep_met, target w_mt as the sample has it, in float32, which the errors show.

Each is fitted to 1,000 events and judged on others.
"""

from __future__ import annotations

import csv
import datetime
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import hepkan
from hepkan.files import write_text
from hepkan.interpret import discover
from hepkan.studies.environment import cpu, versions

ZMUMU = Path(__file__).parents[2] / "shared" / "data" / "zmumu" / "Zmumu_Run2011A.csv"
RESULT = Path(__file__).parent / "results" / "symbolic_physics.json"
EVENTS = 1000


def dimuon() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return columns and the mass of all events in which it is not zero."""
    with ZMUMU.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("pt1", "eta1", "phi1", "pt2", "eta2", "phi2")
    pt1, eta1, phi1, pt2, eta2, phi2 = (np.array([float(row[name]) for row in rows]) for name in names)
    d_eta, d_phi = eta1 - eta2, np.abs((phi1 - phi2 + np.pi) % (2.0 * np.pi) - np.pi)
    mass = np.sqrt(2.0 * pt1 * pt2 * (np.cosh(d_eta) - np.cos(d_phi)))
    return {"pt1_pt2": pt1 * pt2, "d_eta": d_eta, "d_phi": d_phi}, mass


def transverse() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return columns and the transverse mass."""
    table = hepkan.get_task("multijet").table(n=None, seed=1)
    names = list(table.names)
    columns = {name: np.asarray(table.X[:, names.index(name)], dtype=np.float64) for name in names}
    return {name: columns[name] for name in ("lep_pt", "met_pt", "dphi_lep_met")}, columns["w_mt"]


def measure(case: str, columns: dict[str, np.ndarray], target: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Return the formula of some events and its error on the others."""
    X = np.stack([columns[name] for name in names], axis=1)
    order = np.random.default_rng(0).permutation(len(X))
    seen, other = order[:EVENTS], order[EVENTS:]
    wall, cpu = time.perf_counter(), time.process_time()
    formula = discover(X[seen], target[seen], names=names)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    error = np.abs(formula.predict(X[other]) - target[other]) / np.abs(target[other])
    return {
        "case": case,
        "inputs": names,
        "formula": str(formula),
        "splines": formula.n_splines,
        "held_out_events": len(other),
        "median_relative_error": float(np.median(error)),
        "relative_error_99": float(np.quantile(error, 0.99)),
        "largest_relative_error": float(np.max(error)),
        "rms_over_rms": float(np.sqrt(np.mean((error * target[other]) ** 2) / np.mean(target[other] ** 2))),
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
    }


def page(rows: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Known formulae of collider physics, found again",
        "",
        f"`python benchmarks/symbolic_physics.py`: {EVENTS} events to find them, the others to judge.",
        "",
        "| case | inputs | formula | median relative error | 99 % below | largest | held-out events | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['case']} | {', '.join(row['inputs'])} | `{row['formula'][:200]}` | "
            f"{row['median_relative_error']:.1e} | {row['relative_error_99']:.1e} | "
            f"{row['largest_relative_error']:.1e} | {row['held_out_events']} | {row['cpu_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all cases."""
    muons, mass = dimuon()
    w, m_t = transverse()
    rows = []
    for case, columns, target, names in (
        ("dimuon mass, real collisions", muons, mass, ["pt1_pt2", "d_eta", "d_phi"]),
        ("transverse mass of the W", w, m_t, ["lep_pt", "met_pt", "dphi_lep_met"]),
    ):
        rows.append(measure(case, columns, target, names))
        print(rows[-1]["case"], rows[-1]["formula"][:150], rows[-1]["largest_relative_error"], flush=True)
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        content = {"date": date, "machine": cpu(), "versions": versions(), "rows": rows}
        write_text(RESULT, json.dumps(content, indent=1))
        write_text(RESULT.with_suffix(".md"), page(rows))


if __name__ == "__main__":
    main()
