"""Pin generator and observables: yields and quartiles of the 43 observables of every process, from the full sample.

    python validation/golden.py samples/multijet-full.parquet

writes tests/data/golden_multijet.json. `tests/test_golden.py` holds the embedded sample and freshly generated events,
which have other seeds, to these numbers within statistics.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from hepkan.files import write_text
from hepkan.physics.io import read_sample
from hepkan.physics.observables import OBSERVABLES

RESULT = Path(__file__).parent.parent / "tests" / "data" / "golden_multijet.json"
LEVELS = (0.25, 0.5, 0.75)


def main() -> None:
    """Write the golden numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", type=Path)
    sample = read_sample(parser.parse_args().sample)
    columns, processes = sample.columns, {}
    for name in dict.fromkeys(columns["process"].tolist()):
        rows = columns["process"] == name
        weight = columns["weight"][rows]
        _, group = np.unique(columns["group"][rows], return_inverse=True)
        error = np.sqrt(np.sum(np.bincount(group, weight) ** 2))
        effective = {"rows": weight.sum() ** 2 / np.sum(weight**2), "collisions": (weight.sum() / error) ** 2}
        quartiles = {}
        for observable in OBSERVABLES:
            order = np.argsort(columns[observable][rows], kind="stable")
            share = (np.cumsum(weight[order]) - 0.5 * weight[order]) / weight.sum()
            values = np.interp(LEVELS, share, columns[observable][rows][order])
            quartiles[observable] = [float(f"{value:.6g}") for value in values]
        yields = {"rows": int(rows.sum()), "effective": effective, "pb": weight.sum(), "error_pb": error}
        processes[name] = {**yields, "quartiles": quartiles}
    recipe = {name: sample.metadata[name] for name in ("recipe_hash", "seed", "version")}
    write_text(RESULT, json.dumps({**recipe, "levels": LEVELS, "processes": processes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
