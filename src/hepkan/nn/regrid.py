"""Grids of a whole KAN: finer ones, and ones that follow the data layer after layer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import UsageError
from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN, as_tensor
from hepkan.splines.grids import GridChange

EVENTS = 100_000
"""At most so many events, at equal steps of their order, decide where the knots go."""
BATCH = 16384


def refine(model: KAN, grid: int, x: ArrayLike | Tensor | None = None) -> KAN:
    """Return a KAN with the same functions on finer grids; the model given stays as it is.

    Arguments:
        model: the KAN.
        grid: the new number of intervals; a multiple of the old one keeps the functions exactly.
        x: raw features `(n, inputs)`; when given, the finer knots follow the data at every layer.

    Raises:
        UsageError: the new grid is coarser.
    """
    finer = model.refined(grid)
    if x is not None:
        update_grid(finer, x)
    return finer


@torch.no_grad()
def update_grid(
    model: KAN,
    X: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    blend: float = 0.5,
    margin: float = 0.01,
) -> tuple[GridChange, ...]:
    """Let the knots of every layer follow the values that the layer sees, in place, and keep the functions.

    Layer after layer the knots go to weighted quantiles blended with equidistant ones, and the functions move to them
    by least squares; see `hepkan.splines.grids`. Memory stays small: of many events `EVENTS` at equal steps are used.

    Arguments:
        model: the KAN.
        X: raw features `(n, inputs)`; values that are not finite are left out.
        weight: `(n,)`; negative ones count as zero.
        blend: share of the equidistant knots, above 0 and at most 1.
        margin: by how much the grid extends beyond the data, relative to their range.

    Returns:
        How much the functions of every layer changed.

    Raises:
        UsageError: the model is no KAN, shapes that do not fit, an input without finite data, an impossible `blend`.
    """
    if not isinstance(model, KAN):
        raise UsageError(f"A grid update needs a KAN, however the model is a {type(model).__name__}.")
    shape, sizes = tuple(np.shape(X)), None if weight is None else tuple(np.shape(weight))
    if shape != (*shape[:1], model.n_features) or shape[0] == 0:
        raise UsageError(f"X needs the shape (n, {model.n_features}) with n > 0, however: {shape}.")
    if sizes is not None and sizes != shape[:1]:
        raise UsageError(f"weight needs the shape ({shape[0]},), however: {sizes}.")
    layers = [layer for layer in model.layers if isinstance(layer, KANLayer)]
    events = thinned(X, EVENTS).to(layers[0].knots)
    z = torch.cat([model.coordinates(part) for part in torch.split(events, BATCH)])
    return adapt(layers, z, None if weight is None else thinned(weight, EVENTS).to(z), blend, margin)


def adapt(
    layers: Iterable[KANLayer], z: Tensor, weight: Tensor | None = None, blend: float = 0.5, margin: float = 0.01
) -> tuple[GridChange, ...]:
    """Let the knots of layers follow the data one after the other; z: `(n, inputs)` in network coordinates."""
    changes = []
    for layer in layers:
        changes.append(layer.update_grid(z, weight, blend, margin))
        with torch.no_grad():
            z = torch.cat([layer(part) for part in torch.split(z, BATCH)])
    return tuple(changes)


def thinned(values: ArrayLike | Tensor, number: int) -> Tensor:
    """Return at most `number` events, at equal steps of their order."""
    events = values if isinstance(values, Tensor) else np.asarray(values)
    if len(events) <= number:
        return as_tensor(events)
    rows = torch.arange(number) * len(events) // number
    return as_tensor(events[rows] if isinstance(events, Tensor) else events[rows.numpy()])
