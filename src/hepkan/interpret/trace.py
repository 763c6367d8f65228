"""One pass through a KAN, kept: the values of nodes and edges, and how much each edge varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.interpret.judging import BATCH, Floats, demand_events, demand_kan, layers_of
from hepkan.nn import KAN, KANLayer
from hepkan.nn.networks import as_tensor
from hepkan.nn.regrid import thinned
from hepkan.splines.basis import base_function, bspline_basis

Mask = NDArray[np.bool_]
MEMORY = 256
"""Megabytes of edge values that are kept by default."""


@dataclass(frozen=True)
class Trace:
    """Activations of one pass, layer by layer.

    Deviations and means are over all events, with the size of their weights; values are those of the events at
    `rows`, as many as the memory allows.

    Attributes:
        names: of the inputs.
        rows: which events the values belong to, `(kept,)`.
        nodes: inputs in network coordinates, hidden nodes, outputs of the last layer; `(kept, width)` each.
        edges: the function of every edge, without bias, `(kept, in, sums)` for each layer.
        edge_mean: mean of every edge, `(in, sums)` for each layer.
        edge_std: its standard deviation, the same shape.
        node_mean: mean of every node, `(width,)` for each layer of nodes.
        node_std: its standard deviation.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    nodes: tuple[NDArray[np.floating], ...]
    edges: tuple[NDArray[np.floating], ...]
    edge_mean: tuple[Floats, ...]
    edge_std: tuple[Floats, ...]
    node_mean: tuple[Floats, ...]
    node_std: tuple[Floats, ...]

    def __repr__(self) -> str:
        widths = [nodes.shape[1] for nodes in self.nodes]
        return f"Trace(widths={widths}, values of {len(self.rows)} events)"


@torch.no_grad()
def trace(
    model: KAN, X: ArrayLike | Tensor, weight: ArrayLike | Tensor | None = None, *, memory: float = MEMORY
) -> Trace:
    """Return the activations of one pass, node by node and edge by edge; the model stores nothing.

    Arguments:
        model: a KAN.
        X: raw features `(n, features)`.
        weight: `(n,)`; negative ones count with their size.
        memory: megabytes of edge values to keep; of more events some at equal steps of their order are kept.

    Raises:
        UsageError: no KAN, or shapes that do not fit.
        DataError: NaN or infinity in X, or weights that are all zero.
    """
    demand_kan(model)
    x = as_tensor(X)
    demand_events(model, x, least=1)
    layers = layers_of(model)
    x = x.to(layers[0].coef)
    w = event_sizes(weight, x)
    bytes_each = sum(layer.coef.shape[0] * layer.coef.shape[2] for layer in layers) * x.element_size()
    kept = max(1, min(len(x), int(memory * 1e6 / bytes_each)))
    rows = thinned(torch.arange(len(x)), kept)
    values = layer_inputs(model, x[rows])
    edges = [layer.edge_functions(one) for layer, one in zip(layers, values[:-1], strict=True)]
    moments = edge_moments(model, x, w)
    means, deviations = node_moments(model, x, w)
    return Trace(
        names=tuple(model.input_names),
        rows=np.asarray(rows.cpu().numpy()),
        nodes=tuple(one.cpu().numpy() for one in values),
        edges=tuple(one.cpu().numpy() for one in edges),
        edge_mean=tuple(mean for mean, _ in moments),
        edge_std=tuple(deviation for _, deviation in moments),
        node_mean=means,
        node_std=deviations,
    )


def edges_of(layer: KANLayer) -> Mask:
    """Return which edges a layer has, `(in, sums)`."""
    if layer.edge_mask is None:
        return np.ones(tuple(layer.coef.shape[::2]), dtype=bool)
    return layer.edge_mask.cpu().numpy() != 0  # type: ignore[no-any-return]


@torch.no_grad()
def layer_inputs(model: KAN, x: Tensor) -> list[Tensor]:
    """Return the inputs of every layer, and the outputs of the last; x: `(n, features)` raw."""
    parts = []
    for some in torch.split(x, BATCH):
        values = [model.coordinates(some)]
        for layer in layers_of(model):
            values.append(layer(values[-1]))
        parts.append(values)
    return [torch.cat(column) for column in zip(*parts, strict=True)]


