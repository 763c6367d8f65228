"""What a network learned: the functions on its first edges and the share of every input in its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import DataError
from hepkan.report import statistics
from hepkan.report.reading import Feature, Run
from hepkan.report.style import axis_label

if TYPE_CHECKING:
    from hepkan.nn import KAN

Floats = NDArray[np.float64]
POINTS = 121
EVENTS = 4000


@dataclass(frozen=True)
class Data:
    """Events behind the pictures.

    Attributes:
        features: the inputs, in the network's order.
        X: their raw values, `(n, features)`.
        target: 1 signal, 0 background, `(n,)`; without classes all 0.
        weight: not negative, both classes with the same sum as in training, `(n,)`.
        classes: names of background and signal; none in a regression.
        targets: the targets of a regression.
    """

    features: tuple[Feature, ...]
    X: Floats
    target: NDArray[Any]
    weight: Floats
    classes: tuple[str, ...]
    targets: tuple[Feature, ...] = ()


@dataclass(frozen=True)
class Edges:
    """First-layer functions of the members of one model, centred on the data.

    Attributes:
        x: raw values at which they are known, `(points, features)`.
        phi: the functions of each member, `(members, points, features, nodes)`.
        importance: share of each edge in the output, `(members, features, nodes)`, adding up to 1.
        by_output: share of each input in single outputs, `(features, outputs)`, mean over the members.
        outputs: labels of the outputs.
        layers: number of layers of the network.
    """

    x: Floats
    phi: Floats
    importance: Floats
    by_output: Floats
    outputs: tuple[str, ...]
    layers: int

    @property
    def order(self) -> list[int]:
        """Features by falling importance, the members' mean."""
        total = self.importance.sum(axis=2).mean(axis=0)
        return [int(i) for i in np.argsort(-total, kind="stable")]


def data_of(run: Run) -> Data:
    """Return the events of `inputs.parquet`, with balanced classes where there are any."""
    X = np.column_stack([run.inputs[one.name] for one in run.features]).astype(np.float64)
    target = run.inputs["target"]
    if run.targets:
        weight = np.abs(run.inputs["weight"]).astype(np.float64)
        none = np.zeros(len(X), dtype=np.int64)
        return Data(run.features, X, none, weight / (weight.sum() or 1.0), (), run.targets)
    weight = statistics.balanced(target, run.inputs["weight"])
    return Data(run.features, X, target, weight, run.classes)


def load_kans(files: Mapping[int, Path], features: int) -> list[KAN]:
    """Return the KANs among model files, by seed; other networks have no edge functions.

    Raises:
        DataError: a file is damaged, or has another number of inputs than the run.
    """
    from hepkan.model_io import load, read_metadata
    from hepkan.nn import KAN

    found = []
    for _, path in sorted(files.items()):
        if read_metadata(path)["class"] != "KAN":
            continue
        model = load(path)
        if not isinstance(model, KAN) or model.widths[0] != features:
            raise DataError(
                f"{path} must have the {features} inputs of its run, however it has {model.widths[0]}."
            )
        found.append(model)
    return found


def edges_of(models: Sequence[KAN], data: Data) -> Edges:
    """Evaluate the first layer of every member over the central 99 % of each feature."""
    columns = [_grid(data.X[:, i], data.weight) for i in range(data.X.shape[1])]
    x = np.column_stack(columns)
    sample = _sample(data)
    phi, importance, by_output = [], [], []
    for model in models:
        values, centre = (_first_layer(model, points, not data.targets) for points in (x, sample))
        phi.append(values - centre.mean(axis=0))
        deviations = _deviations(model, sample)
        outputs = model.widths[-1]
        importance.append(_hand_back(model, deviations, np.full(outputs, 1.0 / outputs)))
        by_output.append([_hand_back(model, deviations, one).sum(axis=1) for one in np.eye(outputs)])
    shares = np.mean(by_output, axis=0).T
    return Edges(x, np.stack(phi), np.stack(importance), shares, output_labels(models[0], data), len(models[0].layers))


