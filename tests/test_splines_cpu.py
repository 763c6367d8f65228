"""The compiled CPU kernel against a dense float64 Cox-de Boor layer, on every instruction set that runs here."""

from __future__ import annotations

import importlib.util
import itertools
import os
import threading

import numpy as np
import pytest
import torch

from hepkan.splines import cpu
from hepkan.splines import library as library_of
from hepkan.splines.basis import kan_layer_reference
from spline_cases import KNOTS, SHAPES, TOLERANCE, assert_close, dense_layer, gradients, make

if cpu.reason_unusable() is not None:
    pytest.skip(str(cpu.reason_unusable()), allow_module_level=True)



@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("degree", library_of.DEGREES)
def test_values_and_gradients_are_those_of_the_dense_layer(library, degree, dtype):
    for shape, kind in itertools.product(SHAPES, KNOTS):
        base = list(library_of.BASES)[(len(kind) + shape[0]) % 3]
        arguments = make(shape, degree, kind, dtype)
        found = gradients(cpu.kan_layer, *arguments, degree, base)
        expected = gradients(dense_layer, *(a.double() for a in arguments), degree, base)
        assert_close(found, expected, dtype)


@pytest.mark.parametrize("base", library_of.BASES)
def test_base_function_far_from_zero(library, base):
    _, knots, coef, weight, _ = make((1, 1, 3, 4), 3, dtype=torch.float32)
    x = torch.tensor([[-1e30], [-3e9], [-95.0], [-20.0], [0.0], [15.0], [95.0], [3e9], [1e30]])
    arguments = (x, knots, torch.zeros_like(coef), weight, torch.ones(9, 3))
    found = gradients(cpu.kan_layer, *arguments, 3, base)
    expected = gradients(dense_layer, *(a.double() for a in arguments), 3, base)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-5, atol=1e-7)


def test_constant_column_gives_finite_numbers(library):
    x, _, coef, weight, dy = make((30, 2, 3, 4), 3)
    knots = torch.zeros(2, 11, dtype=torch.float64)
    assert all(result.isfinite().all() for result in gradients(cpu.kan_layer, x, knots, coef, weight, dy, 3, "silu"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38, -3e38])
