"""The momenta behind the missing momentum: neutrinos of Ws and an invisible mediator, in Pythia's event record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hepkan.errors import DataError
from hepkan.physics.particles import event_index, offsets_from_counts
from hepkan.physics.showers import NEUTRINOS
from hepkan.physics.top_phi_events import MEDIATOR

AXES = ("px", "py", "pz", "e")

# What makes a neutrino that does not count: charged leptons, a Z, hadrons (whose numbers begin at 100).
_OTHER_MAKERS = (11, 13, 15, 23)
_FIRST_HADRON = 100


@dataclass(frozen=True, eq=False)
class Record:
    """The particles of a batch of Pythia's events, (m,) each: event number, PDG number, row of the mother, final."""

    n: int
    event: np.ndarray
    pid: np.ndarray
    mother: np.ndarray
    final: np.ndarray
    flat: Any

    @classmethod
    def of(cls, record: Any) -> Record:
        """Return the particles of the awkward record of `Pythia.nextBatch`."""
        import awkward as ak

        counts = ak.to_numpy(ak.num(record.prt.id)).astype(np.int64)
        offsets = offsets_from_counts(counts)
        event = event_index(offsets)
        flat = ak.flatten(record.prt)
        mother = ak.to_numpy(flat.mother1).astype(np.int64) + offsets[event]
        pid, final = ak.to_numpy(flat.id).astype(np.int64), ak.to_numpy(flat.status) > 0
        return cls(len(counts), event, pid, mother, final, flat)

    def prompt_neutrinos(self) -> np.ndarray:
        """Return the rows of the final neutrinos that neither a hadron, a charged lepton nor a Z has made."""
        rows = np.flatnonzero(self.final & np.isin(np.abs(self.pid), NEUTRINOS))
        maker = np.abs(self.pid[self._maker(rows)])
        return np.asarray(rows[(maker < _FIRST_HADRON) & ~np.isin(maker, _OTHER_MAKERS)])

    def momenta(self, rows: np.ndarray, name: str) -> dict[str, np.ndarray]:
        """Return columns `<name>_px`, `_py`, `_pz` and `_e` of the rows in GeV, (len(rows),)."""
        import awkward as ak

        return {f"{name}_{axis}": ak.to_numpy(self.flat.p[axis])[rows].astype(np.float64) for axis in AXES}

    def _maker(self, rows: np.ndarray) -> np.ndarray:
        """Return the row of the particle that made each of `rows`, past copies of itself."""
        copy = rows
        while True:
            above = self.mother[copy]
            same = self.pid[above] == self.pid[copy]
            if not same.any():
                return np.asarray(above)
            copy = np.where(same, above, copy)


def invisible_truth(record: Any, mediator: int = MEDIATOR) -> dict[str, np.ndarray]:
    """Return the momenta (n,) after the shower of the W's neutrino and of the mediator, in GeV.

    Columns `true_neutrino_px`, `_py`, `_pz`, `_e` and the same of `true_mediator`. Neutrinos from taus and hadrons
    are not counted, unlike in `true_nu_px`.

    Arguments:
        record: the awkward record of `Pythia.nextBatch`.
        mediator: its PDG number.

    Raises:
        DataError: an event has not exactly one of each.
    """
    particles = Record.of(record)
    chosen = {
        "true_neutrino": particles.prompt_neutrinos(),
        "true_mediator": np.flatnonzero(particles.final & (particles.pid == mediator)),
    }
    columns: dict[str, np.ndarray] = {}
    for name, rows in chosen.items():
        if not np.array_equal(particles.event[rows], np.arange(particles.n)):
            raise DataError(
                f"Every event must have one {name[5:]}, however {len(rows)} are in {particles.n} events."
            )
        columns |= particles.momenta(rows, name)
    return columns
