"""The command line. Only this module prints; the work is done by the package's functions.

Exit codes: 0 done, 1 failed, 2 wrong use. An error is one paragraph on standard error; `--debug` shows the traceback.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import hepkan
from hepkan.errors import DataError, MissingExtra, UsageError

app = typer.Typer(
    name="hepkan",
    help="Kolmogorov-Arnold networks for collider physics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print only a JSON list of result rows.")]
Quick = Annotated[bool, typer.Option("--quick", help="A look at everything in under two minutes.")]
Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="Number of seeds per model.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Models to train; repeat or separate by commas.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Change a setting, as in model.grid=10.")]
Sample = Annotated[Path | None, typer.Option("--data", help="A sample file instead of the embedded one.")]
TestSample = Annotated[Path | None, typer.Option("--test", help="A sample file that is the test part.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")]
Study = Annotated[str, typer.Argument(metavar="TASK|CARD.yaml", help="A built-in task or a card.")]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the package's errors into one paragraph and an exit code."""

    @functools.wraps(command)
    def wrapper(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, debug=debug, **kwargs)
        except KeyboardInterrupt:
            _complain("Interrupted. Finished parts are kept; the same command with --resume continues.")
            raise typer.Exit(130) from None
        except (UsageError, DataError, MissingExtra, OSError, MemoryError) as error:
            if debug:
                raise
            _complain(str(error) or type(error).__name__)
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None

    return wrapper


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out().print(f"hepkan {hepkan.__version__}", highlight=False)
        raise typer.Exit


@app.command()
@guarded
def generate(
    task: Annotated[str, typer.Argument(help="The task whose processes are generated.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .parquet or .root file.")],
    events: Annotated[int | None, typer.Option("--events", min=1, help="Selected events in the file.")] = None,
    rows: Annotated[list[str] | None, typer.Option("--rows", help="Instead of --events: PROCESS=N, repeated.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bytes.")] = 1,
    workers: Workers = None,
    debug: Debug = False,
) -> None:
    """Generate collision events; a stopped generation continues by itself."""
    from hepkan import terminal
    from hepkan.physics.generate import generate as make
    from hepkan.physics.generate import row_counts
    from hepkan.studies.environment import cores

    counts = row_counts(task, events, _counts(rows))
    check_writable(output.parent)
    with terminal.generation(err(), task) as progress:
        path = make(task, rows=counts, seed=seed, output=output, workers=workers or cores(), progress=progress)
    out().print(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB).", highlight=False)


