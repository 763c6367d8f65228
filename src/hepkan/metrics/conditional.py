"""Whether samples of a conditional distribution are calibrated and sharp: PIT, coverage and CRPS per component."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hepkan.errors import DataError, UsageError
from hepkan.metrics.repetition import repeat, spread
from hepkan.metrics.weights import Floats, checked_weights

LEVELS = (0.50, 0.68, 0.90, 0.95)


def pit(target: ArrayLike, samples: ArrayLike, seed: int = 0) -> Floats:
    r"""Return the probability integral transform of every target, uniform in (0, 1) when the samples are calibrated.

    .. math:: u = (r + v) / (S + 1)

    with r the number of samples below the target and v uniform, which makes u uniform for any number of samples; a
    target that equals k samples takes one of the k + 1 places among them by chance.

    **Shape** target: `(n, t)` or `(n,)`, samples: `(n, S, t)` or `(n, S)`, result: `(n, t)`.

    Raises:
        UsageError: the shapes do not fit.
        DataError: NaN or infinity.

    References:
        "Probabilistic forecasts, calibration and sharpness" (Gneiting, Balabdaoui and Raftery, 2007).
    """
    truth, drawn = _checked(target, samples)
    generator = np.random.default_rng(seed)
    below = (drawn < truth[:, None]).sum(axis=1)
    equal = (drawn == truth[:, None]).sum(axis=1)
    place = below + np.floor(generator.random(truth.shape) * (equal + 1))
    return np.asarray((place + generator.random(truth.shape)) / (drawn.shape[1] + 1))


def crps(target: ArrayLike, samples: ArrayLike) -> Floats:
    r"""Return the continuous ranked probability score of every target, in its unit; smaller is better.

    .. math:: \frac{1}{S} \sum_i |x_i - y| - \frac{1}{2 S (S - 1)} \sum_{ij} |x_i - x_j|

    is unbiased in the number of samples, and becomes the absolute error for a distribution of a single value.

    Shapes and errors as `pit`, with two samples at least.

    References:
        "Strictly proper scoring rules, prediction, and estimation" (Gneiting and Raftery, 2007).
    """
    truth, drawn = _checked(target, samples)
    size = drawn.shape[1]
    if size < 2:
        raise UsageError(f"The score needs at least two samples for each event, however: {size}.")
    distance = np.abs(drawn - truth[:, None]).mean(axis=1)
    rank = 2.0 * np.arange(size) - size + 1.0
    inside = np.einsum("nst,s->nt", np.sort(drawn, axis=1), rank) / (size * (size - 1))
    return np.asarray(distance - inside)


def evaluate_conditional(
    target: ArrayLike,
    samples: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    levels: Sequence[float] = LEVELS,
    n_boot: int = 200,
    seed: int = 0,
) -> dict[str, tuple[Floats, Floats]]:
    """Return value and bootstrap error, `(t,)` each, of `coverage_<percent>` for every level and of `crps`.

    A coverage is the weighted share of targets in the central interval of that probability, see `pit`.

    Arguments:
        target: true values, `(n, t)`.
        samples: draws from the predicted distributions, `(n, S, t)`.
        weight: event weights `(n,)`.
        group: events drawn together in the bootstrap, `(n,)`; each by itself by default.
        levels: probabilities of the central intervals.
        n_boot: repetitions of the Poisson bootstrap.
        seed: of the bootstrap and of `pit`.

    Raises:
        UsageError: the shapes do not fit, or a level is not between 0 and 1.
        DataError: NaN or infinity, or weights without positive sum.
    """
    for level in levels:
        if not 0.0 < level < 1.0:
            raise UsageError(f"A level must lie between 0 and 1, however: {level}.")
    distance = 2.0 * np.abs(pit(target, samples, seed) - 0.5)
    columns = [*((distance <= level).astype(np.float64) for level in levels), crps(target, samples)]
    names = [*(f"coverage_{100 * level:g}" for level in levels), "crps"]
    value, error = _means(np.stack(columns, axis=1), weight, group, n_boot, seed)
    return {name: (value[i], error[i]) for i, name in enumerate(names)}


def pit_histogram(
    target: ArrayLike,
    samples: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    bins: int = 20,
    n_boot: int = 200,
    seed: int = 0,
) -> tuple[Floats, Floats, Floats]:
    """Return edges `(bins + 1,)`, density (1 when calibrated) and bootstrap error, `(t, bins)` each, of `pit`.

    Arguments and errors as `evaluate_conditional`.
    """
    if bins < 1:
        raise UsageError(f"A histogram needs at least one bin, however: bins={bins}.")
    place = np.minimum((pit(target, samples, seed) * bins).astype(np.int64), bins - 1)
    inside = (place[:, :, None] == np.arange(bins)).astype(np.float64)
    value, error = _means(inside * bins, weight, group, n_boot, seed)
    return np.linspace(0.0, 1.0, bins + 1), value, error


def _means(
    values: Floats, weight: ArrayLike | None, group: ArrayLike | None, n_boot: int, seed: int
) -> tuple[Floats, Floats]:
    """Return weighted means over events and their bootstrap errors; `(n, a, b)` to `(a, b)` twice."""
    w = checked_weights(weight, values[:, 0, 0])
    if not w.sum() > 0.0:
        raise DataError(f"The weights need a positive sum, however it is {w.sum():g}.")
    flat = values.reshape(len(values), -1)

    def measure(weights: Floats) -> Floats:
        total = float(weights.sum())
        return np.asarray(weights @ flat / total) if total > 0.0 else np.full(flat.shape[1], np.nan)

    errors = np.apply_along_axis(spread, 0, repeat(measure, w, group, n_boot, seed))
    return measure(w).reshape(values.shape[1:]), errors.reshape(values.shape[1:])


def _checked(target: ArrayLike, samples: ArrayLike) -> tuple[Floats, Floats]:
    """Return targets `(n, t)` and samples `(n, S, t)` in float64."""
    truth, drawn = np.asarray(target, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if truth.ndim == 1 and drawn.ndim == 2:
        truth, drawn = truth[:, None], drawn[:, :, None]
    if truth.ndim != 2 or drawn.ndim != 3 or drawn.shape[::2] != truth.shape or drawn.size == 0:
        raise UsageError(
            f"Targets (n, t) need samples (n, S, t) of n, S, t > 0, however: {truth.shape} and {drawn.shape}."
        )
    if not (np.isfinite(truth).all() and np.isfinite(drawn).all()):
        raise DataError("Targets and samples must be finite, however some are NaN or infinite.")
    return truth, drawn
