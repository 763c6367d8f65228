"""Where tasks run: in this process, in processes of this machine, or on a Dask cluster, behind one interface.

A task is a function of one argument that also receives a `report` to send JSON-able data while it works. What it leaves
behind goes to files, complete or not at all, so a worker that is killed in the middle loses nothing: its task begins
again elsewhere. Results never depend on where or in which order tasks run.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import hepkan
from hepkan.errors import require

T = TypeVar("T")
R = TypeVar("R")
Report = Callable[[Any], None]
Function = Callable[[T, Report], R]

ATTEMPTS = 3
"""Breakdowns of the processes, one after the other without a finished task in between, until it is an error."""
TICK = 0.2
"""Seconds between two looks at what the tasks report."""
PATIENCE = 90.0
"""Seconds until what a worker has written must be seen here."""
ADVICE = "Finished parts are kept: give the same command again (run and scan: with --resume)"


class Executor(Protocol):
    """A place for tasks. It is a context manager; leaving it ends what still runs."""

    @property
    def workers(self) -> int:
        """Tasks that run at the same time."""
        ...

    def run(self, function: Function[T, R], tasks: Sequence[T], show: Report | None = None) -> Iterator[tuple[int, R]]:
        """Yield the place in `tasks` and the result of each task as it finishes, in any order.

        Arguments:
            function: called as `function(task, report)`; a module's own, so that processes can import it.
            tasks: arguments; data of any size belong in files that the workers can read.
            show: receives what the tasks report.

        Raises:
            OSError: workers were lost again and again.
            Exception: of a task; tasks that have not begun are dropped.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def make_executor(workers: int = 1, scheduler: str | None = None) -> Executor:
    """Return the cluster behind `scheduler` when given, this process for one worker, otherwise processes.

    Raises:
        MissingExtra: a scheduler is given and dask.distributed is not installed.
        OSError: the scheduler does not answer.
    """
    if scheduler is not None:
        return Dask(scheduler)
    return Processes(workers) if workers > 1 else ThisProcess()


def await_seen(there: Callable[[], bool], path: Path) -> None:
    """Wait until `path`, which a worker has written, is seen here: a network file system may take its time.

    Arguments:
        there: says whether it is.
        path: a file or a folder.

    Raises:
        OSError: it is not after `PATIENCE` seconds.
    """
    end = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > end:
            raise OSError(
                f"A worker has written {path}, however it is not seen here. Workers need the same file system under "
                "the same paths; choose a shared place with -o."
            )
        os.listdir(path.parent)  # makes NFS look again
        time.sleep(TICK)


class ThisProcess:
    """Tasks one after another in this very process."""

    workers = 1

    def run(self, function: Function[T, R], tasks: Sequence[T], show: Report | None = None) -> Iterator[tuple[int, R]]:
        """See `Executor`."""
        for place, task in enumerate(tasks):
            yield place, function(task, show or _ignore)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left running."""


class Processes:
    """Fresh processes of this machine, started when first needed and kept for the next tasks.

    When one is killed, all are started again with the tasks that are left.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._reports: SimpleQueue[Any] | None = None

    def run(self, function: Function[T, R], tasks: Sequence[T], show: Report | None = None) -> Iterator[tuple[int, R]]:
        """See `Executor`."""
        left = dict(enumerate(tasks))
        breakdowns = 0
        try:
            while left:
                try:
                    for place, result in self._attempt(function, left, show or _ignore):
                        del left[place]
                        breakdowns = 0
                        yield place, result
                except BrokenProcessPool as error:
                    self._stop()
                    breakdowns += 1
                    if breakdowns == ATTEMPTS:
                        raise OSError(
                            f"Processes ended unexpectedly, {ATTEMPTS} times in a row, perhaps killed for want of "
                            f"memory. {ADVICE}, with fewer --workers if memory is short."
                        ) from error
        finally:
            if left:
                self._stop()

    def _attempt(self, function: Function[T, R], left: Mapping[int, T], show: Report) -> Iterator[tuple[int, R]]:
        """Run tasks until all are done or a process is lost."""
        pool, reports = self._start(len(left))
        futures: dict[Future[R], int] = {pool.submit(_in_process, function, left[place]): place for place in left}
        pending = set(futures)
        while pending:
            finished, pending = wait(pending, timeout=TICK, return_when=FIRST_COMPLETED)
            while not reports.empty():
                show(reports.get())
            for future in finished:
                yield futures[future], future.result()

    def _start(self, tasks: int) -> tuple[ProcessPoolExecutor, SimpleQueue[Any]]:
        """Return the processes, not more than there are tasks when they are first started."""
        if self._pool is None or self._reports is None:
            context = get_context("spawn")
            self._reports = context.SimpleQueue()  # a report is there before the result of its task
            size = min(self.workers, tasks)
            self._pool = ProcessPoolExecutor(size, context, initializer=_begin, initargs=(self._reports,))
        return self._pool, self._reports

    def _stop(self) -> None:
        """End all processes, in the middle of their tasks too."""
        pool, reports = self._pool, self._reports
        self._pool = self._reports = None
        if pool is not None:
            for process in list((pool._processes or {}).values()):  # shutdown would wait for the running tasks
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
        if reports is not None:
            reports.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()


