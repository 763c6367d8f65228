"""What the command line shows: tables, sentences and progress, as rich renderables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from hepkan.report.words import seconds, title, with_error

if TYPE_CHECKING:
    from hepkan.physics.generate import Progress as Generated
    from hepkan.studies.members import Step

Row = Mapping[str, Any]


def result_table(report: Mapping[str, Any]) -> Table:
    """Return the table at the end of a run: one line per model, every number with its error."""
    luminosity = report["luminosity_fb"]
    metrics = list(dict.fromkeys(row["metric"] for row in report["rows"]))
    table = Table(title=f"{report['task']}: {report['data']['n_test']} test events, {luminosity:g}/fb")
    table.add_column("model", no_wrap=True)
    for metric in metrics:
        table.add_column(heading(metric), justify="right", no_wrap=True)
    for name in ("parameters", "training"):
        table.add_column(name, justify="right", no_wrap=True)
    for model in dict.fromkeys(row["model"] for row in report["rows"]):
        rows = {row["metric"]: row for row in report["rows"] if row["model"] == model}
        first = next(iter(rows.values()))
        cells = [with_error(rows[m]["value"], rows[m]["error"]) if m in rows else "" for m in metrics]
        trained = first["seeds"] > 0
        cells += [f"{first['parameters']:d}" if trained else "", seconds(first["train_seconds"]) if trained else ""]
        table.add_row(title(model), *cells)
    return table


def comparison_table(rows: Sequence[Row]) -> Table:
    """Return models and metrics as lines, runs as columns."""
    runs = list(dict.fromkeys(row["run"] for row in rows))
    table = Table(title="Runs side by side")
    for name in ("task", "model", "metric"):
        table.add_column(name, no_wrap=True)
    for run in runs:
        table.add_column(run, justify="right")
    cells = {(row["task"], row["model"], row["metric"], row["run"]): row for row in rows}
    for key in dict.fromkeys(key[:3] for key in cells):
        found = [cells.get((*key, run)) for run in runs]
        values = [with_error(row["value"], row["error"]) if row else "" for row in found]
        table.add_row(key[0], title(key[1]), heading(key[2]), *values)
    return table


def scan_table(report: Mapping[str, Any]) -> Table:
    """Return one line per setting of a scan."""
    table = Table(title=f"{report['task']}: {report['model']} over {', '.join(report['vary'])}")
    metrics = list(dict.fromkeys(row["metric"] for row in report["rows"]))
    for name in (*report["vary"], *map(heading, metrics), "parameters", "training"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in report["trials"]:
        rows = {row["metric"]: row for row in report["rows"] if row["settings"] == trial["settings"]}
        first = next(iter(rows.values()))
        values = [str(trial["values"][path]) for path in report["vary"]]
        values += [with_error(rows[m]["value"], rows[m]["error"]) if m in rows else "" for m in metrics]
        table.add_row(*values, f"{first['parameters']:d}", seconds(first["train_seconds"]))
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
    return {"auc": "AUC", "asimov_z": "Asimov\nZ"}.get(metric, metric.replace("_", " "))


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
