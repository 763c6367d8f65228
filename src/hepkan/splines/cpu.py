"""The compiled CPU kernel: per event and input only `degree + 1` rows of coefficients are touched, in both directions.

The shared library (`csrc/kan_layer.cpp`) has a plain C interface and is called through ctypes, which releases the GIL.
It is built once per instruction set; the best one that this processor runs is used. Backward keeps only the layer's
input and parameters. Results do not depend on the number of threads, which is `torch.get_num_threads()`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

NAMES = ("generic", "avx2", "avx512")
BASES = {"none": 0, "linear": 1, "silu": 2}
DEGREES = range(1, 6)
SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}
WORK_PER_THREAD = 400_000  # multiply-adds below which a thread costs more than it brings

_P, _I = ctypes.c_void_p, ctypes.c_int64
_SIGNATURES: dict[str, list[type]] = {
    "tables": [_P, _I, _I, _I, _P],
    "forward": [_P, _I, _I, _P, _P, _P, _P, *[_I] * 7],
    "backward": [_P, _I, _I, _P, _P, _P, _P, _I, _I, _P, _P, _P, *[_I] * 7],
}


def load(name: str) -> ctypes.CDLL:
    """Load the library built for one instruction set.

    Raises:
        OSError: it was not built, or the system cannot load it.
    """
    spec = importlib.util.find_spec(f"hepkan.splines._kan_{name}")
    if spec is None or spec.origin is None:
        raise OSError(
            f"the compiled kernel ({name}) is not part of this installation: there was no working C++17 compiler "
            "(GCC or Clang) when hepkan was installed; install one and reinstall hepkan"
        )
    library = ctypes.CDLL(spec.origin)
    for stem, arguments in _SIGNATURES.items():
        for suffix in SUFFIXES.values():
            function = getattr(library, f"hepkan_{stem}_{suffix}")
            function.argtypes, function.restype = arguments, ctypes.c_int
    library.hepkan_table_numbers.argtypes, library.hepkan_table_numbers.restype = [_I, _I], ctypes.c_int64
    return library


@functools.cache
def _choose() -> tuple[ctypes.CDLL | None, str]:
    """The library in use with the name of its instruction set, or None with the reason why there is none."""
    try:
        best = load("generic")
    except OSError as error:
        return None, str(error)
    for name in reversed(NAMES[1 : 1 + best.hepkan_instruction_set()]):
        try:
            return load(name), name
        except OSError:  # this variant was not built: the next simpler one serves
            continue
    return best, "generic"


def reason_unusable() -> str | None:
    """Why the kernel cannot be used in this installation, None when it can."""
    library, text = _choose()
    return text if library is None else None


def instruction_set() -> str | None:
    """Name of the instruction set in use (`generic`, `avx2`, `avx512`), None when the kernel is unusable."""
    library, text = _choose()
    return None if library is None else text


def supports(x: Tensor, degree: int, base: str) -> str | None:
    """Why this call cannot be served, None when it can."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return "the cpu kernel cannot be traced or compiled by torch"
    if x.device.type != "cpu":
        return f"the cpu kernel needs tensors on the CPU, however: x.device={x.device}"
    if x.dtype not in SUFFIXES:
        return f"the cpu kernel needs float32 or float64, however: x.dtype={x.dtype}"
    if degree not in DEGREES:
        return f"the cpu kernel is built for degrees 1 to 5, however: degree={degree}"
    if base not in BASES:
        return f"the cpu kernel knows the base functions {', '.join(BASES)}, however: base={base!r}"
    return reason_unusable()


def kan_layer(x: Tensor, knots: Tensor, coef: Tensor, base_weight: Tensor | None, degree: int, base: str) -> Tensor:
    r"""Sum over inputs of base function and spline, without bias.

    .. math:: y_o = \sum_i [ b(x_i) W_{io} + \sum_m B_m(x_i) C_{imo} ]

    A second derivative goes through the plain-torch reference.

    **Shape** x: `(batch, in)`, knots: `(in, G + 2 degree + 1)`, coef: `(in, G + degree, out)`,
    base_weight: `(in, out)` or None, result: `(batch, out)`.

    Args:
        x: the layer's input, any strides.
        knots: extended knots per input, non-decreasing; no gradient flows to them.
        coef: spline coefficients.
        base_weight: weights of the base function; None is the same as zeros.
        degree: 1 to 5.
        base: `silu`, `linear` or `none`.

    Raises:
        ValueError: shapes or types do not fit, or `supports` has a reason against the call.
    """
    reason = supports(x, degree, base)
    if reason is not None:
        raise ValueError(reason)
    _check(x, knots, coef, base_weight, degree)
    weight = None if base == "none" else base_weight
    return _Layer.apply(x, knots, coef, weight, degree, base)  # type: ignore[no-any-return, no-untyped-call]