class Dask:
    """The workers of an existing Dask scheduler.

    Tasks and folders are sent by name only: every worker must see the same files under the same absolute paths and
    have the same version of hepkan. A worker runs one task at a time however many threads it has.
    """

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        self._distributed = require("distributed", "dask", "--scheduler")
        try:
            host, port = self._distributed.comm.get_address_host_port(address)
            socket.create_connection((host, port), timeout).close()  # a client that cannot connect is noisy
            self._client = self._distributed.Client(address, timeout=timeout, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise OSError(
                f"A Dask scheduler must answer at the address given, however {address!r} does not ({error}). Start one "
                "with `dask scheduler` and give its address, as in --scheduler tcp://HOST:8786."
            ) from error

    @property
    def workers(self) -> int:
        """Workers that are there now; others may join later."""
        return max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def run(self, function: Function[T, R], tasks: Sequence[T], show: Report | None = None) -> Iterator[tuple[int, R]]:
        """See `Executor`."""
        reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
        topic = f"hepkan-{uuid.uuid4().hex}"
        self._client.subscribe_topic(topic, lambda event: reports.put(event[1]["content"]))
        futures = {
            self._client.submit(_on_worker, function, task, topic, hepkan.__version__, key=f"{topic}-{place}"): place
            for place, task in enumerate(tasks)
        }
        pending = set(futures)
        try:
            while pending:
                with suppress(TimeoutError), self._client.as_current():
                    self._distributed.wait(pending, timeout=TICK, return_when="FIRST_COMPLETED")
                with suppress(queue.Empty):
                    while True:
                        (show or _ignore)(reports.get_nowait())
                finished = {future for future in pending if future.done()}
                pending -= finished
                for future in finished:
                    yield futures[future], self._result(future)
        finally:
            self._client.unsubscribe_topic(topic)
            self._client.cancel(list(pending))

    def _result(self, future: Any) -> Any:
        """Return what a task gave; tell lost workers and a lost scheduler from errors of the task."""
        try:
            return future.result()
        except self._distributed.KilledWorker as error:
            raise OSError(
                f"The Dask workers died again and again at the same task, perhaps killed for want of memory. {ADVICE}, "
                "with more memory for the workers."
            ) from error
        except self._distributed.CancelledError as error:
            raise OSError(f"The Dask scheduler was lost. {ADVICE} when it is back.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()


_reports: SimpleQueue[Any] | None = None
_one_at_a_time = threading.Lock()


def _ignore(_: Any) -> None:
    """Take a report and do nothing."""


def _begin(reports: SimpleQueue[Any]) -> None:
    """Prepare a process: interruptions are the parent's to handle, and without the parent there is no work."""
    global _reports
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch_parent()


def watch_parent() -> None:
    """End this process when its parent is gone (kill -9 included)."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Wait for the end of the parent."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_process(function: Function[T, R], task: T) -> R:
    """Run a task in a process of `Processes`."""
    return function(task, _reports.put if _reports is not None else _ignore)


def _on_worker(function: Function[T, R], task: T, topic: str, version: str) -> R:
    """Run a task on a worker of `Dask`."""
    if version != hepkan.__version__:
        raise OSError(
            f"All workers must have hepkan {version}, however one has {hepkan.__version__}; its results could differ. "
            "Start the workers from the same environment."
        )
    from distributed import get_worker

    worker = get_worker()
    with _one_at_a_time:  # PyTorch's number of threads and random state belong to the process
        return function(task, lambda content: worker.log_event(topic, {"content": content}))
