"""Knots: uniform, adapted to data, refined; and the least-squares move of a function to new knots (in float64)."""

from __future__ import annotations

import torch
from torch import Tensor

from hepkan.errors import UsageError
from hepkan.splines.basis import bspline_basis

DATA_POINTS = 4096


def uniform(low: Tensor, high: Tensor, grid: int, degree: int) -> Tensor:
    """Return equidistant extended knots over [low, high] of each input.

    **Shape** low, high: `(in,)`, result: `(in, grid + 2 degree + 1)`.

    Raises:
        UsageError: fewer than one interval or an empty range.
    """
    if grid < 1 or degree < 0:
        raise UsageError(f"A grid needs at least 1 interval and degree >= 0, however: grid={grid}, degree={degree}.")
    if not bool(torch.all(high > low)):
        raise UsageError("Every grid needs a lower end below its upper end, however some range is empty.")
    steps = torch.arange(-degree, grid + degree + 1, dtype=low.dtype, device=low.device)
    return low.unsqueeze(-1) + steps * ((high - low) / grid).unsqueeze(-1)


def adaptive(
    x: Tensor, grid: int, degree: int, weight: Tensor | None = None, blend: float = 0.02, margin: float = 0.0
) -> Tensor:
    r"""Return knots at weighted quantiles of data, blended with equidistant ones.

    .. math:: t = (1 - \text{blend}) \, t_\text{quantile} + \text{blend} \, t_\text{uniform}

    NaN and infinite values are left out. Inner intervals keep at least `blend` times the uniform width, so duplicate,
    discrete or constant data never make an empty interval; a constant input gets a range of width one around its value.

    **Shape** x: `(batch, in)`, weight: `(batch,)`, result: `(in, grid + 2 degree + 1)`, float64.

    Raises:
        UsageError: no finite data, or blend outside (0, 1].
    """
    if not 0.0 < blend <= 1.0:
        raise UsageError(f"blend must be above 0 and at most 1, however: blend={blend}.")
    columns = []
    for i in range(x.shape[1]):
        column = x[:, i].detach().to(torch.float64)
        kept = torch.isfinite(column)
        if not bool(kept.any()):
            raise UsageError(f"Every input needs finite data for its grid, however input {i} has none.")
        w = torch.ones_like(column) if weight is None else weight.to(torch.float64).clamp(min=0.0)
        quantiles = _quantiles(column[kept], w[kept], grid)
        low, high = quantiles[0], quantiles[-1]
        width = high - low
        scale = torch.clamp(high.abs() + low.abs(), min=1.0)
        constant = bool(width <= 1e-9 * scale)
        extra = 0.5 if constant else margin * width
        low, high = low - extra, high + extra
        even = torch.linspace(0.0, 1.0, grid + 1, dtype=torch.float64, device=x.device) * (high - low) + low
        ends = torch.cat([low.view(1), quantiles[1:-1], high.view(1)])
        inner = even if constant else (1.0 - blend) * ends + blend * even
        columns.append(_extend(inner, degree))
    return torch.stack(columns)


def refit(
    coef: Tensor, knots: Tensor, new_knots: Tensor, degree: int, x: Tensor | None = None, samples: int = 8
) -> Tensor:
    """Return coefficients on new knots: the least-squares fit of the old splines, input by input, in float64.

    The points are the union of both grids with `samples` points in every interval, and up to `DATA_POINTS` of the data
    when they are given: the function is kept best where the data are. Where the new knots contain the old
    ones inside the same range the function is kept exactly (to rounding).

    **Shape** coef: `(in, G + degree, out)`, knots: `(in, G + 2 degree + 1)`, new_knots: `(in, G' + 2 degree + 1)`,
    x: `(batch, in)`, result: `(in, G' + degree, out)`, in the type of `coef`.
    """
    old_coef, old, new = coef.detach().double(), knots.detach().double(), new_knots.detach().double()
    results = []
    for i in range(coef.shape[0]):
        points = _points(old[i], new[i], degree, samples)
        if x is not None:
            column = x[:, i].detach().double()
            points = torch.cat([points, column[torch.isfinite(column)][:DATA_POINTS]])
        points = points.unsqueeze(-1)
        target = bspline_basis(points, old[i : i + 1], degree)[:, 0] @ old_coef[i]
        design = bspline_basis(points, new[i : i + 1], degree)[:, 0]
        results.append(torch.linalg.lstsq(design, target, driver="gelsd").solution)
    return torch.stack(results).to(coef.dtype)


def refine_knots(knots: Tensor, degree: int, grid: int) -> Tensor:
    """Return knots with `grid` intervals over the same range; nested when `grid` is a multiple of the old number.

    Otherwise the new knots follow the old ones at equal steps of the knots' index.

    **Shape** knots: `(in, G + 2 degree + 1)`, result: `(in, grid + 2 degree + 1)`.

    Raises:
        UsageError: the new grid is coarser.
    """
    inner = knots[:, degree : knots.shape[1] - degree].double()
    old = inner.shape[1] - 1
    if grid < old:
        raise UsageError(f"A refined grid needs at least the {old} intervals it has, however: grid={grid}.")
    position = torch.linspace(0.0, float(old), grid + 1, dtype=torch.float64, device=knots.device)
    left = position.floor().long().clamp(max=old - 1)
    fraction = position - left
    fine = inner[:, left] * (1.0 - fraction) + inner[:, left + 1] * fraction
    return torch.stack([_extend(row, degree) for row in fine]).to(knots.dtype)


def _quantiles(values: Tensor, weight: Tensor, grid: int) -> Tensor:
    """Return grid + 1 weighted quantiles, from the minimum to the maximum."""
    order = torch.argsort(values, stable=True)
    values, weight = values[order], weight[order]
    total = weight.sum()
    if total <= 0:
        weight, total = torch.ones_like(weight), torch.tensor(float(len(weight)), dtype=weight.dtype)
    cumulative = torch.cumsum(weight, 0) / total
    levels = torch.linspace(0.0, 1.0, grid + 1, dtype=values.dtype, device=values.device)
    index = torch.searchsorted(cumulative, levels).clamp(max=len(values) - 1)
    quantiles = values[index]
    quantiles[0], quantiles[-1] = values[0], values[-1]
    return quantiles


def _extend(inner: Tensor, degree: int) -> Tensor:
    """Add `degree` knots on both sides at the width of the outer intervals."""
    steps = torch.arange(1, degree + 1, dtype=inner.dtype, device=inner.device)
    left = inner[0] - steps.flip(0) * (inner[1] - inner[0])
    right = inner[-1] + steps * (inner[-1] - inner[-2])
    return torch.cat([left, inner, right])


def _points(old: Tensor, new: Tensor, degree: int, samples: int) -> Tensor:
    """Return points in every interval of the union of both grids."""
    ends = torch.cat([old[degree : len(old) - degree], new[degree : len(new) - degree]])
    edges = torch.unique(ends)
    fraction = (torch.arange(samples, dtype=old.dtype, device=old.device) + 0.5) / samples
    inside = edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * fraction
    return torch.cat([edges, inside.flatten()])
