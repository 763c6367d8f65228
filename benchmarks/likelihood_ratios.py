"""A one-layer KAN on independent features learns the sum of their log-likelihood ratios; the error shrinks with events.

    python benchmarks/likelihood_ratios.py [--seeds 5]

Five features of known densities in two classes: a shifted normal, two exponentials, a beta, a Poisson count, and one
that does not separate. A `[5, 1]` network is trained with cross-entropy on n events, a quarter of them for validation.
Its log odds are compared with the true ones on events of their own: rms of the difference, also of each feature's
function, beside the rms of histogram ratios with the bins of `hepkan.interpret.likelihood_ratios`.

Writes results/likelihood_ratios.json and .md.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from summary import table

import hepkan
from hepkan.files import write_text
from hepkan.interpret import likelihood_ratios
from hepkan.studies.environment import cpu, versions

RESULT = Path(__file__).parent / "results" / "likelihood_ratios.json"
NUMBERS = (1_000, 4_000, 16_000, 64_000, 256_000)
TEST = 50_000
DENSITIES: dict[str, tuple[Any, Any]] = {
    "normal": (stats.norm(-0.5, 1.0), stats.norm(0.5, 1.0)),
    "exponential": (stats.expon(scale=20.0), stats.expon(scale=35.0)),
    "beta": (stats.beta(2.0, 4.0), stats.beta(3.0, 3.0)),
    "count": (stats.poisson(4.0), stats.poisson(2.5)),
    "none": (stats.norm(0.0, 1.0), stats.norm(0.0, 1.0)),
}
STEPS = 3000
"""Steps of a training, at least; the epoch that is best on validation counts."""
SETTINGS: dict[str, Any] = {"batch": 256, "learning_rate": 0.02, "weight_decay": 0.01, "average": 0.99}


def draw(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return events and labels."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, n)
    columns = [
        np.where(y == 1, one.rvs(n, random_state=generator), zero.rvs(n, random_state=generator))
        for zero, one in DENSITIES.values()
    ]
    return np.stack(columns, axis=1).astype(np.float32), y


def truth(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the true log-likelihood ratio of every feature, `(n, features)`."""
    parts = []
    for values, (zero, one) in zip(X.T.astype(np.float64), DENSITIES.values(), strict=True):
        name = "logpmf" if isinstance(zero.dist, stats.rv_discrete) else "logpdf"
        parts.append(getattr(one, name)(values) - getattr(zero, name)(values))
    return np.stack(parts, axis=1)


def rms(values: NDArray[np.float64]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def one(n: int, seed: int) -> dict[str, Any]:
    """Return the errors of one training."""
    X, y = draw(n, 1000 * seed + 1)
    cut = 3 * n // 4
    model = hepkan.KAN([X.shape[1], 1], seed=seed)
    model.feature_names = list(DENSITIES)
    epochs = max(8, STEPS * SETTINGS["batch"] // cut)
    settings = {**SETTINGS, "epochs": epochs, "patience": max(8, epochs // 5), "seed": seed}
    hepkan.fit(model, (X[:cut], y[:cut]), (X[cut:], y[cut:]), **settings)
    test, _ = draw(TEST, 7)
    true = truth(test)
    with torch.no_grad():
        x = torch.from_numpy(test)
        odds = model(x)[:, 0].double().numpy()
        functions = model.layers[0].edge_functions(model.coordinates(x))[:, :, 0].double().numpy()
    centred = true - true.mean(axis=0)
    learned = functions - functions.mean(axis=0)
    each = {name: rms(learned[:, i] - centred[:, i]) for i, name in enumerate(DENSITIES)}
    histograms = np.zeros(len(test))
    for i, ratio in enumerate(likelihood_ratios(model, X, y)):
        place = np.clip(np.searchsorted(ratio.edges, test[:, i], side="right") - 1, 0, len(ratio.ratio) - 1)
        values = np.nan_to_num(ratio.ratio)[place]
        histograms += values - values.mean()
    total = true.sum(axis=1)
    return {
        "kan": rms(odds - total),
        "histograms": rms(histograms - (total - total.mean())),
        "each": each,
    }


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for n in NUMBERS:
        found = [one(n, seed) for seed in range(arguments.seeds)]
        row: dict[str, Any] = {"events": n, "seeds": arguments.seeds}
        for name in ("kan", "histograms"):
            values = np.array([single[name] for single in found])
            row[name] = [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))]
        row["each"] = {name: float(np.mean([single["each"][name] for single in found])) for name in DENSITIES}
        rows.append(row)
        print(n, row["kan"], row["histograms"], flush=True)
    spread = rms((lambda t: t - t.mean())(truth(draw(TEST, 7)[0]).sum(axis=1)))
    slope = float(np.polyfit(np.log([row["events"] for row in rows]), np.log([row["kan"][0] for row in rows]), 1)[0])
    settings = {**SETTINGS, "steps": STEPS}
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    content = {
        "date": date,
        "machine": cpu(),
        "versions": versions(),
        "settings": settings,
        "spread": spread,
        "slope": slope,
    }
    content["rows"] = rows
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    write_text(RESULT.with_suffix(".md"), page(content))


def page(content: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    head = ["events", "KAN", "histograms", *DENSITIES]
    lines = [
        [str(row["events"]), *(f"{row[name][0]:.3f} ± {row[name][1]:.3f}" for name in ("kan", "histograms")),
         *(f"{row['each'][name]:.3f}" for name in DENSITIES)]
        for row in content["rows"]
    ]  # fmt: skip
    words = (
        "Rms of learned minus true log odds of a one-layer KAN on independent features of known densities, on events "
        f"of their own; the true log odds have a spread of {content['spread']:.2f}. Mean and error over "
        f"{content['rows'][0]['seeds']} seeds; the last columns are the functions of single features, centred. "
        f"The error falls like n^{content['slope']:.2f}."
    )
    return "\n".join(["# One-layer KAN and likelihood ratios", "", words, "", table(head, lines), ""])


if __name__ == "__main__":
    main()
