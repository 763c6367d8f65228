"""Who is better and by how much: means over seeds, errors from seeds and from a bootstrap of the test events.

All scores see the same repetitions of the bootstrap, so differences of two models profit from what they share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.metrics import bootstrap, bootstrap_regression, roc_curve
from hepkan.metrics.repetition import spread
from hepkan.studies.card import Card
from hepkan.studies.members import Member

Floats = NDArray[np.float64]
SIGNAL_EFFICIENCIES = np.linspace(0.0, 1.0, 201)


def main_metric(card: Card) -> str:
    """Return the measure that ranks the models of a study: `auc`, or `mae`, the smaller the better."""
    return "auc" if card.task == "classification" else "mae"


@dataclass(frozen=True)
class Test:
    """The test events.

    Attributes:
        y: labels `(n,)`, or targets `(n, t)`.
        weight: in pb, standing for the whole sample.
        group: of the bootstrap.
        targets: names of the targets of a regression.
        scale: their deviations among the test events, `(t,)`, the unit of the mean absolute error over all targets.
    """

    y: NDArray[Any]
    weight: Floats
    group: NDArray[np.int64]
    targets: tuple[str, ...] = ()
    scale: Floats | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """The measures of one model: by seed, and repetitions of their mean over seeds."""

    values: Mapping[str, Floats]
    repeated: Mapping[str, Floats]

    def value(self, metric: str) -> float:
        """Return the mean over seeds."""
        return float(self.values[metric].mean())

    def errors(self, metric: str) -> tuple[float, float]:
        """Return the error of the mean over seeds and that of the limited test events."""
        return standard_error(self.values[metric]), spread(self.repeated[metric])


def measure(scores: Sequence[Floats], test: Test, card: Card) -> Measured:
    """Return the measures of one model from its score of each seed."""
    measured = _classification if card.task == "classification" else _regression
    return over_seeds([measured(score, test, card) for score in scores])


def over_seeds(found: Sequence[tuple[Mapping[str, float], Mapping[str, Floats]]]) -> Measured:
    """Join the measures of several seeds and their repetitions."""
    names = list(found[0][0])
    return Measured(
        {name: np.array([central[name] for central, _ in found]) for name in names},
        {name: np.mean([repeated[name] for _, repeated in found], axis=0) for name in names},
    )


def _classification(score: Floats, test: Test, card: Card) -> tuple[dict[str, float], dict[str, Floats]]:
    """AUC, rejections, significance, and their repetitions."""
    if score.ndim == 2:
        return _many_classes(score, test, card)
    return bootstrap(
        test.y,
        score,
        test.weight,
        test.group,
        n_boot=card.bootstrap,
        seed=card.split.seed,
        efficiencies=card.efficiencies,
        luminosity_fb=card.luminosity_fb,
    )


def _many_classes(score: Floats, test: Test, card: Card) -> tuple[dict[str, float], dict[str, Floats]]:
    """`auc`, the mean over classes of one against the rest, and `auc_<class>` of each; all repetitions alike."""
    arguments = {"n_boot": card.bootstrap, "seed": card.split.seed, "efficiencies": ()}
    values, many = {}, {}
    for k in range(score.shape[1]):
        label = (test.y == k).astype(np.int64)
        central, repeated = bootstrap(label, score[:, k], test.weight, test.group, **arguments)  # type: ignore[arg-type]
        name = test.classes[k] if test.classes else str(k)
        values[f"auc_{name}"], many[f"auc_{name}"] = central["auc"], repeated["auc"]
    mean = {"auc": float(np.mean(list(values.values())))}
    return mean | values, {"auc": np.mean(list(many.values()), axis=0)} | many


def _regression(score: Floats, test: Test, card: Card) -> tuple[dict[str, float], dict[str, Floats]]:
    """`mae` over all targets in units of their deviations; then `mae_`, `bias_`, `width68_` of each, in its unit."""
    assert test.scale is not None
    central, repeated = residual_measures(score - test.y, test, card)
    values = {"mae": float((central["mae"] / test.scale).mean())}
    many = {"mae": (repeated["mae"] / test.scale).mean(axis=1)}
    for measure in central:
        for t, name in enumerate(test.targets):
            values[f"{measure}_{name}"] = float(central[measure][t])
            many[f"{measure}_{name}"] = repeated[measure][:, t]
    return values, many


def residual_measures(residual: Floats, test: Test, card: Card) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return measures of residuals `(n, t)` on the test events with the repetitions of the study."""
    return bootstrap_regression(residual, test.weight, test.group, n_boot=card.bootstrap, seed=card.split.seed)