@torch.no_grad()
def edge_moments(model: KAN, x: Tensor, weight: Tensor) -> list[tuple[Floats, Floats]]:
    r"""Return mean and deviation of every edge, `(in, sums)` each, layer by layer.

    They are quadratic forms of the coefficients with the moments of the basis functions, so that memory does not grow
    with events or outputs: :math:`\sigma^2_{io} = c_{io}^T \text{Cov}(B_i) \, c_{io}`.

    **Shape** x: `(n, features)` raw, weight: `(n,)` not negative.
    """
    layers = layers_of(model)
    firsts, seconds, total = [], [], float(weight.double().sum())
    for layer in layers:
        size = layer.coef.shape[1] + (layer.base_weight is not None)
        firsts.append(torch.zeros(layer.in_features, size, dtype=torch.float64, device=x.device))
        seconds.append(torch.zeros(layer.in_features, size, size, dtype=torch.float64, device=x.device))
    for some, w in zip(torch.split(x, BATCH // 4), torch.split(weight, BATCH // 4), strict=True):
        z = model.coordinates(some)
        for layer, first, second in zip(layers, firsts, seconds, strict=True):
            basis = basis_values(layer, z).double()
            weighted = basis * w.double().reshape(-1, 1, 1)
            first += weighted.sum(dim=0)
            second += torch.einsum("nip,niq->ipq", weighted, basis)
            z = layer(z)
    found = []
    for layer, first, second in zip(layers, firsts, seconds, strict=True):
        coef = basis_coefficients(layer).double()
        mean = first / total
        covariance = second / total - mean.unsqueeze(2) * mean.unsqueeze(1)
        variance = torch.einsum("ipo,ipq,iqo->io", coef, covariance, coef).clamp(min=0.0)
        centre = torch.einsum("ip,ipo->io", mean, coef)
        found.append((np.asarray(centre.cpu().numpy()), np.asarray(variance.sqrt().cpu().numpy())))
    return found


def basis_values(layer: KANLayer, z: Tensor) -> Tensor:
    """Return B-splines and base function of every input, `(n, in, G + degree)` or one more."""
    basis = bspline_basis(z, layer.knots, layer.degree)
    if layer.base_weight is None:
        return basis
    return torch.cat([basis, base_function(z, layer.base).unsqueeze(-1)], dim=-1)


def basis_coefficients(layer: KANLayer) -> Tensor:
    """Return the numbers that `basis_values` is multiplied with, `(in, G + degree (+ 1), sums)`."""
    _, coef, base_weight, _ = layer.numbers()
    return coef if base_weight is None else torch.cat([coef, base_weight.unsqueeze(1)], dim=1)


def node_moments(model: KAN, x: Tensor, weight: Tensor) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Return means and deviations of inputs, hidden nodes and outputs, `(width,)` for each layer of nodes."""
    means, squares = None, None
    for some, w in zip(torch.split(x, BATCH), torch.split(weight, BATCH), strict=True):
        values = [one.double() for one in layer_inputs(model, some)]
        share = w.double().unsqueeze(1)
        first, second = ([(share * one**power).sum(dim=0) for one in values] for power in (1, 2))
        means = first if means is None else [a + b for a, b in zip(means, first, strict=True)]
        squares = second if squares is None else [a + b for a, b in zip(squares, second, strict=True)]
    total = weight.double().sum()
    assert means is not None and squares is not None
    centres = [one / total for one in means]
    spreads = [(b / total - a**2).clamp(min=0.0).sqrt() for a, b in zip(centres, squares, strict=True)]
    return tuple(a.cpu().numpy() for a in centres), tuple(a.cpu().numpy() for a in spreads)


def event_sizes(weight: ArrayLike | Tensor | None, x: Tensor) -> Tensor:
    """Return the size of weights, `(n,)`."""
    if weight is None:
        return torch.ones(len(x), dtype=x.dtype, device=x.device)
    w = as_tensor(weight).to(x).abs()
    if w.shape != x.shape[:1]:
        raise UsageError(f"weight needs the shape ({len(x)},), however it has {tuple(w.shape)}.")
    if not (bool(torch.isfinite(w).all()) and float(w.sum()) > 0.0):
        raise DataError("Weights must be finite and not all zero, however they are not.")
    return w