def _check(x: Tensor, knots: Tensor, coef: Tensor, base_weight: Tensor | None, degree: int) -> None:
    """Refuse shapes and types that would make the library read elsewhere."""
    if x.dim() != 2 or coef.dim() != 3 or knots.dim() != 2:
        raise ValueError(
            "x and knots need two dimensions and coef three, however: "
            f"x.shape={tuple(x.shape)}, knots.shape={tuple(knots.shape)}, coef.shape={tuple(coef.shape)}"
        )
    inputs, splines, outputs = coef.shape
    intervals = splines - degree
    if intervals < 1 or knots.shape != (inputs, intervals + 2 * degree + 1) or x.shape[1] != inputs:
        raise ValueError(
            f"x (batch, in), knots (in, G + 2 * {degree} + 1) and coef (in, G + {degree}, out) have to fit, however: "
            f"x.shape={tuple(x.shape)}, knots.shape={tuple(knots.shape)}, coef.shape={tuple(coef.shape)}"
        )
    if base_weight is not None and base_weight.shape != (inputs, outputs):
        raise ValueError(
            f"base_weight needs the shape {(inputs, outputs)}, however: base_weight.shape={tuple(base_weight.shape)}"
        )
    for name, tensor in {"coef": coef, "base_weight": base_weight}.items():
        if tensor is not None and (tensor.dtype != x.dtype or tensor.device != x.device):
            raise ValueError(
                f"{name} and x need the same type and device, however: {tensor.dtype} on {tensor.device} "
                f"and {x.dtype} on {x.device}"
            )


@functools.lru_cache(maxsize=32)
def _tables(content: bytes, inputs: int, degree: int, dtype: torch.dtype) -> Tensor:
    """Polynomials of every cell. Found by the knots' content, so a change in place can never leave them stale."""
    knots = torch.frombuffer(bytearray(content), dtype=dtype)
    intervals = knots.numel() // inputs - 2 * degree - 1
    numbers = _library().hepkan_table_numbers(intervals, degree)
    tables = torch.empty(inputs * numbers, dtype=dtype)
    _call("tables", dtype, knots.data_ptr(), inputs, intervals, degree, tables.data_ptr())
    return tables


def _tables_of(knots: Tensor, degree: int, dtype: torch.dtype) -> Tensor:
    if knots.shape[0] == 0:
        return torch.empty(0, dtype=dtype)
    content = knots.detach().to("cpu", dtype).contiguous().numpy().tobytes()
    return _tables(content, knots.shape[0], degree, dtype)


def _library() -> ctypes.CDLL:
    library, reason = _choose()
    if library is None:
        raise RuntimeError(reason)
    return library


def _call(stem: str, dtype: torch.dtype, *arguments: int | None) -> None:
    status = getattr(_library(), f"hepkan_{stem}_{SUFFIXES[dtype]}")(*arguments)
    if status:
        raise MemoryError(f"the cpu kernel ran out of memory in {stem}")


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _sizes(x: Tensor, coef: Tensor, degree: int, base: str) -> tuple[int, ...]:
    """Batch, inputs, outputs, intervals, degree, base function, threads."""
    batch, inputs = x.shape
    outputs = coef.shape[2]
    work = batch * inputs * (outputs + 8) * (degree + 2)
    threads = max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD))
    return batch, inputs, outputs, coef.shape[1] - degree, degree, BASES[base], threads


class _Layer(torch.autograd.Function):
    """One autograd rule around the two library calls."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, knots: Tensor, coef: Tensor, base_weight: Tensor | None, degree: int, base: str
    ) -> Tensor:
        ctx.save_for_backward(x, knots, coef, base_weight)
        ctx.degree, ctx.base = degree, base
        tables = _tables_of(knots, degree, x.dtype)
        coef = coef.contiguous()
        weight = None if base_weight is None else base_weight.contiguous()
        y = x.new_empty(x.shape[0], coef.shape[2])
        sizes = _sizes(x, coef, degree, base)
        tensors = (tables.data_ptr(), coef.data_ptr(), _pointer(weight), y.data_ptr())
        _call("forward", x.dtype, x.data_ptr(), *x.stride(), *tensors, *sizes)
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, knots, coef, base_weight = ctx.saved_tensors
        need_x, _, need_coef, need_base = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():
            return _differentiable(ctx, upstream[0])
        (dy,) = upstream
        tables = _tables_of(knots, ctx.degree, x.dtype)
        coef = coef.contiguous()
        weight = None if base_weight is None else base_weight.contiguous()
        dx = torch.empty(x.shape, dtype=x.dtype) if need_x else None
        dcoef = torch.empty_like(coef) if need_coef or need_base else None
        dbase = torch.empty_like(weight) if need_base and weight is not None else None
        sizes = _sizes(x, coef, ctx.degree, ctx.base)
        inputs = (tables.data_ptr(), coef.data_ptr(), _pointer(weight), dy.data_ptr(), *dy.stride())
        outputs = (_pointer(dx), _pointer(dcoef), _pointer(dbase))
        _call("backward", x.dtype, x.data_ptr(), *x.stride(), *inputs, *outputs, *sizes)
        return dx, None, dcoef if need_coef else None, dbase, None, None


def _differentiable(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as functions that can be differentiated again, by the plain-torch reference."""
    from hepkan.splines.basis import kan_layer_reference

    x, knots, coef, base_weight = ctx.saved_tensors
    inputs = [x, knots, coef, base_weight]
    wanted = [n for n, needed in enumerate(ctx.needs_input_grad[:4]) if needed]
    y = kan_layer_reference(x, knots, coef, base_weight, ctx.degree, ctx.base)
    found = torch.autograd.grad(y, [inputs[n] for n in wanted], dy, create_graph=True)
    gradients: list[Tensor | None] = [None] * 6
    for n, gradient in zip(wanted, found, strict=True):
        gradients[n] = gradient
    return tuple(gradients)
