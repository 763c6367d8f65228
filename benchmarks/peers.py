"""Time hepkan's networks against their peers, side by side in one run.

First the gate: values and all gradients of the kernels against the float64 reference. When it is red nothing is timed.
Then all peers of a case take turns, round after round, so that a busy machine hits them alike; what counts are medians
of the ratios within rounds. See README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from summary import insert, speed_table
from torch import Tensor, nn

from hepkan.nn import KAN
from hepkan.splines import cpu, ops
from hepkan.splines.basis import kan_layer_reference

OURS = "hepkan cpu"
OUTPUT = Path(__file__).parent / "results" / "peers"
SECONDS_PER_TURN = 0.08


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One network shape and batch size."""

    widths: tuple[int, ...]
    grid: int
    batch: int

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.widths))} G={self.grid} batch {self.batch}"


SHAPES = [
    ((43, 30, 30, 1), 5),
    ((43, 100, 100, 1), 5),
    ((24, 30, 30, 8), 5),
    ((24, 30, 30, 8), 20),
    ((24, 30, 30, 8), 50),
]
BATCHES = (256, 1024, 8192)


def mlp(case: Case, width: int, depth: int) -> nn.Module:
    sizes = [case.widths[0], *[width] * depth]
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], case.widths[-1]))


def hepkan(case: Case, backend: str) -> nn.Module:
    return KAN(case.widths, grid=case.grid, input_map="none", grid_range=(-1.0, 1.0), backend=backend)


def efficient_kan(case: Case) -> nn.Module:
    from efficient_kan import KAN as EfficientKAN

    return EfficientKAN(list(case.widths), grid_size=case.grid)


def pykan(case: Case) -> nn.Module | None:
    """pykan without symbolic branch and without stored activations, its fastest mode; minutes at the largest batch."""
    if case.batch > 1024:
        return None
    from kan import KAN as PyKAN

    model = PyKAN(width=list(case.widths), grid=case.grid, k=3, auto_save=False, symbolic_enabled=False)
    model.save_act = False
    return model


def peers(options: argparse.Namespace) -> dict[str, Callable[[Case], nn.Module | None]]:
    """Builders of the networks that can run here, ours first."""
    found: dict[str, Callable[[Case], nn.Module | None]] = {
        OURS: lambda case: hepkan(case, "cpu"),
        "hepkan torch": lambda case: hepkan(case, "torch"),
        "MLP 2x100": lambda case: mlp(case, 100, 2),
    }
    if options.mlp500:
        found["MLP 3x500"] = lambda case: mlp(case, 500, 3)
    if options.efficient_kan:
        sys.path.insert(0, str(options.efficient_kan / "src"))
        found["efficient-kan"] = efficient_kan
        if options.compile:
            found["efficient-kan compiled"] = lambda case: torch.compile(efficient_kan(case))
    if options.pykan:
        found["pykan fast"] = pykan
    return found


def gate() -> list[str]:
    """Names of the checks that fail: values and gradients of the cpu kernel, knots even and uneven, points anywhere."""
    failures = []
    generator = torch.Generator().manual_seed(1)
    for inputs, outputs, grid, degree in [
        (43, 30, 5, 3),
        (30, 1, 5, 3),
        (24, 30, 50, 3),
        (7, 100, 20, 2),
        (5, 8, 4, 5),
    ]:
        knots = torch.rand(inputs, grid + 2 * degree + 1, generator=generator).mul(3).sub(1.5).sort(dim=1).values
        x = torch.randn(500, inputs, generator=generator)
        coef = torch.randn(inputs, grid + degree, outputs, generator=generator)
        weight = torch.randn(inputs, outputs, generator=generator)
        dy = torch.randn(500, outputs, generator=generator)
        found = value_and_gradients(cpu.kan_layer, x, knots, coef, weight, dy, degree)
        doubles = [t.double() for t in (x, knots, coef, weight, dy)]
        exact = value_and_gradients(kan_layer_reference, *doubles, degree)
        for name, one, other in zip(("y", "dx", "dcoef", "dbase"), found, exact, strict=True):
            error = ((one.double() - other).abs().max() / other.abs().max()).item()
            if not error < 1e-5:
                failures.append(f"{inputs}->{outputs} G={grid} degree {degree}: {name} off by {error:.1e}")
    return failures


def value_and_gradients(
    layer: Callable[..., Tensor], x: Tensor, knots: Tensor, coef: Tensor, weight: Tensor, dy: Tensor, degree: int
) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in (x, coef, weight)]
    y = layer(leaves[0], knots, leaves[1], leaves[2], degree, "silu")
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def actions(model: nn.Module, x: Tensor, target: Tensor) -> dict[str, Callable[[], None]]:
    """One training step (mean squared error, Adam) and one evaluation."""
    optimiser = torch.optim.Adam(model.parameters())

    def train() -> None:
        optimiser.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(x), target).backward()
        optimiser.step()

    def infer() -> None:
        with torch.no_grad():
            model(x)

    return {"train": train, "infer": infer}


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes kept for backward, parameters and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = model(x)
    return sum(kept.values()) if result is not None else 0


