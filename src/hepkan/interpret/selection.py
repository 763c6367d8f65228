"""Which few inputs suffice: sets of inputs are compared by how well functions of them repeat a trained network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from hepkan.errors import DataError, UsageError
from hepkan.interpret.judging import BATCH, demand_events, demand_kan
from hepkan.nn import KAN, MLP
from hepkan.nn.networks import as_tensor
from hepkan.nn.regrid import thinned

LEAST = 0.003
"""An exchange must lower the infidelity by more than this part of it."""
FEWEST, JUDGES, ROUNDING, FOLLOWED = 100, 4000, 1e-12, 2
"""Events needed, and that judge at most; smallest spread of an output; sets that are searched once more."""
STEP, RATE, DECAY, MISSING = 512, 2e-3, 1e-2, 3
"""Events of a step of training, its rate and weight decay, and how many inputs of a set may be missing near it."""


@dataclass(frozen=True)
class Selection:
    """Inputs that suffice.

    Attributes:
        names: of the inputs, in the order of the features.
        infidelity: part of the network's output that functions of them do not repeat, see `select_inputs`.
        start: the same for the inputs before the exchanges.
        new: the inputs that came.
        old: those that went.
        further: those that would help most in addition, the best first, as many as may change in one exchange.
    """

    names: tuple[str, ...]
    infidelity: float
    start: float
    new: tuple[str, ...]
    old: tuple[str, ...]
    further: tuple[str, ...]


def select_inputs(
    model: KAN,
    X: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    start: Sequence[str] = (),
    inputs: int | None = None,
    depth: int = 3,
    beam: int = 4,
    starts: int = 4,
    hidden: int = 128,
    steps: int = 2000,
    seed: int = 0,
    progress: Callable[[Selection], None] | None = None,
) -> Selection:
    r"""Choose the inputs from which a network can be repeated best.

    Backward elimination (`prune`) never takes back an input that it has given away while others stood in for it. Here
    sets are compared directly. One surrogate, a multilayer perceptron, learns what the output is on average when only
    some inputs are known, whichever these are: in every step each event shows another random set. A set is then judged
    by what the surrogate misses on events of its own, without any further fit: the part of the variance, of two classes
    the part of the information :math:`\sum w D(p \| q) / \sum w D(p \| \bar p)`, where p are the probabilities of the
    network and q those of the surrogate. The output has no noise, so that few events tell sets apart where labels do
    not.

    Inputs are added to those of the start until there are as many as wanted. In every round of a search one input is
    added and one of the enlarged set goes; where that changes nothing, two are added before two go, and so on, by beam
    search. The same is done from random sets. Then the surrogate learns again, from sets near those found, and the best
    of these are searched once more. The network is not changed. Take the other inputs away with `remove_inputs`, then
    train again.

    Arguments:
        model: a trained KAN.
        X: raw features `(n, features)`; every fifth event judges, 4,000 at most.
        weight: `(n,)`; its size counts.
        start: names of the first inputs.
        inputs: how many are wanted, at least those of the start; None for as many as these.
        depth: so many inputs may change in one exchange.
        beam: so many of the best sets are followed at every step of a search.
        starts: searches from random sets besides.
        hidden: nodes in each of the three layers of the surrogate.
        steps: of its training, on 512 events each; half as many follow for sets near those found.
        seed: of its initial values, and of events and sets of its training.
        progress: called after every search, with the best so far.

    Raises:
        UsageError: no KAN, names that the network does not use, shapes that do not fit, impossible numbers.
        DataError: NaN, fewer than 100 events that count, a network that gives the same for all.

    References:
        "Explaining by Removing: A Unified Framework for Model Explanation" (Covert, Lundberg, Lee, 2021),
        arXiv:2011.14878: surrogates that know some inputs only.
    """
    demand_kan(model)
    names = model.input_names
    if len(set(start)) != len(start) or not set(start) <= set(names):
        raise UsageError(f"start needs different names among {', '.join(names)}, however: {', '.join(start)}.")
    wanted = _number(len(start) if inputs is None else inputs, start, names)
    if min(depth, beam, hidden, steps) < 1 or starts < 0:
        numbers = f"{depth}, {beam}, {hidden} and {steps}, and {starts}"
        raise UsageError(f"depth, beam, hidden and steps must be at least 1, starts at least 0, however: {numbers}.")
    surrogate = _Surrogate(model, X, weight, hidden, seed)
    largest = min(wanted + depth, len(names))
    surrogate.learn(steps, (min(wanted, len(start) + 1), largest))
    grown = [frozenset(names.index(name) for name in start)]
    for _ in range(wanted - len(start)):
        grown = _grown(surrogate, grown, beam)
    begin = grown[0]
    found = {begin}

    def result() -> Selection:
        best = _best(surrogate, found, 1)[0]
        kept, new, old = (tuple(names[i] for i in sorted(one)) for one in (best, best - begin, begin - best))
        further = tuple(names[i] for i in _further(surrogate, best, largest))
        return Selection(kept, surrogate(best), surrogate(begin), new, old, further)

    def search(one: frozenset[int]) -> frozenset[int]:
        while (better := _exchanged(surrogate, one, depth, beam)) is not None:
            one = better
        found.add(one)
        if progress is not None:
            progress(result())
        return one

    pool = {search(one) for one in [begin, *surrogate.random(wanted, starts)]}
    surrogate.learn(max(1, steps // 2), (max(1, wanted - 1), largest), pool)
    for one in _best(surrogate, pool, FOLLOWED):
        search(one)
    return result()


def _number(wanted: int, start: Sequence[str], names: Sequence[str]) -> int:
    """Return how many inputs are wanted, checked."""
    least = max(1, len(start))
    if not least <= wanted <= len(names):
        raise UsageError(
            f"inputs must be from {least} to {len(names)} (the start names {len(start)} of {len(names)}), "
            f"however it is {wanted}."
        )
    return wanted


def _exchanged(surrogate: _Surrogate, chosen: frozenset[int], depth: int, beam: int) -> frozenset[int] | None:
    """Return a better set of the same size, None when none is found; as few as possible change."""
    larger = [chosen]
    for step in range(min(depth, surrogate.inputs - len(chosen))):
        larger = _grown(surrogate, larger, beam)
        smaller = larger
        for _ in range(step + 1):
            smaller = _best(surrogate, {one - {i} for one in smaller for i in one}, beam)
        if surrogate(smaller[0]) < (1.0 - LEAST) * surrogate(chosen):
            return smaller[0]
    return None


def _further(surrogate: _Surrogate, chosen: frozenset[int], largest: int) -> list[int]:
    """Return the inputs that help most in addition, the best first."""
    order: list[int] = []
    while len(chosen) < largest:
        larger = _grown(surrogate, [chosen], 1)[0]
        order += larger - chosen
        chosen = larger
    return order


def _grown(surrogate: _Surrogate, sets: list[frozenset[int]], beam: int) -> list[frozenset[int]]:
    """Return the best sets that have one input more."""
    return _best(surrogate, {one | {i} for one in sets for i in range(surrogate.inputs) if i not in one}, beam)


def _best(surrogate: _Surrogate, sets: set[frozenset[int]], number: int) -> list[frozenset[int]]:
    return sorted(sets, key=lambda one: (surrogate(one), sorted(one)))[:number]


def _divergence(odds: Tensor, probability: Tensor) -> Tensor:
    """Return the relative entropy of probabilities to those of log odds, elementwise."""
    odds = odds.expand_as(probability)
    own: Tensor = torch.special.entr(probability) + torch.special.entr(1.0 - probability)
    crossed: Tensor = functional.binary_cross_entropy_with_logits(odds, probability, reduction="none")
    return crossed - own


class _Surrogate:
    """A network that repeats another from any set of its inputs, and the infidelity of sets; each is judged once."""

    def __init__(self, model: KAN, X: ArrayLike | Tensor, weight: Any, hidden: int, seed: int) -> None:
        x = as_tensor(X)
        demand_events(model, x)
        w = torch.ones(len(x)) if weight is None else as_tensor(weight).abs()
        if w.shape != (len(x),):
            raise UsageError(f"weight needs the shape ({len(x)},), however it has {tuple(w.shape)}.")
        x, w = x[w > 0].to(next(model.parameters())), w[w > 0].double().cpu()
        if len(x) < FEWEST:
            raise DataError(f"A selection needs at least {FEWEST} events of some weight, however there are {len(x)}.")
        with torch.no_grad():
            target = torch.cat([model(part) for part in torch.split(x, BATCH)]).double().cpu()
            inputs = torch.cat([model.coordinates(part) for part in torch.split(x, BATCH)]).double().cpu()
        self.classes = model.link == "sigmoid"
        w = (w / w.mean())[:, None]
        if self.classes:
            target = torch.sigmoid(target)
            spread, size = (w * _divergence(torch.logit((w * target).mean(dim=0)), target)).mean(), 1.0
        else:
            size = float(target.square().sum(dim=1).mean())
            target = target - (w * target).mean(dim=0)
            spread = (w * target.square()).mean(dim=0).sum()
            target = target / spread.sqrt()
        if not spread > ROUNDING * size:
            raise DataError("A selection needs a network whose output varies, however it is the same for all events.")
        self.spread = float(spread) if self.classes else 1.0
        inputs = (inputs - inputs.mean(dim=0)) / inputs.std(dim=0).clamp(min=1e-12)
        events = torch.cat([inputs, target, w], dim=1).float()
        judging = torch.arange(len(x)) % 5 == 4
        self.judges, self.events = thinned(events[judging], JUDGES), events[~judging]
        self.inputs, outputs = inputs.shape[1], target.shape[1]
        self.columns = [self.inputs, outputs, 1]
        widths = [2 * self.inputs, hidden, hidden, hidden, outputs]
        self.network = MLP(widths, activation="silu", input_map="none", seed=seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.known: dict[frozenset[int], float] = {}

    def learn(self, steps: int, sizes: tuple[int, int], near: Collection[frozenset[int]] = (frozenset(),)) -> None:
        """Train with random sets of some sizes, each of which contains one of the sets near it but for a few inputs."""
        optimiser = torch.optim.AdamW(self.network.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1, pct_start=0.1)
        centres = torch.stack([self._mask(one) for one in sorted(near, key=sorted)])
        for _ in range(steps):
            rows = torch.randint(len(self.events), (STEP,), generator=self.generator)
            optimiser.zero_grad()
            loss = self._missed(self.events[rows], self._sets(sizes, centres)).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        self.known.clear()

    def random(self, size: int, number: int) -> list[frozenset[int]]:
        """Return random sets of inputs."""
        order = torch.rand(number, self.inputs, generator=self.generator).argsort(dim=1)
        return [frozenset(row[:size]) for row in order.tolist()]

    def _sets(self, sizes: tuple[int, int], centres: Tensor) -> Tensor:
        """Return random sets, `(events of a step, inputs)`."""
        size = torch.randint(sizes[0], sizes[1] + 1, (STEP, 1), generator=self.generator)
        near = centres[torch.randint(len(centres), (STEP,), generator=self.generator)]
        stay = near.sum(dim=1, keepdim=True) - torch.randint(0, MISSING + 1, (STEP, 1), generator=self.generator)
        return self._largest(self._largest(near, stay) * near, size)

    def _mask(self, chosen: frozenset[int]) -> Tensor:
        mask = torch.zeros(self.inputs)
        mask[sorted(chosen)] = 1.0
        return mask

    def _largest(self, kept: Tensor, size: Tensor) -> Tensor:
        """Return sets of some sizes: what is kept comes first, then others at random."""
        order = (kept + torch.rand(kept.shape, generator=self.generator)).argsort(dim=1, descending=True)
        return (order.argsort(dim=1) < size).float()

    def _missed(self, events: Tensor, sets: Tensor) -> Tensor:
        """Return how much is not repeated of every event, times its weight, `(events,)`."""
        inputs, target, weight = torch.split(events, self.columns, dim=1)
        output = self.network(torch.cat([inputs * sets, sets], dim=1))
        missed: Tensor = _divergence(output, target) / self.spread if self.classes else (output - target).square()
        return weight[:, 0] * missed.sum(dim=1)

    @torch.no_grad()
    def __call__(self, chosen: frozenset[int]) -> float:
        """Return the part of the output that is not repeated."""
        if chosen not in self.known:
            sets = self._mask(chosen).expand(len(self.judges), -1)
            missed = self._missed(self.judges, sets).double().sum()
            self.known[chosen] = float(missed / self.judges[:, -1].double().sum())
        return self.known[chosen]
