"""What the command line shows: tables, sentences and progress, as rich renderables."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from hepkan.report.words import is_compared, metric_name, seconds, title, with_error

if TYPE_CHECKING:
    from hepkan.physics.generate import Progress as Generated
    from hepkan.studies.members import Step
    from hepkan.studies.predict import Counters
    from hepkan.studies.scan_board import Board, Standing

Row = Mapping[str, Any]
SHOWN = 20
"""Trials of a search in the final table."""


def result_table(report: Mapping[str, Any]) -> Table:
    """Return the table at the end of a run: one line per model, every number with its error.

    Of a regression it has the error that ranks the models and, without their errors, those of single targets.
    """
    luminosity = report["luminosity_fb"]
    targets = {f"mae_{target['name']}": str(target["name"]) for target in report.get("targets") or ()}
    metrics = list(dict.fromkeys(row["metric"] for row in report["rows"]))
    metrics = [metric for metric in metrics if not targets or metric == "mae" or metric in targets]
    table = Table(title=f"{report['task']}: {report['data']['n_test']} test events, {luminosity:g}/fb")
    table.add_column("model", no_wrap=True)
    for metric in metrics:
        table.add_column(targets.get(metric) or heading(metric), justify="right", no_wrap=True)
    for name in ("para-\nmeters" if targets else "parameters", "training"):
        table.add_column(name, justify="right", no_wrap=True)
    for model in dict.fromkeys(row["model"] for row in report["rows"]):
        rows = {row["metric"]: row for row in report["rows"] if row["model"] == model}
        first = next(iter(rows.values()))
        texts = {metric: _aligned if metric in targets else _with_error for metric in metrics}
        cells = [texts[m](report, rows[m]) if m in rows else "" for m in metrics]
        trained = first["seeds"] > 0
        cells += [f"{first['parameters']:d}" if trained else "", seconds(first["train_seconds"]) if trained else ""]
        table.add_row(title(model), *cells)
    if targets:
        units = sorted({str(target["unit"]) for target in report["targets"]})
        table.caption = f"MAE: in deviations of the targets; of single targets in {', '.join(units)}"
    return table


def _with_error(report: Mapping[str, Any], row: Row) -> str:
    """Return value and error of a result."""
    return with_error(row["value"], row["error"])


def _aligned(report: Mapping[str, Any], row: Row) -> str:
    """Return the value of a result alone, with as many decimals as all others of its metric."""
    values = [one["value"] for one in report["rows"] if one["metric"] == row["metric"]]
    largest = max((abs(value) for value in values if value), default=1.0)
    decimals = min(6, max(0, 3 - math.floor(math.log10(largest))))
    return "–" if row["value"] is None else f"{row['value']:.{decimals}f}"


def comparison_table(rows: Sequence[Row]) -> Table:
    """Return models and the metrics that compare them as lines, runs as columns."""
    runs = list(dict.fromkeys(row["run"] for row in rows))
    table = Table(title="Runs side by side")
    for name in ("task", "model", "metric"):
        table.add_column(name, no_wrap=True)
    for run in runs:
        table.add_column(run, justify="right")
    keys = ("task", "model", "metric", "run")
    cells = {tuple(row[key] for key in keys): row for row in rows if is_compared(row["metric"])}
    for key in dict.fromkeys(key[:3] for key in cells):
        found = [cells.get((*key, run)) for run in runs]
        values = [with_error(row["value"], row["error"]) if row else "" for row in found]
        name = metric_name(key[2]) if key[2].startswith("mae_") else heading(key[2])
        table.add_row(key[0], title(key[1]), name, *values)
    return table


def scan_table(report: Mapping[str, Any]) -> Table:
    """Return one line per trial of a scan; of a search the best ones, the best first."""
    table = Table(title=f"{report['task']}: {report['model']} over {', '.join(report['vary'])}")
    trials = [trial for trial in report["trials"] if trial["failure"] is None]
    if report["method"] == "tpe":
        trials = sorted(trials, key=lambda trial: float(trial["results"]["validation_loss"]["value"]))[:SHOWN]
    metrics = ("validation_loss", "train_loss", report["metric"])
    keys = [path.rsplit(".", 1)[-1] for path in report["vary"]]
    for name in (*keys, "validation\nloss", "training\nloss", f"test\n{heading(report['metric'])}"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("parameters", "training"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in trials:
        results = trial["results"]
        cells = [_text(trial["values"][path]) for path in report["vary"]]
        cells += [with_error(**results[metric]) if metric in results else "" for metric in metrics]
        style = "bold" if trial["number"] == report["best"] else None
        table.add_row(*cells, f"{trial['parameters']:d}", seconds(trial["train_seconds"]), style=style)
    return table


def environment_table(content: Mapping[str, Any]) -> Table:
    """Return the machine as a table of two columns."""
    table = Table(title="hepkan environment", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, version in content["versions"].items():
        table.add_row(name, version)
    table.add_section()
    table.add_row("platform", content["platform"])
    table.add_row("cpu", content["cpu"])
    table.add_row("devices", ", ".join(content["devices"]))
    table.add_section()
    for name, reason in content["kernels"].items():
        table.add_row(f"kernel {name}", "usable" if not reason else f"not usable: {reason}")
    table.add_section()
    for name, reason in content["extras"].items():
        table.add_row(f"extra {name}", (reason or "installed").replace("[", "\\["))
    return table


def heading(metric: str) -> str:
    """Return a metric's name for readers."""
    if metric.startswith("rejection_"):
        return f"rejection\n{metric.removeprefix('rejection_')} %"
    return {"auc": "AUC", "asimov_z": "Asimov\nZ", "mae": "MAE"}.get(metric, metric.replace("_", " "))