def turn(action: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Seconds of CPU time per call, user and system."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(repeats):
        action()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime - before.ru_utime) / repeats, (after.ru_stime - before.ru_stime) / repeats


def measure(case: Case, builders: dict[str, Callable[[Case], nn.Module | None]], rounds: int) -> list[dict[str, Any]]:
    """One row per peer."""
    torch.manual_seed(0)
    x = torch.rand(case.batch, case.widths[0]) * 2 - 1
    target = torch.randn(case.batch, case.widths[-1])
    built = {name: build(case) for name, build in builders.items()}
    models = {name: model for name, model in built.items() if model is not None}
    work, repeats = {}, {}
    for name, model in models.items():
        for kind, action in actions(model, x, target).items():
            action()
            start = time.perf_counter()
            action()
            work[name, kind] = action
            repeats[name, kind] = max(1, round(SECONDS_PER_TURN / (time.perf_counter() - start)))
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in work}
    for _ in range(rounds):
        for key, action in work.items():
            taken[key].append(turn(action, repeats[key]))
    return [row(case, name, models[name], x, taken) for name in models]


def row(
    case: Case, name: str, model: nn.Module, x: Tensor, taken: dict[tuple[str, str], list[tuple[float, float]]]
) -> dict[str, Any]:
    """Medians of a peer and of its ratios to ours."""
    numbers: dict[str, Any] = {
        "case": case.name,
        "peer": name,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    for kind in ("train", "infer"):
        mine = [sum(times) for times in taken[OURS, kind]]
        theirs = [sum(times) for times in taken[name, kind]]
        ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
        numbers[f"{kind}_ms"] = 1e3 * statistics.median(theirs)
        numbers[f"{kind}_system_share"] = sum(t[1] for t in taken[name, kind]) / sum(theirs)
        numbers[f"{kind}_ratio"] = statistics.median(ratios)
        numbers[f"{kind}_ratio_range"] = [min(ratios), max(ratios)]
    compiled = "compiled" in name
    numbers["saved_bytes_per_event"] = None if compiled else saved_bytes(model, x) / case.batch
    return numbers


def environment(options: argparse.Namespace) -> dict[str, Any]:
    names = ("hepkan", "torch", "numpy", "pykan")
    model = [line.split(":")[1].strip() for line in cpu_information() if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "machine": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": options.threads,
        "rounds": options.rounds,
        "instruction_set": cpu.instruction_set(),
        "backend_auto": ops.chosen(),
        "versions": {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names},
    }


def cpu_information() -> Iterable[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def markdown(report: dict[str, Any]) -> str:
    """The report as a table; ratios above 1 are in our favour."""
    facts = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"# Peers, {facts['date'][:10]}, {facts['threads']} thread(s)",
        "",
        f"{facts['machine']}, {facts['cores']} cores, load {facts['load']:.1f} at the start, kernel "
        f"`{facts['instruction_set']}`, {facts['rounds']} interleaved rounds, CPU time; {versions}.",
        "",
        f"Ratios are time of the peer / time of `{OURS}` (above 1: we are faster), median [least, most] over rounds.",
        "`system` is the share of system time (page faults) in a training step.",
        "",
        "| case | peer | train ms | train ratio | system | inference ms | inference ratio | saved B/event |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in report["rows"]:
        ratios = [
            f"{r[k + '_ratio']:.2f} [{r[k + '_ratio_range'][0]:.2f}, {r[k + '_ratio_range'][1]:.2f}]"
            for k in ("train", "infer")
        ]
        saved = "" if r["saved_bytes_per_event"] is None else f"{r['saved_bytes_per_event']:.0f}"
        lines.append(
            f"| {r['case']} | {r['peer']} | {r['train_ms']:.2f} | {ratios[0]} | {r['train_system_share']:.0%} | "
            f"{r['infer_ms']:.3f} | {ratios[1]} | {saved} |"
        )
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--efficient-kan", type=Path, help="a checkout of github.com/Blealtan/efficient-kan")
    parser.add_argument("--compile", action="store_true", help="also efficient-kan under torch.compile")
    parser.add_argument("--pykan", action="store_true", help="also pykan")
    parser.add_argument("--mlp500", action="store_true", help="also an MLP 3x500")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args()


def main() -> int:
    options = parse()
    reason = cpu.reason_unusable()
    failures = [reason] if reason else gate()
    if failures:
        print("The correctness gate is red, nothing is timed:", *failures, sep="\n  ")
        return 1
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    report: dict[str, Any] = {"environment": environment(options), "rows": []}
    for (widths, grid), batch in ((shape, batch) for shape in SHAPES for batch in options.batches):
        report["rows"] += measure(Case(widths=widths, grid=grid, batch=batch), peers(options), options.rounds)
        options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        options.output.with_suffix(".md").write_text(markdown(report))
        print(report["rows"][-1]["case"], flush=True)
    if options.output == OUTPUT:
        insert(speed_table(report), "speed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
