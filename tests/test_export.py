"""Exports agree with the network, or write nothing."""

from __future__ import annotations

import json
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepkan
from export_cases import (
    COMPILER,
    FLAGS,
    Library,
    expected,
    gap,
    hostile_events,
    lively,
    models,
    raw_events,
    with_knots,
)
from hepkan import errors
from hepkan.errors import DataError, MissingExtra, UsageError
from hepkan.export import Export, cpp_header, evaluation, onnx_graph, pieces, traced, verification
from hepkan.nn.networks import Network

onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")

MODELS = models()
NAMES = list(MODELS)
ALLOWED = {"MatMul", "Gemm", "Add", "Mul", "Sub", "Div", "Relu", "Sigmoid", "Min", "Max", "Clip"}
BESIDES = {"softmax": "Softmax", "MLP gelu": "Erf"}
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[str, Network]:
    return request.param, MODELS[request.param]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """All headers, compiled with every warning an error."""
    folder = tmp_path_factory.mktemp("headers")
    headers = [folder / f"m{n}.hpp" for n in range(len(NAMES))]
    for header, model in zip(headers, MODELS.values(), strict=True):
        hepkan.export.cpp(model, header)
    return Library(headers, folder)


def run(path: Path, x: Any) -> np.ndarray:
    """Return what onnxruntime gives."""
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"features": x})
    return np.asarray(result)


def test_onnx_agrees_with_the_network(case: tuple[str, Network], tmp_path: Path) -> None:
    name, model = case
    path, features = tmp_path / "m.onnx", model.widths[0]
    done = hepkan.export.onnx(model, path, raw_events(200, features, seed=5))
    assert isinstance(done, Export)
    assert (done.path, done.events) == (path, 200 + verification.EVENTS)
    assert done.difference <= done.tolerance <= verification.LOOSEST
    x = hostile_events(1000, features)
    found, exact = run(path, x), expected(model, x, torch.float64)
    assert gap(found, exact) < max(2e-5, 20 * gap(expected(model, x, torch.float32), exact)), name
    assert run(path, x[:0]).shape == (0, model.widths[-1])
    assert gap(run(path, x[:1]), found[:1]) < 1e-3


