"""One visible training loop for every network: weighted, resumable, and it keeps the best epoch."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from numbers import Integral
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.data import Policy, Table
from hepkan.errors import DataError, UsageError, unknown
from hepkan.files import atomic_file
from hepkan.losses import REGULARISERS, Loss, check_target, get_loss, link_of, penalty
from hepkan.nn import Network

Arrays = tuple[ArrayLike | Tensor, ...]
OPTIMIZERS: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
SCHEDULES = ("cosine", "constant")
EVALUATION_BATCH = 16384


class DivergenceError(DataError):
    """Training left the finite numbers; the model keeps the best weights seen before."""


class Progress(Protocol):
    """Called after every epoch with its number, the largest possible number and its row of the history."""

    def __call__(self, epoch: int, epochs: int, row: Mapping[str, float], /) -> None: ...


@dataclass(frozen=True)
class FitResult:
    """What training gave.

    Attributes:
        model: the network given, with the weights of the best epoch.
        history: one row per epoch: epoch (from 1), train_loss (mean as the weights changed), learning_rate,
            seconds; validation_loss with validation data, penalty with regularisers.
        best_epoch: whose weights the model has; the last one without validation.
        best_value: validation loss of that epoch, or its training loss without validation.
        seconds: wall time spent in epochs, including those before an interruption.
    """

    model: Network
    history: list[dict[str, float]]
    best_epoch: int
    best_value: float
    seconds: float


@dataclass(frozen=True)
class Settings:
    """How to train; the arguments of `fit` that decide the result."""

    loss: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    epochs: int
    batch: int
    patience: int
    schedule: str
    seed: int
    regularisers: dict[str, float]
    gradient_clip: float | None
    fit_inputs: bool

    def __post_init__(self) -> None:
        """Refuse unknown names and impossible numbers."""
        get_loss(self.loss)
        for kind, name, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            *(("regulariser", name, REGULARISERS) for name in self.regularisers),
        ):
            if name not in known:
                raise unknown(kind, name, known)
        for name in ("epochs", "batch", "patience"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise UsageError(f"{name} needs to be a whole number of at least 1, however: {value}.")
        for name, value in (("learning_rate", self.learning_rate), ("gradient_clip", self.gradient_clip)):
            if (value is None and name == "learning_rate") or (value is not None and not 0 < value < math.inf):
                raise UsageError(f"{name} needs to be positive, however: {value}.")
        for name, value in (("weight_decay", self.weight_decay), *self.regularisers.items()):
            if not 0 <= value < math.inf:
                raise UsageError(f"{name} must be finite and not negative, however: {value}.")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        return 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * step / steps))


@dataclass(frozen=True)
class Events:
    """Tensors of one part of the data, in network coordinates; weights of mean 1."""

    z: Tensor
    target: Tensor
    weight: Tensor


@dataclass
class State:
    """What changes from epoch to epoch besides model and optimiser."""

    generator: torch.Generator
    best: dict[str, Tensor]
    best_epoch: int = 0
    best_value: float = math.inf
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    model: Network,
    train: Table | Arrays,
    validation: Table | Arrays | None = None,
    *,
    loss: str = "cross_entropy",
    optimizer: str = "adamw",
    learning_rate: float = 5e-3,
    weight_decay: float = 0.2,
    epochs: int = 50,
    batch: int = 1024,
    patience: int = 8,
    schedule: str = "cosine",
    seed: int = 0,
    regularisers: Mapping[str, float] | None = None,
    gradient_clip: float | None = None,
    negative_weights: Policy = "abs",
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
    fit_inputs: bool = True,
) -> FitResult:
    r"""Train a network in place and leave it with the weights of its best epoch.

    .. math:: L = \frac{1}{N} \sum_n w_n \, \ell(f(x_n), y_n) + \sum_r \lambda_r R_r,
              \qquad \langle w \rangle = 1

    Each step takes its share of the sum, so a short last batch counts for the events it has. Regression
    losses are those of standardised targets. Whatever ends the training (also Ctrl-C), the model has the best
    weights so far.

    Arguments:
        model: its input map, and the scale of regression targets, are learned first; its `link` is set.
        train: a `Table`, whose classes are balanced, or (X, y) or (X, y, weight), taken as it is.
        validation: the same; chooses the best epoch and stops early. Without it the last epoch counts.
        loss: `cross_entropy`, `mse`, `mae` or `huber`.
        optimizer: `adamw`, `adam` or `sgd` (momentum 0.9).
        learning_rate: of the first step; `cosine` leads it to zero at the last possible step.
        weight_decay: of weights and spline coefficients, not of biases.
        epochs: at most.
        batch: events per step.
        patience: epochs without a better validation loss before training stops.
        schedule: `cosine` or `constant`.
        seed: of the order of events and of dropout; the global random state stays as it is.
        regularisers: strengths of penalties on the edges of a KAN, `{"l1": 1e-3}`; see `hepkan.losses`.
        gradient_clip: largest norm of the gradient.
        negative_weights: policy for a `Table`, see `Table.training_weights`.
        checkpoint: file written after each epoch, from which the same call continues to the identical result;
            removed when training is complete.
        progress: called after each epoch.
        fit_inputs: False keeps the maps that the model already has.

    Raises:
        UsageError: unknown name, impossible number, shapes that do not fit, a checkpoint of another training.
        DataError: NaN in the data, labels that are not classes, weights without a positive sum, a damaged
            checkpoint.
        DivergenceError: the loss is not finite.
    """
    settings = Settings(
        loss, optimizer, learning_rate, weight_decay, epochs, batch, patience, schedule, seed,
        dict(regularisers or {}), gradient_clip, fit_inputs,
    )  # fmt: skip
    path = None if checkpoint is None else Path(checkpoint)
    function = get_loss(loss)
    data = [_tensors(part, model, loss, negative_weights) for part in (train, validation) if part is not None]
    identity = "" if path is None else _identity(model, settings, data)
    model.link = link_of(loss, model.widths[-1])
    if isinstance(train, Table):
        model.feature_names = list(train.names)
    if fit_inputs:
        model.fit_inputs(data[0].z, data[0].weight)
        if not function.classification:
            model.fit_outputs(data[0].target, data[0].weight)
    mapped = [_mapped(part, model, function) for part in data]
    held_out = mapped[1] if len(mapped) > 1 else None
    updater = _updater(model, settings)
    with _private_random_state(seed, mapped[0].z.device):
        state = State(torch.Generator().manual_seed(seed), _weights(model))
        if path is not None and path.exists():
            state = _restore(path, identity, model, updater)
        try:
            while len(state.history) < epochs and (
                held_out is None or len(state.history) - state.best_epoch < patience
            ):
                row = _epoch(model, function, updater, settings, mapped[0], held_out, state)
                if path is not None:
                    _store(path, identity, model, updater, state)
                if progress is not None:
                    progress(len(state.history), epochs, dict(row))
        finally:
            model.load_state_dict(state.best)
            model.eval()
    if path is not None:
        path.unlink(missing_ok=True)
    seconds = sum(row["seconds"] for row in state.history)
    return FitResult(model, state.history, state.best_epoch, state.best_value, seconds)


def _epoch(
    model: Network,
    function: Loss,
    updater: torch.optim.Optimizer,
    settings: Settings,
    train: Events,
    held_out: Events | None,
    state: State,
) -> dict[str, float]:
    """Train for one epoch, judge it, keep the weights if they are the best; return its row of the history."""
    start = time.perf_counter()
    epoch, n = len(state.history) + 1, len(train.z)
    share = min(settings.batch, n)
    batches = torch.split(torch.randperm(n, generator=state.generator).to(train.z.device), settings.batch)
    rate = settings.learning_rate
    sums = train.z.new_zeros(2, dtype=torch.float64)
    model.train()
    for i, rows in enumerate(batches):
        rate = settings.rate((epoch - 1) * len(batches) + i, settings.epochs * len(batches))
        for group in updater.param_groups:
            group["lr"] = rate
        z = train.z.index_select(0, rows)
        each = function.each(_output(model, z, function), train.target.index_select(0, rows))
        value = (each * train.weight.index_select(0, rows)).sum()
        objective = value / share
        if settings.regularisers:
            cost = penalty(model, z, settings.regularisers)
            objective = objective + cost * (len(rows) / share)
            sums[1] += cost.detach() * len(rows)
        updater.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        if settings.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        updater.step()
        sums[0] += value.detach()
    train_loss, cost_mean = (sums / n).tolist()
    row = {"epoch": float(epoch), "train_loss": train_loss}
    if held_out is not None:
        row["validation_loss"] = _mean_loss(model, function, held_out)
    if settings.regularisers:
        row["penalty"] = cost_mean
    _demand_finite(row, rate)
    row |= {"learning_rate": rate, "seconds": time.perf_counter() - start}
    judged = row.get("validation_loss", train_loss)
    if held_out is None or judged < state.best_value:
        state.best, state.best_epoch, state.best_value = _weights(model), epoch, judged
    state.history.append(row)
    return row


@torch.no_grad()
def _mean_loss(model: Network, function: Loss, events: Events) -> float:
    """Return the weighted mean loss of events in network coordinates."""
    model.eval()
    total = events.z.new_zeros((), dtype=torch.float64)
    for first in range(0, len(events.z), EVALUATION_BATCH):
        z, target, weight = (part[first : first + EVALUATION_BATCH] for part in vars(events).values())
        total += (function.each(_output(model, z, function), target) * weight).sum()
    return float(total) / len(events.z)


def _output(model: Network, z: Tensor, function: Loss) -> Tensor:
    """Return logits, or regression targets still standardised."""
    raw = model.body(z)
    return model.output_map(raw) if function.classification else raw  # type: ignore[no-any-return]


def _tensors(data: Table | Arrays, model: Network, loss: str, policy: Policy) -> Events:
    """Return raw features, checked targets and weights of mean 1 on the model's device, in its type."""
    if isinstance(data, Table):
        table, weights = data.for_training(policy)
        data = (table.X, table.y, weights)
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise UsageError(f"Data must be a Table, (X, y) or (X, y, weight), however: {type(data).__name__}.")
    parameter = next(model.parameters())
    x, y, *rest = (_as_tensor(part).to(parameter.device) for part in data)
    x = x.to(parameter.dtype)
    weight = rest[0].double() if rest else torch.ones(len(x), dtype=torch.float64, device=x.device)
    if x.dim() != 2 or len(x) == 0 or x.shape[1] != model.widths[0]:
        raise UsageError(f"X needs the shape (n, {model.widths[0]}) with n > 0, however: {tuple(x.shape)}.")
    if y.shape[:1] != x.shape[:1] or weight.shape != x.shape[:1]:
        raise UsageError(
            f"X, y and weight need one row per event, however their shapes are {tuple(x.shape)}, "
            f"{tuple(y.shape)}, {tuple(weight.shape)}."
        )
    for name, values in (("features", x), ("weights", weight.unsqueeze(1))):
        bad = int((~torch.isfinite(values)).any(dim=1).sum())
        if bad:
            raise DataError(f"Training needs finite {name}, however {bad} of {len(x)} events have others.")
    total = float(weight.sum())
    if total <= 0.0:
        raise DataError(
            f"Training needs a positive sum of weights, however it is {total:g}. Choose another policy for "
            "negative weights."
        )
    return Events(x, check_target(loss, y, model.widths[-1]), (weight * (len(x) / total)).to(parameter))


