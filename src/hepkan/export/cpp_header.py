"""A C++17 header without dependencies: constants of the network and one pass over them, for float and double.

Only the k+1 numbers of the interval that x lies in are touched, for all outputs at once. The algorithm is
`runtime.hpp`, copied into every header; this module writes the constants and the sequence of steps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.export.evaluation import evaluate
from hepkan.export.formula_header import calls
from hepkan.export.pieces import Cells, Floats, as_floats, cells_of, check_network, identity_affine, nodes_of
from hepkan.export.verification import Export, check_events, compare, reference, writing
from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN, Network
from hepkan.nn.transforms import QuantileNormal, Standard

if TYPE_CHECKING:
    from hepkan.interpret.formula import Formula

TOLERANCE = 1e-7
BASE_NUMBERS = {"none": 0, "linear": 1, "silu": 2}
ACTIVATION_NUMBERS: dict[type[nn.Module], int] = {nn.ReLU: 0, nn.SiLU: 1, nn.Tanh: 2, nn.GELU: 3}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = re.compile(
    "alignas|alignof|and|asm|auto|bool|break|case|catch|char|class|const|constexpr|continue|default|delete|detail|"
    "do|double|else|enum|explicit|export|extern|false|float|for|friend|goto|if|inline|int|long|mutable|namespace|"
    "new|not|operator|or|private|protected|public|register|return|short|signed|sizeof|static|std|struct|switch|"
    "template|this|throw|true|try|typedef|typename|union|unsigned|using|virtual|void|volatile|while|xor"
)
_PER_LINE = 8
_BLOCK = 16


def cpp(
    model: Network | Formula,
    path: str | Path,
    X: ArrayLike | Tensor | None = None,
    *,
    namespace: str | None = None,
    class_name: str = "Network",
    link: bool = True,
    tolerance: float = TOLERANCE,
) -> Export:
    """Write a network or a formula as one C++17 header that needs only the standard library.

    With the default names in `scores.hpp`:

        scores::Network<double> network;          // or <float>; thread-safe, no state
        double score = network(features);         // one event; std::array when there are several outputs
        network(features, n, scores);             // n events, row after row

    Compile with `-O3`, best with `-march=native`, never with `-ffast-math`: a NaN must stay one. Before it is written
    the header's own constants, read back from its text, are evaluated in NumPy by the header's algorithm and compared
    with the network in float64; no compiler is needed.

    Arguments:
        model: a KAN or MLP; or a formula, whose header has the same interface, named after the file.
        path: the header; replaced only by one that agrees with the network.
        X: events for the comparison `(n, features)`, best real ones; others are drawn in any case.
        namespace: C++ namespace; the file's name when not given.
        class_name: name of the class template.
        link: whether predictions come out, as from `predict`; otherwise logits, as from the network itself.
        tolerance: largest difference allowed, in units of the output's spread; see `verification.compare`.

    Raises:
        UsageError: the model is no network of this package, X does not fit, or a name is none in C++.
        DataError: the header would differ from the network, or cannot be written.
    """
    if not isinstance(model, nn.Module) and hasattr(model, "roots"):
        return _of_formula(model, path, X, bool(namespace) or class_name != "Network" or not link)
    network = check_network(model)
    target = Path(path)
    if namespace is None:
        namespace = namespace_of(target.stem)
    for kind, name in (("namespace", namespace), ("class_name", class_name)):
        if not all(_NAME.fullmatch(part) and not _RESERVED.fullmatch(part) for part in name.split("::")):
            raise UsageError(f"{kind} needs a name that C++ allows, however: {name!r}.")
    if "::" in class_name:
        raise UsageError(f"class_name needs a name without a namespace, however: {class_name!r}.")
    events = check_events(network, X)
    text = _header(network, namespace, class_name, link)
    expected = reference(network, events, link)
    done = compare("The C++ header", target, evaluate(text, events), expected, tolerance, float(np.finfo(float).eps))
    with writing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return done


def _of_formula(formula: Formula, path: str | Path, X: ArrayLike | Tensor | None, named: bool) -> Export:
    """Write the header of a formula."""
    from hepkan.export.formula_text import formula as write

    if named:
        raise UsageError(
            "The header of a formula is named after its file and gives predictions, however namespace, class_name or "
            "link are given. Leave them out."
        )
    return write(formula, path, X, style="cpp")


def namespace_of(stem: str) -> str:
    """Return a C++ namespace after the name of a file."""
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    return name if _NAME.fullmatch(name) and not _RESERVED.fullmatch(name) else f"hepkan_{name}"


class Steps:
    """Constants and statements of a header in the making."""

    def __init__(self) -> None:
        self.constants: list[str] = []
        self.statements: list[str] = []
        self.buffers = 0

    def table(self, name: str, values: Floats) -> str:
        """Add a constant table and return its name."""
        flat = np.asarray(values, dtype=np.float64).ravel()
        if not (np.abs(flat) <= np.finfo(np.float32).max).all():
            raise DataError("A header needs numbers within the range of float, however the network has larger ones.")
        numbers = [repr(float(value)) for value in flat] or ["0.0"]
        lines = (", ".join(numbers[n : n + _PER_LINE]) for n in range(0, len(numbers), _PER_LINE))
        body = ",\n    ".join(lines)
        self.constants.append(f"template <class T>\ninline constexpr T {name}[{len(numbers)}] = {{\n    {body}}};\n")
        return f"{name}<T>"

    def buffer(self, size: int) -> str:
        """Add an array for the values between two steps and return its name."""
        self.buffers += 1
        self.statements.append(f"T v{self.buffers}[{size}];")
        return f"v{self.buffers}"

    def call(self, function: str, numbers: Iterable[int], *arguments: str) -> None:
        """Add a step."""
        template = ", ".join(str(number) for number in numbers)
        self.statements.append(f"detail::{function}<{template}>({', '.join(arguments)});")


def _header(model: Network, namespace: str, class_name: str, link: bool) -> str:
    """Return the text of the header."""
    steps = Steps()
    last = _input_map(steps, model, "x")
    if isinstance(model, KAN):
        for n, layer in enumerate(model.layers):
            assert isinstance(layer, KANLayer)
            last = _layer(steps, layer, n, last)
    else:
        last = _perceptron(steps, model, last)
    outputs = model.widths[-1]
    mean, scale = (as_floats(getattr(model.output_map, name)) for name in ("mean", "scale"))
    if not identity_affine(mean, scale):
        tables = steps.table("output_mean", mean), steps.table("output_scale", scale)
        steps.call("rescale", [outputs], last, *tables)
    if link and model.link == "sigmoid":
        steps.statements.append(f"for (int n = 0; n < outputs; ++n) {last}[n] = detail::sigmoid({last}[n]);")
    elif link and model.link == "softmax":
        steps.call("softmax", [outputs], last)
    steps.statements.append(f"for (int n = 0; n < outputs; ++n) y[n] = {last}[n];")
    return _text(model, steps, namespace, class_name, model.link if link else "identity")


def _text(model: Network, steps: Steps, namespace: str, class_name: str, link: str) -> str:
    """Return the header around the steps."""
    names = model.feature_names or [f"x{i}" for i in range(model.n_features)]
    guard = re.sub(r"\W", "_", f"HEPKAN_{namespace}_{class_name}_HPP", flags=re.ASCII)
    quoted = ", ".join(_quoted(name) for name in names)
    runtime = resources.files("hepkan.export").joinpath("runtime.hpp").read_text(encoding="utf-8")
    body = "\n        ".join(steps.statements)
    digest = hashlib.sha256("\n".join([runtime, *steps.constants, body]).encode()).hexdigest()[:12]
    return f"""// {type(model).__name__} {model.widths}, {link} link, written by hepkan {hepkan.__version__}.
