"""Gates, bands, pictures, and the pruning of a run folder."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import hepkan
from hepkan.cli import app
from hepkan.errors import DataError, UsageError
from hepkan.interpret import edge_bands, edge_curves, likelihood_ratios, output_shares, pruning_curve, sparsify
from hepkan.interpret.sparsify import GatedLayer
from hepkan.interpret.trace import edges_of
from hepkan.nn import KANLayer
from hepkan.report.activations import activation_curves, pruning_plot, ratio_curves
from hepkan.report.diagram import network_diagram
from hepkan.report.style import svg
from hepkan.studies.interpret_run import prune_run
from hepkan.studies.options import load_card
from hepkan.studies.run import run


def events(n: int = 1500, features: int = 5, seed: int = 0) -> np.ndarray:
    """Return independent normal features."""
    return np.random.default_rng(seed).normal(size=(n, features)).astype(np.float32)


def target(X: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a target of the first two features, with noise."""
    noise = 0.3 * np.random.default_rng(seed).normal(size=len(X))
    return np.asarray(np.sin(2 * X[:, 0]) + 0.5 * X[:, 1] ** 2 + noise)


def lively(widths: list[int], **settings: Any) -> hepkan.KAN:
    """Return a KAN with splines of order one."""
    model = hepkan.KAN(widths, **settings)
    model.fit_inputs(events(500, model.n_features))
    with torch.no_grad():
        for layer in model.layers:
            layer.coef.add_(0.5 * torch.randn(layer.coef.shape, generator=torch.Generator().manual_seed(1)))
    return model


def test_gates_open_and_close() -> None:
    mask = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    layer = KANLayer(3, 2, edge_mask=mask)
    gated = GatedLayer(layer, per_input=False)
    assert gated.train().gates().shape == (3, 2)
    draws = torch.stack([gated.gates() for _ in range(2000)]).detach()
    assert bool((draws >= 0).all()) and bool((draws <= 1).all())
    expected = float(gated.open_gates().detach()) / 5
    assert float((draws > 0).float().mean()) == pytest.approx(expected, abs=0.02)
    x = torch.linspace(-2, 2, 30).reshape(10, 3)
    with torch.no_grad():
        gated.gate.copy_(torch.tensor([[9.0, -9.0], [9.0, 0.3], [9.0, 9.0]]))
    plain = gated.plain()
    torch.testing.assert_close(plain(x), gated.eval()(x))
    assert type(plain) is KANLayer and plain.edge_mask is not None
    assert plain.edge_mask.tolist() == [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    assert GatedLayer(layer, per_input=True).gates().shape == (3, 1)


def test_sparsified_networks_keep_what_counts() -> None:
    X = events(2000)
    y = target(X)
    model = hepkan.KAN([5, 3, 1])
    hepkan.fit(model, (X, y), loss="mse", epochs=15, batch=128, weight_decay=0.01)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings: dict[str, Any] = {"strength": 0.03, "epochs": 30, "batch": 128, "weight_decay": 0.05}
    small = sparsify(model, (X, y), **settings)
    assert type(small.layers[0]) is KANLayer and not small.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert {0, 1} <= set(small.columns or range(5))
    assert sum(int(edges_of(layer).sum()) for layer in small.layers) <= 12
    other = events(2000, seed=1)
    assert np.mean((small.predict(other) - target(other, 1)) ** 2) < 0.3
    again = sparsify(model, (X, y), **settings)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), again.parameters(), strict=True))
    some = sparsify(model, (X, y), strength=0.1, gates="inputs", epochs=30, batch=128, weight_decay=0.05)
    assert {0, 1} <= set(some.columns or range(5)) and some.widths[0] <= 4
    with pytest.raises(UsageError, match="closes all"):
        sparsify(model, (X, y), strength=100.0, epochs=15, batch=128)
    with pytest.raises(UsageError, match="strength needs"):
        sparsify(model, (X, y), strength=0.0)
    with pytest.raises(UsageError, match="Did you mean 'edges'"):
        sparsify(model, (X, y), strength=1.0, gates="edge")  # type: ignore[arg-type]