def measure_all(scores: Mapping[str, Sequence[Floats]], test: Test, card: Card) -> dict[str, Measured]:
    """Return the measures of every model, and of the mean score over the seeds of each."""
    found = {kind: measure(columns, test, card) for kind, columns in scores.items()}
    for kind, columns in scores.items():
        if len(columns) > 1:
            found[ensemble_name(kind)] = measure([np.mean(columns, axis=0)], test, card)
    return found


def result_rows(measured: Measured, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per metric; the error adds seeds and test events in quadrature."""
    rows = []
    for metric in measured.values:
        error = math.hypot(*measured.errors(metric))
        result = {"metric": metric, "value": finite(measured.value(metric)), "error": finite(error)}
        order = ("task", "model", "metric", "value", "error", "seeds", "parameters", "train_seconds", "settings")
        merged = {**facts, **result}
        rows.append({key: merged[key] for key in order})
    return rows


def error_rows(model: str, measured: Measured) -> list[dict[str, Any]]:
    """Return, for the record, the two parts of each error and the value of each seed."""
    return [
        {
            "model": model,
            "metric": metric,
            "seed_error": finite(measured.errors(metric)[0]),
            "bootstrap_error": finite(measured.errors(metric)[1]),
            "values": [finite(value) for value in measured.values[metric]],
        }
        for metric in measured.values
    ]


def model_facts(task: str, members: Sequence[Member]) -> dict[str, Any]:
    """Return what a result row says about a model besides its measures."""
    records = [member.record for member in members]
    return {
        "task": task,
        "model": members[0].label,
        "seeds": len(members),
        "parameters": int(records[0]["parameters"]),
        "train_seconds": float(np.mean([record["train_seconds"] for record in records])),
        "settings": records[0]["settings"],
    }


def ensemble_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same for the mean score of a model's seeds."""
    seeds = facts["seeds"]
    return {
        **facts,
        "model": ensemble_name(facts["model"]),
        "parameters": seeds * facts["parameters"],
        "train_seconds": seeds * facts["train_seconds"],
    }


def ensemble_name(kind: str) -> str:
    """Return the name of the mean score of a model's seeds."""
    return f"{kind} ensemble"


def comparisons(
    measured: Mapping[str, Measured], kinds: Sequence[str], main: str, reference: str
) -> list[dict[str, Any]]:
    """Return every measure's difference: the main model to all others, all others to the reference."""
    pairs = [(main, kind) for kind in kinds if kind != main]
    pairs += [(kind, reference) for kind in kinds if kind not in (main, reference) and reference in kinds]
    pairs += [(ensemble_name(one), ensemble_name(two)) for one, two in pairs if one == main]
    return [
        {"model": one, "reference": two, "metric": metric, **difference(measured[one], measured[two], metric)}
        for one, two in pairs
        if one in measured and two in measured
        for metric in measured[one].values
    ]


def difference(one: Measured, two: Measured, metric: str) -> dict[str, float | None]:
    """Return difference, error and number of standard deviations.

    Seed k of every model has the same partition into training and validation, so the seeds are paired like the
    repetitions of the bootstrap are.
    """
    with np.errstate(invalid="ignore"):  # rejections are infinite where no background is left; their difference is NaN
        seeds = one.values[metric] - two.values[metric]
        repeated = one.repeated[metric] - two.repeated[metric]
    value = float(seeds.mean())
    error = math.hypot(standard_error(seeds), spread(repeated))
    sigma = value / error if error > 0 else 0.0
    return {"difference": finite(value), "error": finite(error), "sigma": finite(sigma)}


def roc_points(scores: Sequence[Floats], test: Test) -> dict[str, list[float]]:
    """Return the background efficiency at fixed signal efficiencies, mean over seeds."""
    curves = []
    for score in scores:
        background, signal = roc_curve(test.y, score, test.weight)
        curves.append(np.interp(SIGNAL_EFFICIENCIES, signal, background))
    return {
        "signal_efficiency": SIGNAL_EFFICIENCIES.tolist(),
        "background_efficiency": np.mean(curves, axis=0).tolist(),
    }


def standard_error(values: Floats) -> float:
    """Return the standard error of a mean; a single value shows none."""
    if len(values) < 2 or not np.isfinite(values).all():
        return 0.0
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def finite(value: float) -> float | None:
    """Return a number that JSON can hold: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None
