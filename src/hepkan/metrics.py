"""Weighted measures of a classifier or a regression, with errors from a bootstrap over groups of events.

Classes are normalised separately, so efficiencies and the AUC do not depend on relative yields. Negative
weights count as they are, as in an analysis: estimates stay unbiased, while curves may leave [0, 1] and fall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepkan.errors import DataError, UsageError

Floats = NDArray[np.float64]
MIN_BACKGROUND = 10.0
"""Effective number of background events that a threshold must leave for its significance to be looked at."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Events sorted by falling score, for cheap repetition with other weights.

    Attributes:
        order: rows by falling score.
        signal: labels in that order.
        ends: last position of each distinct score.
    """

    order: NDArray[np.int64]
    signal: NDArray[np.bool_]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, y: ArrayLike, score: ArrayLike) -> Ranking:
        """Sort events; tied scores stay together.

        Raises:
            UsageError: the shapes differ.
            DataError: NaN scores, labels other than 0 and 1, or one class only.
        """
        labels, values = np.asarray(y), np.asarray(score, dtype=np.float64)
        if labels.shape != values.shape or labels.ndim != 1:
            raise UsageError(f"y and score need one shape (n,), however: {labels.shape} and {values.shape}.")
        bad = int(np.isnan(values).sum())
        if bad:
            raise DataError(f"Scores must be numbers, however {bad} of {len(values)} are NaN.")
        present = np.unique(labels)
        if present.tolist() != [0, 1]:
            raise DataError(f"Labels must be 0 and 1 with both present, however: {present[:10].tolist()}.")
        order = np.argsort(-values, kind="stable")
        falling = values[order]
        ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        return cls(order, labels[order] == 1, ends)

    def sums(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return the signal and background weight at or above each distinct score, from 0 to the total."""
        ordered = weight[self.order]
        signal = np.where(self.signal, ordered, 0.0)
        passed, mistaken = np.cumsum(signal)[self.ends], np.cumsum(ordered - signal)[self.ends]
        return np.append(0.0, passed), np.append(0.0, mistaken)

    def curve(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return background and signal efficiency at each distinct score; NaN for a class without weight."""
        signal, background = self.sums(weight)
        return _share(background), _share(signal)


def roc_curve(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Return background and signal efficiency for every distinct score, from (0, 0) to (1, 1).

    Raises:
        UsageError: the shapes differ.
        DataError: NaN scores, labels other than 0 and 1, or a class without positive sum of weights.
    """
    return Ranking.of(y, score).curve(_class_weights(weight, y))


def auc(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    r"""Return the area under the ROC curve; ties count half. Raises as `roc_curve`.

    .. math:: \text{AUC} = P(f_s > f_b) + P(f_s = f_b) / 2
    """
    return _area(*roc_curve(y, score, weight))


def rejection(
    y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None, efficiency: float = 0.5
) -> float:
    """Return one over the background efficiency at a signal efficiency; infinite when no background is left.

    Raises as `roc_curve`.
    """
    at = _background_at(*roc_curve(y, score, weight), efficiency)
    return 1.0 / at if at > 0.0 else float("inf")


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
    ranking, w = Ranking.of(y, score), _class_weights(weight, y)
    z, position = _scan(ranking, w, luminosity_fb, uncertainty, min_background)
    falling = np.append(np.inf, np.asarray(score, dtype=np.float64)[ranking.order][ranking.ends])
    return z, float(falling[position])


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
        w = _weights(weight, x)
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
    w = _weights(weight, p)
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


def bootstrap(
    y: ArrayLike,
    score: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    n_boot: int = 200,
    seed: int = 0,
    efficiencies: Sequence[float] = (0.5, 0.7, 0.9),
    luminosity_fb: float | None = None,
) -> tuple[dict[str, float], dict[str, Floats]]:
    """Return the measures of `evaluate`, and `n_boot` repetitions of each, `(n_boot,)`.

    Repetition k draws the same events for every score of the same events, so repetitions of two scores can be
    subtracted. A rejection is repeated to first order in the background efficiency (it stays finite when a
    repetition has no background left), the significance at the threshold that was best for all events.

    Arguments and errors as `evaluate`.
    """
    ranking, w = Ranking.of(y, score), _class_weights(weight, y)
    scale, position = 0.0, 0
    if luminosity_fb is not None:
        scale, position = 1e3 * luminosity_fb, _scan(ranking, w, luminosity_fb, 0.0, MIN_BACKGROUND)[1]

    def measure(weights: Floats) -> Floats:
        signal, background = ranking.sums(weights)
        z = float(asimov_z(scale * signal[position], scale * background[position]))
        x, y = _share(background), _share(signal)
        return np.array([_area(x, y), z, *(_background_at(x, y, one) for one in efficiencies)])

    central = measure(w)
    repeated = repeat(measure, w, group, n_boot, seed)
    values: dict[str, float] = {"auc": float(central[0])}
    many: dict[str, Floats] = {"auc": repeated[:, 0]}
    for i, efficiency in enumerate(efficiencies):
        at, name = float(central[2 + i]), f"rejection_{100 * efficiency:g}"
        values[name] = 1.0 / at if at > 0.0 else float("inf")
        many[name] = values[name] - (repeated[:, 2 + i] - at) / at**2 if at > 0.0 else np.full(n_boot, np.inf)
    if luminosity_fb is not None:
        values["asimov_z"], many["asimov_z"] = float(central[1]), repeated[:, 1]
    return values, many


def repeat(
    measure: Callable[[Floats], Floats], weight: Floats, group: ArrayLike | None, n_boot: int, seed: int
) -> Floats:
    """Return a measure of the weights under a Poisson bootstrap over groups, `(n_boot, measures)`.

    Raises:
        UsageError: fewer than 2 repetitions, or `group` does not fit.
    """
    if n_boot < 2:
        raise UsageError(f"A bootstrap needs at least 2 repetitions, however: n_boot={n_boot}.")
    members, groups = None, len(weight)
    if group is not None:
        names = np.asarray(group)
        if names.shape != weight.shape:
            raise UsageError(f"group needs the shape {weight.shape}, however it has {names.shape}.")
        unique, members = np.unique(names, return_inverse=True)
        groups = len(unique)
    generator = np.random.default_rng(seed)
    draws = (generator.poisson(1.0, groups) for _ in range(n_boot))
    return np.array([measure(weight * (draw if members is None else draw[members])) for draw in draws])


def evaluate(
    y: ArrayLike,
    score: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    n_boot: int = 200,
    seed: int = 0,
    efficiencies: Sequence[float] = (0.5, 0.7, 0.9),
    luminosity_fb: float | None = None,
) -> dict[str, tuple[float, float]]:
    """Return value and bootstrap error of `auc`, `rejection_<percent>` and, with a luminosity, `asimov_z`.

    Arguments:
        y: labels 0 and 1, `(n,)`.
        score: higher is more like signal, `(n,)`.
        weight: event weights, in pb when a luminosity is given.
        group: events drawn together (copies of one hard event), `(n,)`; each by itself by default.
        n_boot: repetitions of the Poisson bootstrap.
        seed: of the bootstrap.
        efficiencies: signal efficiencies of the rejections.
        luminosity_fb: integrated luminosity in 1/fb.

    Raises:
        UsageError: the shapes differ.
        DataError: NaN scores, labels other than 0 and 1, or a class without positive sum of weights.
    """
    settings = {"n_boot": n_boot, "seed": seed, "luminosity_fb": luminosity_fb}
    values, many = bootstrap(y, score, weight, group, efficiencies=efficiencies, **settings)  # type: ignore[arg-type]
    return {name: (value, _spread(many[name])) for name, value in values.items()}


def compare(
    y: ArrayLike,
    score: ArrayLike,
    reference: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    n_boot: int = 200,
    seed: int = 0,
    efficiencies: Sequence[float] = (0.5, 0.7, 0.9),
    luminosity_fb: float | None = None,
) -> dict[str, tuple[float, float]]:
    """Return difference (score minus reference) and its error for each measure, by a paired bootstrap.

    Arguments and errors as `evaluate`.
    """
    settings = {"n_boot": n_boot, "seed": seed, "luminosity_fb": luminosity_fb}
    (one, one_many), (two, two_many) = (
        bootstrap(y, each, weight, group, efficiencies=efficiencies, **settings)  # type: ignore[arg-type]
        for each in (score, reference)
    )
    with np.errstate(invalid="ignore"):
        return {name: (one[name] - two[name], _spread(one_many[name] - two_many[name])) for name in one}


def evaluate_regression(
    target: ArrayLike,
    prediction: ArrayLike,
    weight: ArrayLike | None = None,
    group: ArrayLike | None = None,
    *,
    n_boot: int = 200,
    seed: int = 0,
) -> dict[str, tuple[Floats, Floats]]:
    """Return value and bootstrap error, `(targets,)` each, of the residuals prediction - target.

    `mae` is the mean absolute residual, `bias` the mean one, `width68` half the central 68 % interval.

    Raises:
        UsageError: the shapes differ.
        DataError: NaN or infinity, or weights without positive sum.
    """
    truth, predicted = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim not in (1, 2) or truth.size == 0:
        raise UsageError(
            f"target and prediction need one shape, however: {truth.shape} and {predicted.shape}."
        )
    residual = (predicted - truth).reshape(len(truth), -1)
    if not np.isfinite(residual).all():
        raise DataError("Targets and predictions must be finite, however some are NaN or infinite.")
    order = np.argsort(residual, axis=0, kind="stable")
    ordered = np.take_along_axis(residual, order, axis=0)

    def measure(weights: Floats) -> Floats:
        total = float(weights.sum())
        if not total > 0.0:  # a repetition that has drawn nothing
            return np.full(3 * residual.shape[1], np.nan)
        widths = [
            0.5 * float(np.diff(_quantiles(ordered[:, t], weights[order[:, t]], (0.16, 0.84)))[0])
            for t in range(residual.shape[1])
        ]
        return np.array([weights @ np.abs(residual) / total, weights @ residual / total, widths]).ravel()

    w = _weights(weight, residual[:, 0])
    if not w.sum() > 0.0:
        raise DataError(f"The weights need a positive sum, however it is {w.sum():g}.")
    central = measure(w).reshape(3, -1)
    errors = np.apply_along_axis(_spread, 0, repeat(measure, w, group, n_boot, seed)).reshape(3, -1)
    return {name: (central[i], errors[i]) for i, name in enumerate(("mae", "bias", "width68"))}


def _quantiles(ordered: Floats, weight: Floats, levels: Sequence[float]) -> Floats:
    """Return weighted quantiles of sorted values, with each weight centred on its value."""
    middle = np.cumsum(weight) - 0.5 * weight
    return np.asarray(np.interp(np.asarray(levels) * weight.sum(), middle, ordered))


def _scan(
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


def _share(sums: Floats) -> Floats:
    """Return cumulative sums over their total, NaN when that is not positive."""
    return sums / sums[-1] if sums[-1] > 0.0 else np.full(len(sums), np.nan)


def _area(background: Floats, signal: Floats) -> float:
    """Return the integral of signal over background efficiency by trapezoids, which counts ties half."""
    return float(np.sum(np.diff(background) * (signal[1:] + signal[:-1])) / 2.0)


def _background_at(background: Floats, signal: Floats, efficiency: float) -> float:
    """Return the background efficiency where a signal efficiency is first reached, linear in between."""
    if not 0.0 < efficiency <= 1.0:
        raise UsageError(f"A signal efficiency lies above 0 and up to 1, however: {efficiency}.")
    if np.isnan(signal[-1]) or np.isnan(background[-1]):
        return float("nan")
    highest = np.maximum.accumulate(signal)  # rises even where negative weights let the curve fall
    i = int(np.searchsorted(highest, efficiency * (1.0 - 1e-12), side="left"))
    step = float(signal[i] - signal[i - 1])
    return float(background[i - 1] + (background[i] - background[i - 1]) * (efficiency - signal[i - 1]) / step)


def _spread(repeated: Floats) -> float:
    """Return the standard deviation of the finite repetitions, NaN when fewer than half are finite."""
    good = repeated[np.isfinite(repeated)]
    return float(good.std(ddof=1)) if len(good) > max(1, len(repeated) // 2) else float("nan")


def _weights(weight: ArrayLike | None, like: ArrayLike) -> Floats:
    """Return weights as float64 `(n,)`, 1 by default."""
    n = len(np.asarray(like))
    w = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != (n,):
        raise UsageError(f"weight needs the shape ({n},), however it has {w.shape}.")
    if not np.isfinite(w).all():
        raise DataError("Weights must be finite, however some are NaN or infinite.")
    return w


def _class_weights(weight: ArrayLike | None, y: ArrayLike) -> Floats:
    """Return weights whose sum is positive for both classes."""
    w, labels = _weights(weight, y), np.asarray(y)
    for label in (0, 1):
        total = float(w[labels == label].sum())
        if not total > 0.0:
            raise DataError(
                f"Both classes need a positive sum of weights, however class {label} has {total:g}."
            )
    return w