//     {namespace}::{class_name}<double> network;  // or <float>
//     network(features);                  // one event, raw features in the order of feature_names
//     network(features, n, predictions);  // n events, row after row
// C++17, standard library only. Compile with -O3 and best -march=native; not with -ffast-math.
#ifndef {guard}
#define {guard}

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {namespace} {{
// Named after the content: two networks of the same name never mix when libraries are loaded into one program.
inline namespace network_{digest} {{

inline constexpr int inputs = {model.n_features}, outputs = {model.widths[-1]};
inline constexpr const char* feature_names[inputs] = {{{quoted}}};

{runtime}
namespace constants {{

{chr(10).join(steps.constants)}
}}  // namespace constants

template <class T = double>
struct {class_name} {{
    static_assert(sizeof(T) == sizeof(float) || sizeof(T) == sizeof(double), "T needs to be float or double");

    // One event: x[inputs] to y[outputs].
    static void evaluate(const T* x, T* y) {{
        using namespace constants;
        {body}
    }}

{calls(model.widths[-1])}}};

}}  // namespace network_{digest}
}}  // namespace {namespace}

#endif
"""


def _quoted(name: str) -> str:
    """Return a name as a C++ string; what is not plain ASCII becomes its code point."""
    escaped = json.dumps(str(name)[:200], ensure_ascii=True)
    return re.sub(r"\\u00[01][0-9a-f]|\\u00[7-9][0-9a-f]|\\ud[89a-f][0-9a-f]{2}", "?", escaped)


def _input_map(steps: Steps, model: Network, x: str) -> str:
    """Add the input map."""
    transform, features = model.input_map, model.widths[0]
    if model.columns is not None:
        chosen = steps.buffer(features)
        steps.call("select", model.columns, x, chosen)
        x = chosen
    if isinstance(transform, Standard):
        mean, scale = as_floats(transform.mean), as_floats(transform.scale)
        if identity_affine(mean, scale):
            return x
        z, tables = steps.buffer(features), (steps.table("input_mean", mean), steps.table("input_scale", scale))
        steps.call("standard_map", [features], x, *tables, z)
        return z
    if not isinstance(transform, QuantileNormal):
        return x
    nodes = nodes_of(transform)
    lines = np.stack([nodes.x[:, :-1], 1.0 / np.diff(nodes.x), nodes.z[:, :-1], np.diff(nodes.z)], axis=-1)
    z = steps.buffer(features)
    tables = steps.table("input_places", _ladder(nodes.x)), steps.table("input_lines", lines)
    steps.call("quantile_map", [features, nodes.x.shape[1]], x, *tables, z)
    return z


def _layer(steps: Steps, layer: KANLayer, n: int, x: str) -> str:
    """Add a layer."""
    cells = cells_of(layer)
    sums, base = layer.out_features + layer.products, "none" if cells.base_weight is None else layer.base
    places, power = _with_outside(cells)
    tables = [
        steps.table(f"layer{n}_knots", _ladder(cells.knots)),
        steps.table(f"layer{n}_places", places),
        steps.table(f"layer{n}_power", power),
        "static_cast<const T*>(nullptr)",
        steps.table(f"layer{n}_bias", cells.bias),
    ]
    if cells.base_weight is not None:
        tables[3] = steps.table(f"layer{n}_base", cells.base_weight)
    y = steps.buffer(sums)
    rows = power.shape[2] - 1
    steps.call("splines", [layer.in_features, sums, layer.grid, rows, BASE_NUMBERS[base]], x, *tables, y)
    if layer.products == 0:
        return y
    z = steps.buffer(layer.out_features)
    steps.call("products", [layer.out_features - layer.products, layer.products], y, z)
    return z


def _ladder(numbers: Floats) -> Floats:
    """Return rows of increasing numbers in the order in which `count` of the header compares them."""
    rows, n = numbers.shape
    if n <= _BLOCK:
        return numbers
    padded = np.full((rows, -(-n // _BLOCK) * _BLOCK), float(np.finfo(np.float32).max))
    padded[:, :n] = numbers
    return np.concatenate([padded[:, ::_BLOCK], padded], axis=1)


def _with_outside(cells: Cells) -> tuple[Floats, Floats]:
    """Return (origin, scale) and powers of all cells, with the one below the grid first and the one above last.

    **Shape** `(in, G + 2, 2)` and `(in, G + 2, degree + 1, out)`, at least two powers.
    """
    inputs, grid, rows, out = cells.power.shape
    places, power = np.zeros((inputs, grid + 2, 2)), np.zeros((inputs, grid + 2, max(rows, 2), out))
    places[:, 1:-1, 0] = cells.origin
    places[:, 1:-1, 1] = np.where(cells.filled, 1.0 / np.where(cells.filled, cells.width, 1.0), 0.0)
    power[:, 1:-1, :rows] = cells.power
    for end, at in enumerate((0, -1)):
        places[:, at, 0], places[:, at, 1] = cells.knots[:, at], 1.0
        power[:, at, 0], power[:, at, 1] = cells.edge[end], cells.slope[end]
    return places, power


def _perceptron(steps: Steps, model: Network, x: str) -> str:
    """Add the layers of an MLP."""
    n, size = 0, model.widths[0]
    for module in model.layers:  # type: ignore[union-attr]
        if isinstance(module, nn.Linear):
            weight, bias = as_floats(module.weight).T, as_floats(module.bias)
            y, size = steps.buffer(weight.shape[1]), weight.shape[1]
            tables = steps.table(f"layer{n}_weight", weight), steps.table(f"layer{n}_bias", bias)
            steps.call("dense", weight.shape, x, *tables, y)
            x, n = y, n + 1
        elif type(module) in ACTIVATION_NUMBERS:
            steps.call("activate", [size, ACTIVATION_NUMBERS[type(module)]], x)
    return x
