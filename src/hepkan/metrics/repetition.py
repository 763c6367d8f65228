"""Errors of classification measures, and of their differences, by a Poisson bootstrap over groups of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hepkan.errors import UsageError
from hepkan.metrics.ranking import Ranking, area, background_at, share
from hepkan.metrics.significance import MIN_BACKGROUND, asimov_z, scan
from hepkan.metrics.weights import Floats, class_weights


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
    ranking, w = Ranking.of(y, score), class_weights(weight, y)
    scale, position = 0.0, 0
    if luminosity_fb is not None:
        scale, position = 1e3 * luminosity_fb, scan(ranking, w, luminosity_fb, 0.0, MIN_BACKGROUND)[1]

    def measure(weights: Floats) -> Floats:
        signal, background = ranking.sums(weights)
        z = float(asimov_z(scale * signal[position], scale * background[position]))
        x, y = share(background), share(signal)
        return np.array([area(x, y), z, *(background_at(x, y, one) for one in efficiencies)])

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
    return {name: (value, spread(many[name])) for name, value in values.items()}


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
        return {name: (one[name] - two[name], spread(one_many[name] - two_many[name])) for name in one}


def spread(repeated: Floats) -> float:
    """Return the standard deviation of the finite repetitions, NaN when fewer than half are finite."""
    good = repeated[np.isfinite(repeated)]
    return float(good.std(ddof=1)) if len(good) > max(1, len(repeated) // 2) else float("nan")