@contextmanager
def training(console: Console) -> Iterator[Callable[[Step], None]]:
    """Show one bar per member in training and one for all; plain lines when not a terminal."""
    if not console.is_terminal:
        yield lambda step: _plain(console, step)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        known: dict[str, TaskID] = {}

        def show(step: Step) -> None:
            if step.member not in known:
                known[step.member] = bars.add_task(step.member, total=step.total, text="")
            bar = known[step.member]
            bars.update(bar, completed=step.done, total=step.total, text=step.text)
            if step.state != "running" and step.member != "all":
                bars.update(bar, visible=False)

        yield show


def _plain(console: Console, step: Step) -> None:
    """Print a line when a member is done; epochs are silent."""
    if step.state != "running":
        console.print(f"{step.member}: {step.state} {step.text}".rstrip(), highlight=False, soft_wrap=True)


@contextmanager
def scanning(console: Console) -> Iterator[Callable[[Board], None]]:
    """Show a table of the trials while a scan runs; plain lines when not a terminal."""
    if not console.is_terminal:
        said: set[int] = set()
        yield lambda board: _say(console, board, said)
        return
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        yield lambda board: live.update(board_table(board, rows=max(3, console.height - 8)))


def board_table(board: Board, rows: int = 20) -> Table:
    """Return the running trials, the best, and as many of the last finished ones as there is room for."""
    best, done = board.best, board.count("done")
    failed = f", {board.count('failed')} failed" if board.count("failed") else ""
    table = Table(title=f"{done} of {board.total} trials done, {board.count('running')} running{failed}")
    for name in ("trial", "state", "seeds", "validation loss so far"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("trial", "state") else "right")
    for number, standing in _chosen(board, rows):
        running = ", ".join(f"{epoch}/{epochs}" for epoch, epochs in standing.epochs.values())
        state = f"epoch {running}" if standing.state == "running" and running else standing.state
        value = "" if standing.value is None else with_error(standing.value, standing.error)
        label = f"{number}: " + ", ".join(
            f"{path.rsplit('.', 1)[-1]} = {_text(value)}" for path, value in standing.trial.values.items()
        )
        seeds = f"{len(standing.losses)}/{len(standing.trial.members)}"
        mark = {"failed": "red", "waiting": "dim"}.get(standing.state)
        table.add_row(label, state, seeds, value, style="bold green" if standing is best else mark)
    return table


