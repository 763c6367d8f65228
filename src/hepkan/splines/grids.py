"""Knots: uniform, adapted to data, refined; and the move of functions and of gradients to new knots, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hepkan.errors import UsageError
from hepkan.splines.basis import bspline_basis
from hepkan.splines.polar import polar_form, spline_values

CELL_POINTS = 8
"""Points of a least-squares fit in every interval of the old and the new knots together."""
DATA_POINTS = 1024
"""Intervals between the weighted quantiles by which data enter a least-squares fit."""

_VALUES = 2**18  # numbers in an array of what is computed together: they fit into a cache
_WIDTH = 1e-6  # smallest width of an inner interval relative to its position: some steps of float32


@dataclass(frozen=True)
class GridChange:
    """How much the functions of a layer's edges changed with the knots, in units of the rms of the layer's output.

    Attributes:
        rms: root of the mean square over edges and data.
        largest: largest change of any edge at any of the data.
    """

    rms: float
    largest: float


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
    discrete or constant data never make an empty interval; a constant input gets a range of width one around its value,
    or wider where float32 could not tell the knots apart.

    **Shape** x: `(batch, in)`, weight: `(batch,)`, result: `(in, grid + 2 degree + 1)`, float64.

    Raises:
        UsageError: no finite data, or blend outside (0, 1].
    """
    if not 0.0 < blend <= 1.0:
        raise UsageError(f"blend must be above 0 and at most 1, however: blend={blend}.")
    levels = quantiles(x, grid, weight)
    low, high = levels[:, :1], levels[:, -1:]
    least = (_WIDTH * grid / max(blend, 0.01) * torch.maximum(low.abs(), high.abs())).clamp(min=1e-9)
    narrow = high - low <= least
    extra = torch.where(narrow, 0.5 * least.clamp(min=1.0), margin * (high - low))
    low, high = low - extra, high + extra
    even = low + (high - low) * torch.linspace(0.0, 1.0, grid + 1, dtype=torch.float64, device=x.device)
    ends = torch.cat([low, levels[:, 1:-1], high], dim=1)
    return _extend(torch.where(narrow, even, (1.0 - blend) * ends + blend * even), degree)


def quantiles(x: Tensor, number: int, weight: Tensor | None = None) -> Tensor:
    """Return `number` + 1 weighted quantiles of each input at equal steps, from the minimum to the maximum.

    NaN and infinite values are left out, negative weights count as zero; without any weight all events count alike.
    One input at a time is copied and sorted.

    **Shape** x: `(batch, in)`, weight: `(batch,)`, result: `(in, number + 1)`, float64.

    Raises:
        UsageError: an input has no finite data.
    """
    levels = torch.linspace(0.0, 1.0, number + 1, dtype=torch.float64, device=x.device)
    rows = []
    for i in range(x.shape[1]):
        column = x[:, i].detach().double()
        kept = torch.isfinite(column)
        if not bool(kept.any()):
            raise UsageError(f"Every input needs finite data for its grid, however input {i} has none.")
        values, order = torch.sort(column[kept], stable=True)
        mass = torch.ones_like(values) if weight is None else weight.detach().double().clamp(min=0.0)[kept][order]
        if not float(mass.sum()) > 0.0:
            mass = torch.ones_like(values)
        cumulative = torch.cumsum(mass, 0) / mass.sum()
        row = values[torch.searchsorted(cumulative, levels).clamp(max=len(values) - 1)]
        row[0], row[-1] = values[0], values[-1]
        rows.append(row)
    return torch.stack(rows)


def steps(knots: Tensor, degree: int) -> Tensor:
    """Return `DATA_POINTS` + 1 equal steps over each grid; `(in, G + 2 degree + 1)` to `(in, DATA_POINTS + 1)`."""
    inner = _inner(knots, degree).double()
    fraction = torch.linspace(0.0, 1.0, DATA_POINTS + 1, dtype=torch.float64, device=knots.device)
    return inner[:, :1] + (inner[:, -1:] - inner[:, :1]) * fraction


