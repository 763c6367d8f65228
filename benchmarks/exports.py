"""Events per second of exports on one thread, for KANs and an MLP 2x100: C++, onnxruntime, TorchScript and PyTorch.

First every export is compared with its network in float64; a network whose exports differ is not timed. All ways take
turns, round after round; the median over rounds counts.

    python benchmarks/exports.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from timing import take_turns

import hepkan
from hepkan.nn.networks import Network

RESULTS = Path(__file__).parent / "results"
FEATURES, BATCH = 43, 4096
FLAGS = ("-O3", "-march=native")
TOLERANCE = 1e-4
MODELS: dict[str, Callable[[], Network]] = {
    "KAN [43, 10, 1]": lambda: hepkan.KAN([FEATURES, 10, 1]),
    "KAN [43, 30, 30, 1]": lambda: hepkan.KAN([FEATURES, 30, 30, 1]),
    "KAN [43, 10, 1], standard map": lambda: hepkan.KAN([FEATURES, 10, 1], input_map="standard"),
    "MLP [43, 100, 100, 1]": lambda: hepkan.MLP([FEATURES, 100, 100, 1]),
    "MLP [43, 100, 100, 1], standard map": lambda: hepkan.MLP([FEATURES, 100, 100, 1], input_map="standard"),
}
WRAPPER = """
#include "m.hpp"
extern "C" void batch_float(const float* x, std::size_t n, float* y) { m::Network<float>()(x, n, y); }
extern "C" void batch_double(const double* x, std::size_t n, double* y) { m::Network<double>()(x, n, y); }
"""


def events(n: int, seed: int) -> np.ndarray:
    """Return events like those of the multijet task: energies with tails, angles, a charge."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, FEATURES))
    x[:, ::2] = 40.0 * np.exp(0.6 * x[:, ::2])
    x[:, 1] = generator.choice([-1.0, 1.0], size=n)
    return x.astype(np.float32)


def compiled(folder: Path) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Compile the header in a folder; returns its batch function and the seconds of compilation."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise SystemExit("benchmarks/exports.py needs a C++ compiler, however neither g++ nor c++ is found.")
    (folder / "m.cpp").write_text(WRAPPER)
    command = [compiler, "-std=c++17", *FLAGS, "-shared", "-fPIC", "-o", str(folder / "m.so"), str(folder / "m.cpp")]
    before = os.times()
    subprocess.run(command, check=True)
    after = os.times()
    library = ctypes.CDLL(str(folder / "m.so"))

    def evaluate(x: np.ndarray) -> np.ndarray:
        y = np.empty((len(x), 1), dtype=x.dtype)
        call = library.batch_float if x.dtype == np.float32 else library.batch_double
        call(ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(len(x)), ctypes.c_void_p(y.ctypes.data))
        return y

    return evaluate, after.children_user - before.children_user


def session_of(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return onnxruntime's function for a file, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"features": x})[0])


def script_of(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the TorchScript module in a file."""
    with warnings.catch_warnings():  # PyTorch announces the end of TorchScript
        warnings.simplefilter("ignore", DeprecationWarning)
        module: Callable[[torch.Tensor], torch.Tensor] = torch.jit.load(str(path)).eval()
    return module


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """Return one row for every way of evaluating a network."""
    model = MODELS[name]()
    model.fit_inputs(events(20_000, 0))
    x = events(BATCH, 1)
    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
        folder = Path(temporary)
        hepkan.export.onnx(model, folder / "m.onnx", x)
        hepkan.export.cpp(model, folder / "m.hpp", x)
        hepkan.export.torchscript(model, folder / "m.pt", x)
        header, seconds = compiled(folder)
        script = script_of(folder / "m.pt")
        runtime, double = session_of(folder / "m.onnx"), x.astype(np.float64)
        sizes = {"onnxruntime": (folder / "m.onnx").stat().st_size, "C++": (folder / "m.hpp").stat().st_size}
        ways: dict[str, Callable[[], np.ndarray]] = {
            "C++ float": lambda: header(x),
            "C++ double": lambda: header(double),
            "onnxruntime": lambda: runtime(x),
            "onnxruntime, one event": lambda: runtime(x[:1]),
            "TorchScript": lambda: script(torch.from_numpy(x)).numpy(),
            "PyTorch": lambda: model(torch.from_numpy(x)).numpy(),
        }
        exact = expected(model, x)
        gaps = {way: difference(call(), exact) for way, call in ways.items()}
        if max(gaps.values()) > TOLERANCE:
            raise SystemExit(f"{name}: exports must agree to {TOLERANCE:g}, however: {gaps}. Nothing was timed.")
        turns = take_turns({way: lambda call=call: void(call()) for way, call in ways.items()}, rounds)
    rows = []
    for way, taken in turns.items():
        n = 1 if way.endswith("one event") else BATCH
        kind = "C++" if way.startswith("C++") else "onnxruntime" if way.startswith("onnx") else None
        rows.append(
            {
                "model": name,
                "way": way,
                "microseconds_per_event": 1e6 * statistics.median(t.cpu for t in taken) / n,
                "events_per_second": n / statistics.median(t.cpu for t in taken),
                "difference": gaps[way],
                "file_bytes": sizes.get(kind or ""),
                "compile_seconds": seconds if kind == "C++" else None,
            }
        )
    return rows


def expected(model: Network, x: np.ndarray) -> np.ndarray:
    """Return the network's outputs in float64."""
    return np.asarray(copy.deepcopy(model).double()(torch.from_numpy(x).double()).numpy())


def difference(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest difference relative to the largest output."""
    return float(np.max(np.abs(found - exact[: len(found)])) / np.max(np.abs(exact)))


def void(_: object) -> None:
    """Drop a result."""


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table."""
    lines = ["| network | way | events/s | us per event | largest difference |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['way']} | {row['events_per_second']:,.0f} | "
            f"{row['microseconds_per_event']:.2f} | {row['difference']:.1e} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure all networks and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS / "exports")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in MODELS for row in measure(name, options.rounds)]
    versions = {"hepkan": hepkan.__version__, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    record = {"batch": BATCH, "flags": FLAGS, "machine": platform.processor() or platform.machine(), **versions}
    with open("/proc/cpuinfo") as file:
        record["cpu"] = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
    options.output.with_suffix(".json").write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n")
    text = (
        f"# Exports\n\nOne thread, batches of {BATCH} events ('one event': of one), CPU time, {record['cpu']}, header "
        f"compiled with `{' '.join(FLAGS)}`. The difference is to the network in float64, relative to its largest "
        f"output.\n\n{table(rows)}\n"
    )
    options.output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
