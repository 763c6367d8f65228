"""The Triton kernel for CUDA: per event and input only `degree + 1` rows of coefficients are touched in forward.

Backward keeps only the layers' inputs and parameters; the second derivative goes through the plain-torch reference.
Nothing is added atomically: events are cut into parts, one program sums one part of them, and then the parts are added
up. How many there are depends on sizes only, so a device gives the same bits each time. Nothing is cached, so knots may
change in place.

**Precision.** float32 and float64 are computed as they are, never in TF32. float16 and bfloat16, which autocast makes,
are computed in float32; the result has the type of the coefficients.

Triton's interpreter (the environment variable `TRITON_INTERPRET=1`, set before Triton is imported) runs `kan_layer`
and `kan_stack` on the CPU. It is a tool for tests and very slow: `supports` refuses tensors on the CPU all the same, so
that `ops` never chooses it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hepkan.splines.basis import Layer
from hepkan.splines.cpu import _check, _differentiable

BASES = {"none": 0, "linear": 1, "silu": 2}
DEGREES = range(1, 6)
COMPUTED_IN = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}

TRITON = (3, 5)  # earlier ones have no matrix product in float64

# Sizes of a program's tiles, powers of two. By what ptxas reports for sm_80 and sm_90 they keep all numbers of float32
# in registers; nothing was tuned on a GPU.
EVENTS, INPUTS = 32, 4  # forward and gradient to x: 128, as many as threads; with fewer Triton repeats the basis
FORWARD_OUTPUTS = 16  # the basis is evaluated anew for every block of outputs
BACKWARD_OUTPUTS = 8
DOT_EVENTS, DOT_ROWS, DOT_OUTPUTS = 64, 32, 32  # gradient to the parameters: the largest matrix product
DOT = 16  # the least size of a matrix product in Triton
PART_EVENTS = 256  # a part of the events has at least so many
PROGRAMS = 1024  # no more parts than it takes for so many programs, which also bounds the memory of their sums
LAUNCH = {"num_warps": 4, "enable_fp_fusion": True}


@functools.cache
def reason_unusable() -> str | None:
    """Why the kernel cannot be used on this machine, None when it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; install it with: pip install 'hepkan[gpu]'"
    if not torch.cuda.is_available():
        return "there is no CUDA device that torch can use"
    import triton

    version = triton.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < TRITON:
        needed = ".".join(map(str, TRITON))
        return f"Triton {needed} or later is needed, however: {version}; install it with: pip install 'hepkan[gpu]'"
    return None


def supports(x: Tensor, degree: int, base: str) -> str | None:
    """Why this call cannot be served, None when it can."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return "the triton kernel cannot be traced or compiled by torch"
    if x.device.type != "cuda":
        return f"the triton kernel needs tensors on a CUDA device, however: x.device={x.device}"
    return reason_unusable() or _unserved(x, degree, base)


def kan_layer(x: Tensor, knots: Tensor, coef: Tensor, base_weight: Tensor | None, degree: int, base: str) -> Tensor:
    r"""Sum over inputs of base function and spline, without bias; the stack of one layer.

    .. math:: y_o = \sum_i [ b(x_i) W_{io} + \sum_m B_m(x_i) C_{imo} ]

    **Shape** x: `(batch, in)`, knots: `(in, G + 2 degree + 1)`, coef: `(in, G + degree, out)`,
    base_weight: `(in, out)` or None, result: `(batch, out)`.

    Raises:
        ValueError: as `kan_stack`.
    """
    return kan_stack(x, [Layer(knots, coef, base_weight)], degree, base)


def kan_stack(x: Tensor, layers: Sequence[Layer], degree: int, base: str) -> Tensor:
    """Evaluate layers one after another.

    **Shape** x: `(batch, in)` of the first layer, any strides, result: `(batch, out)` of the last.

    Args:
        x: the inputs.
        layers: see `basis.Layer`; no gradient flows to the knots.
        degree: 1 to 5.
        base: `silu`, `linear` or `none`.

    Raises:
        ValueError: shapes, types or devices do not fit, or `supports` has a reason against the call.
    """
    reason = _unserved(x, degree, base) if x.device.type == "cpu" and interpreted() else supports(x, degree, base)
    if reason is not None:
        raise ValueError(reason)
    result_type = layers[-1].coef.dtype
    x = x.to(COMPUTED_IN[x.dtype])
    for knots, *parameters in layers:
        coef, base_weight, bias = (None if t is None else t.to(COMPUTED_IN.get(t.dtype, t.dtype)) for t in parameters)
        layer = Layer(knots, coef, None if base == "none" else base_weight, bias)  # type: ignore[arg-type]
        _check(x, x.shape[1] if x.dim() == 2 else None, layer, degree)
        x = _Layer.apply(degree, base, x, *layer)  # type: ignore[no-untyped-call]
    return x.to(result_type)


def _unserved(x: Tensor, degree: int, base: str) -> str | None:
    """Why the kernel can compute this on no device."""
    if x.dtype not in COMPUTED_IN:
        return f"the triton kernel needs a floating type of at most 64 bits, however: x.dtype={x.dtype}"
    if degree not in DEGREES:
        return f"the triton kernel is written for degrees 1 to 5, however: degree={degree}"
    if base not in BASES:
        return f"the triton kernel knows the base functions {', '.join(BASES)}, however: base={base!r}"
    return None


@functools.cache
def _kernels() -> ModuleType:
    """The device code; not imported before it is needed, for it imports Triton."""
    from hepkan.splines import triton_kernels

    return triton_kernels


@functools.cache
def interpreted() -> bool:
    """Whether Triton's interpreter is on, so that tensors on the CPU are served by a direct call."""
    installed = importlib.util.find_spec("triton") is not None
    return installed and type(_kernels().forward).__name__ == "InterpretedFunction"


