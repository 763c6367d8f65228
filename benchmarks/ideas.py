"""What helps the networks of a task: one change at a time from settings that were tuned.

    python benchmarks/ideas.py top_dm --data samples/top_dm-full.parquet
    python benchmarks/ideas.py multijet                                    # on the sample in the package

Every idea is given to the KAN and, where it applies, to the MLP: the same events, the same seeds (initial values and
partition into training and validation), judged by the validation loss: for top_dm the mean absolute error in standard
deviations of the targets, for multijet the cross-entropy. Differences are paired by seed. Writes
results/TASK_ideas.json and the table of docs/notebook.md; finished trainings are not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from summary import ROOT, insert, provenance, table
from tuning import Trial, train

from hepkan.executors import watch_parent
from hepkan.files import write_text
from hepkan.report.words import difference, title, with_error
from hepkan.studies.options import load_card
from hepkan.studies.run import prepare

Changes = dict[str, dict[str, dict[str, Any]]]
"""By idea and kind of model: the settings that change."""


class Study(NamedTuple):
    """What is tried on a task.

    Attributes:
        ideas: by name, with what changes by model.
        base: settings of a model to begin with, where they are not those of the card.
        seeds: of initial values and partition.
        overrides: of the card.
        measure: what the validation loss is called.
    """

    ideas: Changes
    base: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    measure: str


PLAIN = {"hidden": [40, 40], "grid": 3, "learning_rate": 0.005, "weight_decay": 0.05, "batch": 256, "grid_updates": 2,
         "average": 0.999}  # fmt: skip
"""The best KAN of the first search for top_dm, with a spline of its own on every edge; the MLP is that of the card."""
SHARED = {"hidden": [60, 60, 60, 40], "rank": 1, "grid_updates": 0}
TOP_DM: Changes = {
    "as tuned": {"kan": {}, "mlp": {}},
    "inputs standardised, not mapped to a normal distribution": {
        "kan": {"input_map": "standard"},
        "mlp": {"input_map": "standard"},
    },
    "no average of weights": {"kan": {"average": 0.0}, "mlp": {"average": 0.0}},
    "no weight decay": {"kan": {"weight_decay": 0.0}, "mlp": {"weight_decay": 0.0}},
    "batch 1024": {"kan": {"batch": 1024}, "mlp": {"batch": 1024}},
    "100 epochs": {"kan": {"epochs": 100, "patience": 16}, "mlp": {"epochs": 100, "patience": 16}},
    "constant rate": {"kan": {"schedule": "constant"}, "mlp": {"schedule": "constant"}},
    "mass shells": {"kan": {"head": "mass_shells"}, "mlp": {"head": "mass_shells"}},
    "mass shells, pT sum is MET": {"kan": {"head": "mass_shells_met"}, "mlp": {"head": "mass_shells_met"}},
    "no dropout": {"mlp": {"dropout": 0.0}},
    "grid 5": {"kan": {"grid": 5}},
    "grid 8": {"kan": {"grid": 8}},
    "knots do not move": {"kan": {"grid_updates": 0}},
    "degree 2": {"kan": {"degree": 2}},
    "a quarter of the nodes are products": {"kan": {"products": 10}},
    "linear base function": {"kan": {"base": "linear"}},
    "penalty on edges (L1)": {"kan": {"regularisers": {"l1": 1e-4}}},
    "one hidden layer of 64": {"kan": {"hidden": [64]}},
    "30 x 30": {"kan": {"hidden": [30, 30]}},
    "32 x 32 x 24": {"kan": {"hidden": [32, 32, 24]}},
    "100 x 100": {"kan": {"hidden": [100, 100]}, "mlp": {"hidden": [100, 100]}},
    "penalty on curvature": {"kan": {"regularisers": {"curvature": 1e-4}}},
    "edges share functions (rank 1), 60 x 60 x 60 x 40": {"kan": SHARED},
    "taught by the mean of four": {"kan": {"teachers": 4}, "mlp": {"teachers": 4}},
    "rank 1, taught by four": {"kan": {**SHARED, "teachers": 4}},
}
MULTIJET: Changes = {
    "as tuned": {"kan": {}, "mlp": {}},
    "no average of weights": {"kan": {"average": 0.0}, "mlp": {"average": 0.0}},
    "less weight decay": {"kan": {"weight_decay": 0.05}, "mlp": {"weight_decay": 0.0001}},
    "more weight decay": {"kan": {"weight_decay": 0.5}, "mlp": {"weight_decay": 0.01}},
    "grid 3": {"kan": {"grid": 3}},
    "degree 2": {"kan": {"degree": 2}},
    "linear base function": {"kan": {"base": "linear"}},
    "penalty on curvature": {"kan": {"regularisers": {"curvature": 1e-4}}},
    "edges share functions (rank 1), 60 x 60 x 40": {"kan": {"hidden": [60, 60, 40], "rank": 1}},
    "taught by the mean of four": {"kan": {"teachers": 4}, "mlp": {"teachers": 4}},
}
STUDIES = {
    "top_dm": Study(TOP_DM, {"kan": PLAIN}, (0, 1), ("rows=10000",), "MAE"),
    "multijet": Study(MULTIJET, {}, (0, 1, 2, 3, 4), (), "cross-entropy"),
}


def result(task: str) -> Path:
    """Return where the results of a task are."""
    return Path(__file__).parent / "results" / f"{task}_ideas.json"


def settings_of(task: str, kind: str, change: Mapping[str, Any]) -> str:
    """Return the settings that were tuned with a change, as JSON."""
    loss = {"loss": "mae"} if task == "top_dm" else {}
    base = STUDIES[task].base.get(kind) or load_card(task).models[kind]
    return json.dumps({**base, **loss, **change}, sort_keys=True)


def lines(task: str, content: Mapping[str, Any]) -> str:
    """Return the validation loss of every idea, and its difference to the tuned settings, as Markdown."""
    found = {(row["idea"], row["kind"]): np.array(row["losses"]) for row in content["rows"]}
    cost = {(row["idea"], row["kind"]): row["seconds"] for row in content["rows"]}
    rows = []
    for idea, kinds in STUDIES[task].ideas.items():
        for kind in kinds:
            losses, base = found[idea, kind], found["as tuned", kind]
            gap = losses - base
            error = float(gap.std(ddof=1) / np.sqrt(len(gap)))
            item = {"difference": float(gap.mean()), "error": error}
            words = "" if idea == "as tuned" else difference(item)
            mean = with_error(float(losses.mean()), float(losses.std(ddof=1) / np.sqrt(len(losses))))
            rows.append([idea, title(kind), mean, words, f"{cost[idea, kind]:.0f} s"])
    return table(["change", "network", f"validation {STUDIES[task].measure}", "difference", "training"], rows)


def main() -> None:
    """Train everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=STUDIES)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    task, study, path = arguments.task, STUDIES[arguments.task], result(arguments.task)
    data = prepare(load_card(task, data=arguments.data, overrides=study.overrides))
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    trials = known.get("trials", []) if known.get("sha256") == data.sha256 else []
    done = {Trial(one["kind"], one["settings"], one["seed"]): one for one in trials}
    cases = [(idea, kind, change) for idea, kinds in study.ideas.items() for kind, change in kinds.items()]
    plan = [Trial(kind, settings_of(task, kind, change), seed) for _, kind, change in cases for seed in study.seeds]
    todo = [trial for trial in dict.fromkeys(plan) if trial not in done]
    with ProcessPoolExecutor(arguments.workers, get_context("spawn"), initializer=watch_parent) as pool:
        for trial, (loss, seconds) in zip(todo, pool.map(partial(train, data=data), todo), strict=True):
            done[trial] = {**vars(trial), "loss": loss, "seconds": round(seconds, 1)}
            print(f"{trial.kind} seed {trial.seed} {loss:.5f} {seconds:6.1f} s {trial.settings}", flush=True)
            write_text(path, json.dumps({**provenance(data), "trials": list(done.values())}, indent=1) + "\n")
    rows = []
    for idea, kind, change in cases:
        mine = [done[Trial(kind, settings_of(task, kind, change), seed)] for seed in study.seeds]
        seconds = float(np.mean([one["seconds"] for one in mine]))
        rows.append({"idea": idea, "kind": kind, "losses": [one["loss"] for one in mine], "seconds": seconds})
    content = {**provenance(data), "rows": rows, "trials": list(done.values())}
    write_text(path, json.dumps(content, indent=1) + "\n")
    insert(lines(task, content), f"{task}_ideas", ROOT / "docs" / "notebook.md")


if __name__ == "__main__":
    main()
