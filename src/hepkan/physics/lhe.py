"""Les Houches event files as arrays, through pylhe."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.data.reading import readable
from hepkan.errors import DataError, require
from hepkan.physics.particles import event_index, offsets_from_counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LheInit:
    """What the `init` block of a file says.

    Attributes:
        beams: PDG numbers of both beams.
        energies: of both beams in GeV.
        strategy: IDWTUP of the Les Houches accord; what the weights mean (hep-ph/0109068).
        sigma_pb, error_pb: cross-section in pb, summed over the processes of the file, and its error.
    """

    beams: tuple[int, int]
    energies: tuple[float, float]
    strategy: int
    sigma_pb: float
    error_pb: float


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
        parents: (m, 2), both mothers as the file counts them: from 1 within the event, 0 for none.
        colours: (m, 2), colour and anticolour tags.
        spin: (m,), helicity as written, 9 for none.
        scale: (n,), SCALUP in GeV.
        alpha_s: (n,), as written.
    """

    offsets: Ints
    weight: Floats
    pid: Ints
    status: Ints
    mother: Ints
    p4: Floats
    mass: Floats
    parents: Ints
    colours: Ints
    spin: Floats
    scale: Floats
    alpha_s: Floats

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def event(self) -> Ints:
        """Event number of every row, (m,)."""
        return event_index(self.offsets)


def read_lhe(path: str | Path, n: int | None = None) -> HardEvents:
    """Read the first `n` events (all by default) of an LHE file, compressed (.gz) or not.

    Raises:
        MissingExtra: pylhe is not installed.
        DataError: the file is missing, truncated, damaged or has no events.
    """
    return next(lhe_blocks(path, n))


def lhe_blocks(path: str | Path, size: int | None) -> Iterator[HardEvents]:
    """Yield the events of an LHE file in blocks of at most `size`; all in one block for None.

    Raises:
        MissingExtra: pylhe is not installed.
        DataError: the file is missing, truncated, damaged or has no events; blocks before the damage come first.
    """
    with _parsed(Path(path)) as content:
        events = iter(content.events)
        first = next(events, None)
        if first is None:
            raise DataError(f"An LHE file needs events, however {path} has none.")
        events = chain([first], events)
        while block := list(islice(events, size)):
            yield _arrays(block)


def read_lhe_init(path: str | Path) -> LheInit:
    """Read the `init` block of an LHE file, compressed (.gz) or not.

    Raises:
        MissingExtra: pylhe is not installed.
        DataError: the file is missing or has no readable block.
    """
    with _parsed(Path(path)) as content:
        info, processes = content.init.initInfo, content.init.procInfo
        return LheInit(
            beams=(int(info.beamA), int(info.beamB)),
            energies=(float(info.energyA), float(info.energyB)),
            strategy=int(info.weightingStrategy),
            sigma_pb=float(sum(one.xSection for one in processes)),
            error_pb=math.hypot(*(one.error for one in processes)),
        )


@contextmanager
def _parsed(path: Path) -> Iterator[Any]:
    """Parse a file lazily; what goes wrong while it is read becomes a `DataError`."""
    pylhe = require("pylhe", "generate", "Reading LHE files")
    with readable(path, "LHE"), _open(path) as file:
        yield pylhe.LHEFile.frombuffer(file)


def _arrays(block: list[Any]) -> HardEvents:
    """Turn the events of pylhe to arrays."""
    rows = [
        (p.id, p.status, p.mother1, p.mother2, p.color1, p.color2, p.px, p.py, p.pz, p.e, p.m, p.spin)
        for event in block
        for p in event.particles
    ]
    info = [(one.eventinfo.weight, one.eventinfo.scale, one.eventinfo.aqcd) for one in block]
    table = np.array(rows, dtype=np.float64).reshape(-1, 12)
    whole = table[:, :6].astype(np.int64)
    weight, scale, alpha_s = np.array(info, dtype=np.float64).T
    offsets = offsets_from_counts([len(one.particles) for one in block])
    parents = whole[:, 2:4]
    start = offsets[event_index(offsets)]
    return HardEvents(
        offsets=offsets,
        weight=weight,
        pid=whole[:, 0],
        status=whole[:, 1],
        mother=np.where(parents[:, 0] > 0, start + parents[:, 0] - 1, -1),
        p4=table[:, 6:10],
        mass=table[:, 10],
        parents=parents,
        colours=whole[:, 4:6],
        spin=table[:, 11],
        scale=scale,
        alpha_s=alpha_s,
    )


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file, unpacking it when it begins like gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")
