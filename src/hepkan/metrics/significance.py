"""What a selection by score is worth in a counting experiment."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hepkan.metrics.ranking import Ranking
from hepkan.metrics.weights import Floats, class_weights

MIN_BACKGROUND = 10.0
"""Effective number of background events that a threshold must leave for its significance to be looked at."""


def asimov_z(signal: ArrayLike, background: ArrayLike, uncertainty: float = 0.0) -> Floats:
    r"""Return the median significance of a counting experiment for the discovery of a signal.

    .. math:: Z^2 = 2 (s + b) \ln \frac{(s + b)(b + \sigma^2)}{b^2 + (s + b) \sigma^2}
              - \frac{2 b^2}{\sigma^2} \ln \left[ 1 + \frac{\sigma^2 s}{b (b + \sigma^2)} \right]
              \quad \xrightarrow{\sigma \to 0} \quad 2 \left[ (s + b) \ln (1 + s / b) - s \right]

    Arguments:
        signal: expected events s; negative ones count as 0.
        background: expected events b; Z is 0 where b is not positive.
        uncertainty: of the background, relative: sigma / b.

    References:
        "Asymptotic formulae for likelihood-based tests of new physics" (Cowan et al., 2010), arXiv:1007.1727.
        "Discovery sensitivity for a counting experiment with background uncertainty" (Cowan, 2012), eq. 20.
    """
    s = np.maximum(np.asarray(signal, dtype=np.float64), 0.0)
    b = np.asarray(background, dtype=np.float64)
    safe = np.where(b > 0.0, b, 1.0)
    if uncertainty == 0.0:
        square = 2.0 * ((s + safe) * np.log1p(s / safe) - s)
    else:
        ratio = max(uncertainty, 1e-100) ** 2 * safe  # sigma^2 / b
        first = (s + safe) * np.log1p(s / (safe + (s + safe) * ratio))
        square = 2.0 * (first - safe / ratio * np.log1p(ratio * s / (safe * (1.0 + ratio))))
    return np.where(b > 0.0, np.sqrt(np.maximum(square, 0.0)), 0.0)


def ams(signal: ArrayLike, background: ArrayLike, regularisation: float = 10.0) -> Floats:
    """Return the approximate median significance of the HiggsML challenge: Asimov Z with b + regularisation.

    References:
        "The Higgs boson machine learning challenge" (Adam-Bourdarios et al., 2015), PMLR 42.
    """
    return asimov_z(signal, np.asarray(background, dtype=np.float64) + regularisation)


def best_asimov_z(
    y: ArrayLike,
    score: ArrayLike,
    weight: ArrayLike,
    luminosity_fb: float,
    uncertainty: float = 0.0,
    min_background: float = MIN_BACKGROUND,
) -> tuple[float, float]:
    """Return the largest Asimov Z over all thresholds, and the threshold (score at or above).

    Arguments:
        y: labels 0 and 1, `(n,)`.
        score: higher is more like signal, `(n,)`.
        weight: event weights in pb, `(n,)`.
        luminosity_fb: integrated luminosity in 1/fb.
        uncertainty: relative uncertainty of the background.
        min_background: effective number of background events that must be left, against thresholds in the
            empty tail.

    Raises as `roc_curve`.
    """
    ranking, w = Ranking.of(y, score), class_weights(weight, y)
    z, position = scan(ranking, w, luminosity_fb, uncertainty, min_background)
    falling = np.append(np.inf, np.asarray(score, dtype=np.float64)[ranking.order][ranking.ends])
    return z, float(falling[position])


def scan(
    ranking: Ranking, weight: Floats, luminosity_fb: float, uncertainty: float, min_background: float
) -> tuple[float, int]:
    """Return the largest Asimov Z and its position in the sums; the last position when none is allowed."""
    signal, background = ranking.sums(weight)
    _, squares = ranking.sums(weight**2)
    allowed = (background > 0.0) & (background**2 >= min_background * squares)
    scale = 1e3 * luminosity_fb
    z = np.where(allowed, asimov_z(scale * signal, scale * background, uncertainty), -1.0)
    position = int(np.argmax(z)) if allowed.any() else len(z) - 1
    return float(asimov_z(scale * signal[position], scale * background[position], uncertainty)), position
