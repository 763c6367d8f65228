"""The multijet task: prompt leptons (label 1) against non-prompt leptons of QCD jets (label 0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hepkan.errors import UsageError, unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hepkan.data import Table

CLASSES = ("multijet", "prompt")


def read(
    path: Path,
    *,
    n: int | None = None,
    seed: int = 0,
    mix: Mapping[str, float] | None = None,
    features: Sequence[str] | None = None,
) -> Table:
    """Read a sample file as a table; see `Task.table` for the arguments."""
    from hepkan.physics.io import Sample, read_sample, sample_table

    sample = read_sample(path)
    columns = sample.columns
    for name in ("label", "process", "weight"):
        if name not in columns:
            raise unknown("column", name, columns)
    weight = columns["weight"]
    weight = weight * mix_factors(columns["label"], columns["process"], weight, mix or {})
    rows = choose(columns["label"], columns["process"], n, seed)
    weight = keep_yields(weight, columns["process"], rows)
    chosen = {name: values[rows] for name, values in columns.items()}
    return sample_table(Sample({**chosen, "weight": weight}, sample.metadata), features, classes=CLASSES)


def mix_factors(
    label: NDArray[Any], process: NDArray[Any], weight: NDArray[np.float64], mix: Mapping[str, float]
) -> NDArray[np.float64]:
    """Return factors that give processes the shares of `mix` within their class, whose yield stays; shape (n,).

    A class that `mix` does not name keeps its published composition. Of a class that it names, every process must be
    listed.

    Raises:
        UsageError: a process is unknown, or not listed beside others of its class, or a share is impossible.
    """
    factors = np.ones(len(process))
    classes = {str(name): int(label[process == name][0]) for name in np.unique(process)}
    for name, share in mix.items():
        if name not in classes:
            raise unknown("process", name, classes)
        if not (np.isfinite(share) and share >= 0):
            raise UsageError(f"A share must be finite and not negative, however: mix.{name}={share}.")
    for one in {classes[name] for name in mix}:
        members = [name for name, number in classes.items() if number == one]
        missing = [name for name in members if name not in mix]
        total = sum(mix.get(name, 0.0) for name in members)
        if missing or total <= 0:
            raise UsageError(
                f"mix must give shares to all processes of a class ({', '.join(members)}) that do not add up to zero, "
                f"however: {', '.join(f'{name}={mix[name]}' for name in members if name in mix)}."
            )
        yields = {name: weight[process == name].sum() for name in members}
        for name in members:
            factors[process == name] = mix[name] / total * sum(yields.values()) / yields[name]
    return factors


def choose(label: NDArray[Any], process: NDArray[Any], n: int | None, seed: int) -> NDArray[np.int64]:
    """Return sorted row numbers of at most `n` events: half of each class, every process in proportion."""
    if n is None:
        return np.arange(len(label))
    if n < 2:
        raise UsageError(f"At least two events are needed, one of each class, however: n={n}.")
    generator = np.random.default_rng(seed)
    rows = []
    for one in np.unique(label):
        share = min(1.0, (n // 2) / np.count_nonzero(label == one))
        for name in np.unique(process[label == one]):
            members = np.flatnonzero((label == one) & (process == name))
            count = max(1, round(share * len(members)))
            rows.append(generator.permutation(members)[:count])
    return np.sort(np.concatenate(rows))


def keep_yields(weight: NDArray[np.float64], process: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weights of the chosen rows, scaled so that every process keeps its sum of weights."""
    chosen = weight[rows]
    if len(rows) == len(weight):
        return chosen
    for name in np.unique(process):
        mine = process[rows] == name
        total = chosen[mine].sum()
        if total != 0:
            chosen[mine] *= weight[process == name].sum() / total
    return chosen
