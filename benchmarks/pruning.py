"""How few of the 43 inputs of the multijet task a KAN needs, and whether seeds agree on them.

    python benchmarks/multijet.py ...   # trains the networks that are pruned here
    python benchmarks/pruning.py --data samples/multijet-full.parquet --test samples/multijet-test.parquet

Every network of `runs/multijet-full` is pruned with one recipe (`RECIPE`): inputs go by their measured effect on the
loss of validation events, at first many at a time, the last ones one by one, each time the best of some candidates
after a short training; then the network is trained again and its edges are pruned. Test events are looked at once, at
the end.

Writes results/pruning.json and results/pruning.md; a finished seed is kept in runs/pruning and not done again.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from summary import ROOT, provenance, table

import hepkan
from hepkan.files import write_text
from hepkan.interpret import pruning_curve
from hepkan.metrics import compare, evaluate
from hepkan.report.words import with_error
from hepkan.studies.members import split
from hepkan.studies.options import load_card
from hepkan.studies.record import full_weight
from hepkan.studies.run import prepare

RESULT = Path(__file__).parent / "results" / "pruning.json"
RUN, SEEDS, KEPT = ROOT / "runs" / "multijet-full", 5, ROOT / "runs" / "pruning"
INPUTS, ALLOWED = 10, 0.003
TRAIN = {"batch": 1024, "average": 0.99}
RECIPE: dict[str, Any] = {
    "first": {"least": 18, "fraction": 0.2, "finetune": {"epochs": 1, "learning_rate": 3e-3, "weight_decay": 0.1}},
    "then": {
        "least": 8,
        "fraction": 0.01,
        "candidates": 4,
        "finetune": {"epochs": 1, "learning_rate": 5e-3, "weight_decay": 0.03},
    },
    "last": {"epochs": 20, "patience": 6, "learning_rate": 5e-3, "weight_decay": 0.03},
    "edges": {
        "tolerance": 1e-3,
        "fraction": 0.1,
        "finetune": {"epochs": 1, "learning_rate": 2e-3, "weight_decay": 0.03},
    },
    "events": 20_000,
}


def prune_seed(data: Any, seed: int) -> dict[str, Any]:
    """Return what pruning the network of one seed has given."""
    train, validation, test = split(data, seed)
    parts = []
    for one in (train, validation):
        kept, weight = one.for_training("abs")
        parts.append((kept.X, kept.y, weight))
    model = hepkan.load(RUN / "members" / f"kan-seed{seed}" / "model.hepkan")
    start = time.process_time()
    settings = {"validation": parts[1], "events": RECIPE["events"]}
    stages, small = [], model
    for name in ("first", "then"):
        recipe = {**RECIPE[name], "finetune": {**TRAIN, **RECIPE[name]["finetune"]}}
        curve = pruning_curve(small, *parts[0], part="inputs", **recipe, **settings)
        stages += curve.stages if name == "first" else curve.stages[1:]
        small = curve.stages[-1].model
    small = next(stage.model for stage in stages if stage.inputs <= INPUTS)
    tuned = trained(small, parts)
    recipe = {**RECIPE["edges"], "finetune": {**TRAIN, **RECIPE["edges"]["finetune"]}}
    edges = pruning_curve(tuned, *parts[0], **recipe, **settings)
    sparse = edges.within(RECIPE["edges"]["tolerance"]).model
    seconds = time.process_time() - start
    networks = {"full": model, "few inputs": tuned, "few inputs and edges": sparse}
    scores = {name: one.predict(test.X) for name, one in networks.items()}
    judged, weight = {}, full_weight(data, test)
    for name, one in networks.items():
        auc = evaluate(test.y, scores[name], weight, test.group)["auc"]
        lost = compare(test.y, scores[name], scores["full"], weight, test.group)["auc"]
        judged[name] = {"auc": auc, "difference": lost, **size(one)}
    rows = [
        {"inputs": s.inputs, "edges": s.edges, "loss": s.loss, "increase": s.increase, "error": s.error,
         "names": s.model.input_names}
        for s in stages
    ]  # fmt: skip
    return {"seed": seed, "networks": judged, "curve": rows, "edges": edges.rows(), "cpu_seconds": seconds}


def trained(model: hepkan.KAN, parts: list[tuple[Any, ...]]) -> hepkan.KAN:
    """Return the network trained again on all training events; the epoch with the best validation loss counts."""
    again = copy.deepcopy(model)
    hepkan.fit(again, *parts, **TRAIN, **RECIPE["last"], fit_inputs=False)
    return again


def size(model: hepkan.KAN) -> dict[str, Any]:
    """Return the names of the inputs and the numbers of nodes, edges and parameters."""
    masks = [layer.edge_mask for layer in model.layers]
    every = [layer.coef.shape[0] * layer.coef.shape[2] for layer in model.layers]
    edges = sum(whole if mask is None else int(mask.sum()) for mask, whole in zip(masks, every, strict=True))
    return {"inputs": model.input_names, "widths": model.widths, "edges": edges, "parameters": model.n_parameters}


def page(content: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = ["# Pruning the multijet network", "", content["verdict"], ""]
    rows = []
    for name in ("full", "few inputs", "few inputs and edges"):
        one = [seed["networks"][name] for seed in content["seeds"]]
        rows.append([name, *(spread([n[key] if key != "inputs" else len(n[key]) for n in one])
                             for key in ("inputs", "edges", "parameters")),
                     with_error(*mean([n["auc"] for n in one])),
                     with_error(*mean([n["difference"] for n in one])) if name != "full" else ""])  # fmt: skip
    lines += [table(["network", "inputs", "edges", "parameters", "test AUC", "AUC - full"], rows), ""]
    lines += ["Validation loss against the number of inputs, mean and range over the seeds:", ""]
    numbers = sorted({row["inputs"] for seed in content["seeds"] for row in seed["curve"]}, reverse=True)
    points = []
    for number in numbers:
        found = [row["increase"] for seed in content["seeds"] for row in seed["curve"] if row["inputs"] == number]
        points.append(
            [str(number), f"{np.mean(found):+.4f}", f"{min(found):+.4f} to {max(found):+.4f}", str(len(found))]
        )
    lines += [table(["inputs", "increase of the loss", "range", "seeds"], points), ""]
    lines += [f"How many of the {len(content['seeds'])} seeds keep an input:", ""]
    lines += [table(["input", "seeds"], [[name, str(times)] for name, times in content["kept"].items()]), ""]
    return "\n".join(lines)


def mean(values: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the mean over seeds and its error: seeds and test events."""
    numbers = np.array([value for value, _ in values])
    seeds = numbers.std(ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
    return float(numbers.mean()), float(np.hypot(seeds, np.mean([error for _, error in values])))


def spread(values: list[int]) -> str:
    """Return a number, or the range of several."""
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return which inputs are kept how often, and whether the claim holds."""
    names = [name for seed in seeds for name in seed["networks"]["few inputs"]["inputs"]]
    kept = {name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))}
    chosen = [set(seed["networks"]["few inputs"]["inputs"]) for seed in seeds]
    pairs = [len(a & b) / len(a | b) for n, a in enumerate(chosen) for b in chosen[:n]]
    value, error = mean([seed["networks"]["few inputs"]["difference"] for seed in seeds])
    word = "is met" if value >= -ALLOWED else "is missed"
    overlap = float(np.mean(pairs)) if pairs else 1.0
    verdict = (
        f"With at most {INPUTS} of 43 inputs the AUC changes by {with_error(value, error)} over {len(seeds)} seeds: "
        f"the target of at most {ALLOWED} lost {word}. Two seeds share {100 * overlap:.0f} % of the inputs that either "
        f"keeps, and {sum(times == len(seeds) for times in kept.values())} inputs are kept by all."
    )
    return {"kept": kept, "overlap": overlap, "difference": [value, error], "verdict": verdict}


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True, help="a sample for the test part alone")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(SEEDS)), help="do these only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    card = load_card("multijet", data=arguments.data, test=arguments.test)
    data = prepare(card)
    for seed in arguments.seeds:
        path = KEPT / f"seed{seed}.json"
        if path.is_file() and json.loads(path.read_text())["recipe"] == RECIPE:
            continue
        found = prune_seed(data, seed)
        write_text(path, json.dumps({"recipe": RECIPE, "found": found}, indent=1) + "\n")
        print(seed, {name: one["auc"] for name, one in found["networks"].items()}, flush=True)
    paths = [KEPT / f"seed{seed}.json" for seed in range(SEEDS)]
    if not all(path.is_file() for path in paths):
        return
    seeds = [json.loads(path.read_text())["found"] for path in paths]
    content = {**provenance(data), "recipe": RECIPE, **summary(seeds), "seeds": seeds}
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    write_text(RESULT.with_suffix(".md"), page(content))


if __name__ == "__main__":
    main()
