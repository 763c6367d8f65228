"""The compiled CPU kernel: per event and input only `degree + 1` rows of coefficients are touched, in both directions.

A stack of layers is one call forward and one call backward. Backward keeps only the layers' inputs and parameters; the
second derivative goes through the plain-torch reference. Under `torch.compile` the same calls are the operators
`hepkan::kan_stack` and `hepkan::kan_stack_backward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hepkan.splines import library
from hepkan.splines.basis import Layer, SharedLayer, full, kan_stack_reference
from hepkan.splines.library import BASES, DEGREES, SUFFIXES


def reason_unusable() -> str | None:
    """Why the kernel cannot be used in this installation, None when it can."""
    found, text = library.choose()
    return text if found is None else None


REASON = reason_unusable()
"""The same at import, a constant for `torch.compile`, which cannot look for a library."""


def instruction_set() -> str | None:
    """Name of the instruction set in use (`generic`, `avx2`, `avx512`), None when the kernel is unusable."""
    found, text = library.choose()
    return None if found is None else text


def supports(x: Tensor, degree: int, base: str) -> str | None:
    """Why this call cannot be served, None when it can."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return "the cpu kernel cannot be traced by torch.jit"
    if x.device.type != "cpu":
        return f"the cpu kernel needs tensors on the CPU, however: x.device={x.device}"
    if x.dtype not in SUFFIXES:
        return f"the cpu kernel needs float32 or float64, however: x.dtype={x.dtype}"
    if degree not in DEGREES:
        return f"the cpu kernel is built for degrees 1 to 5, however: degree={degree}"
    if base not in BASES:
        return f"the cpu kernel knows the base functions {', '.join(BASES)}, however: base={base!r}"
    return REASON if torch.compiler.is_compiling() else reason_unusable()


def kan_layer(x: Tensor, knots: Tensor, coef: Tensor, base_weight: Tensor | None, degree: int, base: str) -> Tensor:
    r"""Sum over inputs of base function and spline, without bias; the stack of one layer.

    .. math:: y_o = \sum_i [ b(x_i) W_{io} + \sum_m B_m(x_i) C_{imo} ]

    **Shape** x: `(batch, in)`, knots: `(in, G + 2 degree + 1)`, coef: `(in, G + degree, out)`,
    base_weight: `(in, out)` or None, result: `(batch, out)`.

    Raises:
        ValueError: as `kan_stack`.
    """
    return kan_stack(x, [Layer(knots, coef, base_weight)], degree, base)


def kan_stack(x: Tensor, layers: Sequence[Layer | SharedLayer], degree: int, base: str) -> Tensor:
    """Evaluate layers one after another.

    Shared functions are evaluated as such where no gradient is asked for, and in a `Step`.

    **Shape** x: `(batch, in)` of the first layer, any strides, result: `(batch, out)` of the last.

    Args:
        x: the inputs.
        layers: see `basis.Layer` and `basis.SharedLayer`; no gradient flows to the knots.
        degree: 1 to 5.
        base: `silu`, `linear` or `none`.

    Raises:
        ValueError: shapes or types do not fit, or `supports` has a reason against the call.
    """
    reason = supports(x, degree, base)
    if reason is not None:
        raise ValueError(reason)
    width = x.shape[1] if x.dim() == 2 else None
    for layer in layers:
        _check(x, width, layer, degree)
        width = layer.coef.shape[2]
    if base == "none":
        layers = [layer._replace(base_weight=None) for layer in layers]
    gradients = any(t is not None and t.requires_grad for t in (x, *(t for layer in layers for t in layer)))
    gradients = gradients and torch.is_grad_enabled()
    if not gradients and not torch.compiler.is_compiling():
        return library.forward(x, layers, library.tables(layers, degree, x.dtype), degree, base, keep=False)[0]
    layers = full(layers)
    if torch.compiler.is_compiling():
        parts = (_filled([layer[n] for layer in layers], x) for n in range(4))
        y, _ = torch.ops.hepkan.kan_stack(x, *parts, degree, base)
        return y  # type: ignore[no-any-return]
    return _Stack.apply(degree, base, x, *(tensor for layer in layers for tensor in layer))  # type: ignore[no-any-return, no-untyped-call]


