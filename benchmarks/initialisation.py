"""Compare initial values and rates of KANs on validation events; the test parts are never looked at.

    python benchmarks/initialisation.py --data samples/multijet-full.parquet

Schemes, for n_in inputs, n_out outputs, G intervals and degree k (standard deviations of base weights and of spline
coefficients; mu are mean squares over a standard normal input, of the function or of its slope):

- `variance`: kept with 95 % in the base functions, 1 / (n_in mu).
- `small`: that times 0.35, the coefficients times 0.1 besides.
- `pykan`: base weights uniform in 1/sqrt(n_in), coefficients with noise 0.1 / (G + k).
- `power`: 1 / n_in^0.5 and (n_in (G + k + 1))^-1.75 or softer powers, the power law of arXiv:2509.03417.
- `glorot`: 2 / (n_in mu_value + n_out mu_slope), the mean of forward and backward conditions.

Rates: `equal`, or `scaled`: the coefficients of a layer learn n_in^-1/2 as fast as its base weights and decay
as fast. Every combination is trained on the embedded sample and the full one, and on equations of Feynman's lectures.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from summary import insert, provenance, table

import hepkan
from hepkan.executors import watch_parent
from hepkan.files import write_text
from hepkan.nn import KAN, KANLayer
from hepkan.studies.members import Data, split
from hepkan.studies.options import load_card
from hepkan.studies.run import prepare

RESULT = Path(__file__).parent / "results" / "initialisation.json"
BASE_SQUARE, BASE_SLOPE, SPLINE_SQUARE, SPLINE_SLOPE = 0.355, 0.379, 0.48, 0.40  # silu, and sum over cubic B_m, at G=5
SEEDS = (0, 1, 2)
TASKS = {
    "multijet embedded [43, 10, 1]": {"hidden": [10], "learning_rate": 5e-3, "weight_decay": 0.2, "batch": 256},
    "multijet full [43, 32, 32, 1]": {"hidden": [32, 32], "learning_rate": 2e-3, "weight_decay": 0.5, "batch": 1024},
    "multijet full [43, 16, 1]": {"hidden": [16], "learning_rate": 5e-3, "weight_decay": 0.2, "batch": 1024},
}
FEYNMAN = Path(__file__).parents[2] / "shared" / "data" / "feynman" / "feynman_dev.csv"


def deviations(scheme: str, layer: KANLayer) -> tuple[float, float]:
    """Return the standard deviations of base weights and coefficients."""
    n_in, n_out, size = layer.in_features, layer.out_features, layer.grid + layer.degree + 1
    base, coef = math.sqrt(0.95 / (n_in * BASE_SQUARE)), math.sqrt(0.05 / (n_in * SPLINE_SQUARE))
    if scheme == "small":
        return 0.35 * base, 0.1 * coef
    if scheme == "pykan":
        return 1.0 / math.sqrt(3.0 * n_in), 0.1 / (size - 1)
    if scheme == "power 0.5, 0.5":
        return (n_in * size) ** -0.5, (n_in * size) ** -0.5
    if scheme == "power 0.25, 1.75":
        return (n_in * size) ** -0.25, (n_in * size) ** -1.75
    if scheme == "glorot":
        return (
            math.sqrt(1.0 / (n_in * BASE_SQUARE + n_out * BASE_SLOPE)),
            math.sqrt(1.0 / (n_in * SPLINE_SQUARE + n_out * SPLINE_SLOPE)),
        )
    return base, coef


SCHEMES = ("variance", "small", "pykan", "power 0.5, 0.5", "power 0.25, 1.75", "glorot")
RATES: dict[str, Callable[[KANLayer], float]] = {"equal": lambda q: 1.0, "scaled": lambda q: q.in_features**-0.5}


class Slower(KAN):
    """A KAN whose coefficients may learn at another rate than its base weights."""

    rate = "equal"

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return one group for each layer's coefficients and one for everything else."""
        groups = super().parameter_groups(weight_decay)
        coefs = [(layer.coef, RATES[self.rate](layer)) for layer in self.layers if isinstance(layer, KANLayer)]
        slow = {id(coef) for coef, _ in coefs}
        groups[0]["params"] = [p for p in groups[0]["params"] if id(p) not in slow]
        return groups + [{"params": [c], "weight_decay": weight_decay / rate, "rate": rate} for c, rate in coefs]


