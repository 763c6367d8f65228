r"""B-splines in plain PyTorch: the reference that every kernel is compared with.

Any degree, any non-decreasing knots (repeated ones too), any floating type, differentiable twice.

References:
    "A Practical Guide to Splines" (de Boor, 1978), chapters IX and X.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hepkan.errors import UsageError, unknown

BASES = ("silu", "linear", "none")


class Layer(NamedTuple):
    """The numbers of one layer.

    **Shape** knots: `(in, G + 2 degree + 1)`, non-decreasing, coef: `(in, G + degree, out)`, base_weight: `(in, out)`,
    bias: `(out,)`; None stands for zeros.
    """

    knots: Tensor
    coef: Tensor
    base_weight: Tensor | None = None
    bias: Tensor | None = None


class SharedLayer(NamedTuple):
    """The numbers of a layer whose edges combine R functions of their input; the rest is as in `Layer`.

    **Shape** coef: `(in, R, out)`, shapes: `(in, G + degree, R)`.
    """

    knots: Tensor
    coef: Tensor
    base_weight: Tensor | None
    bias: Tensor | None
    shapes: Tensor

    def full(self) -> Layer:
        """Return the same with a spline on every edge."""
        return Layer(self.knots, torch.bmm(self.shapes, self.coef), self.base_weight, self.bias)


def full(layers: Sequence[Layer | SharedLayer]) -> list[Layer]:
    """Return the same layers with a spline on every edge."""
    return [layer.full() if isinstance(layer, SharedLayer) else layer for layer in layers]


def bspline_basis(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    r"""Evaluate all B-splines of each input, continued linearly outside the grid.

    .. math:: B_{m,0} = [t_m \le x < t_{m+1}], \quad
              B_{m,k} = \frac{x - t_m}{t_{m+k} - t_m} B_{m,k-1} + \frac{t_{m+k+1} - x}{t_{m+k+1} - t_{m+1}} B_{m+1,k-1}

    with 0/0 = 0. Below :math:`t_k` and above :math:`t_{k+G}` each B-spline goes on with its value and slope at that
    edge. A NaN gives NaN for its event and input only.

    **Shape** x: `(batch, in)`, knots: `(in, G + 2 degree + 1)`, result: `(batch, in, G + degree)`.

    Raises:
        UsageError: the shapes do not fit or there are too few knots.
    """
    _check(x, knots, degree)
    low, high = _edges(knots, degree)
    inside = torch.minimum(torch.maximum(x, low), high)
    values = _cox_de_boor(inside, knots, degree)
    if degree == 0:
        return values + 0.0 * inside.unsqueeze(-1)
    slopes = _derivative(torch.stack([low, high]), knots, degree)
    below = torch.clamp(x - low, max=0.0).unsqueeze(-1)
    above = torch.clamp(x - high, min=0.0).unsqueeze(-1)
    return values + slopes[0] * below + slopes[1] * above


def bspline_derivative(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    r"""Evaluate the first derivative of all B-splines; constant outside the grid.

    .. math:: B'_{m,k} = k \left[ \frac{B_{m,k-1}}{t_{m+k} - t_m} - \frac{B_{m+1,k-1}}{t_{m+k+1} - t_{m+1}} \right]

    **Shape** as `bspline_basis`.

    Raises:
        UsageError: the shapes do not fit or there are too few knots.
    """
    _check(x, knots, degree)
    low, high = _edges(knots, degree)
    return _derivative(torch.minimum(torch.maximum(x, low), high), knots, degree)


def kan_layer_reference(
    x: Tensor, knots: Tensor, coef: Tensor, base_weight: Tensor | None, degree: int, base: str
) -> Tensor:
    r"""Sum over inputs of base function and spline, without bias.

    .. math:: y_o = \sum_i [ b(x_i) W_{io} + \sum_m B_m(x_i) C_{imo} ]

    **Shape** x: `(batch, in)`, knots: `(in, G + 2 degree + 1)`, coef: `(in, G + degree, out)`,
    base_weight: `(in, out)` or None, result: `(batch, out)`.

    Raises:
        UsageError: the shapes do not fit or the base function is unknown.
    """
    basis = bspline_basis(x, knots, degree)
    y = basis.flatten(1) @ coef.flatten(0, 1)
    if base == "none" or base_weight is None:
        return y
    return y + base_function(x, base) @ base_weight


def kan_stack_reference(x: Tensor, layers: Sequence[Layer], degree: int, base: str) -> Tensor:
    """Evaluate layers one after another; x: `(batch, in)` of the first, result: `(batch, out)` of the last.

    Raises:
        UsageError: as `kan_layer_reference`.
    """
    for knots, coef, base_weight, bias in layers:
        x = kan_layer_reference(x, knots, coef, base_weight, degree, base)
        x = x if bias is None else x + bias
    return x


def base_function(x: Tensor, base: str) -> Tensor:
    """Evaluate the base function `silu`, `linear` or `none` (zero); shape as `x`."""
    if base == "silu":
        return functional.silu(x)
    if base == "linear":
        return x
    if base == "none":
        return torch.zeros_like(x)
    raise unknown("base function", base, BASES)


def _check(x: Tensor, knots: Tensor, degree: int) -> None:
    """Refuse shapes that would broadcast into nonsense."""
    if x.dim() != 2 or knots.dim() != 2 or x.shape[1] != knots.shape[0]:
        raise UsageError(
            f"x (batch, in) and knots (in, G + 2 degree + 1) must fit, however: x.shape={tuple(x.shape)}, "
            f"knots.shape={tuple(knots.shape)}."
        )
    if degree < 0 or knots.shape[1] < 2 * degree + 2:
        raise UsageError(
            f"A spline of degree {degree} needs degree >= 0 and at least {2 * degree + 2} knots, however: "
            f"{knots.shape[1]} knots."
        )


def _edges(knots: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """Return the ends of the grid, `(in,)` each."""
    return knots[:, degree], knots[:, knots.shape[1] - 1 - degree]


def _cox_de_boor(x: Tensor, knots: Tensor, degree: int, order: int | None = None) -> Tensor:
    """Return the B-splines of degree `order` (default `degree`) on the knots of a spline of `degree`, inside the grid.

    The right edge of the grid belongs to the last interval that is not empty.
    """
    left, right = knots[:, :-1], knots[:, 1:]
    high = knots[:, knots.shape[1] - 1 - degree].unsqueeze(-1)
    x = x.unsqueeze(-1)
    at_end = (x == high) & (right == high) & (left < right)
    basis = (((x >= left) & (x < right) & (x < high)) | at_end).to(x.dtype)
    for k in range(1, (degree if order is None else order) + 1):
        rising = (x - knots[:, : -k - 1]) * _reciprocal(knots[:, k:-1] - knots[:, : -k - 1])
        falling = (knots[:, k + 1 :] - x) * _reciprocal(knots[:, k + 1 :] - knots[:, 1:-k])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return basis


def _derivative(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """Return the first derivatives inside the grid."""
    if degree == 0:
        return torch.zeros(*x.shape, knots.shape[1] - 1, dtype=x.dtype, device=x.device)
    lower = _cox_de_boor(x, knots, degree, degree - 1)
    weight = degree * _reciprocal(knots[:, degree:] - knots[:, :-degree])
    scaled = lower * weight
    return scaled[..., :-1] - scaled[..., 1:]


def _reciprocal(width: Tensor) -> Tensor:
    """Return 1/width, and 0 where knots are repeated."""
    return torch.where(width > 0, 1.0 / torch.where(width > 0, width, 1.0), 0.0)
