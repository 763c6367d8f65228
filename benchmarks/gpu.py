"""Time hepkan's Triton kernel on a CUDA device against its plain torch layers, multilayer perceptrons and pykan.

First the gate: values and gradients against the float64 reference, and the same bits twice. When it is red nothing is
timed. Then all networks of a case take turns, round after round, between CUDA events; what counts are medians, and
medians of the ratios within rounds. `--graph` times CUDA graphs of whole training steps too: small networks wait for
launches most of the time. `--gate-only` needs no GPU under Triton's interpreter (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import argparse
import datetime
import functools
import gc
import importlib.metadata
import importlib.util
import itertools
import json
import platform
import statistics
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from gate import differences, value_and_gradients
from players import Case
from rivals import mlp
from summary import table
from torch import Tensor, nn

from hepkan.files import write_text
from hepkan.nn import KAN
from hepkan.splines import triton_gpu
from hepkan.splines.basis import kan_layer_reference

OUTPUT = Path(__file__).parent / "results" / "gpu"
OURS = "hepkan triton"
SHAPES = [((43, 30, 30, 1), 5), ((43, 100, 100, 1), 5), *(((24, 30, 30, 8), grid) for grid in (5, 20, 50))]
BATCHES = (1024, 8192, 65536)
MILLISECONDS_PER_TURN = 50.0
PACKAGES = ("hepkan", "torch", "triton", "pykan")

GATE_EVENTS = 5000  # several parts
GATE_SHAPES = [(43, 30, 5), (100, 100, 5), (30, 1, 5), (24, 30, 50), (7, 100, 20), (3, 33, 1), (2, 3, 200)]
INTERPRETED_EVENTS = 40
INTERPRETED_SHAPES = [(5, 17, 5), (2, 3, 70), (3, 1, 1)]

Action = Callable[[], None]


def gate(device: str, events: int, shapes: Iterable[tuple[int, int, int]]) -> list[str]:
    """Return what is wrong with the kernel, nothing when all is well."""
    generator = torch.Generator().manual_seed(1)
    failures = []
    for degree, (inputs, outputs, grid) in itertools.product(triton_gpu.DEGREES, shapes):
        sizes = [(events, inputs), (inputs, grid + degree, outputs), (inputs, outputs), (events, outputs)]
        for kind, knots in knots_of(inputs, grid, degree, generator).items():
            x, *parameters = (torch.randn(size, generator=generator) for size in sizes)
            tensors = [t.to(device) for t in (x, knots, *parameters)]
            kernel = functools.partial(triton_gpu.kan_layer, degree=degree, base="silu")
            reference = functools.partial(kan_layer_reference, degree=degree, base="silu")
            first, again = (value_and_gradients(kernel, *tensors) for _ in range(2))
            exact = value_and_gradients(reference, *(t.double() for t in tensors))
            name = f"{inputs}->{outputs} G={grid} degree {degree} {kind} knots"
            failures += differences(name, first, exact)
            if not all(map(torch.equal, first, again)):
                failures.append(f"{name}: other bits the second time")
    return failures


def knots_of(inputs: int, grid: int, degree: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return even knots, even ones moved by random steps and ones that are random altogether."""
    count = grid + 2 * degree + 1
    even = ((torch.arange(count) - degree) * 2.0 / grid - 1.0).repeat(inputs, 1)
    jitter = torch.rand(inputs, count, generator=generator) - 0.5
    wild = torch.rand(inputs, count, generator=generator).mul(3).sub(1.5).sort(dim=1).values
    return {"even": even, "uneven": even + 1.6 / grid * jitter, "random": wild}


def hepkan(case: Case, backend: str) -> nn.Module:
    """Return our network on [-1, 1], without input map."""
    return KAN(case.widths, grid=case.grid, input_map="none", grid_range=(-1.0, 1.0), backend=backend)


def pykan(case: Case) -> nn.Module:
    """Return pykan in its fast mode: no symbolic branch, no stored activations."""
    from kan import KAN as PyKAN

    return PyKAN(width=list(case.widths), grid=case.grid, k=3, auto_save=False, device="cuda").speed()  # type: ignore[no-any-return]


def builders() -> dict[str, Callable[[Case], nn.Module]]:
    """Return what builds the networks that can run here, ours first."""
    found: dict[str, Callable[[Case], nn.Module]] = {
        OURS: lambda case: hepkan(case, "triton"),
        "hepkan torch": lambda case: hepkan(case, "torch"),
        "MLP 2x100": lambda case: mlp(case.widths, 100, 2),
        "MLP 3x500": lambda case: mlp(case.widths, 500, 3),
    }
    if importlib.util.find_spec("kan") is not None:
        found["pykan fast"] = pykan
    return found


def actions(model: nn.Module, case: Case) -> dict[str, Action]:
    """Return one training step, of mean squared error and Adam, and one evaluation."""
    x, target = (t.cuda() for t in case.data())
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, fused=True, capturable=True)

    def train() -> None:
        optimiser.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(x), target).backward()
        optimiser.step()

    def infer() -> None:
        with torch.no_grad():
            model(x)

    return {"train": train, "infer": infer}


def graph_of(action: Action) -> Action:
    """Return an action as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            action()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay


def milliseconds(action: Action, repeats: int) -> float:
    """Return the milliseconds of a call between CUDA events, the mean over some calls."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        action()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / repeats


