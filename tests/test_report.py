"""The page of a run: honest, complete, self-contained, the same every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from hepkan.metrics import evaluate, roc_curve
from hepkan.model_io import save
from hepkan.nn import KAN, MLP

FEATURES = [
    {"name": "w_mt", "unit": "GeV", "label": "$m_T(W)$"},
    {"name": "lep_charge", "unit": "", "label": r"$q(\ell)$"},
    {"name": "ljet_eta", "unit": "", "label": r"$\eta(j)$"},
    {"name": "met_sig", "unit": "GeV^0.5", "label": r"$p_T^{miss}/\sqrt{H_T}$"},
    {"name": "broken", "unit": "rad", "label": r"$\nosuchmacro{$"},
]
MODELS = {"kan": 2, "gam": 2, "mlp": 2, "bdt": 1}
ROWS = 3000


def events(seed: int, n: int = ROWS) -> dict[str, Any]:
    """Return five inputs, two of which separate, with weights of which a few are negative."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, n)
    columns = {
        "w_mt": rng.gamma(2 + 2 * target, 15.0),
        "lep_charge": rng.choice([-1.0, 1.0], n),
        "ljet_eta": rng.normal(0, 1.5 + 0.7 * target),
        "met_sig": rng.exponential(3.0, n),
        "broken": rng.uniform(0, np.pi, n),
    }
    weight = rng.exponential(1.0, n) * np.where(target == 1, 0.01, 0.1) * rng.choice([1, 1, 1, 1, -0.1], n)
    process = np.where(target == 0, "multijet", rng.choice(["ttbar", "wjets"], n))
    return {
        **{name: column.astype(np.float32) for name, column in columns.items()},
        "target": target,
        "weight": weight,
        "process": process,
        "id": np.arange(n),
        "group": np.arange(n),
    }


def score(columns: dict[str, Any], noise: float, seed: int) -> np.ndarray:
    """Return a score that knows the truth up to some noise."""
    rng = np.random.default_rng(seed)
    logit = np.log(columns["w_mt"] / 45.0) * 2 + 0.2 * (np.abs(columns["ljet_eta"]) - 1.5)
    return 1 / (1 + np.exp(-logit - rng.normal(0, noise, len(logit))))


def build_run(
    folder: Path, difference: float = 0.02, sigma: float | None = 5.0, rows: int = ROWS, features: Any = None
) -> Path:
    """Write a run folder as ARCHITECTURE.md describes it."""
    folder.mkdir(parents=True)
    test, train = events(1, rows), events(2, rows)
    names = [one["name"] for one in FEATURES]
    X = np.column_stack([train[name] for name in names])
    frames = {"predictions": (test, {}), "train_scores": (train, {})}
    history, results, roc = [], [], {}
    for place, (model, seeds) in enumerate(MODELS.items()):
        for seed in range(seeds):
            for columns, scores in frames.values():
                scores[f"{model}-seed{seed}"] = score(columns, 0.3 + 0.3 * place, 10 * place + seed)
            for epoch in range(1, 6):
                loss = 0.6 / epoch + 0.1 * place
                history.append((model, seed, epoch, loss, loss + 0.02))
            member = folder / "members" / f"{model}-seed{seed}"
            member.mkdir(parents=True)
            widths = {"kan": [5, 3, 1], "gam": [5, 1], "mlp": [5, 4, 1]}.get(model)
            if widths is not None:
                network = (MLP if model == "mlp" else KAN)(widths, seed=seed)
                network.fit_inputs(X)
                save(network, member / "model.hepkan")
        first = frames["predictions"][1][f"{model}-seed0"]
        found = evaluate(test["target"], first, test["weight"], n_boot=5, luminosity_fb=138.0)
        facts = {"task": "multijet", "model": model, "seeds": seeds, "parameters": 1234 * (place + 1)}
        for metric, (value, error) in found.items():
            more = {"train_seconds": 12.0 * place, "settings": {"hidden": [3], "learning_rate": 0.005}}
            results.append({**facts, "metric": metric, "value": value, "error": error, **more})
        background, signal = roc_curve(test["target"], first, test["weight"])
        x = np.linspace(0, 1, 101)
        roc[model] = {
            "signal_efficiency": x.tolist(),
            "background_efficiency": np.interp(x, signal, background).tolist(),
        }
    for name, (columns, scores) in frames.items():
        kept = {key: columns[key] for key in ("id", "group", "process", "target", "weight")}
        pq.write_table(pa.table({**kept, "prediction": scores["kan-seed0"], **scores}), folder / f"{name}.parquet")
    inputs = {name: test[name] for name in (*names, "target", "weight", "process")}
    pq.write_table(pa.table(inputs), folder / "inputs.parquet")
    columns = zip(("model", "seed", "epoch", "train_loss", "validation_loss"), zip(*history, strict=True), strict=True)
    pq.write_table(pa.table({name: list(values) for name, values in columns}), folder / "history.parquet")
    card = {"task": "classification", "question": "Is <it> so?", "title": "A study", "reference": "mlp"}
    (folder / "card.yaml").write_text(yaml.safe_dump({**card, "model": {"kind": "kan"}, "seeds": 2}))
    error = difference / sigma if sigma else 0.0
    pair = {"model": "kan", "metric": "auc"}
    report = {
        "task": "multijet",
        "version": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "command": "hepkan run multijet",
        "environment": {"versions": {"hepkan": "0.1.0", "torch": "2.13.0"}, "platform": "Linux", "cpu": "one"},
        "data": {
            "source": "embedded:multijet",
            "recipe_hash": "abc123",
            "n_train": rows,
            "n_validation": 500,
            "n_test": rows,
            "yields": [
                {"process": "ttbar", "label": 1, "rows": 900, "effective": 500.0, "pb": 3.2},
                {"process": "wjets", "label": 1, "rows": 600, "effective": 300.0, "pb": 1.2},
                {"process": "multijet", "label": 0, "rows": 1500, "effective": 200.0, "pb": 80.0},
            ],
        },
        "luminosity_fb": 138.0,
        "rows": results,
        "comparisons": [
            {**pair, "reference": "mlp", "difference": difference, "error": error, "sigma": sigma},
            {**pair, "reference": "bdt", "difference": -0.01, "error": 0.002, "sigma": -5.0},
        ],
        "roc": roc,
        "features": FEATURES,
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder
