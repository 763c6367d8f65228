"""What a page says: numbers with errors, names of metrics, and who wins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
MODELS = {
    "kan": "KAN",
    "gam": "one-layer KAN",
    "mlp": "MLP",
    "bdt": "gradient boosting",
    "logistic": "logistic regression",
    "pykan": "pykan",
    "flow": "normalising flow",
    "met_split": "MET splitting",
    "median": "constant median",
    "linear": "linear regression",
}
"""Known models, by the names readers use; their order fixes colour and line."""

NO_ARTICLE = ("bdt", "logistic", "pykan", "met_split", "linear")

MINUS = "\u2212"
CLEAR = 2.0
"""Differences below this many standard deviations decide nothing."""

HIGHER = ("auc", "rejection_", "asimov_z", "ams")
LOWER = ("mae", "rmse", "width", "loss")
RANKING = ("auc", "mae")
"""Measures that rank the models of a study; a study has one of them."""
PARTS = {"mae": "MAE", "bias": "bias", "width68": "68 % width"}
"""Measures of the residuals of single targets and quantities."""


def title(model: str) -> str:
    """Return a model's name for readers, of a cut and of the mean score over seeds too."""
    if model.startswith("cut "):
        return f"cut on {model.removeprefix('cut ')}"
    kind, space, rest = model.partition(" ")
    return MODELS.get(kind, kind.replace("_", " ")) + space + rest


def metric_name(metric: str) -> str:
    """Return a metric's name for readers."""
    if metric.startswith("rejection_"):
        return f"rejection at {metric.removeprefix('rejection_')} % signal"
    part, _, target = metric.partition("_")
    if target and part in PARTS:
        return f"{PARTS[part]} of {target}"
    return {"auc": "AUC", "asimov_z": "Asimov Z", "mae": "MAE"}.get(metric, metric.replace("_", " "))


def main_metric(rows: Sequence[Row]) -> str:
    """Return the measure that ranks the models: `auc` or `mae`, else the first one."""
    found = dict.fromkeys(str(row["metric"]) for row in rows)
    return next((metric for metric in RANKING if metric in found), next(iter(found), RANKING[0]))


def is_compared(metric: str) -> bool:
    """Return whether a measure says which of two runs is better; bias and width of single targets do not."""
    return not metric.startswith(("bias_", "width68_"))


def sense(metric: str) -> int:
    """Return 1 for a measure of which more is better, -1 where less is, 0 where that is unknown."""
    if metric.startswith(HIGHER):
        return 1
    return -1 if metric.startswith(LOWER) or metric.endswith(LOWER) else 0


def with_error(value: float | None, error: float | None) -> str:
    """Return `0.9712 ± 0.0011`: two significant digits of the error decide."""
    if value is None or not math.isfinite(value):
        return "–"
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.4g}".replace("-", MINUS)
    digits = max(0, min(6, 1 - math.floor(math.log10(float(f"{error:.1e}")))))
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", MINUS)


def seconds(value: float) -> str:
    """Return a duration in its natural unit."""
    if value < 100:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def count(value: float) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def rounded(value: float) -> str:
    """Return a large number to four digits."""
    return count(float(f"{value:.4g}"))


def date(text: str) -> str:
    """Return a time stamp for readers."""
    return text[:16].replace("T", " ") + " UTC" if text.endswith("+00:00") else text


def is_best(rows: Sequence[Row], row: Row) -> bool:
    """Return whether no other model has a better value of the row's metric."""
    metric = str(row["metric"])
    values = [one["value"] for one in rows if one["metric"] == metric and _finite(one["value"])]
    if len(values) < 2 or not _finite(row["value"]):
        return False
    best = {1: max, -1: min}.get(sense(metric))
    return best is not None and bool(row["value"] == best(values))


def headline(report: Mapping[str, Any], main: str, reference: str | None = None) -> list[str]:
    """Return the sentences that say who wins by how much, whoever that is.

    The first compares the main model with the reference, the second with the best of the others.
    """
    metric = main_metric(report["rows"])
    pairs = (one for one in report.get("comparisons") or () if (one["metric"], one["model"]) == (metric, main))
    found = {str(one["reference"]): one for one in pairs}
    if not found:
        return _without_comparison(report, main)
    chosen = found.get(str(reference)) or next(iter(found.values()))
    lines = [f"{verdict(chosen)} {_numbers(report, chosen)}"]
    rivals = [one for one in found.values() if one is not chosen and _finite(one["difference"])]
    if rivals:
        best = min(rivals, key=lambda one: (sense(metric) or 1) * float(one["difference"]))
        words = verdict(best)
        lines.append(f"Against the best of the others, {words[:1].lower()}{words[1:]} {_numbers(report, best)}")
    if {int(row["seeds"]) for row in report["rows"] if row["model"] == main} == {1}:
        lines.append("One seed per model was trained: a look, not a result.")
    return lines


def the(model: str) -> str:
    """Return a model's name with its article, where it has one."""
    kind, _, rest = model.partition(" ")
    return title(model) if kind in NO_ARTICLE and not rest else f"the {title(model)}"


def verdict(item: Row) -> str:
    """Return who wins a comparison and by how many standard deviations."""
    first, second, sigma = the(str(item["model"])), the(str(item["reference"])), item["sigma"]
    if not _finite(sigma) or not _finite(item["error"]) or item["error"] <= 0:
        text = f"{first} cannot be compared with {second}: the error of the difference is unknown."
    elif abs(sigma) < CLEAR:
        size = min(abs(sigma), CLEAR - 0.1)  # 1.96 must not read as 2.0
        text = f"{first} and {second} are not distinguishable: they differ by {size:.1f} standard deviations."
    else:
        wins = (item["difference"] > 0) == (sense(str(item["metric"])) >= 0)
        verb = "beats" if wins else "loses to"
        text = f"{first} {verb} {second} by {abs(sigma):.1f} standard deviations."
    return text[:1].upper() + text[1:]


def difference(item: Row) -> str:
    """Return a difference with its sign and error."""
    return signed_error(item["difference"], item["error"])


def signed_error(value: float | None, error: float | None) -> str:
    """Return a number with its sign and error."""
    text = with_error(value, error)
    return text if text.startswith((MINUS, "–")) else f"+{text}"


def _numbers(report: Mapping[str, Any], item: Row) -> str:
    """Return the two values and their difference."""
    values = {str(row["model"]): row for row in report["rows"] if row["metric"] == item["metric"]}
    names = [str(item[key]) for key in ("model", "reference")]
    parts = [
        f"{title(name)} {with_error(values[name]['value'], values[name]['error'])}"
        for name in names
        if name in values
    ]
    return f"{metric_name(str(item['metric']))}: {', '.join([*parts, f'difference {difference(item)}'])}."


def _without_comparison(report: Mapping[str, Any], main: str) -> list[str]:
    """Return a plain statement when there is nothing to compare with."""
    ranking = main_metric(report["rows"])
    mine = [one for one in report["rows"] if one["model"] == main] or report["rows"]
    row = next((one for one in mine if one["metric"] == ranking), mine[0])
    name, value = the(str(row["model"])), with_error(row["value"], row["error"])
    metric = metric_name(str(row["metric"]))
    return [f"{name[:1].upper() + name[1:]}: {metric} {value}. Nothing to compare it with."]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
