"""Members trained side by side, with the same result wherever and in whatever order they are trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from hepkan.errors import DataError
from hepkan.executors import Executor, Report, await_seen, make_executor
from hepkan.studies.members import Member, Step, train_member

Show = Callable[[Step], None]


def train_members(
    members: Sequence[Member],
    workers: int = 1,
    progress: Show | None = None,
    *,
    executor: Executor | None = None,
) -> None:
    """Train the members that are not complete yet.

    Arguments:
        members: What is to be trained; each has a folder of its own.
        workers: Processes, where no `executor` is given.
        progress: Called with every `Step`.
        executor: Where to train.

    Raises:
        DataError: a member cannot be trained.
        OSError: a folder cannot be written, or processes were killed again and again (the finished members stay).
    """
    _train(members, workers, progress, executor, keep_going=False)


def attempt_members(members: Sequence[Member], executor: Executor, progress: Show | None = None) -> dict[str, str]:
    """Do the same, and go on when a member cannot be trained; return the reasons by the names of such members."""
    return _train(members, 1, progress, executor, keep_going=True)


def _train(
    members: Sequence[Member], workers: int, progress: Show | None, executor: Executor | None, keep_going: bool
) -> dict[str, str]:
    """Train what is missing; return why members failed."""
    show = progress or (lambda step: None)
    unique = list({member.folder: member for member in members}.values())
    todo = [member for member in unique if not member.complete]
    for member in unique:
        if member not in todo:
            show(Step(member.name, 1, 1, "reused"))
    done = len(unique) - len(todo)
    show(Step("all", done, len(unique)))
    if not todo:
        return {}
    if executor is None:
        with make_executor(min(workers, len(todo))) as own:
            return _collect(todo, own, show, done, keep_going)
    return _collect(todo, executor, show, done, keep_going)


def _collect(todo: Sequence[Member], executor: Executor, show: Show, done: int, keep_going: bool) -> dict[str, str]:
    """Train all of `todo` and pass their progress on."""
    function = attempt if keep_going else train
    failures, total = {}, done + len(todo)
    tasks = [portable(member) for member in todo]
    for place, (state, text) in executor.run(function, tasks, lambda content: show(Step(**content))):
        member = todo[place]
        if state == "failed":
            failures[member.name] = text
        else:
            await_seen(lambda member=member: member.complete, member.folder)  # type: ignore[misc]
        done += 1
        show(Step(member.name, 1, 1, state, text))
        show(Step("all", done, total))
    return failures


def portable(member: Member) -> Member:
    """Return the member with absolute paths, which mean the same in any process that shares the file system."""
    data = member.data
    test = None if data.test_path is None else data.test_path.absolute()
    data = dataclasses.replace(data, path=data.path.absolute(), test_path=test)
    return dataclasses.replace(member, data=data, folder=member.folder.absolute())


def train(member: Member, report: Report) -> tuple[str, str]:
    """Train one member, unless another process, believed to be lost, has done so; return its last state and text."""
    last = [("reused", "")]

    def show(step: Step) -> None:
        if step.state == "running":
            report(dataclasses.asdict(step))
        else:
            last.append((step.state, step.text))

    if not member.complete:
        try:
            train_member(member, show)
        except OSError:  # the other process may have been first with the folder
            if not member.complete:
                raise
    return last[-1]


def attempt(member: Member, report: Report) -> tuple[str, str]:
    """Do the same; where the member cannot be trained, the text says why."""
    try:
        return train(member, report)
    except DataError as error:
        return "failed", str(error)
