"""A trained KAN as a graph: every edge a spline and a base function, exact in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.interpret.expression import Call, Expression, Input, Lines, Product, Spline, Sum
from hepkan.interpret.primitives import SILU
from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN
from hepkan.nn.transforms import QuantileNormal, Standard

Floats = NDArray[np.float64]


class Edge(NamedTuple):
    """An edge of a network: its function in the graph, what it is a function of, and where it is.

    The variable is the raw feature in the first layer, where the input map belongs to the edge.
    """

    function: Expression
    variable: Expression
    layer: int
    input: int
    output: int


class NetworkGraph(NamedTuple):
    """The outputs of a network before its link, and its edges in the order of layers."""

    roots: tuple[Expression, ...]
    edges: tuple[Edge, ...]


def network_graph(model: object) -> NetworkGraph:
    """Return the graph of a KAN; masked edges and those that are exactly zero have no place in it.

    Raises:
        UsageError: the model is no KAN of this package.
        DataError: it holds numbers that are not finite, or all its edges are zero.
    """
    if type(model) is not KAN:
        raise UsageError(
            f"A formula is read from a hepkan.KAN, however the model is a {type(model).__name__}. "
            "Give the network itself, `.model_` of an estimator or `.model` of a FitResult."
        )
    if model.head is not None:
        raise UsageError(
            "A formula is read from a network whose outputs are its targets, however this one has a head that makes "
            "the targets of them. Train one without a head."
        )
    bad = [name for name, values in model.state_dict().items() if not np.isfinite(_floats(values)).all()]
    if bad:
        raise DataError(f"A formula needs a network of finite numbers, however {', '.join(bad)} has others.")
    columns = range(model.widths[0]) if model.columns is None else model.columns
    variables: list[Expression] = [Input(column) for column in columns]
    values = [_mapped(model, i, variable) for i, variable in enumerate(variables)]
    edges: list[Edge] = []
    for number, layer in enumerate(model.layers):
        assert isinstance(layer, KANLayer)
        values, found = _layer(layer, number, values, variables if number == 0 else values)
        edges += found
    mean, scale = _floats(model.output_map.mean), _floats(model.output_map.scale)  # type: ignore[arg-type]
    roots = tuple(_scaled(value, float(m), float(s)) for value, m, s in zip(values, mean, scale, strict=True))
    if not any(edge.layer == len(model.layers) - 1 for edge in edges):
        raise DataError("A formula needs a network whose edges are not all zero, however this one is constant.")
    return NetworkGraph(roots, tuple(edges))


def _mapped(model: KAN, i: int, variable: Expression) -> Expression:
    """Return the network coordinate of an input."""
    if isinstance(model.input_map, QuantileNormal):
        return Lines(variable, _floats(model.input_map.x_nodes)[i], _floats(model.input_map.z_nodes)[i])
    if isinstance(model.input_map, Standard):
        mean, scale = float(model.input_map.mean[i]), float(model.input_map.scale[i])
        return Sum((variable,), (1.0 / scale,), -mean / scale, frozenset([0, 1]))
    return variable


def _layer(
    layer: KANLayer, number: int, values: list[Expression], variables: list[Expression]
) -> tuple[list[Expression], list[Edge]]:
    """Return a layer's outputs and its edges."""
    knots, coef = _floats(layer.knots), _floats(layer.coef)
    weights = np.zeros(coef.shape[::2]) if layer.base_weight is None else _floats(layer.base_weight)
    bias = np.zeros(coef.shape[2]) if layer.bias is None else _floats(layer.bias)
    if layer.edge_mask is not None:
        mask = _floats(layer.edge_mask)
        coef, weights = coef * mask[:, None, :], weights * mask
    bases = [value if layer.base == "linear" else Call(SILU, value) for value in values]
    edges: list[Edge] = []
    sums: list[Expression] = []
    for o in range(coef.shape[2]):
        here = []
        for i, value in enumerate(values):
            parts: list[tuple[Expression, float]] = []
            if np.any(coef[i, :, o] != 0.0):
                parts.append((Spline(value, knots[i], coef[i, :, o].copy(), layer.degree), 1.0))
            if weights[i, o] != 0.0:
                parts.append((bases[i], float(weights[i, o])))
            if parts:
                terms, factors = zip(*parts, strict=True)
                here.append(Edge(Sum(terms, factors), variables[i], number, i, o))
        edges += here
        sums.append(Sum(tuple(edge.function for edge in here), (1.0,) * len(here), float(bias[o])))
    alone = layer.out_features - layer.products
    pairs = zip(sums[alone::2], sums[alone + 1 :: 2], strict=True)
    return [*sums[:alone], *(Product(pair) for pair in pairs)], edges


def _scaled(value: Expression, mean: float, scale: float) -> Expression:
    """Return an output in physical units."""
    return value if (mean, scale) == (0.0, 1.0) else Sum((value,), (scale,), mean)


def _floats(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().cpu().double().numpy(), dtype=np.float64)
