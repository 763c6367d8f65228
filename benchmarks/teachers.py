"""Whether larger networks teach better: the KAN of top + dark matter on all events, one seed, by validation error.

    python benchmarks/teachers.py --data samples/top_dm-full.parquet

Four fifths of the events train, the others judge. Networks of several sizes learn the true targets; some of them then
teach one of the smallest, which learns their mean for more epochs and with less weight decay, since targets without
scatter are hardly overfitted. Every network is kept in runs/teachers with what it was trained with, and not trained
again. The best of the smallest ones is the KAN of the card, which `tests/test_results.py` compares. Writes
results/top_dm_teachers.json and the table of docs/notebook.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from summary import ROOT, count, insert, provenance, seconds, table

import hepkan
from hepkan.data import Table
from hepkan.files import write_text
from hepkan.model_io import read_metadata
from hepkan.nn import Network
from hepkan.studies.members import load_table
from hepkan.studies.options import load_card
from hepkan.studies.run import prepare

RESULT = Path(__file__).parent / "results" / "top_dm_teachers.json"
KEPT = ROOT / "runs" / "teachers"
SMALL = [60, 60, 60, 40]
LARGE = [120, 120, 120, 80]
HUGE = [200, 200, 200, 100]
TRAINING = {
    "loss": "mae",
    "learning_rate": 0.005,
    "weight_decay": 0.05,
    "batch": 256,
    "average": 0.999,
    "grid_updates": 0,
    "epochs": 25,
}
LESSON = {"loss": "mse", "weight_decay": 0.01}
"""How a student learns where nothing else is said."""


class Try(NamedTuple):
    """A network, what changes in its training, and who teaches it; a warm one begins as its first teacher."""

    hidden: list[int] = SMALL
    change: Mapping[str, Any] = {}
    seed: int = 0
    teachers: tuple[str, ...] = ()
    warm: bool = False
    build: Mapping[str, Any] = {}
    kind: type[hepkan.KAN] | type[hepkan.MLP] = hepkan.KAN

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its training."""
        return {**TRAINING, **self.change}


SIX = tuple(f"small {seed}" for seed in range(6))
MLP = Try([500, 500, 500], {"learning_rate": 0.001, "weight_decay": 0.1, "epochs": 50}, seed=1000,
          build={"activation": "silu", "dropout": 0.1}, kind=hepkan.MLP)  # fmt: skip
TRIALS: dict[str, Try] = {
    "MLP 3 x 500, as tuned": MLP,
    **{name: Try(seed=1000 + seed) for seed, name in enumerate(SIX)},
    "small, linear base function": Try(build={"base": "linear"}, seed=1000),
    "small, degree 2": Try(build={"degree": 2}, seed=1000),
    "small, grid 5": Try(build={"grid": 5}, seed=1000),
    "large 0": Try(LARGE, seed=1000),
    "large 1": Try(LARGE, seed=1001),
    "large, weight decay 0.15": Try(LARGE, {"weight_decay": 0.15}, seed=1000),
    "large, 12 epochs": Try(LARGE, {"epochs": 12}, seed=1000),
    "large, 15 epochs, weight decay 0.02": Try(LARGE, {"epochs": 15, "weight_decay": 0.02}, seed=1000),
    "huge, 12 epochs": Try(HUGE, {"epochs": 12}, seed=1000),
    "taught by four small, as before": Try(teachers=SIX[:4]),
    "taught by four small, squared error": Try(change={"loss": "mse"}, teachers=SIX[:4]),
    "taught by four small, squared error, 50 epochs, less decay": Try(
        change={**LESSON, "epochs": 50}, teachers=SIX[:4]
    ),
    "taught by four small, begins as one of them, 10 epochs": Try(
        change={"epochs": 10, "learning_rate": 0.002}, teachers=SIX[:4], warm=True
    ),
    "taught by six small, begins as one of them, squared error, 30 epochs, less decay": Try(
        change={**LESSON, "epochs": 30, "learning_rate": 0.003}, teachers=SIX, warm=True
    ),
    "taught by one large, squared error, 40 epochs, less decay": Try(
        change={**LESSON, "epochs": 40}, teachers=("large 0",)
    ),
    "taught by two large, squared error, 40 epochs, less decay": Try(
        change={**LESSON, "epochs": 40}, teachers=("large 0", "large 1")
    ),
    "taught by two large, 40 epochs, less decay": Try(
        change={"weight_decay": 0.01, "epochs": 40}, teachers=("large 0", "large 1")
    ),
    "MLP 3 x 500, taught by two large KANs, 40 epochs, less decay": MLP._replace(
        change={**MLP.change, "weight_decay": 0.01, "epochs": 40},
        seed=0,
        teachers=("large 0", "large 1"),
        build={"activation": "silu"},
    ),
    **{
        f"MLP 3 x 500, 17 epochs {seed}": MLP._replace(change={**MLP.change, "epochs": 17}, seed=1000 + seed)
        for seed in (0, 1)
    },
    "MLP 3 x 500, taught by two of 17 epochs, 17 epochs, less decay": MLP._replace(
        change={**MLP.change, "weight_decay": 0.01, "epochs": 17},
        seed=0,
        build={"activation": "silu"},
        teachers=("MLP 3 x 500, 17 epochs 0", "MLP 3 x 500, 17 epochs 1"),
    ),
}
"""By name, teachers first."""


