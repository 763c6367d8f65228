"""One class per format of `hepkan.data.files`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hepkan.data.files import JAGGED, OTHER, TEXT, EventFile, Format, Place, as_text
from hepkan.errors import DataError, unknown


@dataclass(frozen=True)
class ParquetEvents:
    """A Parquet file."""

    place: Place
    columns: Mapping[str, str]
    rows: int

    @classmethod
    def open(cls, place: Place) -> ParquetEvents:
        """Read the schema."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(place.path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            return cls(place, {one.name: _arrow_kind(one.type) for one in schema}, file.metadata.num_rows)

    def chunks(self, names: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
        """Read batches of rows."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.place.path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(size, columns=list(names)):
                yield {name: _arrow_values(batch, name, self.columns[name]) for name in names}


@dataclass(frozen=True)
class CSVEvents:
    """A text file with commas, tabs, semicolons or blanks between the values, perhaps compressed.

    The types are those that fit all rows: whole numbers, numbers, or text.
    """

    place: Place
    names: tuple[str, ...]
    delimiter: str

    @classmethod
    def open(cls, place: Place) -> CSVEvents:
        """Read the first line."""
        import pyarrow as pa

        with pa.input_stream(str(place.path), compression="detect") as stream:
            first = stream.read(1 << 16).split(b"\n")[0].decode("utf-8-sig").rstrip("\r")
        if not first.strip():
            raise DataError(f"A first line with the names of the columns is needed, however {place.path} has none.")
        counts = {one: first.count(one) for one in ",\t; "}
        delimiter = max(counts, key=lambda one: counts[one]) if any(counts.values()) else ","
        fields = [one.strip().strip('"') for one in first.split(delimiter)]
        if place.header:
            numbers = [one for one in fields if re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", one)]
            if len(numbers) > 1 and len(numbers) > len(fields) // 2:
                raise DataError(
                    f"The first line of {place.path} must name the columns, however it holds numbers. Say `header: "
                    "false`; the columns are x0, x1, ... then."
                )
            twice = sorted({one for one in fields if fields.count(one) > 1})
            if twice:
                raise DataError(f"Names of columns must differ, however in {place.path} {twice[0]!r} occurs twice.")
        file = cls(place, tuple(fields if place.header else [f"x{i}" for i in range(len(fields))]), delimiter)
        _ = file.rows  # reads all rows once, so that whatever is wrong with them shows here
        return file

    @cached_property
    def columns(self) -> Mapping[str, str]:
        """Kind of every column."""
        kinds = {"int64": "int", "double": "float", "bool": "bool"}
        return {name: kinds.get(kind, TEXT) for name, kind in self._surveyed[0].items()}

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return self._surveyed[1]

    @cached_property
    def _surveyed(self) -> tuple[dict[str, str], int]:
        """Arrow types that fit every row, and the number of rows; the file is read once, or again for each change."""
        import pyarrow as pa

        with self._open({}) as reader:
            types = {one.name: str(one.type) for one in reader.schema}
        plain = {"int64": "int64", "string": "string", "bool": "string"}
        types = {name: plain.get(kind, "double") for name, kind in types.items()}
        while True:
            try:
                with self._open(types) as reader:
                    return types, sum(batch.num_rows for batch in reader)
            except pa.ArrowInvalid as error:
                found = re.search(r"CSV column #(\d+):.*CSV conversion error to (int64|double)", str(error))
                if found is None:
                    raise
                types[self.names[int(found[1])]] = "double" if found[2] == "int64" else "string"

    def _open(self, types: Mapping[str, str], names: Sequence[str] | None = None) -> Any:
        """Return a reader of batches."""
        import pyarrow as pa
        from pyarrow import csv

        nulls = ["", "NaN", "nan", "NA", "N/A", "null", "NULL", "-nan", "None"]
        arrow = {"int64": pa.int64(), "double": pa.float64(), "string": pa.string()}
        convert = csv.ConvertOptions(
            column_types={name: arrow[kind] for name, kind in types.items()},
            null_values=nulls,
            strings_can_be_null=True,
            include_columns=list(names) if names else None,
            timestamp_parsers=["%Q"],
        )
        skip = 1 if self.place.header else 0
        options = csv.ReadOptions(column_names=list(self.names), skip_rows=skip, use_threads=False)
        parse = csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=False)
        return csv.open_csv(self.place.path, read_options=options, parse_options=parse, convert_options=convert)

    def chunks(self, names: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
        """Read blocks, cut to at most `size` rows."""
        types = {name: self._surveyed[0][name] for name in names}
        with self._open(types, names) as reader:
            for whole in reader:
                for start in range(0, whole.num_rows, size):
                    batch = whole.slice(start, size)
                    yield {name: _arrow_values(batch, name, self.columns[name]) for name in names}


@dataclass(frozen=True)
class ROOTEvents:
    """A tree of a ROOT file."""

    place: Place
    tree: str
    columns: Mapping[str, str]
    rows: int

    @classmethod
    def open(cls, place: Place) -> ROOTEvents:
        """Read the list of branches."""
        import uproot

        with uproot.open(place.path) as file:
            classes = file.classnames(recursive=True, cycle=False)
            words = ("TTree", "TNtuple", "RNTuple")
            trees = [name for name, kind in classes.items() if any(word in kind for word in words)]
            name = _only(place, "tree", trees)
            tree = file[name]
            columns = {str(one): _root_kind(str(tree[one].typename)) for one in tree.keys()}  # noqa: SIM118
            return cls(place, name, columns, int(tree.num_entries))

    def chunks(self, names: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
        """Read ranges of entries."""
        import uproot

        with uproot.open(self.place.path) as file:
            tree = file[self.tree]
            for start in range(0, self.rows, size):
                stop = min(start + size, self.rows)
                yield {name: self._column(tree[name], start, stop, self.columns[name]) for name in names}

    @staticmethod
    def _column(branch: Any, start: int, stop: int, kind: str) -> Any:
        """Return some entries of a branch."""
        import awkward as ak

        values = branch.array(entry_start=start, entry_stop=stop, library="ak")
        if kind == TEXT:
            return as_text(values.to_list())
        if kind == JAGGED:
            return ak.drop_none(ak.from_regular(values, axis=1)) if values.ndim > 1 else values
        array = ak.to_numpy(values)
        return array.astype(array.dtype.newbyteorder("="), copy=False)


@dataclass(frozen=True)
class HDF5Events:
    """Data sets of one length within a group, or a data set of records, of an HDF5 file."""

    place: Place
    group: str
    columns: Mapping[str, str]
    rows: int

    @classmethod
    def open(cls, place: Place) -> HDF5Events:
        """Look for records, and for groups with data sets of one length."""
        import h5py

        with h5py.File(place.path, "r") as file:
            group = _only(place, "group", _hdf5_groups(file))
            node = file[group]
            if isinstance(node, h5py.Dataset):
                kinds = {name: _numpy_kind(node.dtype[name]) for name in node.dtype.names}
                return cls(place, group, kinds, len(node))
            sets = {name: one for name, one in node.items() if isinstance(one, h5py.Dataset) and one.ndim >= 1}
            lengths = {len(one) for one in sets.values()}
            if len(lengths) != 1:
                raise DataError(f"Columns of events have one length, however those of {group} have {sorted(lengths)}.")
            kinds = {name: _numpy_kind(np.dtype((one.dtype, one.shape[1:]))) for name, one in sets.items()}
            return cls(place, group, kinds, lengths.pop())

    def chunks(self, names: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
        """Read ranges of rows."""
        import awkward as ak
        import h5py

        with h5py.File(self.place.path, "r") as file:
            node = file[self.group]
            for start in range(0, self.rows, size):
                rows = node[start : start + size] if isinstance(node, h5py.Dataset) else None
                chunk = {}
                for name in names:
                    values = rows[name] if rows is not None else node[name][start : start + size]
                    if self.columns[name] == JAGGED:
                        lists = values.dtype == object
                        values = ak.Array(list(values)) if lists else ak.from_regular(ak.from_numpy(values))
                    chunk[name] = as_text(values) if self.columns[name] == TEXT else values
                yield chunk


def _hdf5_groups(file: Any) -> list[str]:
    """Return every place in a file that has events: data sets of records, groups of data sets."""
    import h5py

    found: dict[str, None] = {}

    def visit(name: str, node: Any) -> None:
        if not isinstance(node, h5py.Dataset) or node.ndim < 1:
            return
        if node.dtype.names:
            found[name] = None
        else:
            found[name.rpartition("/")[0] or "/"] = None

    file.visititems(visit)
    return list(found)


def _only(place: Place, word: str, present: Sequence[str]) -> str:
    """Return the tree that a place names, or the only one."""
    if place.tree is not None:
        if place.tree not in present:
            raise unknown(f"{word} of {place.path}", place.tree, present)
        return place.tree
    if not present:
        raise DataError(f"A {word} with events is needed, however {place.path} has none.")
    if len(present) > 1:
        raise DataError(
            f"{place.path} has several {word}s ({', '.join(present)}); say which, as in {place.path.name}:{present[0]}."
        )
    return present[0]


def _arrow_kind(kind: Any) -> str:
    """Return the kind of a column of an Arrow schema."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _arrow_kind(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return JAGGED if _arrow_kind(kind.value_type) in ("int", "float", "bool") else OTHER
    tests = {"int": pa.types.is_integer, "float": pa.types.is_floating, "bool": pa.types.is_boolean}
    tests |= {TEXT: lambda one: pa.types.is_string(one) or pa.types.is_large_string(one)}
    tests["float "] = pa.types.is_decimal
    return next((name.strip() for name, test in tests.items() if test(kind)), OTHER)


def _arrow_values(batch: Any, name: str, kind: str) -> Any:
    """Return a column of a batch; missing numbers are NaN, missing text is empty."""
    import awkward as ak
    import pyarrow as pa

    column = batch.column(batch.schema.get_field_index(name))
    if kind == JAGGED:
        filled = ak.fill_none(ak.from_arrow(column), [], axis=0)
        return ak.from_regular(ak.fill_none(filled, np.nan, axis=1) if _has_options(filled) else filled, axis=1)
    if kind == TEXT:
        return as_text(column.to_pylist())
    if pa.types.is_decimal(column.type) or column.null_count:
        column = column.cast(pa.float64()).fill_null(float("nan"))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return ak.to_numpy(ak.from_arrow(column))  # pyarrow's own way imports pandas


def _has_options(values: Any) -> bool:
    """Return whether an inner value may be missing."""
    return "?" in str(values.type) or "option" in str(values.type)


def _root_kind(typename: str) -> str:
    """Return the kind of a branch by its type in C++."""
    plain = {"bool": "bool", "float": "float", "double": "float", "Float16_t": "float", "Double32_t": "float"}
    inner = re.sub(r"\[\d*\]$", "", typename)
    vector = re.fullmatch(r"(?:std::)?(?:vector|RVec|ROOT::VecOps::RVec)<(.+)>", inner)
    element = vector[1] if vector else inner
    number = plain.get(element)
    if number is None and re.fullmatch(r"(u?int(8|16|32|64)_t|(unsigned )?(int|short|long|char))", element):
        number = "int"
    if number is not None:
        return number if inner == typename and not vector else JAGGED
    return TEXT if typename in ("char*", "std::string", "string", "TString") else OTHER


def _numpy_kind(kind: np.dtype[Any]) -> str:
    """Return the kind of a NumPy type."""
    base = kind.subdtype[0] if kind.subdtype else kind
    if base.kind in "OSU":
        metadata: Mapping[str, Any] = base.metadata or {}
        inner = metadata.get("vlen")
        if inner is not None and inner not in (str, bytes):
            return JAGGED
        return OTHER if kind.subdtype else TEXT
    name = {"i": "int", "u": "int", "f": "float", "b": "bool"}.get(base.kind)
    if name is None:
        return OTHER
    return JAGGED if kind.subdtype else name


READERS: dict[Format, Callable[[Place], EventFile]] = {
    "parquet": ParquetEvents.open,
    "root": ROOTEvents.open,
    "hdf5": HDF5Events.open,
    "csv": CSVEvents.open,
}
"""What opens a file of each format."""
