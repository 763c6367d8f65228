"""One visible training loop for every network: weighted loss, early stopping, the best weights, resumable."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.data import Table
from hepkan.errors import DataError, UsageError, unknown
from hepkan.files import atomic_file
from hepkan.losses import check_target, get_loss, link_of, penalty
from hepkan.nn.networks import Network, as_tensor

Data = Table | tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}
SCHEDULES = ("cosine", "constant")
EVALUATION_BATCH = 16384


class Progress(Protocol):
    """Called after every epoch."""

    def __call__(self, epoch: int, epochs: int, row: dict[str, float]) -> None: ...


@dataclass(frozen=True)
class FitResult:
    """What training gave.

    Attributes:
        model: the network given, with the weights of the best epoch.
        history: one row per epoch: epoch, train_loss, validation_loss, learning_rate, seconds.
        best_epoch: epoch of the weights, from 1.
        best_value: validation loss of that epoch (training loss without validation).
        seconds: wall time of training.
    """

    model: Network
    history: list[dict[str, float]]
    best_epoch: int
    best_value: float
    seconds: float


@dataclass(frozen=True)
class Events:
    """Tensors of one part of the data."""

    x: Tensor
    y: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.x)


def fit(
    model: Network,
    train: Data,
    validation: Data | None = None,
    *,
    loss: str = "cross_entropy",
    optimizer: str = "adamw",
    learning_rate: float = 5e-3,
    weight_decay: float = 0.1,
    epochs: int = 50,
    batch: int = 1024,
    patience: int = 8,
    schedule: str = "cosine",
    seed: int = 0,
    regularisers: dict[str, float] | None = None,
    gradient_clip: float | None = None,
    fit_inputs: bool = True,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Train a network in place and leave it with the weights of its best epoch.

    Arguments:
        model: a KAN or MLP; its input map (and the scale of regression targets) is learned first.
        train: a `Table` (weights balanced by class), or (X, y) or (X, y, weight).
        validation: the same; chooses the best epoch and stops training. Without it the last epoch stays.
        loss: `cross_entropy`, `mse`, `mae` or `huber`.
        optimizer: `adamw`, `adam` or `sgd`.
        learning_rate: of the first step; `schedule` leads it to zero (`cosine`) or keeps it (`constant`).
        weight_decay: on weights and spline coefficients, not on biases.
        epochs: at most.
        batch: events per step.
        patience: epochs without a better validation loss before training stops.
        seed: of the order of events; the global random state is not touched.
        regularisers: strength of `l1`, `entropy`, `curvature` on the edges of a KAN.
        gradient_clip: largest norm of the gradient.
        fit_inputs: learn the maps; False when the model already has them.
        checkpoint: a file that makes training resumable after a kill; deleted when training is done.
        progress: called after every epoch.

    Raises:
        UsageError: an unknown name, an impossible number, shapes that do not fit.
        DataError: NaN in the data, labels that are no classes, or a loss that is not finite.
    """
    _check_settings(optimizer, schedule, epochs, batch, learning_rate)
    start = time.perf_counter()
    function = get_loss(loss)
    outputs = model.widths[-1]
    data = _events(train, model, loss)
    held_out = None if validation is None else _events(validation, model, loss)
    model.link = link_of(loss, outputs)
    if isinstance(train, Table):
        model.feature_names = list(train.names)
    if fit_inputs:
        model.fit_inputs(data.x, data.weight)
        if loss != "cross_entropy":
            model.fit_outputs(data.y, data.weight)
    steps = epochs * math.ceil(len(data) / batch)
    updater = OPTIMIZERS[optimizer](model.parameter_groups(weight_decay), lr=learning_rate)  # type: ignore[call-arg]
    scheduler = torch.optim.lr_scheduler.LambdaLR(updater, _schedule(schedule, steps))
    loop = _Loop(model, function, updater, scheduler, batch, regularisers or {}, gradient_clip)
    state = _State(generator=torch.Generator().manual_seed(seed), history=[], best=_weights(model))
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        state = _restore(path, loop)
    # Network coordinates do not change in training: the inputs are mapped once.
    mapped = _mapped(model, data), None if held_out is None else _mapped(model, held_out)
    try:
        for epoch in range(len(state.history) + 1, epochs + 1):
            if held_out is not None and epoch > state.best_epoch + patience:
                break
            row = loop.epoch(epoch, *mapped, state)
            state.history.append({**row, "seconds": time.perf_counter() - start})
            if path is not None:
                _store(path, loop, state)
            if progress is not None:
                progress(epoch, epochs, state.history[-1])
    finally:
        model.load_state_dict(state.best)
    if path is not None:
        path.unlink(missing_ok=True)
    return FitResult(model, state.history, state.best_epoch, state.best_value, time.perf_counter() - start)


@dataclass
class _State:
    """What an epoch changes besides model, optimiser and schedule."""

    generator: torch.Generator
    history: list[dict[str, float]]
    best: dict[str, Tensor]
    best_epoch: int = 0
    best_value: float = math.inf


