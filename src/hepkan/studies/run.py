"""One run: train every member, judge them on the same test events, write the run folder and its page."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepkan.errors import DataError, UsageError
from hepkan.files import write_text
from hepkan.studies import own_data
from hepkan.studies.card import Card, check_runnable, check_settings, dump_card
from hepkan.studies.environment import versions
from hepkan.studies.folders import close_folder, open_folder
from hepkan.studies.members import Data, Member, Step, has_test_file, load_table, load_test, make_member
from hepkan.studies.own_data import check_folds, check_sources
from hepkan.studies.pool import train_members
from hepkan.studies.record import write_record
from hepkan.tasks import TASKS, embedded

if TYPE_CHECKING:
    from hepkan.data import Table


@dataclass(frozen=True)
class Result:
    """A finished run or scan: its folder, its report, and whether it was there before."""

    folder: Path
    report: dict[str, Any]
    reused: bool


def run(
    card: Card,
    *,
    output: str | Path,
    resume: bool = False,
    workers: int = 1,
    progress: Callable[[Step], None] | None = None,
    command: str = "",
) -> Result:
    """Carry out a card: every model with every seed, evaluation with errors, folder and page.

    A finished run of the same card on the same data is returned as it is. A stopped one continues with `resume`
    and ends with the same result as an uninterrupted one.

    Arguments:
        card: The study, from `hepkan.studies.options.load_card`.
        output: The run folder.
        resume: Continue in a folder that holds an unfinished run, or one with other settings.
        workers: Processes for training; does not change the result.
        progress: Called with every `Step`.
        command: The command line, for the record.

    Raises:
        UsageError: a setting is unknown, or the folder belongs to something else.
        DataError: the sample is missing or corrupted.
        OSError: the folder cannot be written.
    """
    from hepkan.report.html import write_page

    data = prepare(card)
    folder = Path(output)
    finished = open_folder(folder, f"run {card.identity()} {data.sha256}", resume)
    if finished is not None:
        return Result(folder, finished, reused=True)
    members, folds = plan(card, data, folder), plan_folds(card, data, folder)
    write_text(folder / "card.yaml", dump_card(card.model_copy(update={"versions": versions()})))
    train_members([*members, *folds], workers, progress)
    report = write_record(card, members, folder, command, folds)
    write_page(folder)
    close_folder(folder)
    return Result(folder, report, reused=False)


def prepare(card: Card) -> Data:
    """Check a card against the models and its sample; everything that can fail early fails here.

    Raises:
        UsageError: a setting, a process or an input is unknown.
        DataError: the sample is missing or corrupted.
    """
    check_settings(card, {kind: tuple(settings) for kind, settings in default_settings().items()})
    check_runnable(card)
    if card.own:
        check_sources(card)
    data = locate(card)
    table = load_table(data)
    if has_test_file(data):
        load_test(data)
    if card.own:
        check_folds(card, table)
    check_target(card, table)
    for name in card.cuts:
        table.column(name)
    return data


def check_target(card: Card, table: Table) -> None:
    """Refuse a card that asks for something else than its sample holds or its models can do.

    Raises:
        UsageError: classes instead of targets, other targets, a cut in a regression, or a model for the other task.
    """
    from hepkan.baselines import check_task

    kind = "classification" if table.classification else "regression"
    if card.task != kind:
        raise UsageError(f"This sample is one for {kind}, however the card says task: {card.task}.")
    if not table.classification and card.target_names != list(table.target_names):
        raise UsageError(
            f"The targets of this sample are {', '.join(table.target_names)}, however the card lists: "
            f"{', '.join(card.target_names) or 'none'}."
        )
    if card.cuts and not table.classification:
        raise UsageError(f"Cuts are compared with classifiers only, however the card has cuts: {card.cuts}.")
    for model in card.kinds:
        check_task(model, table)


def default_settings() -> dict[str, Mapping[str, Any]]:
    """Return the default settings of each model kind."""
    from hepkan.baselines import MODELS

    return {kind: model.settings for kind, model in MODELS.items()}


def locate(card: Card) -> Data:
    """Return where the card's samples are, with their hashes.

    Raises:
        DataError: the file does not exist or is not readable.
    """
    if card.own:
        return own_data.locate(card)
    sample = _file(card.data[0].files[0])
    test = None if card.test is None else _file(str(card.test))
    return Data.of(card, card.name if card.name in TASKS else next(iter(TASKS)), sample, test)


def _file(name: str) -> tuple[Path, str]:
    """Return the path of a sample and its hash."""
    prefix, colon, task = name.partition(":")
    path = embedded(task) if colon and prefix == "embedded" else Path(name)
    if not path.is_file():
        raise DataError(f"A sample file is needed, however {path} is not a file. Check the path.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path, digest


def plan(card: Card, data: Data, folder: Path) -> list[Member]:
    """Return all members of a run, in the order of the card."""
    defaults = default_settings()
    settings = {kind: {**defaults[kind], **card.settings(kind, defaults[kind])} for kind in card.kinds}
    return [
        make_member(data, kind, kind, seed, settings[kind], folder) for kind in card.kinds for seed in range(card.seeds)
    ]


def plan_folds(card: Card, data: Data, folder: Path) -> list[Member]:
    """Return the members of the cross-evaluation of the main model, one for each fold; none without folds.

    Samples of built-in tasks have a test part of their own and no folds.
    """
    if not card.own or card.folds is None:
        return []
    defaults = default_settings()[card.main]
    settings = {**defaults, **card.settings(card.main, defaults)}
    parts = (dataclasses.replace(data, fold=fold) for fold in range(card.folds))
    return [make_member(part, card.main, card.main, 0, settings, folder) for part in parts]
