"""The algorithm of an exported C++ header in NumPy, on the constants and steps that stand in its text.

It shares nothing with the code that wrote them but the text, so a number lost in writing is seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from hepkan.export.pieces import Floats

_TABLE = re.compile(r"inline constexpr T (\w+)\[(\d+)\] = \{([^}]*)\};")
_STEP = re.compile(r"^ {8}(?:detail::(\w+)<([^>]*)>\((.*)\);|for \(int n = 0; n < outputs; \+\+n\) (.*);)$", re.M)
_CHUNK = 4096


def evaluate(text: str, events: NDArray[np.float32]) -> Floats:
    """Return what a header gives for events in double; `(n, features)` to `(n, outputs)`."""
    tables = {name: np.array(body.split(","), dtype=np.float64) for name, _, body in _TABLE.findall(text)}
    steps = _STEP.findall(text)
    outputs = []
    with np.errstate(all="ignore"):
        for start in range(0, max(1, len(events)), _CHUNK):
            values: dict[str, Floats] = {"x": events[start : start + _CHUNK].astype(np.float64), **tables}
            for function, numbers, arguments, loop in steps:
                if loop:
                    target, source = re.match(r"(\w+)\[n\] = (?:detail::sigmoid\()?(\w+)", loop).groups()  # type: ignore[union-attr]
                    values[target] = expit(values[source]) if "sigmoid" in loop else values[source]
                    continue
                sizes = [int(number) for number in numbers.split(",")]
                names = [re.sub(r"<T>$", "", name.strip()) for name in arguments.split(", ")]
                STEPS[function](values, sizes, names)
            outputs.append(values["y"])
    return np.concatenate(outputs)


Values = dict[str, Floats]


def _quantile_map(values: Values, sizes: list[int], names: list[str]) -> None:
    inputs, nodes = sizes
    x, lines = values[names[0]], values[names[2]].reshape(inputs, nodes - 1, 4)
    places = values[names[1]].reshape(inputs, -1)
    z = np.empty_like(x)
    for i in range(inputs):
        line = lines[i, np.clip(_count(places[i], nodes, x[:, i]) - 1, 0, nodes - 2)]
        z[:, i] = line[:, 2] + np.clip((x[:, i] - line[:, 0]) * line[:, 1], 0.0, 1.0) * line[:, 3]
    values[names[3]] = z


def _count(table: Floats, n: int, x: Floats) -> NDArray[np.intp]:
    """Return how many of the n numbers of a table are <= x, in two steps when there are more than 16."""
    if n <= 16:
        return np.asarray((x[:, None] >= table).sum(axis=1))
    blocks = -(-n // 16)
    block = (x[:, None] >= table[1:blocks]).sum(axis=1)
    inside = table[blocks:].reshape(blocks, 16)[block]
    return np.asarray(np.minimum(16 * block + (x[:, None] >= inside).sum(axis=1), n))


def _select(values: Values, sizes: list[int], names: list[str]) -> None:
    values[names[1]] = values[names[0]][:, sizes]


def _standard_map(values: Values, sizes: list[int], names: list[str]) -> None:
    x, mean, scale = (values[name] for name in names[:3])
    values[names[3]] = (x - mean) / scale


def _splines(values: Values, sizes: list[int], names: list[str]) -> None:
    inputs, outputs, grid, degree, base = sizes
    x, knots, places = values[names[0]], values[names[1]].reshape(inputs, -1), values[names[2]]
    places, power = places.reshape(inputs, grid + 2, 2), values[names[3]].reshape(inputs, grid + 2, degree + 1, outputs)
    y = np.zeros((len(x), outputs)) + values[names[5]]
    if base:
        y = y + (x if base == 1 else x * expit(x)) @ values[names[4]].reshape(inputs, outputs)
    for i in range(inputs):
        cell = _count(knots[i], grid + 1, x[:, i])
        u = ((x[:, i] - places[i, cell, 0]) * places[i, cell, 1])[:, None]
        value = power[i, cell, degree]
        for p in range(degree - 1, -1, -1):
            value = value * u + power[i, cell, p]
        y += value
    values[names[6]] = y


def _products(values: Values, sizes: list[int], names: list[str]) -> None:
    alone, sums = sizes[0], values[names[0]]
    values[names[1]] = np.concatenate([sums[:, :alone], sums[:, alone::2] * sums[:, alone + 1 :: 2]], axis=1)


def _dense(values: Values, sizes: list[int], names: list[str]) -> None:
    x, weight, bias = (values[name] for name in names[:3])
    values[names[3]] = x @ weight.reshape(sizes) + bias


def _activate(values: Values, sizes: list[int], names: list[str]) -> None:
    x = values[names[0]]
    kinds: list[Callable[[], Floats]] = [
        lambda: np.maximum(x, 0.0),
        lambda: x * expit(x),
        lambda: np.tanh(x),
        lambda: 0.5 * x * (1.0 + erf(x * 0.5**0.5)),
    ]
    values[names[0]] = kinds[sizes[1]]()


def _rescale(values: Values, sizes: list[int], names: list[str]) -> None:
    values[names[0]] = values[names[1]] + values[names[2]] * values[names[0]]


def _softmax(values: Values, sizes: list[int], names: list[str]) -> None:
    powers = np.exp(values[names[0]] - values[names[0]].max(axis=1, keepdims=True))
    values[names[0]] = powers / powers.sum(axis=1, keepdims=True)


STEPS: dict[str, Callable[[Values, list[int], list[str]], None]] = {
    "select": _select,
    "quantile_map": _quantile_map,
    "standard_map": _standard_map,
    "splines": _splines,
    "products": _products,
    "dense": _dense,
    "activate": _activate,
    "rescale": _rescale,
    "softmax": _softmax,
}