@dataclass(frozen=True)
class _Loop:
    """What stays the same from epoch to epoch."""

    model: Network
    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    updater: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    batch: int
    regularisers: dict[str, float]
    gradient_clip: float | None

    def epoch(self, epoch: int, train: Events, held_out: Events | None, state: _State) -> dict[str, float]:
        """Train for one epoch, judge it and remember the weights if they are the best so far."""
        train_loss = self._pass(train, state.generator)
        value = train_loss if held_out is None else evaluate_loss(self.model, held_out, self.function)
        _demand_finite(train_loss, value, epoch)
        if value < state.best_value or held_out is None:
            state.best_value, state.best_epoch, state.best = value, epoch, _weights(self.model)
        rate = float(self.scheduler.get_last_lr()[0])
        return {"epoch": float(epoch), "train_loss": train_loss, "validation_loss": value, "learning_rate": rate}

    def _pass(self, data: Events, generator: torch.Generator) -> float:
        """Go once through the data in random order; return the weighted mean loss seen on the way."""
        model = self.model
        model.train()
        total = weights = 0.0
        for rows in torch.split(torch.randperm(len(data), generator=generator), self.batch):
            x, y, weight = data.x[rows], data.y[rows], data.weight[rows]
            size = float(weight.sum())
            if size == 0.0:
                continue
            value = self.function(model.output_map(model.body(x)), y, weight)
            total, weights = total + float(value.detach()) * size, weights + size
            self.updater.zero_grad(set_to_none=True)
            (value + penalty(model, self.regularisers)).backward()  # type: ignore[no-untyped-call]
            if self.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), self.gradient_clip)
            self.updater.step()
            self.scheduler.step()
        return total / weights if weights else math.nan


@torch.no_grad()
def evaluate_loss(model: Network, data: Events, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
    """Return the weighted mean loss of events in network coordinates."""
    model.eval()
    total = 0.0
    for x, y, weight in _parts(data):
        size = float(weight.sum())
        if size != 0.0:
            total += float(function(model.output_map(model.body(x)), y, weight)) * size
    return total / float(data.weight.sum())


def _parts(data: Events) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for first in range(0, len(data), EVALUATION_BATCH):
        rows = slice(first, first + EVALUATION_BATCH)
        yield data.x[rows], data.y[rows], data.weight[rows]


def _events(data: Data, model: Network, loss: str) -> Events:
    """Return tensors of a table or of arrays, checked."""
    if isinstance(data, Table):
        x, target, weight = data.X, data.y, data.training_weights() if data.classification else data.weight
    elif isinstance(data, tuple) and len(data) in (2, 3):
        x, target = np.asarray(data[0]), np.asarray(data[1])
        weight = np.ones(len(x)) if len(data) == 2 else np.asarray(data[2], dtype=np.float64)
    else:
        raise UsageError(f"Data must be a Table, (X, y) or (X, y, weight), however: {type(data).__name__}.")
    dtype = next(model.parameters()).dtype
    features = as_tensor(x).to(dtype)
    if features.dim() != 2 or features.shape[1] != model.widths[0] or len(features) == 0:
        raise UsageError(f"X needs the shape (n, {model.widths[0]}) with n > 0, however: {tuple(features.shape)}.")
    if not bool(torch.isfinite(features).all()):
        raise DataError("Features must be finite for training, however some are NaN or infinite.")
    y = torch.as_tensor(target)
    y = y if loss == "cross_entropy" else y.reshape(len(y), -1).to(dtype)
    if len(y) != len(features) or weight.shape != (len(features),):
        raise UsageError(f"X, y and weight need one row per event, however: {len(features)}, {len(y)}, {weight.shape}.")
    check_target(loss, y, model.widths[-1])
    weights = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float64)).to(dtype)
    if not bool(torch.isfinite(weights).all()) or float(weights.sum()) <= 0:
        raise DataError(f"Weights must be finite with a positive sum, however the sum is {float(weights.sum()):g}.")
    return Events(features, y, weights)


@torch.no_grad()
def _mapped(model: Network, data: Events) -> Events:
    return Events(model.input_map(data.x).contiguous(), data.y, data.weight)


def _weights(model: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _schedule(name: str, steps: int) -> Callable[[int], float]:
    if name == "constant":
        return lambda step: 1.0
    return lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))


def _demand_finite(train_loss: float, value: float, epoch: int) -> None:
    if not (math.isfinite(train_loss) and math.isfinite(value)):
        raise DataError(
            f"The loss must stay finite, however in epoch {epoch} it is {train_loss:g} in training and {value:g} in "
            "validation. A smaller learning_rate or a gradient_clip usually helps; negative weights can cause it too."
        )


def _check_settings(optimizer: str, schedule: str, epochs: int, batch: int, learning_rate: float) -> None:
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if epochs < 1 or batch < 1 or not learning_rate > 0:
        raise UsageError(
            f"epochs and batch must be at least 1 and learning_rate positive, however: epochs={epochs}, "
            f"batch={batch}, learning_rate={learning_rate}."
        )


def _store(path: Path, loop: _Loop, state: _State) -> None:
    """Write everything the next epoch depends on; tensors and plain data only."""
    content = {
        "model": _weights(loop.model),
        "optimizer": loop.updater.state_dict(),
        "schedule": {"last_epoch": loop.scheduler.last_epoch},
        "generator": state.generator.get_state(),
        "history": copy.deepcopy(state.history),
        "best": state.best,
        "best_epoch": state.best_epoch,
        "best_value": state.best_value,
    }
    with atomic_file(path) as temporary:
        torch.save(content, temporary)


def _restore(path: Path, loop: _Loop) -> _State:
    """Take up training where a checkpoint left it; only tensors and plain data are read."""
    try:
        content = torch.load(path, weights_only=True)
        loop.model.load_state_dict(content["model"])
        loop.updater.load_state_dict(content["optimizer"])
        loop.scheduler.last_epoch = content["schedule"]["last_epoch"]
        generator = torch.Generator()
        generator.set_state(content["generator"])
        history, best = content["history"], content["best"]
        return _State(generator, history, best, content["best_epoch"], content["best_value"])
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        raise DataError(f"The checkpoint {path} does not belong to this training ({error}). Delete it.") from error
