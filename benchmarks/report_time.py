"""How long `hepkan report` takes for a run of 43 inputs with 100,000 test events, and how large its page is.

    python benchmarks/report_time.py [--rounds 5]

The events are those of the embedded multijet sample, each six times under another group; all models of the task are
trained for a look (`--quick`). The command is timed from the shell, imports included: with all pictures to draw, as
`hepkan run` does, and again, when those that would be the same are kept. Goals: 10 s and 5 MB. The time of a loop in
plain Python tells machines apart. Refuses a busy machine. Writes results/report_time.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from summary import provenance

from hepkan.errors import UsageError
from hepkan.files import write_text
from hepkan.physics.io import read_sample, write_sample
from hepkan.report.kept import KEYS
from hepkan.report.reading import read_run
from hepkan.studies.options import load_card
from hepkan.studies.run import prepare, run

RESULT = Path(__file__).parent / "results" / "report_time.json"
COPIES, BUSY = 6, 0.6
GOAL_SECONDS, GOAL_BYTES = 10.0, 5_000_000


def many_events(path: Path) -> None:
    """Write every event of the embedded sample several times."""
    sample = read_sample(prepare(load_card("multijet")).path)
    groups = sample.columns["group"]
    columns = {name: np.tile(values, COPIES) for name, values in sample.columns.items()}
    step = groups.max() - groups.min() + 1
    columns["group"] = np.concatenate([groups + copy * step for copy in range(COPIES)])
    write_sample(path, columns, sample.metadata)


def loop() -> float:
    """Return the seconds of ten million steps of plain Python."""
    start, total = time.perf_counter(), 0
    for i in range(10_000_000):
        total += i * i
    return time.perf_counter() - start


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    load = os.getloadavg()[0]
    if load > BUSY:
        raise UsageError(f"Times need an idle machine, however the load is {load:.1f}. Try again later.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        many_events(path)
        overrides = ["split.train=0.1", "split.validation=0.05", "split.test=0.85"]
        card = load_card("multijet", quick=True, overrides=overrides, data=path)
        trained = run(card, output=Path(folder) / "run")
        program = Path(sys.executable).with_name("hepkan")
        seconds: dict[str, list[float]] = {"all drawn": [], "again": []}
        for _ in range(rounds):
            (trained.folder / "plots" / KEYS).unlink()
            for times in seconds.values():
                start = time.perf_counter()
                subprocess.run([program, "report", str(trained.folder)], check=True, capture_output=True)
                times.append(time.perf_counter() - start)
        size = (trained.folder / "index.html").stat().st_size
        pictures = len(list((trained.folder / "plots").glob("*.svg")))
        content = {
            "inputs": len(read_run(trained.folder).features),
            "test_events": trained.report["data"]["n_test"],
            "pictures": pictures,
            "seconds": {name: {"median": statistics.median(one), "rounds": one} for name, one in seconds.items()},
            "goal_seconds": GOAL_SECONDS,
            "bytes": {"page": size, "goal": GOAL_BYTES},
            "loop_seconds": statistics.median(loop() for _ in range(3)),
        }
        write_text(RESULT, json.dumps({**provenance(prepare(card)), **content}, indent=1) + "\n")
        print(json.dumps(content))


if __name__ == "__main__":
    main()
