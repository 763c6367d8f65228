"""Every kind of model behind one door: `train_model(kind, train, validation, settings, seed)`.

Each kind sees the same events with the same weights and stops early on the same validation part.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike

from hepkan.data import Policy, Table
from hepkan.errors import DataError, UsageError, unknown
from hepkan.files import write_text
from hepkan.model_io import load, read_metadata, save
from hepkan.nn import KAN, MLP, Network
from hepkan.predictors import PyKAN, Trees, read_trees
from hepkan.train import Progress, fit


class Predictor(Protocol):
    """Anything that turns raw features `(n, d)` into probabilities `(n,)`, or `(n, K)` for K > 2 classes."""

    def predict(self, X: ArrayLike) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainedModel:
    """A trained model of any kind.

    Attributes:
        kind: name in `MODELS`.
        seed: of initial values, order of events and subsampling.
        settings: all of them, defaults included.
        predictor: the network or the trees.
        n_parameters: trained numbers; for trees the number of leaves and splits.
        seconds: wall time of training.
        history: one row per epoch or boosting round: epoch, train_loss, validation_loss, ...
        best_value: validation loss of the epoch that was kept.
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
        """Return probabilities `(n,)` of class 1, or `(n, K)`, from raw features `(n, d)`."""
        return self.predictor.predict(X)

    def save(self, folder: str | Path) -> Path:
        """Write `model.hepkan`, or `model.txt` and `model.json` (trees), or `model.pykan`; return the file.

        Raises:
            OSError: the folder cannot be written.
        """
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        record = {name: value for name, value in vars(self).items() if name != "predictor"}
        if isinstance(self.predictor, Trees):
            write_text(root / "model.json", json.dumps(record, indent=1))
            write_text(root / "model.txt", self.predictor.text)
            return root / "model.txt"
        if isinstance(self.predictor, PyKAN):
            self.predictor.write(root / "model.pykan", record)
            return root / "model.pykan"
        assert isinstance(self.predictor, Network)
        save(self.predictor, root / "model.hepkan", record)
        return root / "model.hepkan"


@dataclass(frozen=True)
class Job:
    """One training: what `train_model` was asked for, with complete settings."""

    kind: str
    train: Table
    validation: Table
    settings: dict[str, Any]
    seed: int
    threads: int
    progress: Progress | None
    checkpoint: Path | None
    negative_weights: Policy

    @property
    def widths(self) -> list[int]:
        """Numbers of inputs, hidden nodes and outputs."""
        hidden = self.settings.get("hidden", [])
        table = self.train
        classes = len(table.classes)
        outputs = (1 if classes <= 2 else classes) if table.classification else len(table.target_names)
        return [len(table.names), *([hidden] if isinstance(hidden, int) else hidden), outputs]


@dataclass(frozen=True)
class ModelKind:
    """A kind of model: its title, all its settings with their defaults, and how it is trained.

    `saved` says whether `TrainedModel.save` writes it in a form that others can load.
    """

    title: str
    settings: Mapping[str, Any]
    train: Callable[[Job], TrainedModel]
    saved: bool = True


def train_model(
    kind: str,
    train: Table,
    validation: Table,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
    negative_weights: Policy = "abs",
) -> TrainedModel:
    """Train one model of any kind.

    Arguments:
        kind: name in `MODELS`.
        train: training events; classes are balanced by their weights.
        validation: events that choose the best epoch.
        settings: changes of the kind's settings, see `MODELS[kind].settings`.
        seed: of initial values, order of events and subsampling.
        threads: for arithmetic.
        progress: called after each epoch or boosting round.
        checkpoint: file that makes the training of a network resumable, see `fit`; trees do not need one.
        negative_weights: policy for training, see `Table.training_weights`.

    Raises:
        UsageError: unknown kind or setting, or an impossible value.
        MissingExtra: the kind needs a package that is not installed.
        DataError: the data cannot be trained on.
    """
    if kind not in MODELS:
        raise unknown("model", kind, MODELS)
    known = MODELS[kind].settings
    for name in settings or {}:
        if name not in known:
            raise unknown(f"setting of {kind}", name, known)
    if not isinstance(threads, int) or threads < 1:
        raise UsageError(f"threads needs to be at least 1, however: {threads}.")
    merged = {**known, **(settings or {})}
    path = None if checkpoint is None else Path(checkpoint)
    with _threads(threads):
        return MODELS[kind].train(
            Job(kind, train, validation, merged, seed, threads, progress, path, negative_weights)
        )


def load_model(folder: str | Path) -> TrainedModel:
    """Return the model that `TrainedModel.save` wrote into a folder.

    Raises:
        DataError: no model file, or a damaged one.
        MissingExtra: a model of pykan, and pykan is not installed.
    """
    root = Path(folder)
    predictor: Predictor
    if (root / "model.hepkan").is_file():
        predictor, record = load(root / "model.hepkan"), read_metadata(root / "model.hepkan")["extra"]
    elif (root / "model.pykan").is_file():
        predictor, record = PyKAN.read(root / "model.pykan"), read_metadata(root / "model.pykan")["extra"]
    elif (root / "model.txt").is_file():
        predictor, record = read_trees(root)
    else:
        raise DataError(
            f"{root} must hold model.hepkan, model.txt or model.pykan, however it has none of them."
        )
    try:
        return TrainedModel(predictor=predictor, **record)
    except TypeError as error:
        raise DataError(
            f"The model in {root} must come from train_model, however its record does not."
        ) from error