def peak_bytes(action: Action) -> int:
    """Return how far the allocated memory rises in a call."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    action()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def measure(case: Case, rounds: int, graphs: bool) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return a row per network and way of launching, and which were not timed and why."""
    work: dict[tuple[str, str, str], Action] = {}
    facts: dict[str, dict[str, Any]] = {}
    skipped = []
    for name, build in builders().items():
        torch.manual_seed(0)
        try:
            model = build(case).cuda()
            found = actions(model, case)
            for action in found.values():
                milliseconds(action, 3)
            facts[name] = {"parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)}
            facts[name]["peak_bytes_per_event"] = peak_bytes(found["train"]) / case.batch
            work |= {(name, "eager", kind): action for kind, action in found.items()}
            if graphs:
                work |= {(name, "graph", kind): graph_of(action) for kind, action in found.items()}
        except Exception as error:
            if name == OURS:
                raise
            skipped.append({"case": case.name, "peer": name, "reason": f"{type(error).__name__}: {error}"[:200]})
    taken = take_turns(work, rounds)
    kept = dict.fromkeys((name, launch) for name, launch, _ in work)
    return [row(case, name, launch, facts[name], taken) for name, launch in kept], skipped


def take_turns(work: Mapping[tuple[str, str, str], Action], rounds: int) -> dict[tuple[str, str, str], list[float]]:
    """Return the milliseconds of every action, one number per round; each round starts with another action."""
    repeats = {key: max(1, round(MILLISECONDS_PER_TURN / milliseconds(action, 5))) for key, action in work.items()}
    keys = list(work)
    taken: dict[tuple[str, str, str], list[float]] = {key: [] for key in keys}
    for n in range(rounds):
        first = n % len(keys)
        for key in keys[first:] + keys[:first]:
            taken[key].append(milliseconds(work[key], repeats[key]))
    return taken


def row(
    case: Case, name: str, launch: str, facts: Mapping[str, Any], taken: Mapping[tuple[str, str, str], list[float]]
) -> dict[str, Any]:
    """Return medians of a network and of its ratios to ours, launched the same way."""
    numbers: dict[str, Any] = {"case": case.name, "peer": name, "launch": launch, **facts}
    for kind in ("train", "infer"):
        mine, theirs = taken[OURS, launch, kind], taken[name, launch, kind]
        ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
        numbers[f"{kind}_ms"] = statistics.median(theirs)
        numbers[f"{kind}_ratio"] = statistics.median(ratios)
        numbers[f"{kind}_ratio_range"] = [min(ratios), max(ratios)]
    return numbers


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """Return date, device, versions and settings."""
    installed = [name for name in PACKAGES if name in {d.name for d in importlib.metadata.distributions()}]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "rounds": options.rounds,
        "versions": {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in installed},
    }


def page(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    facts = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"# Networks on {facts['device']}, {facts['date'][:10]}",
        f"CUDA {facts['cuda']}, TF32 {'on' if facts['tf32'] else 'off'}, {facts['rounds']} interleaved rounds, time "
        f"between CUDA events; {versions}.",
        f"Ratios are time of the peer / time of `{OURS}` launched the same way (above 1: we are faster), median "
        "[least, most] over rounds. `peak` is how far the allocated memory rises in a training step, per event.",
    ]
    head = ["case", "peer", "launch", "train ms", "train ratio", "inference ms", "inference ratio", "peak B/event"]
    rows = []
    for r in report["rows"]:
        times = [
            text
            for kind in ("train", "infer")
            for low, high in [r[f"{kind}_ratio_range"]]
            for text in (f"{r[f'{kind}_ms']:.3f}", f"{r[f'{kind}_ratio']:.2f} [{low:.2f}, {high:.2f}]")
        ]
        rows.append([r["case"], r["peer"], r["launch"], *times, f"{r['peak_bytes_per_event']:.0f}"])
    lines.append(table(head, rows))
    if report["skipped"]:
        lines.append("\n".join(f"- {s['peer']} in {s['case']}: {s['reason']}" for s in report["skipped"]))
    return "\n\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--graph", action="store_true", help="also CUDA graphs of whole training steps")
    parser.add_argument("--gate-only", action="store_true", help="check and time nothing")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="path of the report without suffix")
    return parser.parse_args()


def main() -> int:
    """Check, time and write the report."""
    options = parse()
    warnings.filterwarnings("ignore")
    interpreted = options.gate_only and triton_gpu.interpreted()
    reason = None if interpreted else triton_gpu.reason_unusable()
    if reason is not None:
        print(f"This benchmark needs Triton and a CUDA device, however: {reason}.")
        return 1
    events, shapes = (INTERPRETED_EVENTS, INTERPRETED_SHAPES) if interpreted else (GATE_EVENTS, GATE_SHAPES)
    failures = gate("cpu" if interpreted else "cuda", events, shapes)
    if failures:
        print("The correctness gate is red, nothing is timed:", *failures, sep="\n  ")
        return 1
    if options.gate_only:
        print("The correctness gate is green.")
        return 0
    report: dict[str, Any] = {"environment": environment(options), "rows": [], "skipped": []}
    for (widths, grid), batch in itertools.product(SHAPES, options.batches):
        case = Case(widths=widths, grid=grid, batch=batch)
        rows, skipped = measure(case, options.rounds, options.graph)
        report["rows"] += rows
        report["skipped"] += skipped
        write_text(options.output.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
        write_text(options.output.with_suffix(".md"), page(report))
        print(case.name, flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
