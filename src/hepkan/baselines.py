"""Every kind of model behind one door: `train_model(kind, train, validation, settings, seed)`.

Each kind gets the same events, the same weights and the same validation part for early stopping.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike

from hepkan.data import Table
from hepkan.errors import DataError, UsageError, require, unknown
from hepkan.files import write_text
from hepkan.model_io import load, save
from hepkan.nn.networks import KAN, MLP, Network
from hepkan.train import Progress, fit

TRAINING = {
    "learning_rate": 5e-3,
    "weight_decay": 0.2,
    "epochs": 50,
    "batch": 1024,
    "patience": 8,
    "schedule": "cosine",
    "optimizer": "adamw",
    "loss": "cross_entropy",
    "regularisers": {},
    "gradient_clip": None,
    "input_map": "quantile",
}


class Predictor(Protocol):
    """Anything that scores events."""

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return probabilities `(n,)` from raw features `(n, d)`."""
        ...


@dataclass(frozen=True)
class TrainedModel:
    """A trained member of a study.

    Attributes:
        kind: name in `MODELS`.
        seed: of initial values and the order of events.
        settings: all settings, defaults included.
        predictor: scores events.
        n_parameters: trained numbers; for trees, thresholds and leaf values.
        seconds: wall time of training.
        history: one row per epoch (or boosting round): epoch, train_loss, validation_loss.
        best_value: best validation loss.
    """

    kind: str
    seed: int
    settings: dict[str, Any]
    predictor: Predictor
    n_parameters: int
    seconds: float
    history: list[dict[str, float]]
    best_value: float

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return probabilities `(n,)` from raw features `(n, d)`."""
        return self.predictor.predict(X)

    def save(self, folder: str | Path) -> Path:
        """Write `model.hepkan`, or `model.txt` for trees, into a folder; return the file.

        Raises:
            UsageError: this kind has no file format (pykan).
        """
        if isinstance(self.predictor, Network):
            path = Path(folder) / "model.hepkan"
            save(self.predictor, path, {"kind": self.kind, "seed": self.seed, "settings": self.settings})
        elif isinstance(self.predictor, Trees):
            path = Path(folder) / "model.txt"
            write_text(path, self.predictor.text)
        else:
            raise UsageError(f"A {self.kind} model cannot be saved; it serves for comparison only.")
        return path


@dataclass(frozen=True)
class ModelKind:
    """A kind of model: its title, default settings and how it is trained."""

    title: str
    settings: dict[str, Any]
    train: Callable[..., TrainedModel]
    saved: bool = True


class Trees:
    """Gradient boosted trees of LightGBM, kept as its text format."""

    def __init__(self, text: str) -> None:
        import lightgbm

        self.text = text
        self._booster = lightgbm.Booster(model_str=text)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return probabilities `(n,)`."""
        return np.asarray(self._booster.predict(np.asarray(X, dtype=np.float64), num_threads=1))

    @property
    def n_parameters(self) -> int:
        """Thresholds and leaf values of all trees."""
        leaves = [tree["num_leaves"] for tree in self._booster.dump_model()["tree_info"]]
        return int(sum(2 * count - 1 for count in leaves))


def train_model(
    kind: str,
    train: Table,
    validation: Table,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
) -> TrainedModel:
    """Train one model.

    Arguments:
        kind: name in `MODELS`.
        train: training events.
        validation: events for early stopping.
        settings: changes of the kind's default settings.
        seed: of initial values and the order of events.
        threads: for arithmetic; the result does not depend on it.
        progress: called after every epoch.
        checkpoint: file that makes training of a network resumable.

    Raises:
        UsageError: unknown kind or setting.
        MissingExtra: the kind needs a package that is not installed.
        DataError: data that cannot be trained on.
    """
    if kind not in MODELS:
        raise unknown("model", kind, MODELS)
    model = MODELS[kind]
    for name in settings or {}:
        if name not in model.settings:
            raise unknown(f"setting of {kind}", name, model.settings)
    merged = {**model.settings, **(settings or {})}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return model.train(kind, train, validation, merged, seed, progress, checkpoint)
    finally:
        torch.set_num_threads(before)


def load_model(folder: str | Path) -> Predictor:
    """Return the predictor that `TrainedModel.save` wrote into a folder.

    Raises:
        DataError: no model file, or a damaged one.
    """
    root = Path(folder)
    if (root / "model.hepkan").is_file():
        return load(root / "model.hepkan")
    if (root / "model.txt").is_file():
        import lightgbm

        try:
            return Trees((root / "model.txt").read_text(encoding="utf-8"))
        except lightgbm.basic.LightGBMError as error:
            raise DataError(f"{root / 'model.txt'} must be a LightGBM model, however: {error}") from error
    raise DataError(f"{root} must hold model.hepkan or model.txt, however it has neither.")