@pytest.mark.parametrize("intervals", [5, 200])
def test_a_bad_event_spoils_only_itself(library, bad, intervals):
    x, knots, coef, weight, dy = make((100, 4, 9, intervals), 3, dtype=torch.float32)
    clean = gradients(cpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")
    x[17, 2] = bad
    y, dx, dcoef, dweight = gradients(cpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")
    others = torch.arange(100) != 17
    assert torch.equal(y[others], clean[0][others]) and torch.equal(dx[others], clean[1][others])
    assert torch.equal(dcoef[[0, 1, 3]], clean[2][[0, 1, 3]]) and torch.equal(dweight[[0, 1, 3]], clean[3][[0, 1, 3]])
    if bad != bad:
        assert y[17].isnan().all() and dx[17, 2].isnan()
        assert dcoef[2].isnan().all() and dweight[2].isnan().all()


@pytest.mark.parametrize("base", library_of.BASES)
def test_nan_reaches_the_parameters_as_in_the_reference(library, base):
    x, knots, coef, weight, dy = make((100, 4, 9, 5), 3)
    x[:20] += 0.01
    x[17, 2], dy[40, 5] = float("nan"), float("nan")
    found = gradients(cpu.kan_layer, x, knots, coef, weight, dy, 3, base)
    expected = gradients(kan_layer_reference, x, knots, coef, weight, dy, 3, base)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.isnan(), other.isnan()) and one.isnan().any() and not one.isnan().all()


def test_unsorted_or_bad_knots_never_leave_the_memory(library):
    x, knots, coef, weight, dy = make((300, 3, 9, 120), 3)
    for spoiled in (knots.flip(1), torch.full_like(knots, float("nan")), knots * float("inf")):
        results = gradients(cpu.kan_layer, x, spoiled.contiguous(), coef, weight, dy, 3, "silu")
        assert results[0].shape == (300, 9)


@pytest.mark.parametrize("shape", [(5000, 43, 30, 5), (3000, 3, 100, 20)])
def test_same_bits_for_any_number_of_threads(library, shape):
    arguments = make(shape, 3, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(gradients(cpu.kan_layer, *arguments, 3, "silu"))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


def test_python_threads_do_not_disturb_each_other():
    cases = [make((2000, 20, 30, 5), 3, seed=n) for n in range(4)]
    expected = [gradients(cpu.kan_layer, *case, 3, "silu") for case in cases]
    found = [None] * 4

    def work(n):
        for _ in range(5):
            found[n] = gradients(cpu.kan_layer, *cases[n], 3, "silu")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_computes_the_same():
    x, knots, coef, weight, _ = make((4000, 20, 30, 5), 3)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = cpu.kan_layer(x, knots, coef, weight, 3, "silu").numpy()
    child = os.fork()
    if child == 0:  # compared by NumPy, for OpenMP inside torch hangs in a forked child
        os._exit(0 if np.array_equal(cpu.kan_layer(x, knots, coef, weight, 3, "silu").numpy(), expected) else 1)
    torch.set_num_threads(before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_any_strides_give_the_same(library):
    x, knots, coef, weight, dy = make((70, 6, 9, 5), 3)
    expected = gradients(cpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")
    columns = x.t().contiguous().t()
    sparse = torch.full((140, 18), float("nan"), dtype=x.dtype)[::2, ::3].copy_(x)
    rows = coef.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    for other in (columns, sparse):
        found = gradients(cpu.kan_layer, other, knots, rows, weight.t().contiguous().t(), dy, 3, "silu")
        assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    leaf = coef.clone().requires_grad_()
    cpu.kan_layer(x, knots, leaf, weight, 3, "silu").sum().backward()
    ones = gradients(cpu.kan_layer, x, knots, coef, weight, torch.ones_like(dy), 3, "silu")
    assert torch.equal(leaf.grad, ones[2])


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_each_gradient_alone_is_the_same(library, wanted):
    x, knots, coef, weight, dy = make((70, 6, 9, 5), 3)
    expected = gradients(cpu.kan_layer, x, knots, coef, weight, dy, 3, "silu")[1:]
    leaves = [t.clone().requires_grad_(n in wanted) for n, t in enumerate((x, coef, weight))]
    y = cpu.kan_layer(leaves[0], knots, leaves[1], leaves[2], 3, "silu")
    found = torch.autograd.grad(y, [leaves[n] for n in wanted], dy)
    assert all(torch.equal(one, expected[n]) for n, one in zip(wanted, found, strict=True))


def test_a_missing_base_weight_is_zero(library):
    x, knots, coef, weight, _ = make((70, 6, 9, 5), 3)
    without = cpu.kan_layer(x, knots, coef, None, 3, "silu")
    assert torch.equal(without, cpu.kan_layer(x, knots, coef, weight * 0, 3, "silu"))


@pytest.mark.parametrize("degree", library_of.DEGREES)
def test_gradcheck(library, degree):
    x, knots, coef, weight, _ = make((5, 3, 4, 4), degree, "uniform", seed=3)
    x = x[2:] + 0.01
    leaves = [t.requires_grad_() for t in (x, coef, weight)]
    assert torch.autograd.gradcheck(lambda x, c, w: cpu.kan_layer(x, knots, c, w, degree, "silu"), leaves)


def test_second_derivatives():
    x, knots, coef, weight, _ = make((3, 3, 4, 4), 3, "uniform", seed=3)
    leaves = [t.requires_grad_() for t in (x + 0.01, coef, weight)]
    assert torch.autograd.gradgradcheck(lambda x, c, w: cpu.kan_layer(x, knots, c, w, 3, "silu"), leaves)


def test_only_input_and_parameters_are_kept():
    x, knots, coef, weight, _ = make((200, 6, 9, 5), 3)
    coef.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        cpu.kan_layer(x, knots, coef, weight, 3, "silu")
    assert set(kept) <= {t.data_ptr() for t in (x, knots, coef, weight)}


def test_knots_changed_in_place_are_seen():
    x, knots, coef, weight, _ = make((50, 3, 4, 4), 3)
    cpu.kan_layer(x, knots, coef, weight, 3, "silu")
    knots.numpy()[:] *= 2
    found = cpu.kan_layer(x, knots, coef, weight, 3, "silu")
    assert_close([found], [dense_layer(x, knots, coef, weight, 3, "silu")], torch.float64)


def test_the_torch_reference_agrees():
    for degree, base in itertools.product(library_of.DEGREES, library_of.BASES):
        arguments = make((100, 5, 9, 6), degree)
        arguments[0][:20] += 0.01
        expected = gradients(kan_layer_reference, *arguments, degree, base)
        assert_close(gradients(cpu.kan_layer, *arguments, degree, base), expected, torch.float64)


def test_reasons_against_a_call():
    x = torch.zeros(2, 3)
    assert cpu.supports(x, 3, "silu") is None
    assert "float16" in cpu.supports(x.half(), 3, "silu")
    assert "meta" in cpu.supports(x.to("meta"), 3, "silu")
    assert "degree=6" in cpu.supports(x, 6, "silu")
    assert "'relu'" in cpu.supports(x, 3, "relu")


def test_arguments_that_do_not_fit_are_refused():
    x, knots, coef, weight, _ = make((10, 3, 4, 5), 3)
    with pytest.raises(ValueError, match="degree"):
        cpu.kan_layer(x, knots, coef, weight, 7, "silu")
    with pytest.raises(ValueError, match="have to fit"):
        cpu.kan_layer(x, knots, coef, weight, 2, "silu")
    with pytest.raises(ValueError, match="have to fit"):
        cpu.kan_layer(x[:, :2], knots, coef, weight, 3, "silu")
    with pytest.raises(ValueError, match="dimensions"):
        cpu.kan_layer(x[0], knots, coef, weight, 3, "silu")
    with pytest.raises(ValueError, match=r"base_weight needs the shape \(3, 4\)"):
        cpu.kan_layer(x, knots, coef, weight.t(), 3, "silu")
    with pytest.raises(ValueError, match="same type"):
        cpu.kan_layer(x, knots, coef.float(), weight, 3, "silu")


def test_an_installation_without_the_kernel_says_why(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    library, reason = library_of.choose.__wrapped__()
    assert library is None and "compiler" in reason
    monkeypatch.setattr(library_of, "choose", lambda: (library, reason))
    assert cpu.reason_unusable() == reason and cpu.instruction_set() is None
    with pytest.raises(ValueError, match="compiler"):
        cpu.kan_layer(*make((10, 3, 4, 5), 3)[:4], 3, "silu")
