"""Time hepkan's networks against their peers, side by side in one run.

First the gate: values and gradients of the kernels against the float64 reference. When it is red nothing is timed. Then
all peers of a case take turns, round after round; what counts are medians of the ratios within rounds. See README.md.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gate import gate
from peers_page import page
from players import OURS, Builder, Case, Player, SkipError
from rivals import rivals
from summary import insert, speed_table
from targets import targets
from timing import Action, Turn, peak_rise, seconds_of, summary_of, take_turns
from variants import adaptive, finer_grids, second_thread

from hepkan.files import write_text
from hepkan.splines import cpu, ops

RESULTS = Path(__file__).parent / "results"
SHAPES = [
    ((43, 30, 30, 1), 5),
    ((43, 100, 100, 1), 5),
    ((24, 30, 30, 8), 5),
    ((24, 30, 30, 8), 20),
    ((24, 30, 30, 8), 50),
]
BATCHES = (256, 1024, 8192)
PACKAGES = ("hepkan", "torch", "numpy", "pykan", "jaxkan", "jax", "flax", "onnx", "onnxruntime")


def measure(
    case: Case, builders: Mapping[str, Builder], rounds: int, limit: float
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return a row per peer, and which peers were not timed and why."""
    players, first_calls, skipped = {}, {}, []
    for name, build in builders.items():
        torch.manual_seed(0)
        try:
            player = build(case)
            first_calls[name] = first_call(player, limit)
            players[name] = player
        except Exception as error:
            if name == OURS:
                raise
            reason = f"{error}" if isinstance(error, SkipError) else f"{type(error).__name__}: {error}"[:200]
            skipped.append({"case": case.name, "peer": name, "reason": reason})
    work: dict[tuple[str, str], Action] = {
        (name, kind): action for name, player in players.items() for kind, action in player.actions.items()
    }
    taken = take_turns(work, rounds)
    rows = [
        row(case, name, player, taken) | {"first_call_seconds": first_calls[name]} for name, player in players.items()
    ]
    return rows, skipped


def first_call(player: Player, limit: float) -> float:
    """Return the seconds of a peer's first step, with compilation where there is one.

    Raises:
        SkipError: the step itself takes longer than the limit.
    """
    action = next(iter(player.actions.values()))
    taken = seconds_of(action)
    again = seconds_of(action) if player.compiles else taken
    if again > limit:
        raise SkipError(f"one step took {again:.0f} s")
    return taken


def row(case: Case, name: str, player: Player, taken: Mapping[tuple[str, str], list[Turn]]) -> dict[str, Any]:
    """Return medians of a peer and of its ratios to ours, and its memory."""
    numbers: dict[str, Any] = {"case": case.name, "peer": name, "parameters": player.parameters}
    for kind in player.actions:
        numbers |= summary_of(kind, taken[name, kind], taken[OURS, kind])
    saved = player.saved_bytes()
    numbers["saved_bytes_per_event"] = None if saved is None else saved / case.batch
    numbers["peak_bytes"] = peak_of(player)
    return numbers


def peak_of(player: Player) -> int | None:
    """Return the bytes that a training step needs at its peak."""
    if "train" not in player.actions:
        return None
    return player.peak_bytes() if player.peak_bytes is not None else peak_rise(player.actions["train"])


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """Return date, machine, versions and settings."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "machine": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": options.threads,
        "rounds": options.rounds,
        "instruction_set": cpu.instruction_set(),
        "backend_auto": ops.chosen(),
        "versions": {"python": platform.python_version()} | versions() | commit(options.efficient_kan),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(checkout: Path | None) -> dict[str, str]:
    """Return the commit of efficient-kan, which has no releases."""
    if checkout is None or not (checkout / ".git").exists():
        return {}
    command = ["git", "-C", f"{checkout}", "rev-parse", "--short", "HEAD"]
    return {"efficient-kan": subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}


def processor() -> str:
    """Return the processor's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--efficient-kan", type=Path, help="a checkout of github.com/Blealtan/efficient-kan")
    parser.add_argument("--peers", nargs="+", help="only these, by the names in the report; ours is always there")
    parser.add_argument("--adaptive", action="store_true", help="also our own network with other degrees and knots")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--step-limit", type=float, default=20.0, help="seconds; slower peers are skipped")
    parser.add_argument("--output", type=Path, help="path without suffix (default: results/peers)")
    return parser.parse_args()


def run(options: argparse.Namespace, progress: Path) -> dict[str, Any]:
    """Return the whole report; what is there so far lies in a file."""
    builders, missing = rivals(options)
    report: dict[str, Any] = {
        "environment": environment(options),
        "not_run": [{"peer": name, "reason": reason} for name, reason in missing.items()],
        "skipped": [],
        "rows": [],
        "finer_grids": [],
        "adaptive": [],
        "second_thread": [],
    }
    for (widths, grid), batch in ((shape, batch) for shape in SHAPES for batch in options.batches):
        case = Case(widths=widths, grid=grid, batch=batch)
        start = time.perf_counter()
        rows, skipped = measure(case, builders, options.rounds, options.step_limit)
        report["rows"] += rows
        report["skipped"] += skipped
        write_text(progress, json.dumps(report, indent=1) + "\n")
        print(f"{case.name}: {time.perf_counter() - start:.0f} s", flush=True)
    report["finer_grids"] = finer_grids(options.rounds)
    if options.adaptive:
        report["adaptive"] = [line for batch in options.batches for line in adaptive(options.rounds, batch)]
    report["second_thread"] = second_thread(SHAPES, options.rounds)
    report["targets"] = targets(report) if options.threads == 1 else []
    return report


def thread_settings(threads: int) -> dict[str, str]:
    """Return what OpenMP and XLA have to know before they are loaded.

    Threads that wait sleep. Otherwise they burn CPU time between calls, and where another program needs the core a step
    takes many times longer.
    """
    several = str(threads > 1).lower()
    return {
        "OMP_WAIT_POLICY": "passive",
        "JAX_PLATFORMS": "cpu",
        "NPROC": f"{threads}",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={several} intra_op_parallelism_threads={threads}",
    }


def main() -> int:
    """Check, time and write the report."""
    options = parse()
    settings = thread_settings(options.threads)
    if not settings.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **settings})
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    reason = cpu.reason_unusable()
    failures = [reason] if reason else gate(rivals(options)[0])
    if failures:
        print("The correctness gate is red, nothing is timed:", *failures, sep="\n  ")
        return 1
    default = RESULTS / ("peers" if options.threads == 1 else f"peers_{options.threads}_threads")
    output = options.output or default
    progress = output.with_suffix(".part.json")
    report = run(options, progress)
    write_text(output.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    write_text(output.with_suffix(".md"), page(report))
    progress.unlink()
    if options.output is None and options.threads == 1:
        insert(speed_table(report), "speed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
