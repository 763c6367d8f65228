"""Layers on all kinds of knots, and what the tests of every kernel do with them."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
KNOTS = ["uniform", "random", "repeated", "clamped"]


def make_knots(kind: str, inputs: int, intervals: int, degree: int, generator: torch.Generator) -> Tensor:
    size = intervals + 2 * degree + 1
    if kind == "uniform":
        steps = torch.arange(size, dtype=torch.float64) - degree
        return (2 * steps / intervals - 1).expand(inputs, -1).contiguous()
    knots = torch.randn(inputs, size, generator=generator, dtype=torch.float64).sort(dim=1).values
    if kind == "repeated":
        knots = (2 * knots).round() / 2
        knots[:, degree], knots[:, -degree - 1] = knots[:, 0] - 0.5, knots[:, -1] + 0.5
        return knots.sort(dim=1).values
    if kind == "clamped":
        knots[:, : degree + 1], knots[:, -degree - 1 :] = knots[:, :1] - 1, knots[:, -1:] + 1
    return knots


def make(shape, degree, kind="random", dtype=torch.float64, seed=0):
    """x with points inside, outside and exactly at knots; knots; coefficients; base weights; upstream gradient."""
    batch, inputs, outputs, intervals = shape
    generator = torch.Generator().manual_seed(seed)
    knots = make_knots(kind, inputs, intervals, degree, generator).to(dtype)
    x = 1.5 * torch.randn(batch, inputs, generator=generator, dtype=torch.float64).to(dtype)
    for row in range(min(batch // 2, knots.shape[1])):
        x[row] = knots[:, row]
    coef = torch.randn(inputs, intervals + degree, outputs, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(inputs, outputs, generator=generator, dtype=torch.float64).to(dtype)
    dy = torch.randn(batch, outputs, generator=generator, dtype=torch.float64).to(dtype)
    return x, knots, coef, weight, dy


def gradients(layer, x, knots, coef, weight, dy, degree, base):
    """Value and gradients to x, coef and, unless the base is `none`, its weights."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, coef, weight)]
    y = layer(leaves[0], knots, leaves[1], leaves[2], degree, base)
    wanted = leaves[: 2 if base == "none" else 3]
    return [y.detach(), *torch.autograd.grad(y, wanted, dy)]


def assert_close(found, expected, dtype):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype and one.shape == other.shape
        scale = other.abs().max().item() if other.numel() else 1.0
        torch.testing.assert_close(one.double(), other, rtol=0, atol=TOLERANCE[dtype] * max(scale, 1.0))
