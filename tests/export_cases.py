"""Random networks for the tests of exports, and the compiler that turns their headers into functions."""

from __future__ import annotations

import copy
import ctypes
import itertools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import hepkan
from hepkan.nn import KANLayer
from hepkan.nn.networks import Network

COMPILER = shutil.which("g++") or shutil.which("c++")
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Wshadow", "-pedantic", "-Werror")
BINDINGS = """
extern "C" void KIND_NUMBER(const KIND* x, std::size_t events, KIND* y) { NAME::Network<KIND>()(x, events, y); }
extern "C" void KIND_one_NUMBER(const KIND* x, KIND* y) {
    const auto value = NAME::Network<KIND>()(x);
    std::memcpy(y, &value, sizeof value);
}
extern "C" const char* KIND_name_NUMBER(int feature) { return NAME::feature_names[feature]; }
"""
Values = NDArray[np.floating]


def raw_events(n: int, features: int, seed: int = 0) -> NDArray[np.float32]:
    """Return raw features: a tail, a discrete one, one far from zero, and normal ones."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, features))
    x[:, 0] = 40.0 * np.exp(0.7 * x[:, 0])
    if features > 1:
        x[:, 1] = generator.integers(-1, 2, size=n)
    if features > 2:
        x[:, 2] = 5e4 + 30.0 * x[:, 2]
    return x.astype(np.float32)


def hostile_events(n: int, features: int, seed: int = 1) -> NDArray[np.float32]:
    """Return events of which some lie far outside the training data and some have a NaN."""
    x = raw_events(n, features, seed)
    x[1::7] *= 30.0
    x[2::7] = -x[2::7]
    x[3::11, 0] = np.nan
    return x


def lively(model: Network, seed: int = 0) -> Network:
    """Return the network with learned maps and with splines, biases and base functions of order one."""
    generator = torch.Generator().manual_seed(seed)
    x = raw_events(400, model.widths[0])
    model.fit_inputs(x)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.5 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return model


def kan_of(number: int, degree: int, base: str, input_map: str) -> Network:
    """Return a KAN; the number decides on outputs, products and grid."""
    outputs, products, grid = 1 + number % 3, (number % 2, number % 2), 1 + number % 9
    settings = {"grid": grid, "degree": degree, "base": base, "input_map": input_map, "products": products}
    return lively(hepkan.KAN([4, 5, outputs], seed=number, **settings), number)


def with_knots(model: Network, change: Callable[[torch.Tensor, int], None]) -> Network:
    """Change the knots of every layer in place."""
    for layer in model.modules():
        if isinstance(layer, KANLayer):
            change(layer.knots, layer.degree)
    return model


def repeat_inner(knots: torch.Tensor, degree: int) -> None:
    """Repeat an inner knot as often as the spline stays continuous."""
    knots[:, degree + 2 : degree + 2 + degree] = knots[:, degree + 2 : degree + 3].clone()


def repeat_ends(knots: torch.Tensor, degree: int) -> None:
    """Repeat the knots at both ends, where splines may interpolate; one input gets an empty first interval."""
    knots[:, :degree], knots[:, -degree:] = knots[:, degree, None], knots[:, -degree - 1, None]
    knots[0, degree + 1] = knots[0, degree]


def make_empty(knots: torch.Tensor, degree: int) -> None:
    """Let all knots coincide: the splines are zero."""
    knots.fill_(0.5)


def updated() -> Network:
    """Return a KAN whose knots have followed the data."""
    model = lively(hepkan.KAN([4, 6, 1], grid=8, degree=3, input_map="standard"))
    hepkan.update_grid(model, raw_events(600, 4, seed=3), blend=0.05)
    return model


def regression() -> Network:
    """Return a KAN with an output map, far from zero."""
    model = lively(hepkan.KAN([4, 6, 2]))
    model.fit_outputs(np.random.default_rng(0).normal(size=(100, 2)) * [80.0, 0.02] + [170.0, -3.0])
    return model


def linked(link: str, outputs: int) -> Network:
    """Return a KAN with a link."""
    model = lively(hepkan.KAN([4, 5, outputs]))
    model.link, model.feature_names = link, ["lep_pt", 'quoted "eta" \\', "Z → ℓℓ\n", "x"]
    return model


def models() -> dict[str, Network]:
    """Return all networks by name."""
    maps = ("quantile", "standard", "none")
    cases = {}
    for n, (degree, base) in enumerate(itertools.product(range(1, 6), ("silu", "linear", "none"))):
        kind = maps[(n + degree) % 3]  # over the degrees every base function meets every map
        cases[f"degree {degree}, {base}, {kind}"] = kan_of(n, degree, base, kind)
    cases["updated grid"] = updated()
    cases["refined"] = hepkan.refine(updated(), 24)
    cases["repeated inner knots"] = with_knots(lively(hepkan.KAN([4, 5, 1], grid=9)), repeat_inner)
    cases["repeated end knots"] = with_knots(lively(hepkan.KAN([4, 5, 1], grid=6)), repeat_ends)
    cases["empty grid"] = with_knots(lively(hepkan.KAN([4, 5, 1])), make_empty)
    cases["long grid"] = lively(hepkan.KAN([4, 3, 1], grid=40))
    cases["regression"] = regression()
    cases["sigmoid"], cases["softmax"] = linked("sigmoid", 1), linked("softmax", 3)
    cases["float64"] = lively(hepkan.KAN([4, 5, 1]).double())
    cases["maps not learned"] = hepkan.KAN([4, 5, 1])
    cases["no hidden layer"] = lively(hepkan.MLP([4, 2]))
    cases["shared functions"] = lively(hepkan.KAN([4, 5, 4, 1], rank=2))
    cases["many features"] = lively(hepkan.KAN([20, 3, 1]))
    for activation in ("relu", "silu", "tanh", "gelu"):
        cases[f"MLP {activation}"] = lively(hepkan.MLP([4, 16, 8, 2], activation=activation, dropout=0.1))
    return cases


def expected(model: Network, x: NDArray[np.float32], dtype: torch.dtype) -> Values:
    """Return predictions of the network in a floating type; `(n, features)` to `(n, outputs)`."""
    with torch.no_grad():
        y = copy.deepcopy(model).to(dtype).predict(torch.from_numpy(x).to(dtype))
    return np.asarray(y).reshape(len(x), -1)


def gap(found: Values, y: Values) -> float:
    """Return the largest difference, relative to the size of the value or of the output in the bulk of the events."""
    assert np.array_equal(np.isnan(found), np.isnan(y))
    kept = ~np.isnan(y).any(axis=1)
    found, y = found[kept].astype(np.float64), y[kept].astype(np.float64)
    return float(np.max(np.abs(found - y) / np.maximum(np.abs(y), np.median(np.abs(y), axis=0))))


class Library:
    """Headers compiled into one library; `number` is a header's place among them."""

    def __init__(self, headers: list[Path], folder: Path, flags: tuple[str, ...] = ("-O1",)) -> None:
        source, target = folder / "headers.cpp", folder / "headers.so"
        text = "#include <cstring>\n" + "".join(f'#include "{header}"\n' for header in headers)
        for n, header in enumerate(headers):
            for kind in ("float", "double"):
                text += BINDINGS.replace("NAME", header.stem).replace("KIND", kind).replace("NUMBER", str(n))
        source.write_text(text)
        command = [str(COMPILER), *FLAGS, *flags, "-shared", "-fPIC", "-o", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]
        self.library = ctypes.CDLL(str(target))

    def batch(self, number: int, x: NDArray[np.float32], outputs: int, dtype: type[np.floating]) -> Values:
        """Return what the batch function gives."""
        kind = "float" if dtype is np.float32 else "double"
        events, y = np.ascontiguousarray(x, dtype=dtype), np.full((len(x), outputs), 7.0, dtype=dtype)
        call = getattr(self.library, f"{kind}_{number}")
        call(ctypes.c_void_p(events.ctypes.data), ctypes.c_size_t(len(x)), ctypes.c_void_p(y.ctypes.data))
        return y

    def one(self, number: int, event: NDArray[np.float32], outputs: int) -> Values:
        """Return the outputs of one event in double."""
        values, y = np.ascontiguousarray(event, dtype=np.float64), np.empty(outputs)
        call = getattr(self.library, f"double_one_{number}")
        call(ctypes.c_void_p(values.ctypes.data), ctypes.c_void_p(y.ctypes.data))
        return y

    def name(self, number: int, feature: int) -> str:
        """Return the name of a feature."""
        call = getattr(self.library, f"double_name_{number}")
        call.restype = ctypes.c_char_p
        text: bytes = call(feature)
        return text.decode()
