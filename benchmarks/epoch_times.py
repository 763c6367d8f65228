"""How long KAN and MLP of the top + dark matter task train, on a machine that does nothing else.

    python benchmarks/epoch_times.py --data samples/top_dm-full.parquet --test samples/top_dm-judge.parquet

The times of `top_dm.py` are those of trainings that ran beside others. Here both networks train in turn for two epochs
each, on one thread and all training events, three times over. The median second epoch times the number of epochs is the
time of a training; the KAN's has those of its teachers. Refuses a busy machine. Writes results/top_dm_times.json and a
line of README.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import top_dm
from summary import ROOT, insert, provenance, seconds

from hepkan.baselines import train_model
from hepkan.errors import UsageError
from hepkan.files import write_text
from hepkan.studies.members import split
from hepkan.studies.options import load_card
from hepkan.studies.run import plan, prepare

RESULT = Path(__file__).parent / "results" / "top_dm_times.json"
ROUNDS, BUSY = 3, 0.5


def line(content: dict[str, dict[str, float]]) -> str:
    """Return the result as a sentence."""
    kan, mlp = content["kan"], content["mlp"]
    return (
        f"On an idle machine one training takes {seconds(kan['training'])} for the KAN with its teachers "
        f"({kan['epochs']:.0f} epochs of {kan['epoch']:.2f} s) and {seconds(mlp['training'])} for the MLP "
        f"({mlp['epochs']:.0f} epochs of {mlp['epoch']:.2f} s)."
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    arguments = parser.parse_args()
    if os.getloadavg()[0] > BUSY:
        raise UsageError(f"Times need an idle machine, however the load is {os.getloadavg()[0]:.1f}. Try again later.")
    card = load_card("top_dm", data=arguments.data, test=arguments.test, models=["kan", "mlp"])
    data = prepare(card)
    train, validation, _ = split(data, 0)
    found: dict[str, list[float]] = {"kan": [], "mlp": []}
    for _ in range(ROUNDS):
        for kind, times in found.items():
            settings = {**card.models[kind], "loss": "mae", "epochs": 2, "teachers": 0}
            times.append(train_model(kind, train, validation, settings).history[-1]["seconds"])
    content = {}
    for kind, times in found.items():
        members = [one for one in plan(card, data, top_dm.RUN) if one.kind == kind]
        own = float(np.mean([one.record["epochs"] for one in members]))
        epochs = own + card.models[kind].get("teachers", 0) * card.models[kind].get("epochs", 50)
        epoch = float(np.median(times))
        content[kind] = {"epoch": epoch, "epochs": epochs, "training": epoch * epochs, "rounds": times}
    write_text(RESULT, json.dumps({**provenance(data), **content}, indent=1) + "\n")
    insert(line(content), "top_dm_times", ROOT / "README.md")


if __name__ == "__main__":
    main()
