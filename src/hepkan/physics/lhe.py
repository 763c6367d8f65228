"""Les Houches event files as arrays, through pylhe."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import DataError, require
from hepkan.physics.reading import readable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HardEvents:
    """Hard events; the particles of event i are the rows offsets[i] to offsets[i + 1].

    Attributes:
        offsets: (n + 1,).
        weight: (n,), the nominal event weight as the file has it (pb for most generators).
        pid: (m,) particle ids of the Particle Data Group.
        status: (m,), -1 incoming, 1 outgoing, 2 intermediate.
        mother: (m,), row of the first mother, -1 for none.
        p4: (m, 4), px, py, pz, E in GeV.
        mass: (m,) in GeV, as written.
    """

    offsets: Ints
    weight: Floats
    pid: Ints
    status: Ints
    mother: Ints
    p4: Floats
    mass: Floats

    def __len__(self) -> int:
        return len(self.weight)


def read_lhe(path: str | Path, n: int | None = None) -> HardEvents:
    """Read the first `n` events (all by default) of an LHE file, compressed (.gz) or not.

    Raises:
        MissingExtra: pylhe is not installed.
        DataError: the file is missing, truncated, damaged or has no events.
    """
    pylhe = require("pylhe", "generate", "Reading LHE files")
    source = Path(path)
    weights: list[float] = []
    counts: list[int] = []
    rows: list[tuple[float, ...]] = []
    with readable(source, "LHE"), _open(source) as file:
        for event in pylhe.LHEFile.frombuffer(file).events:
            if n is not None and len(weights) == n:
                break
            start = len(rows)
            weights.append(event.eventinfo.weight)
            counts.append(len(event.particles))
            for one in event.particles:
                mother = start + int(one.mother1) - 1 if one.mother1 > 0 else -1
                rows.append((one.id, one.status, mother, one.px, one.py, one.pz, one.e, one.m))
    if not weights:
        raise DataError(f"An LHE file needs events, however {source} has none.")
    table = np.array(rows, dtype=np.float64)
    pid, status, mothers = table[:, :3].T.astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    weight = np.array(weights, dtype=np.float64)
    return HardEvents(offsets, weight, pid, status, mothers, table[:, 3:7], table[:, 7])


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file, unpacking it when it begins like gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")
