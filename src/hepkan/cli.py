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
from hepkan.errors import DataError, MissingExtra, UsageError, unknown

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
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Work on a Dask cluster, as in tcp://HOST:8786; see docs/cluster.md.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")]
Style = Annotated[str, typer.Option("--style", help="Look of the plots: plain, CMS or ATLAS.")]
Study = Annotated[str, typer.Argument(metavar="TASK|CARD.yaml", help="A built-in task or a card.")]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the package's errors into one paragraph and an exit code."""

    @functools.wraps(command)
    def wrapper(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, debug=debug, **kwargs)
        except KeyboardInterrupt:
            nothing = "Nothing half-written is left; give the same command again."
            kept = "Finished parts are kept; the same command with --resume continues."
            _complain(f"Interrupted. {kept if 'resume' in kwargs else nothing}")
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
    events: Annotated[
        int | None, typer.Option("--events", min=1, help="Selected events in the file; with --lhe hard events to use.")
    ] = None,
    rows: Annotated[list[str] | None, typer.Option("--rows", help="Instead of --events: PROCESS=N, repeated.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes (on alike processors).")] = 1,
    workers: Workers = None,
    scheduler: Scheduler = None,
    lhe: Annotated[
        list[str] | None, typer.Option("--lhe", help="Your own hard events: LHE files of one process, .gz or not.")
    ] = None,
    process: Annotated[str, typer.Option("--process", help="With --lhe: name of the process [the file's].")] = "",
    label: Annotated[int, typer.Option("--label", min=0, max=1, help="With --lhe: 1 prompt, 0 multijet.")] = 1,
    cross_section: Annotated[
        float | None, typer.Option("--cross-section", help="With --lhe: pb, instead of the files' own.")
    ] = None,
    mediator_id: Annotated[
        list[str] | None, typer.Option("--mediator-id", help="With --lhe: PDG numbers of mediator and dark matter.")
    ] = None,
    parton_level: Annotated[
        bool, typer.Option("--parton-level", help="With --lhe: no shower, partons play the reconstructed objects.")
    ] = False,
    smear: Annotated[bool, typer.Option("--smear", help="With --parton-level: through the detector.")] = False,
    debug: Debug = False,
) -> None:
    """Generate collision events, or shower your own; a stopped generation continues by itself."""
    from hepkan import terminal
    from hepkan.physics import generate as physics
    from hepkan.physics.user_lhe import UserEvents
    from hepkan.studies.environment import cores

    files, ids = _split(lhe), _split(mediator_id)
    if not files and (process or parton_level or smear or ids or label != 1 or cross_section is not None):
        raise UsageError("These options go with your own events (--lhe FILE), however none are given.")
    if files and rows:
        raise UsageError("All hard events of --lhe are used, however --rows are given; leave them out.")
    if not all(number.isdecimal() for number in ids):
        raise UsageError(f"--mediator-id must be PDG numbers without sign, as in 54,52, however: {', '.join(ids)}.")
    counts = {} if files else physics.row_counts(task, events, _counts(rows))
    check_writable(output.parent)
    with terminal.generation(err(), task) as progress:
        where = {"workers": workers or cores(), "scheduler": scheduler}
        common = {"seed": seed, "output": output, "progress": progress, **where}
        if files:
            user = UserEvents(
                task=task,
                files=tuple(map(Path, files)),
                process=process,
                label=label,
                parton_level=parton_level,
                smear=smear,
                mediator_ids=tuple(map(int, ids)),
                cross_section_pb=cross_section,
                events=events,
            )
            path = physics.generate_lhe(user, **common)  # type: ignore[arg-type]
        else:
            path = physics.generate(task, rows=counts, **common)  # type: ignore[arg-type]
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
    style: Style = "plain",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train the models of a task, compare them and write a run folder with its page."""
    from hepkan import terminal
    from hepkan.report.html import write_page
    from hepkan.report.style import drawn_as
    from hepkan.report.words import headline
    from hepkan.studies.environment import cores
    from hepkan.studies.options import load_card
    from hepkan.studies.run import run as execute

    chosen = {"overrides": settings or (), "quick": quick, "seeds": seeds, "data": data, "test": test}
    card = load_card(task, models=_split(model), **chosen)  # type: ignore[arg-type]
    folder = output or Path("runs") / (card.name + ("-quick" if quick else ""))
    with drawn_as(style), terminal.training(err()) as progress:
        result = execute(
            card,
            output=folder,
            resume=resume,
            workers=workers or cores(),
            progress=progress,
            command=_command(),
        )
        if result.reused and style != "plain":
            write_page(folder)
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
    vary: Annotated[
        list[str],
        typer.Option("--vary", help="Values to try, as in model.hidden=5,10,[30,30]; for tpe also model.grid=3..50."),
    ],
    model: Annotated[str, typer.Option("--model", help="The model to vary.")] = "kan",
    method: Annotated[str, typer.Option("--method", help="grid: all combinations; tpe: a search by Optuna.")] = "grid",
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Trials of a search.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Trials of a search decided together.")] = 4,
    quick: Quick = False,
    seeds: Seeds = None,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Scan folder [scans/TASK-SETTINGS].")] = None,
    resume: Resume = False,
    data: Sample = None,
    test: TestSample = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    style: Style = "plain",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train one model with many settings and show how it depends on them.

    A range, for --method tpe, is searched in the logarithm when its ends differ by a factor of ten or more; :linear or
    :log behind it overrules that.
    """
    from hepkan import terminal
    from hepkan.report.scan_page import write_scan_page
    from hepkan.report.scan_words import headline as scan_headline
    from hepkan.report.style import drawn_as
    from hepkan.studies.environment import cores
    from hepkan.studies.options import load_card
    from hepkan.studies.scan import scan as execute

    chosen = {"overrides": settings or (), "quick": quick, "seeds": seeds, "data": data, "test": test}
    card = load_card(task, models=[model], **chosen)  # type: ignore[arg-type]
    keys = [text.partition("=")[0].strip().rsplit(".", 1)[-1] for text in vary]
    name = "-".join([card.name, *keys, *(["search"] if method == "tpe" else []), *(["quick"] if quick else [])])
    folder = output or Path("scans") / name
    with drawn_as(style), terminal.scanning(err()) as watch:
        result = execute(
            card,
            vary,
            output=folder,
            method=method,  # type: ignore[arg-type]
            trials=trials,
            batch=batch,
            resume=resume,
            workers=workers or cores(),
            scheduler=scheduler,
            watch=watch,
            command=_command(),
        )
        if result.reused and style != "plain":
            write_scan_page(folder)
    if as_json:
        _print_json(result.report["rows"])
        return
    if result.reused:
        err().print(f"{folder} already holds this very scan; nothing was trained.", highlight=False, soft_wrap=True)
    out().print(terminal.scan_table(result.report))
    for line in scan_headline(result.report):
        out().print(line[:1].upper() + line[1:], highlight=False)
    out().print(f"Page: {folder / 'index.html'}", highlight=False, soft_wrap=True)


