"""The chunks of a sample: which there are, and how one is made from hard events to selected rows."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepkan.physics.detector import simulate
from hepkan.physics.io import write_sample
from hepkan.physics.multijet import jet_batches, multijet_batches
from hepkan.physics.processes import ProcessCard, Slice, get_process
from hepkan.physics.recipes import get_recipe
from hepkan.physics.selection import Selected
from hepkan.physics.showers import Batch, prompt_batches, single_top_batches
from hepkan.physics.top_phi_showers import pseudoscalar_batches, scalar_batches
from hepkan.physics.ttbar_phi import ttbar_phi_batches

GENERATORS: dict[str, Callable[[ProcessCard, Slice, int], Iterator[Batch]]] = {
    "single_top": single_top_batches,
    "prompt": prompt_batches,
    "multijet": multijet_batches,
    "jets": jet_batches,
    "top_scalar": scalar_batches,
    "top_pseudoscalar": pseudoscalar_batches,
    "ttbar_phi": ttbar_phi_batches,
}

# Rows whose probability of exactly one tag is above the first number are all kept, of the others at least the second.
FULL_TAG_WEIGHT, MIN_KEPT = 0.25, 0.1


@dataclass(frozen=True)
class Chunk:
    """A number of rows of one stratum of one process, with a seed of its own, for the sample of a task."""

    process: str
    slice: str
    number: int
    rows: int
    seed: int
    task: str = "multijet"

    @property
    def stratum(self) -> str:
        """Name of the stratum: process and slice."""
        return f"{self.process}.{self.slice}"

    def path(self, folder: Path) -> Path:
        """Return the file of the finished chunk."""
        return folder / f"{self.stratum}-{self.number:05d}.parquet"

    @property
    def sequence(self) -> np.random.SeedSequence:
        """Random streams that no other chunk shares."""
        return np.random.SeedSequence([self.seed, zlib.crc32(self.stratum.encode()), self.number])

    def identifiers(self, number: np.ndarray) -> np.ndarray:
        """Return ids unique over strata and chunks; `number` counts within the chunk (below 2^22)."""
        base = ((zlib.crc32(self.stratum.encode()) & 0xFFFFFF) << 36) + (self.number << 22)
        return base + number.astype(np.int64)


def share_out(total: int, shares: list[float]) -> list[int]:
    """Return integers proportional to `shares` that add up to `total` (largest remainders, at least one each)."""
    exact = np.asarray(shares) / np.sum(shares) * total
    counts = np.maximum(np.floor(exact).astype(int), 1)
    order = np.argsort(np.floor(exact) - exact, kind="stable")
    for i in range(total - int(counts.sum())):
        counts[order[i % len(counts)]] += 1
    while counts.sum() > total:
        counts[np.argmax(counts)] -= 1
    return [int(count) for count in counts]


def plan(counts: Mapping[str, int], seed: int, task: str = "multijet") -> list[Chunk]:
    """Return the chunks of a task's sample with `counts` rows of each process."""
    result = []
    for name, count in counts.items():
        card = get_process(name)
        pieces = card.slices[:count]
        for piece, rows in zip(pieces, share_out(count, [piece.share for piece in pieces]), strict=True):
            number = -(-rows // piece.rows_per_chunk)
            for i, size in enumerate(share_out(rows, [1.0] * number)):
                result.append(Chunk(name, piece.name, i, size, seed, task))
    return result


def run(chunk: Chunk, folder: Path) -> float:
    """Make one chunk and write it to `folder`; return the seconds it took.

    Batches are taken until the wanted rows are there; surplus rows of the last one are dropped and the rest scaled up.
    The stopping rule biases the rate by less than one part in the number of rows.
    """
    start = time.monotonic()
    card, recipe = get_process(chunk.process), get_recipe(chunk.task)
    piece = next(piece for piece in card.slices if piece.name == chunk.slice)
    generator_sequence, detector_sequence = chunk.sequence.spawn(2)
    pythia_seed = int(generator_sequence.generate_state(1)[0]) % 899_999_999 + 1
    rng = np.random.default_rng(detector_sequence)
    parts: list[dict[str, np.ndarray]] = []
    attempts = rows = 0
    sigma_pb = 0.0
    with silent_stdout():
        for batch in GENERATORS[card.generator](card, piece, pythia_seed):
            selected = recipe.select(simulate(batch.particles, rng), recipe.selection, card.region, rng)
            attempts, sigma_pb = attempts + batch.attempts, batch.sigma_pb
            part = thin(columns_of(batch, selected), selected.weight, rng)
            parts.append(part)
            rows += len(part["weight"])
            if rows >= chunk.rows:
                break
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    scale = columns["weight"].sum() / columns["weight"][: chunk.rows].sum()
    columns = {name: values[: chunk.rows] for name, values in columns.items()}
    columns["weight"] = columns["weight"] * scale
    number = np.arange(chunk.rows)
    columns["id"] = chunk.identifiers(number)
    columns["group"] = chunk.identifiers(columns["group"])
    columns["process"] = np.full(chunk.rows, card.name)
    columns["label"] = np.full(chunk.rows, card.label, dtype=np.int64)
    write_sample(chunk.path(folder), columns, {"attempts": attempts, "sigma_pb": sigma_pb})
    return time.monotonic() - start


def thin(columns: dict[str, np.ndarray], tag_weight: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Keep rows of small tag weight with a probability in proportion to it and raise their weights in return.

    Untagged W + jets would otherwise fill a sample with rows that count for nothing.
    """
    probability = np.clip(tag_weight / FULL_TAG_WEIGHT, MIN_KEPT, 1.0)
    kept = rng.random(len(probability)) < probability
    thinned = {name: values[kept] for name, values in columns.items()}
    thinned["weight"] = thinned["weight"] / probability[kept]
    return thinned


def columns_of(batch: Batch, selected: Selected) -> dict[str, np.ndarray]:
    """Return objects, weight per hard event, parent and truth of the selected rows."""
    truth = {name: values[selected.index].astype(np.float32) for name, values in batch.truth.items()}
    return {
        **selected.columns,
        "weight": batch.factor[selected.index] * selected.weight,
        "group": batch.parent[selected.index],
        **truth,
    }


@contextlib.contextmanager
def silent_stdout() -> Iterator[None]:
    """Send what compiled libraries print (banners) to nowhere; standard output may be somebody's JSON."""
    saved = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)
