"""The Triton kernel against the float64 reference: on a CUDA device, else under Triton's interpreter on the CPU.

`test_splines_triton.py` runs this file in a process of its own, for the interpreter has to be chosen before Triton is
imported. By hand: `TRITON_INTERPRET=1 python -m pytest tests/triton_cases.py`.
"""

from __future__ import annotations

import itertools
import os

import pytest
import torch

import spline_cases
from hepkan.splines import ops, triton_gpu
from hepkan.splines.basis import BASES, Layer, kan_layer_reference, kan_stack_reference
from spline_cases import KNOTS, TOLERANCE, assert_close, gradients

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
# batch, inputs, outputs, intervals: one of everything; blocks not full; outputs or rows over several blocks
SHAPES = [(35, 3, 5, 4), (33, 5, 17, 20), (1, 1, 1, 1), (66, 1, 3, 130)]

pytestmark = [
    # NumPy, which interprets here, warns of inf * 0 and overflow, and of the old ways of some interpreters.
    pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="needs CUDA or TRITON_INTERPRET=1"),
]


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Fill new memory with NaN, so that what a kernel leaves unwritten is seen."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **options: empty(*size, **options).fill_(float("nan")))


def make(shape, degree, kind="random", dtype=torch.float64, seed=0):
    """As `spline_cases.make`, on the device; no point at an end, where autograd halves the reference's slope."""
    x, knots, *others = spline_cases.make(shape, degree, kind, dtype, seed)
    x = torch.where((x == knots[:, degree]) | (x == knots[:, -degree - 1]), x + 0.01, x)
    return [t.to(DEVICE) for t in (x, knots, *others)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("degree", triton_gpu.DEGREES)
def test_values_and_gradients_are_those_of_the_reference(degree, dtype):
    for n, shape in enumerate(SHAPES if dtype == torch.float32 else SHAPES[:2]):
        kind, base = KNOTS[(n + degree) % len(KNOTS)], BASES[(n + degree) % len(BASES)]
        arguments = make(shape, degree, kind, dtype)
        expected = gradients(kan_layer_reference, *(a.double() for a in arguments), degree, base)
        assert_close(gradients(triton_gpu.kan_layer, *arguments, degree, base), expected, dtype)


@pytest.mark.parametrize("kind", KNOTS)
def test_cubic_splines_on_all_kinds_of_knots(kind):
    for base in BASES:
        arguments = make((40, 3, 5, 6), 3, kind, torch.float32)
        expected = gradients(kan_layer_reference, *(a.double() for a in arguments), 3, base)
        assert_close(gradients(triton_gpu.kan_layer, *arguments, 3, base), expected, torch.float32)


def test_float32_is_accurate_next_to_knots_and_far_from_zero():
    generator = torch.Generator().manual_seed(0)
    knots = 100 + torch.arange(-3, 24) / 10
    points = torch.cat([knots[3:24], knots[4:23].nextafter(knots[3:22]), 100 + 2 * torch.rand(30, generator=generator)])
    x, knots, coef = points[:, None].to(DEVICE), knots[None].to(DEVICE), torch.eye(23)[None].to(DEVICE)
    y = triton_gpu.kan_layer(x, knots, coef, None, 3, "none")
    expected = kan_layer_reference(x.double(), knots.double(), coef.double(), None, 3, "none")
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("kind", ["uniform", "clamped"])
def test_the_edges_have_the_slope_of_the_continuation(kind):
    _, knots, coef, weight, dy = make((2, 3, 5, 4), 3, kind)
    edges = torch.stack([knots[:, 3], knots[:, -4]])
    beyond = edges + torch.tensor([[-1.0], [1.0]], dtype=edges.dtype, device=DEVICE)
    at = gradients(triton_gpu.kan_layer, edges, knots, coef, weight, dy, 3, "none")
    outside = gradients(triton_gpu.kan_layer, beyond, knots, coef, weight, dy, 3, "none")
    assert_close([at[1]], [outside[1]], torch.float64)


@pytest.mark.parametrize("base", BASES)
def test_base_function_far_from_zero(base):
    _, knots, coef, weight, _ = make((1, 1, 3, 4), 3, dtype=torch.float32)
    x = torch.tensor([[-1e30], [-3e9], [-95.0], [-20.0], [0.0], [15.0], [95.0], [3e9], [1e30]], device=DEVICE)
    arguments = (x, knots, torch.zeros_like(coef), weight, torch.ones(9, 3, device=DEVICE))
    found = gradients(triton_gpu.kan_layer, *arguments, 3, base)
    expected = gradients(kan_layer_reference, *(a.double() for a in arguments), 3, base)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -3e38])
