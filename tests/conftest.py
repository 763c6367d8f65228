"""Fixtures: a small synthetic sample that looks like the multijet task's, without any physics in it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from numpy.typing import NDArray

SHIFTED = ("w_mt", "met_pt", "lep_ptrel", "ljet_eta", "top_mass")


def synthetic_columns(n: int = 1200, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return columns of a sample: three prompt processes and multijet, with some separation in five inputs."""
    from hepkan.studies.options import load_card

    generator = np.random.default_rng(seed)
    process = np.array(["single_top_tchannel", "ttbar", "wjets", "multijet"])
    process = process[generator.choice(4, size=n, p=[0.28, 0.12, 0.1, 0.5])]
    label = (process != "multijet").astype(np.int64)
    columns: dict[str, NDArray[Any]] = {}
    for name in load_card("multijet").feature_names:
        shift = 1.0 * label if name in SHIFTED else 0.0
        columns[name] = (50 + 20 * (generator.normal(size=n) + shift)).astype(np.float32)
    columns["lep_charge"] = generator.choice([-1.0, 1.0], size=n).astype(np.float32)
    columns["weight"] = generator.exponential(size=n) * np.where(label == 1, 0.01, 0.1)
    columns["id"] = np.arange(n, dtype=np.int64)
    columns["group"] = np.arange(n, dtype=np.int64) // np.where(label == 1, 1, 2)
    columns["process"] = process
    columns["label"] = label
    return columns


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample file of 1200 events."""
    from hepkan.physics.io import write_sample

    path = tmp_path_factory.mktemp("sample") / "multijet.parquet"
    write_sample(path, synthetic_columns(), {"task": "multijet", "seed": 0, "recipe_hash": "synthetic"})
    return path


@pytest.fixture(params=["generic", "avx2", "avx512"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with the CPU kernel of one instruction set; those above the processor's own are left out."""
    from hepkan.splines import library as library_of

    name = str(request.param)
    found = importlib.util.find_spec(f"hepkan.splines._kan_{name}")
    if found is None or library_of.NAMES.index(name) > library_of.load("generic").hepkan_instruction_set():
        pytest.skip(f"{name} is not built or this processor does not run it")
    chosen = library_of.load(name), name
    monkeypatch.setattr(library_of, "choose", lambda: chosen)
    return name
