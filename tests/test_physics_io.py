"""Samples survive the way to a file and back, and a damaged file is one sentence."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot

from hepkan.errors import DataError, UsageError
from hepkan.physics.event import OBJECT_COLUMNS
from hepkan.physics.io import Sample, read_lhe, read_sample, sample_table, write_sample
from hepkan.physics.observables import OBSERVABLES, compute

METADATA = {
    "task": "multijet",
    "seed": 3,
    "processes": {"ttbar": {"selected_pb": 1.5}},
    "text": "sqrt(s), |η|",
}

Columns = dict[str, np.ndarray]


def make(n: int = 500) -> Columns:
    """Return a small sample with every kind of column."""
    rng = np.random.default_rng(0)
    objects = {name: rng.uniform(20, 100, n) for name in OBJECT_COLUMNS}
    objects |= {name: rng.uniform(-2, 2, n) for name in objects if name.endswith(("eta", "phi"))}
    columns = {name: values.astype(np.float32) for name, values in compute(objects).items()}
    label = np.arange(n) % 2
    return {
        **columns,
        "lep_flavour": np.full(n, 13, dtype=np.int32),
        "weight": rng.exponential(1.0, n),
        "id": np.arange(n) + 2**40,
        "group": np.arange(n) // 2,
        "process": np.where(label == 1, "ttbar", "multijet"),
        "label": label,
        "matched": label == 1,
    }


@pytest.mark.parametrize("suffix", [".parquet", ".root"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    columns = make()
    path = tmp_path / "new" / f"sample{suffix}"
    write_sample(path, columns, METADATA)
    sample = read_sample(path)
    assert len(sample) == 500 and sample.metadata == METADATA
    assert list(sample.columns) == list(columns)
    for name, values in columns.items():
        assert np.array_equal(sample.columns[name], values), name
        assert sample.columns[name].dtype.kind == values.dtype.kind
        assert sample.columns[name].dtype.itemsize == values.dtype.itemsize
    sample.columns["weight"][0] = 0.0  # the arrays belong to the caller
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".parquet", ".root"])
def test_some_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sample{suffix}"
    write_sample(path, make(), METADATA)
    sample = read_sample(path, ["weight", "process", "lep_pt"])
    assert list(sample.columns) == ["lep_pt", "weight", "process"]
    with pytest.raises(UsageError, match="Did you mean 'lep_pt'"):
        read_sample(path, ["lep_pT"])


def test_parquet_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        write_sample(
            tmp_path / f"{name}.parquet",
            make(),
            METADATA if name == "a" else dict(reversed(METADATA.items())),
        )
        digests.add(hashlib.sha256((tmp_path / f"{name}.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_files_open_elsewhere(tmp_path: Path) -> None:
    columns = make()
    for suffix in (".parquet", ".root"):
        write_sample(tmp_path / f"s{suffix}", columns, METADATA)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table["process"].to_pylist() == columns["process"].tolist()
    assert b'"seed": 3' in table.schema.metadata[b"hepkan"]
    with uproot.open(tmp_path / "s.root") as file:
        assert file["Events"].classname.startswith("TTree")
        codes = file["Events/process_index"].array(library="np")
    assert codes.tolist() == (columns["label"] == 1).astype(int).tolist()


@pytest.mark.parametrize("suffix", [".parquet", ".root"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    good, bad = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    write_sample(good, make(5000), METADATA)
    content = good.read_bytes()
    with pytest.raises(DataError, match="does not exist"):
        read_sample(tmp_path / f"none{suffix}")
    for broken in (b"", b"not a sample", content[: len(content) // 2], content[:-200], content[200:]):
        bad.write_bytes(broken)
        with pytest.raises(DataError, match="bad") as caught:
            read_sample(bad)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".root"])
def test_flipped_bytes_are_noticed(tmp_path: Path, suffix: str) -> None:
    """Nothing but DataError is raised; Parquet, which has checksums, never returns wrong numbers."""
    path = tmp_path / f"flipped{suffix}"
    columns = make(200)
    write_sample(path, columns, METADATA)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    noticed = 0
    for position in rng.integers(0, len(content), 60):
        broken = bytearray(content)
        broken[position : position + 16] = rng.bytes(16)
        path.write_bytes(bytes(broken))
        try:
            got = read_sample(path).columns
        except DataError:
            noticed += 1
        else:
            right = all(np.array_equal(got[name], columns[name]) for name in columns if name in got)
            assert right or suffix == ".root"
    assert noticed > 20


def test_foreign_files_have_no_metadata(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"x": [1.0, 2.0]}), tmp_path / "x.parquet")
    sample = read_sample(tmp_path / "x.parquet")
    assert sample.metadata == {} and sample.columns["x"].tolist() == [1.0, 2.0]
    with uproot.recreate(tmp_path / "x.root") as file:
        file.mktree("Events", {"x": np.dtype("f8")}).extend({"x": np.array([1.0, 2.0])})
    assert read_sample(tmp_path / "x.root").columns["x"].tolist() == [1.0, 2.0]


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet or \.root"):
        write_sample(tmp_path / "a.csv", make(), {})
    with pytest.raises(UsageError, match=r"\.parquet or \.root"):
        read_sample(tmp_path / "a.csv")
    for columns in ({}, {"a": np.ones(2), "b": np.ones(3)}, {"a": np.ones((2, 2))}):
        with pytest.raises(UsageError, match="one shape"):
            write_sample(tmp_path / "a.parquet", columns, {})
    assert not list(tmp_path.iterdir())


def test_sample_as_table() -> None:
    sample = Sample(make(), METADATA)
    table = sample_table(sample, classes=("multijet", "prompt"))
    assert table.names == tuple(OBSERVABLES) and table.classes == ("multijet", "prompt")
    assert table.units[0] == "GeV" and table.labels[0] == OBSERVABLES["lep_pt"].label
    assert table.extra["process"].tolist() == sample.columns["process"].tolist()
    assert np.array_equal(table.group, sample.columns["group"])
    some = sample_table(sample, ["lep_flavour", "top_mass"], weight=None, extra=())
    assert (
        some.names == ("lep_flavour", "top_mass") and some.weight.tolist() == [1.0] * 500 and not some.extra
    )
    targets = sample_table(sample, ["lep_pt"], target=["nu_pz", "top_mass"])
    assert targets.target_names == ("nu_pz", "top_mass") and targets.y.shape == (500, 2)
    with pytest.raises(UsageError, match="Did you mean 'top_mass'"):
        sample_table(sample, ["topmass"])


LHE = """<LesHouchesEvents version="3.0">
<init>
2212 2212 6500.0 6500.0 0 0 247000 247000 -4 1
44.2 0.1 44.2 1
</init>
<event>
4 1 44.2 100.0 0.0078 0.118
2 -1 0 0 501 0 0.0 0.0 50.0 50.0 0.0 0.0 9.0
-2 -1 0 0 0 501 0.0 0.0 -50.0 50.0 0.0 0.0 9.0
13 1 1 2 0 0 30.0 40.0 0.0 50.0 0.0 0.0 9.0
-13 1 1 2 0 0 -30.0 -40.0 0.0 50.0 0.0 0.0 9.0
</event>
<event>
3 1 -44.2 100.0 0.0078 0.118
2 -1 0 0 501 0 0.0 0.0 50.0 50.0 0.0 0.0 9.0
-2 -1 0 0 0 501 0.0 0.0 -50.0 50.0 0.0 0.0 9.0
23 1 1 2 0 0 0.0 0.0 0.0 100.0 100.0 0.0 9.0
</event>
</LesHouchesEvents>
"""


@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_lhe(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pylhe")
    path = tmp_path / name
    path.write_bytes(gzip.compress(LHE.encode()) if name.endswith("gz") else LHE.encode())
    events = read_lhe(path)
    assert len(events) == 2 and events.offsets.tolist() == [0, 4, 7]
    assert events.weight.tolist() == [44.2, -44.2]
    assert events.pid.tolist() == [2, -2, 13, -13, 2, -2, 23]
    assert events.status.tolist() == [-1, -1, 1, 1, -1, -1, 1]
    assert events.mother.tolist() == [-1, -1, 0, 0, -1, -1, 4]
    assert events.p4[2].tolist() == [30.0, 40.0, 0.0, 50.0] and events.mass[6] == 100.0
    assert len(read_lhe(path, n=1)) == 1


def test_damaged_lhe(tmp_path: Path) -> None:
    pytest.importorskip("pylhe")
    path = tmp_path / "bad.lhe"
    for text in (LHE[: len(LHE) // 2], "", "no events", LHE.split("<event>")[0] + "</LesHouchesEvents>"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"bad\.lhe"):
            read_lhe(path)
    (tmp_path / "bad.lhe.gz").write_bytes(gzip.compress(LHE.encode())[:-30])
    with pytest.raises(DataError, match=r"bad\.lhe\.gz"):
        read_lhe(tmp_path / "bad.lhe.gz")
    with pytest.raises(DataError, match="does not exist"):
        read_lhe(tmp_path / "none.lhe")