def _network(
    kind: str,
    train: Table,
    validation: Table,
    settings: dict[str, Any],
    seed: int,
    progress: Progress | None,
    checkpoint: str | Path | None,
) -> TrainedModel:
    """Train a KAN or an MLP by `hepkan.fit`."""
    outputs = 1 if len(train.classes) <= 2 else len(train.classes)
    widths = [train.X.shape[1], *settings.get("hidden", ()), outputs]
    names = ("grid", "degree", "base", "backend", "activation", "dropout")
    special = {name: settings[name] for name in names if name in settings}
    constructor: Callable[..., Network] = KAN if "grid" in settings else MLP
    model = constructor(widths, input_map=settings["input_map"], seed=seed, **special)
    options = {name: settings[name] for name in TRAINING if name != "input_map"}
    result = fit(model, train, validation, seed=seed, progress=progress, checkpoint=checkpoint, **options)
    return TrainedModel(
        kind, seed, settings, model, model.n_parameters, result.seconds, result.history, result.best_value
    )


def _trees(
    kind: str,
    train: Table,
    validation: Table,
    settings: dict[str, Any],
    seed: int,
    progress: Progress | None,
    checkpoint: str | Path | None,
) -> TrainedModel:
    """Train gradient boosted trees; `epochs` are boosting rounds."""
    import lightgbm

    start = time.perf_counter()
    names = ("num_leaves", "learning_rate", "min_child_samples", "feature_fraction", "bagging_fraction", "lambda_l2")
    parameters = {name: settings[name] for name in names}
    parameters |= {"objective": "binary", "bagging_freq": 1, "verbosity": -1, "num_threads": 1, "seed": seed}
    parameters |= {"deterministic": True, "force_row_wise": True}
    part = lightgbm.Dataset(train.X, train.y, weight=train.training_weights())
    held_out = lightgbm.Dataset(validation.X, validation.y, weight=validation.training_weights(), reference=part)
    losses: dict[str, dict[str, list[float]]] = {}
    callbacks = [
        lightgbm.early_stopping(settings["patience"], verbose=False),
        lightgbm.record_evaluation(losses),
    ]
    if progress is not None:
        callbacks.append(lambda env: progress(env.iteration + 1, settings["epochs"], {}))
    booster = lightgbm.train(
        parameters, part, settings["epochs"], [part, held_out], ["train", "validation"], callbacks=callbacks
    )
    history = [
        {"epoch": float(i + 1), "train_loss": a, "validation_loss": b}
        for i, (a, b) in enumerate(
            zip(losses["train"]["binary_logloss"], losses["validation"]["binary_logloss"], strict=True)
        )
    ]
    trees = Trees(booster.model_to_string(num_iteration=booster.best_iteration))
    best = min(row["validation_loss"] for row in history)
    return TrainedModel(
        kind, seed, settings, trees, trees.n_parameters, time.perf_counter() - start, history, best
    )


def _pykan(
    kind: str,
    train: Table,
    validation: Table,
    settings: dict[str, Any],
    seed: int,
    progress: Progress | None,
    checkpoint: str | Path | None,
) -> TrainedModel:
    """Train pykan's network in its fast mode by our own loop: its `fit` knows no weights and no early stopping."""
    require("kan", "rivals", "The model pykan")
    from hepkan.rivals import PyKAN

    model = PyKAN([train.X.shape[1], *settings["hidden"], 1], settings["grid"], settings["degree"], seed)
    options = {name: settings[name] for name in TRAINING if name != "input_map"}
    result = fit(model, train, validation, seed=seed, progress=progress, checkpoint=checkpoint, **options)
    return TrainedModel(
        kind, seed, settings, model, model.n_parameters, result.seconds, result.history, result.best_value
    )


_KAN = {**TRAINING, "hidden": [10], "grid": 5, "degree": 3, "base": "silu", "backend": "auto"}
_MLP = {**TRAINING, "learning_rate": 1e-3, "weight_decay": 0.01, "activation": "relu", "dropout": 0.0}

MODELS: dict[str, ModelKind] = {
    "kan": ModelKind("Kolmogorov-Arnold network", _KAN, _network),
    "gam": ModelKind("one-layer KAN", {**_KAN, "hidden": []}, _network),
    "mlp": ModelKind("multilayer perceptron", {**_MLP, "hidden": [100, 100]}, _network),
    "bdt": ModelKind(
        "gradient boosted trees (LightGBM)",
        {
            "epochs": 1000,
            "patience": 30,
            "learning_rate": 0.05,
            "num_leaves": 31,
            "min_child_samples": 50,
            "feature_fraction": 0.7,
            "bagging_fraction": 0.7,
            "lambda_l2": 1.0,
        },
        _trees,
    ),
    "logistic": ModelKind(
        "logistic regression", {**_MLP, "hidden": [], "weight_decay": 0.0, "input_map": "standard"}, _network
    ),
    "pykan": ModelKind(
        "pykan 0.2.8", {**TRAINING, "hidden": [10], "grid": 5, "degree": 3, "weight_decay": 0.01}, _pykan, saved=False
    ),
}
"""Every kind of model by name."""
