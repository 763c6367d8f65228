"""The processes that train one model together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from hepkan.errors import UsageError
from hepkan.train.sources import Events


@dataclass(frozen=True)
class Processes:
    """This process among those that share every batch; alone, every share is the whole and every sum its only term.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def present(cls) -> Processes:
        """Return the processes of `torch.distributed`, or this one alone."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    def share(self, batch: Events) -> Events:
        """Return this process's events of a batch."""
        return batch if self.size == 1 else batch.cut(slice(self.rank, None, self.size))

    def add(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Iterable[Tensor], value: Tensor) -> Tensor:
        """Sum gradients, in place, and a value over the processes in one message; return the value."""
        if self.size == 1:
            return value
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        message = self.add(torch.cat([value.reshape(1).to(gradients[0]), *(one.flatten() for one in gradients)]))
        first = 1
        for one in gradients:
            one.copy_(message[first : first + one.numel()].view_as(one))
            first += one.numel()
        return message[0]

    def gather(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Return the tensors of all processes, `(size, ...)`, on the CPU."""
        if self.size == 1:
            return tensor.cpu().unsqueeze(0)
        parts = [torch.empty_like(tensor, device=device) for _ in range(self.size)]
        distributed.all_gather(parts, tensor.to(device))
        return torch.stack(parts).cpu()

    def spread(self, content: bytes, device: torch.device) -> bytes:
        """Return the bytes that the first process has."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)], device=device)
        distributed.broadcast(length, 0)
        message = torch.zeros(int(length), dtype=torch.uint8, device=device)
        if self.rank == 0 and content:
            message.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        distributed.broadcast(message, 0)
        return message.cpu().numpy().tobytes()

    def agree(self, identity: bytes, device: torch.device) -> None:
        """Refuse processes that would train something else.

        Raises:
            UsageError: the identities differ.
        """
        every = self.gather(torch.frombuffer(bytearray(identity), dtype=torch.uint8), device)
        if not bool((every == every[0]).all()):
            raise UsageError(
                f"All {self.size} processes need the same model, data and settings to train together, however they "
                "differ. Give each process the same seeds and files, or end the process group to train apart."
            )
