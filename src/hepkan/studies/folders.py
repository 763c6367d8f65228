"""Output folders: usable before any work starts, safe from being mixed up, marked when complete."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hepkan.errors import DataError, UsageError
from hepkan.files import write_text

DONE = "DONE"


def check_writable(folder: Path) -> None:
    """Create `folder` and a file in it, so that an unwritable output fails before the work and not after.

    Raises:
        OSError: the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"The output folder {folder} cannot be written ({error.strerror or error}); choose another with -o."
        ) from error


def open_folder(folder: Path, identity: str, resume: bool) -> dict[str, Any] | None:
    """Prepare an output folder for the study `identity`; return its report when it is already complete.

    Raises:
        UsageError: the folder holds something else, another study, or an unfinished one without `resume`.
        OSError: the folder cannot be written.
    """
    marker = folder / "study.json"
    if folder.is_dir() and any(folder.iterdir()):
        if not marker.is_file():
            raise UsageError(f"{folder} exists and is not an output of hepkan; choose another folder with -o.")
        same = _read_marker(marker) == identity
        if same and (folder / DONE).is_file():
            return read_report(folder)
        if not resume:
            state = "holds a study with other settings" if not same else "holds an unfinished study"
            raise UsageError(
                f"{folder} {state}. Add --resume to continue in it (finished members with the same settings are "
                "reused), choose another folder with -o, or delete it."
            )
    check_writable(folder)
    (folder / DONE).unlink(missing_ok=True)
    write_text(marker, json.dumps({"identity": identity}))
    return None


def close_folder(folder: Path) -> None:
    """Mark a folder as complete, after removing what killed processes have left half-written in it."""
    for place in (folder, folder / "members"):
        for path in place.glob(".*.part*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    write_text(folder / DONE, "")


def read_report(folder: Path) -> dict[str, Any]:
    """Return the `report.json` of a complete run or scan.

    Raises:
        UsageError: the folder is not a run.
        DataError: the run is not complete or its report is not readable.
    """
    path = folder / "report.json"
    if not folder.is_dir():
        raise UsageError(f"A run folder is required, however {folder} does not exist.")
    if not (folder / DONE).is_file():
        if (folder / "study.json").is_file():
            raise DataError(f"The run in {folder} is not complete; finish it with the same command and --resume.")
        raise UsageError(f"A run folder is required, however {folder} is not one (it has no DONE).")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["rows"], list):
            raise TypeError("rows is not a list")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a readable report ({error}); run the study again.") from error
    return dict(content)


def _read_marker(path: Path) -> str:
    """Return the identity of the study in a folder; a damaged marker is nobody's."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["identity"])
    except (ValueError, KeyError, TypeError):
        return ""
