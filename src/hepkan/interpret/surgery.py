"""Taking parts of a KAN away: pure functions that return a smaller network and keep what the rest computes.

What is taken away leaves its mean behind in a bias. A hidden node that no edge reaches is a constant and moves into the
biases behind it; one that no edge leaves is dropped; a product with a constant factor becomes a plain node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.interpret.judging import Floats, layers_of
from hepkan.interpret.trace import Mask, edge_moments, edges_of
from hepkan.nn import KAN, KANLayer


class DeadNetworkError(DataError):
    """No path from an input to an output is left."""


def _masks(model: KAN) -> list[Mask]:
    """Return which edges a network has, `(in, sums)` for each layer."""
    return [edges_of(layer) for layer in layers_of(model)]


def sums_of(layer: KANLayer, node: int) -> list[int]:
    """Return the sums that make an output: one, or the two of a product."""
    alone = layer.out_features - layer.products
    return [node] if node < alone else [2 * node - alone, 2 * node - alone + 1]


def remove_edges(model: KAN, gone: Sequence[Mask], means: Sequence[Floats]) -> KAN:
    """Return a network without some edges, each replaced by its mean, and without what they leave dead.

    **Shape** gone, means: `(in, sums)` for each layer.

    Raises:
        DeadNetworkError: no path from an input to an output would be left.
    """
    layers = []
    for layer, kept, away, mean in zip(layers_of(model), _masks(model), gone, means, strict=True):
        changed = layer.part(range(layer.in_features), range(kept.shape[1]), layer.products)
        _add_to_bias(changed, np.where(away & kept, mean, 0.0).sum(axis=0))
        changed.mask_edges(kept & ~away)
        layers.append(changed)
    return compact(model.rewired(layers, range(model.widths[0])))


def remove_inputs(
    model: KAN, names: Sequence[str | int], X: ArrayLike | Tensor, weight: ArrayLike | Tensor | None = None
) -> KAN:
    """Return a network that does without some features, their edges replaced by their means over events.

    It takes the same raw features as before.

    Arguments:
        model: a KAN.
        names: of features, or their columns.
        X: raw features `(n, features)`.
        weight: `(n,)`.

    Raises:
        UsageError: a feature is unknown or not used.
        DeadNetworkError: no input would be left.
    """
    places = [_place(model, name) for name in names]
    x = torch.as_tensor(np.asarray(X) if not isinstance(X, Tensor) else X).to(layers_of(model)[0].coef)
    w = torch.ones(len(x)) if weight is None else torch.as_tensor(weight).abs()
    gone = [np.zeros_like(mask) for mask in _masks(model)]
    gone[0][places] = True
    return remove_edges(model, gone, [mean for mean, _ in edge_moments(model, x, w.to(x))])


def compact(model: KAN) -> KAN:
    """Return the same function without constant nodes, nodes that lead nowhere, and inputs that are not used.

    Raises:
        DeadNetworkError: no path from an input to an output is left.
    """
    layers = [layer.part(range(layer.in_features), range(mask.shape[1]), layer.products)
              for layer, mask in zip(layers_of(model), _masks(model), strict=True)]  # fmt: skip
    for place in range(len(layers) - 1):
        layers[place], layers[place + 1] = _without_constants(layers[place], layers[place + 1])
        if layers[place].coef.shape[2] == 0 or layers[place + 1].coef.shape[0] == 0:
            raise _dead()
    for place in range(len(layers) - 2, -1, -1):
        layers[place], layers[place + 1] = _without_ends(layers[place], layers[place + 1])
    used = np.flatnonzero(edges_of(layers[0]).any(axis=1)).tolist()
    if not used:
        raise _dead()
    layers[0] = layers[0].part(used, range(layers[0].coef.shape[2]), layers[0].products)
    return model.rewired(layers, used)


def _without_constants(layer: KANLayer, behind: KANLayer) -> tuple[KANLayer, KANLayer]:
    """Move hidden nodes that no edge reaches into the biases behind them; products with one factor become plain."""
    reached: list[bool] = np.any(edges_of(layer), axis=0).tolist()
    bias = _bias(layer)
    plain: list[tuple[int, int, float]] = []  # node, its sum, factor
    products: list[tuple[int, list[int]]] = []
    constants: dict[int, float] = {}
    for node in range(layer.out_features):
        sums = sums_of(layer, node)
        alive = [one for one in sums if reached[one]]
        factor = float(np.prod([bias[one] for one in sums if not reached[one]]))
        if not alive or factor == 0.0:
            constants[node] = factor
        elif len(alive) < len(sums) or len(sums) == 1:
            plain.append((node, alive[0], factor))
        else:
            products.append((node, sums))
    if not plain and not products:
        raise _dead()
    if constants:
        _fold(behind, constants)
    nodes = [node for node, *_ in plain] + [node for node, _ in products]
    sums = [one for _, one, _ in plain] + [one for _, pair in products for one in pair]
    smaller = layer.part(range(layer.in_features), sums, len(products))
    _scale(smaller, [factor for *_, factor in plain])
    return smaller, behind.part(nodes, range(behind.coef.shape[2]), behind.products)


def _without_ends(layer: KANLayer, behind: KANLayer) -> tuple[KANLayer, KANLayer]:
    """Drop hidden nodes that no edge leaves."""
    used = np.flatnonzero(edges_of(behind).any(axis=1)).tolist()
    if not used:
        raise _dead()
    sums = [one for node in used for one in sums_of(layer, node)]
    products = sum(len(sums_of(layer, node)) == 2 for node in used)
    return (
        layer.part(range(layer.in_features), sums, products),
        behind.part(used, range(behind.coef.shape[2]), behind.products),
    )


def _fold(layer: KANLayer, constants: dict[int, float]) -> None:
    """Add what constant inputs give to the biases, and take their edges away."""
    values = torch.zeros(1, layer.in_features, dtype=torch.float64)
    for node, value in constants.items():
        values[0, node] = value
    functions = layer.edge_functions(values.to(layer.coef))[0].detach().double().cpu().numpy()
    mask = edges_of(layer)
    _add_to_bias(layer, functions[list(constants)].sum(axis=0))
    mask[list(constants)] = False
    layer.mask_edges(mask)


@torch.no_grad()
def _scale(layer: KANLayer, factors: Sequence[float]) -> None:
    """Multiply the first sums by factors."""
    every = torch.ones(layer.coef.shape[2]).to(layer.coef)
    every[: len(factors)] = torch.tensor(list(factors), dtype=torch.float64).to(every)
    for numbers in (layer.coef, layer.base_weight, layer.bias):
        if numbers is not None:
            numbers.mul_(every)


@torch.no_grad()
def _add_to_bias(layer: KANLayer, values: Floats) -> None:
    """Add to the biases of sums."""
    if layer.bias is None:
        raise UsageError("Pruning leaves constants in the biases, however a layer has none. Give it biases.")
    layer.bias.add_(torch.from_numpy(values).to(layer.bias))


def _bias(layer: KANLayer) -> Floats:
    """Return the biases of sums in float64."""
    if layer.bias is None:
        return np.zeros(layer.coef.shape[2])
    return np.asarray(layer.bias.detach().double().cpu().numpy())


def _place(model: KAN, name: str | int) -> int:
    """Return the place among the inputs of a feature given by name or column."""
    columns = list(range(model.n_features) if model.columns is None else model.columns)
    known: dict[Any, int] = {column: place for place, column in enumerate(columns)}
    known |= {text: place for place, text in enumerate(model.input_names)}
    if name not in known:
        raise UsageError(f"The network must use the feature to be removed, however {name!r} is not among "
                         f"{', '.join(model.input_names)}.")  # fmt: skip
    return known[name]


def _dead() -> DeadNetworkError:
    """Return the error of a network without a path."""
    return DeadNetworkError(
        "A network needs a path from an input to an output, however no edge is left on any: it is dead. "
        "Keep more edges."
    )