def _chosen(board: Board, rows: int) -> list[tuple[int, Standing]]:
    """Return the trials that a table of so many rows shows, in their order."""
    rank = {"running": 0, "done": 2, "failed": 2, "waiting": 3}
    entries = list(enumerate(board.standings))
    entries.sort(key=lambda one: (rank[one[1].state] if one[1] is not board.best else 1, -one[0]))
    return sorted(entries[:rows], key=lambda one: one[0])


def _say(console: Console, board: Board, said: set[int]) -> None:
    """Print a line for every trial that has finished since the last time."""
    for number, standing in enumerate(board.standings):
        if number not in said and standing.state in ("done", "failed"):
            said.add(number)
            text = standing.failure
            if standing.value is not None and not text:
                text = f"validation loss {with_error(standing.value, standing.error)}"
                text += ", the best so far" if standing is board.best else ""
            line = f"trial {len(said)} of {board.total}: {standing.trial.label}: {text}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _text(value: Any) -> str:
    """Return a value of a setting."""
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


@contextmanager
def scoring(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show how many events are scored; nothing when not a terminal."""
    columns = (TextColumn("score events"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("score", total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def scored_lines(counters: Counters) -> list[str]:
    """Return what happened to the events of a file, in sentences."""
    lines = [f"{counters.scored} of {counters.events} events have a score."]
    if counters.rejected:
        lines.append(f"{counters.rejected} fail the selection of the card; their score is NaN.")
    reasons = (("missing", counters.missing), ("outside of the range of the training sample", counters.outside))
    for what, numbers in reasons:
        if numbers:
            worst = sorted(numbers.items(), key=lambda item: -item[1])
            found = ", ".join(f"{name} {number}" for name, number in worst[:8])
            more = f" and {len(worst) - 8} more inputs" if len(worst) > 8 else ""
            lines.append(f"Values {what}: {found}{more}.")
    return lines


def exported_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what was exported and how it was checked, in sentences."""
    what = f"the formula, style {report['style']}" if report["to"] == "formula" else str(report["model"])
    real = f"{report['real_events']} of them test events of the run" if report["real_events"] else "all of them drawn"
    whole = "formula" if report["to"] == "formula" else "network"
    lines = [
        f"Wrote {report['path']}: {what}.",
        f"Checked on {report['events']} events, {real}: it differs from the {whole} by at most "
        f"{report['difference']:.2g} of the output's spread ({report['tolerance']:.2g} is allowed).",
    ]
    if report.get("fidelity") is not None:
        lines.append(f"It follows {report['network']} with a fidelity of {report['fidelity']:.4f} (at most 1).")
    if report.get("folds") and report["fold"] is None:
        lines.append(
            f"This is the run's one model, for new events. For events of the run's own files give --fold K, the model "
            f"that never saw ids with id % {report['folds']} == K, or use hepkan predict."
        )
    names = [f"{one['place']} {one['name']}" + (f" [{one['unit']}]" if one["unit"] else "") for one in report["inputs"]]
    lines.append(f"Inputs by place: {', '.join(names)}.")
    replaced = [f"{one['name']} {one['missing']:.6g}" for one in report["inputs"] if one["missing"] is not None]
    if replaced:
        lines.append(f"Before it, replace missing values: {', '.join(replaced)}.")
    flags = [one["name"] for one in report["inputs"] if one["flag"]]
    if flags:
        lines.append(f"These are 1 where the value was missing, else 0: {', '.join(flags)}.")
    return lines


@contextmanager
def generation(console: Console, task: str) -> Iterator[Callable[[Generated], None]]:
    """Show rows, rate and time left; plain lines, at most one in ten seconds, when not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(f"generate {task}", total=None)
        last = [time.monotonic()]

        def show(progress: Generated) -> None:
            text = f"generate {task} ({progress.rows_per_second:.0f} rows/s)"
            bars.update(bar, completed=progress.rows, total=progress.total_rows, description=text)
            if not console.is_terminal and time.monotonic() - last[0] >= 10:
                last[0] = time.monotonic()
                left = "" if progress.seconds_left is None else f", {seconds(progress.seconds_left)} left"
                rows = f"{progress.rows} of {progress.total_rows} rows"
                console.print(f"{text}: {rows}{left}", highlight=False)

        yield show
