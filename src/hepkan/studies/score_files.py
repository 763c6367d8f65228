"""Scores as files that lie beside the events: a friend tree of ROOT, Parquet, HDF5 or CSV, written in pieces.

The same columns give the same bytes, whenever and wherever they are written.
"""

from __future__ import annotations

import datetime
import importlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.data.files import SUFFIXES
from hepkan.errors import UsageError, require

Columns = Mapping[str, NDArray[Any]]
Write = Callable[[Columns], None]

TREE = "hepkan"
"""Name of the friend tree, and of the group of an HDF5 file."""


def writer(path: Path, template: Path) -> Callable[[Path, Mapping[str, Any]], AbstractContextManager[Write]]:
    """Return what opens a file for scores by the suffix of `path`.

    Raises:
        UsageError: no format has that suffix; `template`, the file with the events, is not changed in place.
        MissingExtra: HDF5 and h5py is not installed.
    """
    kind = None if path.suffix.lower() == ".gz" else SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"Scores are written to .root, .parquet, .h5 or .csv, however: {path.name!r}.")
    if path.exists() and template.exists() and path.samefile(template):
        raise UsageError(f"Scores need a file of their own, however -o is the file with the events: {path}.")
    if kind == "hdf5":
        require("h5py", "hdf5", "Writing HDF5")
    return {"root": _root, "parquet": _parquet, "hdf5": _hdf5, "csv": _csv}[kind]


@contextmanager
def _parquet(path: Path, metadata: Mapping[str, Any]) -> Iterator[Write]:
    """Write row groups, the metadata under the key `hepkan`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened: list[Any] = []

    def write(columns: Columns) -> None:
        table = pa.table(dict(columns)).replace_schema_metadata({"hepkan": json.dumps(metadata, sort_keys=True)})
        if not opened:
            opened.append(pq.ParquetWriter(path, table.schema, compression="zstd", write_page_checksum=True))
        opened[0].write_table(table)

    try:
        yield write
    finally:
        for one in opened:
            one.close()


@contextmanager
def _csv(path: Path, metadata: Mapping[str, Any]) -> Iterator[Write]:
    """Write rows below a line with the names; there is no place for metadata."""
    import pyarrow as pa
    from pyarrow import csv

    with path.open("wb") as file:
        started: list[bool] = []

        def write(columns: Columns) -> None:
            options = csv.WriteOptions(include_header=not started, quoting_style="needed")
            csv.write_csv(pa.table(dict(columns)), file, options)
            started.append(True)

        yield write


@contextmanager
def _hdf5(path: Path, metadata: Mapping[str, Any]) -> Iterator[Write]:
    """Write one data set per column into the group `hepkan`, the metadata as its attribute."""
    import h5py

    with h5py.File(path, "w", libver="v110") as file:
        group = file.create_group(TREE, track_order=True)
        group.attrs["hepkan"] = json.dumps(metadata, sort_keys=True)

        def write(columns: Columns) -> None:
            for name, values in columns.items():
                text = values.dtype.kind == "U"
                if name not in group:
                    kind = h5py.string_dtype() if text else values.dtype
                    group.create_dataset(name, (0,), maxshape=(None,), dtype=kind, chunks=(16384,), track_times=False)
                start = len(group[name])
                group[name].resize(start + len(values), axis=0)
                group[name][start:] = values.astype(object) if text else values

        yield write


@contextmanager
def _root(path: Path, metadata: Mapping[str, Any]) -> Iterator[Write]:
    """Write the tree `hepkan` and the metadata as the string `hepkan_metadata`; columns of text become whole numbers.

    A text is the number of its place in the list that the metadata hold under its name.
    """
    import uproot

    anonymous = path.open("w+b")  # uproot writes the name of a file into it, and ours is temporary
    with anonymous, _timeless(), uproot.recreate(anonymous, uuid_function=lambda: uuid.UUID(int=0)) as file:
        made: list[Any] = []
        texts: dict[str, dict[str, int]] = {}

        def write(columns: Columns) -> None:
            content = {}
            for name, values in columns.items():
                if values.dtype.kind == "U":
                    known = texts.setdefault(name, {})
                    values = np.array([known.setdefault(one, len(known)) for one in values.tolist()], dtype=np.int32)
                content[name] = values
            if not made:
                made.append(file.mktree(TREE, {name: values.dtype for name, values in content.items()}))
            made[0].extend(content)

        yield write
        words = {name: list(known) for name, known in texts.items()}
        file["hepkan_metadata"] = json.dumps({**metadata, "texts": words}, sort_keys=True)


@contextmanager
def _timeless() -> Iterator[None]:
    """Let uproot write one fixed time wherever it would write the present one."""
    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Fixed:
            return cls(2000, 1, 1)

    names = ("_cascade", "_cascadetree", "writable")
    modules: list[Any] = [importlib.import_module(f"uproot.writing.{name}") for name in names]
    before = [(module, module.datetime) for module in modules if hasattr(module, "datetime")]
    try:
        for module, _ in before:
            module.datetime = SimpleNamespace(datetime=Fixed)
        yield
    finally:
        for module, content in before:
            module.datetime = content
