"""One run: train every member, judge them on the same test events, write the run folder and its page."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import hepkan
from hepkan.errors import DataError
from hepkan.files import atomic_file, write_text
from hepkan.studies import evidence
from hepkan.studies.card import Card, check_runnable, check_settings, dump_card
from hepkan.studies.environment import environment, versions
from hepkan.studies.folders import DONE, open_folder
from hepkan.studies.members import Data, Member, Step, load_parts, make_member
from hepkan.studies.pool import train_members
from hepkan.tasks import TASKS, embedded


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
    known = model_settings()
    check_settings(card, known)
    check_runnable(card)
    data = locate(card)
    folder = Path(output)
    identity = f"run {card.identity()} {data.sha256}"
    finished = open_folder(folder, identity, resume)
    if finished is not None:
        return Result(folder, finished, reused=True)
    members = plan(card, data, folder, known)
    load_parts(data)  # a damaged sample stops here, before any process starts
    write_text(folder / "card.yaml", dump_card(card.model_copy(update={"versions": versions()})))
    train_members(data, members, workers, progress)
    report = _write(card, data, members, folder, command)
    write_text(folder / DONE, "")
    return Result(folder, report, reused=False)


def model_settings() -> dict[str, tuple[str, ...]]:
    """Return the names of the settings that each model kind knows."""
    from hepkan.baselines import MODELS

    return {kind: tuple(model.settings) for kind, model in MODELS.items()}


def locate(card: Card) -> Data:
    """Return where the card's sample is, with its hash.

    Raises:
        DataError: the file does not exist or is not readable.
    """
    name = card.data[0].files[0]
    prefix, colon, task = name.partition(":")
    path = embedded(task) if colon and prefix == "embedded" else Path(name)
    if not path.is_file():
        raise DataError(f"A sample file is needed, however {path} is not a file. Check the path.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Data(dump_card(card), path, digest, card.name if card.name in TASKS else next(iter(TASKS)))


def plan(card: Card, data: Data, folder: Path, known: dict[str, tuple[str, ...]]) -> list[Member]:
    """Return all members of a run, in the order of the card."""
    return [
        make_member(data, card, kind, kind, seed, card.settings(kind, known[kind]), folder)
        for kind in card.kinds
        for seed in range(card.seeds)
    ]
