"""The numbers of a network as piecewise polynomials in float64: what every export is made of."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN, MLP, Network
from hepkan.nn.transforms import QuantileNormal

Floats = NDArray[np.float64]
Net = TypeVar("Net", bound=Network)


class Cells(NamedTuple):
    r"""The splines of a layer, interval by interval.

    Inside interval m the edge from input i to sum o is :math:`\sum_p a_{imp o} u^p`, u = (x - origin) / width. Outside
    the grid it is `edge` plus `slope` times the distance from the end.

    **Shape** knots: `(in, G + 1)`, origin, width, filled: `(in, G)`, power: `(in, G, degree + 1, out)`,
    edge, slope: `(2, in, out)`, low end first; base_weight: `(in, out)`, bias: `(out,)`.
    """

    knots: Floats
    origin: Floats
    width: Floats
    filled: NDArray[np.bool_]
    power: Floats
    edge: Floats
    slope: Floats
    base_weight: Floats | None
    bias: Floats


class Nodes(NamedTuple):
    """The input map `quantile`: from raw values to normal scores, straight between nodes; `(features, nodes)` each."""

    x: Floats
    z: Floats


def check_network(model: object) -> Network:
    """Return the model when it can be exported.

    Raises:
        UsageError: it is no KAN or MLP of this package, or it has a head.
    """
    if type(model) not in (KAN, MLP):
        name = f"{type(model).__module__}.{type(model).__name__}"
        raise UsageError(
            f"An export needs a hepkan.KAN or hepkan.MLP, however the model is a {name}. "
            "Give the network itself, `.model_` of an estimator or `.model` of a FitResult."
        )
    assert isinstance(model, Network)
    if model.head is not None:
        raise UsageError(
            f"An export needs a network whose outputs are its targets, however it has the head {model.head.name!r}. "
            "Train it with head='free' to export it."
        )
    return model


def as_floats(tensor: Tensor) -> Floats:
    """Return a tensor's numbers in float64."""
    return np.asarray(tensor.detach().cpu().to(torch.float64).numpy(), dtype=np.float64)


def nodes_of(transform: QuantileNormal) -> Nodes:
    """Return the nodes of the input map `quantile`."""
    return Nodes(as_floats(transform.x_nodes), as_floats(transform.z_nodes))


def cells_of(layer: KANLayer) -> Cells:
    """Return the splines of a layer, zero for masked edges; the origin of an interval is its middle, in float32.

    Raises:
        DataError: the layer holds numbers that are not finite.
    """
    k, numbers = layer.degree, copy.deepcopy(layer).double().numbers()  # products of factors too are then exact
    knots, coef = as_floats(numbers.knots), as_floats(numbers.coef)
    weights = None if numbers.base_weight is None else as_floats(numbers.base_weight)
    bias = np.zeros(coef.shape[2]) if numbers.bias is None else as_floats(numbers.bias)
    for name, values in (("knots", knots), ("coef", coef), ("base_weight", weights), ("bias", bias)):
        if values is not None and not np.isfinite(values).all():
            raise DataError(f"An export needs finite numbers, however {name} of a layer has NaN or infinite ones.")
    inner = knots[:, k : knots.shape[1] - k]
    width = np.diff(inner, axis=1)
    origin = (inner[:, :-1] + 0.5 * width).astype(np.float32).astype(np.float64)
    filled = width > 0
    window = np.lib.stride_tricks.sliding_window_view(coef, k + 1, axis=1)
    power = np.einsum("impr,imor->impo", _basis_polynomials(knots, k, origin, width), window)
    edge, slope = np.zeros((2, len(knots), coef.shape[2])), np.zeros((2, len(knots), coef.shape[2]))
    for i, mask in enumerate(filled):
        for end, m in enumerate(np.flatnonzero(mask)[[0, -1]] if mask.any() else ()):
            u = (inner[i, m + end] - origin[i, m]) / width[i, m]
            edge[end, i] = np.polynomial.polynomial.polyval(u, power[i, m])
            derivative = np.polynomial.polynomial.polyder(power[i, m])
            slope[end, i] = np.polynomial.polynomial.polyval(u, derivative) / width[i, m]
    return Cells(inner, origin, width, filled, power, edge, slope, weights, bias)


