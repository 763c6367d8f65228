"""One visible training loop for every network: weighted, resumable, and it keeps the best epoch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hepkan.errors import DataError
from hepkan.losses import Loss, penalty
from hepkan.nn import KANLayer, Network
from hepkan.nn.regrid import adapt
from hepkan.train.checkpoint import identity_of, read_checkpoint, stored, write_checkpoint
from hepkan.train.optimizers import Average, decay_term, follow_knots, make_optimizer
from hepkan.train.processes import Processes
from hepkan.train.progress import Progress, shown
from hepkan.train.settings import Settings
from hepkan.train.sources import Events, Source


class DivergenceError(DataError):
    """Training left the finite numbers; the model keeps the best weights seen before."""


@dataclass(frozen=True)
class FitResult:
    """What training gave.

    Attributes:
        model: the network given, with the weights of the best epoch.
        history: one row per epoch: epoch (from 1), train_loss (mean as the weights changed), learning_rate,
            seconds; validation_loss with validation data, penalty with regularisers, and with grid updates
            grid_change (rms of the layer that changed most, see `hepkan.splines.grids.GridChange`).
        best_epoch: whose weights the model has; the last one without validation.
        best_value: validation loss of that epoch, or its training loss without validation.
        seconds: wall time spent in epochs, including those before an interruption.
    """

    model: Network
    history: list[dict[str, float]]
    best_epoch: int
    best_value: float
    seconds: float


class Training:
    """One training from its first epoch to its last: what changes on the way, and the steps that change it."""

    def __init__(
        self, model: Network, function: Loss, settings: Settings, train: Source, held_out: Source | None
    ) -> None:
        self.model, self.function, self.settings = model, function, settings
        self.train, self.held_out = train, held_out
        self.processes = Processes.present()
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, settings)
        self.average = Average(model, settings.average) if settings.average > 0 else None
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.history: list[dict[str, float]] = []
        self.best, self.best_epoch, self.best_value = _weights(model), 0, math.inf

    def run(self, path: Path | None, progress: Progress | bool | None) -> FitResult:
        """Train until the last epoch or the end of patience, from a checkpoint on when there is one."""
        first = self.processes.rank == 0
        identity = self._identity() if path is not None or self.processes.size > 1 else b""
        with (
            _private_random_state(self.settings.seed + self.processes.rank, self.device),
            shown(progress if first else None) as show,
        ):
            if path is not None:
                self._resume(path, identity)
            try:
                while self.unfinished:
                    row = self.epoch()
                    if path is not None:
                        content = self._state()
                        if first:
                            write_checkpoint(path, identity, content)
                    show(len(self.history), self.settings.epochs, dict(row))
            finally:
                self.model.load_state_dict(self.best)
                self.model.eval()
        if path is not None and first:
            path.unlink(missing_ok=True)
        seconds = sum(row["seconds"] for row in self.history)
        return FitResult(self.model, self.history, self.best_epoch, self.best_value, seconds)

    @property
    def unfinished(self) -> bool:
        """Whether another epoch is due."""
        done = len(self.history)
        patient = self.held_out is None or done - self.best_epoch < self.settings.patience
        return done < self.settings.epochs and patient

    def epoch(self) -> dict[str, float]:
        """Train for one epoch, judge it, keep the weights if they are the best; return its row of the history.

        Raises:
            DivergenceError: a loss is not finite.
        """
        start = time.perf_counter()
        number = len(self.history) + 1
        change = self._move_knots() if 2 <= number <= self.settings.grid_updates + 1 else 0.0
        train_loss, cost, rate = self._learn(number)
        row = {"epoch": float(number), "train_loss": train_loss}
        with nullcontext() if self.average is None else self.average.applied():
            if self.held_out is not None:
                row["validation_loss"] = self._mean_loss(self.held_out)
            if self.settings.regularisers:
                row["penalty"] = cost
            if self.settings.grid_updates:
                row["grid_change"] = change
            _demand_finite(row, rate)
            judged = row.get("validation_loss", train_loss)
            if self.held_out is None or judged < self.best_value:
                self.best, self.best_epoch, self.best_value = _weights(self.model), number, judged
        row |= {"learning_rate": rate, "seconds": time.perf_counter() - start}
        self.history.append(row)
        return row

    def _learn(self, number: int) -> tuple[float, float, float]:
        """Take the steps of an epoch; return its mean loss, its mean penalty and the last learning rate."""
        settings, n = self.settings, self.train.n
        steps, rate = math.ceil(n / settings.batch), settings.learning_rate
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.model.train()
        for i, batch in enumerate(self.train.batches(settings.batch, self.generator)):
            rate = settings.rate((number - 1) * steps + i, settings.epochs * steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("rate", 1.0)
            self._step(batch, sums)
            if self.average is not None:
                self.average.update()
        train_loss, cost = (self.processes.add(sums) / n).tolist()
        return train_loss, cost, rate

    def _step(self, batch: Events, sums: Tensor) -> None:
        """Take one step; add this process's part of the loss, and of the penalty, to the sums of the epoch."""
        settings, processes = self.settings, self.processes
        own, size = processes.share(batch), min(settings.batch, self.train.n)
        parts: list[Tensor] = []

        def evaluate() -> Tensor:
            self.optimizer.zero_grad()
            output, finish = self.model.step(own.z)
            value = self._loss(output, own)
            objective = value / size
            parts[:] = [value.detach()]
            if settings.full_batch:
                objective = objective + decay_term(self.model, settings) / processes.size
            if settings.regularisers:  # of the whole batch in every process: no sum over events
                cost = penalty(self.model, batch.z, settings.regularisers) / processes.size
                objective = objective + cost * (len(batch) / size)
                parts.append(cost.detach() * len(batch))
            objective.backward()  # type: ignore[no-untyped-call]
            finish()
            total = processes.add_gradients(self.model.parameters(), objective.detach())
            if settings.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
            return total

        self.optimizer.step(evaluate)  # type: ignore[arg-type]
        for i, part in enumerate(parts):
            sums[i] += part

    def _loss(self, output: Tensor, events: Events) -> Tensor:
        """Return the weighted sum of the losses of events, of regression targets while standardised."""
        if self.function.classification:
            output = self.model.output_map(output)
        else:
            output = self.model.standardised(output, events.context)
        return (self.function.each(output, events.target) * events.weight).sum()

    @torch.no_grad()
    def _mean_loss(self, source: Source) -> float:
        """Return the weighted mean loss of a source."""
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for i, part in enumerate(source.parts()):
            if i % self.processes.size == self.processes.rank:
                total += self._loss(self.model.body(part.z), part)
        return float(self.processes.add(total)) / source.n

    def _move_knots(self) -> float:
        """Let the knots follow the training data, and what is remembered follow the knots; return the change."""
        layers = [layer for layer in self.model.modules() if isinstance(layer, KANLayer)]
        knots = [layer.knots.clone() for layer in layers]
        events = self.train.sample()
        changes = adapt(layers, events.z, events.weight)
        follow_knots(self.optimizer, layers, knots)
        if self.average is not None:
            self.average.restart()
        return max(change.rms for change in changes)

    def _identity(self) -> bytes:
        """Return a hash of all that decides the result, on which the processes must agree."""
        sources = [source for source in (self.train, self.held_out) if source is not None]
        identity = identity_of(self.model, self.settings, sources, self.processes.size)
        self.processes.agree(identity, self.device)
        return identity

    def _state(self) -> dict[str, Any]:
        """Return everything the next epoch depends on: tensors and plain data only."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else (self.average.steps, self.average.values),
            "generator": self.generator.get_state(),
            "dropout": self.processes.gather(torch.get_rng_state(), self.device),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "history": copy.deepcopy(self.history),
        }

    def _resume(self, path: Path, identity: bytes) -> None:
        """Continue where a checkpoint, if there is one, left off."""
        content = read_checkpoint(path, self.processes.spread(stored(path), self.device), identity)
        if content is None:
            return
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.average is not None:
            self.average.steps, values = content["average"]
            self.average.values = [value.to(self.device) for value in values]
        self.generator.set_state(content["generator"])
        torch.set_rng_state(content["dropout"][self.processes.rank].clone())  # a view crashes PyTorch
        self.best, self.history = content["best"], content["history"]
        self.best_epoch, self.best_value = content["best_epoch"], content["best_value"]


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
