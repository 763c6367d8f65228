"""The optimisers, what they remember when knots move, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hepkan.nn import KANLayer, Network
from hepkan.splines.grids import move_gradient
from hepkan.train.settings import Settings

FIRST_ORDER: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
ITERATIONS = 20
"""Iterations of L-BFGS in one epoch."""


def make_optimizer(model: Network, settings: Settings) -> torch.optim.Optimizer:
    """Return an optimiser over the parameter groups of a model.

    The first-order ones are fused: one pass over all parameters per step. L-BFGS knows no groups; its decay is a term
    of the objective, see `decay_term`.

    References:
        "Numerical Optimization" (Nocedal and Wright, 2006), chapter 7.2 for L-BFGS, 3.5 for its line search.
    """
    groups = model.parameter_groups(settings.weight_decay)
    updater: torch.optim.Optimizer
    if settings.optimizer == "lbfgs":
        updater = torch.optim.LBFGS(
            [parameter for group in groups for parameter in group["params"]],
            lr=settings.learning_rate,
            max_iter=ITERATIONS,
            max_eval=3 * ITERATIONS,
            tolerance_grad=1e-12,
            tolerance_change=1e-15,
            history_size=50,
            line_search_fn="strong_wolfe",
        )
    else:
        extra = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
        updater = FIRST_ORDER[settings.optimizer](groups, lr=settings.learning_rate, fused=True, **extra)
    return updater


def decay_term(model: Network, settings: Settings) -> Tensor | float:
    r"""Return the weight decay of L-BFGS, :math:`\lambda / 2 \sum w^2` over all that decays; 0 for other optimisers."""
    if not settings.full_batch or settings.weight_decay == 0.0:
        return 0.0
    groups = model.parameter_groups(settings.weight_decay)
    decayed = [parameter for group in groups if group["weight_decay"] > 0.0 for parameter in group["params"]]
    return 0.5 * settings.weight_decay * torch.stack([parameter.square().sum() for parameter in decayed]).sum()


@torch.no_grad()
def follow_knots(updater: torch.optim.Optimizer, layers: Sequence[KANLayer], knots: Sequence[Tensor]) -> None:
    """Carry what an optimiser remembers over from old knots to those that the layers have now.

    Means of gradients move as gradients do, means of squares by their root. L-BFGS starts anew.
    """
    if isinstance(updater, torch.optim.LBFGS):
        updater.state.clear()
        return
    for layer, old in zip(layers, knots, strict=True):
        memory = updater.state.get(layer.splines, {})
        for name in ("exp_avg", "momentum_buffer"):
            if memory.get(name) is not None:
                memory[name].copy_(move_gradient(memory[name], old, layer.knots, layer.degree))
        if "exp_avg_sq" in memory:
            root = move_gradient(memory["exp_avg_sq"].sqrt(), old, layer.knots, layer.degree)
            memory["exp_avg_sq"].copy_(root.square())


class Average:
    r"""The exponential moving average of a model's parameters.

    .. math:: \bar w \leftarrow d_t \bar w + (1 - d_t) w, \quad d_t = \min\left(d, \frac{1 + t}{10 + t}\right)

    after step t, so that the start is soon forgotten. Buffers (knots, maps) are those of the model.
    """

    def __init__(self, model: Network, decay: float) -> None:
        self.parameters: list[Tensor] = list(model.parameters())
        self.decay = decay
        self.restart()

    def restart(self) -> None:
        """Begin anew from the weights as they are."""
        self.values, self.steps = [parameter.detach().clone() for parameter in self.parameters], 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.values, self.parameters, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights for a while."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        self._give(self.values)
        try:
            yield
        finally:
            self._give(own)

    @torch.no_grad()
    def _give(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
