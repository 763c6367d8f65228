"""ONNX: raw features in, predictions out, in operators that every runtime has, ROOT's SOFIE among them.

A spline is its value at the left end of the grid plus, for every interval, how much a polynomial in
clip(x - middle, -h/2, h/2) / h has risen from its left end; outside the grid the tangents go on. The quantile map is
the same with straight lines. Both are exact. All inputs of a layer are treated at once: a matrix of zeros and ones
repeats every input for each of its intervals.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

import hepkan
from hepkan.errors import DataError, require
from hepkan.export.pieces import Cells, Floats, as_floats, cells_of, check_network, identity_affine, nodes_of, start_of
from hepkan.export.verification import Export, check_events, compare, float32_tolerance, reference, writing
from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN, Network
from hepkan.nn.transforms import QuantileNormal, Standard

OPSET, IR_VERSION = 17, 8
COLUMNS = 512
"""Clipped values that are made at once: bounds memory, and the zeros that are multiplied."""


def onnx(
    model: Network,
    path: str | Path,
    X: ArrayLike | Tensor | None = None,
    *,
    link: bool = True,
    tolerance: float | None = None,
) -> Export:
    """Write a network as ONNX: float32, opset 17, input `features` `(batch, in)`, output `prediction` `(batch, out)`.

    Operators: Gemm, Add, Sub, Mul, Div, Relu, Min, Max and Sigmoid; besides, Softmax for that link, Erf for an MLP
    with `gelu`, and Gather where columns are selected. ROOT's SOFIE has them all. Min and Max, the value first, stand
    for Clip because they keep a NaN, which gives NaN for its event. The file is run by onnxruntime and compared with
    the network in float64 before it is written. Batches of some thousand events are the fastest.

    Arguments:
        model: a KAN or MLP.
        path: the file; replaced only by one that agrees with the network.
        X: events for the comparison `(n, features)`, best real ones; others are drawn in any case.
        link: whether predictions come out, as from `predict`; otherwise logits, as from the network itself.
        tolerance: largest difference allowed, in units of the output's spread; see `verification.compare`. When not
            given `verification.float32_tolerance`.

    Raises:
        UsageError: the model is no network of this package or X does not fit.
        DataError: the file would differ from the network, or cannot be written.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    network = check_network(model)
    target = Path(path)
    library = require("onnx", "export", "Writing ONNX")
    require("onnx.helper", "export", "Writing ONNX")
    runtime = require("onnxruntime", "export", "Checking ONNX")
    events = check_events(network, X)
    content = _build(network, link, library)
    found, expected = _run(content, events, runtime), reference(network, events, link)
    precision = float(np.finfo(np.float32).eps)
    if tolerance is None:
        tolerance = float32_tolerance(network, events, link, expected)
    done = compare("The ONNX file", target, found, expected, tolerance, precision)
    with writing(target) as temporary:
        temporary.write_bytes(content)
    return done


def _run(content: bytes, events: NDArray[np.float32], runtime: Any) -> NDArray[np.float32]:
    """Return the predictions of onnxruntime."""
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"features": events[i : i + 2048]})[0] for i in range(0, len(events), 2048)]
    return np.concatenate(parts)


def _build(model: Network, link: bool, library: Any) -> bytes:
    """Return the file's content, checked by onnx."""
    helper, kinds = library.helper, library.TensorProto
    graph = Graph(library)
    _network(graph, model, link)
    graph.nodes[-1].output[0] = "prediction"
    sizes = {"features": model.n_features, "prediction": model.widths[-1]}
    ends = [helper.make_tensor_value_info(name, kinds.FLOAT, ["batch", size]) for name, size in sizes.items()]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "hepkan", ends[:1], ends[1:], graph.numbers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="hepkan",
        producer_version=hepkan.__version__,
    )
    names = json.dumps(model.feature_names) if model.feature_names else ""
    applied = model.link if link else "identity"
    helper.set_model_props(proto, {"feature_names": names, "link": applied, "class": type(model).__name__})
    library.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


