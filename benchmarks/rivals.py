"""The networks that are timed: ours, the dense layer, other packages and multilayer perceptrons."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import shutil
import sys
from collections.abc import Sequence

import torch
from dense import dense_kan
from outside import jaxkan, onnxruntime_mlp
from players import OURS, Builder, Case, Player, SkipError, torch_player
from torch import nn

from hepkan.nn import KAN

PYKAN_BATCH = 1024  # the largest one for pykan's default mode
NEEDS = {
    "pykan default": ["kan"],
    "pykan fast": ["kan"],
    "efficient-kan": ["efficient_kan"],
    "jaxkan": ["jax", "flax", "optax", "jaxkan"],
    "onnxruntime MLP 2x100": ["onnx", "onnxruntime"],
}


def hepkan(case: Case, backend: str = "cpu") -> Player:
    """Return our network on [-1, 1], without input map."""
    model = KAN(case.widths, grid=case.grid, input_map="none", grid_range=(-1.0, 1.0), backend=backend)
    return torch_player(model, case)


def mlp(widths: Sequence[int], width: int, depth: int) -> nn.Sequential:
    """Return an MLP with ReLU between the given inputs and outputs."""
    sizes = [widths[0], *[width] * depth]
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], widths[-1]))


def compiled_dense(case: Case) -> Player:
    """Return the dense network under torch.compile, for this batch size only and without results of earlier runs."""
    torch._dynamo.reset()
    torch._inductor.config.force_disable_caches = True
    torch._inductor.config.compile_threads = 1
    model = torch.compile(dense_kan(case.widths, case.grid), dynamic=False)
    return dataclasses.replace(torch_player(model, case, compiles=True), saved_bytes=lambda: None)


def efficient_kan(case: Case) -> Player:
    """Return efficient-kan as it comes."""
    from efficient_kan import KAN as EfficientKAN

    return torch_player(EfficientKAN(list(case.widths), grid_size=case.grid), case)


def pykan(case: Case, fast: bool) -> Player:
    """Return pykan as it comes, or after `speed()`: no symbolic branch, no stored activations."""
    if not fast and case.batch > PYKAN_BATCH:
        raise SkipError(f"only run up to batch {PYKAN_BATCH}: it loops over all edges in Python")
    from kan import KAN as PyKAN

    model = PyKAN(width=list(case.widths), grid=case.grid, k=3, auto_save=False)
    return torch_player(model.speed() if fast else model, case)


def rivals(options: argparse.Namespace) -> tuple[dict[str, Builder], dict[str, str]]:
    """Return builders of the networks that can run here, ours first, and why the others cannot."""
    found: dict[str, Builder] = {
        OURS: hepkan,
        "hepkan torch": lambda case: hepkan(case, "torch"),
        "dense": lambda case: torch_player(dense_kan(case.widths, case.grid), case),
        "dense compiled": compiled_dense,
        "efficient-kan": efficient_kan,
        "pykan default": lambda case: pykan(case, fast=False),
        "pykan fast": lambda case: pykan(case, fast=True),
        "jaxkan": jaxkan,
        "MLP 2x100": lambda case: torch_player(mlp(case.widths, 100, 2), case),
        "MLP 3x500": lambda case: torch_player(mlp(case.widths, 500, 3), case),
        "onnxruntime MLP 2x100": lambda case: onnxruntime_mlp(mlp(case.widths, 100, 2), case, options.threads),
    }
    if options.efficient_kan:
        sys.path.insert(0, str(options.efficient_kan / "src"))
    missing = {name: reason for name in found if (reason := reason_missing(name, options)) is not None}
    return {name: build for name, build in found.items() if name not in missing}, missing


def reason_missing(name: str, options: argparse.Namespace) -> str | None:
    """Return why a network cannot run here, None when it can."""
    if options.peers is not None and name not in (OURS, *options.peers):
        return "not asked for"
    if name == "efficient-kan" and not options.efficient_kan:
        return "its checkout was not given with --efficient-kan"
    if name == "dense compiled" and shutil.which("g++") is None and shutil.which("clang++") is None:
        return "torch.compile needs a C++ compiler"
    absent = [module for module in NEEDS.get(name, []) if importlib.util.find_spec(module) is None]
    return f"not installed: {', '.join(absent)}" if absent else None
