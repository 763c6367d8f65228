"""Every kind of model behind one door: `train_model(kind, train, validation, settings, seed)`.

Each kind sees the same events with the same weights and stops early on the same validation part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hepkan.boosting import fit_trees
from hepkan.data import Policy, Table
from hepkan.errors import UsageError, unknown
from hepkan.flow import fit_flow
from hepkan.model_io import load, read_metadata, save
from hepkan.nn import KAN, MLP, Network
from hepkan.nn.heads import Head, head_for
from hepkan.predictors import PyKAN, Trees
from hepkan.regressors import Median, METSplit, Problem, Regressor
from hepkan.train import Progress, distil, fit
from hepkan.trained import TrainedModel, load_model

__all__ = ["MODELS", "Job", "ModelKind", "TrainedModel", "load_model", "train_model"]


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
        if self.head is not None:
            outputs = self.head.reduced
        return [len(table.names), *([hidden] if isinstance(hidden, int) else hidden), outputs]

    @cached_property
    def head(self) -> Head | None:
        """The head of a regression that obeys constraints, None for free outputs."""
        name, mass = self.settings.get("head", "free"), self.settings.get("mediator_mass")
        return head_for(name, mass, self.train.names, self.train.target_names)

    def problems(self) -> tuple[Problem, Problem]:
        """Return training and validation part of a regression."""
        train = Problem.of(self.train, self.negative_weights)
        return train, Problem.of(self.validation, self.negative_weights, train.scale)

    def show(self, done: int, total: int, row: Mapping[str, float]) -> None:
        """Report progress to whoever asked for it."""
        if self.progress is not None:
            self.progress(done, total, dict(row))


@dataclass(frozen=True)
class ModelKind:
    """A kind of model: its title, all its settings with their defaults, and how it is trained.

    `saved` says whether `TrainedModel.save` writes it in a form that others can load, `tasks` what it can learn.
    """

    title: str
    settings: Mapping[str, Any]
    train: Callable[[Job], TrainedModel]
    saved: bool = True
    tasks: tuple[str, ...] = ("classification", "regression")


def check_task(kind: str, table: Table) -> None:
    """Refuse a kind of model that cannot learn what a table asks for.

    Raises:
        UsageError: it cannot.
    """
    task = "classification" if table.classification else "regression"
    if task not in MODELS[kind].tasks:
        able = [name for name, model in MODELS.items() if task in model.tasks]
        raise UsageError(
            f"The model {kind!r} is for {MODELS[kind].tasks[0]}, however the task is {task}. Use one of: "
            f"{', '.join(able)}."
        )


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
        checkpoint: file that makes the training of a network resumable, see `fit`; the other kinds start anew.
        negative_weights: policy for training, see `Table.training_weights`.

    Raises:
        UsageError: unknown kind or setting, an impossible value, or a task that the kind cannot learn.
        MissingExtra: the kind needs a package that is not installed.
        DataError: the data cannot be trained on.
    """
    if kind not in MODELS:
        raise unknown("model", kind, MODELS)
    known = MODELS[kind].settings
    for name in settings or {}:
        if name not in known:
            raise unknown(f"setting of {kind}", name, known)
    check_task(kind, train)
    if not isinstance(threads, int) or threads < 1:
        raise UsageError(f"threads needs to be at least 1, however: {threads}.")
    merged = {**known, **(settings or {})}
    _check_teacher(kind, merged)
    path = None if checkpoint is None else Path(checkpoint)
    with _threads(threads):
        return MODELS[kind].train(Job(kind, train, validation, merged, seed, threads, progress, path, negative_weights))


