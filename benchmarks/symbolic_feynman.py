"""Recover the 40 AI-Feynman equations of the development set with one frozen recipe: `hepkan.interpret.discover`.

    python benchmarks/symbolic_feynman.py [--noise 0 0.01] [--only I.10.7 ...] [--limit SECONDS]

1,000 points in the ranges given; noise is a part of the target's standard deviation. A formula is exact when it has no
spline left and explains more than 1 - 1e-9 of the variance of 1,000 other points without noise. Results are added to
`results/symbolic_feynman.json` equation by equation, so that a stopped run goes on (`--limit` stops it after so many
CPU seconds); `results/symbolic_feynman.md` is the table.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sympy
from sympy.parsing.sympy_parser import parse_expr

import hepkan
from hepkan.files import write_text
from hepkan.interpret.discovery import discover
from hepkan.studies.environment import cpu, versions

FEYNMAN = Path(__file__).parents[2] / "shared" / "data" / "feynman" / "feynman_dev.csv"
RESULT = Path(__file__).parent / "results" / "symbolic_feynman.json"
POINTS = 1000
EXACT = 1e-9


class Equation(NamedTuple):
    """An equation, its variables and their ranges `(variables, 2)`."""

    name: str
    formula: str
    variables: list[str]
    ranges: np.ndarray

    def sample(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return points `(n, variables)` and values `(n,)`."""
        generator = np.random.default_rng(seed)
        X = generator.uniform(self.ranges[:, 0], self.ranges[:, 1], (n, len(self.variables)))
        symbols = [sympy.Symbol(name) for name in self.variables]
        known = {**dict(zip(self.variables, symbols, strict=True)), "arcsin": sympy.asin}
        function = sympy.lambdify(symbols, parse_expr(self.formula, local_dict=known), "numpy")
        return X, np.asarray(function(*X.T), dtype=np.float64)


def equations() -> list[Equation]:
    """Return all equations; the number of variables in the file is wrong for III.10.19, so the names count."""
    with FEYNMAN.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        count = [n for n in range(1, 11) if row[f"v{n}_name"]]
        ranges = np.array([[float(row[f"v{n}_low"]), float(row[f"v{n}_high"])] for n in count])
        found.append(Equation(row["Filename"], row["Formula"], [row[f"v{n}_name"] for n in count], ranges))
    return found


def measure(equation: Equation, noise: float) -> dict[str, Any]:
    """Return what the recipe makes of one equation."""
    X, y = equation.sample(POINTS, 0)
    held_out, truth = equation.sample(POINTS, 1)
    generator = np.random.default_rng(2)
    seen = y + noise * y.std() * generator.normal(size=POINTS)
    wall, cpu = time.perf_counter(), time.process_time()
    formula = discover(X, seen, names=equation.variables)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    error = float(np.mean((formula.predict(held_out) - truth) ** 2) / truth.var())
    error = error if np.isfinite(error) else float("inf")
    return {
        "equation": equation.name,
        "truth": equation.formula,
        "noise": noise,
        "version": hepkan.__version__,
        "formula": str(formula) if not formula.n_splines else f"{formula.n_splines} splines",
        "splines": formula.n_splines,
        "complexity": formula.complexity,
        "unexplained": error,
        "exact": bool(not formula.n_splines and error < EXACT),
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
    }


def page(rows: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# AI-Feynman equations by one frozen recipe",
        "",
        "`python benchmarks/symbolic_feynman.py`: 1,000 points, held-out points without noise. Exact: no spline left "
        "and 1 - R2 < 1e-9. CPU seconds are of one thread.",
        "",
        "| noise | equations | exact | R2 > 0.999 | median 1 - R2 | median CPU s | largest CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for noise in sorted({row["noise"] for row in rows}):
        part = [row for row in rows if row["noise"] == noise]
        error = np.array([row["unexplained"] for row in part])
        seconds = np.array([row["cpu_seconds"] for row in part])
        exact = sum(row["exact"] for row in part)
        lines.append(
            f"| {noise:g} | {len(part)} | {exact} ({100 * exact / len(part):.0f} %) | {int((error < 1e-3).sum())} "
            f"({100 * (error < 1e-3).mean():.0f} %) | {np.median(error):.1e} | {np.median(seconds):.1f} | "
            f"{seconds.max():.1f} |"
        )
    lines += ["", "| noise | equation | truth | formula | 1 - R2 | exact | CPU s |", "|---|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda one: one["noise"]):
        text = row["formula"] if len(row["formula"]) < 110 else row["formula"][:107] + "..."
        lines.append(
            f"| {row['noise']:g} | {row['equation']} | `{row['truth']}` | `{text}` | {row['unexplained']:.1e} | "
            f"{'yes' if row['exact'] else 'no'} | {row['cpu_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.01])
    parser.add_argument("--only", nargs="+", help="equations to measure, again if there")
    parser.add_argument("--limit", type=float, default=float("inf"), help="CPU seconds after which no other begins")
    chosen = parser.parse_args()
    rows = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.is_file() else []
    for noise in chosen.noise:
        for equation in equations():
            there = [row for row in rows if (row["equation"], row["noise"]) == (equation.name, noise)]
            if (chosen.only and equation.name not in chosen.only) or (there and not chosen.only):
                continue
            if time.process_time() > chosen.limit:
                return
            row = measure(equation, noise)
            print(noise, equation.name, row["unexplained"], row["formula"][:80], row["cpu_seconds"], flush=True)
            rows = [one for one in rows if one not in there] + [row]
            date = datetime.datetime.now(datetime.UTC).date().isoformat()
            content = {"date": date, "machine": cpu(), "versions": versions(), "rows": rows}
            write_text(RESULT, json.dumps(content, indent=1))
            write_text(RESULT.with_suffix(".md"), page(rows))


if __name__ == "__main__":
    main()
