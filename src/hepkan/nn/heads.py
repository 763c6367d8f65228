"""Heads for two invisible particles: outputs of a model become four-momenta that lie on their mass shells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from hepkan.errors import UsageError, unknown
from hepkan.nn.transforms import Affine

HEADS = ("free", "mass_shells", "mass_shells_met")
COMPONENTS = ("px", "py", "pz", "e")
MET = "met_pt"


class Head(nn.Module):
    r"""The last step of a model of a massless and a massive invisible particle (neutrino and mediator), in GeV.

    `mass_shells` takes :math:`\vec p_\nu, \vec p_\phi` and :math:`m_\phi \ge 0`, `mass_shells_met` leaves out the
    transverse momentum of the mediator; both give the eight components with

    .. math:: E_\nu = |\vec p_\nu|, \quad E_\phi = \sqrt{\vec p_\phi^2 + m_\phi^2}, \quad
              \vec p_{T\phi} = (\text{MET}, 0) - \vec p_{T\nu}

    the last one for `mass_shells_met`, in the frame whose x axis is the missing transverse momentum. The result has the
    type of the input: float64 keeps E - \|p\| to 1e-15 E and the sum of the transverse momenta to 1e-12 GeV.

    A network's standardised outputs r become reduced targets first: momenta :math:`\mu + \sigma r`, and the mass
    :math:`\bar m \, \text{softplus}(r) / \log 2`, with the numbers learned by `fit`.

    **Shape** outputs: `(n, reduced)`, met: `(n, 1)` or None, result: `(n, 8)`: px, py, pz, E of both particles.

    Arguments:
        name: `mass_shells` or `mass_shells_met`.
        n_features: number of raw features of the model.
        met: column of the raw features with the missing transverse momentum, for `mass_shells_met`.
        mediator_mass: mass of the mediator in GeV when it is known, then it is no output; None otherwise.

    Raises:
        UsageError: unknown name, a column that is not there, or an impossible mass.
    """

    targets = 8

    def __init__(
        self, name: str, n_features: int, met: int | None = None, mediator_mass: float | None = None
    ) -> None:
        super().__init__()
        if name not in HEADS[1:]:
            raise unknown("head of a network", name, HEADS[1:])
        if mediator_mass is not None and not (math.isfinite(mediator_mass) and mediator_mass >= 0):
            raise UsageError(f"mediator_mass must be finite and not negative, however: {mediator_mass}.")
        if name == "mass_shells_met" and (met is None or not 0 <= met < n_features):
            raise UsageError(f"The head {name!r} needs the column of the missing momentum, however: met={met}.")
        self.name, self.n_features, self.mediator_mass = name, int(n_features), mediator_mass
        self.met = met if name == "mass_shells_met" else None
        self.momenta = 6 if self.met is None else 4
        self.reduced = self.momenta + (mediator_mass is None)
        self.affine = Affine(self.momenta)
        self.register_buffer("mass_scale", torch.ones(1))

    mass_scale: Tensor

    def describe(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        return {
            "name": self.name,
            "n_features": self.n_features,
            "met": self.met,
            "mediator_mass": self.mediator_mass,
        }

    def context(self, X: ArrayLike | Tensor) -> Tensor | None:
        """Return what the head needs of raw features, in their type: `(n, n_features)` to `(n, 1)`, or None."""
        if self.met is None:
            return None
        if isinstance(X, Tensor):
            return X[:, self.met : self.met + 1]
        return torch.from_numpy(np.asarray(X, dtype=np.float64)[:, self.met : self.met + 1].copy())

    def encode(self, targets: Tensor) -> Tensor:
        """Return reduced targets in GeV from the eight components; `(n, 8)` to `(n, reduced)`.

        Energies serve for the mass only, and with `mass_shells_met` the mediator's transverse momentum is dropped.
        """
        kept = [0, 1, 2, 4, 5, 6] if self.met is None else [0, 1, 2, 6]
        columns = [targets[:, kept]]
        if self.mediator_mass is None:
            square = targets[:, 7:8].square() - targets[:, 4:7].square().sum(dim=1, keepdim=True)
            columns.append(square.clamp(min=0.0).sqrt())
        return torch.cat(columns, dim=1)

    @torch.no_grad()
    def fit(self, targets: Tensor, weight: Tensor | None = None) -> None:
        """Learn scales of the reduced targets from training data; targets: `(n, 8)`, weight: `(n,)` or None."""
        reduced = self.encode(targets.double())
        self.affine.fit(reduced[:, : self.momenta], weight)
        if self.mediator_mass is None:
            mass = Affine(1).double()
            mass.fit(reduced[:, -1:], weight)
            self.mass_scale = mass.mean.clamp(min=1.0).to(self.mass_scale)  # GeV: all masses may be zero

    def activate(self, outputs: Tensor) -> Tensor:
        """Return reduced targets in GeV from standardised outputs, `(n, reduced)` each."""
        mean, scale = self.affine.mean.to(outputs), self.affine.scale.to(outputs)
        momenta = mean + scale * outputs[:, : self.momenta]
        if self.mediator_mass is not None:
            return momenta
        mass = self.mass_scale.to(outputs) / math.log(2.0) * functional.softplus(outputs[:, self.momenta :])
        return torch.cat([momenta, mass], dim=1)

    def decode(self, reduced: Tensor, met: Tensor | None) -> Tensor:
        """Return the eight components from reduced targets; a negative mass counts as zero."""
        nu = reduced[:, :3]
        if self.met is None:
            phi = reduced[:, 3:6]
        else:
            assert met is not None
            along = met.to(reduced)
            phi = torch.cat([along - nu[:, :1], -nu[:, 1:2], reduced[:, 3:4]], dim=1)
        if self.mediator_mass is None:
            mass = reduced[:, -1:].clamp(min=0.0)
        else:
            mass = torch.full_like(nu[:, :1], self.mediator_mass)
        energy = torch.linalg.vector_norm(torch.cat([phi, mass], dim=1), dim=1, keepdim=True)
        return torch.cat([nu, torch.linalg.vector_norm(nu, dim=1, keepdim=True), phi, energy], dim=1)

    def forward(self, outputs: Tensor, met: Tensor | None) -> Tensor:
        """Return the eight components from standardised outputs."""
        return self.decode(self.activate(outputs), met)

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in self.describe().items())


def head_for(
    name: str, mediator_mass: float | None, features: Sequence[str], targets: Sequence[str]
) -> Head | None:
    """Return the head of that name for named features and targets, None for `free`.

    Raises:
        UsageError: unknown name, a mass without mass shells, targets that are no two four-momenta, or `met_pt` is
            needed and not a feature.
    """
    if name not in HEADS:
        raise unknown("head", name, HEADS)
    if name == "free":
        if mediator_mass is not None:
            raise UsageError("mediator_mass needs head='mass_shells' or 'mass_shells_met', however: head='free'.")
        return None
    if tuple(one.rpartition("_")[2] for one in targets) != 2 * COMPONENTS:
        raise UsageError(
            f"The head {name!r} needs px, py, pz and e of a massless and of a massive particle as targets, however "
            f"they are: {', '.join(targets)}. Use head='free'."
        )
    if name == "mass_shells_met" and MET not in features:
        raise UsageError(f"The head {name!r} needs the feature {MET}, however it is not among the features.")
    met = list(features).index(MET) if MET in features else None
    return Head(name, len(features), met, mediator_mass)
