"""Generated events as flat arrays: the final particles and the heavy hadrons that give jets their flavour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Event = tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]


@dataclass(frozen=True)
class Particles:
    """Events before the detector. Event `i` owns the rows `offsets[i]:offsets[i + 1]`.

    Attributes:
        offsets: (n_events + 1,), starts at 0 and never decreases.
        pid: (m,), PDG numbers of all final particles, visible or not.
        p4: (m, 4), px, py, pz, E in GeV.
        heavy_offsets: (n_events + 1,), the same for the heavy hadrons.
        heavy_pid: (k,), 5 for a weakly decaying b hadron, 4 for a weakly decaying c hadron not from a b.
        heavy_p4: (k, 4), px, py, pz, E in GeV.

    Raises:
        ValueError: the shapes or offsets contradict each other.
    """

    offsets: Ints
    pid: Ints
    p4: Floats
    heavy_offsets: Ints
    heavy_pid: Ints
    heavy_p4: Floats

    def __post_init__(self) -> None:
        _check("particles", self.offsets, self.pid, self.p4)
        _check("heavy hadrons", self.heavy_offsets, self.heavy_pid, self.heavy_p4)
        if len(self.offsets) != len(self.heavy_offsets):
            raise ValueError(
                f"Particles and heavy hadrons must cover the same events, however there are "
                f"{len(self.offsets) - 1} and {len(self.heavy_offsets) - 1}."
            )

    @property
    def n_events(self) -> int:
        """The number of events."""
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return self.n_events


def _check(what: str, offsets: Ints, pid: Ints, p4: Floats) -> None:
    """Refuse offsets, ids and momenta that do not belong together."""
    if p4.shape != (len(pid), 4):
        raise ValueError(f"The momenta of {what} must have shape ({len(pid)}, 4), however: {p4.shape}.")
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(pid) or np.any(np.diff(offsets) < 0):
        raise ValueError(f"The offsets of {what} must rise from 0 to {len(pid)}, however: {offsets}.")


def event_index(offsets: Ints) -> Ints:
    """Return the event number of every row, shape (offsets[-1],)."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))


def offsets_from_counts(counts: ArrayLike) -> Ints:
    """Return offsets (n + 1,) from the number of rows of each event (n,)."""
    values = np.asarray(counts, dtype=np.int64)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values)])


def offsets_from_index(index: Ints, n_events: int) -> Ints:
    """Return offsets (n_events + 1,) from a non-decreasing event number per row."""
    return offsets_from_counts(np.bincount(index, minlength=n_events))


def from_events(events: Iterable[Event]) -> Particles:
    """Build `Particles` from one tuple per event: pid (m,), p4 (m, 4), heavy_pid (k,), heavy_p4 (k, 4).

    Momenta are px, py, pz, E in GeV; empty lists are fine.

    Raises:
        ValueError: ids and momenta of an event have different lengths.
    """
    rows = [(_ids(pid), _momenta(p4), _ids(heavy_pid), _momenta(heavy_p4)) for pid, p4, heavy_pid, heavy_p4 in events]
    for number, (pid, p4, heavy_pid, heavy_p4) in enumerate(rows):
        if len(pid) != len(p4) or len(heavy_pid) != len(heavy_p4):
            raise ValueError(f"Event {number} needs one momentum for each particle id, however they differ.")
    no_ids, no_momenta = _ids([]), _momenta([])
    return Particles(
        offsets=offsets_from_counts([len(row[0]) for row in rows]),
        pid=np.concatenate([no_ids, *(row[0] for row in rows)]),
        p4=np.concatenate([no_momenta, *(row[1] for row in rows)]),
        heavy_offsets=offsets_from_counts([len(row[2]) for row in rows]),
        heavy_pid=np.concatenate([no_ids, *(row[2] for row in rows)]),
        heavy_p4=np.concatenate([no_momenta, *(row[3] for row in rows)]),
    )


def _ids(values: ArrayLike) -> Ints:
    """PDG numbers as a flat integer array."""
    return np.asarray(values, dtype=np.int64).reshape(-1)


def _momenta(values: ArrayLike) -> Floats:
    """Momenta as an (m, 4) array."""
    return np.asarray(values, dtype=np.float64).reshape(-1, 4)


def concatenate(parts: Sequence[Particles]) -> Particles:
    """Put several batches of events behind each other, in order; no parts give no events."""
    if not parts:
        return from_events([])
    return Particles(
        offsets=offsets_from_counts(np.concatenate([np.diff(part.offsets) for part in parts])),
        pid=np.concatenate([part.pid for part in parts]),
        p4=np.concatenate([part.p4 for part in parts]),
        heavy_offsets=offsets_from_counts(np.concatenate([np.diff(part.heavy_offsets) for part in parts])),
        heavy_pid=np.concatenate([part.heavy_pid for part in parts]),
        heavy_p4=np.concatenate([part.heavy_p4 for part in parts]),
    )


# Three times the charge of d, u, s, c, b, t (and of the unused 0, 7, 8, 9) by the PDG digit.
_QUARK_CHARGE = np.array([0, -1, 2, -1, 2, -1, 2, 0, 0, 0], dtype=np.int64)


def charge(pid: Ints) -> Ints:
    """Return the electric charge (m,) in units of the proton's, from the quark digits of the PDG number.

    Source: the numbering scheme of the Review of Particle Physics (Particle Data Group, 2024, section 45).
    """
    size = np.abs(pid)
    digits = [_QUARK_CHARGE[size // 10**power % 10] for power in (1, 2, 3)]
    meson = np.where(size // 100 % 2 == 1, -1, 1) * (digits[1] - digits[0])
    baryon = digits[0] + digits[1] + digits[2]
    hadron = np.where(size // 1000 % 10 > 0, baryon, meson) // 3
    result = np.where((size > 100) & (size < 1_000_000), hadron, 0)
    result = np.where(np.isin(size, (11, 13, 15)), -1, result)
    result = np.where(size == 24, 1, result)
    result = np.where(size > 1_000_000_000, size // 10_000 % 1000, result)  # nuclei: 100ZZZAAAI
    return np.sign(pid) * result
