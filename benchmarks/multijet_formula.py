"""What a closed formula costs in AUC on the multijet task, over the seeds of a trained run.

    python benchmarks/multijet.py ...   # trains the networks that are turned into formulae here
    python benchmarks/multijet_formula.py --data samples/multijet-full.parquet --test samples/multijet-test.parquet

Every network of `runs/multijet-full` is pruned and turned into a formula with one recipe (`PRUNE`, `SYMBOLIC`): on
training events, with validation events choosing while it is pruned. Test events are looked at once, at the end.

Writes results/multijet_formula.json and results/multijet_formula.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from summary import ROOT, provenance, table

import hepkan
from hepkan.files import write_text
from hepkan.metrics import compare, evaluate
from hepkan.report.words import with_error
from hepkan.studies.members import split
from hepkan.studies.options import load_card
from hepkan.studies.record import full_weight
from hepkan.studies.run import prepare

RESULT = Path(__file__).parent / "results" / "multijet_formula.json"
RUN, SEEDS = ROOT / "runs" / "multijet-full", 5
ALLOWED = 0.01
FINETUNE = {"batch": 1024, "average": 0.99, "epochs": 1, "learning_rate": 3e-3, "weight_decay": 0.05}
PRUNE: dict[str, Any] = {"inputs": 8, "nodes": 3, "edges": 20, "finetune": FINETUNE, "events": 20_000}
SYMBOLIC: dict[str, Any] = {"tolerance": 0.05, "max_events": 4000}


def formula_of_seed(data: Any, seed: int) -> dict[str, Any]:
    """Return the formula of the network of one seed and what it costs."""
    train, validation, test = split(data, seed)
    parts = []
    for one in (train, validation):
        kept, weight = one.for_training("abs")
        parts.append((kept.X, kept.y, weight))
    model = hepkan.load(RUN / "members" / f"kan-seed{seed}" / "model.hepkan")
    start = time.process_time()
    small = hepkan.prune(model, *parts[0], validation=parts[1], **PRUNE)  # type: ignore[arg-type]
    rows = np.random.default_rng(seed).permutation(len(parts[0][0]))[: SYMBOLIC["max_events"]]
    X, y, weight = (np.asarray(part)[rows] for part in parts[0])
    formula = hepkan.symbolic(small, X, y, weight, names=list(train.names), **SYMBOLIC)
    seconds = time.process_time() - start
    scores = {"full": model.predict(test.X), "pruned": small.predict(test.X), "formula": formula.predict(test.X)}
    weight = full_weight(data, test)
    judged = {}
    for name, score in scores.items():
        lost = compare(test.y, score, scores["full"], weight, test.group)["auc"]
        judged[name] = {"auc": evaluate(test.y, score, weight, test.group)["auc"], "difference": lost}
    return {
        "seed": seed,
        "judged": judged,
        "formula": str(formula),
        "latex": formula.latex(),
        "inputs": list(formula.used),
        "complexity": formula.complexity,
        "splines": formula.n_splines,
        "cpu_seconds": seconds,
    }


def page(rows: list[dict[str, Any]]) -> str:
    """Return the result as Markdown."""
    lines = ["# A closed formula for the multijet task", "", "`python benchmarks/multijet_formula.py`", ""]
    cells = [
        [
            str(row["seed"]),
            with_error(*row["judged"]["full"]["auc"]),
            with_error(*row["judged"]["formula"]["auc"]),
            with_error(*row["judged"]["formula"]["difference"]),
            str(row["complexity"]),
            str(row["splines"]),
            ", ".join(row["inputs"]),
        ]
        for row in rows
    ]
    lines += [table(["seed", "full KAN", "formula", "difference", "complexity", "splines", "inputs"], cells), ""]
    closed = sum(row["splines"] == 0 and row["judged"]["formula"]["difference"][0] >= -ALLOWED for row in rows)
    lines += [f"{closed} of {len(rows)} seeds have a formula without splines that loses at most {ALLOWED} in AUC.", ""]
    for row in rows:
        lines += [f"Seed {row['seed']}: `{row['formula']}`", ""]
    return "\n".join(lines)


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True, help="a sample for the test part alone")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(SEEDS)), help="do these only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = prepare(load_card("multijet", data=arguments.data, test=arguments.test))
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        rows.append(formula_of_seed(data, seed))
        print(seed, rows[-1]["judged"], rows[-1]["formula"][:200], flush=True)
        content = {**provenance(data), "prune": PRUNE, "symbolic": SYMBOLIC, "seeds": rows}
        write_text(RESULT, json.dumps(content, indent=1) + "\n")
        write_text(RESULT.with_suffix(".md"), page(rows))


if __name__ == "__main__":
    main()
