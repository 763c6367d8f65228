"""From a block of the user's hard events to selected rows: Pythia and the detector, or the partons themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepkan.errors import DataError
from hepkan.physics.chunks import Chunk, columns_of, silent_stdout, thin
from hepkan.physics.dark import hard_truth
from hepkan.physics.detector import Reco, simulate
from hepkan.physics.invisible import AXES, Record
from hepkan.physics.io import write_sample
from hepkan.physics.les_houches import numbered
from hepkan.physics.lhe import HardEvents
from hepkan.physics.particles import Particles, offsets_from_counts
from hepkan.physics.partons import DETECTOR, as_reconstructed, parton_truth, smeared
from hepkan.physics.recipes import get_recipe
from hepkan.physics.showers import EVENTS_PER_BATCH, Batch, particles_of, start
from hepkan.physics.top_phi_events import MEDIATOR
from hepkan.physics.user_lhe import HardBlock, UserEvents, load_block

SETTINGS = ("Beams:frameType = 5", f"{MEDIATOR}:mayDecay = off", f"{MEDIATOR}:isResonance = off")
"""Pythia's own defaults for events of a file, which give leptons and heavy quarks their masses."""


@dataclass(frozen=True, kw_only=True)
class UserChunk(Chunk):
    """A block of the user's hard events; `rows` is the number of them."""

    user: UserEvents


def plan_user(user: UserEvents, counts: list[int], seed: int) -> list[UserChunk]:
    """Return a chunk for each block."""
    return [
        UserChunk(user.name, "all", number, count, seed, user.task, user=user) for number, count in enumerate(counts)
    ]


def run_user(chunk: UserChunk, folder: Path) -> float:
    """Make the selected rows of one block and write them to `folder`; return the seconds it took.

    In a task with a mediator, events without exactly one neutrino of a W are left out; they count as attempts.

    Raises:
        DataError: Pythia takes none of the events.
    """
    begin = time.monotonic()
    user, recipe = chunk.user, get_recipe(chunk.task)
    block = load_block(folder, chunk.number)
    generator_sequence, detector_sequence = chunk.sequence.spawn(2)
    pythia_seed = int(generator_sequence.generate_state(1)[0]) % 899_999_999 + 1
    rng = np.random.default_rng(detector_sequence)
    batches = _partons(block, recipe.mediator, user.smear, rng)
    if not user.parton_level:
        batches = _showers(block, recipe.mediator, pythia_seed, rng)
    parts, attempts = [], 0
    with silent_stdout():
        for batch, reco in batches:
            selected = recipe.select(reco, recipe.selection, user.card.region, rng)
            part = thin(columns_of(batch, selected), selected.weight, rng)
            known = np.isfinite(part["true_neutrino_e"]) if recipe.mediator else np.ones(len(part["weight"]), bool)
            parts.append({name: values[known] for name, values in part.items()})
            attempts += batch.attempts
    if not parts:
        raise DataError(
            f"Pythia must take the events of an LHE file, however it took none of {chunk.rows} of {user.name}; check "
            "colours, particle numbers and momenta, or use --parton-level."
        )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["id"] = chunk.identifiers(columns["group"])
    columns["group"] = columns["id"].copy()
    columns["process"] = np.full(len(columns["id"]), user.name)
    columns["label"] = np.full(len(columns["id"]), user.label, dtype=np.int64)
    write_sample(chunk.path(folder), columns, {"attempts": attempts, "sigma_pb": block.sigma_pb})
    return time.monotonic() - begin


def _showers(block: HardBlock, mediator: bool, seed: int, rng: np.random.Generator) -> Iterator[tuple[Batch, Reco]]:
    """Yield showered and reconstructed batches of a block; events that Pythia refuses are no attempts."""
    import awkward as ak

    source = numbered(block.events, block.init)
    pythia = start(SETTINGS, seed, source=source)
    while len(record := pythia.nextBatch(EVENTS_PER_BATCH)):
        number = np.rint(ak.to_numpy(record.info.weights)[:, 0]).astype(np.int64) - 1
        particles, truth = particles_of(record)
        if mediator:
            truth |= _showered_truth(record)
        batch = Batch(particles, number, block.factor[number], len(number), block.sigma_pb, truth)
        yield batch, simulate(particles, rng, DETECTOR)


def _partons(
    block: HardBlock, mediator: bool, smear: bool, rng: np.random.Generator
) -> Iterator[tuple[Batch, Reco]]:
    """Yield a block at parton level, as one batch."""
    events = block.events
    truth = parton_truth(events)
    if mediator:
        truth |= _hard_truth(events)
    nothing = offsets_from_counts(np.zeros(len(events), dtype=np.int64))
    none = np.zeros(0, dtype=np.int64)
    particles = Particles(nothing, none, np.zeros((0, 4)), nothing, none, np.zeros((0, 4)))
    batch = Batch(particles, np.arange(len(events)), block.factor, len(events), block.sigma_pb, truth)
    yield batch, smeared(events, rng) if smear else as_reconstructed(events)


def _showered_truth(record: Any) -> dict[str, np.ndarray]:
    """Momenta (n,) of neutrino and mediator after the shower, and the mediator's mass; GeV.

    The neutrino is NaN where an event has not exactly one of a W.
    """
    particles = Record.of(record)
    rows = particles.prompt_neutrinos()
    mediator = np.flatnonzero(particles.final & (particles.pid == MEDIATOR))
    return _with_mass(
        _one_each(particles.momenta(rows, "true_neutrino"), particles.event[rows], particles.n),
        particles.momenta(mediator, "true_mediator"),
    )


def _hard_truth(events: HardEvents) -> dict[str, np.ndarray]:
    """The same of hard events."""
    row = hard_truth(events).neutrino
    neutrino = np.where((row >= 0)[:, None], events.p4[row], np.nan)
    mediator = events.p4[events.pid == MEDIATOR]
    return _with_mass(
        {f"true_neutrino_{axis}": neutrino[:, i] for i, axis in enumerate(AXES)},
        {f"true_mediator_{axis}": mediator[:, i] for i, axis in enumerate(AXES)},
    )


def _one_each(columns: dict[str, np.ndarray], event: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Spread columns of rows over events; NaN where an event has not exactly one row."""
    alone = np.bincount(event, minlength=n)[event] == 1
    result = {}
    for name, values in columns.items():
        result[name] = np.full(n, np.nan)
        result[name][event[alone]] = values[alone]
    return result


def _with_mass(neutrino: dict[str, np.ndarray], mediator: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Join both and `true_m_phi`."""
    px, py, pz, e = (mediator[f"true_mediator_{axis}"] for axis in AXES)
    mass = np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0.0))
    return {**neutrino, **mediator, "true_m_phi": mass}