@app.command()
@guarded
def card(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="A file of events, or file.root:tree.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A new .yaml file [standard output].")] = None,
    tree: Annotated[str | None, typer.Option("--tree", help="Tree (ROOT) or group (HDF5).")] = None,
    format: Annotated[str | None, typer.Option("--format", help="parquet, root, hdf5 or csv [by suffix].")] = None,
    header: Annotated[bool, typer.Option("--header/--no-header", help="CSV: whether the first line has names.")] = True,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of cards, for editors.")] = False,
    debug: Debug = False,
) -> None:
    """Write a starter card from the columns of a file."""
    from hepkan.studies import starter_card as starter

    if schema:
        _print_json(starter.schema())
        return
    if file is None:
        raise UsageError("A starter card needs a file of events: hepkan card FILE.")
    if format not in (None, *starter.FORMATS):
        raise unknown("format", str(format), starter.FORMATS)
    text = starter.starter_card(file, tree, format, header)  # type: ignore[arg-type]
    if output is None:
        typer.echo(text, nl=False)
        return
    starter.write_starter_card(text, output)
    out().print(f"Wrote {output}; check its guesses, then: hepkan run {output}", highlight=False, soft_wrap=True)


@app.command()
@guarded
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files of events, or file.root:tree.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .root, .parquet, .h5 or .csv file.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score events, each by the model that never saw it, and write a friend tree or table in their order."""
    from hepkan import terminal
    from hepkan.studies.predict import predict as score

    with terminal.scoring(err()) as progress:
        counters = score(run, files, output, progress=progress)
    if as_json:
        _print_json(vars(counters))
        return
    for line in terminal.scored_lines(counters):
        out().print(line, highlight=False, soft_wrap=True)
    out().print(f"Wrote {output}.", highlight=False, soft_wrap=True)


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
    style: Style = "plain",
    debug: Debug = False,
) -> None:
    """Write the self-contained HTML page of runs and scans again."""
    from hepkan.report.html import write_page
    from hepkan.report.scan_page import write_scan_page
    from hepkan.report.style import drawn_as
    from hepkan.studies.compare import read_report

    with drawn_as(style):
        for folder in runs:
            write = write_scan_page if "trials" in read_report(folder) else write_page
            out().print(f"Page: {write(folder)}", highlight=False, soft_wrap=True)


@app.command()
@guarded
def prune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder with a KAN.")],
    inputs: Annotated[int | None, typer.Option("--inputs", min=1, help="At most so many features.")] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", min=1, help="At most so many hidden nodes.")] = None,
    edges: Annotated[int | None, typer.Option("--edges", min=1, help="At most so many edges.")] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", min=0.0, help="The validation loss may grow by this much.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=0, help="Training after each stage.")] = 2,
    candidates: Annotated[int, typer.Option("--candidates", min=1, help="Parts tried one by one at each step.")] = 1,
    edits: Annotated[Path | None, typer.Option("--edits", help="Edges removed in the explorer; nothing else.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to write [RUN/pruned].")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prune the KAN of a run: chosen on validation events, judged on test events. Without a size, at the knee."""
    from hepkan.studies.interpret_run import prune_run, summary_lines

    def show(stage: Any) -> None:
        size = f"{stage.inputs} inputs, {stage.nodes} hidden nodes, {stage.edges} edges"
        text = f"{size}: validation loss {stage.increase:+.4f} +- {stage.error:.4f}"
        err().print(text, highlight=False)

    wanted: dict[str, Any] = {"inputs": inputs, "nodes": nodes, "edges": edges, "tolerance": tolerance}
    by_hand: dict[str, Any] = {"edits": edits, "output": output}
    done = prune_run(run, **wanted, epochs=epochs, candidates=candidates, **by_hand, progress=show)
    if as_json:
        _print_json(done.report)
        return
    for line in summary_lines(done.report):
        out().print(line, highlight=False)
    out().print(f"Diagram: {done.folder / 'diagram.svg'}", highlight=False, soft_wrap=True)


