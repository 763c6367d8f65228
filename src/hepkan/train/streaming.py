"""The source that reads its events from files, again in every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

from hepkan.data import ParquetStream, Policy
from hepkan.data.stream import Rows
from hepkan.data.survey import scaled, survey
from hepkan.errors import DataError, UsageError
from hepkan.losses import Loss, check_target, get_loss
from hepkan.nn import Network
from hepkan.nn.regrid import EVENTS
from hepkan.train.sources import Events, to_network


class Streamed:
    """A source over a `ParquetStream`. One pass at the start checks every row and keeps a sample to learn from.

    Raises:
        UsageError: features or targets do not fit the model or the loss.
        DataError: what `survey` refuses, or labels beyond the outputs.
    """

    def __init__(self, stream: ParquetStream, model: Network, loss: str, policy: Policy) -> None:
        if len(stream.names) != model.n_features:
            raise UsageError(
                f"The model has {model.n_features} inputs, however the stream has {len(stream.names)} features."
            )
        if get_loss(loss).classification and not stream.classification:
            raise UsageError(
                f"The loss {loss!r} needs one column of whole labels, however the target is "
                f"{', '.join(stream.targets)} with floating numbers. Write the labels as integers, or take 'mse'."
            )
        self.stream, self.loss, self.policy, self.outputs = stream, loss, policy, model.n_targets
        self.parameter = next(model.parameters())
        found = survey(stream, policy, EVENTS)
        labels = max(self.outputs, 2)
        if get_loss(loss).classification and len(found.scale) > labels:
            raise DataError(
                f"Labels for {self.outputs} output(s) must be the integers 0 to {labels - 1}, however the stream has "
                f"{len(found.scale)} classes. Renumber the classes, or give the network more outputs."
            )
        self.scale, self.content, self.rows = found.scale, found.digest, found.rows
        self.maps: tuple[Network, Loss] | None = None
        self.kept = self._events(found.sample)

    @property
    def n(self) -> int:
        """Number of events."""
        return self.rows

    def to_learn(self) -> Events:
        """Return at most `EVENTS` events at equal steps."""
        return self.kept

    def map(self, model: Network, function: Loss) -> None:
        """Apply the maps to everything that is read from now on."""
        self.maps = model, function
        self.kept = to_network(self.kept, model, function)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Events]:
        """Visit the row groups in random order; shuffle rows whenever a buffer is full."""
        order = torch.randperm(len(self.stream.groups), generator=generator).tolist()
        held: list[Events] = []
        for part in self._read(order):
            held.append(part)
            if sum(map(len, held)) >= max(self.stream.buffer, size):
                block = _joined(held)
                rows = torch.randperm(len(block), generator=generator).to(block.z.device)
                whole = len(block) - len(block) % size
                held = [block.take(rows[whole:])]
                for some in torch.split(rows[:whole], size):
                    yield block.take(some)
        block = _joined(held)
        rows = torch.randperm(len(block), generator=generator).to(block.z.device)
        for some in torch.split(rows, size) if len(rows) else ():
            yield block.take(some)

    def parts(self) -> Iterator[Events]:
        """Read the events in the order of the files."""
        yield from self._read(None)

    def sample(self) -> Events:
        """Return the events of `to_learn` in network coordinates."""
        return self.kept

    def digest(self) -> bytes:
        """Hash the content of the files, and what else decides the order and the weights."""
        words = f"{self.stream.groups} {self.stream.buffer} {self.policy}"
        return hashlib.sha256(self.content + words.encode()).digest()

    def _read(self, order: list[int] | None) -> Iterator[Events]:
        """Read row groups as events in network coordinates."""
        for rows in self.stream.pieces(self.policy, order):
            if len(rows.X):
                weight = scaled(rows.y, rows.weight, self.scale)
                yield self._events(Rows(rows.X, rows.y, weight))

    def _events(self, rows: Rows) -> Events:
        """Return rows with scaled weights as tensors, mapped as soon as there are maps."""
        x, y, weight = (torch.from_numpy(array).to(self.parameter.device) for array in rows)
        target = check_target(self.loss, y, self.outputs)
        events = Events(x.to(self.parameter.dtype), target, weight.to(self.parameter.dtype))
        return events if self.maps is None else to_network(events, *self.maps)


def _joined(parts: list[Events]) -> Events:
    """Return the events of several parts."""
    z, target, weight = (
        torch.cat(tensors) for tensors in zip(*((one.z, one.target, one.weight) for one in parts), strict=True)
    )
    contexts = [one.context for one in parts if one.context is not None]
    return Events(z, target, weight, torch.cat(contexts) if contexts else None)
