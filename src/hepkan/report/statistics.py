"""Weighted summaries of events, small enough to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Values = NDArray[Any]


@dataclass(frozen=True)
class Histogram:
    """Density per unit of x with its statistical error; `sum(density * widths) = 1` over all events."""

    edges: Floats
    density: Floats
    error: Floats

    @property
    def centres(self) -> Floats:
        """Middles of the bins."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


def histogram(values: Values, weight: Values, edges: Floats) -> Histogram:
    """Return the normalised histogram; events outside the edges count in the norm only."""
    content, _ = np.histogram(values, edges, weights=weight)
    square, _ = np.histogram(values, edges, weights=weight.astype(np.float64) ** 2)
    norm = float(np.sum(weight)) or 1.0
    widths = np.diff(edges)
    return Histogram(edges, content / norm / widths, np.sqrt(square) / norm / widths)


def balanced(target: Values, weight: Values) -> Floats:
    """Return non-negative weights with which all classes have the same sum, together one."""
    result: Floats = np.abs(weight).astype(np.float64)
    labels = np.unique(target)
    for label in labels:
        rows = target == label
        total = result[rows].sum()
        if total > 0:
            result[rows] *= 1.0 / (max(2, len(labels)) * total)
    return result


def quantile(values: Values, weight: Values, levels: Floats) -> Floats:
    """Return weighted quantiles; weights must not be negative."""
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weight[order])
    found = np.searchsorted(mass, levels * mass[-1]).clip(max=len(values) - 1)
    result: Floats = values[order][found].astype(np.float64)
    return result


def span(values: Values, weight: Values, outside: float = 0.01) -> tuple[float, float]:
    """Return the ends of the central events; a little apart where all values are the same."""
    low, high = quantile(values, np.abs(weight), np.array([outside, 1.0 - outside]))
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def slices(values: Values, weight: Values, ends: tuple[float, float], count: int) -> Floats:
    """Return the edges of slices with equal sums of |weight| between two ends."""
    inside = (values >= ends[0]) & (values <= ends[1])
    return np.unique(quantile(values[inside], np.abs(weight[inside]), np.linspace(0, 1, count + 1)))


def edges(values: Values, weight: Values, bins: int = 40, discrete: int = 12) -> Floats:
    """Return bins over the central 99 % of the events, or one around each value when there are few values."""
    unique = np.unique(values[: 10 * discrete])
    if len(unique) <= discrete and len(unique := np.unique(values)) <= discrete:
        steps = np.diff(unique) if len(unique) > 1 else np.ones(1)
        middle = 0.5 * (unique[1:] + unique[:-1])
        ends = unique[0] - 0.5 * steps[0], unique[-1] + 0.5 * steps[-1]
        return np.concatenate([ends[:1], middle, ends[1:]]).astype(np.float64)
    low, high = quantile(values, weight, np.array([0.005, 0.995]))
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return np.linspace(low, high, bins + 1)


def separation(signal: Histogram, background: Histogram) -> float:
    r"""Return :math:`\frac{1}{2} \int (s - b)^2 / (s + b)\, dx`, from 0 (equal) to 1 (disjoint)."""
    total = signal.density + background.density
    square = (signal.density - background.density) ** 2
    parts = np.divide(square, total, out=np.zeros_like(total), where=total > 0)
    return float(0.5 * np.sum(parts * np.diff(signal.edges)))


def log_ratio(signal: Values, background: Values, bins: Floats) -> tuple[Floats, Floats]:
    """Return log p(x|S)/p(x|B) per bin from two columns (value, weight), with errors; NaN below five events.

    **Shape** signal, background: `(n, 2)`, result: `(bins,)` twice.
    """
    parts = [histogram(one[:, 0], one[:, 1], bins) for one in (signal, background)]
    ratio, relative = np.zeros(len(bins) - 1), np.zeros(len(bins) - 1)
    for part, sign in zip(parts, (1, -1), strict=True):
        enough = part.density > part.error * np.sqrt(5)
        safe = np.where(enough, part.density, np.nan)
        ratio += sign * np.log(safe)
        relative += (part.error / safe) ** 2
    return ratio, np.sqrt(relative)


@dataclass(frozen=True)
class Profile:
    """A quantity y in bins of another x: mean position, weighted mean with error, and the central 68 % of y."""

    x: Floats
    mean: Floats
    error: Floats
    low: Floats
    high: Floats


def profile(x: Values, y: Values, weight: Values, bins: Floats) -> Profile:
    """Return the profile of y, `(n,)`, in bins of x that hold at least ten events; quantiles use |weight|."""
    place = np.digitize(x, bins)
    rows = []
    for i in range(1, len(bins)):
        inside = np.flatnonzero(place == i)
        w = weight[inside].astype(np.float64)
        total = float(w.sum())
        if len(inside) < 10 or not total > 0:
            continue
        mean = float(w @ y[inside]) / total
        error = np.sqrt(float(w**2 @ (y[inside] - mean) ** 2)) / total
        rows.append((w @ x[inside] / total, mean, error, *quantile(y[inside], np.abs(w), np.array([0.16, 0.84]))))
    return Profile(*np.array(rows, dtype=np.float64).reshape(-1, 5).T)


def correlation(X: Values, weight: Values) -> Floats:
    """Return the weighted correlation matrix of columns; a constant column correlates with nothing."""
    share = np.abs(weight) / np.abs(weight).sum()
    centred = X - share @ X
    covariance = centred.T @ (share[:, None] * centred)
    deviation = np.sqrt(np.diag(covariance))
    scale = np.outer(deviation, deviation)
    result: Floats = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    return result
