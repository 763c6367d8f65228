"""Files of events behind one small interface: Parquet, ROOT trees (flat and jagged), HDF5 and CSV, read in chunks.

A flat column comes as a NumPy array `(n,)`, a jagged one as an awkward array, text as an array of strings. Missing
entries of Parquet and CSV are NaN.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from hepkan.data.reading import readable
from hepkan.errors import DataError, UsageError, require, unknown

CHUNK = 100_000
"""Events read at a time."""

Format = Literal["parquet", "root", "hdf5", "csv"]

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".root": "root",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".hdf": "hdf5",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".gz": "csv",
}

JAGGED, TEXT, OTHER = "jagged", "text", "other"
"""Kinds of columns besides those of numbers, which are `int`, `float` and `bool`."""


@dataclass(frozen=True)
class Place:
    """Where events are: a file, the tree or group within it, and how to read it.

    Attributes:
        path: the file.
        tree: tree of a ROOT file, group or data set of an HDF5 file; None where there is only one.
        format: None to go by the suffix.
        header: whether the first line of a CSV file has the names; without, they are `x0`, `x1`, ...
    """

    path: Path
    tree: str | None = None
    format: Format | None = None
    header: bool = True

    def __str__(self) -> str:
        return f"{self.path}:{self.tree}" if self.tree else str(self.path)


class EventFile(Protocol):
    """An open file of events.

    Attributes:
        place: where it is.
        columns: kind of every column by name: `int`, `float`, `bool`, `text`, `jagged`, `other`.
        rows: number of events.
    """

    @property
    def place(self) -> Place: ...
    @property
    def columns(self) -> Mapping[str, str]: ...
    @property
    def rows(self) -> int: ...

    def chunks(self, names: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
        """Read columns, at most `size` events at a time, every event once and in the order of the file."""
        ...


def places(name: str, tree: str | None = None, format: Format | None = None, header: bool = True) -> list[Place]:
    """Return the places that a text such as `sig_*.root:Events` means, sorted by name.

    Arguments:
        name: a path, with wildcards perhaps, and perhaps the tree after a colon.
        tree: where the text does not name one.
        format, header: see `Place`.

    Raises:
        DataError: no such file.
    """
    for path, inner in _readings(name):
        found = [path] if Path(path).is_file() else sorted(glob.glob(path)) if glob.has_magic(path) else []
        files = [Path(one) for one in found if Path(one).is_file()]
        if files:
            return [Place(one, inner or tree, format, header) for one in files]
    what = "matches no file" if glob.has_magic(name) else "does not exist or is no file"
    raise DataError(f"A file of events is needed, however {name} {what}. Check the path.")


def anchored(name: str, folder: Path) -> str:
    """Return the text with its path below `folder` where that names files and the text itself does not."""
    try:
        places(name)
    except DataError:
        try:
            places(str(folder / name))
        except DataError:
            return name
        return str(folder / name)
    return name


def _readings(name: str) -> Iterator[tuple[str, str | None]]:
    """Give the ways to read a text: as a path, or as path and tree."""
    yield name, None
    path, colon, tree = name.rpartition(":")
    if colon and path and tree:
        yield path, tree


def open_events(place: Place) -> EventFile:
    """Open a file of events; only its description is read.

    Raises:
        UsageError: unknown format, or a tree that is not in the file.
        DataError: the file is missing, truncated, damaged or of another format, or has no events' columns.
        MissingExtra: HDF5 and h5py is not installed.
    """
    from hepkan.data import formats

    kind = place.format or SUFFIXES.get(place.path.suffix.lower())
    if kind is None:
        raise UsageError(
            f"The format of a file goes by its suffix ({', '.join(SUFFIXES)}), however {place.path.name!r} has none of "
            f"them. Name the format ({', '.join(get_args(Format))})."
        )
    if kind == "hdf5":
        require("h5py", "hdf5", "Reading HDF5")
    with readable(place.path, kind):
        file: EventFile = formats.READERS[kind](place)
    if not file.columns:
        raise DataError(f"Columns are needed, however {place} has none.")
    return file


def read_chunks(file: EventFile, names: Sequence[str], size: int = CHUNK) -> Iterator[dict[str, Any]]:
    """Read columns of an open file in chunks, with damage in words.

    Raises:
        UsageError: a column is not in the file, or neither numbers nor text.
        DataError: the file is damaged or changes while it is read.
    """
    for name in names:
        if name not in file.columns:
            raise unknown(f"column of {file.place}", name, file.columns)
        if file.columns[name] == OTHER:
            raise UsageError(f"A column must hold numbers, lists of numbers or text, however {name!r} does not.")
    with readable(file.place.path, "complete"):
        chunks = iter(file.chunks(list(dict.fromkeys(names)), size))
    rows = 0
    while True:
        with readable(file.place.path, "event"):
            chunk = next(chunks, None)
        if chunk is None:
            break
        rows += length(chunk)
        yield chunk
    if rows != file.rows and names:
        raise DataError(f"{file.place} must have {file.rows} events, however {rows} can be read. Make it again.")


def length(chunk: Mapping[str, Any]) -> int:
    """Return the number of events of a chunk."""
    return len(next(iter(chunk.values()))) if chunk else 0


def as_text(values: Any) -> Any:
    """Return text as a fixed-width array; what is missing is empty."""
    array = np.asarray(values, dtype=object)
    if any(isinstance(one, bytes) for one in array[:1]):
        with suppress(UnicodeDecodeError):
            array = np.array([one.decode() if isinstance(one, bytes) else one for one in array], dtype=object)
    array[[one is None for one in array]] = ""
    return array.astype(str) if len(array) else np.zeros(0, dtype="U1")
