"""How few of the 43 inputs of the multijet task a KAN needs, and whether seeds agree on them.

    python benchmarks/multijet.py ...   # trains the networks that are pruned here
    python benchmarks/pruning.py --data samples/multijet-full.parquet --test samples/multijet-few.parquet --judge

Every network of `runs/multijet-full` is pruned with one recipe (`RECIPE`). Inputs go by their measured effect on the
outputs for validation events, at first many at a time, with an epoch of training in between. The last ten are then
exchanged for others (`hepkan.interpret.select_inputs`). The network of these inputs is trained to the outputs of the
whole one, then to the labels; so is one with the two inputs that would come next. A wider network of the ten says what
these know. Test events are looked at once, at the end.

Writes results/pruning.json and results/pruning.md; a finished seed is kept in runs/pruning and not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from summary import ROOT, provenance, table

import hepkan
from hepkan.files import write_text
from hepkan.interpret import Stage, pruning_curve, remove_inputs, select_inputs
from hepkan.metrics import compare, evaluate
from hepkan.report.words import with_error
from hepkan.studies.members import split
from hepkan.studies.options import load_card
from hepkan.studies.record import full_weight
from hepkan.studies.run import prepare

RESULT = Path(__file__).parent / "results" / "pruning.json"
RUN, SEEDS, KEPT = ROOT / "runs" / "multijet-full", 5, ROOT / "runs" / "pruning"
INPUTS, ALLOWED = 10, 0.003
MORE, WIDER = 12, (128, 32)
"""Inputs with which the same is done, to see how many the target needs, and hidden nodes of the wider network."""
NETWORKS = {
    "full": "all inputs",
    "backward": "backward elimination",
    "few": "after exchanges, trained again",
    "wider": f"the same inputs, {' x '.join(map(str, WIDER))} nodes",
    "more": "two inputs more",
}
Arrays = tuple[Any, Any, Any]
TRAIN = {"batch": 1024, "average": 0.99}
RECIPE: dict[str, Any] = {
    "path": {"least": 10, "fraction": 0.15, "finetune": {"epochs": 1, "learning_rate": 5e-3, "weight_decay": 0.05}},
    "exchange": {"depth": 3, "beam": 4, "starts": 3, "hidden": 256, "steps": 8000},
    "repeat": {"loss": "mse", "epochs": 60, "patience": 60, "average": 0.999, "learning_rate": 8e-3,
               "weight_decay": 0.03},
    "last": {"epochs": 8, "patience": 8, "learning_rate": 2e-3, "weight_decay": 0.1},
    "events": 10_000,
}  # fmt: skip


def prune_seed(data: Any, seed: int) -> dict[str, Any]:
    """Prune the network of one seed, keep the small one, and return what was seen on validation events."""
    train, validation, _ = split(data, seed)
    parts = [arrays(one) for one in (train, validation)]
    model = whole(seed)
    start = time.process_time()
    path = backward(model, parts)
    ten = next(stage.model for stage in path if stage.inputs <= INPUTS)
    (X, _, weight), _ = parts
    chosen = select_inputs(model, X, weight, start=ten.input_names, seed=seed, **RECIPE["exchange"])
    networks = {"backward": ten, "few": trained(model, chosen.names, parts)}
    seconds = time.process_time() - start
    networks["more"] = trained(model, [*chosen.names, *chosen.further[: MORE - INPUTS]], parts)
    networks["wider"] = wider(model, chosen.names, train, validation, seed)
    KEPT.mkdir(parents=True, exist_ok=True)
    for name, one in networks.items():
        hepkan.save(one, KEPT / f"seed{seed}-{name}.hepkan")
    best = validation_auc(model, parts[1])
    rows = [
        {"inputs": s.inputs, "edges": s.edges, "infidelity": s.increase, "error": s.error,
         "auc": validation_auc(s.model, parts[1]) - best, "names": s.model.input_names}
        for s in path
    ]  # fmt: skip
    exchanges = {"start": chosen.start, "end": chosen.infidelity, "new": chosen.new, "old": chosen.old}
    lost = {name: validation_auc(one, parts[1]) - best for name, one in networks.items()}
    return {"seed": seed, "curve": rows, "exchanges": exchanges, "validation": lost, "cpu_seconds": seconds}


def whole(seed: int) -> Any:
    """Return the network of the run."""
    return hepkan.load(RUN / "members" / f"kan-seed{seed}" / "model.hepkan")


def judged(data: Any, seed: int) -> dict[str, Any]:
    """Return AUC on test events, and difference to the whole network, of the networks of a seed."""
    _, _, test = split(data, seed)
    weight = full_weight(data, test)
    networks = {"full": whole(seed)}
    networks |= {name: hepkan.load(KEPT / f"seed{seed}-{name}.hepkan") for name in NETWORKS if name != "full"}
    scores = {name: one.predict(test.X) for name, one in networks.items()}
    return {
        name: {
            "auc": evaluate(test.y, scores[name], weight, test.group)["auc"],
            "difference": compare(test.y, scores[name], scores["full"], weight, test.group)["auc"],
            **size(one),
        }
        for name, one in networks.items()
    }


def arrays(events: Any) -> Arrays:
    """Return features, labels and weights as training takes them."""
    kept, weight = events.for_training("abs")
    return kept.X, kept.y, weight


def backward(model: hepkan.KAN, parts: list[Arrays]) -> tuple[Stage, ...]:
    """Return the networks on the way to few inputs, each kept near the outputs of the whole one."""
    recipe = {**RECIPE["path"], "finetune": {**TRAIN, **RECIPE["path"]["finetune"]}}
    (X, _, weight), (judges, _, sizes) = parts
    settings = {**recipe, "validation": (judges, None, sizes), "events": RECIPE["events"]}
    return pruning_curve(model, X, None, weight, part="inputs", **settings).stages


def trained(model: hepkan.KAN, names: Sequence[str], parts: list[Arrays]) -> hepkan.KAN:
    """Return the network with some inputs only, trained to the outputs of the whole one and then to the labels."""
    judges, _, sizes = parts[1]
    small = remove_inputs(model, [name for name in model.input_names if name not in names], judges, sizes)
    outputs = [(events, *teacher(model, events, weight)) for events, _, weight in parts]
    link = small.link
    hepkan.fit(small, *outputs, **{**TRAIN, **RECIPE["repeat"]}, fit_inputs=False)
    small.link = link
    hepkan.fit(small, *parts, **TRAIN, **RECIPE["last"], fit_inputs=False)
    return small


def wider(model: hepkan.KAN, names: Sequence[str], train: Any, validation: Any, seed: int) -> hepkan.KAN:
    """Return a network of the same inputs with more nodes, taught by the whole one."""
    columns = [train.names.index(name) for name in names]
    network = hepkan.KAN([len(names), *WIDER, 1], columns=columns, n_features=len(train.names), seed=seed)
    settings = {key: value for key, value in RECIPE["repeat"].items() if key != "loss"}
    hepkan.distil(network, [model], train, validation, batch=TRAIN["batch"], **settings, seed=seed)
    return network


@torch.no_grad()
def teacher(model: hepkan.KAN, X: Any, weight: Any) -> tuple[Any, Any]:
    """Return log odds, and weights that count events where they decide: the second order of the cross-entropy."""
    odds = torch.cat([model(part) for part in torch.split(torch.from_numpy(X), 8192)]).numpy()
    probability = 1.0 / (1.0 + np.exp(-odds[:, 0]))
    return odds, (weight * (4.0 * probability * (1.0 - probability) + 0.03)).astype(np.float32)


def validation_auc(model: hepkan.KAN, events: Arrays) -> float:
    """Return the AUC on validation events."""
    X, y, weight = events
    return float(roc_auc_score(y, model.predict(X).reshape(-1), sample_weight=weight))


def size(model: hepkan.KAN) -> dict[str, Any]:
    """Return the names of the inputs and the numbers of nodes, edges and parameters."""
    masks = [layer.edge_mask for layer in model.layers]
    every = [layer.coef.shape[0] * layer.coef.shape[2] for layer in model.layers]
    edges = sum(whole if mask is None else int(mask.sum()) for mask, whole in zip(masks, every, strict=True))
    return {"inputs": model.input_names, "widths": model.widths, "edges": edges, "parameters": model.n_parameters}


def page(content: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = ["# Pruning the multijet network", "", content["verdict"], ""]
    lines += [networks_table(content), ""]
    lines += [
        "Backward elimination: change of the validation AUC against the number of inputs, before exchanges:",
        "",
    ]
    numbers = sorted({row["inputs"] for seed in content["seeds"] for row in seed["curve"]}, reverse=True)
    points = []
    for number in numbers:
        found = [row["auc"] for seed in content["seeds"] for row in seed["curve"] if row["inputs"] == number]
        points.append(
            [str(number), f"{np.mean(found):+.4f}", f"{min(found):+.4f} to {max(found):+.4f}", str(len(found))]
        )
    lines += [table(["inputs", "change of the validation AUC", "range", "seeds"], points), ""]
    lines += [f"How many of the {len(content['seeds'])} seeds keep an input:", ""]
    lines += [table(["input", "seeds"], [[name, str(times)] for name, times in content["kept"].items()]), ""]
    return "\n".join(lines)


def networks_table(content: Mapping[str, Any]) -> str:
    """Return what the networks reach on test events."""
    rows = []
    for name, text in NETWORKS.items():
        found = [seed["networks"][name] for seed in content["seeds"]]
        auc, lost = (with_error(*mean([one[key] for one in found])) for key in ("auc", "difference"))
        numbers = [spread([len(one["inputs"]) for one in found])]
        numbers += [spread([one[key] for one in found]) for key in ("edges", "parameters")]
        rows.append([text, *numbers, auc, "" if name == "full" else lost])
    return table(["network", "inputs", "edges", "parameters", "test AUC", "AUC - all inputs"], rows)


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
    names = [name for seed in seeds for name in seed["networks"]["few"]["inputs"]]
    kept = {name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))}
    chosen = [set(seed["networks"]["few"]["inputs"]) for seed in seeds]
    pairs = [len(a & b) / len(a | b) for n, a in enumerate(chosen) for b in chosen[:n]]
    lost = {name: mean([seed["networks"][name]["difference"] for seed in seeds]) for name in ("few", "wider", "more")}
    value, error = lost["few"]
    word = "is met" if value >= -ALLOWED else "is missed"
    overlap = float(np.mean(pairs)) if pairs else 1.0
    verdict = (
        f"With at most {INPUTS} of 43 inputs the AUC changes by {with_error(value, error)} over {len(seeds)} seeds: "
        f"the target of at most {ALLOWED} lost {word}. A wider network of the same inputs changes it by "
        f"{with_error(*lost['wider'])}, one of {MORE} inputs by {with_error(*lost['more'])}. Two seeds share "
        f"{100 * overlap:.0f} % of the inputs that either keeps, and "
        f"{sum(times == len(seeds) for times in kept.values())} inputs are kept by all."
    )
    return {"kept": kept, "overlap": overlap, "difference": lost, "verdict": verdict}


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True, help="a sample for the test part alone")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(SEEDS)), help="prune these only")
    parser.add_argument("--judge", action="store_true", help="look at the test events when these are pruned")
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
        print(seed, found["validation"], found["cpu_seconds"], flush=True)
    if not arguments.judge:
        return
    seeds = [json.loads((KEPT / f"seed{seed}.json").read_text())["found"] for seed in arguments.seeds]
    seeds = [{**found, "networks": judged(data, found["seed"])} for found in seeds]
    content = {**provenance(data), "recipe": RECIPE, **summary(seeds), "seeds": seeds}
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    write_text(RESULT.with_suffix(".md"), page(content))


if __name__ == "__main__":
    main()
