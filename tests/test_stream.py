"""Events streamed from Parquet: checked once, shuffled by a seed, trained on in bounded memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import hepkan
from hepkan.data import ParquetStream, Table
from hepkan.data.stream import PIECE
from hepkan.data.survey import survey
from hepkan.errors import DataError, UsageError
from hepkan.train.streaming import Streamed
from training_cases import events, interrupted, same_results, same_weights

N = 1000
FEATURES = ("pt", "eta")


def columns(n: int = N, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a sample ordered by its label, with some negative weights."""
    X, y = events(n, seed)
    order = np.argsort(y, kind="stable")
    weight = np.random.default_rng(seed).choice([-0.3, 1.0, 2.0], size=n, p=[0.1, 0.6, 0.3])
    return {"pt": X[order, 0], "eta": X[order, 1], "label": y[order], "weight": weight, "energy": 50 + 9 * X[order, 0]}


def write(path: Path, content: dict[str, Any], rows: int = 100) -> Path:
    pq.write_table(pa.table(content), path, row_group_size=rows)
    return path


def table(content: dict[str, np.ndarray]) -> Table:
    X = np.column_stack([content[name] for name in FEATURES])
    return Table(X, content["label"], content["weight"], names=FEATURES)


@pytest.fixture
def stream(tmp_path: Path) -> Callable[..., ParquetStream]:
    """Make a stream of two files, with these changes of columns and arguments."""

    def make(change: dict[str, Any] | None = None, **arguments: Any) -> ParquetStream:
        content = columns() | (change or {})
        halves = [{name: values[part] for name, values in content.items()} for part in (slice(300), slice(300, N))]
        files = [write(tmp_path / f"{i}.parquet", half) for i, half in enumerate(halves)]
        return ParquetStream(files, **{"features": FEATURES, **arguments})

    return make


def train(data: Any, **changes: Any) -> Any:
    settings = {"epochs": 6, "batch": 64, "learning_rate": 2e-2, **changes}
    return hepkan.fit(hepkan.KAN([2, 5, 1]), data, table(columns(300, 1)), **settings)


def test_a_stream_knows_its_events(stream: Any) -> None:
    one = stream()
    assert (len(one), one.classification, one.names) == (N, True, FEATURES)
    assert [rows for _, _, rows in one.groups] == [100] * 10
    read = list(one.pieces("keep"))
    content = columns()
    np.testing.assert_array_equal(np.concatenate([rows.X for rows in read]), table(content).X)
    np.testing.assert_array_equal(np.concatenate([rows.y for rows in read]), content["label"])
    np.testing.assert_array_equal(np.concatenate([rows.weight for rows in read]), content["weight"])
    reverse = np.concatenate([rows.X for rows in one.pieces("keep", range(9, -1, -1))])
    np.testing.assert_array_equal(reverse[:100], table(content).X[900:])
    assert not stream(target="energy").classification and not stream(target=["energy", "label"]).classification


def test_one_large_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    file = write(tmp_path / "large.parquet", columns(PIECE + 10), rows=10 * PIECE)
    assert [len(rows.X) for rows in ParquetStream(file, FEATURES).pieces()] == [PIECE, 10]


@pytest.mark.parametrize("policy", ["abs", "drop", "keep", "zero"])
def test_weights_are_those_of_a_table(policy: Any, stream: Any) -> None:
    found = survey(stream(), policy)
    kept, weight = table(columns()).for_training(policy)
    assert found.rows == len(kept)
    np.testing.assert_array_equal(found.sample.X, kept.X)
    np.testing.assert_allclose(found.sample.weight, weight, rtol=1e-12)
    source = Streamed(stream(), hepkan.KAN([2, 1]), "cross_entropy", policy)
    sums = [float(part.weight.sum()) for part in source.parts()]
    assert sum(sums) == pytest.approx(len(kept), rel=1e-5)


def test_the_sample_is_at_equal_steps(stream: Any) -> None:
    found = survey(stream(), "keep", 100)
    np.testing.assert_array_equal(found.sample.X, table(columns()).X[::10])
    assert found.digest == survey(stream(), "abs", 7).digest
    assert found.digest != survey(stream({"pt": columns()["pt"] + 1}), "keep", 100).digest