def prepared(widths: list[int], scheme: str, rate: str, seed: int, input_map: str = "quantile") -> KAN:
    """Return a KAN with the initial values of a scheme and its rates."""
    model = Slower(widths, seed=seed, input_map=input_map)
    model.rate = rate
    generator = torch.Generator().manual_seed(seed)
    for layer in model.layers:
        assert isinstance(layer, KANLayer) and layer.base_weight is not None
        base, coef = deviations(scheme, layer)
        with torch.no_grad():
            layer.base_weight.normal_(0.0, base, generator=generator)
            layer.coef.normal_(0.0, coef, generator=generator)
    return model


def classify(task: str, data: Data, scheme: str, rate: str, seed: int) -> float:
    """Return the validation loss of one training on events."""
    train, validation, _ = split(data, seed)
    settings: dict[str, Any] = dict(TASKS[task])
    model = prepared([43, *settings.pop("hidden"), 1], scheme, rate, seed)
    return hepkan.fit(model, train, validation, seed=seed, **settings).best_value


def regress(equation: str, names: list[str], ranges: np.ndarray, scheme: str, rate: str, seed: int) -> float:
    """Return log10 of the validation error (standardised mean square) of one training on an equation."""
    import sympy

    rng = np.random.default_rng(seed)
    x = rng.uniform(ranges[:, 0], ranges[:, 1], (3000, len(names)))
    function = sympy.lambdify(names, sympy.sympify(equation, {n: sympy.Symbol(n) for n in names}), "numpy")
    y = np.asarray(function(*x.T), dtype=float)[:, None]
    model = prepared([len(names), 5, 1], scheme, rate, seed, "standard")
    found = hepkan.fit(
        model, (x[:2000], y[:2000]), (x[2000:], y[2000:]), loss="mse", weight_decay=1e-4, learning_rate=0.02,
        epochs=60, patience=60, batch=200, seed=seed,
    )  # fmt: skip
    return math.log10(found.best_value)


def work(job: tuple[Any, ...]) -> float:
    """Run one training with one thread."""
    torch.set_num_threads(1)
    return (classify if job[0] in TASKS else regress)(*job)


def main() -> None:
    """Train every combination, write results and the table of benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    data = {name: prepare(load_card("multijet", data=arguments.data if "full" in name else None)) for name in TASKS}
    equations = equations_of_feynman()
    jobs = {}
    for scheme in SCHEMES:
        for rate in RATES:
            for seed in SEEDS:
                for name in TASKS:
                    jobs[name, scheme, rate, seed] = (name, data[name], scheme, rate, seed)
                for equation in equations if seed == 0 else ():
                    jobs["Feynman, 8 equations", scheme, rate, equation[0]] = (*equation, scheme, rate, seed)
    with ProcessPoolExecutor(arguments.workers, get_context("spawn"), initializer=watch_parent) as pool:
        values = dict(zip(jobs, pool.map(work, jobs.values()), strict=True))
    rows = []
    for scheme in SCHEMES:
        for rate in RATES:
            row: dict[str, Any] = {"scheme": scheme, "rate": rate}
            for task in dict.fromkeys(key[0] for key in jobs):
                row[task] = [value for key, value in values.items() if key[:3] == (task, scheme, rate)]
            rows.append(row)
    full = next(name for name in TASKS if "full" in name)
    write_text(RESULT, json.dumps({**provenance(data[full]), "rows": rows}, indent=1) + "\n")
    insert(page(rows), "initialisation", Path(__file__).parent / "README.md")


def equations_of_feynman() -> list[tuple[str, list[str], np.ndarray]]:
    """Return every fifth equation of the development set with up to five variables."""
    import csv

    with FEYNMAN.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if 2 <= int(row["# variables"]) <= 5]
    found = []
    for row in rows[:: len(rows) // 8][:8]:
        count = range(1, int(row["# variables"]) + 1)
        ranges = np.array([[float(row[f"v{n}_low"]), float(row[f"v{n}_high"])] for n in count])
        found.append((row["Formula"], [row[f"v{n}_name"] for n in count], ranges))
    return found


def page(rows: list[dict[str, Any]]) -> str:
    """Return means over seeds as a table."""
    tasks = [name for name in rows[0] if name not in ("scheme", "rate")]
    lines = []
    for row in rows:
        cells = []
        for task in tasks:
            values = np.array(row[task])
            error = values.std(ddof=1) / math.sqrt(len(values))
            cells.append(f"{values.mean():.4f}" + ("" if "Feynman" in task else f" ± {error:.4f}"))
        lines.append([row["scheme"], row["rate"], *cells])
    heads = [name + (": log10 error" if "Feynman" in name else ": loss") for name in tasks]
    return table(["scheme", "rate of coefficients", *heads], lines)


if __name__ == "__main__":
    main()
