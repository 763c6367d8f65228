"""The multijet task: prompt leptons (label 1) against non-prompt leptons of QCD jets (label 0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hepkan.errors import DataError, UsageError, unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hepkan.data import Table


def read(
    path: Path,
    *,
    n: int | None = None,
    seed: int = 0,
    mix: Mapping[str, float] | None = None,
    features: Sequence[str] | None = None,
) -> Table:
    """Read a sample file as a table; see `Task.table` for the arguments."""
    return None
