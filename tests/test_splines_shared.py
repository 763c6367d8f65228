"""Layers whose edges share functions, in the compiled CPU kernel: against the dense layer of all their coefficients."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from hepkan.splines import cpu
from hepkan.splines import library as library_of
from hepkan.splines.basis import Layer, SharedLayer, kan_layer_reference, kan_stack_reference
from spline_cases import KNOTS, SHAPES, TOLERANCE, assert_close, dense_layer, make

if cpu.reason_unusable() is not None:
    pytest.skip(str(cpu.reason_unusable()), allow_module_level=True)

pytestmark = pytest.mark.usefixtures("library")


def make_shared(shape, degree, rank, kind="random", dtype=torch.float64):
    """Inputs, the layer without bias, and an upstream gradient."""
    x, knots, coef, weight, dy = make(shape, degree, kind, dtype)
    generator = torch.Generator().manual_seed(1)
    shapes = torch.randn(shape[1], coef.shape[1], rank, generator=generator, dtype=torch.float64).to(dtype)
    mix = torch.randn(shape[1], rank, shape[2], generator=generator, dtype=torch.float64).to(dtype)
    return x, SharedLayer(knots, mix, weight, None, shapes), dy


def found_of(x, layer, dy, degree, base):
    """Value and gradients to x, coef, shapes and, unless the base is `none`, its weights, by the kernel."""
    layers, tables = [layer], library_of.tables([layer], degree, x.dtype)
    y, hidden = library_of.forward(x, layers, tables, degree, base, keep=True)
    dx, [(dcoef, dweight, _, dshapes)] = library_of.backward(
        x, hidden, layers, tables, dy, degree, base, need_x=True, need_parameters=True
    )
    return [y, dx, dcoef, dshapes, *([] if base == "none" else [dweight])]


def expected_of(dense, x, layer, dy, degree, base):
    """The same of a layer with a spline on every edge."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, layer.coef, layer.shapes, layer.base_weight)]
    y = dense(leaves[0], layer.knots, torch.bmm(leaves[2], leaves[1]), leaves[3], degree, base)
    return [y.detach(), *torch.autograd.grad(y, leaves[: 3 if base == "none" else 4], dy)]


def double(layer):
    """The same layer in double precision."""
    return SharedLayer(*(None if t is None else t.double() for t in layer))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("degree", library_of.DEGREES)
def test_values_and_gradients_are_those_of_the_dense_layer(degree, dtype):
    for number, (shape, kind) in enumerate(itertools.product(SHAPES, KNOTS)):
        base, rank = list(library_of.BASES)[(len(kind) + shape[0]) % 3], (1, 2, 5)[number % 3]
        x, layer, dy = make_shared(shape, degree, rank, kind, dtype)
        found = found_of(x, layer, dy, degree, base)
        expected = expected_of(dense_layer, x.double(), double(layer), dy.double(), degree, base)
        assert_close(found, expected, dtype)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38, -3e38])
@pytest.mark.parametrize("intervals", [5, 200])
def test_a_bad_event_spoils_only_itself(bad, intervals):
    x, layer, dy = make_shared((100, 4, 9, intervals), 3, 2, dtype=torch.float32)
    clean = found_of(x, layer, dy, 3, "silu")
    x[17, 2] = bad
    found = found_of(x, layer, dy, 3, "silu")
    others = torch.arange(100) != 17
    for one, other in zip(found[:2], clean[:2], strict=True):
        assert torch.equal(one[others], other[others])
    for one, other in zip(found[2:], clean[2:], strict=True):
        assert torch.equal(one[[0, 1, 3]], other[[0, 1, 3]])
    if bad != bad:
        assert found[0][17].isnan().all() and found[1][17, 2].isnan() and all(one[2].isnan().all() for one in found[2:])


