"""The canonical frame of top + dark matter: what the symmetries of the collision leave free is fixed by objects.

Beams of equal protons and a detector that is the same all around and on both sides do not change when an event is
turned about the beam axis or reflected in y or in z; the matrix elements hold scalar products only. The frame takes
this freedom out: the missing transverse momentum is along +x, and the lepton has p_y >= 0 and p_z >= 0. Whatever is
predicted there is turned back by `from_frame`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepkan.errors import UsageError, unknown

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]

OBJECTS = ("lep", "bjet", "jet1", "jet2", "met")
"""Objects given by columns `<name>_phi` and, where they have one, `<name>_eta`."""
TRUE = ("true_neutrino", "true_mediator")
"""Momenta given by columns `<name>_px`, `_py`, `_pz` (GeV)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """How each event was turned and reflected.

    Attributes:
        angle: azimuth of the missing momentum in radians; the event was turned by minus this angle (n,).
        flip_y: -1 where the event was then reflected, y -> -y, else 1 (n,).
        flip_z: -1 where it was reflected, z -> -z, else 1 (n,).
    """

    angle: Floats
    flip_y: Floats
    flip_z: Floats

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> Frame:
        """Return the frame that the columns `met_phi`, `lep_phi` and `lep_eta` define.

        Raises:
            UsageError: a column is missing.
        """
        for name in ("met_phi", "lep_phi", "lep_eta"):
            if name not in columns:
                raise unknown("object column", name, columns)
        angle, phi, eta = (np.asarray(columns[name], dtype=np.float64) for name in ("met_phi", "lep_phi", "lep_eta"))
        return cls(angle, np.where(np.sin(phi - angle) < 0, -1.0, 1.0), np.where(eta < 0, -1.0, 1.0))

    def __len__(self) -> int:
        return len(self.angle)

    def columns(self) -> Columns:
        """Return the frame as columns `frame_angle`, `frame_flip_y`, `frame_flip_z`, to be kept with a table."""
        return {"frame_angle": self.angle, "frame_flip_y": self.flip_y, "frame_flip_z": self.flip_z}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]]) -> Frame:
        """Return the frame that `columns` gave.

        Raises:
            UsageError: a column is missing.
        """
        names = ("frame_angle", "frame_flip_y", "frame_flip_z")
        for name in names:
            if name not in columns:
                raise unknown("column", name, columns)
        return cls(*(np.asarray(columns[name], dtype=np.float64) for name in names))


def to_frame(events: Mapping[str, NDArray[Any]]) -> tuple[Columns, Frame]:
    """Return events in their canonical frame, and the frame.

    Azimuths and pseudorapidities of `OBJECTS` and the momenta of `TRUE` are changed where they exist, as float64;
    azimuths are from -pi to pi. All other columns are returned as they are.

    Raises:
        UsageError: `met_phi`, `lep_phi` or `lep_eta` is missing.
    """
    frame = Frame.of(events)
    changed: Columns = {}
    for name in OBJECTS:
        if f"{name}_phi" in events:
            phi = np.asarray(events[f"{name}_phi"], dtype=np.float64) - frame.angle
            changed[f"{name}_phi"] = frame.flip_y * np.arctan2(np.sin(phi), np.cos(phi))
        if f"{name}_eta" in events:
            changed[f"{name}_eta"] = frame.flip_z * np.asarray(events[f"{name}_eta"], dtype=np.float64)
    for name in TRUE:
        axes = [f"{name}_{axis}" for axis in ("px", "py", "pz")]
        if all(axis in events for axis in axes):
            momentum = np.column_stack([np.asarray(events[axis], dtype=np.float64) for axis in axes])
            zero = np.zeros((len(momentum), 1))
            changed |= dict(zip(axes, momenta_to_frame(np.hstack([momentum, zero]), frame).T, strict=False))
    return {**events, **changed}, frame


def momenta_to_frame(momenta: ArrayLike, frame: Frame) -> Floats:
    """Return four-momenta (px, py, pz, E) of the laboratory in the frame; shape (n, 4 k) for k particles, GeV.

    Raises:
        UsageError: wrong shape.
    """
    p = _particles(momenta, frame)
    px, py = _turned(p[..., 0], p[..., 1], -frame.angle[:, None])
    pz = frame.flip_z[:, None] * p[..., 2]
    return np.stack([px, frame.flip_y[:, None] * py, pz, p[..., 3]], axis=-1).reshape(len(p), -1)


def from_frame(momenta: ArrayLike, frame: Frame) -> Floats:
    """Return four-momenta (px, py, pz, E) predicted in the frame in the laboratory; shape (n, 4 k), GeV.

    Raises:
        UsageError: wrong shape.
    """
    p = _particles(momenta, frame)
    px, py = _turned(p[..., 0], frame.flip_y[:, None] * p[..., 1], frame.angle[:, None])
    return np.stack([px, py, frame.flip_z[:, None] * p[..., 2], p[..., 3]], axis=-1).reshape(len(p), -1)


def _particles(momenta: ArrayLike, frame: Frame) -> Floats:
    """Shape (n, k, 4)."""
    values = np.asarray(momenta, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] % 4 or len(values) != len(frame):
        raise UsageError(f"Momenta need the shape ({len(frame)}, 4 k), however: {values.shape}.")
    return values.reshape(len(values), -1, 4)


def _turned(px: Floats, py: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Turn by an angle about the beam axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * px - sin * py, sin * px + cos * py
