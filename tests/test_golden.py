"""Generator and observables pinned: other seeds agree with the golden numbers of `validation/golden.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepkan.physics.generate import generate, recipe_of, row_counts
from hepkan.physics.io import read_sample
from hepkan.physics.observables import OBSERVABLES
from hepkan.tasks import embedded

GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_multijet.json").read_text(encoding="utf-8"))
PROCESSES = list(GOLDEN["processes"])
SIGMAS = 5.0
"""Hundreds of numbers are compared, so that three would fail by chance."""


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    return read_sample(embedded("multijet")).columns


def by_group(values: np.ndarray, group: np.ndarray) -> float:
    """Return the error of a sum over rows of which those of one group are not independent."""
    _, members = np.unique(group, return_inverse=True)
    return float(np.sqrt(np.sum(np.bincount(members, values) ** 2)))


def pulls(columns: dict[str, Any], process: str) -> dict[str, float]:
    """Return how far the yield, and the share below each golden quartile, is off in standard deviations."""
    rows = columns["process"] == process
    weight, group = columns["weight"][rows], columns["group"][rows]
    golden, total = GOLDEN["processes"][process], weight.sum()
    off = {"pb": (total - golden["pb"]) / np.hypot(by_group(weight, group), golden["error_pb"])}
    for name in OBSERVABLES:
        values = columns[name][rows]
        for level, quartile in zip(GOLDEN["levels"], golden["quartiles"][name], strict=True):
            # Discrete observables sit on their quartile; half of a tie counts as below.
            below = (values < np.float32(quartile)) + 0.5 * (values == np.float32(quartile))
            share = np.sum(weight * below) / total
            off[f"{name} {level}"] = 0.0
            if len(np.unique(values)) > 2:
                off[f"{name} {level}"] = (share - level) / (by_group(weight * (below - share), group) / total)
    return off


def assert_agree(columns: dict[str, Any], process: str) -> None:
    off = pulls(columns, process)
    worst = max(off, key=lambda name: abs(off[name]))
    assert abs(off[worst]) < SIGMAS, f"{process}: {worst} is off by {off[worst]:.1f} standard deviations"
    assert np.sqrt(np.mean(np.square(list(off.values())))) < 2.0


@pytest.mark.parametrize("process", PROCESSES)
def test_embedded_sample_agrees_with_the_full_one(shipped: dict[str, Any], process: str) -> None:
    assert_agree(shipped, process)


def test_embedded_sample_is_what_the_cards_of_today_give() -> None:
    recipe = read_sample(embedded("multijet"), ["label"]).metadata["recipe_hash"]
    assert recipe == recipe_of("multijet", row_counts("multijet", 20000), seed=1)["recipe_hash"]


def test_a_shift_would_be_seen(shipped: dict[str, Any]) -> None:
    shifted = {**shipped, "lep_pt": shipped["lep_pt"] * 1.05}
    with pytest.raises(AssertionError, match="lep_pt"):
        assert_agree(shifted, "single_top_tchannel")


@pytest.mark.slow
@pytest.mark.pythia
def test_fresh_events_agree_with_the_full_sample(tmp_path: Path) -> None:
    pytest.importorskip("pythia8mc", reason="needs the extra `generate`")
    rows = {"single_top_tchannel": 500, "ttbar": 250, "wjets": 100, "multijet": 150}
    path = generate("multijet", rows=rows, seed=11, output=tmp_path / "fresh.parquet", workers=2)
    columns = read_sample(path).columns
    for process in PROCESSES:
        assert_agree(columns, process)