def test_curves_are_those_of_the_edges() -> None:
    model = lively([5, 3, 2], products=[1, 0], input_map="standard")
    X = events(2000)
    curves = edge_curves(model, X, points=21)
    first = curves.layers[0]
    assert first.x.shape == (5, 21) and first.y.shape == (5, 21, 4) and first.products == 1
    assert first.x[0, 0] == pytest.approx(np.quantile(X[:, 0], 0.005), abs=0.02)
    traced = hepkan.trace(model, X)
    for i, o in ((0, 0), (3, 2)):
        order = np.argsort(X[:, i])
        drawn = np.interp(first.x[i], X[order, i], traced.edges[0][order, i, o] - traced.edge_mean[0][i, o])
        np.testing.assert_allclose(first.y[i, 1:-1, o], drawn[1:-1], atol=0.05)
    assert first.density.max() == 1.0 and curves.inputs == ("x0", "x1", "x2", "x3", "x4")
    shares = output_shares(curves)
    assert shares[0].sum() == pytest.approx(1.0) and shares[1].sum() == pytest.approx(1.0)
    with pytest.raises(DataError, match="NaN"):
        edge_curves(model, np.full((20, 5), np.nan))


def test_bands_cover_the_scatter_of_other_samples() -> None:
    """A linear model without hidden layers: the band of its only edge against fits on other samples."""
    settings: dict[str, Any] = {"grid": 3, "degree": 2, "base": "none", "input_map": "standard"}
    fits: dict[str, Any] = {"optimizer": "lbfgs", "batch": 400, "epochs": 3, "loss": "mse"}
    functions = []
    points = edge_curves(lively([1, 1], **settings), events(400, 1), points=15).layers[0].x[0]
    for seed in range(25):
        X, model = events(400, 1, seed), hepkan.KAN([1, 1], **settings)
        y = np.sin(X[:, 0]) + 0.5 * np.random.default_rng(100 + seed).normal(size=400)
        hepkan.fit(model, (X, y), **fits)
        values = model.predict(points[:, None].astype(np.float32))
        functions.append((values - model.predict(X).mean()) / float(model.output_map.scale[0]))
    spread = np.std(functions, axis=0, ddof=1)
    curves = edge_curves(model, X, points=15)
    (band,) = edge_bands(model, curves, X, y, n_boot=200)
    assert band.shape == (1, 15, 1)
    middle = slice(2, -2)
    ratio = band[0, middle, 0] / spread[middle]
    assert 0.6 < np.exp(np.mean(np.log(ratio))) < 1.5
    with pytest.raises(UsageError, match="mae has none"):
        edge_bands(model, curves, X, y, loss="mae")


def curves_of(content: bytes) -> int:
    """Return the number of paths in an SVG, which must hold no bitmap."""
    text = content.decode()
    assert text.startswith("<?xml") and "<image" not in text
    return len(re.findall(r"<path", text))


@pytest.mark.parametrize("widths", [[43, 16, 1], [43, 1]])
def test_the_diagram_is_quick_and_made_of_lines(widths: list[int]) -> None:
    model, X = lively(widths), events(2000, 43)
    names = [f"feature_{i}" for i in range(43)]
    model.feature_names = names
    curves = edge_curves(model, X)
    start = time.process_time()
    figure = network_diagram(curves, labels={"feature_0": r"$p_T$"})
    first = svg(figure)
    assert time.process_time() - start < 2.0
    assert curves_of(first) > 43 * widths[1]
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == [r"$p_T$", *names[1:], "output"]
    assert svg(network_diagram(curves, labels={"feature_0": r"$p_T$"})) == first


def test_the_diagram_shows_importance() -> None:
    model, X = lively([5, 3, 2], products=[1, 0]), events()
    curves = edge_curves(model, X)
    importance = [np.zeros(layer.std.shape) for layer in curves.layers]
    importance[0][2, 1] = importance[1][0, 1] = 1.0
    figure = network_diagram(curves, importance, outputs=["p", "q"])
    widths = np.sort(figure.axes[0].collections[0].get_linewidths())
    assert widths[-2] > 4.0 and widths[-3] < 0.5
    with pytest.raises(UsageError, match="importance needs"):
        network_diagram(curves, importance[:1])
    with pytest.raises(UsageError, match="outputs needs 2 names"):
        network_diagram(curves, outputs=["p"])


