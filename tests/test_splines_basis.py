"""The plain-torch reference against SciPy, the theory of B-splines and its own derivatives."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from hepkan.errors import UsageError
from hepkan.splines import available, bspline_basis, bspline_derivative, kan_layer, kan_layer_reference

DEGREES = range(6)


def knots_of(degree: int, grid: int = 7, repeated: bool = False, seed: int = 0) -> np.ndarray:
    """Irregular extended knots, with a double inner knot on request."""
    inner = np.sort(np.random.default_rng(seed).normal(size=grid + 1))
    if repeated:
        inner[3] = inner[4]
    left = inner[0] - 0.3 * np.arange(degree, 0, -1)
    return np.concatenate([left, inner, inner[-1] + 0.4 * np.arange(1, degree + 1)])


def ours(x: np.ndarray, knots: np.ndarray, degree: int, function=bspline_basis) -> np.ndarray:
    return function(torch.from_numpy(x)[:, None], torch.from_numpy(knots)[None], degree)[:, 0].numpy()


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("degree", DEGREES)
def test_values_and_slopes_equal_scipy(degree: int, repeated: bool) -> None:
    t = knots_of(degree, repeated=repeated and degree > 1)
    x = np.concatenate([np.linspace(t[degree], t[-degree - 1], 301), t[degree : len(t) - degree]])
    splines = [BSpline(t, row, degree) for row in np.eye(len(t) - degree - 1)]
    np.testing.assert_allclose(ours(x, t, degree), np.stack([s(x) for s in splines], 1), atol=1e-13)
    if degree:
        expected = np.stack([s.derivative()(x) for s in splines], 1)
        np.testing.assert_allclose(ours(x, t, degree, bspline_derivative), expected, atol=1e-11)


@pytest.mark.parametrize("degree", DEGREES)
def test_partition_of_unity_and_local_support(degree: int) -> None:
    t = knots_of(degree)
    x = np.linspace(t[degree], t[-degree - 1], 200)
    basis = ours(x, t, degree)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0, atol=1e-12)
    assert (np.count_nonzero(basis, axis=1) <= degree + 1).all()
    assert (basis >= 0).all()


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_continues_linearly_outside(degree: int) -> None:
    t = knots_of(degree)
    low, high = t[degree], t[-degree - 1]
    far = ours(np.array([low - 2.0, low - 1.0, low, high, high + 1.0, high + 2.0]), t, degree)
    np.testing.assert_allclose(far[0] - far[1], far[1] - far[2], atol=1e-11)
    np.testing.assert_allclose(far[5] - far[4], far[4] - far[3], atol=1e-11)
    slopes = ours(np.array([low, high]), t, degree, bspline_derivative)
    np.testing.assert_allclose(far[2] - far[1], slopes[0], atol=1e-11)
    np.testing.assert_allclose(far[4] - far[3], slopes[1], atol=1e-11)


def layer_arguments(n: int, degree: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    knots = torch.from_numpy(np.stack([knots_of(degree, seed=s) for s in range(3)]))
    sizes = [(n, 3), (3, 7 + degree, 4), (3, 4)]
    x, coef, base = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
    return [tensor.to(dtype) for tensor in (x, knots, coef, base)]


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_gradients_and_second_gradients(degree: int) -> None:
    x, knots, coef, base = layer_arguments(4, degree)
    for tensor in (x, coef, base):
        tensor.requires_grad_(True)

    def function(x: torch.Tensor, coef: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        return kan_layer_reference(x, knots, coef, base, degree, "silu")

    assert torch.autograd.gradcheck(function, (x, coef, base))
    if degree > 1:
        assert torch.autograd.gradgradcheck(function, (x, coef, base))


@pytest.mark.parametrize("n", [0, 1, 257])
def test_batch_sizes_and_nan_stay_with_their_event(n: int) -> None:
    x, knots, coef, base = layer_arguments(n, 3)
    y = kan_layer(x, knots, coef, base, 3, "silu", backend="torch")
    assert y.shape == (n, 4)
    if n > 1:
        spoiled = x.clone()
        spoiled[1, 0] = torch.nan
        z = kan_layer(spoiled, knots, coef, base, 3, "silu", backend="torch")
        assert torch.isnan(z[1]).all()
        others = torch.arange(n) != 1
        assert torch.equal(z[others], y[others])


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_interpolation_converges_with_the_order_of_the_degree(degree: int) -> None:
    errors = []
    for grid in (10, 20, 40):
        step = 1.0 / grid
        t = np.linspace(-degree * step, 1 + degree * step, grid + 2 * degree + 1)
        x = np.linspace(0, 1, 1000)
        design = ours(x, t, degree)
        fit = design @ np.linalg.lstsq(design, np.sin(6 * x), rcond=None)[0]
        errors.append(np.abs(fit - np.sin(6 * x)).max())
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.all(np.abs(orders - (degree + 1)) < 0.6)


def test_a_backend_is_a_demand() -> None:
    x, knots, coef, base = layer_arguments(2, 3)
    with pytest.raises(UsageError, match="Did you mean 'torch'"):
        kan_layer(x, knots, coef, base, 3, "silu", backend="torchh")
    for name, reason in available().items():
        if reason is not None:
            with pytest.raises(UsageError, match="cannot be used"):
                kan_layer(x, knots, coef, base, 3, "silu", backend=name)
    with pytest.raises(UsageError, match="must fit"):
        bspline_basis(x[:, :2], knots, 3)
