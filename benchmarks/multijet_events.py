"""How the AUC of KAN and MLP on the multijet task grows with the number of training events.

    python benchmarks/multijet_events.py --judge --data samples/multijet-full.parquet \\
        --test samples/multijet-judge.parquet samples/multijet-formula.parquet

Both have the settings of the card, which were tuned on all events. Parts of the training sample are taken by collision,
so that copies of one stay together; the validation events, which stop the training, are all of them. Nothing is chosen
here. The networks of all events and the test samples are those of `multijet_teachers.py`; the mean over samples is
taken.

Writes results/multijet_events.json and its table in docs/notebook.md; trained networks are kept in
runs/multijet-events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multijet_teachers import KINDS, Trainer, options, pooled
from pruning import mean
from summary import ROOT, count, insert, provenance, table

import hepkan
from hepkan.baselines import train_model
from hepkan.files import write_text
from hepkan.metrics import compare, evaluate
from hepkan.nn import Network
from hepkan.report.words import title, with_error
from hepkan.studies.members import split
from hepkan.studies.options import load_card
from hepkan.studies.record import full_weight
from hepkan.studies.run import prepare

RESULT = Path(__file__).parent / "results" / "multijet_events.json"
KEPT = ROOT / "runs" / "multijet-events"
SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)
"""Of the training sample."""
GAP = "kan - mlp"


def network(kind: str, data: Any, models: Mapping[str, Any], share: float, seed: int) -> Network:
    """Return the network of a share of the training events, trained or kept."""
    if share == 1.0:
        return Trainer(data, models, seed).teachers()[kind][0].network
    path = KEPT / f"seed{seed}-{kind}-{share:g}.hepkan"
    if not path.is_file():
        train, validation, _ = split(data, seed)
        part, _ = train.split((share, 1.0 - share), seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        member = train_model(kind, part, validation, dict(models[kind]), seed=seed)
        hepkan.save(member.predictor, path, {"rows": len(part)})
        print(path.stem, flush=True)
    return hepkan.load(path)


def judged(data: Any, networks: Mapping[str, Network], seed: int) -> dict[str, tuple[float, float]]:
    """Return the AUC of both kinds and its difference on one test sample."""
    _, _, test = split(data, seed)
    weight = full_weight(data, test)
    scores = {kind: one.predict(test.X).reshape(-1) for kind, one in networks.items()}
    found = {kind: evaluate(test.y, score, weight, test.group)["auc"] for kind, score in scores.items()}
    return {**found, GAP: compare(test.y, scores["kan"], scores["mlp"], weight, test.group)["auc"]}


def lines(content: Mapping[str, Any]) -> str:
    """Return the table of the notebook."""
    rows = []
    for row in content["rows"]:
        value, error = row[GAP]
        gap = [f"{value:+.5f} ± {error:.5f}", f"{value / error:+.1f}"]
        rows.append([count(row["events"]), *(with_error(*row[kind]) for kind in KINDS), *gap])
    header = ["training events", *(title(kind) for kind in KINDS), "difference", "standard errors"]
    return "\n".join(
        [
            table(header, rows),
            "",
            f"AUC on {count(content['test_events'])} test events of {len(content['tests'])} samples, "
            f"{len(content['seeds'])} seeds; errors add seeds and a bootstrap of test events.",
        ]
    )


def main() -> None:
    """Make everything."""
    arguments = options(__doc__)
    torch.set_num_threads(1)
    cards = [load_card("multijet", data=arguments.data, test=test) for test in arguments.test]
    samples, models = [prepare(card) for card in cards], cards[0].models
    every = {
        (share, seed): {kind: network(kind, samples[0], models, share, seed) for kind in KINDS}
        for seed in arguments.seeds
        for share in SHARES
    }
    if not arguments.judge:
        return
    rows = []
    for share in SHARES:
        seeds = []
        for seed in arguments.seeds:
            parts = [judged(data, every[share, seed], seed) for data in samples]
            seeds.append({name: pooled([part[name] for part in parts]) for name in parts[0]})
        train = np.mean([len(split(samples[0], seed)[0]) for seed in arguments.seeds])
        row = {name: mean([one[name] for one in seeds]) for name in seeds[0]}
        rows.append({"share": share, "events": round(share * float(train)), **row, "seeds": seeds})
    content = {
        **provenance(samples[0]),
        "tests": [test.name for test in arguments.test],
        "test_events": sum(len(split(data, 0)[2]) for data in samples),
        "seeds": arguments.seeds,
        "rows": rows,
    }
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    insert(lines(json.loads(json.dumps(content))), "multijet_events", ROOT / "docs" / "notebook.md")


if __name__ == "__main__":
    main()
