"""How well events determine the function of an edge: a bootstrap with one Newton step for each repetition."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import UsageError
from hepkan.interpret.attribution import EVENTS, output_slopes
from hepkan.interpret.curves import EdgeCurves
from hepkan.interpret.judging import Floats, Judge, demand_alive, layers_of, make_judge
from hepkan.interpret.trace import basis_values
from hepkan.nn import KAN

RIDGE = 1e-3
"""Curvature added where no event looks, relative to the mean curvature of an edge's coefficients."""
BLOCK = 512


def edge_bands(
    model: KAN,
    curves: EdgeCurves,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    group: ArrayLike | None = None,
    loss: str | None = None,
    n_boot: int = 100,
    seed: int = 0,
    events: int | None = EVENTS,
) -> tuple[Floats, ...]:
    r"""Return the bootstrap error of every edge's function at the points of `curves`.

    In each repetition of the Poisson bootstrap the coefficients c of one edge take one Newton step of the loss, the
    rest of the network held: :math:`\delta c = - H^{-1} (g - g_0)`, with g the gradient of the repetition, H the
    Gauss-Newton curvature, and the mean of the function taken off. That is what the events alone leave open; how much
    seeds and the other edges move a function is seen by training again.

    **Shape** result: `(in, points, sums)` for each layer.

    Arguments:
        model: the KAN.
        curves: its functions, from `edge_curves`.
        X: raw features `(n, features)`.
        y: labels or targets.
        others: as `hepkan.attribute`.

    Raises:
        UsageError: as `attribute`, or the loss is mae, which has no curvature.
        DataError: as `attribute`.
    """
    if n_boot < 2:
        raise UsageError(f"A bootstrap needs at least 2 repetitions, however: n_boot={n_boot}.")
    if loss == "mae":
        raise UsageError("Bands need a loss with a curvature, however mae has none. Use 'huber' or 'mse'.")
    judge = make_judge(model, X, y, weight, group=group, loss=loss, events=events)
    demand_alive(model, judge)
    curvature, scores = _moments(model, judge, judge.draws(n_boot, seed))
    bands = []
    for place, (layer, h, g) in enumerate(zip(layers_of(model), curvature, scores, strict=True)):
        points = torch.from_numpy(curves.layers[place].x.T.copy()).to(layer.coef)
        basis = basis_values(layer, model.input_map(points) if place == 0 else points).double()  # (points, in, m)
        size = h.shape[-1]
        ridge = RIDGE * h.diagonal(dim1=-2, dim2=-1).mean(dim=-1).clamp(min=1e-300)
        h = h + ridge[..., None, None] * torch.eye(size, dtype=torch.float64)
        step = torch.linalg.solve(h.unsqueeze(0), (g[1:] - g[:1]).unsqueeze(-1)).squeeze(-1)  # (draws, in, sums, m)
        moved = torch.einsum("bism,pim->bips", step, basis)
        bands.append(np.asarray((moved - moved.mean(dim=2, keepdim=True)).std(dim=0).cpu().numpy()))
    return tuple(bands)


def _moments(model: KAN, judge: Judge, draws: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return for each layer the curvature `(in, sums, m, m)` and the gradients `(draws, in, sums, m)` of every edge."""
    layers = layers_of(model)
    sizes = [(layer.in_features, layer.coef.shape[2], layer.coef.shape[1] + (layer.base_weight is not None))
             for layer in layers]  # fmt: skip
    curvature = [torch.zeros(*size, size[-1], dtype=torch.float64) for size in sizes]
    scores = [torch.zeros(len(draws), *size, dtype=torch.float64) for size in sizes]
    for first in range(0, len(judge), BLOCK):
        rows = slice(first, first + BLOCK)
        inputs, output, slopes = output_slopes(model, judge.X[rows])
        slope, bend = _derivatives(model, judge, output, judge.target[rows])
        share = draws[:, rows].double().cpu()
        for place, (layer, x, by_sum) in enumerate(zip(layers, inputs, slopes, strict=True)):
            with torch.no_grad():
                basis = basis_values(layer, x).double().cpu()
            score = torch.einsum("nk,nsk->ns", slope, by_sum.double().cpu())
            size = torch.einsum("nk,nsk->ns", bend, by_sum.double().cpu().square()) * share[0].abs().unsqueeze(1)
            curvature[place] += torch.einsum("ns,nip,niq->ispq", size, basis, basis)
            each = torch.einsum("ns,nim->nism", score, basis).flatten(1)
            scores[place] += (share @ each).reshape(len(share), *sizes[place])
    return curvature, scores


def _derivatives(model: KAN, judge: Judge, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return first and second derivatives of the losses of events by each output, `(n, outputs)`, in float64."""
    with torch.enable_grad():
        f = output.detach().clone().requires_grad_()
        losses = judge.each(judge.output(model, f), target)
        (first,) = torch.autograd.grad(losses.sum(), f, create_graph=True)
        columns = [
            torch.autograd.grad(first[:, k].sum(), f, retain_graph=True, allow_unused=True)[0]
            for k in range(f.shape[1])
        ]
    second = torch.stack([torch.zeros(len(f)) if c is None else c[:, k].cpu() for k, c in enumerate(columns)], dim=1)
    return first.detach().double().cpu(), second.double().clamp(min=0.0)