class _Layer(torch.autograd.Function):
    """One autograd rule around the launches for a layer."""

    @staticmethod
    def forward(ctx: Any, degree: int, base: str, x: Tensor, *flat: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, *flat)
        ctx.degree, ctx.base = degree, base
        return _forward(x, _readable(x, flat), degree, base)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, *flat = ctx.saved_tensors
        (dy,) = upstream
        need_x, *needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *_differentiable(x, flat, dy, ctx.degree, ctx.base, [need_x, *needed])
        _, need_coef, need_base, need_bias = needed
        layer = _readable(x, flat)
        dx = _backward_x(x, layer, dy, ctx.degree, ctx.base) if need_x else None
        dcoef, dbase = None, None
        if need_coef or need_base:
            dcoef, dbase = _backward_parameters(x, layer, dy, ctx.degree, ctx.base)
        dbias = dy.sum(0) if need_bias else None
        return None, None, dx, None, dcoef if need_coef else None, dbase if need_base else None, dbias


def _readable(x: Tensor, flat: Sequence[Tensor | None]) -> Layer:
    """A layer with knots of the type and device of x, and all tensors contiguous, as the kernels read them."""
    knots, *parameters = (None if t is None else t.detach().contiguous() for t in flat)
    return Layer(knots.to(x), *parameters)  # type: ignore[union-attr, arg-type]


def _forward(x: Tensor, layer: Layer, degree: int, base: str) -> Tensor:
    batch, outputs = x.shape[0], layer.coef.shape[2]
    y = torch.empty(batch, outputs, dtype=x.dtype, device=x.device)
    block = min(_power(outputs), FORWARD_OUTPUTS)
    with _on(x):
        _launch(
            _kernels().forward,
            _blocks(batch, EVENTS) * _blocks(outputs, block),
            (x, *x.stride(), *layer, y),
            *_sizes(x, layer, degree, base),
            BIAS=layer.bias is not None,
            EVENTS=EVENTS,
            INPUTS=INPUTS,
            OUTPUTS=block,
        )
    return y


def _backward_x(x: Tensor, layer: Layer, dy: Tensor, degree: int, base: str) -> Tensor:
    (batch, inputs), outputs = x.shape, layer.coef.shape[2]
    dx = torch.empty(batch, inputs, dtype=x.dtype, device=x.device)
    _, coef, weight, _ = layer
    with _on(x):
        _launch(
            _kernels().backward_x,
            _blocks(batch, EVENTS) * _blocks(inputs, INPUTS),
            (x, *x.stride(), layer.knots, coef, weight, dy, *dy.stride(), dx),
            *_sizes(x, layer, degree, base),
            EVENTS=EVENTS,
            INPUTS=INPUTS,
            OUTPUTS=min(_power(outputs), BACKWARD_OUTPUTS),
        )
    return dx


def _backward_parameters(x: Tensor, layer: Layer, dy: Tensor, degree: int, base: str) -> tuple[Tensor, Tensor | None]:
    """Gradients to coef and base_weight. They lie in one buffer, so that one sum over the parts makes both."""
    _, coef, weight, _ = layer
    batch, (inputs, splines, outputs) = x.shape[0], coef.shape
    size = coef.numel() + (0 if weight is None else weight.numel())
    rows = max(DOT, min(_power(splines + 1), DOT_ROWS))
    block = max(DOT, min(_power(outputs), DOT_OUTPUTS))
    programs = inputs * _blocks(splines + (weight is not None), rows) * _blocks(outputs, block)
    parts = _parts(batch, programs)
    partial = torch.empty(parts, size, dtype=x.dtype, device=x.device)
    with _on(x):
        _launch(
            _kernels().backward_parameters,
            programs * parts,
            (x, *x.stride(), layer.knots, dy, *dy.stride(), partial, size, _blocks(_blocks(batch, DOT_EVENTS), parts)),
            *_sizes(x, layer, degree, base),
            EVENTS=DOT_EVENTS,
            ROWS=rows,
            OUTPUTS=block,
        )
    sums = partial[0] if parts == 1 else partial.sum(0)
    dcoef = sums[: coef.numel()].view(coef.shape)
    return dcoef, None if weight is None else sums[coef.numel() :].view(weight.shape)


def _parts(batch: int, programs: int) -> int:
    """Into how many parts the events are cut when one part takes so many programs; no part is empty of blocks."""
    blocks = max(1, _blocks(batch, DOT_EVENTS))
    wanted = max(1, min(_blocks(batch, PART_EVENTS), _blocks(PROGRAMS, max(1, programs))))
    return _blocks(blocks, _blocks(blocks, wanted))


def _sizes(x: Tensor, layer: Layer, degree: int, base: str) -> tuple[tuple[int, ...], dict[str, int]]:
    """What all kernels are told: batch, inputs, outputs and intervals, and the constants that they are compiled for."""
    (batch, inputs), (_, splines, outputs) = x.shape, layer.coef.shape
    intervals = splines - degree
    kind = 0 if layer.base_weight is None else BASES[base]
    return (batch, inputs, outputs, intervals), {"DEGREE": degree, "STEPS": intervals.bit_length(), "BASE": kind}


def _launch(
    kernel: Any,
    programs: int,
    tensors: tuple[Any, ...],
    sizes: tuple[int, ...],
    constants: dict[str, int],
    **tiles: int,
) -> None:
    if programs:
        kernel[programs,](*tensors, *sizes, **constants, **tiles, **LAUNCH)


def _on(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the tensors'."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def _power(number: int) -> int:
    """The least power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()


def _blocks(number: int, size: int) -> int:
    """How many blocks of a size hold a number of things."""
    return -(-number // size)
