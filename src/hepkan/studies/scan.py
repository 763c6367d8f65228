"""A scan: one model over many settings, several seeds each, as a tidy table, figures and a page.

The settings are a grid or those of a search (`hepkan.studies.scan_search`). Every member is a folder named after its
values and its seed, complete or not there, so a scan that is killed at any point continues to the identical result.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hepkan.errors import DataError, UsageError, unknown
from hepkan.executors import Executor, make_executor
from hepkan.files import write_text
from hepkan.studies.card import Card, build_card, check_settings, dump_card
from hepkan.studies.environment import versions
from hepkan.studies.folders import close_folder, open_folder
from hepkan.studies.members import Data, Step, make_member
from hepkan.studies.options import parse_values, set_value
from hepkan.studies.pool import attempt_members
from hepkan.studies.record import write_parquet
from hepkan.studies.run import Result, default_settings, prepare
from hepkan.studies.scan_board import Board, Trial
from hepkan.studies.scan_report import make_report, seconds_of, tidy
from hepkan.studies.scan_search import Space, is_range, open_search, parse_space

METHODS = ("grid", "tpe")
BATCH = 4
"""Trials of a search that are decided together."""


@dataclass(frozen=True)
class Plan:
    """What a scan does: the card, its sample, the settings that vary and how."""

    card: Card
    data: Data
    folder: Path
    method: str
    vary: Mapping[str, Any]
    trials: int
    batch: int
    command: str = ""
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=default_settings)

    @property
    def content(self) -> list[Any]:
        """Return everything that decides the results but the number of trials, as JSON-able data."""
        values = {path: str(kind) for path, kind in self.vary.items()} if self.method == "tpe" else dict(self.vary)
        search = [self.method, self.batch] if self.method == "tpe" else []
        return [self.card.identity(), self.data.sha256, values, *search]

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of the model that varies, as the card has them."""
        return settings_of(self.card, self.defaults)


def scan(
    card: Card,
    vary: Sequence[str],
    *,
    output: str | Path,
    method: Literal["grid", "tpe"] = "grid",
    trials: int | None = None,
    batch: int = BATCH,
    resume: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[Step], None] | None = None,
    watch: Callable[[Board], None] | None = None,
    command: str = "",
) -> Result:
    """Train the card's main model with many settings and judge all trials on the same events.

    A grid judges every trial on the test events: it shows how the result depends on the settings. A search chooses by
    the validation loss (mean over seeds) and judges only its first and its best trial on the test events.

    Arguments:
        card: The study; its main model is the one that varies.
        vary: Texts such as `model.hidden=5,10,[30,30]`; a search also takes ranges, `model.grid=3..50`.
        output: The scan folder: `scan.parquet`, `times.parquet`, `report.json`, `plots/`, `index.html`, then `DONE`.
        method: `grid`: all combinations of the values; `tpe`: a search by Optuna.
        trials: Trials of a search; more of them can be added later with `resume`.
        batch: Trials of a search that are decided together; part of what decides the result.
        resume: Continue an unfinished scan, or extend one by other values or more trials.
        workers: Processes for training; does not change the result.
        scheduler: Address of a Dask scheduler whose workers train instead; does not change the result either.
        progress: Called with every `Step`.
        watch: Called with the board of all trials after every change.
        command: The command line, for the record.

    Raises:
        UsageError: a setting is unknown or given twice, or the folder belongs to something else.
        MissingExtra: Optuna or dask.distributed is needed and not installed.
        DataError: the sample is missing or corrupted, or no trial could be trained.
        OSError: the folder cannot be written, or the workers are lost.
    """
    from hepkan.report.scan_page import write_scan_page

    folder = Path(output)
    plan = make_plan(card, vary, folder, method, trials, batch, command)
    _check_trials(plan)
    number = [plan.trials] if method == "tpe" else []
    content = json.dumps([*plan.content, *number], sort_keys=True)
    with make_executor(workers, scheduler) as executor:
        finished = open_folder(folder, f"scan {hashlib.sha256(content.encode()).hexdigest()}", resume)
        if finished is not None:
            return Result(folder, finished, reused=True)
        write_text(folder / "card.yaml", dump_card(card.model_copy(update={"versions": versions()})))
        board = Board(plan.trials, progress, watch)
        carry_out(plan, executor, board)
    report = make_report(plan, board.trials, board.failures)
    write_parquet(folder / "scan.parquet", tidy(report))
    write_parquet(folder / "times.parquet", seconds_of(board.trials))
    write_text(folder / "report.json", json.dumps(report, indent=1, allow_nan=False))
    write_scan_page(folder)
    close_folder(folder)
    return Result(folder, report, reused=False)