def torchscript(path: Path) -> Any:
    """Return the module in a file, as coffea's `torch_wrapper` loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(path)).eval()


def test_torchscript_agrees_with_the_network(case: tuple[str, Network], tmp_path: Path) -> None:
    name, model = case
    path, features = tmp_path / "m.pt", model.widths[0]
    done = hepkan.export.torchscript(model, path, raw_events(200, features, seed=5))
    assert (done.path, done.events) == (path, 200 + verification.EVENTS)
    assert done.difference <= done.tolerance <= verification.LOOSEST
    x, module = hostile_events(1000, features), torchscript(path)
    with torch.no_grad():
        found, exact = module(torch.from_numpy(x)).numpy(), expected(model, x, torch.float64)
        assert gap(found, exact) < max(2e-5, 20 * gap(expected(model, x, torch.float32), exact)), name
        assert module(torch.from_numpy(x[:0])).shape == (0, model.widths[-1])
        assert gap(module(torch.from_numpy(x[:1])).numpy(), found[:1]) < 1e-3
        assert torch.equal(module(torch.from_numpy(x).double()).nan_to_num(), torch.from_numpy(found).nan_to_num())


def test_torchscript_names_its_features_and_moves_as_a_whole(tmp_path: Path) -> None:
    hepkan.export.torchscript(MODELS["sigmoid"], tmp_path / "m.pt")
    files = {"hepkan.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(tmp_path / "m.pt"), _extra_files=files)
    facts = json.loads(files["hepkan.json"])
    assert (facts["feature_names"], facts["link"]) == (MODELS["sigmoid"].feature_names, "sigmoid")
    assert {one.device.type for one in module.to("meta").buffers()} == {"meta"}


def test_onnx_has_basic_operators_only(case: tuple[str, Network], tmp_path: Path) -> None:
    name, model = case
    hepkan.export.onnx(model, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert {node.op_type for node in proto.graph.node} <= ALLOWED | {BESIDES.get(name, "Add")}
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17)]
    assert len(proto.graph.node) < 150
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "batch"


@needs_compiler
@pytest.mark.parametrize("name", NAMES)
def test_header_agrees_with_the_network(library: Library, name: str) -> None:
    model, number = MODELS[name], NAMES.index(name)
    x, outputs = hostile_events(500, model.widths[0]), model.widths[-1]
    exact, single = expected(model, x, torch.float64), expected(model, x, torch.float32)
    assert gap(library.batch(number, x, outputs, np.float64), exact) < 1e-12
    # In float no program is closer than rounding allows: PyTorch in float32 says how close that is.
    assert gap(library.batch(number, x, outputs, np.float32), exact) < max(1e-6, 3 * gap(single, exact))
    assert np.array_equal(library.one(number, x[0], outputs), library.batch(number, x[:1], outputs, np.float64)[0])
    assert library.batch(number, x[:0], outputs, np.float64).shape == (0, outputs)


@needs_compiler
def test_float_header_of_a_usual_network_is_exact_to_1e_6(tmp_path: Path) -> None:
    model = hepkan.KAN([8, 10, 10, 1])
    model.fit_inputs(raw_events(500, 8))
    hepkan.export.cpp(model, tmp_path / "usual.hpp")
    x = hostile_events(2000, 8)
    found, single = (
        Library([tmp_path / "usual.hpp"], tmp_path).batch(0, x, 1, np.float32),
        expected(model, x, torch.float32),
    )
    assert np.nanmax(np.abs(found - single)) < 1e-6 * np.nanmax(np.abs(single))


@needs_compiler
def test_header_knows_its_features(library: Library) -> None:
    number = NAMES.index("sigmoid")
    assert [library.name(number, i) for i in range(4)] == MODELS["sigmoid"].feature_names
    assert library.name(0, 1) == "x1"


@needs_compiler
def test_header_takes_other_names_and_several_units(tmp_path: Path) -> None:
    hepkan.export.cpp(MODELS["sigmoid"], tmp_path / "a.hpp", namespace="cms::scores", class_name="Selector")
    (tmp_path / "a.cpp").write_text(
        '#include "a.hpp"\ndouble f(const double* x) { return cms::scores::Selector<>()(x); }\n'
    )
    main = '#include "a.hpp"\ndouble f(const double*);\nint main() { double x[4] = {}; '
    main += "return f(x) == cms::scores::Selector<double>()(x) ? 0 : 1; }\n"
    (tmp_path / "main.cpp").write_text(main)
    command = [str(COMPILER), *FLAGS, "-o", "program", "a.cpp", "main.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([tmp_path / "program"], check=True)


@needs_compiler
def test_networks_of_the_same_name_do_not_mix_in_one_program(tmp_path: Path) -> None:
    x = raw_events(20, 4)
    for name in ("regression", "sigmoid", "float64"):
        folder = tmp_path / name
        hepkan.export.cpp(MODELS[name], folder / "scores.hpp")
        found = Library([folder / "scores.hpp"], folder).batch(0, x, MODELS[name].widths[-1], np.float64)
        assert gap(found, expected(MODELS[name], x, torch.float64)) < 1e-12


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_agree(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    widths = [int(width) for width in generator.integers(1, 11, size=2 + seed % 3)] + [1 + seed % 2]
    model = hepkan.KAN(
        widths,
        grid=int(generator.integers(1, 30)),
        degree=1 + seed % 5,
        base=("silu", "linear", "none")[seed % 3],
        input_map=("quantile", "standard")[seed % 2],
        products=[int(generator.integers(0, width + 1)) * (seed % 4 == 0) for width in widths[1:]],
    )
    lively(model, seed)
    x = raw_events(300, widths[0], seed)
    if seed % 2:
        hepkan.update_grid(model, x, blend=0.02)
    found = hepkan.export.onnx(model, tmp_path / "m.onnx", x)
    assert found.difference <= found.tolerance <= verification.LOOSEST
    assert hepkan.export.cpp(model, tmp_path / "m.hpp", x).difference < 1e-10
    script = hepkan.export.torchscript(model, tmp_path / "m.pt", x)
    assert script.difference <= script.tolerance <= verification.LOOSEST


def test_a_tolerance_that_is_given_is_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="agree with the network to 1e-09"):
        hepkan.export.onnx(MODELS["long grid"], tmp_path / "m.onnx", tolerance=1e-9)


def test_neighbouring_values_of_float32_are_told_apart(tmp_path: Path) -> None:
    values = np.float32(5e4) + np.spacing(np.float32(5e4)) * np.arange(6, dtype=np.float32)
    x = np.stack([np.tile(values, 40), np.linspace(-1, 1, 240)], axis=1).astype(np.float32)
    model = lively(hepkan.KAN([2, 4, 1]))
    model.fit_inputs(x)
    hepkan.export.onnx(model, tmp_path / "m.onnx", x)
    assert gap(run(tmp_path / "m.onnx", x), expected(model, x, torch.float64)) < 1e-5


def test_logits_come_out_on_request(tmp_path: Path) -> None:
    model = MODELS["sigmoid"]
    x = raw_events(50, 4)
    with torch.no_grad():
        logits = model(torch.from_numpy(x)).numpy()
    hepkan.export.onnx(model, tmp_path / "m.onnx", link=False)
    hepkan.export.cpp(model, tmp_path / "m.hpp", link=False)
    assert gap(run(tmp_path / "m.onnx", x), logits) < 1e-5
    assert gap(evaluation.evaluate((tmp_path / "m.hpp").read_text(), x), logits) < 1e-5


def test_infinite_features_have_their_end_of_the_quantile_map(tmp_path: Path) -> None:
    model = MODELS["degree 3, silu, quantile"]
    x = raw_events(4, 4)
    x[0, 0], x[1, 0], x[2] = np.inf, -np.inf, np.inf
    hepkan.export.onnx(model, tmp_path / "m.onnx", x)
    done = hepkan.export.cpp(model, tmp_path / "m.hpp", torch.from_numpy(x))
    assert done.events == 4 + verification.EVENTS
    assert gap(run(tmp_path / "m.onnx", x), expected(model, x, torch.float32)) < 1e-4


def test_infinite_features_of_other_maps_are_left_out_of_the_check(tmp_path: Path) -> None:
    x = raw_events(5, 4)
    x[0, 0] = np.inf
    assert hepkan.export.onnx(MODELS["updated grid"], tmp_path / "m.onnx", x).events == 4 + verification.EVENTS


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    model = lively(hepkan.KAN([3, 4, 1], backend="torch"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    hepkan.export.onnx(model, tmp_path / "m.onnx")
    hepkan.export.cpp(model, tmp_path / "m.hpp")
    hepkan.export.torchscript(model, tmp_path / "m.pt")
    assert model.training and model.layers[0].backend == "torch"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["onnx", "cpp", "torchscript"])
def test_a_wrong_number_is_not_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = pieces.cells_of

    def wrong(layer: Any) -> pieces.Cells:
        cells = right(layer)
        assert cells.base_weight is not None
        return cells._replace(base_weight=1.001 * cells.base_weight)

    path = tmp_path / "model"
    path.write_text("the old one")
    for module in (onnx_graph, cpp_header, traced):
        monkeypatch.setattr(module, "cells_of", wrong)
    with pytest.raises(DataError, match=r"however it differs by .* was not written"):
        getattr(hepkan.export, name)(MODELS["degree 3, linear, standard"], path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_number_lost_in_writing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = cpp_header.Steps.table
    monkeypatch.setattr(cpp_header.Steps, "table", lambda steps, name, values: write(steps, name, np.round(values, 3)))
    with pytest.raises(DataError, match="was not written"):
        hepkan.export.cpp(MODELS["regression"], tmp_path / "m.hpp")
    assert list(tmp_path.iterdir()) == []


def test_a_lost_nan_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = cpp_header.evaluate
    monkeypatch.setattr(cpp_header, "evaluate", lambda text, x: np.nan_to_num(evaluate(text, x)))
    with pytest.raises(DataError, match="must give NaN where the network does"):
        hepkan.export.cpp(MODELS["regression"], tmp_path / "m.hpp")


@pytest.mark.parametrize("name", ["onnx", "cpp", "torchscript"])
class TestErrors:
    """One clear sentence each, and no file."""

    def test_foreign_model(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"needs a hepkan.KAN or hepkan.MLP, however .*torch.nn.*Linear"):
            getattr(hepkan.export, name)(torch.nn.Linear(2, 1), tmp_path / "m")

    def test_features(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"shape \(n, 4\), however it has \(5, 3\)"):
            getattr(hepkan.export, name)(MODELS["regression"], tmp_path / "m", np.zeros((5, 3)))
        with pytest.raises(DataError, match="X needs numbers"):
            getattr(hepkan.export, name)(MODELS["regression"], tmp_path / "m", [["a"] * 4])

    def test_path(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for path in (tmp_path, tmp_path / "file" / "m"):
            with pytest.raises(DataError, match="must be a file that can be written"):
                getattr(hepkan.export, name)(MODELS["regression"], path)

    def test_broken_numbers(self, name: str, tmp_path: Path) -> None:
        model = lively(hepkan.KAN([2, 3, 1]))
        model.layers[0].coef.data[0, 0, 0] = np.nan
        with pytest.raises(DataError, match="finite"):
            getattr(hepkan.export, name)(model, tmp_path / "m")
        assert list(tmp_path.iterdir()) == []

    def test_numbers_beyond_float(self, name: str, tmp_path: Path) -> None:
        model = lively(hepkan.KAN([2, 3, 1]).double())
        model.layers[0].bias.data[0] = 1e60
        with pytest.raises(DataError, match="within the range of float"):
            getattr(hepkan.export, name)(model, tmp_path / "m")


def jumping() -> Network:
    """Return a KAN whose splines are not continuous."""

    def repeat(knots: torch.Tensor, degree: int) -> None:
        knots[:, 4 : 4 + degree + 1] = knots[:, 4:5].clone()

    return with_knots(lively(hepkan.KAN([3, 3, 1], grid=9, degree=2)), repeat)


def test_jumps_are_for_headers_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ONNX needs continuous splines"):
        hepkan.export.onnx(jumping(), tmp_path / "m.onnx")
    with pytest.raises(DataError, match="TorchScript needs continuous splines"):
        hepkan.export.torchscript(jumping(), tmp_path / "m.pt")
    for write in (hepkan.export.onnx, hepkan.export.torchscript):
        with pytest.raises(UsageError, match="degree 1 or more"):
            write(hepkan.KAN([2, 1], degree=0, backend="torch"), tmp_path / "m")
    hepkan.export.cpp(jumping(), tmp_path / "m.hpp")


@pytest.mark.parametrize(
    "names", [{"namespace": "a b"}, {"class_name": "class"}, {"class_name": "a::b"}, {"namespace": ""}]
)
def test_names_must_be_those_of_cpp(names: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a name"):
        hepkan.export.cpp(MODELS["regression"], tmp_path / "m.hpp", **names)


@pytest.mark.parametrize(
    "stem, namespace", [("my-model 2", "my_model_2"), ("7", "hepkan_7"), ("double", "hepkan_double")]
)
def test_the_namespace_follows_the_file(stem: str, namespace: str, tmp_path: Path) -> None:
    hepkan.export.cpp(MODELS["regression"], tmp_path / f"{stem}.hpp")
    assert f"namespace {namespace} {{" in (tmp_path / f"{stem}.hpp").read_text()


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(errors.importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'hepkan\[export\]'"):
        hepkan.export.onnx(MODELS["regression"], tmp_path / "m.onnx")
