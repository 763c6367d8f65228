"""Layers on all kinds of knots, and what the tests of every kernel do with them."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
SHAPES = [(0, 2, 3, 5), (1, 1, 1, 1), (7, 3, 5, 4), (257, 7, 9, 5), (1000, 2, 70, 20), (65, 3, 33, 130)]
"""Events, inputs, outputs, intervals."""
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


def dense_basis(x: Tensor, knots: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """All basis functions and their slopes, one-sided at repeated knots as in the layer's contract."""
    grid = knots[:, degree : knots.shape[1] - degree]
    width = grid.diff(dim=1) > 0
    places = torch.arange(width.shape[1])
    first = torch.where(width, places, width.shape[1]).amin(dim=1)
    last = torch.where(width, places, -1).amax(dim=1)
    cell = (x[:, :, None] >= grid).sum(dim=2) - 1
    cell = torch.minimum(torch.maximum(cell, first), last) + degree
    value = torch.nn.functional.one_hot(cell, knots.shape[1] - 1).to(x.dtype)
    slope = torch.zeros_like(value)
    for k in range(1, degree + 1):
        span = knots[:, k:] - knots[:, :-k]
        inverse = torch.where(span > 0, 1 / span.where(span > 0, torch.ones_like(span)), 0.0)
        low, high = inverse[:, :-1], inverse[:, 1:]
        slope = k * (value[..., :-1] * low - value[..., 1:] * high)
        rising = (x[..., None] - knots[:, : -k - 1]) * low * value[..., :-1]
        value = rising + (knots[:, k + 1 :] - x[..., None]) * high * value[..., 1:]
    return value, slope


def dense_layer(x: Tensor, knots: Tensor, coef: Tensor, weight: Tensor, degree: int, base: str) -> Tensor:
    inside = x.clamp(knots[:, degree], knots[:, -degree - 1])
    value, slope = dense_basis(inside, knots, degree)
    y = torch.einsum("bim,imo->bo", value + (x - inside)[..., None] * slope, coef)
    if base == "none":
        return y
    return y + (torch.nn.functional.silu(x) if base == "silu" else x) @ weight