def make_plan(
    card: Card,
    vary: Sequence[str],
    folder: Path,
    method: str = "grid",
    trials: int | None = None,
    batch: int = BATCH,
    command: str = "",
) -> Plan:
    """Return the plan of a scan, its options checked.

    Raises:
        UsageError: an option is unknown, missing or impossible.
        DataError: the sample is missing or corrupted.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if method == "grid":
        if trials is not None:
            raise UsageError("A grid has as many trials as combinations; --trials is for --method tpe.")
        grid = parse_grid(vary)
        number = len(list(itertools.product(*grid.values())))
        return Plan(card, prepare(card), folder, method, grid, number, batch, command)
    if trials is None or trials < 1 or batch < 1:
        raise UsageError(
            f"A search needs its number of trials and a batch of at least 1, however: trials={trials}, batch={batch}. "
            "Use --trials N."
        )
    space = parse_space(vary)
    _check_paths(vary, list(space))
    for path in space:
        if path.split(".")[0] not in ("model", "models", "train") or path.endswith(".loss"):
            raise UsageError(
                f"A search compares validation losses, which {path} makes incomparable; search settings of the model "
                "or of its training."
            )
    return Plan(card, prepare(card), folder, method, space, trials, batch, command)


def parse_grid(vary: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of every setting that varies.

    Raises:
        UsageError: no values, the same setting or value twice, a range, or a setting that cannot vary.
    """
    for text in filter(is_range, vary):
        raise UsageError(f"A range needs --method tpe; a grid takes values, key=a,b,c, however: {text!r}.")
    pairs = [parse_values(text) for text in vary]
    _check_paths(vary, [path for path, _ in pairs])
    for path, values in pairs:
        if len({json.dumps(value) for value in values}) < len(values):
            raise UsageError(f"The values of {path} must differ, however: {values}.")
    return dict(pairs)


def _check_paths(vary: Sequence[str], paths: Sequence[str]) -> None:
    """Refuse settings that are missing, given twice, or not for scans."""
    if not vary or len(set(paths)) < len(vary):
        raise UsageError(f"Give every setting to vary once, as in --vary model.grid=3,5,10, however: {list(vary)}.")
    for path in paths:
        if path in ("seeds", "data", "models", "model", "model.kind"):
            raise UsageError(f"{path} cannot vary in a scan; it has an option of its own.")


def _check_trials(plan: Plan) -> None:
    """Find what is wrong with the settings before the folder is touched."""
    if plan.method == "grid":
        some = combinations(plan.vary)
    else:
        some = iter([{path: kind.example for path, kind in plan.vary.items()}])
    for values in some:
        make_trial(plan, values)


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Give all combinations of values."""
    for combination in itertools.product(*grid.values()):
        yield dict(zip(grid, combination, strict=True))


def carry_out(plan: Plan, executor: Executor, board: Board) -> None:
    """Train all trials that are not there yet.

    Raises:
        DataError: not one could be trained.
    """
    if plan.method == "grid":
        trials = [make_trial(plan, values) for values in combinations(plan.vary)]
        _train(trials, executor, board)
    else:
        _search(plan, executor, board)
    if len(board.failures) == len(board.trials):
        label, reason = next(iter(board.failures.items()))
        raise DataError(f"No trial could be trained. The first, {label}: {reason}")


def _search(plan: Plan, executor: Executor, board: Board) -> None:
    """Let the search decide batch after batch."""
    space: Space = plan.vary
    name = hashlib.sha256(json.dumps(plan.content, sort_keys=True).encode()).hexdigest()[:16]
    first = {path: _single(plan.settings.get(path.rsplit(".", 1)[-1])) for path in space}
    seed = plan.card.split.seed
    journal = plan.folder / "journal.log"
    with open_search(journal, name, space, seed=seed, batch=plan.batch, first=first) as search:
        for numbers in search.batches(plan.trials):
            trials = [make_trial(plan, search.values(number)) for number in numbers]
            _train(trials, executor, board)
            for number, trial in zip(numbers, trials, strict=True):
                search.tell(number, board.value(trial))


def _single(value: Any) -> Any:
    """Return the width of a single hidden layer as a number."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _train(trials: Sequence[Trial], executor: Executor, board: Board) -> None:
    """Train the members of some trials."""
    board.add(trials)
    attempt_members([member for trial in trials for member in trial.members], executor, board.update)


def make_trial(plan: Plan, values: Mapping[str, Any]) -> Trial:
    """Return the trial of some values, checked.

    Raises:
        UsageError: a setting is unknown or has no effect.
    """
    raw = plan.card.model_dump(mode="json")
    for path, value in values.items():
        set_value(raw, path.split("."), value)
    changed = build_card(raw)
    check_settings(changed, {kind: tuple(settings) for kind, settings in plan.defaults.items()})
    own = {**changed.models.get(changed.main, {}), **(changed.model.model_extra or {})}
    for path in values:
        section, _, key = path.partition(".")
        if section == "train" and key in own:
            raise UsageError(
                f"{path} has no effect on {changed.main}, for which the card sets {key} itself; vary model.{key}."
            )
    of_model = all(path.split(".")[0] in ("model", "models", "train") for path in values)
    data = plan.data if of_model else prepare(changed)
    settings = settings_of(changed, plan.defaults)
    label = f"{changed.main}-{slug(values)}"
    members = (make_member(data, label, changed.main, seed, settings, plan.folder) for seed in range(changed.seeds))
    return Trial(label, dict(values), tuple(members))


def settings_of(card: Card, defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return all settings of the card's main model."""
    return {**defaults[card.main], **card.settings(card.main, defaults[card.main])}


def slug(values: Mapping[str, Any]) -> str:
    """Return a short name for a folder: `hidden=30x30`; hashed when long."""
    words = []
    for path, value in values.items():
        text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"{path.rsplit('.', 1)[-1]}={re.sub(r'[^A-Za-z0-9.+-]', '_', text) or 'none'}")
    name = ",".join(words)
    return name if len(name) <= 60 else hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
