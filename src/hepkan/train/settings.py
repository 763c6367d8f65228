"""How to train: the settings that decide the result, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral

from torch import nn

from hepkan.errors import UsageError, unknown
from hepkan.losses import REGULARISERS, get_loss
from hepkan.nn import KAN, Network

DEFAULTS: Mapping[str, tuple[float, float]] = {
    "adamw": (5e-3, 0.2),
    "adam": (5e-3, 0.2),
    "sgd": (5e-3, 0.2),
    "lbfgs": (1.0, 0.0),
}
"""The optimisers, with learning rate and weight decay when none is given."""

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `fit` that decide the result."""

    loss: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    epochs: int
    batch: int
    patience: int
    schedule: str
    seed: int
    regularisers: dict[str, float]
    gradient_clip: float | None
    grid_updates: int
    average: float
    fit_inputs: bool

    def __post_init__(self) -> None:
        """Refuse unknown names and impossible numbers."""
        get_loss(self.loss)
        for kind, name, known in (
            ("schedule", self.schedule, SCHEDULES),
            *(("regulariser", name, REGULARISERS) for name in self.regularisers),
        ):
            if name not in known:
                raise unknown(kind, name, known)
        for name, least in (("epochs", 1), ("batch", 1), ("patience", 1), ("grid_updates", 0)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise UsageError(f"{name} needs to be a whole number of at least {least}, however: {value}.")
        for name, number in (("learning_rate", self.learning_rate), ("gradient_clip", self.gradient_clip)):
            if number is not None and not 0 < number < math.inf:
                raise UsageError(f"{name} needs to be positive, however: {number}.")
        for name, number in (("weight_decay", self.weight_decay), *self.regularisers.items()):
            if not 0 <= number < math.inf:
                raise UsageError(f"{name} must be finite and not negative, however: {number}.")
        if not 0 <= self.average < 1:
            raise UsageError(f"average needs to be at least 0 and below 1, however: {self.average}.")
        if self.full_batch and self.gradient_clip is not None:
            raise UsageError("lbfgs chooses its steps by line search, however gradient_clip is set. Leave it out.")

    @property
    def full_batch(self) -> bool:
        """Whether every step needs all events."""
        return self.optimizer == "lbfgs"

    def check(self, model: Network, n: int) -> None:
        """Refuse a model, or a number of training events, that these settings do not suit.

        Raises:
            UsageError: grid updates without grids; lbfgs on a part of the events or with dropout.
        """
        if self.grid_updates and not isinstance(model, KAN):
            raise UsageError(f"Grid updates need a KAN, however the model is a {type(model).__name__}. Set it to 0.")
        if not self.full_batch:
            return
        if self.batch < n:
            raise UsageError(
                f"lbfgs needs all events in every step (full batch), however batch={self.batch} with {n} training "
                f"events. Set batch to at least {n}, or take optimizer='adamw'."
            )
        if any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()):
            raise UsageError("lbfgs needs a loss that does not vary, however the model has dropout. Set it to 0.")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if self.schedule == "constant" or self.full_batch:
            return self.learning_rate
        return 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * step / steps))


def default(optimizer: str, learning_rate: float | None, weight_decay: float | None) -> tuple[float, float]:
    """Return learning rate and weight decay, those of the optimiser where None is given.

    Raises:
        UsageError: unknown optimiser.
    """
    if optimizer not in DEFAULTS:
        raise unknown("optimizer", optimizer, DEFAULTS)
    rate, decay = DEFAULTS[optimizer]
    return (rate if learning_rate is None else learning_rate, decay if weight_decay is None else weight_decay)
