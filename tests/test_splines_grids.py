"""Knots that survive any data, and moves between grids that keep the function."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline, insert

from hepkan.errors import UsageError
from hepkan.splines import bspline_basis, grids

HOSTILE = {
    "constant": np.full(50, 7.0),
    "two values": np.repeat([-1.0, 1.0], 25),
    "mostly one value": np.append(np.zeros(48), [1.0, 2.0]),
    "heavy tail": np.random.default_rng(0).standard_cauchy(50),
    "with NaN": np.append(np.linspace(0, 1, 48), [np.nan, np.inf]),
    "huge": np.linspace(1e7, 1e7 + 1, 50),
    "constant and huge": np.full(50, -3e8),
    "tiny": np.linspace(-1e-7, 1e-7, 50),
    "with sentinels": np.append(np.random.default_rng(0).normal(size=25), np.full(25, -999.0)),
    "six orders": np.geomspace(1e-3, 1e3, 50),
    "few": np.array([1.0, 2.0]),
}
DEGREES = [0, 1, 2, 3, 4, 5]


def spline(x: torch.Tensor, knots: torch.Tensor, coef: torch.Tensor, degree: int) -> torch.Tensor:
    return bspline_basis(x, knots, degree).flatten(1) @ coef.flatten(0, 1)


def random_spline(degree: int, grid: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uneven knots and coefficients of two inputs and three outputs."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_t(3, size=(60, 2)))
    coef = torch.from_numpy(rng.normal(size=(2, grid + degree, 3)))
    return grids.adaptive(x, grid, degree, blend=0.3), coef


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adaptive_knots_always_rise(name: str, degree: int, dtype: torch.dtype) -> None:
    knots = grids.adaptive(torch.from_numpy(HOSTILE[name])[:, None], 8, degree).to(dtype)
    assert torch.isfinite(knots).all()
    assert knots.shape == (1, 8 + 2 * degree + 1)
    assert (knots.diff(dim=1) > 0).all()


def test_adaptive_knots_follow_the_weighted_quantiles() -> None:
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    weight = (x[:, 0] < 0.5).double()
    knots = grids.adaptive(x, 4, 1, weight=weight, blend=1e-6)
    np.testing.assert_allclose(knots[0, 1:-1].numpy(), [0.0, 0.125, 0.25, 0.375, 1.0], atol=2e-3)


def test_quantiles_leave_out_what_is_not_finite_and_need_no_positive_weight() -> None:
    x = torch.tensor([[3.0], [torch.nan], [1.0], [torch.inf], [2.0]])
    for weight in (None, torch.zeros(5), torch.tensor([2.0, 5.0, 2.0, 5.0, 2.0])):
        assert grids.quantiles(x, 2, weight).tolist() == [[1.0, 2.0, 3.0]]
    negative = torch.tensor([1.0, 0.0, 1.0, 0.0, -5.0])
    assert torch.equal(grids.quantiles(x, 4, negative), grids.quantiles(x, 4, negative.clamp(min=0)))


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("grid", [10, 50, 100])
def test_refinement_keeps_the_function(degree: int, grid: int) -> None:
    knots, coef = random_spline(degree)
    fine = grids.refine_knots(knots, degree, grid)
    assert grids.nested(knots, fine, degree)
    points = torch.linspace(-20, 20, 2000, dtype=torch.float64)[:, None].expand(-1, 2)
    torch.testing.assert_close(
        spline(points, fine, grids.refit(coef, knots, fine, degree), degree),
        spline(points, knots, coef, degree),
        atol=1e-11,
        rtol=1e-11,
    )


@pytest.mark.parametrize("degree", DEGREES[1:])
def test_inserted_knots_agree_with_scipy(degree: int) -> None:
    """One knot, the same knot again, and one that repeats an old knot."""
    knots, coef = random_spline(degree)
    inner = knots[0, degree + 2]
    new = torch.sort(torch.cat([knots[:1], torch.stack([inner, inner + 0.01, inner + 0.01])[None]], dim=1)).values
    found = grids.insert_knots(coef[:1], knots[:1], new, degree)[0]
    t, c = knots[0].numpy(), coef[0].numpy()
    for x in (inner, inner + 0.01, inner + 0.01):
        t, c, k = insert(float(x), (t, c.T, degree))
        t, c = np.asarray(t), np.asarray(c).T[: len(t) - k - 1]
    np.testing.assert_array_equal(t, new[0])
    np.testing.assert_allclose(found, c, atol=1e-12)
    x = np.linspace(float(knots[0, degree]), float(knots[0, -degree - 1]) - 1e-9, 300)
    np.testing.assert_allclose(BSpline(t, found.numpy(), degree)(x), BSpline(knots[0], coef[0], degree)(x), atol=1e-12)


def test_nested_means_the_same_range_and_every_knot_as_often() -> None:
    def extended(*inner: float) -> torch.Tensor:
        return torch.tensor([[inner[0] - 1, *inner, inner[-1] + 1]])

    old = extended(0.0, 1.0, 1.0, 2.0)
    assert grids.nested(old, extended(0.0, 0.5, 1.0, 1.0, 2.0), 1)
    for other in (extended(0.0, 0.5, 1.0, 2.0), extended(0.0, 1.0, 1.0, 2.5), extended(0.0, 1.1, 1.1, 2.0)):
        assert not grids.nested(old, other, 1)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("name", [None, *HOSTILE])
def test_other_knots_get_the_least_squares_optimum(degree: int, name: str | None) -> None:
    """Against NumPy's solution by singular values, on the same points, in float64."""
    knots, coef = random_spline(degree)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=50) if name is None else HOSTILE[name])
    new = grids.adaptive(x[:, None].expand(-1, 2), 7, degree, blend=0.3)
    data = grids.quantiles(x[:, None].expand(-1, 2), 200)
    found = grids.refit(coef, knots, new, degree, data)
    places, once = grids.fit_points(knots, new, degree, data)
    for i in range(2):
        points = places[i, once[i]][:, None]
        design = bspline_basis(points, new[i : i + 1], degree)[:, 0].numpy()
        target = (bspline_basis(points, knots[i : i + 1], degree)[:, 0] @ coef[i]).numpy()
        best = np.linalg.lstsq(design, target, rcond=None)[0]
        size = np.abs(best).max()
        np.testing.assert_allclose(found[i], best, atol=1e-9 * size)
        residual = design @ found[i].numpy() - target
        assert np.abs(design.T @ residual).max() < 1e-9 * size * len(points)
    assert torch.equal(found, grids.refit(coef, knots, new, degree, data)), "two identical calls differ"


