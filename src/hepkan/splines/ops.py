"""The one place that chooses a kernel for the spline layer.

A backend's name is a demand: when it cannot serve the call the error says why. `auto` takes the first usable one.
Differentiating twice needs `backend="torch"` or a compiled kernel, which falls back to it for the second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hepkan.errors import UsageError, unknown
from hepkan.splines import cpu, triton_gpu
from hepkan.splines.basis import Layer, SharedLayer, full, kan_stack_reference

KERNELS = {"triton": triton_gpu, "cpu": cpu}
"""Compiled kernels in the order of preference: name -> module with `supports`, `reason_unusable` and `kan_stack`."""

BACKENDS = ("auto", "torch", *KERNELS)


def kan_layer(
    x: Tensor,
    knots: Tensor,
    coef: Tensor,
    base_weight: Tensor | None,
    degree: int,
    base: str = "silu",
    backend: str = "auto",
) -> Tensor:
    """Evaluate a spline layer without bias; see `basis.kan_layer_reference` for the formula and the shapes.

    Raises:
        UsageError: the backend is unknown or cannot serve this call.
    """
    return kan_stack(x, [Layer(knots, coef, base_weight)], degree, base, backend)


def kan_stack(
    x: Tensor, layers: Sequence[Layer | SharedLayer], degree: int, base: str = "silu", backend: str = "auto"
) -> Tensor:
    """Evaluate layers one after another; see `basis.kan_stack_reference`.

    **Shape** x: `(batch, in)` of the first layer, result: `(batch, out)` of the last.

    Raises:
        UsageError: the backend is unknown or cannot serve this call.
    """
    name = _chosen(x, degree, base, backend)
    if name == "torch":
        return kan_stack_reference(x, full(layers), degree, base)
    return KERNELS[name].kan_stack(x, layers, degree, base)  # type: ignore[no-any-return]


def kan_step(
    x: Tensor, layers: Sequence[Layer | SharedLayer], degree: int, base: str = "silu", backend: str = "auto"
) -> cpu.Step | None:
    """Evaluate a stack for one training step whose gradients the kernel writes; None where the kernel leaves them to
    autograd. See `cpu.Step`.

    Raises:
        UsageError: as `kan_stack`.
    """
    return cpu.Step(x, layers, degree, base) if _chosen(x, degree, base, backend) == "cpu" else None


def available() -> dict[str, str | None]:
    """Return for every backend None when it is usable on this machine, else the reason why not."""
    return {"torch": None, **{name: kernel.reason_unusable() for name, kernel in KERNELS.items()}}


def chosen(device: str = "cpu") -> str:
    """Return the backend that `auto` takes for a cubic float32 layer on a device."""
    return _chosen(torch.empty(0, 1, device=device), 3, "silu", "auto")


def _chosen(x: Tensor, degree: int, base: str, backend: str) -> str:
    """Return the backend that serves a call: the one demanded, or the first usable one."""
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "auto":
        return next((name for name in KERNELS if KERNELS[name].supports(x, degree, base) is None), "torch")
    if backend != "torch" and (reason := KERNELS[backend].supports(x, degree, base)) is not None:
        raise UsageError(
            f"The backend {backend!r} was asked for, however it cannot be used: {reason}. Use backend='auto'."
        )
    return backend
