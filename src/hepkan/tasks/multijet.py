"""The multijet task: prompt leptons (label 1) against non-prompt leptons of QCD jets (label 0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hepkan.errors import DataError, unknown

if TYPE_CHECKING:
    from hepkan.data import Table
