"""The top + dark matter task: momenta of the neutrino and of the mediator in the canonical frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hepkan.errors import DataError, UsageError, unknown
from hepkan.tasks.multijet import keep_yields, mix_factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hepkan.data import Table
    from hepkan.physics.top_dm_derived import Derived

EXTRA = ("process", "true_m_phi", "frame_angle", "frame_flip_y", "frame_flip_z")


def read(
    path: Path,
    *,
    n: int | None = None,
    seed: int = 0,
    mix: Mapping[str, float] | None = None,
    features: Sequence[str] | None = None,
) -> Table:
    """Read a sample file as a table; see `Task.table` for the arguments.

    `mix` gives the shares of masses, as in `{m125: 1, m300: 2}` for 125 and 300 GeV. The columns `EXTRA` travel with
    the table; `frames.from_frame(prediction, Frame.from_columns(table.extra))` gives momenta in the laboratory.

    Raises:
        UsageError: an input is unknown or is the truth, a column or a share is missing.
        DataError: the file is missing, empty or damaged.
    """
    from hepkan.physics.io import Sample, read_sample, sample_table
    from hepkan.physics.top_dm import INPUTS, TARGETS, compute_targets

    sample = read_sample(path)
    columns = sample.columns
    for name in ("process", "weight", "true_m_phi"):
        if name not in columns:
            raise unknown("column", name, columns)
    for name in features or ():
        if name in TARGETS or name.startswith("true_"):
            raise unknown("input", name, INPUTS)
    if not len(sample):
        raise DataError(f"A sample needs events, however {path} has none.")
    mass = np.array([f"m{value:g}" for value in columns["true_m_phi"].tolist()])
    weight = columns["weight"] * mass_factors(mass, columns["weight"], mix or {})
    rows = choose(mass, n, seed)
    chosen = {name: values[rows] for name, values in columns.items()}
    chosen["weight"] = keep_yields(weight, mass, rows)
    targets, frame = compute_targets(chosen)
    return sample_table(
        Sample({**chosen, **targets, **frame.columns()}, sample.metadata),
        features,
        target=TARGETS,
        extra=EXTRA,
        observables=INPUTS,
    )


def derived() -> Sequence[Derived]:
    """Return what follows from the two momenta: directions, masses, the top's spin."""
    from hepkan.physics.top_dm_derived import DERIVED

    return DERIVED


def mass_factors(mass: NDArray[Any], weight: NDArray[np.float64], mix: Mapping[str, float]) -> NDArray[np.float64]:
    """Return factors that give the masses in a sample the shares of `mix`; the summed weight stays. Shape (n,).

    Masses that the sample does not have are passed over, so that one card serves every sample. An empty `mix` keeps
    the published cross-sections.

    Raises:
        UsageError: a share is impossible, or a mass in the sample is not listed.
    """
    for name, share in mix.items():
        if not (np.isfinite(share) and share >= 0):
            raise UsageError(f"A share must be finite and not negative, however: mix.{name}={share}.")
    missing = [str(name) for name in np.unique(mass) if name not in mix]
    if mix and missing:
        raise UsageError(
            f"mix must give a share to every mass in the sample, however it does not name {', '.join(missing)}; "
            f"it names: {', '.join(mix)}."
        )
    present = {name: share for name, share in mix.items() if name in mass}
    return mix_factors(np.zeros(len(mass), dtype=np.int64), mass, weight, present)


def choose(mass: NDArray[Any], n: int | None, seed: int) -> NDArray[np.int64]:
    """Return sorted row numbers of `n` events, or of all if there are fewer; every mass in proportion."""
    if n is None or n >= len(mass):
        return np.arange(len(mass))
    if n < 1:
        raise UsageError(f"At least one event is needed, however: n={n}.")
    generator = np.random.default_rng(seed)
    place = np.empty(len(mass))
    for name in np.unique(mass):
        members = np.flatnonzero(mass == name)
        place[members] = (generator.permutation(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(place, kind="stable")[:n])