@pytest.mark.parametrize("buffer", [1, 150, 256, 10_000])
@pytest.mark.parametrize("size", [1, 64, 100, 250, 2000])
def test_every_event_comes_once_in_an_order_of_the_seed(buffer: int, size: int, stream: Any) -> None:
    number = np.arange(N, dtype=np.float32)
    model = hepkan.KAN([2, 1], input_map="none")
    source = Streamed(stream({"pt": number}, buffer=buffer), model, "cross_entropy", "abs")

    def order(seed: int) -> tuple[list[int], list[float]]:
        batches = list(source.batches(size, torch.Generator().manual_seed(seed)))
        return [len(batch) for batch in batches], torch.cat([batch.z[:, 0] for batch in batches]).tolist()

    sizes, rows = order(0)
    assert sizes == [size] * (N // size) + [N % size] * (N % size > 0)
    assert sorted(rows) == number.tolist() != rows
    assert order(0) == (sizes, rows) and order(1)[1] != rows
    labels = columns()["label"][np.asarray(rows, dtype=int)]
    if buffer == 10_000:
        assert abs(labels[: N // 2].mean() - labels.mean()) < 0.1


def test_a_buffer_that_holds_all_is_training_in_memory(stream: Any) -> None:
    """One layer has one optimum: the order of events hardly matters."""
    content = columns()
    noise = np.random.default_rng(2).normal(size=N)
    content["label"] = (content["pt"] + content["eta"] ** 2 + noise > 1).astype(int)
    found, expected = (
        hepkan.fit(hepkan.KAN([2, 1]), data, epochs=30, batch=100, learning_rate=2e-2, weight_decay=0.0)
        for data in (stream({"label": content["label"]}), table(content))
    )
    assert found.model.feature_names == list(FEATURES)
    for name in ("x_nodes", "z_nodes"):
        torch.testing.assert_close(getattr(found.model.input_map, name), getattr(expected.model.input_map, name))
    assert found.best_value == pytest.approx(expected.best_value, rel=0.01)
    X = table(content).X
    np.testing.assert_allclose(found.model.predict(X), expected.model.predict(X), atol=0.1)


def test_small_buffers_learn_too(stream: Any) -> None:
    assert train(stream(buffer=300), epochs=15).best_value < 0.3


@pytest.mark.parametrize("settings", [{}, {"optimizer": "lbfgs", "batch": N, "learning_rate": None}])
def test_validation_may_be_a_stream(settings: dict[str, Any], stream: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "validation.parquet", columns(300, 1), rows=7)
    results = [
        hepkan.fit(hepkan.KAN([2, 5, 1]), stream(), held_out, **{"epochs": 2, "batch": 64, **settings})
        for held_out in (ParquetStream(file, FEATURES), table(columns(300, 1)))
    ]
    assert results[0].best_value == pytest.approx(results[1].best_value, rel=1e-5)


def test_regression_is_balanced_by_nothing_and_standardised(stream: Any) -> None:
    model = hepkan.KAN([2, 4, 2])
    one = stream(target=["energy", "label"], weight=None)
    result = hepkan.fit(model, one, loss="mse", epochs=20, batch=64, learning_rate=2e-2)
    energy = columns()["energy"]
    np.testing.assert_allclose(model.output_map.mean[0], energy.mean(), rtol=1e-5)
    X = np.column_stack([columns()[name] for name in FEATURES])
    assert np.std(model.predict(X)[:, 0] - energy) < 0.3 * energy.std() and result.best_value < 0.5


def test_same_seed_same_bits(stream: Any) -> None:
    one, other, third = (train(stream(buffer=300), seed=seed) for seed in (0, 0, 1))
    assert same_results(one, other) and not same_weights(one.model, third.model)


@pytest.mark.parametrize("settings", [{}, {"grid_updates": 2, "average": 0.9}])
def test_killed_training_continues_to_the_identical_result(
    settings: dict[str, Any], stream: Any, tmp_path: Path
) -> None:
    def fit(**changes: Any) -> Any:
        return train(stream(buffer=300), **settings | changes)

    assert same_results(interrupted(fit, tmp_path / "training.ckpt", 1, 3), fit())


@pytest.mark.parametrize("change", [{"buffer": 301}, {"change": {"eta": columns()["eta"] + 1e-3}}])
def test_checkpoint_of_other_events_is_refused(change: dict[str, Any], stream: Any, tmp_path: Path) -> None:
    path = tmp_path / "training.ckpt"

    def stop(*_: Any) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train(stream(buffer=300), checkpoint=path, progress=stop)
    with pytest.raises(UsageError, match="other settings, data or initial weights"):
        train(stream(**{"buffer": 300, **change}), checkpoint=path)


def test_missing_values_of_any_type_are_counted(stream: Any) -> None:
    holes = [None, *columns()["pt"][1:].tolist()]
    with pytest.raises(DataError, match=r"Features must be finite.* pt \(1 of 1000 events\)"):
        train(stream({"pt": pa.array(holes)}))
    labels = [None, None, *columns()["label"][2:].tolist()]
    with pytest.raises(DataError, match=r"target \(label\) must be the integers 0, 1, \.\.\., however 2 of 1000"):
        train(stream({"label": pa.array(labels)}))


def spoiled(name: str, value: float, number: int = 3) -> dict[str, np.ndarray]:
    values = columns()[name].astype(type(value) if isinstance(value, int) else float)
    values[[1, 500, 999][:number]] = value
    return {name: values}


@pytest.mark.parametrize(
    ("change", "arguments", "text"),
    [
        (spoiled("eta", np.nan), {}, r"NaN, infinite or too large for float32: eta \(3 of 1000 events\)"),
        (spoiled("eta", 1e300), {}, r"eta \(3 of 1000 events\)"),
        (spoiled("weight", np.inf), {}, "Weights must be finite, however 3 of 1000"),
        (spoiled("label", -1), {}, r"target \(label\) must be the integers 0, 1, \.\.\., however 3 of 1000"),
        (spoiled("energy", np.nan), {"target": "energy"}, r"target \(energy\) must be finite, however 3 of 1000"),
        (spoiled("label", 3), {}, r"positive sum of weights, however that of class 2 is 0"),
        (spoiled("label", 2), {}, r"integers 0 to 1, however the stream has 3 classes"),
        (spoiled("label", 2), {"classes": ["a", "b"]}, "integers 0 to 1, however 2 occurs"),
        ({"label": np.zeros(N, int)}, {}, "that of class 1 is 0"),
        ({"weight": np.zeros(N)}, {}, "that of class 0 is 0"),
        ({"weight": np.zeros(N)}, {"target": "energy"}, "that of all events is 0"),
        ({"pt": np.array(["a"] * N)}, {}, "column 'pt' of .* must hold numbers, however its type is string"),
    ],
)
def test_unsuitable_rows_are_explained(
    change: dict[str, Any], arguments: dict[str, Any], text: str, stream: Any
) -> None:
    with pytest.raises(DataError, match=text):
        train(stream(change, **arguments), loss="mse" if "target" in arguments else "cross_entropy")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"features": ["pt", "eeta"]}, "Unknown column of .* 'eeta'. Did you mean 'eta'"),
        ({"target": "lable"}, "Did you mean 'label'"),
        ({"weight": "wight"}, "Did you mean 'weight'"),
        ({"features": []}, "given once each"),
        ({"features": ["pt", "pt"]}, "given once each"),
        ({"buffer": 0}, "buffer needs to be a whole number of at least 1, however: 0"),
        ({"features": ["pt"]}, "The model has 2 inputs, however the stream has 1 features"),
        ({"target": "energy"}, "needs one column of whole labels, however the target is energy"),
    ],
)
def test_wrong_requests_are_explained(arguments: dict[str, Any], text: str, stream: Any) -> None:
    with pytest.raises(UsageError, match=text):
        train(stream(**arguments))


