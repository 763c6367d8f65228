"""Members trained side by side: one process each, one thread each, the same result for any number of processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.queues import Queue
from queue import Empty

from hepkan.studies.members import Member, Step, train_member

Show = Callable[[Step], None]

_steps: Queue[Step] | None = None


def train_members(members: Sequence[Member], workers: int = 1, progress: Show | None = None) -> None:
    """Train the members that are not complete yet.

    Raises:
        OSError: a folder cannot be written, or a process was killed (the finished members stay).
    """
    show = progress or (lambda step: None)
    todo = [member for member in members if not member.complete]
    done = len(members) - len(todo)
    for member in members:
        if member not in todo:
            show(Step(member.name, 1, 1, "reused"))
    show(Step("all", done, len(members)))
    if min(workers, len(todo)) > 1:
        _in_processes(todo, min(workers, len(todo)), show, done, len(members))
        return
    for i, member in enumerate(todo):
        train_member(member, show)
        show(Step("all", done + i + 1, len(members)))


def _in_processes(todo: Sequence[Member], workers: int, show: Show, done: int, total: int) -> None:
    """Run the trainings in fresh processes and pass their progress on."""
    context = get_context("spawn")
    steps: Queue[Step] = context.Queue()
    before = set(active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(steps,))
    futures: list[Future[None]] = []
    try:
        futures += [pool.submit(_work, member) for member in todo]
        pending = set(futures)
        while pending:
            finished, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
            _drain(steps, show)
            for future in finished:
                future.result()
            show(Step("all", done + len(todo) - len(pending), total))
        _drain(steps, show)
    except BrokenProcessPool as error:
        raise OSError(
            "A training process ended unexpectedly, perhaps killed for want of memory. Finished members are kept: "
            "give the same command with --resume, and fewer --workers if memory is short."
        ) from error
    finally:
        if any(not future.done() for future in futures):
            for process in set(active_children()) - before:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        steps.close()


def _drain(steps: Queue[Step], show: Show) -> None:
    """Show what has been reported so far."""
    with suppress(Empty):
        while True:
            show(steps.get_nowait())


def _start(steps: Queue[Step]) -> None:
    """Prepare a process: interruptions are the parent's to handle, and without the parent there is no work."""
    global _steps
    _steps = steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    """End this process when its parent is gone (kill -9 included)."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(member: Member) -> None:
    """Train one member in a process of the pool."""
    train_member(member, _steps.put if _steps is not None else None)
