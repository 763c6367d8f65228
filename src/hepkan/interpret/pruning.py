"""Pruning: edges, nodes and inputs go in the order of their measured effect on the loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import UsageError, unknown
from hepkan.interpret.attribution import EVENTS, importance
from hepkan.interpret.judging import BATCH, Floats, Judge, demand_alive, demand_kan, layers_of, make_judge
from hepkan.interpret.surgery import DeadNetworkError, remove_edges
from hepkan.interpret.trace import edge_moments, edges_of
from hepkan.nn import KAN
from hepkan.nn.networks import as_tensor
from hepkan.train import fit

Part = Literal["edges", "nodes", "inputs"]
PARTS: tuple[Part, ...] = ("inputs", "nodes", "edges")
Arrays = tuple[Any, ...]


@dataclass(frozen=True)
class Stage:
    """A network on the way from large to small.

    Attributes:
        model: the network.
        inputs: number of features it uses.
        nodes: number of hidden nodes.
        edges: number of edges.
        loss: on the events that judge.
        increase: of the loss, compared with the first network.
        error: of the increase, from the same events.
    """

    model: KAN
    inputs: int
    nodes: int
    edges: int
    loss: float
    increase: float
    error: float


@dataclass(frozen=True)
class PruningCurve:
    """The loss against the size of the network, the first stage being the network as it was.

    Attributes:
        part: what was taken away: `edges`, `nodes` or `inputs`.
        loss: name of the loss.
        stages: from the largest to the smallest.
    """

    part: Part
    loss: str
    stages: tuple[Stage, ...]

    def rows(self) -> list[dict[str, float]]:
        """Return the numbers of every stage: inputs, nodes, edges, loss, increase, error."""
        names = ("inputs", "nodes", "edges", "loss", "increase", "error")
        return [{name: getattr(stage, name) for name in names} for stage in self.stages]

    def within(self, tolerance: float) -> Stage:
        """Return the smallest network whose loss has grown by at most `tolerance`.

        Raises:
            UsageError: the tolerance is negative or not finite.
        """
        if not 0.0 <= tolerance < math.inf:
            raise UsageError(f"A tolerance must be finite and not negative, however: {tolerance}.")
        kept = [stage for stage in self.stages if stage.increase <= tolerance]
        return min(kept, key=lambda stage: (_size(stage, self.part), stage.loss))

    def largest(self, number: int) -> Stage:
        """Return the largest network of at most `number` parts.

        Raises:
            UsageError: none is so small.
        """
        kept = [stage for stage in self.stages if _size(stage, self.part) <= number]
        if not kept:
            least = min(_size(stage, self.part) for stage in self.stages)
            raise UsageError(f"The smallest network has {least} {self.part}, however {number} were asked for.")
        return max(kept, key=lambda stage: (_size(stage, self.part), -stage.loss))

    def knee(self) -> Stage:
        """Return the stage at the knee, see `knee`."""
        return self.stages[knee([_size(s, self.part) for s in self.stages], [s.loss for s in self.stages])]


def knee(sizes: Sequence[float], losses: Sequence[float]) -> int:
    """Return the place of the knee: the point farthest below the straight line between the ends of the curve.

    Sizes count by their logarithm. Losses count by the least that a network of at most that size has; so the curve
    falls with size, and of equal points the smallest network is taken.

    Raises:
        UsageError: lengths differ, fewer than one point, or sizes below 1.

    References:
        "Finding a 'Kneedle' in a Haystack" (Satopaa et al., 2011).
    """
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) == 0 or x.min() < 1 or not np.isfinite(y).all():
        raise UsageError("A knee needs as many finite losses as sizes of at least 1, however they do not fit.")
    order = np.lexsort((y, x))
    across, height = np.log(x[order]), np.minimum.accumulate(y[order])
    if across[-1] == across[0] or height[-1] == height[0]:
        return int(order[0])
    gain = (height[0] - height) / (height[0] - height[-1])
    return int(order[np.argmax(gain - (across - across[0]) / (across[-1] - across[0]))])


def prune(
    model: KAN,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor | None = None,
    weight: ArrayLike | Tensor | None = None,
    *,
    inputs: int | None = None,
    nodes: int | None = None,
    edges: int | None = None,
    tolerance: float | None = None,
    validation: Arrays | None = None,
    group: ArrayLike | None = None,
    loss: str | None = None,
    finetune: Mapping[str, Any] | None = None,
    fraction: float = 0.2,
    candidates: int = 1,
    events: int | None = EVENTS,
) -> KAN:
    """Return a smaller KAN that takes the same raw features; the one given stays as it is.

    Parts go in the order of their measured effect on the loss, see `pruning_curve`, which also returns the networks in
    between. First inputs, then hidden nodes, then edges, each down to its number. Constant nodes are folded into
    biases, and no layer is ever emptied. The result can be pruned, refined, trained and exported again.

    Arguments:
        model: a trained KAN.
        X: raw features `(n, features)`.
        y: labels or targets; without them the smaller network is kept near the outputs of the larger one.
        weight: `(n,)`.
        inputs: at most so many features are used.
        nodes: at most so many hidden nodes, of all layers together.
        edges: at most so many edges.
        tolerance: by how much the loss may grow; edges go as long as it holds. Beside numbers it holds for what is
            taken away after they are reached.
        validation: (X, y) or (X, y, weight) that judge instead of the first events; without targets (X,) or
            (X, None, weight).
        group: events that are not independent share a number, `(n,)`; of the judging events.
        loss: as in `hepkan.losses`; cross_entropy for a classifier, else mse of standardised targets.
        finetune: settings of `hepkan.fit`, `{"epochs": 5}`, to train again after every stage; None does not.
        fraction: of the parts that go in one stage.
        candidates: where parts go one by one, so many of the least important are tried, each with its fine-tuning,
            and the one goes without which the loss is lowest.
        events: at most so many judge, at equal steps of their order; None for all.

    Without any of inputs, nodes, edges and tolerance the network at the knee of the loss against edges is taken.

    Raises:
        UsageError: no KAN, impossible numbers, shapes that do not fit.
        DataError: NaN, a constant input, too few events, a network whose output is the same for all events.
    """
    settings: dict[str, Any] = {"validation": validation, "group": group, "loss": loss, "finetune": finetune}
    settings |= {"fraction": fraction, "candidates": candidates, "events": events}
    settings |= {"inputs": inputs, "nodes": nodes, "edges": edges, "tolerance": tolerance}
    return pruning_steps(model, X, y, weight, **settings)[0]


def pruning_steps(
    model: KAN,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor | None = None,
    weight: ArrayLike | Tensor | None = None,
    *,
    inputs: int | None = None,
    nodes: int | None = None,
    edges: int | None = None,
    tolerance: float | None = None,
    **settings: Any,
) -> tuple[KAN, tuple[PruningCurve, ...]]:
    """Return what `prune` returns, and the curves on the way: one for each of the numbers given, then one of edges.

    Arguments and errors as `prune`; settings are those of `pruning_curve`.
    """
    demand_kan(model)
    wanted: dict[Part, int | None] = {"inputs": inputs, "nodes": nodes, "edges": edges}
    small, curves = copy.deepcopy(model), []
    for part, number in wanted.items():
        if number is not None and _count(small, part) > number:
            curves.append(pruning_curve(small, X, y, weight, part=part, least=number, **settings))
            small = curves[-1].largest(number).model
    if tolerance is not None:
        curves.append(pruning_curve(small, X, y, weight, tolerance=tolerance, **settings))
        small = curves[-1].within(tolerance).model
    elif all(number is None for number in wanted.values()):
        curves.append(pruning_curve(small, X, y, weight, **settings))
        small = curves[-1].knee().model
    return small, tuple(curves)


def pruning_curve(
    model: KAN,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor | None = None,
    weight: ArrayLike | Tensor | None = None,
    *,
    part: Part = "edges",
    least: int = 1,
    tolerance: float | None = None,
    validation: Arrays | None = None,
    group: ArrayLike | None = None,
    loss: str | None = None,
    finetune: Mapping[str, Any] | None = None,
    fraction: float = 0.2,
    candidates: int = 1,
    events: int | None = EVENTS,
    progress: Callable[[Stage], None] | None = None,
) -> PruningCurve:
    """Return the loss against the number of edges, nodes or inputs, with the network of every stage.

    In every stage the importance of all parts is measured anew (`attribute`, linearised), the least important ones go
    together, constants are folded, and the network is trained again if asked for. Where parts that are harmless one by
    one hurt together, fewer go.

    Arguments:
        part: what goes: `edges`, `nodes` or `inputs`.
        least: stop at so many.
        tolerance: stop when the loss has grown by more; the stage of single parts that exceeds it is the last.
        progress: called with every stage.
        others: as `prune`.

    Raises:
        UsageError: as `prune`.
        DataError: as `prune`.
    """
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    if least < 1 or candidates < 1 or not 0.0 < fraction < 1.0:
        raise UsageError(
            "least and candidates must be at least 1 and fraction between 0 and 1, however: "
            f"{least}, {candidates} and {fraction}."
        )
    if tolerance is not None and not 0.0 <= tolerance < math.inf:
        raise UsageError(f"A tolerance must be finite and not negative, however: {tolerance}.")
    features, target, sizes = (*((X, y, weight) if validation is None else validation), None, None)[:3]
    judge = make_judge(model, features, target, sizes, group=group, loss=loss, events=events)
    demand_alive(model, judge)
    tuner = None if finetune is None else _Tuner(model, (X, y, weight), validation, judge.loss, finetune)
    limit = math.inf if tolerance is None else tolerance
    pruner = _Pruner(judge, part, least, limit, fraction, candidates, tuner, progress)
    return PruningCurve(part, judge.loss, tuple(pruner.run(model)))


class _Pruner:
    """The stages of one pruning."""

    def __init__(
        self,
        judge: Judge,
        part: Part,
        least: int,
        tolerance: float,
        fraction: float,
        candidates: int,
        tuner: _Tuner | None,
        progress: Callable[[Stage], None] | None,
    ) -> None:
        self.judge, self.part, self.least = judge, part, least
        self.tolerance, self.fraction, self.candidates = tolerance, fraction, candidates
        self.tuner, self.progress = tuner, progress or (lambda stage: None)

    def run(self, model: KAN) -> list[Stage]:
        """Take parts away until the end."""
        first = self.judge.losses(model)
        stages, limit = [self._stage(copy.deepcopy(model), first, first)], _count(model, self.part)
        while (count := _count(stages[-1].model, self.part)) > self.least:
            many = max(1, min(math.ceil(self.fraction * count), count - self.least, limit))
            smaller = self._smaller(stages[-1], many, first)
            if smaller is None:
                break
            if smaller.increase > self.tolerance and many > 1:
                limit = many // 4 or 1  # more carefully from here on
                continue
            stages.append(smaller)
            self.progress(smaller)
            if smaller.increase > self.tolerance:
                break
        return stages

    def _smaller(self, stage: Stage, many: int, first: Floats) -> Stage | None:
        """Return the network without its least important parts, None when nothing more can go."""
        places, values = _least_important(stage.model, self.judge, self.part)
        means = [mean for mean, _ in edge_moments(stage.model, self.judge.X, self.judge.weight.abs())]
        while many > 1:
            found = self._without(stage, places[:many], means, first)
            expected = sum(max(value, 0.0) for value in values[:many])
            if found is not None and found.loss - stage.loss <= 2.0 * expected + found.error:
                return self._tuned(found, first)
            many //= 2  # harmless one by one, harmful together
        tried: list[Stage] = []
        for place in places:
            found = self._without(stage, [place], means, first)
            if found is not None:
                tried.append(self._tuned(found, first))
            if len(tried) >= self.candidates:
                break
        return min(tried, key=lambda one: one.loss, default=None)

    def _without(self, stage: Stage, places: Sequence[Place], means: Sequence[Floats], first: Floats) -> Stage | None:
        """Return the network without some parts, None when no path would be left."""
        gone = [np.zeros_like(edges_of(layer)) for layer in layers_of(stage.model)]
        for layer, place in places:
            gone[layer][place] = True
        try:
            smaller = remove_edges(stage.model, gone, means)
        except DeadNetworkError:
            return None
        return self._stage(smaller, self.judge.losses(smaller), first)

    def _tuned(self, stage: Stage, first: Floats) -> Stage:
        """Return the network trained again, where that is asked for."""
        if self.tuner is None:
            return stage
        tuned = self.tuner(stage.model)
        return self._stage(tuned, self.judge.losses(tuned), first)

    def _stage(self, model: KAN, losses: Floats, first: Floats) -> Stage:
        """Return the record of a network."""
        judge, growth = self.judge, losses - first
        counts = {part: _count(model, part) for part in PARTS}
        return Stage(model, **counts, loss=judge.mean(losses), increase=judge.mean(growth), error=judge.error(growth))


class _Tuner:
    """Training of a smaller network on the same events; without targets on the outputs of the large one."""

    def __init__(self, model: KAN, train: Arrays, validation: Arrays | None, loss: str, settings: Mapping[str, Any]):
        self.loss = "mse" if train[1] is None else loss
        self.train = self._with_target(model, train)
        self.validation = None if validation is None else self._with_target(model, validation)
        self.settings = dict(settings)

    def __call__(self, model: KAN) -> KAN:
        """Return the network trained, with the maps, link and names that it has."""
        trained, link = copy.deepcopy(model), model.link
        fit(trained, self.train, self.validation, **{"loss": self.loss, "fit_inputs": False, **self.settings})
        trained.link = link
        return trained

    @staticmethod
    @torch.no_grad()
    def _with_target(model: KAN, events: Arrays) -> Arrays:
        """Return features, targets and weights if there are any."""
        X, y, weight = (*events, None, None)[:3]
        if y is None:
            x = as_tensor(X).to(next(model.parameters()))
            y = torch.cat([model(part) for part in torch.split(x, BATCH)])
        return (X, y) if weight is None else (X, y, weight)


Place = tuple[int, Any]
"""A layer, and the edges of it that a part consists of, as an index of its mask."""


def _least_important(model: KAN, judge: Judge, part: Part) -> tuple[list[Place], list[float]]:
    """Return the parts of a network, the least important first, with the growth of the loss without each."""
    nodes, edges = importance(model, judge)
    found: list[tuple[float, Place]] = []
    if part == "edges":
        for layer, scores in enumerate(edges):
            for place in zip(*np.nonzero(edges_of(layers_of(model)[layer])), strict=True):
                found.append((float(scores[place]), (layer, place)))
    else:
        for layer, scores in enumerate(nodes):
            if (layer == 0) == (part == "inputs"):
                found += [(float(score), (layer, node)) for node, score in enumerate(scores)]
    found.sort(key=lambda one: one[0])
    return [place for _, place in found], [score for score, _ in found]


def _count(model: KAN, part: Part) -> int:
    """Return the number of inputs, hidden nodes or edges."""
    if part == "inputs":
        return model.widths[0]
    if part == "nodes":
        return sum(model.widths[1:-1])
    return sum(int(edges_of(layer).sum()) for layer in layers_of(model))


def _size(stage: Stage, part: Part) -> int:
    """Return the number of parts of a stage."""
    return int(getattr(stage, part))