def _basis_polynomials(knots: Floats, k: int, origin: Floats, width: Floats) -> Floats:
    """Return the k+1 B-splines of each interval as polynomials, `(in, G, power, function)`; zero on empty intervals.

    The Cox-de Boor recursion carried out on polynomials, as in the compiled kernel.
    """
    grid = width.shape[1]
    c = np.zeros((*width.shape, k + 1, k + 1))
    c[..., 0, 0] = width > 0
    for s in range(1, k + 1):
        carried = np.zeros((*width.shape, k + 1))
        for r in range(s):
            lower, upper = (knots[:, k + shift : k + shift + grid] for shift in (r + 1 - s, r + 1))
            span = upper - lower
            scaled = c[..., r] / np.where(span > 0, span, 1.0)[..., None]
            below = np.zeros_like(scaled)
            below[..., 1:] = scaled[..., :-1] * width[..., None]
            c[..., r] = carried + (upper - origin)[..., None] * scaled - below
            carried = (origin - lower)[..., None] * scaled + below
        c[..., s] = carried
    return c


def start_of(cells: Cells, kind: str) -> Floats:
    r"""Return what sums over clipped powers begin with, bias apart.

    With u = clip(x - origin, left - origin, right - origin) / width for every interval, the spline inside its grid is
    this constant plus :math:`\sum_{mp} a_{imp} u_m^p` over p >= 1: every interval adds what its polynomial has risen
    from its left end. **Shape** `(out,)`.

    Arguments:
        cells: of a layer.
        kind: what is written, for the error.

    Raises:
        DataError: the splines jump, so that no such sum equals them.
        UsageError: the splines are of degree 0.
    """
    if cells.power.shape[2] < 2:
        raise UsageError(f"{kind} needs splines of degree 1 or more, however: degree=0, whose functions jump.")
    left, right = _ends(cells)
    _refuse_jumps(cells, left, right, kind)
    result: Floats = cells.edge[0].sum(axis=0) - (left - cells.power[:, :, 0])[cells.filled].sum(axis=0)
    return result


def _ends(cells: Cells) -> tuple[Floats, Floats]:
    """Return the splines at the left and right end of every interval, `(in, G, out)` each."""
    width = np.where(cells.filled, cells.width, 1.0)
    sides = ((cells.knots[:, :-1] - cells.origin) / width, (cells.knots[:, 1:] - cells.origin) / width)
    left, right = ((u[..., None] ** np.arange(cells.power.shape[2]))[..., None] * cells.power for u in sides)
    return left.sum(axis=2), right.sum(axis=2)


def _refuse_jumps(cells: Cells, left: Floats, right: Floats, kind: str) -> None:
    """Refuse splines that are not continuous, which knots repeated more than `degree` times allow."""
    for i, filled in enumerate(cells.filled):
        m = np.flatnonzero(filled)
        jump = np.abs(left[i, m[1:]] - right[i, m[:-1]])
        if jump.size and float(jump.max()) > 1e-6 * max(float(np.abs(right[i]).max()), 1e-12):
            raise DataError(
                f"{kind} needs continuous splines, however those of input {i} of a layer jump by "
                f"{float(jump.max()):.3g}: a knot is repeated more often than the degree allows. "
                "Export a C++ header, or move the knots."
            )


def identity_affine(mean: Any, scale: Any) -> bool:
    """Return whether a map y = mean + scale z changes nothing."""
    return bool(np.all(np.asarray(mean) == 0.0) and np.all(np.asarray(scale) == 1.0))
