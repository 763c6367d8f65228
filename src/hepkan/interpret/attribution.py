"""Importance as a measured effect: how much the loss grows when an edge, a node or an input is replaced by its mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import UsageError
from hepkan.interpret.judging import Floats, Judge, demand_alive, layers_of, make_judge
from hepkan.interpret.trace import edge_moments, edges_of
from hepkan.nn import KAN

EVENTS = 10_000
"""At most so many events are used by default."""
VALUES = 1 << 21
"""Changed outputs that are held at once."""


@dataclass(frozen=True)
class Scores:
    """How much the loss grows without each of some parts, and the error of that; arrays of one shape."""

    value: Floats
    error: Floats


@dataclass(frozen=True)
class Attribution:
    """Importance of the parts of a network.

    Attributes:
        method: `exact` or `linearised`.
        loss: the name of the loss, `fidelity` without targets.
        value: the loss of the network as it is.
        names: of all raw features.
        inputs: `(n_features,)`; zero for a feature that the network does not use.
        nodes: of hidden nodes, `(width,)` for each hidden layer; empty for several networks.
        edges: `(in, sums)` for each layer; empty for several networks.
    """

    method: str
    loss: str
    value: float
    names: tuple[str, ...]
    inputs: Scores
    nodes: tuple[Scores, ...]
    edges: tuple[Scores, ...]

    def ranking(self) -> list[tuple[str, float, float]]:
        """Return name, importance and error of the inputs, the most important first."""
        order = np.argsort(-self.inputs.value, kind="stable")
        return [(self.names[i], float(self.inputs.value[i]), float(self.inputs.error[i])) for i in order]


def attribute(
    model: KAN | Sequence[KAN],
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor | None = None,
    weight: ArrayLike | Tensor | None = None,
    *,
    group: ArrayLike | None = None,
    loss: str | None = None,
    exact: bool = False,
    n_boot: int = 100,
    seed: int = 0,
    events: int | None = EVENTS,
) -> Attribution:
    r"""Return by how much the loss grows when parts of a KAN are replaced by their means.

    An edge is replaced by its mean over the events, an input or a hidden node by the means of all edges that leave it:
    just what pruning does. Exactly, the rest of the network is evaluated anew for every part. The estimate is of first
    order in the network, :math:`f \to f + (\partial f / \partial s_o) (\langle\phi_{io}\rangle - \phi_{io})`, with the
    loss evaluated as it is; the gradient of the loss alone would say nothing at its minimum. It is exact in the last
    layer, and some hundred times faster.

    Arguments:
        model: a KAN, or several trained with other seeds, whose inputs are then averaged; their hidden nodes do not
            correspond and are left out.
        X: raw features `(n, features)`, finite.
        y: labels or targets; without them importance is the distance to the network's own output in units of its
            variance.
        weight: `(n,)`.
        group: events that are not independent share a number, `(n,)`.
        loss: as in `hepkan.losses`; cross_entropy for a classifier, else mse of standardised targets.
        exact: whether to knock out every part in turn.
        n_boot: repetitions of the Poisson bootstrap for the errors; at least 2.
        seed: of the bootstrap.
        events: at most so many are used, at equal steps of their order; None for all.

    Raises:
        UsageError: no KAN, shapes that do not fit, too few repetitions.
        DataError: NaN, a constant input, too few events, labels that are no classes, a network whose output is the
            same for all events.
    """
    if n_boot < 2:
        raise UsageError(f"A bootstrap needs at least 2 repetitions, however: n_boot={n_boot}.")
    if not isinstance(model, Sequence):
        judge = make_judge(model, X, y, weight, group=group, loss=loss, events=events)
        demand_alive(model, judge)
        return _attribute(model, judge, exact, judge.draws(n_boot, seed))
    if len(model) == 0:
        raise UsageError("Importance needs at least one network, however there is none.")
    settings = {"group": group, "loss": loss, "exact": exact, "n_boot": n_boot, "seed": seed, "events": events}
    return _averaged([attribute(one, X, y, weight, **settings) for one in model])  # type: ignore[arg-type]


def _attribute(model: KAN, judge: Judge, exact: bool, draws: Tensor) -> Attribution:
    """Return the importance of all parts of one network."""
    base = judge.losses(model)
    total = [_Totals(layer.in_features, layer.coef.shape[2], len(draws)) for layer in layers_of(model)]
    (_knock_out if exact else _linearise)(model, judge, base, draws, total)
    nodes = [one.scores(one.nodes) for one in total]
    width = model.n_features
    columns = list(range(width) if model.columns is None else model.columns)
    value, error = np.zeros(width), np.zeros(width)
    value[columns], error[columns] = nodes[0].value, nodes[0].error
    names = model.feature_names or [f"x{i}" for i in range(width)]
    return Attribution(
        method="exact" if exact else "linearised",
        loss=judge.loss,
        value=judge.mean(base),
        names=tuple(names),
        inputs=Scores(value, error),
        nodes=tuple(nodes[1:]),
        edges=tuple(one.scores(one.edges) for one in total),
    )


def importance(model: KAN, judge: Judge) -> tuple[list[Floats], list[Floats]]:
    """Return the estimates alone: of the inputs of every layer `(in,)`, and of its edges `(in, sums)`."""
    total = [_Totals(layer.in_features, layer.coef.shape[2], 1) for layer in layers_of(model)]
    _linearise(model, judge, judge.losses(model), judge.draws(0, 0), total)
    nodes = [np.asarray(one.nodes[0].double().numpy()) for one in total]
    return nodes, [np.asarray(one.edges[0].double().numpy()) for one in total]


class _Totals:
    """Growth of the loss without each edge and each node of a layer's inputs, and its bootstrap repetitions."""

    def __init__(self, inputs: int, sums: int, draws: int) -> None:
        self.edges, self.nodes = torch.zeros(draws, inputs, sums), torch.zeros(draws, inputs)

    @staticmethod
    def scores(repeated: Tensor) -> Scores:
        """Return the first row and the deviation of the others."""
        numbers = repeated.double().cpu().numpy()
        return Scores(np.asarray(numbers[0]), np.asarray(numbers[1:].std(axis=0, ddof=1)))