def _as_tensor(values: ArrayLike | Tensor) -> Tensor:
    """Return a tensor of its own type; an array that is read-only or of another byte order is copied.

    Raises:
        DataError: the values are no numbers.
    """
    if isinstance(values, Tensor):
        return values.detach()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"Training needs numbers, however the type of an array is {array.dtype}.")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@torch.no_grad()
def _mapped(data: Events, model: Network, function: Loss) -> Events:
    """Return events in network coordinates: the maps do not change in training, so they are applied once."""
    z = torch.cat([model.input_map(part) for part in torch.split(data.z, EVALUATION_BATCH)]).contiguous()
    target = data.target
    if not function.classification:
        mean, scale = model.output_map.mean, model.output_map.scale  # type: ignore[union-attr]
        target = ((target - mean) / scale).to(z)  # type: ignore[operator]
    return Events(z, target, data.weight)


def _updater(model: Network, settings: Settings) -> torch.optim.Optimizer:
    """Return the optimiser, fused: one pass over all parameters per step."""
    extra = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
    groups = model.parameter_groups(settings.weight_decay)
    updater: torch.optim.Optimizer = OPTIMIZERS[settings.optimizer](
        groups, lr=settings.learning_rate, fused=True, **extra
    )
    return updater


def _weights(model: Network) -> dict[str, Tensor]:
    """Return a copy of the state of a model."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@contextmanager
def _private_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Give dropout its own random state and put the global one back at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _demand_finite(row: Mapping[str, float], rate: float) -> None:
    """Refuse to go on with NaN or infinity."""
    wrong = ", ".join(f"{name} = {value}" for name, value in row.items() if not math.isfinite(value))
    if wrong:
        raise DivergenceError(
            f"The loss must stay finite, however in epoch {row['epoch']:.0f}: {wrong}. Likely the learning "
            f"rate ({rate:g}) is too large or a few weights are extreme; lower learning_rate, set "
            "gradient_clip=1, or check the weights."
        )


def _identity(model: Network, settings: Settings, data: list[Events]) -> str:
    """Return a hash of all that decides the result: settings, initial weights, events."""
    digest = hashlib.sha256(json.dumps([asdict(settings), type(model).__name__, model.describe()]).encode())
    tensors = [*model.state_dict().values(), *(tensor for part in data for tensor in vars(part).values())]
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _store(path: Path, identity: str, model: Network, updater: torch.optim.Optimizer, state: State) -> None:
    """Write everything the next epoch depends on: tensors and plain data only."""
    content = {
        "identity": identity,
        "model": model.state_dict(),
        "optimizer": updater.state_dict(),
        "generator": state.generator.get_state(),
        "dropout": torch.get_rng_state(),
        "best": state.best,
        "best_epoch": state.best_epoch,
        "best_value": state.best_value,
        "history": copy.deepcopy(state.history),
    }
    with atomic_file(path) as temporary:
        torch.save(content, temporary)


def _restore(path: Path, identity: str, model: Network, updater: torch.optim.Optimizer) -> State:
    """Continue where a checkpoint left off; reading never executes code."""
    try:
        content = torch.load(path, weights_only=True)
        owner = content["identity"]
    except (RuntimeError, LookupError, TypeError, ValueError, EOFError, OSError, UnpicklingError) as error:
        raise DataError(
            f"{path} must be a checkpoint of a training, however it cannot be read. Delete it to start anew."
        ) from error
    if owner != identity:
        raise UsageError(
            f"The checkpoint {path} belongs to a training with other settings, data or initial weights. "
            "Delete it or choose another file."
        )
    model.load_state_dict(content["model"])
    updater.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["dropout"])
    generator = torch.Generator()
    generator.set_state(content["generator"])
    return State(generator, content["best"], content["best_epoch"], content["best_value"], content["history"])
