"""The compiled library (`csrc/kan_layers.cpp`): loading, the tables of the knots, and its two calls.

The library has a plain C interface and is called through ctypes, which releases the GIL. It is built once per
instruction set; the best one that this processor runs is used. Results do not depend on the number of threads, which
is `torch.get_num_threads()`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from hepkan.splines.basis import Layer, SharedLayer

NAMES = ("generic", "avx2", "avx512")
BASES = {"none": 0, "linear": 1, "silu": 2}
DEGREES = range(1, 6)
SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}
TILE = 64  # events of a tile of the library, which keeps whole tiles
FIELDS = 4  # tensors of a layer besides its knots: coef, base_weight, bias, shapes
WORK_PER_THREAD = 8_000_000  # multiply-adds below which a thread costs more than it brings

_P, _I = ctypes.c_void_p, ctypes.c_int64
_SIGNATURES: dict[str, list[type]] = {
    "tables": [_P, _I, _I, _I, _P],
    "forward": [_P, _I, _I, _P, _I, _P, _P, *[_I] * 4],
    "backward": [_P, _I, _I, _P, _I, _P, _P, _I, _I, _P, *[_I] * 5],
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
    if library.hepkan_tile() != TILE:
        raise OSError(f"the compiled kernel ({name}) belongs to another version of hepkan; reinstall hepkan")
    return library


@functools.cache
def choose() -> tuple[ctypes.CDLL | None, str]:
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


def tables(layers: Sequence[Layer | SharedLayer], degree: int, dtype: torch.dtype) -> list[Tensor]:
    """Return the polynomials of every cell of every layer, in a form that only the library reads."""
    found = []
    for layer in layers:
        knots = layer.knots if layer.knots.dtype == dtype else layer.knots.to(dtype)
        content = knots.contiguous().numpy().tobytes()
        found.append(_tables(content, knots.shape[0], degree, dtype) if content else knots.new_empty(0))
    return found


def forward(
    x: Tensor, layers: Sequence[Layer | SharedLayer], tables: Sequence[Tensor], degree: int, base: str, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the outputs, and with `keep` what backward needs of the layers in between (None for a single layer)."""
    y = x.new_empty(x.shape[0], layers[-1].coef.shape[2])
    hidden = None
    if keep and len(layers) > 1:
        rows = sum(layer.coef.shape[0] for layer in layers[1:])
        hidden = x.new_empty((x.shape[0] + TILE - 1) // TILE, rows, TILE)
    described, alive = _describe(layers, tables, degree, [(None,) * FIELDS] * len(layers))
    arguments = (described, len(layers), _pointer(hidden), y.data_ptr(), *_sizes(x, layers, degree, base))
    _call("forward", x.dtype, x.data_ptr(), *x.stride(), *arguments)
    del alive
    return y, hidden


def backward(
    x: Tensor,
    hidden: Tensor | None,
    layers: Sequence[Layer | SharedLayer],
    tables: Sequence[Tensor],
    dy: Tensor,
    degree: int,
    base: str,
    need_x: bool,
    need_parameters: bool,
) -> tuple[Tensor | None, list[tuple[Tensor | None, ...]]]:
    """Return the gradient to x and those to (coef, base_weight, bias[, shapes]) of layers, None where not needed."""
    dx = torch.empty(x.shape, dtype=x.dtype) if need_x else None
    gradients: list[tuple[Tensor | None, ...]] = [
        tuple([None if t is None or not need_parameters else torch.empty(t.shape, dtype=t.dtype) for t in layer[1:]])
        for layer in layers
    ]
    described, alive = _describe(layers, tables, degree, gradients)
    upstream = (_pointer(hidden), dy.data_ptr(), *dy.stride(), _pointer(dx), int(need_parameters))
    arguments = (described, len(layers), *upstream, *_sizes(x, layers, degree, base))
    _call("backward", x.dtype, x.data_ptr(), *x.stride(), *arguments)
    del alive
    return dx, gradients


def _describe(
    layers: Sequence[Layer | SharedLayer],
    tables: Sequence[Tensor],
    degree: int,
    gradients: Sequence[Sequence[Tensor | None]],
) -> tuple[ctypes.Array[ctypes.c_int64], list[Tensor]]:
    """Return the array of `Layer` structures that the library reads, and the tensors that must live as long."""
    numbers: list[int] = []
    alive: list[Tensor] = []
    for layer, table, written in zip(layers, tables, gradients, strict=True):
        numbers.append(table.data_ptr())
        for tensors, contiguous in ((layer[1:], False), (written, True)):
            for tensor in (*tensors, None)[:FIELDS]:  # the shapes last, where there are any
                if tensor is not None and not (contiguous or tensor.is_contiguous()):
                    tensor = tensor.contiguous()
                    alive.append(tensor)
                numbers.append(0 if tensor is None else tensor.data_ptr())
        inputs, _, outputs = layer.coef.shape
        rank = layer.shapes.shape[2] if isinstance(layer, SharedLayer) else 0
        numbers += (inputs, outputs, layer.knots.shape[1] - 2 * degree - 1, rank)
    return (ctypes.c_int64 * len(numbers))(*numbers), alive


@functools.lru_cache(maxsize=64)
def _tables(content: bytes, inputs: int, degree: int, dtype: torch.dtype) -> Tensor:
    """Tables of one layer. Found by the knots' content, so a change in place can never leave them stale."""
    knots = torch.frombuffer(bytearray(content), dtype=dtype)
    intervals = knots.numel() // inputs - 2 * degree - 1
    table = torch.empty(inputs * _library().hepkan_table_numbers(intervals, degree), dtype=dtype)
    _call("tables", dtype, knots.data_ptr(), inputs, intervals, degree, table.data_ptr())
    return table


def _library() -> ctypes.CDLL:
    library, reason = choose()
    if library is None:
        raise RuntimeError(reason)
    return library


def _call(stem: str, dtype: torch.dtype, *arguments: object) -> None:
    status = getattr(_library(), f"hepkan_{stem}_{SUFFIXES[dtype]}")(*arguments)
    if status:
        raise MemoryError(f"the cpu kernel ran out of memory in {stem}")


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _sizes(x: Tensor, layers: Sequence[Layer | SharedLayer], degree: int, base: str) -> tuple[int, ...]:
    """Batch, degree, base function, threads."""
    edges = sum(layer.coef.shape[0] * (layer.coef.shape[2] + 8) for layer in layers)
    work = x.shape[0] * edges * (degree + 2)
    threads = max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD))
    return x.shape[0], degree, BASES[base], threads
