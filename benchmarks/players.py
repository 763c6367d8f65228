"""What is timed: a network shape with its data, and what one network can do with it.

Every torch network has the same training step: mean squared error and Adam with `fused=True`. hepkan's networks take it
as `hepkan.fit` does: the compiled kernel writes the gradients of the parameters itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from timing import Action
from torch import Tensor, nn

from hepkan.nn import Network

OURS = "hepkan cpu"


class SkipError(Exception):
    """A network is not timed in this case, and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One network shape and batch size."""

    widths: tuple[int, ...]
    grid: int
    batch: int

    @property
    def network(self) -> str:
        """The shape without the batch size."""
        return f"{'-'.join(map(str, self.widths))} G={self.grid}"

    @property
    def name(self) -> str:
        """Shape and batch size."""
        return f"{self.network} batch {self.batch}"

    def data(self) -> tuple[Tensor, Tensor]:
        """Return inputs inside the grid and targets, the same at each call."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(self.batch, self.widths[0], generator=generator) * 2 - 1
        return x, torch.randn(self.batch, self.widths[-1], generator=generator)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Player:
    """What one network can do: `train` (one step) and `infer`; and how to learn its memory, in bytes.

    `saved_bytes` is what it keeps for backward, `peak_bytes` the peak of a training step where its own compiler knows
    that better than the system does.
    """

    parameters: int
    actions: dict[str, Action]
    saved_bytes: Callable[[], int | None] = lambda: None
    peak_bytes: Callable[[], int] | None = None
    compiles: bool = False  # the first call takes seconds that say nothing about the next ones


Builder = Callable[[Case], Player]


def torch_player(model: nn.Module, case: Case, compiles: bool = False) -> Player:
    """Return the actions of a torch network."""
    x, target = case.data()
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], fused=True)

    def train() -> None:
        optimiser.zero_grad(set_to_none=True)
        y, finish = model.step(x) if isinstance(model, Network) else (model(x), None)
        nn.functional.mse_loss(y, target).backward()
        if finish is not None:
            finish()
        optimiser.step()

    def infer() -> None:
        with torch.no_grad():
            model(x)

    return Player(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        actions={"train": train, "infer": infer},
        saved_bytes=lambda: saved_bytes(model, x),
        compiles=compiles,
    )


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """Return the bytes kept for backward, parameters and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = model(x)
    return sum(kept.values()) if result is not None else 0
