"""Kolmogorov-Arnold networks for collider physics.

Importing is light: a public name brings its module (and PyTorch) on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hepkan.lazy import lazily

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hepkan.baselines import MODELS, train_model
    from hepkan.data import Table
    from hepkan.estimators import KANClassifier, KANRegressor
    from hepkan.interpret import Formula
    from hepkan.interpret import attribute as attribute
    from hepkan.interpret import prune as prune
    from hepkan.interpret import symbolic as symbolic
    from hepkan.interpret import trace as trace
    from hepkan.model_io import load, save
    from hepkan.nn import KAN, MLP, KANLayer
    from hepkan.nn import refine as refine
    from hepkan.nn import update_grid as update_grid
    from hepkan.tasks import TASKS, Task, get_task
    from hepkan.train import FitResult, fit

_NAMES = {
    "KAN": "nn",
    "KANLayer": "nn",
    "MLP": "nn",
    "refine": "nn",
    "update_grid": "nn",
    "trace": "interpret",
    "attribute": "interpret",
    "prune": "interpret",
    "symbolic": "interpret",
    "Formula": "interpret",
    "distil": "train",
    "fit": "train",
    "FitResult": "train",
    "save": "model_io",
    "load": "model_io",
    "Table": "data",
    "KANClassifier": "estimators",
    "KANRegressor": "estimators",
    "MODELS": "baselines",
    "train_model": "baselines",
    "TASKS": "tasks",
    "Task": "tasks",
    "get_task": "tasks",
}
_MODULES = frozenset(
    ("baselines", "data", "errors", "estimators", "export", "interpret", "losses", "metrics", "model_io", "nn")
    + ("physics", "report", "splines", "studies", "tasks", "train")
)

__all__ = [
    "KAN",
    "MLP",
    "MODELS",
    "TASKS",
    "FitResult",
    "Formula",
    "KANClassifier",
    "KANLayer",
    "KANRegressor",
    "Table",
    "Task",
    "__version__",
    "attribute",
    "distil",
    "fit",
    "get_task",
    "load",
    "prune",
    "refine",
    "save",
    "symbolic",
    "trace",
    "train_model",
    "update_grid",
]


__getattr__ = lazily(__name__, _NAMES, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