def path_of(name: str) -> Path:
    """Return the file of a network."""
    return KEPT / f"{name.replace(' ', '-').replace(',', '')}.hepkan"


def recipe(one: Try) -> dict[str, Any]:
    """Return everything that decides a network."""
    taught = [recipe(TRIALS[name]) for name in one.teachers]
    network = {"kind": one.kind.__name__, "hidden": one.hidden, "build": dict(one.build)}
    network |= {"seed": one.seed, "warm": one.warm}
    return {**network, "settings": one.settings, "teachers": taught}


def trained(name: str, train: Table, validation: Table) -> Network:
    """Return a network, trained if it is not there yet."""
    one, path = TRIALS[name], path_of(name)
    if path.is_file() and read_metadata(path)["extra"]["recipe"] == recipe(one):
        return hepkan.load(path)
    teachers = [trained(other, train, validation) for other in one.teachers]
    model = copy.deepcopy(teachers[0]) if one.warm else untrained(one, train)
    start = time.perf_counter()
    if teachers:  # the last epoch is taken, since the true targets are no judge of a squared error
        hepkan.distil(model, teachers, train, None, seed=one.seed, **one.settings)
    else:
        hepkan.fit(model, train, validation, seed=one.seed, **one.settings)
    KEPT.mkdir(parents=True, exist_ok=True)
    hepkan.save(model, path, {"recipe": recipe(one), "seconds": time.perf_counter() - start})
    return model


def untrained(one: Try, train: Table) -> Network:
    """Return a network; the edges of an input of a KAN share one function."""
    widths = [len(train.names), *one.hidden, len(train.target_names)]
    usual = {"rank": 1, "grid": 3} if one.kind is hepkan.KAN else {}
    return one.kind(widths, seed=one.seed, **{**usual, **one.build})


def error(prediction: np.ndarray, validation: Table, scale: np.ndarray) -> float:
    """Return the mean absolute error in standard deviations."""
    each = np.abs(prediction - validation.y) / scale
    return float(np.average(each.mean(axis=1), weights=validation.weight))


def card_settings(name: str) -> dict[str, Any]:
    """Return the settings of a card that trains this KAN with its teachers."""
    one = TRIALS[name]
    teacher = TRIALS[one.teachers[0]]
    shared = {"rank": 1, "grid": 3}
    changes = {key: value for key, value in teacher.settings.items() if value != one.settings[key]}
    lesson = {"teachers": len(one.teachers), "teacher": {"hidden": teacher.hidden, **changes}}
    return {"hidden": one.hidden, **shared, **one.settings, **lesson}


def lines(rows: list[Mapping[str, Any]]) -> str:
    """Return all networks as Markdown."""
    cells = [
        [
            row["words"],
            count(row["parameters"]),
            f"{row['error']:.5f}",
            f"{row['of_teachers']:.5f}" if row["of_teachers"] else "",
            seconds(row["seconds"]),
        ]
        for row in rows
    ]
    return table(
        ["network", "parameters", "validation MAE", "of its teachers' mean", "training, without teachers"], cells
    )


def main() -> None:
    """Train what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = prepare(load_card("top_dm", data=parser.parse_args().data))
    torch.set_num_threads(1)
    train, validation = load_table(data).split((0.8, 0.2), seed=0)
    predicted: dict[str, np.ndarray] = {}
    rows: list[dict[str, Any]] = []
    for name, one in TRIALS.items():
        model = trained(name, train, validation)
        predicted[name] = model.predict(validation.X)
        scale = np.asarray(model.output_map.scale)
        mean = [predicted[other] for other in one.teachers]
        rows.append({
            "words": name,
            "hidden": one.hidden,
            "settings": one.settings,
            "teachers": list(one.teachers),
            "parameters": model.n_parameters,
            "error": error(predicted[name], validation, scale),
            "of_teachers": error(np.mean(mean, axis=0), validation, scale) if mean else None,
            "seconds": read_metadata(path_of(name))["extra"]["seconds"],
        })  # fmt: skip
        print(rows[-1], flush=True)
    content = {**provenance(data), "train": len(train), "validation": len(validation), "networks": rows}
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    insert(lines(rows), "top_dm_teachers", ROOT / "docs" / "notebook.md")


if __name__ == "__main__":
    main()
