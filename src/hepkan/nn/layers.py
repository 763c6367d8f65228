r"""The KAN layer: a learnable spline on every edge, summed at the nodes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hepkan.errors import UsageError, unknown
from hepkan.splines import grids
from hepkan.splines.basis import BASES, base_function, bspline_basis
from hepkan.splines.ops import kan_layer

# Mean squares over a standard normal input: of silu, of x, and the sum over m of those of the cubic B_m.
_BASE_SQUARE = {"silu": 0.355, "linear": 1.0, "none": 1.0}
_SPLINE_SQUARE = 0.48
_SPLINE_SHARE = 0.05  # part of the variance that the splines carry at the start


class KANLayer(nn.Module):
    r"""A layer of learnable univariate functions.

    .. math:: y_o = c_o + \sum_i \phi_{io}(x_i), \quad \phi_{io}(x) = W_{io} \, b(x) + \sum_m C_{imo} B_m(x)

    Outside the grid the splines continue linearly (value and slope kept), the base function as it is. A NaN in an event
    gives NaN for that event only.

    **Shape** input: `(batch, in_features)`, output: `(batch, out_features)`.

    Arguments:
        in_features: number of inputs.
        out_features: number of outputs.
        grid: intervals of the grid.
        degree: degree of the splines.
        base: `silu`, `linear` or `none`.
        grid_range: ends of the grid, the same for all inputs.
        bias: whether outputs have a constant.
        backend: `auto`, `torch`, `cpu` or `triton`.
        generator: source of the initial values; fixed to seed 0 when not given.

    Raises:
        UsageError: a size or name is impossible.

    References:
        "KAN: Kolmogorov-Arnold Networks" (Liu et al., 2024), arXiv:2404.19756.
    """

    knots: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        grid: int = 5,
        degree: int = 3,
        base: str = "silu",
        grid_range: tuple[float, float] = (-3.0, 3.0),
        bias: bool = True,
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise UsageError(f"A layer needs inputs and outputs, however: {in_features} and {out_features}.")
        if base not in BASES:
            raise unknown("base function", base, BASES)
        self.degree, self.base, self.backend = degree, base, backend
        low, high = (torch.full((in_features,), float(edge), dtype=torch.float64) for edge in grid_range)
        self.register_buffer("knots", grids.uniform(low, high, grid, degree).to(torch.get_default_dtype()))
        self.coef = nn.Parameter(torch.empty(in_features, grid + degree, out_features))
        self.base_weight = nn.Parameter(torch.empty(in_features, out_features)) if base != "none" else None
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.reset_parameters(generator)

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.coef.shape[0]

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.coef.shape[2]

    @property
    def grid(self) -> int:
        """Number of intervals of the grid."""
        return self.coef.shape[1] - self.degree

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw values that keep a variance of one for standard normal inputs, most of it in the base functions."""
        generator = generator if generator is not None else torch.Generator().manual_seed(0)
        share = 1.0 if self.base_weight is None else _SPLINE_SHARE
        with torch.no_grad():
            self.coef.normal_(0.0, math.sqrt(share / (self.in_features * _SPLINE_SQUARE)), generator=generator)
            if self.base_weight is not None:
                deviation = math.sqrt((1.0 - share) / (self.in_features * _BASE_SQUARE[self.base]))
                self.base_weight.normal_(0.0, deviation, generator=generator)
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the layer."""
        y = kan_layer(x, self.knots, self.coef, self.base_weight, self.degree, self.base, self.backend)
        return y if self.bias is None else y + self.bias

    def edge_functions(self, x: Tensor) -> Tensor:
        """Return every edge's function at given inputs, without bias.

        **Shape** x: `(batch, in_features)`, result: `(batch, in_features, out_features)`.
        """
        values = torch.einsum("nim,imo->nio", bspline_basis(x, self.knots, self.degree), self.coef)
        if self.base_weight is None:
            return values
        return values + base_function(x, self.base).unsqueeze(-1) * self.base_weight

    @torch.no_grad()
    def set_knots(self, knots: Tensor, x: Tensor | None = None) -> None:
        """Move the splines to new knots by least squares; knots: `(in_features, grid' + 2 degree + 1)`, x: data."""
        coef = grids.refit(self.coef, self.knots, knots, self.degree, x)
        self.knots = knots.to(self.knots)
        self.coef = nn.Parameter(coef)

    @torch.no_grad()
    def update_grid(self, x: Tensor, weight: Tensor | None = None, blend: float = 0.5, margin: float = 0.01) -> None:
        """Adapt the knots to data, keeping the functions to the least-squares optimum; x: `(batch, in_features)`."""
        self.set_knots(grids.adaptive(x, self.grid, self.degree, weight, blend, margin), x)

    def refine(self, grid: int) -> None:
        """Pass to a finer grid over the same range, exactly when `grid` is a multiple of the old one."""
        self.set_knots(grids.refine_knots(self.knots, self.degree, grid))

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, grid={self.grid}, "
            f"degree={self.degree}, base={self.base}"
        )