def _check(x: Tensor, width: int | None, layer: Layer | SharedLayer, degree: int) -> None:
    """Refuse shapes and types that would make the library read elsewhere."""
    knots, coef, base_weight, bias, *shapes = layer
    if shapes:  # checked as the layer with a spline on every edge would be
        if shapes[0].dim() != 3 or coef.dim() != 3 or shapes[0].shape[::2] != coef.shape[:2]:
            raise ValueError(
                "shapes (in, G + degree, R) and coef (in, R, out) have to fit, however: "
                f"shapes.shape={tuple(shapes[0].shape)}, coef.shape={tuple(coef.shape)}"
            )
        coef = coef[:, :1].expand(-1, shapes[0].shape[1], -1)
    if width is None or coef.dim() != 3 or knots.dim() != 2:
        raise ValueError(
            "x and knots need two dimensions and coef three, however: "
            f"x.shape={tuple(x.shape)}, knots.shape={tuple(knots.shape)}, coef.shape={tuple(coef.shape)}"
        )
    inputs, splines, outputs = coef.shape
    intervals = splines - degree
    if intervals < 1 or knots.shape != (inputs, intervals + 2 * degree + 1) or width != inputs:
        raise ValueError(
            f"x (batch, in), knots (in, G + 2 * {degree} + 1) and coef (in, G + {degree}, out) have to fit, however: "
            f"x.shape={(x.shape[0], width)}, knots.shape={tuple(knots.shape)}, coef.shape={tuple(coef.shape)}"
        )
    for name, tensor, shape in (("base_weight", base_weight, (inputs, outputs)), ("bias", bias, (outputs,))):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} needs the shape {shape}, however: {name}.shape={tuple(tensor.shape)}")
    numbers = {"coef": coef, "base_weight": base_weight, "bias": bias, "shapes": shapes[0] if shapes else None}
    for name, tensor in numbers.items():
        if tensor is not None and (tensor.dtype != x.dtype or tensor.device != x.device):
            raise ValueError(
                f"{name} and x need the same type and device, however: {tensor.dtype} on {tensor.device} "
                f"and {x.dtype} on {x.device}"
            )


def _layers(flat: Sequence[Tensor | None]) -> list[Layer]:
    return [Layer(*flat[n : n + 4]) for n in range(0, len(flat), 4)]  # type: ignore[arg-type]


class _Stack(torch.autograd.Function):
    """One autograd rule around the two library calls."""

    @staticmethod
    def forward(ctx: Any, degree: int, base: str, x: Tensor, *flat: Tensor | None) -> Tensor:
        layers = _layers(flat)
        ctx.degree, ctx.base, ctx.tables = degree, base, library.tables(layers, degree, x.dtype)
        y, hidden = library.forward(x, layers, ctx.tables, degree, base, keep=True)
        ctx.save_for_backward(x, hidden, *flat)
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, *flat = ctx.saved_tensors
        need_x, *needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *_differentiable(x, flat, upstream[0], ctx.degree, ctx.base, [need_x, *needed])
        how = (ctx.degree, ctx.base, need_x, any(needed))
        dx, gradients = library.backward(x, hidden, _layers(flat), ctx.tables, upstream[0], *how)
        found = [gradient for one in gradients for gradient in (None, *one)]
        return None, None, dx, *(g if need else None for g, need in zip(found, needed, strict=True))


class Step:
    """A stack whose gradients are written by hand instead of by autograd, which saves half the time of a small batch.

    `y`, the outputs, is a leaf: differentiate a loss of it, then call `backward`.
    """

    def __init__(self, x: Tensor, layers: Sequence[Layer | SharedLayer], degree: int, base: str) -> None:
        self._x, self._layers, self._how = x.detach(), layers, (degree, base)
        with torch.no_grad():
            self._tables = library.tables(layers, degree, x.dtype)
            self.y, self._hidden = library.forward(self._x, layers, self._tables, degree, base, keep=True)
        self.y.requires_grad_()

    def backward(self) -> None:
        """Add the gradients of all parameters to their `.grad`."""
        assert self.y.grad is not None
        with torch.no_grad():
            _, gradients = library.backward(
                self._x, self._hidden, self._layers, self._tables, self.y.grad, *self._how, False, True
            )
        for layer, found in zip(self._layers, gradients, strict=True):
            for parameter, gradient in zip(layer[1:], found, strict=True):
                if parameter is None or gradient is None or not parameter.requires_grad:
                    continue
                if parameter.grad is None:
                    parameter.grad = gradient
                else:
                    parameter.grad += gradient


