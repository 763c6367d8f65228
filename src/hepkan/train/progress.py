"""How a training shows where it is: not at all, by a function of the caller, or by a bar on standard error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Called after every epoch with its number, the largest possible number and its row of the history."""

    def __call__(self, epoch: int, epochs: int, row: Mapping[str, float], /) -> None: ...


@contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress]:
    """Give the function to call after every epoch; True shows a bar, None and False nothing."""
    if callable(progress):
        yield progress
    elif progress:
        with _bar() as bar:
            yield bar
    else:
        yield _silent


def _silent(epoch: int, epochs: int, row: Mapping[str, float], /) -> None:
    """Show nothing."""


@contextmanager
def _bar() -> Iterator[Progress]:
    """Show epochs, losses and the time left on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=None)

        def show(epoch: int, epochs: int, row: Mapping[str, float], /) -> None:
            losses = {"loss": row["train_loss"], "validation loss": row.get("validation_loss")}
            text = ", ".join(f"{name} {value:.5g}" for name, value in losses.items() if value is not None)
            bars.update(task, completed=epoch, total=epochs, description=text)

        yield show