def test_a_bad_event_spoils_only_itself(bad):
    x, knots, coef, weight, dy = make((50, 4, 9, 5), 3, dtype=torch.float32)
    clean = gradients(triton_gpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")
    x[17, 2] = bad
    y, dx, dcoef, dweight = gradients(triton_gpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")
    others = torch.arange(50, device=DEVICE) != 17
    assert torch.equal(y[others], clean[0][others]) and torch.equal(dx[others], clean[1][others])
    assert torch.equal(dcoef[[0, 1, 3]], clean[2][[0, 1, 3]]) and torch.equal(dweight[[0, 1, 3]], clean[3][[0, 1, 3]])
    if bad != bad:
        assert y[17].isnan().all() and dx[17, 2].isnan()
        assert dcoef[2].isnan().all() and dweight[2].isnan().all()


@pytest.mark.parametrize("base", BASES)
def test_nan_reaches_the_parameters_as_in_the_reference(base):
    x, knots, coef, weight, dy = make((50, 4, 9, 5), 3)
    x[17, 2], dy[40, 5] = float("nan"), float("nan")
    found = gradients(triton_gpu.kan_layer, x, knots, coef, weight, dy, 3, base)
    expected = gradients(kan_layer_reference, x, knots, coef, weight, dy, 3, base)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.isnan(), other.isnan()) and one.isnan().any() and not one.isnan().all()


def test_unsorted_or_bad_knots_never_leave_the_memory():
    x, knots, coef, weight, dy = make((40, 3, 9, 30), 3)
    for spoiled in (knots.flip(1), torch.full_like(knots, float("nan")), knots * float("inf")):
        results = gradients(triton_gpu.kan_layer, x, spoiled.contiguous(), coef, weight, dy, 3, "silu")
        assert results[0].shape == (40, 9)


def test_a_grid_that_is_a_point_gives_finite_numbers():
    x, _, coef, weight, dy = make((30, 2, 3, 4), 3)
    knots = torch.zeros(2, 11, dtype=torch.float64, device=DEVICE)
    results = gradients(triton_gpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")
    assert all(result.isfinite().all() for result in results)


def test_sizes_of_zero():
    for shape in [(0, 2, 3, 5), (4, 0, 3, 5), (4, 2, 0, 5)]:
        x, knots, coef, weight, dy = make(shape, 3)
        y, dx, dcoef, dweight = gradients(triton_gpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")
        assert y.shape == (shape[0], shape[2]) and not y.any() and not dx.any()
        assert dcoef.shape == coef.shape and not dcoef.any() and not dweight.any()


def test_events_in_parts_give_the_reference_and_the_same_bits_each_time():
    arguments = make((700, 2, 4, 5), 2, dtype=torch.float32)
    first = gradients(triton_gpu.kan_layer, *arguments, 2, "silu")
    again = gradients(triton_gpu.kan_layer, *arguments, 2, "silu")
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert_close(first, gradients(kan_layer_reference, *(a.double() for a in arguments), 2, "silu"), torch.float32)


def test_any_strides_give_the_same():
    x, knots, coef, weight, dy = make((30, 4, 5, 5), 2)
    expected = gradients(triton_gpu.kan_layer, x, knots, coef, weight, dy, 2, "silu")
    columns = x.t().contiguous().t()
    sparse = torch.full((60, 12), float("nan"), dtype=x.dtype, device=DEVICE)[::2, ::3].copy_(x)
    rows = coef.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    for other in (columns, sparse):
        found = gradients(triton_gpu.kan_layer, other, knots, rows, weight.t().contiguous().t(), dy, 2, "silu")
        assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    leaf = coef.clone().requires_grad_()
    triton_gpu.kan_layer(x, knots, leaf, weight, 2, "silu").sum().backward()
    ones = gradients(triton_gpu.kan_layer, x, knots, coef, weight, torch.ones_like(dy), 2, "silu")
    assert torch.equal(leaf.grad, ones[2])


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_each_gradient_alone_is_the_same(wanted):
    x, knots, coef, weight, dy = make((40, 3, 5, 5), 3)
    expected = gradients(triton_gpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")[1:]
    leaves = [t.clone().requires_grad_(n in wanted) for n, t in enumerate((x, coef, weight))]
    y = triton_gpu.kan_layer(leaves[0], knots, leaves[1], leaves[2], 3, "silu")
    found = torch.autograd.grad(y, [leaves[n] for n in wanted], dy)
    assert all(torch.equal(one, expected[n]) for n, one in zip(wanted, found, strict=True))


def test_a_missing_base_weight_is_zero():
    x, knots, coef, weight, _ = make((40, 3, 5, 5), 3)
    without = triton_gpu.kan_layer(x, knots, coef, None, 3, "silu")
    assert torch.equal(without, triton_gpu.kan_layer(x, knots, coef, weight * 0, 3, "silu"))


def test_a_stack_with_and_without_bias_is_the_reference():
    x, *first, _ = make((40, 3, 5, 4), 3)
    _, *second, dy = make((40, 5, 2, 6), 3, seed=1)
    bias = torch.randn(5, dtype=x.dtype, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    results = []
    for stack in (triton_gpu.kan_stack, kan_stack_reference):
        leaves = [t.clone().requires_grad_() for t in (x, *first[1:], bias, *second[1:])]
        layers = [Layer(first[0], *leaves[1:4]), Layer(second[0], *leaves[4:])]
        y = stack(leaves[0], layers, 3, "silu")
        results.append([y.detach(), *torch.autograd.grad(y, leaves, dy)])
    assert_close(*results, torch.float64)


@pytest.mark.parametrize("degree", triton_gpu.DEGREES)
def test_gradcheck(degree):
    x, knots, coef, weight, _ = make((3, 2, 2, 3), degree, "uniform", seed=3)
    leaves = [t.requires_grad_() for t in (x + 0.01, coef, weight)]
    check = torch.autograd.gradcheck
    assert check(lambda x, c, w: triton_gpu.kan_layer(x, knots, c, w, degree, "silu"), leaves, fast_mode=True)


def test_second_derivatives():
    x, knots, coef, weight, _ = make((2, 2, 2, 3), 3, "uniform", seed=3)
    leaves = [t.requires_grad_() for t in (x + 0.01, coef, weight)]
    check = torch.autograd.gradgradcheck
    assert check(lambda x, c, w: triton_gpu.kan_layer(x, knots, c, w, 3, "silu"), leaves, fast_mode=True)


def test_only_input_and_parameters_are_kept():
    x, knots, coef, weight, _ = make((40, 3, 5, 5), 3)
    coef.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        triton_gpu.kan_layer(x, knots, coef, weight, 3, "silu")
    assert set(kept) <= {t.data_ptr() for t in (x, knots, coef, weight)}


def test_knots_changed_in_place_are_seen():
    x, knots, coef, weight, _ = make((40, 3, 4, 4), 3)
    triton_gpu.kan_layer(x, knots, coef, weight, 3, "silu")
    knots.data *= 2
    found = triton_gpu.kan_layer(x, knots, coef, weight, 3, "silu")
    assert_close([found], [kan_layer_reference(x, knots, coef, weight, 3, "silu")], torch.float64)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(half):
    x, knots, coef, weight, dy = make((40, 3, 5, 5), 3, dtype=torch.float32)
    expected = gradients(triton_gpu.kan_layer, x.to(half).float(), knots, coef, weight, dy, 3, "silu")
    y, dx, *parameters = gradients(triton_gpu.kan_layer, x.to(half), knots, coef, weight, dy, 3, "silu")
    assert torch.equal(y, expected[0]) and torch.equal(dx, expected[1].to(half))
    assert all(torch.equal(one, other) for one, other in zip(parameters, expected[2:], strict=True))
    everything = triton_gpu.kan_layer(x.to(half), knots.to(half), coef.to(half), weight.to(half), 3, "silu")
    assert everything.dtype == half


def test_arguments_that_do_not_fit_are_refused():
    x, knots, coef, weight, _ = make((10, 3, 4, 5), 3)
    with pytest.raises(ValueError, match="degrees 1 to 5"):
        triton_gpu.kan_layer(x, knots, coef, weight, 7, "silu")
    with pytest.raises(ValueError, match="have to fit"):
        triton_gpu.kan_layer(x, knots, coef, weight, 2, "silu")
    with pytest.raises(ValueError, match="have to fit"):
        triton_gpu.kan_layer(x[:, :2], knots, coef, weight, 3, "silu")
    with pytest.raises(ValueError, match="dimensions"):
        triton_gpu.kan_layer(x[0], knots, coef, weight, 3, "silu")
    with pytest.raises(ValueError, match=r"base_weight needs the shape \(3, 4\)"):
        triton_gpu.kan_layer(x, knots, coef, weight.t(), 3, "silu")
    with pytest.raises(ValueError, match="same type"):
        triton_gpu.kan_layer(x, knots, coef.float(), weight, 3, "silu")


@pytest.mark.skipif(not INTERPRETED, reason="about the interpreter")
def test_the_interpreter_is_never_chosen():
    x = torch.zeros(2, 3)
    assert triton_gpu.supports(x, 3, "silu") is not None
    assert ops.chosen() != "triton"


@pytest.mark.skipif(INTERPRETED, reason="about CUDA")
def test_cuda_is_chosen_and_no_nan_comes_from_a_graph():
    assert ops.chosen("cuda") == "triton"
    x, knots, coef, weight, _ = make((1000, 43, 30, 5), 3, dtype=torch.float32)
    expected = ops.kan_layer(x, knots, coef, weight, 3)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = ops.kan_layer(x, knots, coef, weight, 3)
    graph.replay()
    assert torch.equal(y, expected)


@pytest.mark.skipif(INTERPRETED, reason="about CUDA")
def test_the_sizes_of_real_networks():
    for (inputs, outputs), grid in itertools.product([(43, 30), (100, 100), (30, 1), (24, 8)], [5, 50]):
        arguments = make((5000, inputs, outputs, grid), 3, dtype=torch.float32)
        expected = gradients(kan_layer_reference, *(a.double() for a in arguments), 3, "silu")
        assert_close(gradients(triton_gpu.kan_layer, *arguments, 3, "silu"), expected, torch.float32)
