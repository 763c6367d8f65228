"""Knots that survive any data, and moves between grids that keep the function."""

import numpy as np
import pytest
import torch

from hepkan.errors import UsageError
from hepkan.splines import bspline_basis, grids

HOSTILE = {
    "constant": np.full(50, 7.0),
    "two values": np.repeat([-1.0, 1.0], 25),
    "mostly one value": np.append(np.zeros(48), [1.0, 2.0]),
    "heavy tail": np.random.default_rng(0).standard_cauchy(50),
    "with NaN": np.append(np.linspace(0, 1, 48), [np.nan, np.inf]),
    "huge": np.linspace(1e7, 1e7 + 1, 50),
    "few": np.array([1.0, 2.0]),
}


def spline(x: torch.Tensor, knots: torch.Tensor, coef: torch.Tensor, degree: int) -> torch.Tensor:
    return bspline_basis(x, knots, degree).flatten(1) @ coef.flatten(0, 1)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("degree", [1, 3, 5])
def test_adaptive_knots_always_rise(name: str, degree: int) -> None:
    knots = grids.adaptive(torch.from_numpy(HOSTILE[name])[:, None], 8, degree)
    assert torch.isfinite(knots).all()
    assert knots.shape == (1, 8 + 2 * degree + 1)
    assert (knots.diff(dim=1) > 0).all()


def test_adaptive_knots_follow_the_weighted_quantiles() -> None:
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    weight = (x[:, 0] < 0.5).double()
    knots = grids.adaptive(x, 4, 1, weight=weight, blend=1e-6)
    np.testing.assert_allclose(knots[0, 1:-1].numpy(), [0.0, 0.125, 0.25, 0.375, 1.0], atol=2e-3)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_refinement_keeps_the_function(degree: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    knots = grids.adaptive(x, 5, degree, blend=0.3)
    coef = torch.randn(2, 5 + degree, 3, generator=generator, dtype=torch.float64)
    fine = grids.refine_knots(knots, degree, 15)
    refined = grids.refit(coef, knots, fine, degree)
    points = torch.linspace(-6, 6, 500, dtype=torch.float64)[:, None].expand(-1, 2)
    torch.testing.assert_close(
        spline(points, fine, refined, degree), spline(points, knots, coef, degree), atol=1e-9, rtol=1e-9
    )


def test_wrong_requests_are_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(UsageError, match="below its upper end"):
        grids.uniform(one, one, 5, 3)
    with pytest.raises(UsageError, match="at least 1 interval"):
        grids.uniform(-one, one, 0, 3)
    with pytest.raises(UsageError, match="needs finite data"):
        grids.adaptive(torch.full((4, 1), torch.nan), 5, 3)
    with pytest.raises(UsageError, match="at least the 5 intervals"):
        grids.refine_knots(grids.uniform(-one, one, 5, 3), 3, 4)
