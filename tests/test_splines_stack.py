"""Stacks of layers: one call of the kernel against the chain of reference layers, and the roads that lead to it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import hepkan
from hepkan.errors import UsageError
from hepkan.splines import cpu
from hepkan.splines.basis import Layer, kan_layer_reference, kan_stack_reference
from hepkan.splines.ops import kan_stack, kan_step

needs_kernel = pytest.mark.skipif(cpu.reason_unusable() is not None, reason=str(cpu.reason_unusable()))


def stack(
    widths: Sequence[int], intervals: Sequence[int], degree: int, dtype: torch.dtype, seed: int = 0
) -> list[Layer]:
    """Layers on uneven knots."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    layers = []
    for n_in, n_out, grid in zip(widths[:-1], widths[1:], intervals, strict=True):
        steps = torch.rand(n_in, grid + 2 * degree + 1, generator=generator, dtype=torch.float64) + 0.2
        knots = 4 * steps.cumsum(dim=1) / steps.sum(dim=1, keepdim=True) - 2
        coef, base = 0.3 * normal(n_in, grid + degree, n_out), 0.3 * normal(n_in, n_out)
        layers.append(Layer(*(t.to(dtype) for t in (knots, coef, base, normal(n_out)))))
    return layers


def gradients(function, x: Tensor, layers: list[Layer], dy: Tensor, *how) -> list[Tensor]:
    """Outputs, then gradients to x, coefficients, base weights and biases."""
    x = x.clone().requires_grad_()
    leaves = [
        layer._replace(**{k: getattr(layer, k).clone().requires_grad_() for k in layer._fields[1:]}) for layer in layers
    ]
    y = function(x, leaves, *how)
    return [y.detach(), *torch.autograd.grad(y, [x, *(t for layer in leaves for t in layer[1:])], dy)]


@needs_kernel
@pytest.mark.parametrize("degree", cpu.DEGREES)
@pytest.mark.parametrize("batch", [0, 1, 63, 64, 65, 300])
def test_a_stack_is_the_chain_of_its_layers(batch: int, degree: int) -> None:
    layers = stack([5, 17, 33, 2], [4, 20, 80], degree, torch.float64)
    x = torch.randn(batch, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    dy = torch.randn(batch, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = gradients(cpu.kan_stack, x, layers, dy, degree, "silu")
    expected = gradients(kan_stack_reference, x, layers, dy, degree, "silu")
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(
            one, other, rtol=0, atol=1e-11 * max(1.0, float(other.abs().max()) if other.numel() else 1)
        )


@needs_kernel
def test_threads_do_not_change_a_bit() -> None:
    layers = stack([7, 30, 3], [5, 5], 3, torch.float32)
    x = torch.randn(20000, 7, generator=torch.Generator().manual_seed(1))
    dy, before, results = torch.ones(20000, 3), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(gradients(cpu.kan_stack, x, layers, dy, 3, "silu"))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


@needs_kernel
@pytest.mark.parametrize("intervals", [1, 12, 13, 20, 62, 63, 200])
@pytest.mark.parametrize("kind", ["even", "uneven", "crowded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_at_and_beside_knots(intervals: int, kind: str, dtype: torch.dtype) -> None:
    """Every way of finding the cell puts a knot and its two neighbours among the numbers on the right side."""
    generator = torch.Generator().manual_seed(intervals)
    steps = torch.arange(intervals + 7, dtype=torch.float64) - 3
    knots = {
        "even": 2 * steps / intervals - 1,
        "uneven": torch.randn(intervals + 7, generator=generator, dtype=torch.float64).sort().values,
        "crowded": (torch.randn(intervals + 7, generator=generator, dtype=torch.float64) ** 5).sort().values,
    }[kind].to(dtype)[None]
    at = knots[0, 3:-3]
    up, down = torch.full_like(at, torch.inf), torch.full_like(at, -torch.inf)
    x = torch.cat([at, torch.nextafter(at, up), torch.nextafter(at, down)])[:, None]
    coef = torch.randn(1, intervals + 3, 2, generator=generator, dtype=torch.float64)
    found = cpu.kan_layer(x, knots, coef.to(dtype), None, 3, "none").double()
    expected = kan_layer_reference(x.double(), knots.double(), coef.to(dtype).double(), None, 3, "none")
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 if dtype == torch.float32 else 1e-13)


@needs_kernel
def test_a_step_has_the_gradients_of_autograd() -> None:
    layers = stack([4, 9, 2], [5, 5], 3, torch.float32)
    x, dy = torch.randn(100, 4, generator=torch.Generator().manual_seed(1)), torch.ones(100, 2)
    leaves = [Layer(q.knots, *(t.clone().requires_grad_() for t in q[1:])) for q in layers]
    expected = gradients(cpu.kan_stack, x, layers, dy, 3, "silu")
    leaves[0].coef.requires_grad_(False)
    for times in (1, 2):
        step = kan_step(x, leaves, 3, "silu", "cpu")
        assert step is not None and torch.equal(step.y, expected[0])
        (step.y * dy).sum().backward()
        step.backward()
        found = [t.grad for q in leaves for t in q[1:]]
        assert found[0] is None
        for one, other in zip(found[1:], expected[3:], strict=True):
            torch.testing.assert_close(one, times * other)
    assert kan_step(x, leaves, 3, "silu", "torch") is None


@needs_kernel
def test_derivatives_of_a_stack() -> None:
    first, second = stack([3, 4, 2], [4, 4], 3, torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    leaves = [t.requires_grad_() for t in (x, *first[1:], *second[1:])]

    def function(x: Tensor, *flat: Tensor) -> Tensor:
        return cpu.kan_stack(x, [Layer(first.knots, *flat[:3]), Layer(second.knots, *flat[3:])], 3, "silu")

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@needs_kernel
@pytest.mark.parametrize("bias", [True, False])
def test_the_operators_keep_the_contract_of_torch(bias: bool) -> None:
    layers = stack([3, 4, 2], [4, 4], 3, torch.float64)
    columns = [[getattr(q, name).requires_grad_(name != "knots") for q in layers] for name in Layer._fields]
    if not bias:
        columns[3] = [torch.empty(0, dtype=torch.float64)] * 2
    x = torch.randn(70, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    torch.library.opcheck(torch.ops.hepkan.kan_stack.default, (x, *columns, 3, "silu"))


@needs_kernel
def test_torch_compile_keeps_the_kernel() -> None:
    model = hepkan.KAN([3, 8, 8, 1], input_map="standard", backend="cpu")
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    model(x).sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    y = compiled(x)
    torch.testing.assert_close(y, model(x))
    y.sum().backward()
    for parameter, one in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, one)


def test_backends_agree_on_networks_of_any_make() -> None:
    x = 2 * torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    for base in ("silu", "linear", "none"):
        one, other = (hepkan.KAN([3, 8, 2], base=base, input_map="none", backend=b) for b in ("auto", "torch"))
        torch.testing.assert_close(one(x), other(x), atol=2e-6, rtol=0)
    with pytest.raises(UsageError, match="Did you mean 'torch'"):
        kan_stack(x, [layer.numbers() for layer in one.layers], 3, "silu", "troch")


def test_copies_compute_the_same() -> None:
    model = hepkan.KAN([3, 8, 1])
    model.fit_inputs(torch.randn(500, 3, generator=torch.Generator().manual_seed(1)))
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert torch.equal(twin(x), model(x))
        twin.layers[0].coef.data.zero_()
        assert not torch.equal(twin(x), model(x))
