"""Losses and penalties, values and gradients, agree with plain float64 computations of their formulas."""

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.losses import (
    LOSSES,
    REGULARISERS,
    check_target,
    cross_entropy,
    get_loss,
    link_of,
    penalty,
    soft_cross_entropy,
)
from hepkan.nn.layers import KANLayer

Arrays = tuple[np.ndarray, np.ndarray]
FEW = settings(max_examples=20, deadline=None)
CASES = [
    *(("cross_entropy", 1), ("cross_entropy", 4), ("soft_cross_entropy", 1), ("soft_cross_entropy", 4)),
    *(("mse", 1), ("mse", 3), ("mae", 3), ("huber", 3)),
]


def sample(name: str, outputs: int, n: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random outputs and fitting targets in float64."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, max(outputs, 2), n)
    target = labels if LOSSES[name].classification else 2 * rng.normal(size=(n, outputs))
    if name == "soft_cross_entropy":
        target = rng.dirichlet(np.ones(max(outputs, 2)), n)[:, -outputs:]
    return torch.tensor(2 * rng.normal(size=(n, outputs))), torch.tensor(target)


def plain(name: str, f: np.ndarray, y: np.ndarray) -> Arrays:
    """Return the loss of every event `(n,)` and its gradient `(n, outputs)`, as in a textbook."""
    if name == "cross_entropy" and f.shape[1] == 1:
        p = 1 / (1 + np.exp(-f[:, 0]))
        return -y * np.log(p) - (1 - y) * np.log(1 - p), (p - y)[:, None]
    if name == "cross_entropy":
        p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
        return -np.log(p[np.arange(len(y)), y]), p - np.eye(f.shape[1])[y]
    if name == "soft_cross_entropy":
        both = np.hstack([np.zeros_like(f), f]) if f.shape[1] == 1 else f
        goal = np.hstack([1 - y, y]) if f.shape[1] == 1 else y
        p = np.exp(both) / np.exp(both).sum(axis=1, keepdims=True)
        return -(goal * np.log(p)).sum(axis=1), (p - goal)[:, -f.shape[1] :]
    r = f - y
    values, slopes = {
        "mse": (r**2, 2 * r),
        "mae": (np.abs(r), np.sign(r)),
        "huber": (np.where(np.abs(r) <= 1, r**2 / 2, np.abs(r) - 0.5), np.clip(r, -1, 1)),
    }[name]
    return values.mean(axis=1), slopes / f.shape[1]


def layer_of(degree: int = 3, base: str = "silu", seed: int = 0) -> KANLayer:
    """Return a small float64 layer with larger splines than at the start of a training."""
    layer = KANLayer(2, 3, grid=4, degree=degree, base=base, generator=torch.Generator().manual_seed(seed)).double()
    torch.nn.init.normal_(layer.coef, generator=torch.Generator().manual_seed(seed))
    return layer


def moved(layer: KANLayer, step: torch.Tensor) -> KANLayer:
    """Return a copy with other coefficients."""
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.coef += step
    return other


def splines(layer: KANLayer) -> list[BSpline]:
    """Return the splines of every input of a layer as SciPy has them, with values `(..., out)`."""
    knots, coef = layer.knots.numpy(), layer.coef.detach().numpy()
    return [BSpline(t, c, layer.degree) for t, c in zip(knots, coef, strict=True)]


def mean_activations(layer: KANLayer, x: np.ndarray) -> np.ndarray:
    """Return the mean |activation| of every edge `(in, out)`, from SciPy's splines and silu by its formula."""
    weight = layer.base_weight.detach().numpy()
    columns = [
        spline(column) + np.outer(column / (1 + np.exp(-column)), w)
        for spline, column, w in zip(splines(layer), x.T, weight, strict=True)
    ]
    return np.array([np.abs(column).mean(axis=0) for column in columns])


def roughness(layer: KANLayer) -> float:
    """Return the integral of the squared second derivatives over the grid, by Gauss per interval (exact here)."""
    points, weights = np.polynomial.legendre.leggauss(4)
    total = 0.0
    for spline in splines(layer):
        for low, high in pairwise(spline.t[layer.degree : -layer.degree]):
            x = low + (high - low) * (points + 1) / 2
            total += (high - low) / 2 * weights @ np.sum(spline.derivative(2)(x) ** 2, axis=1)
    return float(total)


@pytest.mark.parametrize(("name", "outputs"), CASES)
@pytest.mark.parametrize("weights", ["none", "positive", "signed"])
def test_losses_and_gradients_are_the_textbook_ones(name: str, outputs: int, weights: str) -> None:
    f, y = sample(name, outputs)
    f.requires_grad_()
    weight = torch.tensor(np.random.default_rng(1).exponential(size=len(f)))
    if weights == "signed":
        weight[::5] *= -1
    w = np.ones(len(f)) if weights == "none" else weight.numpy()
    loss = get_loss(name)(f, y, None if weights == "none" else weight)
    loss.backward()
    values, slopes = plain(name, f.detach().numpy(), y.numpy())
    np.testing.assert_allclose(loss.item(), w @ values / w.sum(), rtol=1e-12)
    np.testing.assert_allclose(f.grad, w[:, None] * slopes / w.sum(), rtol=1e-11, atol=1e-14)
    assert get_loss(name).each(f, y).shape == (len(f),)


@pytest.mark.parametrize(("name", "outputs"), CASES)
def test_weights_count_as_copies(name: str, outputs: int) -> None:
    f, y = sample(name, outputs)
    copies = torch.arange(len(f)) % 4
    loss = get_loss(name)
    repeated = loss(f.repeat_interleave(copies, 0), y.repeat_interleave(copies, 0))
    assert loss(f, y, copies.double()).item() == pytest.approx(repeated.item())
    assert loss(f, y, 1e-3 * copies.double()).item() == pytest.approx(repeated.item())


@pytest.mark.parametrize(("name", "outputs"), CASES)
def test_a_negative_weight_takes_a_row_out_again(name: str, outputs: int) -> None:
    f, y = sample(name, outputs)
    weight = torch.cat([torch.ones(len(f)), torch.tensor([-1.0])]).double()
    loss = get_loss(name)
    cancelled = loss(torch.cat([f, f[:1]]), torch.cat([y, y[:1]]), weight)
    assert cancelled.item() == pytest.approx(loss(f[1:], y[1:]).item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("outputs", [1, 2])
def test_cross_entropy_of_extreme_logits(logit: float, label: int, outputs: int, dtype: torch.dtype) -> None:
    f = torch.tensor([[0.0, logit][2 - outputs :]], dtype=dtype, requires_grad=True)
    loss = cross_entropy(f, torch.tensor([label]))
    loss.sum().backward()
    wrong = -logit if label else logit
    expected = max(wrong, 0) + math.log1p(math.exp(-abs(wrong)))
    assert loss.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
    slope = 0.5 * (1 + math.tanh(logit / 2)) - label
    assert f.grad[0].tolist() == pytest.approx([-slope, slope][2 - outputs :], abs=1e-7)


@FEW
@given(st.floats(-1e4, 1e4), st.floats(-1e3, 1e3), st.integers(0, 1))
def test_one_logit_is_the_difference_of_two(logit: float, shift: float, label: int) -> None:
    y = torch.tensor([label])
    one = cross_entropy(torch.tensor([[logit]], dtype=torch.float64), y)
    two = cross_entropy(torch.tensor([[shift, shift + logit]], dtype=torch.float64), y)
    assert one.item() == pytest.approx(two.item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("weight", [[1.0, -1.0], [1.0, -3.0], [0.0, 0.0], [1.0, math.nan]])
def test_weights_without_positive_sum_are_refused(weight: list[float]) -> None:
    with pytest.raises(DataError, match=f"positive sum of weights, however: {sum(weight):g}"):
        get_loss("mse")(torch.ones(2, 1), torch.zeros(2, 1), torch.tensor(weight))


def test_links_and_names() -> None:
    assert [link_of("cross_entropy", n) for n in (1, 2, 5)] == ["sigmoid", "softmax", "softmax"]
    assert {link_of(name, 1) for name in ("mse", "mae", "huber")} == {"identity"}
    assert all(get_loss(name).name == name for name in LOSSES)
    with pytest.raises(UsageError, match=r"Unknown loss 'hubert'\. Did you mean 'huber'"):
        get_loss("hubert")


@pytest.mark.parametrize("values", [[[0.2], [1.2]], [[-0.1], [0.5]], [[0.6, 0.6], [0.5, 0.5]]])
def test_probabilities_are_checked(values: list[list[float]]) -> None:
    with pytest.raises(DataError, match="add up to 1, however 1 of 2 events have others"):
        check_target("soft_cross_entropy", torch.tensor(values), len(values[0]))


def test_labels_are_probabilities_of_one_class() -> None:
    output, labels = sample("cross_entropy", 3)
    certain = torch.nn.functional.one_hot(labels, 3).double()
    torch.testing.assert_close(soft_cross_entropy(output, certain), cross_entropy(output, labels))


@pytest.mark.parametrize(
    ("loss", "target", "outputs", "expected"),
    [
        ("cross_entropy", torch.tensor([0, 1, 1]), 1, torch.tensor([0, 1, 1])),
        ("cross_entropy", torch.tensor([[0.0], [1.0]]), 1, torch.tensor([0, 1])),
        ("cross_entropy", torch.tensor([True, False]), 2, torch.tensor([1, 0])),
        ("cross_entropy", torch.tensor([0, 2], dtype=torch.int32), 3, torch.tensor([0, 2])),
        ("mse", torch.tensor([1, 2]), 1, torch.tensor([[1.0], [2.0]]).double()),
        ("huber", torch.tensor([[1.5, 2.5]]), 2, torch.tensor([[1.5, 2.5]]).double()),
    ],
)
def test_targets_as_losses_take_them(loss: str, target: torch.Tensor, outputs: int, expected: torch.Tensor) -> None:
    seen = check_target(loss, target, outputs)
    assert seen.dtype == expected.dtype and torch.equal(seen, expected)
    assert get_loss(loss)(torch.zeros(len(target), outputs).double(), seen).isfinite()


@pytest.mark.parametrize(
    ("loss", "target", "outputs", "error", "words"),
    [
        ("cross_entropy", [0.0, math.nan, math.inf], 1, DataError, "2 of 3 events"),
        ("mae", [[0.0, math.nan], [math.nan, math.nan], [1.0, 2.0]], 2, DataError, "2 of 3 events"),
        ("cross_entropy", [0, 1, 2, 2], 1, DataError, r"0 to 1, however 2 of 4 events have others: \[2\]"),
        ("cross_entropy", [-1, 1, 3], 3, DataError, r"0 to 2, however 2 of 3 events have others: \[-1, 3\]"),
        ("cross_entropy", [0.0, 0.5], 2, DataError, r"1 of 2 events have others: \[0.5\]"),
        ("cross_entropy", [[0, 1], [1, 0]], 2, UsageError, r"\(n,\), however: \(2, 2\)"),
        ("mse", [1.0, 2.0], 2, UsageError, r"\(n, 2\), however: \(2,\)"),
        ("mse", [[[1.0]]], 1, UsageError, r"\(n, 1\), however: \(1, 1, 1\)"),
        ("mes", [1.0], 1, UsageError, "Did you mean 'mse'"),
    ],
)
def test_wrong_targets_say_what_is_wrong(
    loss: str, target: list, outputs: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        check_target(loss, torch.tensor(target), outputs)


def test_l1_and_entropy_are_those_of_the_edges() -> None:
    layer = layer_of()
    x = torch.tensor(np.random.default_rng(0).uniform(-2.9, 2.9, (40, 2)))
    sizes = mean_activations(layer, x.numpy())
    assert sizes.shape == (2, 3)
    share = sizes / sizes.sum()
    assert REGULARISERS["l1"](layer, x).item() == pytest.approx(sizes.sum(), rel=1e-10)
    assert REGULARISERS["entropy"](layer, x).item() == pytest.approx(-np.sum(share * np.log(share)), rel=1e-10)


@pytest.mark.parametrize(("alive", "expected"), [(1, 0.0), (2, math.log(2)), (6, math.log(6))])
def test_entropy_counts_equal_edges(alive: int, expected: float) -> None:
    layer = layer_of(base="none")
    x = torch.zeros(5, 2).double()
    with torch.no_grad():
        layer.coef.zero_()
        for edge in range(alive):
            layer.coef[edge // 3, :, edge % 3] = 2.0 * (-1) ** edge
    entropy = REGULARISERS["entropy"](layer, x)
    assert entropy.item() == pytest.approx(expected, abs=1e-12)
    assert REGULARISERS["l1"](layer, x).item() == pytest.approx(2 * alive)
    entropy.backward()
    assert layer.coef.grad.isfinite().all()


@FEW
@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_penalties_scale_with_the_functions(scale: float, seed: int) -> None:
    layer, scaled = layer_of(seed=seed), layer_of(seed=seed)
    with torch.no_grad():
        scaled.coef *= scale
        scaled.base_weight *= scale
    x = torch.linspace(-3, 3, 20).double().reshape(10, 2)
    for name, factor in (("l1", scale), ("entropy", 1.0), ("curvature", scale**2)):
        penalties = [REGULARISERS[name](each, x).item() for each in (layer, scaled)]
        assert penalties[1] == pytest.approx(factor * penalties[0])


@pytest.mark.parametrize("name", [name for name in REGULARISERS if name != "gates"])
@pytest.mark.parametrize("degree", [2, 3])
def test_gradients_of_penalties_are_the_numerical_ones(name: str, degree: int) -> None:
    layer = layer_of(degree)
    x = torch.tensor(np.random.default_rng(0).normal(size=(7, 2)))
    REGULARISERS[name](layer, x).backward()
    step = torch.zeros_like(layer.coef)
    for place in np.ndindex(*layer.coef.shape):
        step.zero_()[place] = 1e-5
        with torch.no_grad():
            up = REGULARISERS[name](moved(layer, step), x)
            down = REGULARISERS[name](moved(layer, -step), x)
        assert layer.coef.grad[place].item() == pytest.approx((up - down).item() / 2e-5, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
@pytest.mark.parametrize("adapted", [False, True])
def test_curvature_bounds_the_integral_and_approaches_it_on_finer_grids(degree: int, adapted: bool) -> None:
    """For parabolas, whose second derivative is constant on every interval, the bound is the integral."""
    layer = layer_of(degree)
    x = torch.tensor(np.random.default_rng(0).standard_t(5, size=(200, 2)))
    if adapted:
        layer.update_grid(x)
    integral, bound = roughness(layer), REGULARISERS["curvature"](layer, x).item()
    assert bound >= integral * (1 - 1e-9) > 0
    if degree == 2:
        assert bound == pytest.approx(integral)
    layer.refine(64)
    assert roughness(layer) == pytest.approx(integral, rel=1e-6)
    assert integral * (1 - 1e-6) <= REGULARISERS["curvature"](layer, x).item() <= max(1.3 * integral, 0.5 * bound)


@pytest.mark.parametrize("degree", [2, 3, 4])
@pytest.mark.parametrize("adapted", [False, True])
def test_straight_lines_have_no_curvature(degree: int, adapted: bool) -> None:
    """A line has coefficients linear in the mean of each spline's inner knots; the base function is left alone."""
    layer = layer_of(degree)
    x = torch.tensor(np.random.default_rng(0).exponential(size=(200, 2)))
    if adapted:
        layer.update_grid(x)
    inner = layer.knots[:, 1:-1].unfold(1, degree, 1).mean(dim=2)
    with torch.no_grad():
        layer.coef.copy_(1.5 - 0.7 * inner.unsqueeze(-1).expand_as(layer.coef))
    middle = layer.knots[:, degree : degree + 2].mean(dim=1, keepdim=True).T
    lines = layer.edge_functions(middle) - layer.base_weight * (middle * middle.sigmoid()).unsqueeze(-1)
    assert torch.allclose(lines, (1.5 - 0.7 * middle).unsqueeze(-1).expand_as(lines))
    assert REGULARISERS["curvature"](layer, x).item() == pytest.approx(0, abs=1e-16)


def test_curvature_of_broken_lines_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 2, however it is 1"):
        REGULARISERS["curvature"](layer_of(1), torch.zeros(1, 2).double())


def test_penalty_adds_up_layers_at_their_own_inputs() -> None:
    model = hepkan.KAN([2, 3, 1], seed=1).double()
    z = torch.tensor(np.random.default_rng(0).normal(size=(30, 2)))
    strengths = {"l1": 0.1, "entropy": 0.02, "curvature": 0.003}
    first, second = model.layers
    expected = sum(
        strength * (REGULARISERS[name](first, z) + REGULARISERS[name](second, first(z)))
        for name, strength in strengths.items()
    )
    total = penalty(model, z, strengths)
    assert total.item() == pytest.approx(expected.item(), rel=1e-9)
    total.backward()
    assert all(layer.coef.grad.isfinite().all() and layer.coef.grad.abs().sum() > 0 for layer in model.layers)


def test_penalties_without_strength_cost_nothing() -> None:
    model = hepkan.KAN([2, 1], degree=1)
    assert penalty(model, torch.zeros(3, 2), {"curvature": 0.0}).item() == 0
    assert penalty(model, torch.zeros(3, 2), {}).item() == 0


@pytest.mark.parametrize(
    ("model", "name", "words"),
    [
        (lambda: hepkan.MLP([2, 4, 1]), "l1", "need a KAN, however the model is a MLP"),
        (lambda: hepkan.MLP([2, 1]), "l1", "need a KAN, however the model is a MLP"),
        (lambda: hepkan.KAN([2, 1]), "entropi", "Unknown regulariser 'entropi'.* Did you mean 'entropy'"),
    ],
)
def test_impossible_penalties_are_refused(model: Callable[[], torch.nn.Module], name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        penalty(model(), torch.zeros(1, 2), {name: 1.0})


def test_entropy_of_a_dead_layer_has_a_finite_gradient() -> None:
    layer = KANLayer(3, 2, base="silu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    REGULARISERS["entropy"](layer, torch.randn(8, 3, generator=torch.Generator().manual_seed(0))).backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


def test_penalty_on_gates_needs_gates() -> None:
    model = hepkan.KAN([2, 2, 1], seed=0)
    with pytest.raises(UsageError, match=r"interpret\.sparsify"):
        penalty(model, torch.zeros(4, 2), {"gates": 0.1})
    assert penalty(model, torch.zeros(4, 2), {"gates": 0.0}).item() == 0.0
