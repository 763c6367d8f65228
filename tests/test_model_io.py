"""Model files: what is saved comes back to the bit, what is damaged is explained, and nothing in a file is executed."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import hepkan
from hepkan import model_io
from hepkan.errors import DataError, UsageError
from hepkan.model_io import read_metadata
from hepkan.nn import Network

X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
MODELS: dict[str, Callable[[], Network]] = {
    "kan": lambda: hepkan.KAN([3, 4, 1], grid=4, degree=2, base="linear", grid_range=(-2.5, 2.5), seed=3),
    "no base": lambda: hepkan.KAN([3, 2], base="none", input_map="standard"),
    "refined": lambda: hepkan.refine(hepkan.KAN([3, 4, 1]), 10),
    "adaptive": lambda: hepkan.refine(hepkan.KAN([3, 4, 1]), 12, X),
    "mlp": lambda: hepkan.MLP([3, 8, 8, 2], activation="gelu", dropout=0.2, input_map="none"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model file, alone in its folder."""
    hepkan.save(hepkan.KAN([3, 2, 1]), tmp_path / "m.hepkan", {"note": "old"})
    return tmp_path / "m.hepkan"


def rewrite(path: Path, tensors: dict[str, torch.Tensor] | None = None, **metadata: Any) -> None:
    """Change some tensors or entries of the metadata of a model file."""
    content = json.dumps(read_metadata(path) | metadata)
    save_file(load_file(path) | (tensors or {}), path, {"hepkan": content})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("link", ["identity", "sigmoid", "softmax"])
def test_round_trip(name: str, dtype: torch.dtype, link: str, tmp_path: Path) -> None:
    model = MODELS[name]().to(dtype)
    model.fit_inputs(X)
    model.link, model.feature_names = link, ["pt", "η", "mass / GeV"]
    hepkan.save(model, tmp_path / "new folder" / "m.hepkan", {"seed": 3, "names": ["a"]})
    again = hepkan.load(tmp_path / "new folder" / "m.hepkan")
    assert type(again) is type(model) and not again.training
    assert (again.link, again.feature_names, again.describe()) == (link, model.feature_names, model.describe())
    state = again.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert {value.dtype for value in state.values()} == {dtype}
    x = torch.from_numpy(X).to(dtype)
    assert np.array_equal(again.predict(x), model.predict(x))
    metadata = read_metadata(tmp_path / "new folder" / "m.hepkan")
    assert metadata["extra"] == {"seed": 3, "names": ["a"]} and metadata["version"] == hepkan.__version__


def test_a_loaded_model_trains_on(path: Path) -> None:
    model = hepkan.load(path)
    before = model.predict(X)
    hepkan.fit(model, (X, X[:, 0] > 0), epochs=1)
    assert not np.array_equal(model.predict(X), before)