def _averaged(parts: Sequence[Attribution]) -> Attribution:
    """Return the mean over networks; its error has the bootstrap's and, from two networks on, that of the seeds."""
    if len({len(part.names) for part in parts}) != 1:
        raise UsageError("Networks must take the same features, however their numbers differ.")
    values, errors = (np.array([getattr(part.inputs, name) for part in parts]) for name in ("value", "error"))
    seeds = values.std(axis=0, ddof=1) / np.sqrt(len(parts)) if len(parts) > 1 else 0.0
    error = np.hypot(seeds, errors.mean(axis=0))
    inputs = Scores(values.mean(axis=0), np.asarray(error))
    loss = float(np.mean([part.value for part in parts]))
    return replace(parts[0], value=loss, inputs=inputs, nodes=(), edges=())


def _linearise(model: KAN, judge: Judge, base: Floats, draws: Tensor, totals: Sequence[_Totals]) -> None:
    """Add the estimates of first order in the network."""
    layers = layers_of(model)
    centres = _centres(model, judge)
    widest = max(layer.coef.shape[0] * layer.coef.shape[2] for layer in layers) * model.widths[-1]
    for rows in _blocks(len(judge), max(1, VALUES // widest)):
        before = torch.from_numpy(base[rows]).to(judge.X)
        inputs, output, slopes = output_slopes(model, judge.X[rows])
        for layer, x, centre, slope, total in zip(layers, inputs, centres, slopes, totals, strict=True):
            with torch.no_grad():
                moved = (centre - layer.edge_functions(x)).unsqueeze(-1) * slope.unsqueeze(1)  # (n, in, sums, outputs)
                for change, into in ((moved, total.edges), (moved.sum(dim=2), total.nodes)):
                    size = tuple(change.shape[1:-1])
                    changed = (output.reshape(len(output), *(1,) * len(size), -1) + change).flatten(0, -2)
                    target = judge.target[rows].repeat_interleave(int(np.prod(size)), dim=0)
                    after = judge.each(judge.output(model, changed), target).reshape(len(output), -1)
                    into += (draws[:, rows] @ (after - before.unsqueeze(1))).reshape(-1, *size).to(into)


def output_slopes(model: KAN, x: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Return the inputs of every layer, the outputs of the last, and their derivatives by every layer's sums.

    **Shape** x: `(n, features)` raw, inputs: `(n, in)`, output: `(n, outputs)`, derivatives: `(n, sums, outputs)`.
    """
    with torch.enable_grad():
        value = model.coordinates(x).detach().requires_grad_()
        inputs, sums = [], []
        for layer in layers_of(model):
            inputs.append(value.detach())
            sums.append(layer.sums(value))
            value = layer.multiply(sums[-1])
        columns = [
            torch.autograd.grad(value[:, k].sum(), sums, retain_graph=k + 1 < value.shape[1], allow_unused=True)
            for k in range(value.shape[1])
        ]
    slopes = []
    for place, one in enumerate(sums):
        parts = [column[place] for column in columns]
        slopes.append(torch.stack([torch.zeros_like(one) if p is None else p for p in parts], dim=-1).detach())
    return inputs, value.detach(), slopes


@torch.no_grad()
def _knock_out(model: KAN, judge: Judge, base: Floats, draws: Tensor, totals: Sequence[_Totals]) -> None:
    """Add the exact effects: the network behind a layer is evaluated anew for each of its edges and inputs."""
    layers = layers_of(model)
    centres = _centres(model, judge)
    for rows in _blocks(len(judge), 2048):
        before = torch.from_numpy(base[rows]).to(judge.X)
        x = model.coordinates(judge.X[rows])
        for place, (layer, centre, total) in enumerate(zip(layers, centres, totals, strict=True)):
            sums, moves = layer.sums(x), centre - layer.edge_functions(x)
            mask = edges_of(layer)
            for i in range(layer.in_features):
                for o in np.flatnonzero(mask[i]):
                    changed = sums.clone()
                    changed[:, o] += moves[:, i, o]
                    total.edges[:, i, o] += _growth(model, judge, place, changed, rows, before, draws)
                total.nodes[:, i] += _growth(model, judge, place, sums + moves[:, i], rows, before, draws)
            x = layer.multiply(sums)


def _growth(model: KAN, judge: Judge, place: int, sums: Tensor, rows: slice, before: Tensor, draws: Tensor) -> Tensor:
    """Return the growth of the loss, `(draws,)`, for changed sums of a layer."""
    layers = layers_of(model)
    x = layers[place].multiply(sums)
    for layer in layers[place + 1 :]:
        x = layer(x)
    after = judge.each(judge.output(model, x), judge.target[rows])
    return (draws[:, rows] @ (after - before)).cpu()


def _centres(model: KAN, judge: Judge) -> list[Tensor]:
    """Return the mean of every edge, `(in, sums)` for each layer."""
    return [torch.from_numpy(mean).to(judge.X) for mean, _ in edge_moments(model, judge.X, judge.weight.abs())]


def _blocks(n: int, size: int) -> Iterator[slice]:
    """Divide events into blocks."""
    for first in range(0, n, size):
        yield slice(first, first + size)