def _check_teacher(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings of teachers that there are not, or that student and teachers must share."""
    allowed = [name for name in MODELS[kind].settings if name not in SHARED_WITH_TEACHERS]
    changes = settings.get("teacher", {})
    if not isinstance(changes, Mapping):
        raise UsageError(f"teacher needs settings by name, as in {{hidden: [120, 120]}}, however: {changes!r}.")
    for name in changes:
        if name not in allowed:
            raise unknown(f"setting of the teachers of {kind}", name, allowed)


def _train_network(job: Job) -> TrainedModel:
    """Train a network by `hepkan.fit`, or by the mean of teachers."""
    model = _build(job)
    settings = {name: job.settings[name] for name in TRAINING} | {"negative_weights": job.negative_weights}
    settings |= {"seed": job.seed, "progress": job.progress, "checkpoint": job.checkpoint}
    count = job.settings.get("teachers", 0)
    teachers, seconds = _teachers(job, count, settings) if count else ([], 0.0)
    if teachers:
        result = distil(model, teachers, job.train, job.validation, **settings)
    else:
        result = fit(model, job.train, job.validation, **settings)
    for path in _teacher_files(job, count):
        path.unlink(missing_ok=True)
    seconds += result.seconds
    history, best = result.history, result.best_value
    return TrainedModel(job.kind, job.seed, job.settings, model, model.n_parameters, seconds, history, best)


def _teachers(job: Job, count: int, settings: Mapping[str, Any]) -> tuple[list[Network], float]:
    """Train networks of other initial values, or read those trained before an interruption; return their time too."""
    found: list[Network] = []
    seconds = 0.0
    own = {**settings, **{name: value for name, value in job.settings["teacher"].items() if name in TRAINING}}
    files: list[Path | None] = [*_teacher_files(job, count)]
    for number, path in enumerate(files or [None] * count):
        seed = 1000 * (job.seed + 1) + number
        if path is not None and path.is_file():
            found.append(load(path))
            seconds += float(read_metadata(path)["extra"]["seconds"])
            continue
        teacher = _build(replace(job, seed=seed, settings={**job.settings, **job.settings["teacher"]}))
        progress = None if path is None else path.with_suffix(".checkpoint")
        result = fit(teacher, job.train, job.validation, **{**own, "seed": seed, "checkpoint": progress})
        if path is not None:
            save(teacher, path, {"seconds": result.seconds})
        found.append(teacher)
        seconds += result.seconds
    return found, seconds


def _teacher_files(job: Job, count: int) -> list[Path]:
    """Return where teachers wait for an interrupted training to go on; nowhere without a checkpoint."""
    if job.checkpoint is None:
        return []
    return [job.checkpoint.with_name(f"{job.checkpoint.name}.teacher{number}.hepkan") for number in range(count)]


def _build(job: Job) -> Network:
    """Return an untrained network: KAN-like when it has a grid, otherwise an MLP."""
    names = ("grid", "degree", "base", "grid_range", "rank", "products", "backend", "activation", "dropout")
    arguments = {name: job.settings[name] for name in (*names, "input_map") if name in job.settings}
    if job.head is not None:
        arguments["head"] = job.head.describe()
    if job.kind == "pykan":
        return PyKAN(job.widths, seed=job.seed, **arguments)
    constructor: Callable[..., Network] = KAN if "grid" in arguments else MLP
    return constructor(job.widths, seed=job.seed, **arguments)


def _train_trees(job: Job) -> TrainedModel:
    """Train LightGBM until `stop_after` rounds bring no better validation loss."""
    import lightgbm

    start = time.perf_counter()
    classes = len(job.train.classes)
    if not job.train.classification:
        return _train_target_trees(job)
    objective = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    parameters = _lightgbm_parameters(job) | objective | {"metric": list(objective.values())[:1]}
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
        job.show(env.iteration + 1, rounds, history[-1])

    stop = lightgbm.early_stopping(int(job.settings["stop_after"]), verbose=False)
    booster = lightgbm.train(parameters, parts[0], rounds, parts, ["train", "validation"], callbacks=[record, stop])
    trees = Trees(booster.model_to_string(num_iteration=booster.best_iteration), job.threads)
    best = min(row["validation_loss"] for row in history)
    seconds = time.perf_counter() - start
    return TrainedModel(job.kind, job.seed, job.settings, trees, trees.n_parameters, seconds, history, best)


def _lightgbm_parameters(job: Job) -> dict[str, Any]:
    """Return LightGBM's parameters whatever the objective."""
    own = {"rounds", "stop_after", *HEAD}
    parameters = {name: value for name, value in job.settings.items() if name not in own}
    parameters |= {"seed": job.seed, "num_threads": job.threads, "verbosity": -1, "bagging_freq": 1}
    return parameters | {"deterministic": True, "force_row_wise": True}


def _train_target_trees(job: Job) -> TrainedModel:
    """Train LightGBM for every target."""
    start = time.perf_counter()
    train, validation = job.problems()
    rounds, patience = int(job.settings["rounds"]), int(job.settings["stop_after"])
    trees, history = fit_trees(
        train,
        validation,
        job.head,
        _lightgbm_parameters(job),
        rounds,
        patience,
        lambda done, row: job.show(done, rounds, row),
    )
    return _judged(job, trees, train, validation, start, history)


def _train_median(job: Job) -> TrainedModel:
    """Take the medians."""
    start = time.perf_counter()
    train, validation = job.problems()
    return _judged(job, Median.fit(train, job.head), train, validation, start)


def _train_met_split(job: Job) -> TrainedModel:
    """Fit the share of the missing momentum."""
    start = time.perf_counter()
    train, validation = job.problems()
    model = METSplit.fit(train, job.head, job.train.names, job.train.target_names)
    return _judged(job, model, train, validation, start)


def _train_flow(job: Job) -> TrainedModel:
    """Train a normalising flow."""
    start = time.perf_counter()
    train, validation = job.problems()
    epochs = int(job.settings["epochs"])
    flow, history = fit_flow(
        train,
        validation,
        job.head,
        job.train.names,
        job.train.target_names,
        job.settings,
        job.seed,
        lambda done, row: job.show(done, epochs, row),
    )
    return _judged(job, flow, train, validation, start, history)


def _judged(
    job: Job,
    model: Regressor,
    train: Problem,
    validation: Problem,
    start: float,
    history: list[dict[str, float]] | None = None,
) -> TrainedModel:
    """Return a fitted regressor with its validation loss, and with one row of history if it has none."""
    seconds = time.perf_counter() - start
    best = validation.loss(model.predict(validation.X))
    if history is None:
        row = {"epoch": 1.0, "train_loss": train.loss(model.predict(train.X)), "validation_loss": best}
        history = [row]
        job.show(1, 1, row)
    return TrainedModel(job.kind, job.seed, job.settings, model, model.n_parameters, seconds, history, best)


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

TEACHERS: dict[str, Any] = {"teachers": 0, "teacher": {}}
"""Number of networks that teach one, and their settings where they differ from its own; see `hepkan.distil`."""

HEAD: dict[str, Any] = {"head": "free", "mediator_mass": None}
"""Settings of every kind that can do regression, see `hepkan.nn.heads`."""

SHARED_WITH_TEACHERS = frozenset((*TEACHERS, *HEAD, "input_map", "loss"))
"""What teachers take from their student."""

_SPLINES = {"grid": 5, "degree": 3, "input_map": "quantile"}
_EDGES = {"base": "silu", "grid_range": [-3.0, 3.0], "rank": None, "products": 0, "backend": "auto"}
_KAN = {**TRAINING, **HEAD, **_SPLINES, **_EDGES, **TEACHERS}
_LINEAR = {**TRAINING, "learning_rate": 1e-3, "weight_decay": 0.0, "input_map": "standard"}
_MLP = {**_LINEAR, **HEAD, "weight_decay": 1e-2, "input_map": "quantile", **TEACHERS}
_TREES = {
    **HEAD,
    "rounds": 2000,
    "stop_after": 50,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "lambda_l2": 1.0,
}

_FLOW = {
    **HEAD,
    "transforms": 4,
    "hidden": [128, 128],
    "bins": 8,
    "input_map": "quantile",
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "epochs": 30,
    "batch": 1024,
    "patience": 5,
    "samples": 128,
    "mass_noise": 0.1,
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
    "logistic": ModelKind("logistic regression", _LINEAR, _train_network, tasks=("classification",)),
    "pykan": ModelKind("pykan 0.2.8", {**TRAINING, **HEAD, **_SPLINES, "hidden": [10]}, _train_network),
    "linear": ModelKind("linear regression", {**_LINEAR, **HEAD, "loss": "mae"}, _train_network, tasks=("regression",)),
    "median": ModelKind("constant median", HEAD, _train_median, tasks=("regression",)),
    "met_split": ModelKind("split of MET with the W mass", HEAD, _train_met_split, tasks=("regression",)),
    "flow": ModelKind("conditional normalising flow (zuko)", _FLOW, _train_flow, tasks=("regression",)),
}
"""Every kind of model by name."""
