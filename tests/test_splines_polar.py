"""Values of splines from their polar form, against the B-splines and SciPy."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from hepkan.splines import bspline_basis
from hepkan.splines.polar import polar_form, spline_values
from spline_cases import KNOTS, make_knots

DEGREES = [0, 1, 2, 3, 4, 5]


def case(kind: str, degree: int, grid: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return points inside, outside, on every knot and NaN, knots of three inputs, coefficients of two outputs."""
    generator = torch.Generator().manual_seed(degree)
    knots = make_knots(kind, 3, grid, degree, generator).double()
    coef = torch.randn(3, grid + degree, 2, generator=generator, dtype=torch.float64)
    random = 3.0 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    x = torch.cat([random, knots.T, torch.full((1, 3), torch.nan, dtype=torch.float64)])
    some = knots[:, degree] < knots[:, -1 - degree]  # no grid of the library is empty
    assert some.any()
    return x[:, some], knots[some], coef[some]


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("grid", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", KNOTS)
def test_values_are_the_basis_times_the_coefficients(kind: str, degree: int, grid: int) -> None:
    x, knots, coef = case(kind, degree, grid)
    expected = torch.einsum("nim,imo->nio", bspline_basis(x, knots, degree), coef)
    size = float(expected.nan_to_num().abs().max())
    torch.testing.assert_close(
        spline_values(x, knots, coef, degree), expected, rtol=0, atol=1e-13 * size, equal_nan=True
    )


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_range_that_ends_in_repeated_knots(degree: int) -> None:
    """The right end belongs to the last interval that is not empty, as in the basis."""
    inner = torch.tensor([[0.0, 0.0, 0.3, 0.3, 0.7, 1.0, 1.0, 1.0]], dtype=torch.float64)
    knots = torch.cat([inner[:, :1].expand(1, degree), inner, inner[:, -1:].expand(1, degree)], dim=1)
    coef = torch.arange(7 + degree, dtype=torch.float64).square().reshape(1, -1, 1)
    x = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)[:, None]
    expected = bspline_basis(x, knots, degree).flatten(1) @ coef[0]
    torch.testing.assert_close(spline_values(x, knots, coef, degree)[:, 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", DEGREES)
def test_values_inside_are_those_of_scipy(degree: int) -> None:
    _, knots, coef = case("random", degree, 8)
    for i in range(3):
        x = torch.linspace(float(knots[i, degree]), float(knots[i, -1 - degree]), 301, dtype=torch.float64)[1:-1]
        found = spline_values(x[:, None], knots[i : i + 1], coef[i : i + 1], degree)[:, 0].numpy()
        np.testing.assert_allclose(found, BSpline(knots[i].numpy(), coef[i].numpy(), degree)(x.numpy()), atol=1e-12)


@pytest.mark.parametrize("degree", DEGREES)
def test_polar_form_of_neighbouring_knots_is_a_coefficient(degree: int) -> None:
    _, knots, coef = case("random", degree, 6)
    interval = torch.arange(6).expand(3, -1)
    arguments = [knots[:, r : r + 6] for r in range(1, degree + 1)]
    torch.testing.assert_close(polar_form(coef, knots, interval, arguments), coef[:, :6], rtol=1e-11, atol=1e-11)
