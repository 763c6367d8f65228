"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hepkan.errors import UsageError
from hepkan.studies.folders import read_report

__all__ = ["compare", "read_report"]


def compare(runs: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return the result rows of all runs, each with the name of its run in the key `run`.

    Raises:
        UsageError: a folder is not a run, or is given twice.
        DataError: a run is incomplete.
    """
    folders = [Path(run) for run in runs]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError(f"Runs to compare must differ, however: {', '.join(map(str, folders))}.")
    names = run_names(folders)
    return [
        {**row, "run": name} for folder, name in zip(folders, names, strict=True) for row in read_report(folder)["rows"]
    ]


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each folder, or the whole path where the last parts agree."""
    short = [folder.resolve().name for folder in folders]
    return [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]
