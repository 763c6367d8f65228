"""What a network of splines leaves over: features that act together, or noise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepkan.interpret.evaluation import evaluate
from hepkan.interpret.expression import Spline
from hepkan.interpret.objective import Objective
from hepkan.interpret.shapes import Shape, feature_basis

Floats = NDArray[np.float64]

_FISHER = 2.0


def interacting(X: Floats, columns: Sequence[int], objective: Objective, start: Shape) -> list[int]:
    """Return the features whose effect on the target depends on another feature.

    What a sum of functions leaves over is described by products of two Legendre polynomials of two features each; a
    feature interacts when leaving all its products out costs more than Fisher's F allows.
    """
    left = (objective.target - evaluate(start.roots, X))[:, 0]
    waves = {}
    for i in columns:
        low, high = float(X[:, i].min()), float(X[:, i].max())
        u = (2.0 * X[:, i] - low - high) / max(high - low, 1e-300)
        waves[i] = (u, 1.5 * u**2 - 0.5)
    pairs = list(itertools.combinations(columns, 2))
    blocks = [np.stack([a * b for a in waves[i] for b in waves[j]], axis=1) for i, j in pairs]
    if not pairs or 4 * len(pairs) > 0.5 * len(X):
        return list(columns)
    root = np.sqrt(np.maximum(objective.weight, 0.0))[:, None]
    singles = [feature_basis(edge.function, X) for edge in start.edges if isinstance(edge.function, Spline)]
    base = root * np.column_stack([np.ones(len(X)), *singles])
    q, _ = np.linalg.qr(base)
    target = root[:, 0] * left
    target = target - q @ (q.T @ target)
    matrices = [root * block - q @ (q.T @ (root * block)) for block in blocks]
    everything = _unexplained(matrices, target)
    free = len(X) - base.shape[1] - 4 * len(pairs)
    found = []
    for i in columns:
        kept = [matrix for matrix, pair in zip(matrices, pairs, strict=True) if i not in pair]
        dropped = 4 * (len(matrices) - len(kept))
        more = _unexplained(kept, target) - everything
        if more > 0.02 * (target @ target) and more / dropped > 4.0 * everything / max(free, 1):
            found.append(i)
    return found


def white(X: Floats, columns: Sequence[int], objective: Objective, shape: Shape) -> bool:
    """Return whether what a shape leaves over looks like noise: products of two features explain none of it.

    Fisher's F of products of two Legendre polynomials, of degree up to 2, of any two features.
    """
    root = np.sqrt(np.maximum(objective.weight, 0.0))
    left = root * (objective.target - evaluate(shape.roots, X))[:, 0]
    waves = []
    for i in columns:
        u = 2.0 * (X[:, i] - X[:, i].min()) / np.ptp(X[:, i]) - 1.0
        waves.append((u, 1.5 * u**2 - 0.5))
    blocks = [a * b for one, two in itertools.combinations(waves, 2) for a in one for b in two]
    if not blocks or 4 * len(blocks) > len(X):
        return False
    rest = _unexplained([root[:, None] * np.stack(blocks, axis=1)], left)
    free = len(X) - len(blocks)
    return bool((left @ left - rest) / len(blocks) < _FISHER * rest / free)


def _unexplained(matrices: Sequence[Floats], target: Floats) -> float:
    """Return the sum of squares that columns leave over."""
    if not matrices:
        return float(target @ target)
    columns = np.concatenate(matrices, axis=1)
    solution = np.linalg.lstsq(columns, target, rcond=1e-10)[0]
    return float(np.square(target - columns @ solution).sum())