@app.command()
@guarded
def symbolic(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder with a KAN, pruned if possible.")],
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Part of the network's gain that the formula may lose.")
    ] = 0.01,
    events: Annotated[int, typer.Option("--events", min=100, help="Training events used.")] = 4000,
    edits: Annotated[
        Path | None, typer.Option("--edits", help="Edits made in the explorer, instead of a search.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to write [RUN/symbolic].")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn the KAN of a run into a formula: fitted to training events, judged on test events."""
    from hepkan.studies.symbolic_run import summary_lines, symbolic_run

    done = symbolic_run(run, tolerance=tolerance, events=events, edits=edits, output=output)
    if as_json:
        _print_json(done.report)
        return
    for line in summary_lines(done.report):
        out().print(line, highlight=False, markup=False, soft_wrap=True)
    made = "formula.json" if edits else "front.svg"
    out().print(f"{'Formula' if edits else 'Front'}: {done.folder / made}", highlight=False, soft_wrap=True)


@app.command()
@guarded
def explore(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder with a KAN.")],
    export_to: Annotated[
        Path | None, typer.Option("--export", help="Write the self-contained page here and open nothing.")
    ] = None,
    pruned: Annotated[bool, typer.Option("--pruned", help="The network of hepkan prune.")] = False,
    events: Annotated[int, typer.Option("--events", min=100, help="Test events embedded at most.")] = 5000,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the page in a browser.")] = False,
    debug: Debug = False,
) -> None:
    """Look into the KAN of a run: an interactive page, written as RUN/explore.html and opened."""
    import webbrowser

    from hepkan.report.explorer import write_explorer

    page = write_explorer(run, export_to, pruned=pruned, events=events)
    out().print(f"Page: {page}", highlight=False, soft_wrap=True)
    if export_to is None and not no_open and not webbrowser.open(page.resolve().as_uri()):
        err().print("There is no browser here; open the page yourself.", highlight=False)


@app.command()
@guarded
def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, RUN/pruned, a member, or a .hepkan model file.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file; its ending says what unless --to does.")],
    to: Annotated[str | None, typer.Option("--to", help="onnx, cpp, torch (TorchScript) or formula.")] = None,
    formula_style: Annotated[
        str | None, typer.Option("--formula-style", help="root, define, latex, numpy, sympy or cpp [by the ending].")
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", min=0, help="The model that never saw this fold, instead of the run's.")
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="Outputs before the sigmoid or softmax.")] = False,
    fidelity: Annotated[
        float | None, typer.Option("--fidelity", help="How well a formula must follow its network, at most 1 [0.9].")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the model or formula of a run for other software; only a file that agrees with the network is written."""
    from hepkan import terminal
    from hepkan.studies.export_run import export_run

    wanted: dict[str, Any] = {"to": to, "style": formula_style, "fold": fold, "fidelity": fidelity}
    report = export_run(run, output, **wanted, link=not logits)
    if as_json:
        _print_json(report)
        return
    for line in terminal.exported_lines(report):
        out().print(line, highlight=False, markup=False, soft_wrap=True)


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
