"""Which few inputs suffice: sets of inputs are compared by how well functions of them repeat a trained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.interpret.judging import BATCH, Floats, demand_events, demand_kan
from hepkan.nn import KAN
from hepkan.nn.networks import as_tensor
from hepkan.nn.regrid import thinned

EVENTS = 10_000
"""At most so many events are used by default; two fifths of them judge."""
LEAST = 0.003
"""An exchange must lower the infidelity by more than this part of it."""
FLOOR, RIDGE, KINK, FEWEST = 0.03, 3e-4, 0.7, 100


Exchange = tuple[tuple[str, ...], tuple[str, ...], float]


@dataclass(frozen=True)
class Selection:
    """Inputs that suffice.

    Attributes:
        names: of the inputs, in the order of the features.
        infidelity: part of the variance of the network's output that functions of them do not repeat.
        start: the same for the inputs of the start.
        exchanges: what came for what: new inputs, old ones, infidelity after.
    """

    names: tuple[str, ...]
    infidelity: float
    start: float
    exchanges: tuple[Exchange, ...]


def select_inputs(
    model: KAN,
    X: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    start: Sequence[str],
    depth: int = 3,
    rounds: int = 10,
    hidden: int = 300,
    events: int | None = EVENTS,
    seed: int = 0,
    progress: Callable[[Selection], None] | None = None,
) -> Selection:
    r"""Exchange inputs for others as long as the network can be repeated better from them.

    Backward elimination (`prune`) never takes back an input that it has given away while others stood in for it. Here
    every set is judged by a fit of its own to the output of the network: splines of each input and a hidden layer with
    fixed random directions, of which only the last layer is fitted, by least squares. The output has no noise, so that
    a few thousand events tell sets apart where labels do not. In every round the best of all unused inputs is added and
    the worst of the enlarged set goes; where that changes nothing, two are added before two go, and so on. Of two
    classes the events count by their weight times :math:`4 p (1 - p) + 0.03`, the second order of the cross-entropy.

    Two inputs that help only together, of which the set has neither, are not found. The network is not changed. Take
    the other inputs away with `remove_inputs`, then train again.

    Arguments:
        model: a trained KAN.
        X: raw features `(n, features)`.
        weight: `(n,)`; its size counts.
        start: names of the first inputs; as many are returned.
        depth: so many inputs may change in one exchange.
        rounds: at most so many exchanges.
        hidden: nodes of the random layer.
        events: at most so many are used, at equal steps of their order; two of five judge.
        seed: of the random layer.
        progress: called after every exchange.

    Raises:
        UsageError: no KAN, names that the network does not use, shapes that do not fit, numbers below 1.
        DataError: NaN, fewer than 100 events, a network that gives the same for all.

    References:
        "Extreme learning machine: theory and applications" (Huang et al., 2006): random hidden layers.
    """
    demand_kan(model)
    names = model.input_names
    if not start or len(set(start)) != len(start) or not set(start) <= set(names):
        raise UsageError(f"start needs different names among {', '.join(names)}, however: {', '.join(start)}.")
    if min(depth, rounds, hidden) < 1:
        raise UsageError(f"depth, rounds and hidden must be at least 1, however: {depth}, {rounds} and {hidden}.")
    repeat = _Repetition(model, X, weight, hidden, events, seed)
    chosen = frozenset(names.index(name) for name in start)
    value = first = repeat(chosen)
    exchanges: list[Exchange] = []

    def result() -> Selection:
        return Selection(tuple(names[i] for i in sorted(chosen)), value, first, tuple(exchanges))

    for _ in range(rounds):
        better = _exchanged(repeat, chosen, len(names), depth, (1.0 - LEAST) * value)
        if better is None:
            break
        new, old = (tuple(names[i] for i in sorted(one)) for one in (better - chosen, chosen - better))
        chosen, value = better, repeat(better)
        exchanges.append((new, old, value))
        if progress is not None:
            progress(result())
    return result()


def _exchanged(
    repeat: _Repetition, chosen: frozenset[int], inputs: int, depth: int, below: float
) -> frozenset[int] | None:
    """Return a better set of the same size, None when none is found; as few as possible change."""
    larger = chosen
    for step in range(min(depth, inputs - len(chosen))):
        larger |= {min((i for i in range(inputs) if i not in larger), key=lambda i: repeat(larger | {i}))}
        smaller = larger
        for _ in range(step + 1):
            smaller -= {min(smaller, key=lambda i: repeat(smaller - {i}))}
        if repeat(smaller) < below:
            return smaller
    return None


class _Repetition:
    """The infidelity of fits of sets of inputs to a network; each is done once."""

    def __init__(
        self, model: KAN, X: ArrayLike | Tensor, weight: Any, hidden: int, events: int | None, seed: int
    ) -> None:
        x = as_tensor(X)
        demand_events(model, x)
        w = torch.ones(len(x)) if weight is None else as_tensor(weight).abs()
        if w.shape != (len(x),):
            raise UsageError(f"weight needs the shape ({len(x)},), however it has {tuple(w.shape)}.")
        most = len(x) if events is None else events
        x, w = thinned(x, most).to(next(model.parameters())), thinned(w, most).double()
        if len(x) < FEWEST:
            raise DataError(f"A selection needs at least {FEWEST} events, however there are {len(x)}.")
        with torch.no_grad():
            target = torch.cat([model(part) for part in torch.split(x, BATCH)]).double().cpu()
            inputs = torch.cat([model.coordinates(part) for part in torch.split(x, BATCH)]).double().cpu().numpy()
        if model.link == "sigmoid":
            odds = torch.sigmoid(target[:, 0])
            w = w * (4.0 * odds * (1.0 - odds) + FLOOR)
        # Single precision halves the time; the sums of squares that are solved for are regular enough for it.
        self.z = ((inputs - inputs.mean(axis=0)) / np.maximum(inputs.std(axis=0), 1e-12)).astype(np.float32)
        self.target, self.weight = target.numpy(), (w / w.sum()).numpy()
        self.judges = np.arange(len(x)) % 5 >= 3
        generator = np.random.default_rng(seed)
        self.directions = generator.standard_normal((self.z.shape[1], hidden)).astype(np.float32)
        self.offsets = generator.uniform(-1.5, 1.5, hidden).astype(np.float32)
        self.known: dict[frozenset[int], float] = {}
        self.spread = self._squares(self.target - np.average(self.target[~self.judges], axis=0,
                                                             weights=self.weight[~self.judges]))  # fmt: skip
        if not self.spread > 0.0:
            raise DataError("A selection needs a network whose output varies, however it is the same for all events.")

    def __call__(self, chosen: frozenset[int]) -> float:
        """Return the part of the variance that is not repeated."""
        if chosen not in self.known:
            values = self._functions(sorted(chosen))
            some = ~self.judges
            weighted = values[some] * self.weight[some, None].astype(np.float32)
            normal = (weighted.T @ values[some]).astype(np.float64)
            normal[np.diag_indices(len(normal))] += RIDGE * np.trace(normal) / len(normal)
            fitted = values @ solve(normal, weighted.T @ self.target[some], assume_a="pos")
            self.known[chosen] = self._squares(fitted - self.target) / self.spread
        return self.known[chosen]

    def _functions(self, columns: list[int]) -> NDArray[np.float32]:
        """Return the values of all fixed functions of some inputs, `(n, functions)`."""
        z = self.z[:, columns]
        mixed = np.tanh(z @ self.directions[columns] * np.float32(1.2 / np.sqrt(len(columns))) + self.offsets)
        powers = [z, z**2, z**3, np.abs(z - KINK), np.abs(z + KINK)]
        return np.concatenate([np.ones_like(z[:, :1]), *powers, mixed], axis=1)

    def _squares(self, missed: Floats) -> float:
        """Return the weighted sum of squares over the judging events."""
        return float((np.square(missed[self.judges]).T @ self.weight[self.judges]).sum())
