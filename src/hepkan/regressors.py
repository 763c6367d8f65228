"""Regression without a network: constants, the textbook split of missing momentum, and boosted trees per target.

Every one predicts reduced targets, which a head (or none) turns into targets, see `hepkan.nn.heads`. All are kept as
JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from hepkan.data import Table
from hepkan.errors import DataError, UsageError
from hepkan.files import write_text
from hepkan.nn.heads import Head
from hepkan.nn.transforms import Affine

Floats = NDArray[np.float64]
FILE = "predictor.json"
SHARES = 101
"""Shares of the missing momentum that are tried, from 0 to 1 at equal steps."""


@dataclass(frozen=True)
class Problem:
    """A regression as a loss: targets `(n, t)`, weights `(n,)` of mean 1, and what the loss is measured in."""

    X: Floats
    target: Floats
    weight: Floats
    scale: Floats

    @classmethod
    def of(cls, table: Table, policy: Any, scale: Floats | None = None) -> Problem:
        """Return the problem of a table; `scale` is the deviation of its targets unless given.

        Raises:
            UsageError: unknown policy.
            DataError: weights without positive sum.
        """
        kept, weight = table.for_training(policy)
        if scale is None:
            scale = deviation(kept.y, weight)
        return cls(kept.X.astype(np.float64), kept.y, weight, scale)

    def loss(self, prediction: Floats) -> float:
        """Return the mean absolute error in units of `scale`, averaged over targets: that of networks with `mae`."""
        each = (np.abs(prediction - self.target) / self.scale).mean(axis=1)
        return float(each @ self.weight / self.weight.sum())


class Regressor:
    """Common part: the shape of X, NaN for an event with NaN, the head, and JSON."""

    head: dict[str, Any] | None
    n_features: int

    def predict(self, X: ArrayLike) -> Floats:
        """Return targets `(n, t)` from raw features `(n, d)`.

        Raises:
            UsageError: X does not have the model's number of features.
        """
        x = np.asarray(X, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise UsageError(f"X needs the shape (n, {self.n_features}), however it has {x.shape}.")
        y = decoded(self.head, self.reduced(x), x)
        y[np.isnan(x).any(axis=1)] = np.nan
        return y

    def reduced(self, x: Floats) -> Floats:
        """Return reduced targets from raw features."""
        raise NotImplementedError

    def content(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.init}  # type: ignore[arg-type]

    @property
    def n_parameters(self) -> int:
        """Number of fitted numbers."""
        raise NotImplementedError


@dataclass(frozen=True)
class Median(Regressor):
    """The weighted median of every (reduced) target, whatever the features are."""

    n_features: int
    constants: list[float]
    head: dict[str, Any] | None = None

    @classmethod
    def fit(cls, problem: Problem, head: Head | None) -> Median:
        """Learn the medians."""
        reduced = encoded(head, problem.target)
        constants = weighted_median(reduced, np.abs(problem.weight))
        return cls(problem.X.shape[1], constants.tolist(), None if head is None else head.describe())

    def reduced(self, x: Floats) -> Floats:
        """Return the constants for every event."""
        return np.tile(np.asarray(self.constants), (len(x), 1))

    @property
    def n_parameters(self) -> int:
        """Number of constants."""
        return len(self.constants)


@dataclass(frozen=True)
class METSplit(Regressor):
    r"""A share f of the missing momentum is the neutrino's, the rest is the mediator's.

    The neutrino's pz is that of the W-mass constraint with :math:`\vec p_{T\nu} = f (\text{MET}, 0)`, the smaller
    solution or the real part; its energy follows. The mediator has no estimate of pz, and the size of its transverse
    momentum as one of its energy. Each component is then shifted by the weighted median of its residual, and f
    minimises the mean absolute error.

    Attributes:
        columns: places of lep_px, lep_py, lep_pz and met_pt among the features.
    """

    n_features: int
    columns: list[int]
    share: float
    shifts: list[float]
    head: dict[str, Any] | None = None

    NEEDED: ClassVar[tuple[str, ...]] = ("lep_px", "lep_py", "lep_pz", "met_pt")

    @classmethod
    def fit(cls, problem: Problem, head: Head | None, features: Sequence[str], targets: Sequence[str]) -> METSplit:
        """Learn the share and the shifts.

        Raises:
            UsageError: a feature is missing, or the targets are not the two four-momenta.
        """
        missing = [name for name in cls.NEEDED if name not in features]
        if missing:
            names = ", ".join(missing)
            raise UsageError(f"The model 'met_split' needs these features, however they are missing: {names}.")
        if [name.rpartition("_")[2] for name in targets] != ["px", "py", "pz", "e"] * 2:
            raise UsageError(
                "The model 'met_split' needs px, py, pz and e of neutrino and mediator as targets, however they are: "
                f"{', '.join(targets)}."
            )
        columns = [list(features).index(name) for name in cls.NEEDED]
        weight = np.abs(problem.weight)
        best: tuple[float, float, Floats] | None = None
        for share in np.linspace(0.0, 1.0, SHARES):
            estimate = split_momentum(problem.X[:, columns], share)
            shifts = weighted_median(problem.target - estimate, weight)
            loss = problem.loss(estimate + shifts)
            if best is None or loss < best[0]:
                best = (loss, float(share), shifts)
        assert best is not None
        description = None if head is None else head.describe()
        return cls(problem.X.shape[1], columns, best[1], best[2].tolist(), description)

    def reduced(self, x: Floats) -> Floats:
        """Return the estimates, on the mass shells of the head if there is one."""
        estimate = split_momentum(x[:, self.columns], self.share) + np.asarray(self.shifts)
        return encoded(None if self.head is None else Head(**self.head), estimate)

    @property
    def n_parameters(self) -> int:
        """Number of shifts, and the share."""
        return len(self.shifts) + 1


def split_momentum(inputs: Floats, share: float) -> Floats:
    """Return the components `(n, 8)` in GeV without shifts, from lep_px, lep_py, lep_pz and met_pt `(n, 4)`."""
    from hepkan.physics.event import Event

    px, py, pz, met = inputs.T
    pt = np.hypot(px, py)
    neutrino_pt, phi_pt, zero = share * met, (1.0 - share) * met, np.zeros_like(met)
    columns = {"lep_pt": pt, "lep_phi": np.arctan2(py, px), "met_pt": neutrino_pt, "met_phi": zero}
    columns["lep_eta"] = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pt), where=pt > 0))
    along = Event(columns).neutrino.pz
    energy = np.hypot(neutrino_pt, along)
    return np.column_stack([neutrino_pt, zero, along, energy, phi_pt, zero, zero, np.abs(phi_pt)])


def deviation(targets: Floats, weight: Floats) -> Floats:
    """Return the weighted standard deviation of every target, 1 for a constant; `(n, t)` to `(t,)`."""
    affine = Affine(targets.shape[1]).double()
    affine.fit(torch.from_numpy(targets), torch.from_numpy(weight))
    return np.asarray(affine.scale.numpy())


def weighted_median(values: Floats, weight: Floats) -> Floats:
    """Return the weighted median of every column: where half of the weight lies below; `(n, t)` to `(t,)`."""
    found = np.empty(values.shape[1])
    for t, column in enumerate(values.T):
        order = np.argsort(column, kind="stable")
        sums = np.cumsum(weight[order])
        found[t] = column[order[min(int(np.searchsorted(sums, 0.5 * sums[-1])), len(column) - 1)]]
    return found


def encoded(head: Head | None, targets: Floats) -> Floats:
    """Return reduced targets in float64, targets themselves without a head."""
    return targets if head is None else np.asarray(head.encode(torch.from_numpy(targets)).numpy())


def decoded(description: dict[str, Any] | None, reduced: Floats, x: Floats) -> Floats:
    """Return targets in float64 from reduced ones and raw features."""
    if description is None:
        return reduced.copy()
    head = Head(**description)
    return np.asarray(head.decode(torch.from_numpy(reduced), head.context(x)).numpy())


def write_regressor(predictor: Regressor, root: Path, record: dict[str, Any]) -> Path:
    """Write a regressor and the record of its training as JSON; return the file."""
    text = json.dumps({"class": type(predictor).__name__, "content": predictor.content(), "record": record})
    write_text(root / FILE, text)
    return root / FILE


def read_regressor(root: Path, kinds: Mapping[str, type[Regressor]]) -> tuple[Regressor, dict[str, Any]]:
    """Return what `write_regressor` wrote, a regressor of one of these classes.

    Raises:
        DataError: the file is damaged.
    """
    try:
        content = json.loads((root / FILE).read_text(encoding="utf-8"))
        return kinds[content["class"]](**content["content"]), content["record"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{root / FILE} must hold a complete model, however: {error!r}.") from error
