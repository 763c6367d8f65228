"""What this machine offers: versions, devices, usable kernels, installed extras."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Mapping
from typing import Any

import hepkan

PACKAGES = ("numpy", "scipy", "torch", "scikit-learn", "lightgbm", "pyarrow", "uproot", "matplotlib")
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "generate": {"pythia8mc": "pythia8mc", "fastjet": "fastjet", "pylhe": "pylhe"},
    "rivals": {"pykan": "kan", "pandas": "pandas", "tqdm": "tqdm"},
    "gpu": {"triton": "triton"},
    "hdf5": {"h5py": "h5py"},
    "export": {"onnx": "onnx", "onnxruntime": "onnxruntime"},
    "scan": {"optuna": "optuna"},
    "dask": {"distributed": "distributed", "dask-jobqueue": "dask_jobqueue"},
}


def versions() -> dict[str, str]:
    """Return the versions of hepkan, Python and the packages that decide numbers."""
    found = {"hepkan": hepkan.__version__, "python": platform.python_version()}
    return found | {name: _version(name) for name in PACKAGES}


def kernels() -> dict[str, str]:
    """Return, for each spline kernel, an empty text when it is usable, else the reason why it is not."""
    from hepkan.splines import ops

    return {name: reason or "" for name, reason in ops.available().items()}


def devices() -> list[str]:
    """Return the accelerators that PyTorch sees; the CPU is always there."""
    import torch

    cuda = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return ["cpu", *cuda] + (["mps"] if torch.backends.mps.is_available() else [])


def extras() -> dict[str, str]:
    """Return, for each extra, an empty text when it is complete, else what is missing and the pip line."""
    report = {}
    for extra, modules in EXTRAS.items():
        missing = [name for name, module in modules.items() if importlib.util.find_spec(module) is None]
        report[extra] = f"lacks {', '.join(missing)}: pip install 'hepkan[{extra}]'" if missing else ""
    return report


def cpu() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = (line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
            name = next(names, name)
    except OSError:
        pass  # not Linux
    return f"{name}, {cores()} cores"


def cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Return everything above as JSON-able data."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu": cpu(),
        "devices": devices(),
        "kernels": kernels(),
        "extras": extras(),
    }


def _version(package: str) -> str:
    """Return an installed package's version, or say that it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