@pytest.mark.parametrize("base", library_of.BASES)
def test_nan_reaches_the_parameters_as_in_the_reference(base):
    x, layer, dy = make_shared((100, 4, 9, 5), 3, 1)
    x[:20] += 0.01
    x[17, 2], dy[40, 5] = float("nan"), float("nan")
    found = found_of(x, layer, dy, 3, base)
    expected = expected_of(kan_layer_reference, x, layer, dy, 3, base)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.isnan(), other.isnan()) and one.isnan().any()


def test_unsorted_or_bad_knots_never_leave_the_memory():
    x, layer, dy = make_shared((300, 3, 9, 120), 3, 2)
    for spoiled in (layer.knots.flip(1), torch.full_like(layer.knots, float("nan")), layer.knots * float("inf")):
        found = found_of(x, layer._replace(knots=spoiled.contiguous()), dy, 3, "silu")
        assert found[0].shape == (300, 9)


def stack_of(widths: list[int], shared: list[bool], dtype: torch.dtype) -> list[Layer | SharedLayer]:
    """Layers with biases that are leaves, some of which share functions."""
    layers: list[Layer | SharedLayer] = []
    for n_in, n_out, those in zip(widths[:-1], widths[1:], shared, strict=True):
        _, layer, dy = make_shared((1, n_in, n_out, 4), 3, 2, "uniform", dtype)
        scale = 0.3 / n_in**0.5
        numbers = [scale * layer.coef, scale * layer.base_weight, dy[0]]
        if not those:
            numbers[0] = torch.bmm(layer.shapes, numbers[0])
        leaves = [t.detach().requires_grad_() for t in (*numbers, *([layer.shapes] if those else []))]
        layers.append((SharedLayer if those else Layer)(layer.knots, *leaves))
    return layers


def step_of(x: Tensor, layers: list[Layer | SharedLayer], dy: Tensor) -> list[Tensor]:
    """Outputs and the gradients of all parameters, by a training step."""
    step = cpu.Step(x, layers, 3, "silu")
    step.y.grad = dy
    step.backward()
    found = [step.y.detach(), *(t.grad for layer in layers for t in layer[1:] if t is not None)]
    for layer in layers:
        for t in layer[1:]:
            t.grad = None
    return found


@pytest.mark.parametrize("shared", list(itertools.product([False, True], repeat=3)))
def test_a_step_of_a_mixed_stack_is_that_of_the_reference(shared):
    layers = stack_of([5, 40, 7, 1], list(shared), torch.float64)
    x, _, _, _, dy = make((2500, 5, 1, 4), 3)
    found = step_of(x, layers, dy)
    dense = [layer.full() if isinstance(layer, SharedLayer) else layer for layer in layers]
    y = kan_stack_reference(x, dense, 3, "silu")
    leaves = [t for layer in layers for t in layer[1:]]
    expected = [y.detach(), *torch.autograd.grad(y, leaves, dy)]
    assert_close(found, expected, torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(cpu.kan_stack(x, layers, 3, "silu"), found[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(cpu.kan_stack(x, layers, 3, "silu"), found[0], rtol=0, atol=1e-10)


def test_same_bits_for_any_number_of_threads():
    layers = stack_of([43, 60, 33, 8], [True, True, False], torch.float32)
    x, _, _, _, dy = make((5000, 43, 8, 4), 3, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(step_of(x, layers, dy))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, same) for one, same in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda layer: layer._replace(shapes=layer.shapes[:, :, :1]),
        lambda layer: layer._replace(shapes=layer.shapes[:2]),
        lambda layer: layer._replace(shapes=layer.shapes[:, :-1]),
        lambda layer: layer._replace(shapes=layer.shapes[..., 0]),
        lambda layer: layer._replace(shapes=layer.shapes.float()),
        lambda layer: layer._replace(coef=layer.coef[:, :, :5], base_weight=layer.base_weight[:, :4]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(spoil):
    x, layer, _ = make_shared((10, 3, 9, 5), 3, 2)
    with pytest.raises(ValueError, match=r"need|have to fit"):
        cpu.kan_stack(x, [spoil(layer)], 3, "silu")
