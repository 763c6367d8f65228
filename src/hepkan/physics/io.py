"""Sample files: one row per selected event with its metadata, as Parquet or ROOT.

Parquet is the same byte for byte whenever the content is the same, and has checksums. ROOT, which has none,
holds the tree `Events` and the metadata as the string `hepkan`; columns of strings become integer codes
`<name>_index` there, with their names in the metadata, and come back as strings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hepkan.data import Table
from hepkan.data.reading import readable
from hepkan.errors import DataError, UsageError, unknown
from hepkan.files import atomic_file
from hepkan.physics.cms import read_cms_single_top
from hepkan.physics.lhe import HardEvents, read_lhe
from hepkan.physics.observables import OBSERVABLES, Observable

__all__ = [
    "HardEvents",
    "Sample",
    "read_cms_single_top",
    "read_lhe",
    "read_sample",
    "sample_table",
    "write_sample",
]

Columns = dict[str, NDArray[Any]]

KEY = "hepkan"
TREE = "Events"
STRINGS = "string_columns"  # in the metadata of a ROOT file: column -> its values, in the order of the codes


@dataclass(frozen=True, eq=False)
class Sample:
    """Columns of shape (n,) and the JSON-able metadata of a sample file; GeV, radians, weights in pb."""

    columns: Columns
    metadata: dict[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def write_sample(path: str | Path, columns: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write a sample to `path`, atomically; the suffix `.parquet` or `.root` decides the format.

    Arguments:
        path: the file; missing folders are made.
        columns: numbers, booleans or strings of shape (n,), n >= 1.
        metadata: anything JSON can hold.

    Raises:
        UsageError: another suffix, no columns, or columns of different shapes.
        OSError: the file cannot be written.
    """
    target = Path(path)
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    shapes = {name: values.shape for name, values in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise UsageError(f"The columns of a sample must all have one shape (n,), however: {shapes}.")
    write = {".parquet": _write_parquet, ".root": _write_root}[_suffix(target)]
    with atomic_file(target) as temporary:
        write(temporary, arrays, metadata)


def read_sample(path: str | Path, columns: Iterable[str] | None = None) -> Sample:
    """Read a sample, all columns or those named, in the order of the file.

    A Parquet or ROOT file of other origin has empty metadata.

    Raises:
        UsageError: another suffix, or a column that the file does not have.
        DataError: the file is missing, truncated, damaged or of another format.
    """
    source = Path(path)
    read = {".parquet": _read_parquet, ".root": _read_root}[_suffix(source)]
    wanted = None if columns is None else set(columns)
    with readable(source, "Parquet" if source.suffix == ".parquet" else "ROOT"):
        content, metadata = read(source, wanted)
    lengths = {len(values) for values in content.values()}
    if len(lengths) > 1:
        raise DataError(
            f"All columns of a sample need the same length, however {source} has {sorted(lengths)}."
        )
    return Sample(content, metadata)


def sample_table(
    sample: Sample,
    features: Sequence[str] | None = None,
    *,
    target: str | Sequence[str] = "label",
    classes: Sequence[str] = (),
    weight: str | None = "weight",
    extra: Sequence[str] = ("process",),
    observables: Mapping[str, Observable] = OBSERVABLES,
) -> Table:
    """Return a sample as a table.

    Arguments:
        sample: what `read_sample` gave.
        features: columns to use as inputs, all `observables` by default; their units and labels come along.
        target: a column of class labels, or several columns of regression targets.
        classes: names of the labels.
        weight: column of weights, None for unit weights.
        extra: columns to carry along, those that exist.
        observables: what is known of columns, the 43 observables by default.

    Raises:
        UsageError: a column is missing.
        DataError: see `Table`.
    """
    names = tuple(observables) if features is None else tuple(features)
    targets = (target,) if isinstance(target, str) else tuple(target)
    needed = [*names, *targets, *([] if weight is None else [weight])]
    for name in needed:
        if name not in sample.columns:
            raise unknown("column", name, sample.columns)
    columns = sample.columns
    with np.errstate(over="ignore"):
        X = np.column_stack([columns[name].astype(np.float32) for name in names])
    known = [observables.get(name) for name in names]
    return Table(
        X=X,
        y=columns[target] if isinstance(target, str) else np.column_stack([columns[one] for one in targets]),
        weight=None if weight is None else columns[weight],  # type: ignore[arg-type]
        id=columns.get("id"),  # type: ignore[arg-type]
        group=columns.get("group"),  # type: ignore[arg-type]
        names=names,
        units=tuple(one.unit if one else "" for one in known),
        labels=tuple(one.label if one else name for one, name in zip(known, names, strict=True)),
        target_names=targets,
        classes=tuple(classes),
        extra={name: columns[name] for name in extra if name in columns},
    )


def _suffix(path: Path) -> str:
    """Format of a path, which its suffix must name."""
    if path.suffix not in (".parquet", ".root"):
        raise UsageError(f"A sample file must end in .parquet or .root, however it is {path.name!r}.")
    return path.suffix


def _write_parquet(path: Path, columns: Columns, metadata: Mapping[str, Any]) -> None:
    """Parquet with zstd and checksums; floats are split by byte, which compresses better."""
    text = json.dumps(metadata, sort_keys=True)
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    split = {name: "BYTE_STREAM_SPLIT" for name, values in columns.items() if values.dtype.kind == "f"}
    pq.write_table(
        table.replace_schema_metadata({KEY: text}),
        path,
        compression="zstd",
        use_dictionary=[name for name, values in columns.items() if values.dtype.kind in "UO"],
        column_encoding=split or None,
        write_page_checksum=True,
    )


def _read_parquet(path: Path, wanted: set[str] | None) -> tuple[Columns, dict[str, Any]]:
    """Columns and metadata of a Parquet file."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        schema = file.schema_arrow
        names = _choose(schema.names, wanted)
        table = file.read(columns=names)
    text = (schema.metadata or {}).get(KEY.encode(), b"{}")
    columns = {name: table.column(name).to_numpy() for name in names}
    return {name: _plain(values) for name, values in columns.items()}, json.loads(text)


def _write_root(path: Path, columns: Columns, metadata: Mapping[str, Any]) -> None:
    """Tree `Events`; strings as codes."""
    import uproot

    content, strings = {}, {}
    for name, values in columns.items():
        if values.dtype.kind in "UO":
            unique, codes = np.unique(values.astype(str), return_inverse=True)
            strings[name] = unique.tolist()
            content[f"{name}_index"] = codes.astype(np.int32)
        else:
            content[name] = values
    text = json.dumps({**metadata, STRINGS: strings}, sort_keys=True)
    with uproot.recreate(path) as file:
        file[KEY] = text
        file.mktree(TREE, {name: values.dtype for name, values in content.items()})
        file[TREE].extend(content)


def _read_root(path: Path, wanted: set[str] | None) -> tuple[Columns, dict[str, Any]]:
    """Columns and metadata of a ROOT file."""
    import uproot

    with uproot.open(path) as file:
        tree = file[TREE]
        metadata = json.loads(str(file[KEY])) if KEY in file else {}
        strings = metadata.pop(STRINGS, {})
        codes = {f"{name}_index": name for name in strings}
        branches = {codes.get(branch, branch): branch for branch in list(tree.keys())}
        names = _choose(list(branches), wanted)
        arrays = tree.arrays([branches[name] for name in names], library="np")
    columns = {}
    for name in names:
        values = arrays[branches[name]]
        columns[name] = _plain(np.asarray(strings[name])[values] if name in strings else values)
    return columns, metadata


def _choose(present: Sequence[str], wanted: set[str] | None) -> list[str]:
    """Columns to read, in the order of the file."""
    for name in sorted(wanted or ()):
        if name not in present:
            raise unknown("column", name, present)
    return [name for name in present if wanted is None or name in wanted]


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Objects (strings) as a fixed-width string array, numbers writable and in native byte order."""
    if values.dtype.kind == "O":
        return values.astype(str)
    return np.array(values, dtype=values.dtype.newbyteorder("="))