def refine_knots(knots: Tensor, degree: int, grid: int) -> Tensor:
    """Return knots with `grid` intervals over the same range; nested when `grid` is a multiple of the old number.

    Otherwise the new knots follow the old ones at equal steps of the knots' index.

    **Shape** knots: `(in, G + 2 degree + 1)`, result: `(in, grid + 2 degree + 1)`.

    Raises:
        UsageError: the new grid is coarser.
    """
    inner = _inner(knots, degree).double()
    old = inner.shape[1] - 1
    if grid < old:
        raise UsageError(f"A refined grid needs at least the {old} intervals it has, however: grid={grid}.")
    position = old * torch.arange(grid + 1, device=knots.device)  # whole numbers: old knots stay where they are
    left = (position // grid).clamp(max=old - 1)
    fraction = (position - left * grid) / grid
    return _extend(inner[:, left] * (1.0 - fraction) + inner[:, left + 1] * fraction, degree).to(knots.dtype)


def refit(coef: Tensor, knots: Tensor, new_knots: Tensor, degree: int, data: Tensor | None = None) -> Tensor:
    """Return the coefficients of the same functions on new knots, computed in float64.

    Where the new knots contain the old ones over the same range this is exact knot insertion. Otherwise it is the
    least-squares fit of every input on its points of `fit_points`.

    **Shape** coef: `(in, G + degree, out)`, knots: `(in, G + 2 degree + 1)`, new_knots: `(in, G' + 2 degree + 1)`,
    data: `(in, n)`, best quantiles, result: `(in, G' + degree, out)`, in the type of `coef`.
    """
    old_coef, old, new = coef.detach().double(), knots.detach().double(), new_knots.detach().double()
    if nested(old, new, degree):
        return insert_knots(old_coef, old, new, degree).to(coef.dtype)
    points, once = fit_points(old, new, degree, None if data is None else data.to(old))
    inputs = max(1, _VALUES // (points.shape[1] * (new.shape[1] - degree - 1)))
    results = []
    for x, rows, function, before, after in zip(
        *(torch.split(one, inputs) for one in (points, once, old_coef, old, new)), strict=True
    ):
        target = spline_values(x.T, before, function, degree) * rows.T.unsqueeze(-1)
        design = bspline_basis(x.T, after, degree) * rows.T.unsqueeze(-1)
        results.append(_least_squares(design.transpose(0, 1), target.transpose(0, 1)))
    return torch.cat(results).to(coef.dtype)


def fit_points(old: Tensor, new: Tensor, degree: int, data: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return where `refit` compares functions, and which of these points count: not those that are there already.

    These are the ends of, and `CELL_POINTS` in, every interval of both grids together inside the range of the new one,
    so that each new B-spline is determined, and the data when there are any, so that the function is kept best where
    the data are.

    **Shape** old, new: extended knots `(in, G + 2 degree + 1)`, data: `(in, n)`, result: `(in, points)` each.
    """
    inner = _inner(new, degree)
    edges = torch.cat([torch.clamp(_inner(old, degree), inner[:, :1], inner[:, -1:]), inner], dim=1).sort(dim=1).values
    width = edges.diff(dim=1)
    fraction = (torch.arange(CELL_POINTS, dtype=old.dtype, device=old.device) + 0.5) / CELL_POINTS
    inside = edges[:, :-1, None] + width[..., None] * fraction
    wide = width > 0
    points = [edges, inside.flatten(1)]
    once = [wide.new_ones(len(edges), 1), wide, wide.repeat_interleave(CELL_POINTS, dim=1)]
    if data is not None:
        points.append(data)
        once.append(torch.ones_like(data, dtype=torch.bool))
    return torch.cat(points, dim=1), torch.cat(once, dim=1)


def nested(knots: Tensor, new_knots: Tensor, degree: int) -> bool:
    """Return whether new knots have the range of the old ones and contain each of them as often as it occurs."""
    old, new = _inner(knots, degree), _inner(new_knots, degree)
    if not (torch.equal(old[:, 0], new[:, 0]) and torch.equal(old[:, -1], new[:, -1])):
        return False
    times = [(grid.unsqueeze(1) == old.unsqueeze(2)).sum(dim=2) for grid in (old, new)]
    return bool((times[1] >= times[0]).all())


def insert_knots(coef: Tensor, knots: Tensor, new_knots: Tensor, degree: int) -> Tensor:
    r"""Return the coefficients of the same functions on nested knots, exactly (to rounding).

    .. math:: C'_m = f[t'_{m+1}, \dots, t'_{m+k}]

    with the polar form of the polynomial that the old spline is on the interval where the new B-spline begins.

    **Shape** as `refit`.

    References:
        "Inserting new knots into B-spline curves" (Boehm, 1980); "Discrete B-splines and subdivision techniques in
        computer-aided geometric design and computer graphics" (Cohen, Lyche, Riesenfeld, 1980).
    """
    number = new_knots.shape[1] - degree - 1
    inner = _inner(knots, degree).contiguous()
    begin = new_knots[:, :number].contiguous()
    interval = torch.searchsorted(inner, begin, right=True).clamp(1, inner.shape[1] - 1) - 1
    return polar_form(coef, knots, interval, [new_knots[:, r : r + number] for r in range(1, degree + 1)])


def spline_change(data: Tensor, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], degree: int) -> GridChange:
    """Return the change between two pairs of knots and coefficients at given data, in units of one.

    **Shape** data: `(in, n)`, knots and coefficients as `refit`.
    """
    total, largest, functions = 0.0, 0.0, old[1].shape[0] * old[1].shape[2]
    for points in torch.split(data.double().T, max(1, _VALUES // (functions * (degree + 1)))):
        before, after = (spline_values(points, knots.double(), coef.double(), degree) for knots, coef in (old, new))
        gap = (after - before).abs()
        total, largest = total + float(gap.square().mean(dim=(1, 2)).sum()), max(largest, float(gap.max()))
    return GridChange((total / data.shape[1]) ** 0.5, largest)


def move_gradient(gradient: Tensor, knots: Tensor, new_knots: Tensor, degree: int) -> Tensor:
    r"""Return a gradient with respect to coefficients, estimated for new knots.

    .. math:: g_m = \int \rho(x) B_m(x) \, dx \approx \rho(\xi_m) \int B_m(x) \, dx, \quad
              \xi_m = \frac{1}{k} \sum_{j=1}^{k} t_{m+j}, \quad \int B_m(x) \, dx = \frac{t_{m+k+1} - t_m}{k + 1}

    The density :math:`\rho` is known at the Greville abscissae :math:`\xi_m` of the old knots, linear between them and
    constant beyond. An optimiser's averages of gradients move like this when the knots do.

    **Shape** gradient: `(in, G + degree, out)`, knots: `(in, G + 2 degree + 1)`, new_knots:
    `(in, G' + 2 degree + 1)`, result: `(in, G' + degree, out)`, in the type of `gradient`.
    """
    place, size = _places(knots.double(), degree)
    new_place, new_size = _places(new_knots.double(), degree)
    density = gradient.double() * torch.where(size > 0, 1.0 / torch.where(size > 0, size, 1.0), 0.0).unsqueeze(-1)
    right = torch.searchsorted(place, new_place).clamp(max=place.shape[1] - 1)
    left = (right - 1).clamp(min=0)
    x0, x1 = place.gather(1, left), place.gather(1, right)
    fraction = torch.where(x1 > x0, (new_place - x0) / torch.where(x1 > x0, x1 - x0, 1.0), 1.0)
    fraction = fraction.clamp(0.0, 1.0).unsqueeze(-1)
    inputs = torch.arange(len(place), device=place.device).unsqueeze(-1)
    moved = (1.0 - fraction) * density[inputs, left] + fraction * density[inputs, right]
    return (moved * new_size.unsqueeze(-1)).to(gradient.dtype)


def _places(knots: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """Return Greville abscissae and integrals of the B-splines, `(in, G + degree)` each."""
    number = knots.shape[1] - degree - 1
    size = (knots[:, degree + 1 :] - knots[:, :number]) / (degree + 1)
    if degree == 0:
        return 0.5 * (knots[:, 1:] + knots[:, :-1]), size
    return knots[:, 1:-1].unfold(1, degree, 1).mean(dim=2), size


def _least_squares(design: Tensor, target: Tensor) -> Tensor:
    """Return the solutions by QR, input by input; a B-spline without any point (repeated knots) gets zero."""
    inputs, _, number = design.shape
    tie = (1e-12 * torch.eye(number, dtype=design.dtype, device=design.device)).expand(inputs, -1, -1)
    rows, zeros = torch.cat([design, tie], dim=1), target.new_zeros(inputs, number, target.shape[2])
    solution: Tensor = torch.linalg.lstsq(rows, torch.cat([target, zeros], dim=1), driver="gels").solution
    return solution


def _inner(knots: Tensor, degree: int) -> Tensor:
    """Return the knots from one end of the grid to the other."""
    return knots[..., degree : knots.shape[-1] - degree]


def _extend(inner: Tensor, degree: int) -> Tensor:
    """Add `degree` knots on both sides at the width of the outer intervals; `(in, G + 1)` to the extended knots."""
    steps = torch.arange(1, degree + 1, dtype=inner.dtype, device=inner.device)
    left = inner[:, :1] - steps.flip(0) * (inner[:, 1:2] - inner[:, :1])
    right = inner[:, -1:] + steps * (inner[:, -1:] - inner[:, -2:-1])
    return torch.cat([left, inner, right], dim=1)