def test_wrong_files_are_explained(tmp_path: Path, stream: Any) -> None:
    with pytest.raises(UsageError, match="at least one file"):
        ParquetStream([], FEATURES)
    with pytest.raises(DataError, match="does not exist"):
        ParquetStream(tmp_path / "none.parquet", FEATURES)
    with pytest.raises(DataError, match="have no rows"):
        ParquetStream(write(tmp_path / "e.parquet", {name: v[:0] for name, v in columns().items()}), FEATURES)
    one = stream()
    content = one.paths[0].read_bytes()
    one.paths[0].write_bytes(content[:-50])
    with pytest.raises(DataError, match="A complete Parquet file is needed"):
        ParquetStream(one.paths, FEATURES)
    one.paths[0].write_bytes(content[:100] + b"\0" * 500 + content[600:])
    with pytest.raises(DataError, match="A complete Parquet file is needed"):
        train(one)
    mixed = [write(tmp_path / f"m{i}.parquet", columns() | {"label": np.zeros(N, kind)}) for i, kind in enumerate("fi")]
    with pytest.raises(DataError, match="needs one type"):
        ParquetStream(mixed, FEATURES)
    with pytest.raises(UsageError, match="Unknown policy"):
        next(stream().pieces("absolute"))


MEMORY = """
import json, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, torch, hepkan
from hepkan.data import ParquetStream

def now(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

torch.set_num_threads(1)
names = [f"x{i}" for i in range(43)]

def write(path, n, rows):
    schema = pa.schema([(name, pa.float32()) for name in names] + [("label", pa.int64()), ("weight", pa.float64())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for first in range(0, n, rows):
            X = np.random.default_rng(first).standard_normal((min(rows, n - first), 43), dtype=np.float32)
            content = dict(zip(names, X.T)) | {"label": (X[:, 0] > 0).astype(int), "weight": np.ones(len(X))}
            writer.write_table(pa.table({name: np.ascontiguousarray(v) for name, v in content.items()}, schema))

def train(path, **options):
    hepkan.fit(hepkan.KAN([43, 30, 30, 1]), ParquetStream(path, names), epochs=1, batch=8192, **options)

folder = Path(sys.argv[1])
write(folder / "small.parquet", 20_000, 5_000)
train(folder / "small.parquet")
write(folder / "large.parquet", 2_000_000, 50_000)
before = now("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
train(folder / "large.parquet")
print(json.dumps({"file": (folder / "large.parquet").stat().st_size / 2**20, "rise": now("VmHWM") - before}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_two_million_events_are_trained_on_in_little_memory(tmp_path: Path) -> None:
    """MiB beyond what a small training needs."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(found)
    assert found["file"] > 340 and found["rise"] < 300
