r"""A KAN layer whose edges share a few learned functions of each input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hepkan.errors import UsageError
from hepkan.nn.layers import KANLayer, add_gradient
from hepkan.splines import grids
from hepkan.splines.basis import Layer, SharedLayer

COARSE = 3
"""Intervals of the grid on which the first functions are drawn."""


class LowRankLayer(KANLayer):
    r"""A KAN layer with `rank` learned splines per input, of which every edge is a combination.

    .. math:: \phi_{io}(x) = W_{io} \, b(x) + \sum_{r=1}^{R} A_{iro} f_{ir}(x), \quad
              f_{ir}(x) = \sum_m F_{imr} B_m(x)

    Everything else is as in `KANLayer`, of which this is one with coefficients
    :math:`C_{imo} = \sum_r F_{imr} A_{iro}`. An edge costs R + 1 numbers instead of G + k + 1, so that a network of the
    same size can be wider and deeper, and finer grids cost next to nothing. In training, and where no gradient is asked
    for, the compiled CPU kernel evaluates each function once per input and combines them by products of matrices;
    everywhere else the kernels evaluate the layer of all coefficients.

    Arguments:
        rank: R, the splines of each input.
        others: as for `KANLayer`.

    Raises:
        UsageError: a size or name is impossible.
    """

    def __init__(self, in_features: int, out_features: int, *, rank: int, **others: Any) -> None:
        if not isinstance(rank, int) or rank < 1:
            raise UsageError(f"rank needs to be a whole number of at least 1, however: {rank}.")
        self.rank = rank
        super().__init__(in_features, out_features, **others)

    def _add_splines(self, inputs: int, splines: int, sums: int) -> None:
        self.shapes = nn.Parameter(torch.empty(inputs, splines, self.rank))
        self.mix = nn.Parameter(torch.empty(inputs, self.rank, sums))

    @property
    def splines(self) -> nn.Parameter:
        """The functions of the inputs, `(in_features, grid + degree, rank)`."""
        return self.shapes

    @splines.setter
    def splines(self, values: Tensor) -> None:
        self.shapes = nn.Parameter(values, self.shapes.requires_grad)

    @property
    def coef(self) -> Tensor:  # type: ignore[override]
        """Coefficients of all edges, `(in_features, grid + degree, out_features + products)`."""
        return torch.bmm(self.shapes, self.mix)

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.mix.shape[0]

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.mix.shape[2] - self.products

    @property
    def edge_parameters(self) -> int:
        """Number of trained numbers that belong to one edge alone."""
        return self.rank + (self.base_weight is not None)

    def _draw_splines(self, deviation: float, generator: torch.Generator) -> None:
        """Draw smooth functions, the same ones on any finer grid, and small shares of them."""
        inputs, rank = self.in_features, self.rank
        coarse = min(self.grid, COARSE)
        drawn = torch.empty(inputs, coarse + self.degree, rank).normal_(0.0, 1.0, generator=generator)
        ends = self.knots[:1, self.degree].double(), self.knots[:1, -self.degree - 1].double()
        together = drawn.permute(1, 0, 2).reshape(1, -1, inputs * rank)  # all grids are alike
        old = grids.uniform(*ends, coarse, self.degree)
        fine = grids.refit(together, old, self.knots[:1].double(), self.degree)
        self.shapes.copy_(fine.reshape(-1, inputs, rank).transpose(0, 1))
        self.mix.normal_(0.0, deviation * rank**-0.5, generator=generator)

    def _clear_splines(self, mask: Tensor) -> None:
        self.mix.mul_(mask.unsqueeze(1))

    def factors(self) -> SharedLayer:
        """As `KANLayer.factors`: the functions, and how the edges combine them."""
        if self.edge_mask is None:
            return SharedLayer(self.knots, self.mix, self.base_weight, self.bias, self.shapes)
        weight = None if self.base_weight is None else self.base_weight * self.edge_mask
        return SharedLayer(self.knots, self.mix * self.edge_mask.unsqueeze(1), weight, self.bias, self.shapes)

    def _collect_splines(self, written: Layer | SharedLayer, mask: Tensor) -> None:
        assert isinstance(written, SharedLayer)
        add_gradient(self.mix, written.coef, mask)
        add_gradient(self.shapes, written.shapes)

    def full(self) -> KANLayer:
        """Return the same layer with a spline on every edge."""
        return self.part(range(self.in_features), range(self.mix.shape[2]), self.products)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}"
