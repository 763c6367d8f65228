"""Files of events: the same columns from every format, in chunks, and damage in words."""

import gzip
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from hepkan.data.expressions import Expression
from hepkan.data.files import Place, length, open_events, places, read_chunks
from hepkan.errors import DataError, UsageError
from ntuple_cases import FORMATS, events, write

N = 250


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("size", [100, 10_000])
def test_every_format_gives_the_same_columns(tmp_path: Path, suffix: str, size: int) -> None:
    columns = events(N)
    file = open_events(Place(write(tmp_path / f"a.{suffix}", columns)))
    names = [name for name in columns if name in file.columns]
    assert set(columns) - set(names) <= {"process"}
    assert file.rows == N
    chunks = list(read_chunks(file, names, size))
    assert max(map(length, chunks)) <= size
    for name in names:
        np.testing.assert_array_equal(np.concatenate([chunk[name] for chunk in chunks]), columns[name])
    assert file.columns["event"] == "int"
    assert file.columns["pt"] == "float"


def test_jagged_columns_of_root_parquet_and_hdf5(tmp_path: Path) -> None:
    lists = ak.Array([[1.5, 2.5], [], [3.5], [4.5, 5.5, 6.5]])
    with uproot.recreate(tmp_path / "a.root") as file:
        file["Events"] = {"pt": lists, "met": np.arange(4.0)}
    pq.write_table(pa.table({"pt": pa.array(lists.to_list()), "met": np.arange(4.0)}), tmp_path / "a.parquet")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["met"] = np.arange(4.0)
        file.create_dataset("pt", (4,), dtype=h5py.vlen_dtype(np.float64))
        for i, values in enumerate(lists.to_list()):
            file["pt"][i] = values
    for suffix in ("root", "parquet", "h5"):
        opened = open_events(Place(tmp_path / f"a.{suffix}"))
        assert opened.columns["pt"] == "jagged"
        chunks = list(read_chunks(opened, ["pt", "met"], 3))
        assert [length(chunk) for chunk in chunks] == [3, 1]
        second = np.concatenate([Expression("pt[1] + met").number(chunk, length(chunk)) for chunk in chunks])
        np.testing.assert_allclose(second, [2.5, np.nan, np.nan, 8.5])


def test_csv_types_are_those_of_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{i},{i},{i}\n" for i in range(200_000))
    path.write_text(f"a,b,c\n{rows}1,2.5,x\n3,,\n", encoding="utf-8")
    file = open_events(Place(path))
    assert dict(file.columns) == {"a": "int", "b": "float", "c": "text"}
    last = list(read_chunks(file, ["b", "c"]))[-1]
    assert last["b"][-2] == 2.5
    assert np.isnan(last["b"][-1])
    assert last["c"].tolist()[-2:] == ["x", ""]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", " "])
def test_csv_delimiters_headers_and_compression(tmp_path: Path, delimiter: str) -> None:
    text = "\n".join(delimiter.join(row) for row in (["1", "2.5"], ["3", "4.5"])) + "\n"
    (tmp_path / "a.dat").write_text(text, encoding="utf-8")
    file = open_events(Place(tmp_path / "a.dat", format="csv", header=False))
    assert list(file.columns) == ["x0", "x1"]
    with gzip.open(tmp_path / "b.csv.gz", "wt", encoding="utf-8") as stream:
        stream.write(f"a{delimiter}b\n" + text)
    chunk = next(read_chunks(open_events(Place(tmp_path / "b.csv.gz")), ["a", "b"]))
    np.testing.assert_array_equal(chunk["b"], [2.5, 4.5])
    with pytest.raises(DataError, match="header: false"):
        open_events(Place(tmp_path / "a.dat", format="csv"))


def test_missing_entries_are_nan(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([1, None, 3]), "s": pa.array(["x", None, "z"])}), tmp_path / "a.parquet")
    chunk = next(read_chunks(open_events(Place(tmp_path / "a.parquet")), ["a", "s"]))
    np.testing.assert_array_equal(chunk["a"], [1, np.nan, 3])
    assert chunk["s"].tolist() == ["x", "", "z"]


def test_places(tmp_path: Path) -> None:
    for name in ("b_2.root", "b_1.root"):
        write(tmp_path / name, events(10))
    assert [place.path.name for place in places(str(tmp_path / "b_*.root:Events"))] == ["b_1.root", "b_2.root"]
    assert places(str(tmp_path / "b_1.root:Events"))[0].tree == "Events"
    assert places(str(tmp_path / "b_1.root"), tree="T")[0].tree == "T"
    for name in ("c_*.root", "c.root", "c.root:Events", ":", ""):
        with pytest.raises(DataError, match="A file of events is needed"):
            places(str(tmp_path / name) if name else name)


def test_trees_and_groups(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file["Events"] = {"x": np.arange(3.0)}
        file["Runs"] = {"run": np.arange(1)}
    with pytest.raises(DataError, match=r"several trees .*a.root:"):
        open_events(Place(tmp_path / "a.root"))
    with pytest.raises(UsageError, match="Did you mean 'Events'"):
        open_events(Place(tmp_path / "a.root", "Event"))
    assert open_events(Place(tmp_path / "a.root", "Runs")).rows == 1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one/x"], file["two/x"] = np.arange(3.0), np.arange(4.0)
        file["records"] = np.array([(1, 2.0)], dtype=[("i", "i4"), ("f", "f8")])
    with pytest.raises(DataError, match="several groups"):
        open_events(Place(tmp_path / "a.h5"))
    assert open_events(Place(tmp_path / "a.h5", "two")).rows == 4
    assert dict(open_events(Place(tmp_path / "a.h5", "records")).columns) == {"i": "int", "f": "float"}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "middle"])
def test_damaged_files_are_refused_in_words_or_read(tmp_path: Path, suffix: str, damage: str) -> None:
    columns = events(2000)
    path = write(tmp_path / f"a.{suffix}", columns)
    content = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    middle = content[: len(content) // 2] + noise[:300] + content[len(content) // 2 + 300 :]
    path.write_bytes({"cut": content[: len(content) // 3], "empty": b"", "noise": noise, "middle": middle}[damage])
    try:
        file = open_events(Place(path))
        rows = sum(map(length, read_chunks(file, [name for name in columns if name in file.columns])))
    except (DataError, UsageError) as error:
        assert str(path) in str(error) or "column" in str(error)
    else:
        assert damage == "middle"  # numbers of HDF5 have no checksum
        assert rows == 2000
        assert suffix == "h5"


def test_format_goes_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1", encoding="utf-8")
    with pytest.raises(UsageError, match="Name the format"):
        open_events(Place(tmp_path / "a.xyz"))
