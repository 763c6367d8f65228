"""Do two samples agree, and does a score mean a probability?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hepkan.errors import DataError, UsageError
from hepkan.metrics.weights import Floats, checked_weights


def effective_size(weight: ArrayLike) -> float:
    """Return (sum w)^2 / sum w^2, the number of unweighted events of the same relative error."""
    w = np.asarray(weight, dtype=np.float64)
    squares = float(np.sum(w**2))
    return float(w.sum()) ** 2 / squares if squares > 0.0 else 0.0


def ks_weighted(
    a: ArrayLike, b: ArrayLike, weight_a: ArrayLike | None = None, weight_b: ArrayLike | None = None
) -> tuple[float, float]:
    r"""Return distance and asymptotic p-value of the Kolmogorov-Smirnov test of two weighted samples.

    .. math:: D = \max_x |F_a(x) - F_b(x)|, \quad p = Q_{KS}(D \sqrt{n_a n_b / (n_a + n_b)})

    with effective sizes n. Negative weights count as they are, and the p-value is then a guide only.

    Raises:
        UsageError: the shapes differ.
        DataError: NaN, or weights without positive sum.
    """
    from scipy.special import kolmogorov

    samples = []
    for values, weight in ((a, weight_a), (b, weight_b)):
        x = np.asarray(values, dtype=np.float64)
        if x.ndim != 1:
            raise UsageError(f"A sample needs the shape (n,), however it has {x.shape}.")
        w = checked_weights(weight, x)
        if np.isnan(x).any() or not w.sum() > 0.0:
            raise DataError(
                f"The test needs numbers with a positive sum of weights, however {int(np.isnan(x).sum())} of "
                f"{len(x)} are NaN and the sum is {w.sum():g}."
            )
        order = np.argsort(x, kind="stable")
        samples.append((x[order], np.append(0.0, np.cumsum(w[order])) / w.sum(), effective_size(w)))
    points = np.concatenate([x for x, _, _ in samples])
    first, second = (sums[np.searchsorted(x, points, side="right")] for x, sums, _ in samples)
    distance = float(np.abs(first - second).max())
    n_a, n_b = samples[0][2], samples[1][2]
    return distance, float(kolmogorov(distance * np.sqrt(n_a * n_b / (n_a + n_b))))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Predicted and observed signal fraction by bin of the prediction; bins without events are left out.

    Attributes:
        predicted: weighted mean prediction.
        observed: weighted fraction of signal.
        error: of the fraction, binomial with the effective number of events.
        weight: share of all weight.
    """

    predicted: Floats
    observed: Floats
    error: Floats
    weight: Floats

    @property
    def expected_error(self) -> float:
        """Weighted mean of |predicted - observed|."""
        return float(np.sum(self.weight * np.abs(self.predicted - self.observed)))


def calibration(
    y: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None, bins: int = 10
) -> Calibration:
    """Compare predicted probabilities with observed fractions in equal bins of [0, 1].

    A training with balanced classes is calibrated for balanced classes: give weights that balance them.
    Bins whose weights do not add up to something positive are left out.

    Raises:
        UsageError: the shapes differ, or fewer than one bin.
        DataError: predictions outside [0, 1], labels other than 0 and 1, or weights without positive sum.
    """
    labels, p = np.asarray(y), np.asarray(probability, dtype=np.float64)
    if labels.shape != p.shape or p.ndim != 1 or bins < 1:
        raise UsageError(
            f"y and probability need one shape (n,) and bins at least 1, however: {labels.shape}, {p.shape}, {bins}."
        )
    w = checked_weights(weight, p)
    if not np.isin(labels, (0, 1)).all() or not w.sum() > 0.0:
        raise DataError(
            f"A calibration needs labels 0 and 1 and a positive sum of weights, however the labels are "
            f"{np.unique(labels)[:10].tolist()} and the sum is {w.sum():g}."
        )
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise DataError("A calibration needs probabilities between 0 and 1, however some are outside or NaN.")
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    total, squares, mean, signal = (
        np.bincount(index, values, bins) for values in (w, w**2, w * p, w * labels)
    )
    kept = total > 0.0
    total = total[kept]
    observed = signal[kept] / total
    error = np.sqrt(np.clip(observed * (1.0 - observed), 0.0, None) * squares[kept]) / total
    return Calibration(mean[kept] / total, observed, error, total / total.sum())
