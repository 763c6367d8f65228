"""Some of many events for the fit of a formula: in proportion to their weights, and the outermost ones too."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hepkan.interpret.trace import layer_inputs
from hepkan.nn import KAN

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def sampled(model: KAN, x: Floats, weight: Floats | None, most: int) -> tuple[Rows, Floats]:
    """Return about `most` of the events of a network and their weights; all of them where there are no more.

    Events are taken at equal steps of their order, or of the sum of their weights, so that each stands for the same
    weight. Added to them are those with the smallest and the largest value of each input and each hidden node, which
    stand for themselves alone: they keep a formula from growing without bounds where few events are.

    **Shape** x: `(n, features)`, weight: `(n,)`, results: `(m,)` each.
    """
    n = len(x)
    own = np.ones(n) if weight is None else weight
    if n <= most:
        return np.arange(n), own
    total = np.abs(own).sum()
    if weight is None or not 0.0 < total < np.inf:
        rows = np.unique(np.linspace(0, n - 1, most).round().astype(np.intp))
        share = own[rows] * (n / len(rows))
    else:
        steps = (np.arange(most) + 0.5) * (total / most)
        rows, times = np.unique(np.searchsorted(np.cumsum(np.abs(own)), steps).clip(max=n - 1), return_counts=True)
        share = np.sign(own[rows]) * times * (total / most)
    more = np.setdiff1d(_outermost(model, x), rows)
    more = more[own[more] != 0.0]
    rows, share = np.concatenate([rows, more]), np.concatenate([share, own[more]])
    order = np.argsort(rows)
    return rows[order], share[order]


def _outermost(model: KAN, x: Floats) -> Rows:
    """Return the events with the smallest and the largest finite value of each input and each hidden node."""
    values = layer_inputs(model, torch.as_tensor(x).to(next(model.parameters())))[:-1]
    every = torch.cat(values, dim=1).cpu().numpy()
    low, high = (np.where(np.isfinite(every), every, sign * np.inf) for sign in (1, -1))
    return np.unique(np.concatenate([low.argmin(axis=0), high.argmax(axis=0)]))