def test_a_trained_model_keeps_its_predictions_and_names(path: Path) -> None:
    table = hepkan.Table(X, (X[:, 0] > 0).astype(int), names=("pt", "eta", "mass"))
    model = hepkan.fit(hepkan.KAN([3, 2, 1]), table, epochs=2).model
    hepkan.save(model, path)
    again = hepkan.load(path)
    assert again.link == "sigmoid" and again.feature_names == ["pt", "eta", "mass"]
    assert np.array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (lambda good: b"", "cannot be read"),
        (lambda good: good[:4], "cannot be read"),
        (lambda good: good[:200], "cannot be read"),
        (lambda good: good[:-1], "cannot be read"),
        (lambda good: b"epoch,train_loss\n1,0.5\n", "cannot be read"),
        (lambda good: pickle.dumps({"weights": [1.0]}), "cannot be read"),
        (None, "There is no model file"),
    ],
    ids=["empty", "length", "header", "last byte", "text", "pickle", "missing"],
)
def test_incomplete_file_is_explained(content: Callable[[bytes], bytes] | None, text: str, path: Path) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content(path.read_bytes()))
    for read in (hepkan.load, read_metadata):
        with pytest.raises(DataError, match=f"(?s){text}") as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"format": 99, "version": "9.9"}, DataError, "format 99.*reads up to 1.*hepkan 9.9; upgrade"),
        ({"class": "KANN"}, UsageError, "Did you mean 'KAN'"),
        ({"arguments": {"width": [3, 1]}}, DataError, "must be complete"),
        ({"arguments": {"widths": [3]}}, DataError, "must be complete"),
        ({"arguments": {"widths": [3, 1], "base": "silly"}}, DataError, "Did you mean 'silu'"),
        ({"arguments": {"widths": [3, 1]}}, DataError, "must have the tensors"),
        ({"arguments": {"widths": [3, 7, 1]}}, DataError, "must have floating numbers of the shape"),
        ({"link": "logit"}, DataError, "the link is 'logit'"),
        ({"format": "one"}, DataError, "model format one"),
    ],
)
def test_wrong_description_is_explained(changes: dict[str, Any], error: type[Exception], text: str, path: Path) -> None:
    rewrite(path, **changes)
    with pytest.raises(error, match=text):
        hepkan.load(path)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (None, "not a hepkan model"),
        ({"format": "pt"}, "not a hepkan model"),
        ({"hepkan": "{half"}, "must be JSON"),
        ({"hepkan": "{}"}, "model format None"),
        ({"hepkan": "[1]"}, "model format None"),
        ({"hepkan": '{"format": 1}'}, "lacks class, arguments, link"),
    ],
)
def test_foreign_file_is_explained(metadata: dict[str, str] | None, text: str, path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(DataError, match=text):
        hepkan.load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"layers.2.coef": torch.zeros(1)},
        {"layers.0.unknown": torch.zeros(3)},
        {"layers.0.coef": torch.zeros(7)},
        {"layers.0.coef": torch.zeros(3, 9, 2)},
        {"layers.1.coef": torch.zeros(4, 8, 1)},
        {"layers.1.bias": torch.zeros(7)},
        {"output_map.mean": torch.zeros(7)},
        {"layers.1.bias": torch.zeros(1, dtype=torch.int32)},
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors: dict[str, torch.Tensor], path: Path) -> None:
    rewrite(path, tensors)
    with pytest.raises(DataError):
        hepkan.load(path)


def test_missing_tensors_are_refused(path: Path) -> None:
    metadata, tensors = read_metadata(path), load_file(path)
    del tensors["layers.0.coef"]
    save_file(tensors, path, {"hepkan": json.dumps(metadata)})
    with pytest.raises(DataError, match="must have the tensors of a KAN"):
        hepkan.load(path)


@pytest.mark.parametrize("failure", ["half a file", "no JSON"])
def test_failing_save_leaves_the_old_file_alone(failure: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(tensors: Any, name: Path, metadata: Any) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    old, extra = path.read_bytes(), {}
    if failure == "half a file":
        monkeypatch.setattr(model_io, "save_file", full_disk)
    else:
        extra = {"not JSON": object()}
    with pytest.raises((OSError, TypeError)):
        hepkan.save(hepkan.MLP([3, 1]), path, extra)
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]


def test_save_replaces_the_old_file_and_leaves_nothing_else(path: Path) -> None:
    hepkan.save(hepkan.MLP([3, 1]), path)
    assert isinstance(hepkan.load(path), hepkan.MLP) and read_metadata(path)["extra"] == {}
    assert list(path.parent.iterdir()) == [path]


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("write", [lambda bomb, file: pickle.dump(bomb, file), torch.save], ids=["pickle", "torch"])
def test_loading_executes_no_code(write: Callable[[Any, Any], None], path: Path) -> None:
    mark = path.with_name("executed")
    with path.open("wb") as file:
        write(Bomb(mark), file)
    with pytest.raises(DataError, match="complete safetensors file"):
        hepkan.load(path)
    assert not mark.exists()
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())  # noqa: S301
    assert mark.exists(), "the bomb itself does not work, so this test shows nothing"
