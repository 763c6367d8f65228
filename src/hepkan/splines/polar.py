"""Splines by their polar form: values from the degree + 1 coefficients that matter at a point, on any grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def polar_form(coef: Tensor, knots: Tensor, interval: Tensor, arguments: Sequence[Tensor]) -> Tensor:
    r"""Return the polar form of the polynomial that a spline is on given intervals of its grid.

    .. math:: f[u_1, \dots, u_k], \quad f(x) = f[x, \dots, x], \quad C_m = f[t_{m+1}, \dots, t_{m+k}]

    **Shape** coef: `(in, G + degree, out)`, knots: `(in, G + 2 degree + 1)`, interval: `(in, n)` from 0 to G - 1,
    arguments: one for each degree, `(in, n)`, result: `(in, n, out)`.

    References:
        "Blossoming: a connect-the-dots approach to splines" (Ramshaw, 1987).
    """
    degree = len(arguments)
    index = interval.unsqueeze(-1) + torch.arange(degree + 1, device=coef.device)
    inputs = torch.arange(coef.shape[0], device=coef.device).view(-1, 1, 1)
    values = coef[inputs, index]
    for r, argument in enumerate(arguments, 1):
        left, right = knots[inputs, index[..., r:]], knots[inputs, index[..., r:] + degree - r + 1]
        share = ((argument.unsqueeze(-1) - left) / (right - left)).unsqueeze(-1)
        values = torch.lerp(values[:, :, :-1], values[:, :, 1:], share)
    return values[:, :, 0]


def spline_values(x: Tensor, knots: Tensor, coef: Tensor, degree: int) -> Tensor:
    """Return every spline of each input, continued linearly outside the grid: `bspline_basis` times the coefficients.

    Grids must not be empty; single intervals may be.

    **Shape** x: `(batch, in)`, knots: `(in, G + 2 degree + 1)`, coef: `(in, G + degree, out)`, result:
    `(batch, in, out)`.
    """
    inner = knots[:, degree : knots.shape[1] - degree].contiguous()
    low, high = inner[:, :1], inner[:, -1:]
    # The outermost intervals that are not empty.
    first, last = (inner <= low).sum(dim=1, keepdim=True) - 1, (inner < high).sum(dim=1, keepdim=True) - 1
    points = x.T.contiguous()
    inside = torch.minimum(torch.maximum(points, low), high)
    interval = torch.minimum(torch.searchsorted(inner, inside, right=True) - 1, last)
    values = polar_form(coef, knots, interval, [inside] * degree)
    if degree == 0:
        return (values + 0.0 * inside.unsqueeze(-1)).transpose(0, 1)
    ends, place = torch.cat([low, high], dim=1), torch.cat([first, last], dim=1)
    left, right = (knots.gather(1, place + degree + step) for step in (0, 1))
    rise = [polar_form(coef, knots, place, [*[ends] * (degree - 1), end]) for end in (left, right)]
    slopes = (rise[1] - rise[0]) * (degree / (right - left)).unsqueeze(-1)
    below, above = (points - low).clamp(max=0.0), (points - high).clamp(min=0.0)
    values = values + below.unsqueeze(-1) * slopes[:, :1] + above.unsqueeze(-1) * slopes[:, 1:]
    return values.transpose(0, 1)