def test_a_spline_without_support_is_no_obstacle() -> None:
    knots, coef = random_spline(3)
    new = grids.refine_knots(knots, 3, 12).clone()
    new[:, 6:11] = new[:, 6:7]
    found = grids.refit(coef, knots, new, 3)
    assert torch.isfinite(found).all() and float(found.abs().max()) < 10 * float(coef.abs().max())


@pytest.mark.parametrize("degree", DEGREES)
def test_gradients_move_as_densities(degree: int) -> None:
    knots, gradient = random_spline(degree)
    new = grids.adaptive(torch.linspace(-2, 5, 50, dtype=torch.float64)[:, None].expand(-1, 2), 5, degree)
    sizes = [(t[:, degree + 1 :] - t[:, : -degree - 1]).unsqueeze(-1) for t in (knots, new)]
    torch.testing.assert_close(grids.move_gradient(gradient, knots, knots, degree), gradient)
    torch.testing.assert_close(grids.move_gradient(7 * sizes[0], knots, new, degree), 7 * sizes[1])
    moved = grids.move_gradient(gradient.abs().float(), knots, new, degree)
    assert moved.shape == gradient.shape and moved.dtype == torch.float32 and (moved > 0).all()
    finer = grids.refine_knots(knots, degree, 20)
    assert grids.move_gradient(gradient, knots, finer, degree).shape == (2, 20 + degree, 3)
    repeated = torch.zeros_like(knots)
    assert torch.isfinite(grids.move_gradient(gradient, repeated, knots, degree)).all()


def test_moved_gradients_are_those_of_the_new_coefficients() -> None:
    """The gradient of a smooth loss on a fine grid, moved to other knots, is nearly the one computed there."""
    x = torch.linspace(-3, 3, 20001, dtype=torch.float64)[:, None]
    pull = torch.exp(-x) * torch.sin(2 * x)
    old = grids.uniform(x[0], x[-1], 40, 3)
    new = grids.adaptive(x.sign() * x.abs().sqrt(), 40, 3, blend=0.5)
    new = new * 3 / new[:, -4]

    def gradient(knots: torch.Tensor) -> torch.Tensor:
        return (bspline_basis(x, knots, 3) * pull.unsqueeze(-1)).mean(dim=0).unsqueeze(-1)

    inner = slice(3, -3)  # at the ends a part of the splines is outside the data
    moved, true = grids.move_gradient(gradient(old), old, new, 3)[:, inner], gradient(new)[:, inner]
    assert float((moved - true).abs().max()) < 0.06 * float(true.abs().max())


def test_change_is_measured_where_the_data_are() -> None:
    knots, coef = random_spline(3)
    data = grids.steps(knots, 3)
    assert data.shape == (2, grids.DATA_POINTS + 1)
    still = grids.spline_change(data, (knots, coef), (knots, coef), 3)
    assert (still.rms, still.largest) == (0.0, 0.0)
    lifted = grids.spline_change(data, (knots, coef), (knots, coef + torch.tensor([0.0, 0.0, 0.5])), 3)
    assert lifted.largest == pytest.approx(0.5) and lifted.rms == pytest.approx(0.5 / np.sqrt(3))


def test_wrong_requests_are_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(UsageError, match="below its upper end"):
        grids.uniform(one, one, 5, 3)
    with pytest.raises(UsageError, match="at least 1 interval"):
        grids.uniform(-one, one, 0, 3)
    with pytest.raises(UsageError, match="needs finite data"):
        grids.adaptive(torch.full((4, 1), torch.nan), 5, 3)
    with pytest.raises(UsageError, match="blend must be above 0"):
        grids.adaptive(torch.ones(4, 1), 5, 3, blend=0.0)
    with pytest.raises(UsageError, match="at least the 5 intervals"):
        grids.refine_knots(grids.uniform(-one, one, 5, 3), 3, 4)
