r"""The KAN layer: a learnable spline on every edge, summed at the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hepkan.errors import UsageError, unknown
from hepkan.splines import grids
from hepkan.splines.basis import BASES, Layer, SharedLayer, base_function, bspline_basis
from hepkan.splines.grids import GridChange
from hepkan.splines.ops import kan_stack

_SPLINE_SQUARE = 0.48  # mean square of the cubic B_m over a standard normal input, summed over m


class KANLayer(nn.Module):
    r"""A layer of learnable univariate functions.

    .. math:: y_o = c_o + \sum_i \phi_{io}(x_i), \quad \phi_{io}(x) = W_{io} \, b(x) + \sum_m C_{imo} B_m(x)

    Outside the grid the splines continue linearly (value and slope kept), the base function as it is. A NaN in an event
    gives NaN for that event only.

    With `products` the last outputs are products of two such sums each. With p of them there are out_features + p sums
    s, and the outputs are the first out_features - p of them, then s_n s_{n+1} of the rest, pair by pair. The edges are
    those of the sums.

    With an `edge_mask` of zeros and ones, `(in_features, out_features + products)`, the edges at its zeros are exactly
    zero and stay so: in value and gradient, in training and on new knots. See `mask_edges`.

    **Shape** input: `(batch, in_features)`, output: `(batch, out_features)`.

    Arguments:
        in_features: number of inputs.
        out_features: number of outputs.
        grid: intervals of the grid.
        degree: degree of the splines.
        base: `silu`, `linear` or `none`.
        grid_range: ends of the grid, the same for all inputs.
        bias: whether sums have a constant.
        products: outputs that are products of two sums.
        edge_mask: which edges there are, None for all.
        backend: `auto`, `torch`, `cpu` or `triton`.
        generator: source of the initial values; fixed to seed 0 when not given.

    Raises:
        UsageError: a size or name is impossible.

    References:
        "KAN: Kolmogorov-Arnold Networks" (Liu et al., 2024), arXiv:2404.19756; product nodes as in "KAN 2.0" (Liu et
        al., 2024), arXiv:2408.10205.
    """

    knots: Tensor
    edge_mask: Tensor | None

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
        products: int = 0,
        edge_mask: ArrayLike | Tensor | None = None,
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise UsageError(f"A layer needs inputs and outputs, however: {in_features} and {out_features}.")
        if not 0 <= products <= out_features:
            raise UsageError(f"products needs to be 0 to the {out_features} outputs of its layer, however: {products}.")
        if base not in BASES:
            raise unknown("base function", base, BASES)
        self.degree, self.base, self.products, self.backend = degree, base, products, backend
        sums = out_features + products
        low, high = (torch.full((in_features,), float(edge), dtype=torch.float64) for edge in grid_range)
        self.register_buffer("knots", grids.uniform(low, high, grid, degree).to(torch.get_default_dtype()))
        self._add_splines(in_features, grid + degree, sums)
        self.base_weight = nn.Parameter(torch.empty(in_features, sums)) if base != "none" else None
        self.bias = nn.Parameter(torch.zeros(sums)) if bias else None
        self.register_buffer("edge_mask", None)
        self.reset_parameters(generator)
        self.mask_edges(edge_mask)

    def _add_splines(self, inputs: int, splines: int, sums: int) -> None:
        """Make the parameters of the splines."""
        self.coef = nn.Parameter(torch.empty(inputs, splines, sums))

    @property
    def splines(self) -> nn.Parameter:
        """The parameter with coefficients of B-splines along its second axis: what moves with the knots."""
        return self.coef

    @splines.setter
    def splines(self, values: Tensor) -> None:
        self.coef = nn.Parameter(values, self.coef.requires_grad)

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.coef.shape[0]

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.coef.shape[2] - self.products

    @property
    def grid(self) -> int:
        """Number of intervals of the grid."""
        return self.splines.shape[1] - self.degree

    @property
    def edge_parameters(self) -> int:
        """Number of trained numbers that belong to one edge alone."""
        return self.coef.shape[1] + (self.base_weight is not None)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        r"""Draw base functions that dominate and splines that are nearly zero.

        Standard deviations: :math:`1 / \sqrt{3 n_\text{in}}` of base weights and :math:`0.1 / (G + k)` of coefficients;
        without a base function the coefficients keep the variance of a standard normal input. Of the schemes in the
        literature this one did best on validation, see `benchmarks/initialisation.py`.
        """
        generator = generator if generator is not None else torch.Generator().manual_seed(0)
        with torch.no_grad():
            alone = (self.in_features * _SPLINE_SQUARE) ** -0.5
            self._draw_splines(alone if self.base_weight is None else 0.1 / self.coef.shape[1], generator)
            if self.base_weight is not None:
                self.base_weight.normal_(0.0, (3.0 * self.in_features) ** -0.5, generator=generator)
            if self.bias is not None:
                self.bias.zero_()
            self._clear_masked()

    def _draw_splines(self, deviation: float, generator: torch.Generator) -> None:
        """Draw coefficients of a standard deviation."""
        self.coef.normal_(0.0, deviation, generator=generator)

    @torch.no_grad()
    def mask_edges(self, mask: ArrayLike | Tensor | None) -> None:
        """Keep the edges where the mask is not zero and take the others away for good; None lets all learn again.

        **Shape** mask: `(in_features, out_features + products)`.

        Raises:
            UsageError: the shape is another.
        """
        if mask is None:
            self.edge_mask = None
            return
        kept = torch.as_tensor(mask, device=self.coef.device) != 0
        if kept.shape != self.coef.shape[::2]:
            raise UsageError(f"edge_mask needs the shape {tuple(self.coef.shape[::2])}, however: {tuple(kept.shape)}.")
        self.edge_mask = kept.to(self.coef.dtype)
        self._clear_masked()

    @torch.no_grad()
    def _clear_masked(self) -> None:
        """Set the numbers of masked edges to zero; with their gradients zero too, no optimiser moves them."""
        if self.edge_mask is not None:
            self._clear_splines(self.edge_mask)
            if self.base_weight is not None:
                self.base_weight.mul_(self.edge_mask)

    def _clear_splines(self, mask: Tensor) -> None:
        """Set the coefficients of masked edges to zero."""
        self.coef.mul_(mask.unsqueeze(1))

    @torch.no_grad()
    def part(self, inputs: Sequence[int], sums: Sequence[int], products: int) -> KANLayer:
        """Return a layer of some inputs and some sums, in the order given, of which the last end in products."""
        layer = KANLayer(
            len(inputs),
            len(sums) - products,
            grid=self.grid,
            degree=self.degree,
            base=self.base,
            bias=self.bias is not None,
            products=products,
            backend=self.backend,
        ).to(self.coef)
        rows, columns = (torch.tensor(list(places), device=self.coef.device) for places in (inputs, sums))
        layer.knots.copy_(self.knots[rows])
        layer.coef.copy_(self.coef[rows][:, :, columns])
        for own, mine in ((layer.base_weight, self.base_weight), (layer.bias, self.bias)):
            if own is not None and mine is not None:
                own.copy_(mine[columns] if mine.dim() == 1 else mine[rows][:, columns])
        if self.edge_mask is not None and not bool((mask := self.edge_mask[rows][:, columns]).all()):
            layer.mask_edges(mask)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the layer."""
        return self.multiply(self.sums(x))

    def sums(self, x: Tensor) -> Tensor:
        """Return the sums over edges; `(batch, in_features)` to `(batch, out_features + products)`."""
        return kan_stack(x, [self.factors()], self.degree, self.base, self.backend)

    def multiply(self, sums: Tensor) -> Tensor:
        """Return the outputs from the sums, `(batch, out_features + products)` to `(batch, out_features)`."""
        if self.products == 0:
            return sums
        alone = self.out_features - self.products
        return torch.cat([sums[:, :alone], sums[:, alone::2] * sums[:, alone + 1 :: 2]], dim=1)

    def numbers(self) -> Layer:
        """Return knots, coefficients, base weights and biases; those of masked edges are zero and learn nothing."""
        if self.edge_mask is None:
            return Layer(self.knots, self.coef, self.base_weight, self.bias)
        weight = None if self.base_weight is None else self.base_weight * self.edge_mask
        return Layer(self.knots, self.coef * self.edge_mask.unsqueeze(1), weight, self.bias)

    def factors(self) -> Layer | SharedLayer:
        """Return the numbers as a kernel takes them, with functions that edges share as such."""
        return self.numbers()

    def writable(self) -> Layer | SharedLayer:
        """Return the numbers for a kernel that writes gradients itself; call `collect` when it has.

        They are the parameters, or copies where edges are masked.
        """
        numbers = self.factors()
        if self.edge_mask is None:
            return numbers
        copies: Any = [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in numbers[1:]]
        return type(numbers)(self.knots, *copies)

    @torch.no_grad()
    def collect(self, written: Layer | SharedLayer) -> None:
        """Add the gradients of the copies of `writable` to those of the parameters, zero for masked edges."""
        if self.edge_mask is None:
            return
        self._collect_splines(written, self.edge_mask.unsqueeze(1))
        add_gradient(self.base_weight, written.base_weight, self.edge_mask)
        add_gradient(self.bias, written.bias)

    def _collect_splines(self, written: Layer | SharedLayer, mask: Tensor) -> None:
        """Add the gradients of the parameters of the splines."""
        add_gradient(self.coef, written.coef, mask)

    def edge_functions(self, x: Tensor) -> Tensor:
        """Return every edge's function at given inputs, without bias.

        **Shape** x: `(batch, in_features)`, result: `(batch, in_features, out_features + products)`.
        """
        knots, coef, base_weight, _ = self.numbers()
        values = torch.einsum("nim,imo->nio", bspline_basis(x, knots, self.degree), coef)
        if base_weight is None:
            return values
        return values + base_function(x, self.base).unsqueeze(-1) * base_weight

    @torch.no_grad()
    def set_knots(self, knots: Tensor, x: Tensor | None = None, weight: Tensor | None = None) -> GridChange:
        """Move the splines to new knots: exactly where they contain the old ones, otherwise by least squares.

        The parameters stay the same objects unless their number changes. Returns how much the functions changed on the
        data, without data at equal steps of the new grids; see `hepkan.splines.grids.refit`.

        **Shape** knots: `(in_features, grid' + 2 degree + 1)`, x: `(batch, in_features)`, weight: `(batch,)`.

        Raises:
            UsageError: an input has no finite data.
        """
        new = knots.to(self.knots)
        data = grids.steps(new, self.degree) if x is None else grids.quantiles(x, grids.DATA_POINTS, weight)
        unit, before = self._output_rms(data.T if x is None else x), (self.knots.clone(), self.coef.detach().clone())
        values = grids.refit(self.splines, self.knots, new, self.degree, None if x is None else data)
        if new.shape == self.knots.shape:
            self.knots.copy_(new)
            self.splines.copy_(values)
        else:
            self.knots, self.splines = new, values  # type: ignore[assignment]
        self._clear_masked()
        change = grids.spline_change(data, before, (self.knots, self.coef), self.degree)
        return GridChange(change.rms / unit, change.largest / unit)

    def _output_rms(self, x: Tensor) -> float:
        """Return the rms of the finite outputs of some thousand events, one when there is none but zero."""
        y = self(x[:: max(1, len(x) // 4096)].to(self.coef)).double()
        return float(y[torch.isfinite(y)].square().mean().sqrt().nan_to_num(0.0)) or 1.0

    def update_grid(
        self, x: Tensor, weight: Tensor | None = None, blend: float = 0.5, margin: float = 0.01
    ) -> GridChange:
        """Adapt the knots to data, see `grids.adaptive`, and keep the functions as `set_knots` does.

        **Shape** x: `(batch, in_features)`, weight: `(batch,)`.

        Raises:
            UsageError: an input has no finite data, or `blend` is outside (0, 1].
        """
        return self.set_knots(grids.adaptive(x, self.grid, self.degree, weight, blend, margin), x, weight)

    def refine(self, grid: int) -> GridChange:
        """Pass to a finer grid over the same range, exactly when `grid` is a multiple of the old one.

        Raises:
            UsageError: the new grid is coarser.
        """
        return self.set_knots(grids.refine_knots(self.knots, self.degree, grid))

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, grid={self.grid}, "
            f"degree={self.degree}, base={self.base}"
            + (f", products={self.products}" if self.products else "")
            + (f", edges={int(self.edge_mask.sum())}" if self.edge_mask is not None else "")
        )


def add_gradient(parameter: nn.Parameter | None, copied: Tensor | None, mask: Tensor | None = None) -> None:
    """Add the gradient of a copy to that of a parameter, zero where the mask is."""
    if parameter is not None and copied is not None and copied.grad is not None:
        gradient = copied.grad if mask is None else copied.grad * mask
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
