"""Small files of events in every format, and cards for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot
import yaml
from pyarrow import csv

Columns = dict[str, Any]
FORMATS = ("root", "parquet", "h5", "csv")


def events(n: int = 400, seed: int = 0, signal: bool = True) -> Columns:
    """Return columns of one kind of events; -999 stands for a missing `mass`, some weights are negative."""
    rng = np.random.default_rng(seed)
    shift = 1.0 if signal else 0.0
    mass = rng.normal(90 + 15 * shift, 12, n)
    mass[rng.random(n) < 0.2] = -999.0
    return {
        "event": np.arange(n, dtype=np.int64) * 3 + 7 + (0 if signal else 1),
        "pt": rng.exponential(40.0, n) * (1 + 0.5 * shift),
        "eta": rng.normal(0, 1, n),
        "mass": mass,
        "njet": rng.integers(0, 5, n).astype(np.int32),
        "w": rng.normal(1.0, 0.4, n),
        "y": np.full(n, int(signal), dtype=np.int32),
        "truth": 2.0 * rng.normal(0, 1, n) + 5,
        "process": np.array(["sig", "alt"] if signal else ["bkg", "bkg"])[rng.integers(0, 2, n)],
    }


def write(path: Path, columns: Columns, tree: str = "Events") -> Path:
    """Write columns in the format of the suffix."""
    numbers = {name: values for name, values in columns.items() if np.asarray(values).dtype.kind != "U"}
    if path.suffix == ".root":
        with uproot.recreate(path) as file:
            file.mktree(tree, {name: values.dtype for name, values in numbers.items()})
            file[tree].extend(numbers)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=150, write_page_checksum=True)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            group = file.create_group(tree)
            for name, values in columns.items():
                group[name] = values.astype(object) if values.dtype.kind == "U" else values
    else:
        csv.write_csv(pa.table(columns), path)
    return path


def card(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a small card for `sig.<format>` and `bkg.<format>` in a folder, as plain data."""
    suffix = changes.pop("suffix", "parquet")
    content: dict[str, Any] = {
        "name": "small",
        "data": [
            {"name": "bkg", "files": [str(folder / f"bkg.{suffix}")], "label": 0},
            {"name": "sig", "files": [str(folder / f"sig.{suffix}")], "label": 1},
        ],
        "features": ["pt", "eta", "mass", {"name": "energy", "expr": "pt * cosh(eta)", "transform": "log"}],
        "weight": "w",
        "missing": {"sentinel": -999, "policy": "flag"},
        "event_id": "event",
        "selection": ["pt > 5"],
        "spectators": ["njet"],
        "folds": 2,
        "seeds": 1,
        "bootstrap": 10,
        "split": {"train": 0.5, "validation": 0.2, "test": 0.3},
        "model": {"kind": "kan", "hidden": [3], "grid": 3, "epochs": 2, "batch": 64},
        "models": {"kan": {}},
    }
    return {**content, **changes}


def dump(content: dict[str, Any], path: Path) -> Path:
    """Write a card."""
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def make(folder: Path, suffix: str = "parquet", n: int = 400) -> Path:
    """Write both files of the small card into a folder."""
    write(folder / f"sig.{suffix}", events(n, 1, True))
    write(folder / f"bkg.{suffix}", events(n, 2, False))
    return folder