def output_labels(model: KAN, data: Data) -> tuple[str, ...]:
    """Return labels of the outputs; those of a head with constraints are momenta and a mass."""
    labels = [axis_label(one.label, "", one.name) for one in data.targets]
    if model.head is not None:
        kept = (0, 1, 2, 4, 5, 6) if model.head.met is None else (0, 1, 2, 6)
        labels = [*(labels[place] for place in kept), "mass"]
    count = model.widths[-1]
    return tuple(labels[:count]) if len(labels) >= count else tuple(f"output {i + 1}" for i in range(count))


def _deviations(model: KAN, x: Floats) -> list[Floats]:
    """Return the deviations of all edges over raw events, `(inputs, sums)` of each layer."""
    import torch

    deviations = []
    with torch.no_grad():
        z = model.coordinates(torch.as_tensor(x, dtype=torch.float32))
        for layer in model.layers:
            deviations.append(layer.edge_functions(z).std(dim=0).double().numpy())  # type: ignore[operator]
            z = layer(z)
    return deviations


def _hand_back(model: KAN, deviations: Sequence[Floats], score: Floats) -> Floats:
    r"""Return the shares of all first-layer edges in scores of the outputs, `(features, sums)`.

    The score of a node is handed back to its edges in proportion to the deviation of their functions over the
    data, :math:`A_{l-1,i} = \sum_j A_{l,j} \sigma_{ij} / \sum_i \sigma_{ij}`; a product hands half of its score to each
    of its two sums. The sum of the scores stays.

    References:
        "KAN 2.0: Kolmogorov-Arnold Networks Meet Science" (Liu et al., 2024), arXiv:2408.10205.
    """
    shares = np.zeros_like(deviations[0])
    for products, deviation in zip(reversed(model.describe()["products"]), reversed(deviations), strict=True):
        alone = len(score) - products
        score = np.concatenate([score[:alone], np.repeat(0.5 * score[alone:], 2)])
        total = deviation.sum(axis=0)
        shares = deviation * np.divide(score, total, out=np.zeros_like(total), where=total > 0)
        score = shares.sum(axis=1)
    return np.asarray(shares)


def likelihood_ratio(data: Data, place: int, bins: int = 24) -> tuple[Floats, Floats, Floats]:
    """Return position, centred log p(x|S)/p(x|B) and its error in bins of equal weight of one input."""
    values = data.X[:, place]
    edges = statistics.edges(values, data.weight)
    if len(edges) > bins:
        levels = np.linspace(0.005, 0.995, bins + 1)
        edges = np.unique(statistics.quantile(values, data.weight, levels))
    parts = [np.column_stack([values, data.weight])[data.target == label] for label in (1, 0)]
    ratio, error = statistics.log_ratio(parts[0], parts[1], edges)
    mass, _ = np.histogram(values, edges, weights=data.weight)
    first, _ = np.histogram(values, edges, weights=data.weight * values)
    kept = np.isfinite(ratio) & (mass > 0)
    if not kept.any():
        return np.zeros(0), np.zeros(0), np.zeros(0)
    ratio = ratio - np.average(ratio[kept], weights=mass[kept])
    return first[kept] / mass[kept], ratio[kept], error[kept]


def _grid(values: Floats, weight: Floats) -> Floats:
    """Return increasing points over the central 99 % of a feature."""
    low, high = statistics.quantile(values, weight, np.array([0.005, 0.995]))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, POINTS)


def _sample(data: Data) -> Floats:
    """Return events drawn in proportion to their weights, the same every time."""
    mass = np.cumsum(data.weight)
    levels = (np.arange(EVENTS) + 0.5) / EVENTS * mass[-1]
    rows = np.searchsorted(mass, levels).clip(max=len(mass) - 1)
    return np.asarray(data.X[rows])


def _first_layer(model: KAN, x: Floats, scaled: bool) -> Floats:
    """Return the first layer's functions at raw values, `(points, features, nodes)`; scaled like the output of one."""
    import torch

    with torch.no_grad():
        z = model.coordinates(torch.as_tensor(x, dtype=torch.float32))
        values = model.layers[0].edge_functions(z)  # type: ignore[operator]
        if scaled and len(model.layers) == 1:
            values = values * model.output_map.scale
    return np.asarray(values.double().numpy())
