"""What was tried with the KAN of the top + dark matter task on all events, one seed each, before the last search.

    python benchmarks/trials.py --data samples/top_dm-full.parquet --test samples/top_dm-test.parquet

Settings are those of `ideas.PLAIN` with changes, judged by the validation error of seed 0. The number of training
events is a share of the sample, or more where the test part is another file (on which nothing is judged). One seed
says little about differences below 0.0002. Writes results/top_dm_trials.json and the table of docs/notebook.md;
finished trainings are not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ideas import PLAIN, SHARED
from summary import ROOT, count, insert, provenance, table
from tuning import Trial, train

from hepkan.executors import watch_parent
from hepkan.files import write_text
from hepkan.nn import KAN
from hepkan.studies.members import split
from hepkan.studies.options import load_card
from hepkan.studies.run import prepare

RESULT = Path(__file__).parent / "results" / "top_dm_trials.json"
FOUR = {**SHARED, "epochs": 25}


@dataclass(frozen=True)
class Try:
    """What changes, in words and as settings, and whether all of the sample that trains is used."""

    words: str
    change: Mapping[str, Any]
    whole: bool = False


TRIALS = (
    Try("as in the first search", {}),
    Try("linear base function", {"base": "linear"}),
    Try("grid 2", {"grid": 2}),
    Try("grid 1", {"grid": 1}),
    Try("weight decay 0.2", {"weight_decay": 0.2}),
    Try("average of weights over 5,000 steps", {"average": 0.9998}),
    Try("rank 1, 60 x 60 x 60 x 40, batch 512", {**SHARED, "batch": 512}),
    Try("rank 1, 60 x 60 x 60 x 40, 25 epochs", FOUR, whole=True),
    Try("rank 1, 60 x 60 x 60 x 40, 15 epochs", {**FOUR, "epochs": 15}, whole=True),
    Try("rank 1, 60 x 60 x 60 x 40, 25 epochs, weight decay 0.1", {**FOUR, "weight_decay": 0.1}, whole=True),
    Try("rank 2, 46 x 46 x 46 x 40, 25 epochs", {**FOUR, "rank": 2, "hidden": [46, 46, 46, 40]}, whole=True),
    Try("rank 1, 60 x 60 x 60 x 40, 30 epochs, penalty on curvature 3e-6",
        {**FOUR, "epochs": 30, "regularisers": {"curvature": 3e-6}}, whole=True),
    Try("rank 1, 60 x 60 x 60 x 40, 30 epochs, penalty on curvature 1e-5",
        {**FOUR, "epochs": 30, "regularisers": {"curvature": 1e-5}}, whole=True),
)  # fmt: skip


def lines(content: Mapping[str, Any]) -> str:
    """Return all trials as Markdown."""
    rows = [
        [row["words"], count(row["events"]), count(row["parameters"]), f"{row['validation_loss']:.5f}"]
        for row in content["trials"]
    ]
    return table(["KAN", "training events", "parameters", "validation MAE"], rows)


def main() -> None:
    """Train what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"trials": []}
    done = {(json.dumps(row["settings"], sort_keys=True), row["events"] > 200_000): row for row in known["trials"]}
    for whole in (False, True):
        data = prepare(load_card("top_dm", data=arguments.data, test=arguments.test if whole else None))
        events = len(split(data, 0)[0])
        todo = [Trial("kan", settings_of(one), 0) for one in TRIALS
                if one.whole == whole and (settings_of(one), whole) not in done]  # fmt: skip
        with ProcessPoolExecutor(arguments.workers, get_context("spawn"), initializer=watch_parent) as pool:
            for trial, (loss, seconds) in zip(todo, pool.map(partial(train, data=data), todo), strict=True):
                settings = json.loads(trial.settings)
                row = {"settings": settings, "validation_loss": loss, "seconds": round(seconds, 1)}
                done[trial.settings, whole] = row | {"events": events, "parameters": parameters_of(settings)}
    rows = [{"words": one.words, **done[settings_of(one), one.whole]} for one in TRIALS]
    content = {**provenance(data), "trials": rows}
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    insert(lines(content), "top_dm_trials", ROOT / "docs" / "notebook.md")


def parameters_of(settings: Mapping[str, Any]) -> int:
    """Return the number of parameters of a KAN of the task."""
    card = load_card("top_dm")
    shape = {name: settings[name] for name in ("grid", "rank", "base") if name in settings}
    return KAN([len(card.features), *settings["hidden"], len(card.target)], **shape).n_parameters


def settings_of(one: Try) -> str:
    """Return all settings that differ from the defaults, as JSON."""
    return json.dumps({**PLAIN, "loss": "mae", **one.change}, sort_keys=True)


if __name__ == "__main__":
    main()
