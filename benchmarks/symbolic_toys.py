"""Two known functions from a trained KAN, with pykan 0.2.8 and its documented recipe beside it on the same data.

    python benchmarks/symbolic_toys.py [--seeds 10] [--pykan-seeds 3] [--package hepkan]

A: exp(sin(pi x) + y^2) from [2, 5, 1], 1,000 points. B: sin(pi x1) + x2^2 + 0.3 noise from [2, 5, 1], 1,000 points.
For both: `hepkan.fit` by L-BFGS, then `hepkan.symbolic`. Exact in A: no spline left and 1 - R2 < 1e-9 on other points.
Recovered in B: both features used, no spline left, and 1 - R2 < 0.01 against the function without noise.

pykan: the recipe of its first notebook (hellokan), in float64 as there: LBFGS with lamb 0.001, prune, LBFGS, a grid of
10, LBFGS, `auto_symbolic` with the notebook's ten functions, LBFGS; `fit` gets test points of their own. Results are
written one by one to `results/symbolic_toys.json`, and those that are there are not measured again unless their package
is named; the .md is the table.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sympy
import torch

import hepkan
from hepkan.files import write_text
from hepkan.studies.environment import cpu, versions

RESULT = Path(__file__).parent / "results" / "symbolic_toys.json"
POINTS = 1000
CASES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "exp(sin(pi x) + y^2)": (lambda X: np.exp(np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2), 0.0),
    "sin(pi x) + y^2 + 0.3 noise": (lambda X: np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2, 0.3),
}


def sample(case: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, noisy and true targets."""
    function, noise = CASES[case]
    generator = np.random.default_rng(seed)
    X = generator.uniform(-1.0, 1.0, (POINTS, 2))
    return X, function(X) + noise * generator.normal(size=POINTS), function(X)


def ours(case: str, seed: int) -> dict[str, Any]:
    """Return the formula of this package."""
    X, y, _ = sample(case, seed)
    model = hepkan.KAN([2, 5, 1], input_map="standard", seed=seed)
    hepkan.fit(model, (X, y[:, None]), loss="mse", optimizer="lbfgs", batch=POINTS, epochs=10, seed=seed)
    formula = hepkan.symbolic(model, X, y, names=["x", "y"])
    return judged(case, formula.predict, str(formula), set(formula.used), formula.n_splines)


def pykan(case: str, seed: int) -> dict[str, Any]:
    """Return the formula of pykan by the recipe of its first notebook."""
    torch.set_default_dtype(torch.float64)
    try:
        return hello_kan(case, seed)
    finally:
        torch.set_default_dtype(torch.float32)


def hello_kan(case: str, seed: int) -> dict[str, Any]:
    """Follow pykan's first notebook."""
    import kan

    (X, y, _), (other, other_y, _) = sample(case, seed), sample(case, 20_000 + seed)
    data = {"train_input": X, "train_label": y[:, None], "test_input": other, "test_label": other_y[:, None]}
    tensors = {name: torch.from_numpy(values) for name, values in data.items()}
    with tempfile.TemporaryDirectory() as folder:
        model = kan.KAN(width=[2, 5, 1], grid=3, k=3, seed=seed, ckpt_path=folder)
        model.fit(tensors, opt="LBFGS", steps=50, lamb=0.001)
        model = model.prune()
        model.fit(tensors, opt="LBFGS", steps=50)
        model = model.refine(10)
        model.fit(tensors, opt="LBFGS", steps=50)
        model.auto_symbolic(lib=["x", "x^2", "x^3", "x^4", "exp", "log", "sqrt", "tanh", "sin", "abs"])
        model.fit(tensors, opt="LBFGS", steps=50)
        expression = model.symbolic_formula(var=["x", "y"])[0][0]
    symbols = sympy.symbols("x y")
    values = sympy.lambdify(symbols, expression, "numpy")
    used = {str(one) for one in expression.free_symbols}
    return judged(case, lambda Z: np.broadcast_to(values(*Z.T), len(Z)), str(expression), used, 0)


def judged(
    case: str, predict: Callable[[np.ndarray], np.ndarray], text: str, used: set[str], splines: int
) -> dict[str, Any]:
    """Return a formula's quality on other points without noise."""
    X, _, truth = sample(case, 10_000)
    error = float(np.mean((predict(X) - truth) ** 2) / truth.var())
    noisy = CASES[case][1] > 0.0
    good = splines == 0 and used == {"x", "y"} and error < (1e-2 if noisy else 1e-9)
    return {"formula": text, "unexplained": error, "recovered": bool(good)}


def measure(who: Callable[[str, int], dict[str, Any]], case: str, seed: int) -> dict[str, Any]:
    """Return one result with its time; a crash is a result too."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        result = who(case, seed)
    except Exception as error:  # a rival's crash is part of the comparison
        result = {"formula": f"{type(error).__name__}: {error}"[:160], "unexplained": None, "recovered": False}
    seconds = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    package = next(name for name, function in PACKAGES.items() if function is who)
    return {"package": package, "case": case, "seed": seed, **result, **seconds}


PACKAGES = {"hepkan": ours, "pykan 0.2.8": pykan}


def page(rows: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Two known functions from a trained KAN [2, 5, 1]",
        "",
        "`python benchmarks/symbolic_toys.py`: other points without noise; recovered means 1 - R2 < 1e-9 (with noise "
        "in the data: both terms kept and 1 - R2 < 0.01). CPU seconds of one thread include the training.",
        "",
        "| case | package | recovered | crashed | median 1 - R2 | largest | median CPU s | largest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        for package in PACKAGES:
            part = [row for row in rows if (row["case"], row["package"]) == (case, package)]
            if part:
                errors = [np.inf if row["unexplained"] is None else row["unexplained"] for row in part]
                seconds = [row["cpu_seconds"] for row in part]
                lines.append(
                    f"| `{case}` | {package} | {sum(row['recovered'] for row in part)} of {len(part)} | "
                    f"{sum(row['unexplained'] is None for row in part)} | "
                    f"{np.median(errors):.1e} | {max(errors):.1e} | {np.median(seconds):.1f} | {max(seconds):.1f} |"
                )
    lines += ["", "| case | package | seed | formula | 1 - R2 |", "|---|---|---|---|---|"]
    for row in rows:
        error = "-" if row["unexplained"] is None else f"{row['unexplained']:.1e}"
        text = row["formula"].replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{row['case']}` | {row['package']} | {row['seed']} | `{text[:140]}` | {error} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run both packages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--pykan-seeds", type=int, default=3)
    parser.add_argument("--package", choices=list(PACKAGES), help="measure this one alone, and again")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.is_file() else []
    for package, seeds in zip(PACKAGES, (chosen.seeds, chosen.pykan_seeds), strict=True):
        for case, seed in itertools.product(CASES, range(seeds)):
            there = [row for row in rows if (row["package"], row["case"], row["seed"]) == (package, case, seed)]
            if chosen.package not in (None, package) or (there and chosen.package is None):
                continue
            row = measure(PACKAGES[package], case, seed)
            print(package, case, seed, row["unexplained"], row["formula"][:80], row["cpu_seconds"], flush=True)
            rows = [one for one in rows if one not in there] + [row]
            rows.sort(key=lambda one: (one["package"], list(CASES).index(one["case"]), one["seed"]))
            date = datetime.datetime.now(datetime.UTC).date().isoformat()
            content = {"date": date, "machine": cpu(), "versions": versions(), "rows": rows}
            write_text(RESULT, json.dumps(content, indent=1))
            write_text(RESULT.with_suffix(".md"), page(rows))


if __name__ == "__main__":
    main()