def test_the_other_pictures() -> None:
    X = events()
    y = target(X)
    model = hepkan.KAN([5, 3, 1])
    hepkan.fit(model, (X, y), loss="mse", epochs=5, batch=128, weight_decay=0.0)
    curves = edge_curves(model, X)
    bands = edge_bands(model, curves, X, y, n_boot=20)
    assert [band.shape for band in bands] == [(5, 101, 3), (3, 101, 1)]
    figure = activation_curves(curves, bands, most=6)
    assert len(figure.axes) == 12 and curves_of(svg(figure)) > 20
    assert curves_of(svg(activation_curves(curves, layer=1))) > 5
    with pytest.raises(UsageError, match="layer needs"):
        activation_curves(curves, layer=2)
    curve = pruning_curve(model, X, y)
    assert curves_of(svg(pruning_plot(curve, tolerance=0.1))) > 5
    labels = (y > 0.5).astype(int)
    single = hepkan.KAN([5, 1])
    hepkan.fit(single, (X, labels), epochs=2)
    assert curves_of(svg(ratio_curves(likelihood_ratios(single, X, labels)))) > 20


@pytest.fixture(scope="module")
def finished(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a KAN and a logistic regression."""
    overrides = ["bootstrap=20", "train.epochs=3", "models.kan.hidden=[4]"]
    card = load_card("multijet", models=("kan", "logistic"), data=sample, seeds=1, overrides=overrides)
    return run(card, output=tmp_path_factory.mktemp("runs") / "one", command="hepkan run multijet").folder


def test_pruning_a_run(finished: Path) -> None:
    before = (finished / "model.hepkan").read_bytes()
    done = prune_run(finished, inputs=6, tolerance=0.02, epochs=1)
    assert done.folder == finished / "pruned"
    names = {path.name for path in done.folder.iterdir()}
    assert names == {"model.hepkan", "curve.parquet", "report.json", "diagram.svg", "curve.svg", "activations.svg"}
    assert (finished / "model.hepkan").read_bytes() == before
    small = hepkan.load(done.folder / "model.hepkan")
    assert small.widths[0] <= 6 and small.n_features == 43
    report = json.loads((done.folder / "report.json").read_text())
    assert report == json.loads(json.dumps(done.report))
    assert report["after"]["inputs"] == small.input_names and len(report["before"]["inputs"]) == 43
    assert {entry["input"] for entry in report["importance"]} == set(small.input_names)
    auc = report["test"]["auc"]
    assert auc["difference"][0] == pytest.approx(auc["after"][0] - auc["before"][0])
    rows = pq.read_table(done.folder / "curve.parquet").to_pylist()
    assert {row["part"] for row in rows} == {"inputs", "edges"} and rows[0]["inputs"] == 43
    scores = pq.read_table(finished / "predictions.parquet")
    own = json.loads((finished / "report.json").read_text())["rows"]
    value = next(row["value"] for row in own if row["model"] == "kan" and row["metric"] == "auc")
    assert auc["before"][0] == pytest.approx(value)
    assert len(scores) == report["test"]["events"]


def test_the_command(finished: Path, tmp_path: Path, sample: Path) -> None:
    call = CliRunner().invoke
    result = call(app, ["prune", str(finished), "--edges", "10", "--epochs", "0", "-o", str(tmp_path / "small")])
    assert result.exit_code == 0, result.output
    assert "Test auc" in result.stdout and "diagram.svg" in result.stdout
    assert sum(int(edges_of(layer).sum()) for layer in hepkan.load(tmp_path / "small" / "model.hepkan").layers) <= 10
    result = call(app, ["prune", str(finished), "--epochs", "0", "--json", "-o", str(tmp_path / "small")])
    assert result.exit_code == 0 and json.loads(result.stdout)["after"]["edges"] > 0
    wrong = call(app, ["prune", str(tmp_path)])
    assert wrong.exit_code == 2 and "A run folder is required" in wrong.stderr


def test_a_run_without_a_kan_or_with_another_sample_is_refused(sample: Path, tmp_path: Path) -> None:
    short: dict[str, Any] = {"data": sample, "seeds": 1, "overrides": ["bootstrap=20", "train.epochs=1"]}
    card = load_card("multijet", models=("logistic",), **short)
    folder = run(card, output=tmp_path / "run").folder
    with pytest.raises(UsageError, match="has none"):
        prune_run(folder)
    card = load_card("multijet", models=("gam",), **short)
    other = run(card, output=tmp_path / "other").folder
    marker = other / "study.json"
    marker.write_text(json.dumps({"identity": "run x y"}))
    with pytest.raises(DataError, match="has changed since"):
        prune_run(other)
