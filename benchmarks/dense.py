"""The usual dense KAN layer, written for the benchmark: all B-splines of all intervals by the Cox-de Boor recursion.

This is what efficient-kan and its relatives compute: every B-spline of every input, zero or not, then one matrix
product with all spline coefficients, and a linear layer of SiLU. It has no scaler per edge and no grid update, so it is
a little cheaper than those packages. Outside the extended knots only the base function is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    r"""A KAN layer with a full table of B-splines.

    .. math:: B_{m,k} = w_{m,k} B_{m,k-1} + (1 - w_{m+1,k}) B_{m+1,k-1}, \quad
              w_{m,k}(x) = \frac{x - t_m}{t_{m+k} - t_m}

    **Shape** input: `(batch, inputs)`, output: `(batch, outputs)`.
    """

    knots: Tensor

    def __init__(
        self, inputs: int, outputs: int, grid: int, degree: int = 3, grid_range: tuple[float, float] = (-1.0, 1.0)
    ) -> None:
        super().__init__()
        self.degree = degree
        low, high = grid_range
        places = torch.arange(grid + 2 * degree + 1, dtype=torch.float64) - degree
        knots = low + places * (high - low) / grid
        self.register_buffer("knots", knots.to(torch.get_default_dtype()).repeat(inputs, 1))
        self.base = nn.Linear(inputs, outputs)
        self.spline = nn.Linear(inputs * (grid + degree), outputs, bias=False)

    def splines(self, x: Tensor) -> Tensor:
        """Return all B-splines; `(batch, inputs)` to `(batch, inputs, grid + degree)`."""
        t, x = self.knots, x.unsqueeze(2)
        values = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
        for k in range(1, self.degree + 1):
            w = (x - t[:, :-k]) / (t[:, k:] - t[:, :-k])
            values = w[..., :-1] * values[..., :-1] + (1.0 - w[..., 1:]) * values[..., 1:]
        return values

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the layer."""
        return self.base(nn.functional.silu(x)) + self.spline(self.splines(x).flatten(1))

    @torch.no_grad()
    def load(self, coef: Tensor, base_weight: Tensor) -> None:
        """Take over hepkan's parameters; coef: `(inputs, grid + degree, outputs)`, base_weight: `(inputs, outputs)`."""
        self.spline.weight.copy_(coef.flatten(0, 1).T)
        self.base.weight.copy_(base_weight.T)
        self.base.bias.zero_()


def dense_kan(widths: Sequence[int], grid: int) -> nn.Sequential:
    """Return a network of dense cubic layers on [-1, 1]."""
    return nn.Sequential(*(DenseLayer(n_in, n_out, grid) for n_in, n_out in itertools.pairwise(widths)))