class Graph:
    """Nodes and numbers of an ONNX graph in the making."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.nodes: list[Any] = []
        self.numbers: list[Any] = []

    def add(self, kind: str, *inputs: str | Floats, **attributes: Any) -> str:
        """Add a node and return its output's name; numbers become constants of the file."""
        names = [value if isinstance(value, str) else self.number(value) for value in inputs]
        output = f"t{len(self.nodes)}"
        self.nodes.append(self.library.helper.make_node(kind, names, [output], **attributes))
        return output

    def number(self, values: Floats) -> str:
        """Add a constant in float32 and return its name."""
        with np.errstate(over="ignore"):
            single = np.asarray(values, dtype=np.float32)
        if not np.isfinite(single).all():
            raise DataError("ONNX needs numbers within the range of float32, however the network has larger ones.")
        name = f"c{len(self.numbers)}"
        self.numbers.append(self.library.numpy_helper.from_array(single, name))
        return name

    def select(self, x: str, columns: Sequence[int]) -> str:
        """Add the choice of some columns."""
        name = f"c{len(self.numbers)}"
        self.numbers.append(self.library.numpy_helper.from_array(np.array(columns, dtype=np.int64), name))
        return self.add("Gather", x, name, axis=1)

    def total(self, terms: Sequence[str]) -> str:
        """Add up."""
        result = terms[0]
        for term in terms[1:]:
            result = self.add("Add", result, term)
        return result


def _network(graph: Graph, model: Network, link: bool) -> None:
    """Add everything from raw features to predictions, which the last node gives."""
    z = _input_map(graph, model, "features")
    if isinstance(model, KAN):
        for layer in model.layers:
            assert isinstance(layer, KANLayer)
            z = _layer(graph, layer, z)
    else:
        z = _perceptron(graph, model, z)
    mean, scale = (as_floats(getattr(model.output_map, name)) for name in ("mean", "scale"))
    if not identity_affine(mean, scale):
        z = graph.add("Add", graph.add("Mul", z, scale[None]), mean[None])
    if link and model.link == "sigmoid":
        graph.add("Sigmoid", z)
    elif link and model.link == "softmax":
        graph.add("Softmax", z, axis=1)


def _input_map(graph: Graph, model: Network, x: str) -> str:
    """Add the input map."""
    transform = model.input_map
    if model.columns is not None:
        x = graph.select(x, model.columns)
    if isinstance(transform, Standard):
        mean, scale = as_floats(transform.mean), as_floats(transform.scale)
        return x if identity_affine(mean, scale) else graph.add("Div", graph.add("Sub", x, mean[None]), scale[None])
    if not isinstance(transform, QuantileNormal):
        return x
    nodes = nodes_of(transform)
    x = graph.add("Min", graph.add("Max", x, nodes.x[:, 0][None]), nodes.x[:, -1][None])
    rise = np.diff(nodes.z, axis=1)
    features = len(rise)
    terms = [graph.add("Mul", x, np.zeros((1, 1)))]  # zero, or NaN
    for inputs, used in _blocks(rise != 0.0):
        clipped, width, owner = _clipped(graph, x, features, nodes.x, inputs, used)
        slope = np.zeros((len(owner), len(inputs)))
        slope[np.arange(len(owner)), owner] = rise[inputs][used] / width if used.any() else 0.0
        # The scores of a block go back to their places in a step of its own: fewer zeros are multiplied.
        bias = nodes.z[inputs, 0]
        if len(inputs) == features:
            terms.append(graph.add("Gemm", clipped, slope, bias))
            continue
        terms.append(graph.add("Gemm", graph.add("Gemm", clipped, slope, bias), np.eye(features)[inputs]))
    return graph.total(terms)


