"""Which inputs act together: the variance of the output that no sum over single inputs can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import UsageError, unknown
from hepkan.interpret.judging import BATCH, Floats, demand_alive, make_judge
from hepkan.nn import KAN

EVENTS = 4000


@dataclass(frozen=True)
class Interactions:
    """Shares of the variance of the output.

    Attributes:
        names: of the inputs, d of them.
        value: `(d, d)`, symmetric; the share of all terms in which both inputs take part, on the diagonal those in
            which the one takes part, alone or with others.
        error: their standard errors.
    """

    names: tuple[str, ...]
    value: Floats
    error: Floats

    def ranking(self) -> list[tuple[str, str, float, float]]:
        """Return pairs with value and error, the strongest first."""
        pairs = [(i, j) for i in range(len(self.names)) for j in range(i)]
        pairs.sort(key=lambda pair: -self.value[pair])
        return [(self.names[j], self.names[i], float(self.value[i, j]), float(self.error[i, j])) for i, j in pairs]


@torch.no_grad()
def interactions(
    model: KAN,
    X: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    *,
    inputs: Sequence[str] | None = None,
    output: int = 0,
    events: int | None = EVENTS,
    seed: int = 0,
) -> Interactions:
    r"""Return how much of the variance of an output comes from inputs together, by mixed second differences.

    .. math:: \Upsilon^2_{ij} = \frac14 \langle [f(x) - f(x_{i \to x'}) - f(x_{j \to x'}) + f(x_{ij \to x'})]^2 \rangle

    over pairs of events x, x', divided by the variance of f (before the link). A sum over single inputs gives exactly
    zero. For independent inputs it is the sum of all terms of the analysis of variance that contain both; for
    correlated ones the differences leave the distribution of events and are to be read with care.

    Arguments:
        model: a KAN.
        X: raw features `(n, features)`.
        weight: `(n,)`; the size of the first event's weight counts.
        inputs: names of the inputs to look at; all by default.
        output: which output.
        events: at most so many, at equal steps of their order.
        seed: of the pairing.

    Raises:
        UsageError: no KAN, shapes that do not fit, an unknown input or output.
        DataError: NaN, a constant input, too few events, a network whose output is the same for all events.

    References:
        "Estimating mean dimensionality of analysis of variance decompositions" (Liu and Owen, 2006).
    """
    judge = make_judge(model, X, None, weight, events=events)
    demand_alive(model, judge)
    if not 0 <= output < model.widths[-1]:
        raise UsageError(f"output needs to be 0 to {model.widths[-1] - 1}, however: {output}.")
    known = model.input_names
    for name in inputs or ():
        if name not in known:
            raise unknown("input", name, known)
    places = [known.index(name) for name in inputs or known]
    z = model.coordinates(judge.X)
    # A shift by a random step pairs every event with another one.
    other = z.roll(1 + int(np.random.default_rng(seed).integers(len(z) - 1)), dims=0)
    weights = judge.weight.double().abs()

    def value(swapped: list[int]) -> Tensor:
        changed = z.clone()
        changed[:, swapped] = other[:, swapped]
        parts = [model.body(part)[:, output] for part in torch.split(changed, BATCH)]
        return torch.cat(parts).double()

    f = value([])
    variance = _mean((f - _mean(f, weights)[0]) ** 2, weights)[0]
    single = [value([place]) for place in places]
    size = len(places)
    shares, errors = np.zeros((size, size)), np.zeros((size, size))
    for i, first in enumerate(places):
        for j, second in enumerate(places[: i + 1]):
            squares = 0.5 * (f - single[i]) ** 2
            if j < i:
                squares = 0.25 * (f - single[i] - single[j] + value([first, second])) ** 2
            mean, error = _mean(squares, weights)
            shares[i, j] = shares[j, i] = mean / variance
            errors[i, j] = errors[j, i] = error / variance
    return Interactions(tuple(known[place] for place in places), shares, errors)


def _mean(values: Tensor, weights: Tensor) -> tuple[float, float]:
    """Return a weighted mean and its standard error."""
    share = weights / weights.sum()
    mean = (share * values).sum()
    return float(mean), float(((share * (values - mean)) ** 2).sum().sqrt())