def _train_network(job: Job) -> TrainedModel:
    """Train a network by `hepkan.fit`."""
    model = _build(job)
    result = fit(
        model,
        job.train,
        job.validation,
        seed=job.seed,
        progress=job.progress,
        checkpoint=job.checkpoint,
        negative_weights=job.negative_weights,
        **{name: job.settings[name] for name in TRAINING},
    )
    return TrainedModel(
        job.kind,
        job.seed,
        job.settings,
        model,
        model.n_parameters,
        result.seconds,
        result.history,
        result.best_value,
    )


def _build(job: Job) -> Network:
    """Return an untrained network: KAN-like when it has a grid, otherwise an MLP."""
    names = ("grid", "degree", "base", "grid_range", "backend", "activation", "dropout", "input_map")
    arguments = {name: job.settings[name] for name in names if name in job.settings}
    if job.kind == "pykan":
        return PyKAN(job.widths, seed=job.seed, **arguments)
    constructor: Callable[..., Network] = KAN if "grid" in arguments else MLP
    return constructor(job.widths, seed=job.seed, **arguments)


def _train_trees(job: Job) -> TrainedModel:
    """Train LightGBM until `stop_after` rounds bring no better validation loss."""
    import lightgbm

    start = time.perf_counter()
    classes = len(job.train.classes)
    if classes < 2:
        raise UsageError(
            "The model 'bdt' classifies, however the table has no two classes. Use 'kan' or 'mlp'."
        )
    objective = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    own = {"rounds", "stop_after"}
    parameters = {name: value for name, value in job.settings.items() if name not in own} | objective
    parameters |= {"seed": job.seed, "num_threads": job.threads, "verbosity": -1, "bagging_freq": 1}
    parameters |= {"deterministic": True, "force_row_wise": True, "metric": list(objective.values())[:1]}
    parts: list[Any] = []
    for table in (job.train, job.validation):
        kept, weight = table.for_training(job.negative_weights)
        if weight.min() < 0:
            raise UsageError("Trees need weights that are not negative. Use another policy than 'keep'.")
        parts.append(lightgbm.Dataset(kept.X, kept.y, weight=weight, reference=parts[0] if parts else None))
    rounds, history = int(job.settings["rounds"]), []

    def record(env: Any) -> None:
        losses = [value for _, _, value, *_ in env.evaluation_result_list]
        history.append(
            dict(zip(("epoch", "train_loss", "validation_loss"), (env.iteration + 1.0, *losses), strict=True))
        )
        if job.progress is not None:
            job.progress(env.iteration + 1, rounds, dict(history[-1]))

    stop = lightgbm.early_stopping(int(job.settings["stop_after"]), verbose=False)
    booster = lightgbm.train(
        parameters, parts[0], rounds, parts, ["train", "validation"], callbacks=[record, stop]
    )
    trees = Trees(booster.model_to_string(num_iteration=booster.best_iteration), job.threads)
    best = min(row["validation_loss"] for row in history)
    seconds = time.perf_counter() - start
    return TrainedModel(job.kind, job.seed, job.settings, trees, trees.n_parameters, seconds, history, best)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let PyTorch use a number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


TRAINING: dict[str, Any] = {
    "loss": "cross_entropy",
    "optimizer": "adamw",
    "learning_rate": 5e-3,
    "weight_decay": 0.2,
    "epochs": 50,
    "batch": 256,
    "patience": 8,
    "schedule": "cosine",
    "regularisers": {},
    "gradient_clip": None,
    "grid_updates": 0,
    "average": 0.0,
}
"""Settings of `fit` with the defaults of a KAN; `grid_updates` above 0 are for KANs only."""

_SPLINES = {"grid": 5, "degree": 3, "input_map": "quantile"}
_KAN = {**TRAINING, **_SPLINES, "base": "silu", "grid_range": [-3.0, 3.0], "backend": "auto"}
_MLP = {**TRAINING, "learning_rate": 1e-3, "weight_decay": 1e-2, "input_map": "quantile"}
_TREES = {
    "rounds": 2000,
    "stop_after": 50,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "lambda_l2": 1.0,
}

MODELS: dict[str, ModelKind] = {
    "kan": ModelKind("Kolmogorov-Arnold network", {**_KAN, "hidden": [10]}, _train_network),
    "gam": ModelKind("generalised additive model (KAN without hidden layer)", _KAN, _train_network),
    "mlp": ModelKind(
        "multilayer perceptron",
        {**_MLP, "hidden": [100, 100], "activation": "relu", "dropout": 0.0},
        _train_network,
    ),
    "bdt": ModelKind("gradient boosted trees (LightGBM)", _TREES, _train_trees),
    "logistic": ModelKind(
        "logistic regression", {**_MLP, "weight_decay": 0.0, "input_map": "standard"}, _train_network
    ),
    "pykan": ModelKind("pykan 0.2.8", {**TRAINING, **_SPLINES, "hidden": [10]}, _train_network),
}
"""Every kind of model by name."""
