"""Events as the training loop sees them: checked, in network coordinates, in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.data import Policy, Table
from hepkan.errors import DataError, UsageError
from hepkan.losses import Loss, check_target
from hepkan.nn import Network
from hepkan.nn.regrid import EVENTS, thinned
from hepkan.nn.transforms import finite_rows

Arrays = tuple[ArrayLike | Tensor, ...]
EVALUATION_BATCH = 16384


@dataclass(frozen=True)
class Events:
    """Tensors of some events: features `(n, d)`, raw or in network coordinates, targets, and weights of mean 1.

    `context` is what the head of a network needs of the raw features, once they are in network coordinates.
    """

    z: Tensor
    target: Tensor
    weight: Tensor
    context: Tensor | None = None

    def __len__(self) -> int:
        return len(self.z)

    def take(self, rows: Tensor) -> Events:
        """Return copies of some rows."""
        z, target, weight = (one.index_select(0, rows) for one in (self.z, self.target, self.weight))
        return Events(z, target, weight, None if self.context is None else self.context.index_select(0, rows))

    def cut(self, rows: slice) -> Events:
        """Return a view of some rows."""
        context = None if self.context is None else self.context[rows]
        return Events(self.z[rows], self.target[rows], self.weight[rows], context)


class Source(Protocol):
    """One part of the data, as the loop asks for it; raw features until `map` was called."""

    @property
    def n(self) -> int:
        """Number of events of an epoch."""
        ...

    def to_learn(self) -> Events:
        """Return raw events from which the maps of a model are learned."""
        ...

    def map(self, model: Network, function: Loss) -> None:
        """Go over to the network coordinates of a model whose maps stay as they are from now on."""
        ...

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Events]:
        """Give every event once, in random order, `size` at a time; the last batch may be shorter."""
        ...

    def parts(self) -> Iterator[Events]:
        """Give every event once, in the order of the data, in parts for evaluation."""
        ...

    def sample(self) -> Events:
        """Return events at equal steps of the order of the data, enough to place knots."""
        ...

    def digest(self) -> bytes:
        """Return a hash of all events."""
        ...


class InMemory:
    """A source that holds its events on the model's device; the maps are applied once."""

    def __init__(self, events: Events) -> None:
        self.events = events

    @property
    def n(self) -> int:
        """Number of events."""
        return len(self.events)

    def to_learn(self) -> Events:
        """Return all events."""
        return self.events

    def map(self, model: Network, function: Loss) -> None:
        """Apply the maps."""
        self.events = to_network(self.events, model, function)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Events]:
        """Shuffle all rows."""
        order = torch.randperm(self.n, generator=generator).to(self.events.z.device)
        for rows in torch.split(order, size):
            yield self.events.take(rows)

    def parts(self) -> Iterator[Events]:
        """Cut the events into views."""
        for first in range(0, self.n, EVALUATION_BATCH):
            yield self.events.cut(slice(first, first + EVALUATION_BATCH))

    def sample(self) -> Events:
        """Return at most `EVENTS` events."""
        z, target, weight = (thinned(one, EVENTS) for one in (self.events.z, self.events.target, self.events.weight))
        return Events(z, target, weight)

    def digest(self) -> bytes:
        """Hash every tensor."""
        events = self.events
        return hash_of(events.z, events.target, events.weight, *(() if events.context is None else (events.context,)))


def in_memory(data: Table | Arrays, model: Network, loss: str, policy: Policy) -> InMemory:
    """Return a source of raw features, checked targets and weights of mean 1 on the model's device, in its type.

    Raises:
        UsageError: no Table and no arrays, or shapes that do not fit.
        DataError: values that are no finite numbers, labels that are not classes, weights without a positive sum.
    """
    if isinstance(data, Table):
        table, weights = data.for_training(policy)
        data = (table.X, table.y, weights)
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise UsageError(
            f"Data must be a Table, (X, y), (X, y, weight) or a ParquetStream, however: {type(data).__name__}."
        )
    parameter = next(model.parameters())
    x, y, *rest = (as_numbers(part).to(parameter.device) for part in data)
    x = x.to(parameter.dtype)
    weight = rest[0].double() if rest else torch.ones(len(x), dtype=torch.float64, device=x.device)
    if x.dim() != 2 or len(x) == 0 or x.shape[1] != model.n_features:
        raise UsageError(f"X needs the shape (n, {model.n_features}) with n > 0, however: {tuple(x.shape)}.")
    if y.shape[:1] != x.shape[:1] or weight.shape != x.shape[:1]:
        raise UsageError(
            f"X, y and weight need one row per event, however their shapes are {tuple(x.shape)}, "
            f"{tuple(y.shape)}, {tuple(weight.shape)}."
        )
    for name, values in (("features", x), ("weights", weight.unsqueeze(1))):
        bad = len(x) - int(finite_rows(values).sum())
        if bad:
            raise DataError(f"Training needs finite {name}, however {bad} of {len(x)} events have others.")
    total = float(weight.sum())
    if total <= 0.0:
        raise DataError(
            f"Training needs a positive sum of weights, however it is {total:g}. Choose another policy for "
            "negative weights."
        )
    return InMemory(
        Events(x, check_target(loss, y, model.n_targets), (weight * (len(x) / total)).to(parameter))
    )


def as_numbers(values: ArrayLike | Tensor) -> Tensor:
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
def to_network(events: Events, model: Network, function: Loss) -> Events:
    """Return events in network coordinates, regression targets standardised."""
    z = events.z.new_empty(len(events), model.widths[0])
    for first in range(0, len(z), EVALUATION_BATCH):
        rows = slice(first, first + EVALUATION_BATCH)
        z[rows] = model.coordinates(events.z[rows])
    target = events.target
    if not function.classification:
        mean, scale = model.output_map.mean, model.output_map.scale  # type: ignore[union-attr]
        target = ((target - mean) / scale).to(z)  # type: ignore[operator]
    context = None if model.head is None else model.head.context(events.z)
    return Events(z, target, events.weight, None if context is None else context.clone())


def hash_of(*tensors: Tensor) -> bytes:
    """Return a hash of the numbers of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.digest()
