"""What a formula is fitted to: a weighted loss with its first two derivatives by the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from hepkan.errors import unknown
from hepkan.losses import HUBER_DELTA

Floats = NDArray[np.float64]


class Terms(NamedTuple):
    """Loss of each event `(n,)`, its slope and a positive curvature by each output `(n, outputs)`."""

    loss: Floats
    slope: Floats
    curvature: Floats


def _mse(output: Floats, target: Floats) -> Terms:
    residual, size = output - target, output.shape[1]
    return Terms(np.square(residual).mean(axis=1), 2.0 * residual / size, np.full_like(residual, 2.0 / size))


def _mae(output: Floats, target: Floats) -> Terms:
    residual, size = output - target, output.shape[1]
    floor = 1e-3 * np.median(np.abs(residual)) + 1e-300
    curvature = 1.0 / (size * np.maximum(np.abs(residual), floor))
    return Terms(np.abs(residual).mean(axis=1), np.sign(residual) / size, curvature)


def _huber(output: Floats, target: Floats) -> Terms:
    residual, size = output - target, output.shape[1]
    far = np.abs(residual)
    loss = np.where(far <= HUBER_DELTA, 0.5 * far**2, HUBER_DELTA * (far - 0.5 * HUBER_DELTA))
    slope = np.clip(residual, -HUBER_DELTA, HUBER_DELTA) / size
    return Terms(loss.mean(axis=1), slope, 1.0 / (size * np.maximum(1.0, far / HUBER_DELTA)))


def _cross_entropy(output: Floats, target: Floats) -> Terms:
    if output.shape[1] == 1:
        p = expit(output)
        loss = np.logaddexp(0.0, output[:, 0]) - target[:, 0] * output[:, 0]
        return Terms(loss, p - target[:, :1], np.maximum(p * (1.0 - p), 1e-6))
    p = softmax(output, axis=1)
    chosen = np.eye(output.shape[1])[target[:, 0].astype(int)]
    loss = -(chosen * log_softmax(output, axis=1)).sum(axis=1)
    return Terms(loss, p - chosen, np.maximum(p * (1.0 - p), 1e-6))


TERMS: dict[str, Callable[[Floats, Floats], Terms]] = {
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
    "cross_entropy": _cross_entropy,
}


@dataclass(frozen=True)
class Objective:
    """A weighted mean loss over given events.

    **Shape** target: `(n, outputs)`, or `(n, 1)` labels; weight: `(n,)`, adding up to 1.

    Attributes:
        name: as in `hepkan.losses.LOSSES`.
        target: what the outputs should be.
        weight: share of each event.
        ridge: how much fits dislike sums of large terms that cancel; see `hepkan.interpret.refit.refit`.
    """

    name: str
    target: Floats
    weight: Floats
    ridge: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in TERMS:
            raise unknown("loss", self.name, TERMS)

    def terms(self, output: Floats) -> Terms:
        """Return loss, slope and curvature of every event."""
        with np.errstate(all="ignore"):
            return TERMS[self.name](output, self.target)

    def __call__(self, output: Floats) -> float:
        """Return the loss, infinity where an output is not finite."""
        if not np.isfinite(output).all():
            return np.inf
        return float(self.weight @ self.terms(output).loss)

    def of_constant(self) -> float:
        """Return about the loss of the best constant: the scale against which losses are small."""
        if self.name == "cross_entropy":
            values, place = np.unique(self.target[:, 0], return_inverse=True)
            share = np.clip(np.bincount(place, self.weight, len(values)), 1e-12, None)
            return float(-(share * np.log(share)).sum())
        middle = self.weight @ self.target if self.name != "mae" else np.median(self.target, axis=0)
        return self(np.broadcast_to(middle, self.target.shape).astype(np.float64))

    def part(self, rows: NDArray[np.intp]) -> Objective:
        """Return the same over some events."""
        weight = self.weight[rows]
        return replace(self, target=self.target[rows], weight=weight / weight.sum())