def _differentiable(
    x: Tensor, flat: Sequence[Tensor | None], dy: Tensor, degree: int, base: str, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients as functions that can be differentiated again, by the plain-torch reference."""
    inputs = [x, *flat]
    wanted = [n for n, need in enumerate(needed) if need]
    y = kan_stack_reference(x, _layers(flat), degree, base)
    leaves: list[Any] = [inputs[n] for n in wanted]
    found = torch.autograd.grad(y, leaves, dy, create_graph=True, allow_unused=True)
    gradients: list[Tensor | None] = [None] * len(inputs)
    for n, gradient in zip(wanted, found, strict=True):
        gradients[n] = gradient
    return gradients


# ---- operators for torch.compile; an empty tensor stands for None --------------------------------------------------

_SPLINES = "Tensor[] knots, Tensor[] coef, Tensor[] base_weight, Tensor[] bias, int degree, str base"


def _filled(tensors: Sequence[Tensor | None], like: Tensor) -> list[Tensor]:
    return [like.new_empty(0) if t is None else t for t in tensors]


def _unpacked(*columns: Sequence[Tensor]) -> list[Layer]:
    return [Layer(*(t if t.numel() else None for t in row)) for row in zip(*columns, strict=True)]  # type: ignore[arg-type]


@torch.library.custom_op("hepkan::kan_stack", mutates_args=(), schema=f"(Tensor x, {_SPLINES}) -> (Tensor, Tensor)")
def _forward_operator(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    *columns, degree, base = arguments
    layers = _unpacked(*columns)
    y, hidden = library.forward(x, layers, library.tables(layers, degree, x.dtype), degree, base, keep=True)
    return y, x.new_empty(0) if hidden is None else hidden


@_forward_operator.register_fake
def _(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    coef = arguments[1]
    rows = sum(c.shape[0] for c in coef[1:])
    tiles = (x.shape[0] + library.TILE - 1) // library.TILE
    return x.new_empty(x.shape[0], coef[-1].shape[2]), x.new_empty((tiles, rows, library.TILE) if rows else 0)


@torch.library.custom_op(
    "hepkan::kan_stack_backward",
    mutates_args=(),
    schema=f"(Tensor x, Tensor hidden, Tensor dy, {_SPLINES}) -> (Tensor, Tensor[], Tensor[], Tensor[])",
)
def _backward_operator(x: Tensor, hidden: Tensor, dy: Tensor, *arguments: Any) -> tuple[Any, ...]:
    *columns, degree, base = arguments
    layers, kept = _unpacked(*columns), hidden if hidden.numel() else None
    tables = library.tables(layers, degree, x.dtype)
    dx, gradients = library.backward(x, kept, layers, tables, dy, degree, base, True, True)
    assert dx is not None
    return dx, *(_filled(column, x) for column in zip(*gradients, strict=True))


@_backward_operator.register_fake
def _(x: Tensor, hidden: Tensor, dy: Tensor, *arguments: Any) -> tuple[Any, ...]:
    return x.new_empty(x.shape), *([torch.empty_like(t) for t in column] for column in arguments[1:4])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *columns, ctx.degree, ctx.base = inputs
    ctx.number = len(columns[0])
    ctx.save_for_backward(x, output[1], *(t for column in columns for t in column))


def _gradients(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Any, ...]:
    x, hidden, *flat = ctx.saved_tensors
    columns = [list(flat[n : n + ctx.number]) for n in range(0, len(flat), ctx.number)]
    dx, *found = torch.ops.hepkan.kan_stack_backward(x, hidden, dy, *columns, ctx.degree, ctx.base)
    return dx, [None] * ctx.number, *found, None, None


_forward_operator.register_autograd(_gradients, setup_context=_keep)
