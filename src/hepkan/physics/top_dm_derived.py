"""What follows from the momenta of neutrino and mediator: directions, the top quark and its spin.

The visible momenta are those reconstructed in the event, also where the truth is computed, so a difference is due to
the invisible ones alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepkan.physics.kinematics import Floats, cos_in_frame

Columns = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Derived:
    """A quantity that follows from targets `(n, 8)` and input columns `(n,)`.

    Attributes:
        name: its name.
        unit: GeV, rad or nothing.
        label: mathtext.
        function: of input columns and targets, `(n,)`.
        needs: the input columns.
        angle: whether differences are taken modulo a full turn.
    """

    name: str
    unit: str
    label: str
    function: Callable[[Columns, Floats], Floats]
    needs: tuple[str, ...] = ()
    angle: bool = False

    def residual(self, columns: Columns, prediction: Floats, truth: Floats) -> Floats:
        """Return the difference of prediction and truth, `(n,)`; angles from -pi to pi."""
        difference = self.function(columns, prediction) - self.function(columns, truth)
        return np.remainder(difference + np.pi, 2.0 * np.pi) - np.pi if self.angle else difference


def _pt(first: int) -> Callable[[Columns, Floats], Floats]:
    return lambda columns, y: np.asarray(np.hypot(y[:, first], y[:, first + 1]))


def _eta(first: int) -> Callable[[Columns, Floats], Floats]:
    """Pseudorapidity, limited to 10."""
    return lambda columns, y: np.clip(
        np.arcsinh(y[:, first + 2] / np.maximum(np.hypot(y[:, first], y[:, first + 1]), 1e-9)), -10.0, 10.0
    )


def _phi(first: int) -> Callable[[Columns, Floats], Floats]:
    return lambda columns, y: np.asarray(np.arctan2(y[:, first + 1], y[:, first]))


def _four(columns: Columns, name: str) -> Floats:
    """A visible momentum (px, py, pz, E), `(n, 4)`; the lepton is massless."""
    p = np.stack([np.asarray(columns[f"{name}_{axis}"], dtype=np.float64) for axis in ("px", "py", "pz")], axis=1)
    energy = np.linalg.norm(p, axis=1) if name == "lep" else np.asarray(columns[f"{name}_e"], dtype=np.float64)
    return np.column_stack([p, energy])


def _neutrino(y: Floats) -> Floats:
    """The neutrino on its mass shell, `(n, 4)`: E is |p| whatever was predicted."""
    return np.column_stack([y[:, :3], np.linalg.norm(y[:, :3], axis=1)])


def _product(a: Floats, b: Floats) -> Floats:
    """Minkowski product in GeV^2, `(n,)`."""
    return np.asarray(a[:, 3] * b[:, 3] - (a[:, :3] * b[:, :3]).sum(axis=1))


def _top_mass(columns: Columns, y: Floats) -> Floats:
    top = _four(columns, "lep") + _four(columns, "bjet") + _neutrino(y)
    return np.sqrt(np.maximum(_product(top, top), 0.0))


def _w_mass(columns: Columns, y: Floats) -> Floats:
    w = _four(columns, "lep") + _neutrino(y)
    return np.sqrt(np.maximum(_product(w, w), 0.0))


def _cos_theta(columns: Columns, y: Floats) -> Floats:
    """Cosine of the angle between lepton and light jet in the top's rest frame."""
    lepton, jet = _four(columns, "lep"), _four(columns, "jet1")
    top = lepton + _four(columns, "bjet") + _neutrino(y)
    pairs = ((lepton, lepton), (jet, jet), (lepton, jet), (lepton, top), (jet, top), (top, top))
    return np.asarray(cos_in_frame(*(_product(a, b) for a, b in pairs)))


_LEPTON = ("lep_px", "lep_py", "lep_pz")
_TOP = (*_LEPTON, "bjet_px", "bjet_py", "bjet_pz", "bjet_e")
_TOP_AND_JET = (*_TOP, "jet1_px", "jet1_py", "jet1_pz", "jet1_e")

DERIVED = (
    Derived("nu_pt", "GeV", r"$p_T(\nu)$", _pt(0)),
    Derived("nu_eta", "", r"$\eta(\nu)$", _eta(0)),
    Derived("nu_phi", "rad", r"$\phi(\nu)$", _phi(0), angle=True),
    Derived("phi_pt", "GeV", r"$p_T(\phi)$", _pt(4)),
    Derived("phi_eta", "", r"$\eta(\phi)$", _eta(4)),
    Derived("phi_phi", "rad", r"$\phi(\phi)$", _phi(4), angle=True),
    Derived("w_mass", "GeV", r"$m(\ell\nu)$", _w_mass, _LEPTON),
    Derived("top_mass", "GeV", r"$m(\ell\nu b)$", _top_mass, _TOP),
    Derived("cos_theta", "", r"$\cos\theta^*(\ell, j)$", _cos_theta, _TOP_AND_JET),
)
"""In their order on a page; `phi` names the mediator, azimuths are relative to the missing momentum."""
