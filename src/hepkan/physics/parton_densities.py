"""Parton densities of the proton, tabulated once from the sets that come with Pythia.

A call into Pythia costs about 25 us; the table answers arrays at about 0.2 us per value and holds no Pythia object, so
that it can be handed to worker processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from hepkan.errors import DataError, require

FLAVOURS = (-5, -4, -3, -2, -1, 21, 1, 2, 3, 4, 5)
X_MIN = 1e-6
Q_MIN, Q_MAX = 1.0, 2e4
_ROW = np.full(64, -1)
_ROW[[pid + 32 for pid in FLAVOURS]] = np.arange(len(FLAVOURS))


@dataclass(frozen=True, eq=False)
class PartonDensities:
    """Table of x f(x, Q^2): cubic in `_stretch(x)`, linear in ln Q, frozen below 1 GeV and above 20 TeV.

    Attributes:
        values: (11, n_x, n_q) x f for the flavours of `FLAVOURS`, x from `X_MIN` to 1, Q from `Q_MIN` to `Q_MAX`.
        name: the set's name, for records.
    """

    values: np.ndarray
    name: str

    def xf(self, pid: ArrayLike, x: ArrayLike, q2: ArrayLike) -> np.ndarray:
        """Return x f(x, Q^2) of partons `pid` (PDG numbers up to 5, and 21).

        **Shape**: `pid`, `x` and `q2` (GeV^2) broadcast; 0 for x >= 1. `x` below 1e-6 takes the value at 1e-6.
        """
        row, x, q2 = np.broadcast_arrays(_ROW[np.asarray(pid) + 32], np.asarray(x, float), np.asarray(q2, float))
        n_x, n_q = self.values.shape[1:]
        inside = np.clip(x, X_MIN, 1.0)
        u = (_stretch(inside) - _stretch(X_MIN)) / (_stretch(1.0) - _stretch(X_MIN)) * (n_x - 1)
        v = (0.5 * np.log(np.clip(q2, Q_MIN**2, Q_MAX**2)) - np.log(Q_MIN)) / np.log(Q_MAX / Q_MIN) * (n_q - 1)
        i = np.clip(u.astype(np.int64) - 1, 0, n_x - 4)
        j = np.clip(v.astype(np.int64), 0, n_q - 2)
        d = u - i
        lagrange = (
            -(d - 1) * (d - 2) * (d - 3) / 6,
            d * (d - 2) * (d - 3) / 2,
            -d * (d - 1) * (d - 3) / 2,
            d * (d - 1) * (d - 2) / 6,
        )
        flat = self.values.reshape(-1)
        start = (row * n_x + i) * n_q + j
        low = sum(c * flat[start + k * n_q] for k, c in enumerate(lagrange))
        high = sum(c * flat[start + k * n_q + 1] for k, c in enumerate(lagrange))
        result = low + (v - j) * (high - low)
        return np.where(x < 1.0, np.maximum(result, 0.0), 0.0)


@cache
def from_pythia(pset: str = "13", n_x: int = 240, n_q: int = 48) -> PartonDensities:
    """Tabulate one of Pythia's internal sets; `13` is NNPDF2.3 QCD+QED LO, alpha_s(MZ) = 0.130 (LHAPDF 247000).

    Takes about a second; the table is kept for the life of the process.

    Raises:
        MissingExtra: pythia8mc is not installed.
        DataError: Pythia does not know the set.

    References:
        "Parton distributions with LHC data" (Ball et al., 2013), https://arxiv.org/abs/1207.1303
    """
    pythia8mc = require("pythia8mc", "generate", "Tabulating parton densities")
    pythia = pythia8mc.Pythia("", False)
    for line in ("Print:quiet = on", "ProcessLevel:all = off", f"PDF:pSet = {pset}"):
        if not pythia.readString(line):
            raise DataError(f"Pythia must accept {line!r}, however it refused.")
    if not pythia.init():
        raise DataError(f"Pythia must start with PDF:pSet = {pset}, however it did not; choose a known set.")
    source = pythia.getPDFPtr(2212)
    x = _nodes(n_x)
    values = np.zeros((len(FLAVOURS), n_x, n_q))
    for j, q2 in enumerate(np.geomspace(Q_MIN**2, Q_MAX**2, n_q).tolist()):
        for i, point in enumerate(x[:-1].tolist()):
            values[:, i, j] = [source.xf(pid, point, q2) for pid in FLAVOURS]
    return PartonDensities(values, f"Pythia PDF:pSet = {pset}")


def _stretch(x: ArrayLike) -> np.ndarray:
    """Return ln x + 5 x: equal steps are logarithmic at small x and fine enough where densities fall to zero."""
    x = np.asarray(x, float)
    stretched: np.ndarray = np.log(x) + 5.0 * x
    return stretched


def _nodes(n_x: int) -> np.ndarray:
    """Return the x values at which the stretched variable has equal steps; the ends are exact."""
    target = np.linspace(_stretch(X_MIN), _stretch(1.0), n_x)
    x = np.exp(np.minimum(target, 0.0))
    for _ in range(60):
        step = (_stretch(x) - target) / (1.0 / x + 5.0)
        x = np.clip(x - step, 0.2 * x, 1.0)
    x[0], x[-1] = X_MIN, 1.0
    return x