def _blocks(used: NDArray[np.bool_]) -> list[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Divide inputs into blocks of at most `COLUMNS` intervals; returns inputs and their used intervals."""
    counts = np.maximum(used.sum(axis=1), 1)
    number = np.cumsum(counts) // COLUMNS if counts.sum() > COLUMNS else np.zeros(len(counts), dtype=np.int64)
    return [(np.flatnonzero(number == n), used[number == n]) for n in np.unique(number)]


def _clipped(
    graph: Graph, x: str, features: int, knots: Floats, inputs: NDArray[np.intp], used: NDArray[np.bool_]
) -> tuple[str, Floats, NDArray[np.intp]]:
    """Add clip(x - t, 0, h) of used intervals; returns it, h, and which input of the block each column has.

    The difference to the knot is exact, so quantities far from zero lose nothing. An interval too narrow for float32
    becomes a step within one of its units. Relu may lose a NaN here: another path has to carry it.
    """
    owner, interval = np.nonzero(used)
    if len(owner) == 0:
        owner, interval = np.array([0]), np.array([0])
    edges = knots[inputs].astype(np.float32)
    left = edges[owner, interval]
    least = np.maximum(np.abs(np.spacing(left)).astype(np.float64), 1e-30)
    width = np.maximum(edges[owner, interval + 1].astype(np.float64) - left, least)
    if len(inputs) < features:
        x = graph.add("Gemm", x, np.eye(features)[:, inputs])
    distance = graph.add("Gemm", x, np.eye(len(inputs))[:, owner], -left.astype(np.float64))
    return graph.add("Min", graph.add("Relu", distance), width[None]), width, owner


def _layer(graph: Graph, layer: KANLayer, x: str) -> str:
    """Add a layer: splines, base functions, biases and products."""
    cells = cells_of(layer)
    terms = _outside(graph, cells, x, cells.bias + start_of(cells, "ONNX"))
    for inputs, used in _blocks(cells.filled):
        if used.any():
            terms += _intervals(graph, cells, x, inputs, used)
    if cells.base_weight is not None:
        base = x if layer.base == "linear" else graph.add("Mul", x, graph.add("Sigmoid", x))
        terms.append(graph.add("Gemm", base, cells.base_weight))
    return _products(graph, layer, graph.total(terms))


def _intervals(graph: Graph, cells: Cells, x: str, inputs: NDArray[np.intp], used: NDArray[np.bool_]) -> list[str]:
    """Add the polynomials of a block in u = clip(x - origin, left - origin, right - origin) / h, power by power."""
    owner, interval = np.nonzero(used)
    edges, origin = cells.knots[inputs].astype(np.float32).astype(np.float64), cells.origin[inputs][used]
    low, high = (edges[owner, interval + side] - origin for side in (0, 1))
    if len(inputs) < len(cells.knots):
        x = graph.add("Gemm", x, np.eye(len(cells.knots))[:, inputs])
    distance = graph.add("Gemm", x, np.eye(len(inputs))[:, owner], -origin)
    inside = graph.add("Min", graph.add("Max", distance, low[None]), high[None])
    u = graph.add("Mul", inside, 1.0 / np.maximum(cells.width[inputs][used], 1e-30)[None])
    power = cells.power[inputs][used]
    raised, terms = u, []
    for p in range(1, power.shape[1]):
        raised = raised if p == 1 else graph.add("Mul", raised, u)
        terms.append(graph.add("Gemm", raised, power[:, p]))
    return terms


def _outside(graph: Graph, cells: Cells, x: str, start: Floats) -> list[str]:
    """Add the constants and the tangents that continue the splines outside the grid."""
    low, high = cells.knots[:, 0][None], cells.knots[:, -1][None]
    below = graph.add("Min", graph.add("Sub", x, low), np.zeros((1, 1)))
    above = graph.add("Max", graph.add("Sub", x, high), np.zeros((1, 1)))
    return [graph.add("Gemm", below, cells.slope[0], start), graph.add("Gemm", above, cells.slope[1])]


def _products(graph: Graph, layer: KANLayer, sums: str) -> str:
    """Add the product nodes: each output is a sum times one, or times another sum."""
    if layer.products == 0:
        return sums
    alone, eye = layer.out_features - layer.products, np.eye(layer.out_features + layer.products)
    first = np.concatenate([eye[:, :alone], eye[:, alone::2]], axis=1)
    second = np.concatenate([np.zeros((len(eye), alone)), eye[:, alone + 1 :: 2]], axis=1)
    ones = np.concatenate([np.ones(alone), np.zeros(layer.products)])
    return graph.add("Mul", graph.add("Gemm", sums, first), graph.add("Gemm", sums, second, ones))


def _perceptron(graph: Graph, model: Network, z: str) -> str:
    """Add the layers of an MLP."""
    for module in model.layers:  # type: ignore[union-attr]
        if isinstance(module, nn.Linear):
            z = graph.add("Gemm", z, as_floats(module.weight).T, as_floats(module.bias))
        elif isinstance(module, nn.ReLU):
            z = graph.add("Max", z, np.zeros((1, 1)))
        elif isinstance(module, nn.SiLU):
            z = graph.add("Mul", z, graph.add("Sigmoid", z))
        elif isinstance(module, nn.Tanh):
            half = graph.add("Sigmoid", graph.add("Mul", z, np.full((1, 1), 2.0)))
            z = graph.add("Sub", graph.add("Mul", half, np.full((1, 1), 2.0)), np.ones((1, 1)))
        elif isinstance(module, nn.GELU):
            erf = graph.add("Erf", graph.add("Mul", z, np.full((1, 1), 0.5**0.5)))
            z = graph.add("Mul", graph.add("Mul", z, np.full((1, 1), 0.5)), graph.add("Add", erf, np.ones((1, 1))))
    return z