@app.command()
@guarded
def run(
    task: Study,
    model: Models = None,
    quick: Quick = False,
    seeds: Seeds = None,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder [runs/TASK].")] = None,
    resume: Resume = False,
    data: Sample = None,
    test: TestSample = None,
    workers: Workers = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train the models of a task, compare them and write a run folder with its page."""
    from hepkan import terminal
    from hepkan.report.words import headline
    from hepkan.studies.environment import cores
    from hepkan.studies.options import load_card
    from hepkan.studies.run import run as execute

    chosen = {"overrides": settings or (), "quick": quick, "seeds": seeds, "data": data, "test": test}
    card = load_card(task, models=_split(model), **chosen)  # type: ignore[arg-type]
    folder = output or Path("runs") / (card.name + ("-quick" if quick else ""))
    with terminal.training(err()) as progress:
        result = execute(
            card,
            output=folder,
            resume=resume,
            workers=workers or cores(),
            progress=progress,
            command=_command(),
        )
    if as_json:
        _print_json(result.report["rows"])
        return
    if result.reused:
        err().print(f"{folder} already holds this very run; nothing was trained.", highlight=False, soft_wrap=True)
    out().print(terminal.result_table(result.report))
    for line in headline(result.report, card.main, card.reference):
        out().print(line, highlight=False)
    out().print(f"Page: {folder / 'index.html'}", highlight=False, soft_wrap=True)


@app.command()
@guarded
def scan(
    task: Study,
    vary: Annotated[list[str], typer.Option("--vary", help="Values to try, as in model.hidden=5,10,[30,30].")],
    model: Annotated[str, typer.Option("--model", help="The model to vary.")] = "kan",
    quick: Quick = False,
    seeds: Seeds = None,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Scan folder [scans/TASK].")] = None,
    resume: Resume = False,
    data: Sample = None,
    test: TestSample = None,
    workers: Workers = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train one model over a grid of settings and plot how it depends on them."""
    from hepkan import terminal
    from hepkan.studies.environment import cores
    from hepkan.studies.options import load_card
    from hepkan.studies.scan import scan as execute

    chosen = {"overrides": settings or (), "quick": quick, "seeds": seeds, "data": data, "test": test}
    card = load_card(task, models=[model], **chosen)  # type: ignore[arg-type]
    folder = output or Path("scans") / card.name
    with terminal.training(err()) as progress:
        result = execute(
            card,
            vary,
            output=folder,
            resume=resume,
            workers=workers or cores(),
            progress=progress,
            command=_command(),
        )
    if as_json:
        _print_json(result.report["rows"])
        return
    if result.reused:
        err().print(f"{folder} already holds this very scan; nothing was trained.", highlight=False, soft_wrap=True)
    out().print(terminal.scan_table(result.report))
    out().print(f"Figure: {folder / 'scan.png'}", highlight=False, soft_wrap=True)


@app.command()
@guarded
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the results of several runs side by side, with errors."""
    from hepkan import terminal
    from hepkan.studies.compare import compare as collect

    rows = collect(runs)
    if as_json:
        _print_json(rows)
        return
    out().print(terminal.comparison_table(rows))


@app.command()
@guarded
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    debug: Debug = False,
) -> None:
    """Write the self-contained HTML page of runs again."""
    from hepkan.report.html import write_page
    from hepkan.studies.compare import read_report

    for folder in runs:
        read_report(folder)
        out().print(f"Page: {write_page(folder)}", highlight=False, soft_wrap=True)


@app.command()
@guarded
def env(as_json: Json = False, debug: Debug = False) -> None:
    """Show versions, devices, usable kernels and installed extras."""
    from hepkan import terminal
    from hepkan.studies.environment import environment

    content = environment()
    if as_json:
        _print_json(content)
        return
    out().print(terminal.environment_table(content))


def check_writable(folder: Path) -> None:
    """Fail now rather than after an hour; see `hepkan.files`."""
    from hepkan.studies.folders import check_writable as check

    check(folder)


def out() -> Console:
    """Return the console of standard output, wide enough for a table when it is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def err() -> Console:
    """Return the console of standard error."""
    return Console(stderr=True)


def _complain(text: str) -> None:
    """Print one paragraph on standard error."""
    err().print(f"hepkan: {' '.join(text.split())}", style="red", markup=False, highlight=False, soft_wrap=True)


def _print_json(content: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> None:
    """Print JSON and nothing else on standard output."""
    out().print(json.dumps(content, indent=1), markup=False, highlight=False, soft_wrap=True)


def _split(names: Sequence[str] | None) -> list[str]:
    """Split `kan,mlp` and drop repetitions."""
    return list(dict.fromkeys(name.strip() for text in names or () for name in text.split(",") if name.strip()))


def _counts(texts: Sequence[str] | None) -> dict[str, int]:
    """Return the rows of each process from `ttbar=1000` texts."""
    pairs = [text.partition("=") for text in texts or ()]
    for name, _, number in pairs:
        if not name or not number.isdecimal():
            raise UsageError(f"Rows are written PROCESS=N, as in ttbar=1000, however: {name}={number}.")
    return {name.strip(): int(number) for name, _, number in pairs}


def _command() -> str:
    """Return the command as typed."""
    return " ".join(["hepkan", *sys.argv[1:]])
