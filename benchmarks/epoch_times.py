"""How long KAN and MLP of the top + dark matter task train, on a machine that does nothing else.

    python benchmarks/epoch_times.py --data samples/top_dm-full.parquet --test samples/top_dm-judge5.parquet

The times of `top_dm.py` are those of trainings that ran beside others. Here KAN, a teacher of it and MLP train in turn
for two epochs each, on one thread and all training events, three times over. The median second epoch times the number
of epochs is the time of a training; the KAN's has those of its teachers. Refuses a busy machine. Writes
results/top_dm_times.json and a line of README.
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
    kan, teacher, mlp = content["kan"], content["teacher"], content["mlp"]
    own = f"{kan['epochs']:.0f} epochs of {kan['epoch']:.2f} s"
    lessons = f"{teacher['networks']:.0f} teachers of {teacher['epochs']:.0f} epochs of {teacher['epoch']:.2f} s"
    whole = seconds(kan["training"] + teacher["training"])
    return (
        f"On an idle machine one training takes {whole} for the KAN ({own}, and {lessons}) and"
        f" {seconds(mlp['training'])} for the MLP ({mlp['epochs']:.0f} epochs of {mlp['epoch']:.2f} s)."
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
    kan, mlp = card.models["kan"], card.models["mlp"]
    alone = {"loss": "mae", "epochs": 2, "teachers": 0}
    networks = {"kan": ("kan", kan), "teacher": ("kan", {**kan, **kan["teacher"]}), "mlp": ("mlp", mlp)}
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(ROUNDS):
        for name, (kind, settings) in networks.items():
            history = train_model(kind, train, validation, {**settings, **alone}).history
            times[name].append(history[-1]["seconds"])
    members = plan(card, data, top_dm.RUN)
    epochs = {"teacher": float(kan["teacher"]["epochs"])}
    for kind in ("kan", "mlp"):
        epochs[kind] = float(np.mean([one.record["epochs"] for one in members if one.kind == kind]))
    content = {}
    for name, rounds in times.items():
        epoch, count = float(np.median(rounds)), kan["teachers"] if name == "teacher" else 1
        one = {"networks": count, "epoch": epoch, "epochs": epochs[name], "training": count * epoch * epochs[name]}
        content[name] = {**one, "rounds": rounds}
    write_text(RESULT, json.dumps({**provenance(data), **content}, indent=1) + "\n")
    insert(line(content), "top_dm_times", ROOT / "README.md")


if __name__ == "__main__":
    main()
