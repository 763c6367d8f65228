"""Pythia runs that hand out batches of stable particles with their weights.

Multiparton interactions are off by default: they cost a factor 5 to 10 and shift the observables of this selection by
less than 0.15 standard deviations; the noise on the missing momentum stands for them (`detector.DetectorParameters`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from hepkan.errors import DataError, require
from hepkan.physics.particles import Particles, event_index, offsets_from_counts, offsets_from_index
from hepkan.physics.processes import ProcessCard, Slice
from hepkan.physics.single_top import SingleTop, lhaup, pythia_settings

COLLIDER = ("Beams:eCM = 13000.", "PartonLevel:MPI = off", "Print:quiet = on")
EVENTS_PER_BATCH = 250
NEUTRINOS = (12, 14, 16)


@dataclass(frozen=True)
class Batch:
    """Consecutive generated events of one chunk.

    Attributes:
        particles: stable particles and last heavy hadrons, `n` events.
        parent: (n,) number of the hard event within the chunk; copies of one hard event share it.
        factor: (n,) weight of the event relative to one hard event.
        attempts: hard events that the batch stands for, those without a particle record included.
        sigma_pb: the generator's cross-section of the events attempted so far, in pb.
        truth: (n,) columns kept for each event, GeV.
    """

    particles: Particles
    parent: np.ndarray
    factor: np.ndarray
    attempts: int
    sigma_pb: float
    truth: dict[str, np.ndarray]


def heavy_quark(pid: np.ndarray) -> np.ndarray:
    """Return 5 for hadrons with a b quark, 4 for those with c and no b, 0 for all else. Shape as `pid`."""
    code = np.abs(pid) % 10000
    digits = np.stack([code // 10 % 10, code // 100 % 10, code // 1000 % 10])
    hadron = (np.abs(pid) > 100) & (code > 100) & (np.abs(pid) < 1_000_000)
    has_b = hadron & np.any(digits == 5, axis=0)
    has_c = hadron & np.any(digits == 4, axis=0)
    return np.where(has_b, 5, np.where(has_c, 4, 0))


def start(settings: tuple[str, ...], seed: int, hook: Any = None, source: Any = None) -> Any:
    """Start a Pythia with the collider's settings, those of a card, and a seed from 1 to 900,000,000.

    Raises:
        MissingExtra: pythia8mc is not installed.
        DataError: Pythia refuses a setting or does not start.
    """
    pythia8mc = require("pythia8mc", "generate", "Event generation")
    pythia = pythia8mc.Pythia("", False)
    for line in (*COLLIDER, "Random:setSeed = on", f"Random:seed = {seed}", *settings):
        if not pythia.readString(line):
            raise DataError(f"Pythia must know every setting of a process card, however it refused {line!r}.")
    if hook is not None:
        pythia.setUserHooksPtr(hook)
    if source is not None:
        pythia.setLHAupPtr(source)
    if not pythia.init():
        raise DataError(f"Pythia must start with the settings of the process card, however it did not: {settings}.")
    return pythia


@cache
def prompt_lepton_hook() -> type:
    """Return the hook class that vetoes hard processes without a charged lepton."""
    pythia8mc = require("pythia8mc", "generate", "Event generation")

    class PromptLepton(pythia8mc.UserHooks):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()

        def canVetoProcessLevel(self) -> bool:
            return True

        def doVetoProcessLevel(self, process: Any) -> bool:
            return not any(abs(process[i].id()) in (11, 13, 15) for i in range(5, process.size()))

    return PromptLepton


def particles_of(record: Any) -> tuple[Particles, dict[str, np.ndarray]]:
    """Convert the awkward record of `Pythia.nextBatch` to `Particles` and truth columns."""
    import awkward as ak

    counts = ak.to_numpy(ak.num(record.prt.id)).astype(np.int64)
    offsets = offsets_from_counts(counts)
    event = event_index(offsets)
    flat = ak.flatten(record.prt)
    pid = ak.to_numpy(flat.id).astype(np.int64)
    p4 = np.stack([ak.to_numpy(flat.p[name]) for name in ("px", "py", "pz", "e")], axis=1)
    final = ak.to_numpy(flat.status) > 0
    quark = heavy_quark(pid)
    last = quark > 0
    child = np.flatnonzero(quark > 0)
    mother = ak.to_numpy(flat.mother1).astype(np.int64)[child] + offsets[event[child]]
    last[mother[(quark[mother] == quark[child]) & (mother != child)]] = False
    particles = Particles(
        offsets=offsets_from_index(event[final], len(counts)),
        pid=pid[final],
        p4=p4[final],
        heavy_offsets=offsets_from_index(event[last], len(counts)),
        heavy_pid=quark[last],
        heavy_p4=p4[last],
    )
    return particles, truth_of(particles, ak.to_numpy(record.info.pT2Hat) ** 0.5)


def truth_of(particles: Particles, pthat: np.ndarray) -> dict[str, np.ndarray]:
    """Return the summed neutrino momentum (GeV), the number of b hadrons and pTHat of each event."""
    n = len(particles)
    event = event_index(particles.offsets)
    neutrino = np.isin(np.abs(particles.pid), NEUTRINOS)
    heavy_event = event_index(particles.heavy_offsets)
    columns = {
        f"true_nu_p{axis}": np.bincount(event[neutrino], particles.p4[neutrino, i], minlength=n)
        for i, axis in enumerate("xyz")
    }
    columns["true_n_b_hadrons"] = np.bincount(heavy_event[particles.heavy_pid == 5], minlength=n)
    columns["true_pthat"] = np.broadcast_to(pthat, n).astype(np.float64)
    return columns


def prompt_batches(card: ProcessCard, piece: Slice, seed: int) -> Iterator[Batch]:
    """Yield batches of a process whose hard part is Pythia's own (top pairs, W + jets)."""
    hook = prompt_lepton_hook()()
    pythia = start((*card.pythia, *piece.pythia), seed, hook=hook)
    yield from stream(pythia)


def single_top_batches(card: ProcessCard, piece: Slice, seed: int) -> Iterator[Batch]:
    """Yield batches of t-channel single top: our own hard events, Pythia's shower and hadrons."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    generator = _single_top()
    settings = (*pythia_settings(), *card.pythia, *piece.pythia)
    batches = 20
    for first in itertools.count(0, batches):
        source = lhaup(generator.generate(batches * EVENTS_PER_BATCH, rng))
        pythia = start(settings, int(rng.integers(1, 900_000_000)), source=source)
        yield from itertools.islice(stream(pythia, first), batches)


@cache
def _single_top() -> SingleTop:
    return SingleTop()


def stream(
    pythia: Any, first: int = 0, more_truth: Callable[[Any], dict[str, np.ndarray]] | None = None
) -> Iterator[Batch]:
    """Yield batches numbered from `first` without end, every hard event an attempt with weight one.

    `more_truth` makes further truth columns from Pythia's record.
    """
    for number in itertools.count(first):
        record = pythia.nextBatch(EVENTS_PER_BATCH)
        particles, truth = particles_of(record)
        n = len(particles)
        if n == 0:
            raise DataError("Pythia must deliver events, however a batch came back empty; check the process card.")
        if more_truth is not None:
            truth |= more_truth(record)
        parent = np.arange(n) + number * EVENTS_PER_BATCH
        sigma_pb = pythia.infoPython().sigmaGen() * 1e9
        yield Batch(particles, parent, np.ones(n), n, sigma_pb, truth)
