"""The explorer: the same numbers as Python, every interaction, no network, no complaint, fluid, accessible."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import hepkan
from browser_cases import DESKTOP, PHONE, Watched, chromium, opened, screenshot, violations
from hepkan.cli import app
from hepkan.errors import DataError, UsageError
from hepkan.interpret.edits import edited_formula, read_edits, without_removed
from hepkan.interpret.primitives import PRIMITIVES, SILU
from hepkan.model_io import save
from hepkan.nn.heads import Head
from hepkan.report.explorer import asset, explorer_page, write_explorer
from hepkan.report.explorer_data import Explored, explored, metric
from hepkan.report.reading import Feature, Run, Target

WEB = Path(__file__).parents[1] / "web"
N = 400


def lively(widths: list[int], X: np.ndarray, link: str = "identity", **settings: Any) -> hepkan.KAN:
    """Return a KAN with splines of order one."""
    model = hepkan.KAN(widths, **settings)
    model.fit_inputs(X)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in model.layers:
            layer.coef.add_(0.6 * torch.randn(layer.coef.shape, generator=generator))
            layer.bias.add_(0.2 * torch.randn(layer.bias.shape, generator=generator))
    model.link = link
    return model


def events(features: int, n: int = N) -> np.ndarray:
    """Return features of all kinds: normal, positive with a tail, and a sign."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, features))
    X[:, 1::3] = rng.gamma(2.0, 30.0, size=X[:, 1::3].shape)
    X[:, 2] = rng.choice([-1.0, 1.0], n)
    return X.astype(np.float32)


def a_run(folder: Path, model: hepkan.KAN, X: np.ndarray, target: np.ndarray) -> Run:
    """Return a run with one network, some weights negative, as `read_run` gives it."""
    folder.mkdir(parents=True)
    save(model, folder / "model.hepkan", {"seed": 0, "best_value": 0.5})
    rng = np.random.default_rng(6)
    names = ["met_pt" if i == 1 else f"x{i}" for i in range(X.shape[1])]
    weight = rng.exponential(size=len(X)) * rng.choice([1.0, 1.0, 1.0, -0.1], len(X))
    targets = ()
    if model.link == "identity":
        components = [f"{particle}_{part}" for particle in ("nu", "phi") for part in ("px", "py", "pz", "e")]
        targets = tuple(Target(components[t], "GeV", f"$p_{t}$", 20.0 + t) for t in range(target.shape[1]))
    yields = [{"process": name, "label": label} for name, label in (("ttbar", 1), ("multijet", 0), ("wjets", 0))]
    return Run(
        folder=folder,
        report={"task": "multijet", "title": "A <study>", "data": {"yields": yields}, "version": "0.1.0", "rows": []},
        card={"model": {"kind": "kan"}, "question": "Which & why?"},
        card_text="",
        features=tuple(Feature(name, "GeV" if name == "met_pt" else "", f"$x_{{{name[1:]}}}$") for name in names),
        targets=targets,
        history={},
        test={},
        train={},
        inputs={**dict(zip(names, X.T, strict=True)), "target": target, "weight": weight},
        members={},
    )


def written(run: Run, explained: int = 12) -> tuple[Path, Explored]:
    """Write the page of a run that has no files but its network."""
    this = explored(run, processes=np.resize(np.array(["ttbar", "multijet"]), len(run.inputs["target"])))
    page = run.folder / "explore.html"
    page.write_text(explorer_page(run, this, explained), encoding="utf-8")
    return page, this


def labels(X: np.ndarray, classes: int = 2) -> np.ndarray:
    """Return labels that follow two features."""
    value = X[:, 0] + 0.02 * X[:, 1] + np.random.default_rng(7).normal(size=len(X))
    return np.digitize(value, np.quantile(value, np.arange(1, classes) / classes)).astype(np.int64)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Explored, Run]:
    """A page of two classes, with products and an edge that is not there."""
    X = events(6)
    model = lively([6, 4, 1], X, "sigmoid", products=1)
    mask = np.ones((6, 5))
    mask[0, 1] = 0
    model.layers[0].mask_edges(mask)
    run = a_run(tmp_path_factory.mktemp("explorer") / "small", model, X, labels(X))
    return *written(run, explained=40), run


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 43-30-30-1 with 2,220 edges and as many events as a page takes."""
    X = events(43, 5000)
    run = a_run(tmp_path_factory.mktemp("explorer") / "large", lively([43, 30, 30, 1], X, "sigmoid"), X, labels(X))
    return written(run, explained=20)[0]


def ready(watched: Watched) -> Any:
    """Wait until the measure on all events is there."""
    watched.page.wait_for_selector(".toolbar:not(.busy) [data-measure]", timeout=60_000)
    return watched.page


def measure(page: Any) -> float:
    """Return the measure that the page shows, with all its digits."""
    page.wait_for_selector(".toolbar:not(.busy) [data-measure]", timeout=60_000)
    return float(page.get_attribute("[data-measure]", "data-measure"))


def slide(page: Any, selector: str, value: int) -> None:
    """Move a slider as a finger does, to a value."""
    page.eval_on_selector(
        selector, "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", str(value)
    )


def predicted(model: Any, this: Explored) -> np.ndarray:
    """Return predictions in float64."""
    with torch.no_grad():
        return np.asarray(model.double().predict(torch.from_numpy(this.X.astype(np.float64))))


def scores(page: Any) -> np.ndarray:
    """Return the predictions that the browser has made."""
    return np.array(page.evaluate("() => Array.from(explorer.store.measure.scores)"))


CASES: dict[str, dict[str, Any]] = {
    "binary": {"widths": [5, 3, 1], "link": "sigmoid"},
    "softmax": {"widths": [5, 4, 3], "link": "softmax", "input_map": "standard", "degree": 2, "base": "linear"},
    "regression": {"widths": [5, 4, 4], "products": [1, 1], "input_map": "none", "degree": 1, "base": "none"},
    "constant pieces": {"widths": [5, 2, 1], "link": "sigmoid", "degree": 0, "grid": 7},
    "one layer": {"widths": [5, 1], "link": "sigmoid", "degree": 4, "grid": 3},
    "columns": {"widths": [3, 2, 1], "link": "sigmoid", "columns": [4, 0, 1], "n_features": 5},
    "mass shells": {"widths": [5, 3, 7], "head": {"name": "mass_shells"}},
    "MET": {"widths": [5, 3, 4], "head": {"name": "mass_shells_met", "met": 1, "mediator_mass": 120.0}},
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_python(name: str, browser: Any, tmp_path: Path) -> None:
    X = events(5)
    settings = dict(CASES[name])
    widths, link = settings.pop("widths"), settings.pop("link", "identity")
    model = lively(widths, X, link, **settings)
    y = labels(X, max(2, widths[-1])) if link != "identity" else np.random.default_rng(1).normal(size=(N, widths[-1]))
    if model.head is not None:
        y = 50.0 + 20.0 * np.random.default_rng(1).normal(size=(N, Head.targets))
        y[:, 7] = np.linalg.norm(y[:, 4:7], axis=1) + 30.0
    if link == "identity":
        model.fit_outputs(y)
    page, this = written(a_run(tmp_path / "run", model, X, y), explained=2)
    expected = predicted(this.model, this)
    with opened(browser, page) as watched:
        loaded = ready(watched)
        np.testing.assert_allclose(scores(loaded), expected.ravel(), rtol=0, atol=1e-9 * np.abs(expected).max())
        kind, value = metric(this, expected, [20.0 + t for t in range(y.shape[1])] if link == "identity" else ())
        assert measure(loaded) == pytest.approx(value, abs=1e-9)
        assert loaded.evaluate("() => explorer.store.data.metric") == {
            "name": kind,
            "value": pytest.approx(value, abs=1e-12),
            "title": {"auc": "AUC", "mae": "MAE", "accuracy": "accuracy"}[kind],
        }
        in_single = np.asarray(hepkan.load(this.path).predict(this.X)).ravel()
        np.testing.assert_allclose(scores(loaded), in_single, rtol=0, atol=2e-5 * np.abs(in_single).max())
        watched.assert_quiet(page)


def test_functions_are_those_of_python(browser: Any, small: tuple[Path, Explored, Run]) -> None:
    with opened(browser, small[0]) as watched:
        for primitive in (*PRIMITIVES.values(), SILU):
            low, high = (float(np.clip(end, -3.0, 3.0)) for end in primitive.domain)
            u = np.linspace(low, high, 41)[1:-1]
            call = "([name, u]) => u.map(explorer.primitives[name])"
            np.testing.assert_allclose(
                watched.page.evaluate(call, [primitive.name, u.tolist()]), primitive.function(u), rtol=1e-12, atol=1e-14
            )


def test_values_beyond_the_data_and_the_grid(browser: Any, small: tuple[Path, Explored, Run]) -> None:
    page, this, _ = small
    X = np.concatenate([this.X[:20] * 5.0, this.X[:20] - 300.0, np.full((1, 6), 1e6), np.full((1, 6), np.nan)])
    expected = this.model.predict(torch.from_numpy(X.astype(np.float64)))
    call = """(rows) => rows.map((row) => {
        const pass = explorer.store.network.pass();
        explorer.store.network.forward(Float64Array.from(row, (one) => one === null ? NaN : one), 0, pass);
        return explorer.store.network.prediction(pass.nodes.at(-1), 0)[0];
    })"""
    with opened(browser, page) as watched:
        rows = [[None if np.isnan(one) else float(one) for one in row] for row in X.astype(np.float64)]
        found = np.array([np.nan if one is None else one for one in watched.page.evaluate(call, rows)], dtype=float)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert np.isnan(found[-1]) and np.isfinite(found[:-1]).all()


def test_pruning_by_the_threshold(browser: Any, small: tuple[Path, Explored, Run], tmp_path: Path) -> None:
    page, this, _ = small
    with opened(browser, page) as watched:
        loaded = ready(watched)
        before = measure(loaded)
        edges = len(loaded.query_selector_all(".edges path"))
        assert edges == 6 * 5 + 4 - 1
        for place in (100, 250, 400):
            slide(loaded, "#threshold", place)
            found = measure(loaded)
            edits = saved(loaded, tmp_path / f"{place}.json")
            assert edits.removed and not edits.replaced
            smaller = without_removed(this.model, edits)
            np.testing.assert_allclose(scores(loaded), predicted(smaller, this), rtol=0, atol=1e-9)
            assert found == pytest.approx(metric(this, predicted(smaller, this))[1], abs=1e-9)
            left = edges - len(edits.removed)
            assert f"{left} of {edges} edges" in loaded.inner_text("#left")
            assert len(loaded.query_selector_all(".edges path:not(.gone)")) == left
        slide(loaded, "#threshold", 0)
        assert measure(loaded) == before
        watched.assert_quiet(page)


def saved(page: Any, path: Path) -> Any:
    """Save the edits as a reader does, and read them as Python does."""
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "edits.json"
    download.value.save_as(path)
    return read_edits(path)


def test_edges_become_functions(browser: Any, small: tuple[Path, Explored, Run], tmp_path: Path) -> None:
    page, this, run = small
    with opened(browser, page) as watched:
        loaded = ready(watched)
        before = measure(loaded)
        keys = loaded.evaluate(
            "() => { const e = explorer.store.edges; const c = (l) => e.find((one) => one.layer === l && "
            "explorer.store.candidates(one).length); return [c(0).key, c(1).key]; }"
        )
        for key in keys:
            loaded.evaluate("(key) => explorer.store.select(explorer.store.byKey.get(key))", key)
            assert loaded.locator(".choices math").count() >= 1
            loaded.check('.choices input[value="0"]')
            assert loaded.locator(f'.edges path.symbol, .edges path[data-edge="{key}"].symbol').count() >= 1
        after = measure(loaded)
        assert after != before
        assert loaded.locator(".equation math").count() >= 2
        assert "2 of them a formula" in loaded.inner_text("#left")
        assert loaded.inner_text(".formula-card code").startswith("hepkan symbolic ")
        edits = saved(loaded, tmp_path / "edits.json")
        assert len(edits.replaced) == 2 and not edits.removed
        formula = edited_formula(hepkan.load(this.path), edits)
        found = formula.predict(this.X.astype(np.float64))
        np.testing.assert_allclose(scores(loaded), found, rtol=0, atol=1e-9)
        assert after == pytest.approx(metric(this, found)[1], abs=1e-9)
        loaded.check('.choices input[value="spline"]')
        loaded.click("#reset")
        assert measure(loaded) == before
        loaded.click("#replace-all")
        assert measure(loaded) != before
        many = saved(loaded, tmp_path / "many.json")
        assert len(many.replaced) > 2
        np.testing.assert_allclose(
            scores(loaded), edited_formula(hepkan.load(this.path), many).predict(this.X), rtol=0, atol=1e-9
        )
        watched.assert_quiet(page)
    assert run.folder.name in json.loads((tmp_path / "edits.json").read_text())["run"]


def test_edge_by_mouse_and_keyboard(browser: Any, small: tuple[Path, Explored, Run]) -> None:
    page = small[0]
    with opened(browser, page) as watched:
        loaded = ready(watched)
        seen = []
        diagram = loaded.locator(".diagram")
        diagram.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft"):
            loaded.keyboard.press(key)
            seen.append(loaded.inner_text("#edge-title"))
            assert loaded.locator(".edge-plot .spline").count() == 1
        assert len(set(seen)) >= 3
        assert "Edge from" in loaded.inner_text('.edge-card [aria-live="polite"]')
        inset = loaded.locator(".inset").nth(3)
        box = inset.bounding_box()
        loaded.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        loaded.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        key = loaded.evaluate("() => explorer.store.selected.key")
        assert key == inset.get_attribute("data-edge")
        assert loaded.locator(".tip").is_visible()
        assert loaded.locator(".edge-plot .density").count() == 2
        assert loaded.locator(".edge-plot .band").count() == 1
        assert loaded.locator(".edge-plot path.candidate").count() >= 1
        loaded.check('.choices input[value="remove"]')
        edits = loaded.evaluate("() => explorer.store.script().edges")
        layer, i, o = (int(one) for one in key.split("-"))
        assert len(edits) == 1 and [edits[0][one] for one in ("layer", "input", "sum")] == [layer, i, o]
        watched.assert_quiet(page)


def test_the_event_is_chosen_and_dragged(browser: Any, small: tuple[Path, Explored, Run]) -> None:
    page, this, _ = small
    with opened(browser, page) as watched:
        loaded = ready(watched)
        assert loaded.locator(".flows path").count() == 0
        loaded.select_option('select[aria-label="Special events"]', "signal")
        best = int(loaded.evaluate("() => explorer.store.eventNumber"))
        expected = predicted(this.model, this)
        assert expected[best] == pytest.approx(expected[this.target == 1].max(), abs=1e-12)
        assert float(loaded.inner_text(".big strong")) == pytest.approx(expected[best], abs=6e-4)
        loaded.wait_for_selector(".flows path", state="attached")
        assert loaded.get_attribute('[data-mode="event"]', "aria-pressed") == "true"
        slider = loaded.locator(".feature input").nth(0)
        box = slider.bounding_box()
        loaded.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        loaded.mouse.down()
        loaded.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2, steps=6)
        loaded.mouse.up()
        raw = np.array(loaded.evaluate("() => Array.from(explorer.store.raw)"))
        assert (raw != this.X[best]).sum() == 1
        shown = loaded.evaluate("() => explorer.store.prediction[0]")
        assert shown == pytest.approx(float(this.model.predict(torch.from_numpy(raw[None]))[0]), abs=1e-9)
        slider.focus()
        loaded.keyboard.press("ArrowLeft")
        assert loaded.evaluate("() => explorer.store.prediction[0]") != shown
        contributions = loaded.evaluate("() => Array.from(explorer.store.contributions.at(-1))")
        last = this.model.layers[-1]
        outputs = loaded.evaluate("() => explorer.store.pass.nodes.at(-1)[0]")
        means = np.array(loaded.evaluate("() => Array.from(explorer.store.network.layers.at(-1).mean)"))
        total = sum(contributions) + means.sum() + float(last.bias.detach().sum())
        assert total == pytest.approx(outputs, abs=1e-9)
        loaded.click("text=Undo changes")
        assert np.array_equal(loaded.evaluate("() => Array.from(explorer.store.raw)"), this.X[best])
        loaded.click("text=Random event")
        loaded.select_option('select[aria-label="Kind of event"]', label="multijet")
        assert ", multijet" in loaded.inner_text(".which")
        watched.assert_quiet(page)


def test_output_can_be_chosen(browser: Any, tmp_path: Path) -> None:
    X = events(5)
    y = np.random.default_rng(1).normal(size=(N, 3)) * 30.0
    model = lively([5, 3, 3], X)
    model.fit_outputs(y)
    page, this = written(a_run(tmp_path / "run", model, X, y), explained=2)
    with opened(browser, page) as watched:
        loaded = ready(watched)
        assert loaded.locator(".table tbody tr").count() == 3
        loaded.select_option('select[aria-label="Output"]', "2")
        expected = predicted(this.model, this)[0, 2]
        shown = loaded.inner_text(".big strong").replace("−", "-")
        assert float(shown) == pytest.approx(expected, rel=1e-3)
        assert loaded.locator(".table tr.here th").inner_text().startswith("p")
        watched.assert_quiet(page)


def test_large_networks_are_on_a_canvas(browser: Any, large: Path) -> None:
    """2,220 edges follow an input and the threshold; benchmarks/frames.py measures how fast."""
    assert large.stat().st_size < 5_000_000
    with opened(browser, large) as watched:
        loaded = ready(watched)
        assert loaded.evaluate("() => [explorer.diagram.onCanvas, explorer.store.edges.length]") == [True, 2220]
        before = loaded.inner_text("#left")
        slide(loaded, "#threshold", 600)
        measure(loaded)
        assert loaded.inner_text("#left") != before
        assert loaded.evaluate("() => explorer.diagram.work.length") > 0
        watched.assert_quiet(large)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_looks_and_accessibility(
    browser: Any, small: tuple[Path, Explored, Run], size: dict[str, int], dark: bool
) -> None:
    page = small[0]
    with opened(browser, page, dark=dark, **size) as watched:
        loaded = ready(watched)
        loaded.click("text=Random event")
        loaded.click("#replace-all")
        measure(loaded)
        name = f"explorer-{'phone' if size is PHONE else 'desktop'}-{'dark' if dark else 'light'}"
        assert screenshot(loaded, name).stat().st_size > 20_000
        assert violations(loaded) == []
        assert loaded.evaluate("() => document.documentElement.scrollWidth") <= size["width"]
        ground = loaded.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (sum(int(one) for one in re.findall(r"\d+", ground)) < 200) == dark
        loaded.click("button.theme")
        assert loaded.evaluate("() => getComputedStyle(document.body).backgroundColor") != ground
        watched.assert_quiet(page)


def test_large_page_looks(browser: Any, large: Path) -> None:
    with opened(browser, large) as watched:
        loaded = ready(watched)
        loaded.click('[data-mode="event"]')
        slide(loaded, "#threshold", 450)
        measure(loaded)
        assert screenshot(loaded, "explorer-large").stat().st_size > 20_000
        assert violations(loaded) == []
        watched.assert_quiet(large)


def test_the_committed_build_is_of_the_sources() -> None:
    files = ["package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"]
    files += [f"src/{path.name}" for path in sorted((WEB / "src").iterdir())]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\n".encode() + (WEB / file).read_bytes())
    for name in ("explorer.js", "explorer.css"):
        first = asset(name).splitlines()[0]
        assert digest.hexdigest() in first, f"{name} is older than web/: run `make web` and commit the result"


def test_the_page_embeds_text_safely(tmp_path: Path) -> None:
    X = events(3, 120)
    run = a_run(tmp_path / "run", lively([3, 1], X, "sigmoid"), X, labels(X))
    run.report["title"] = "</script><script>alert(1)</script>"  # type: ignore[index]
    text = written(run, explained=1)[0].read_text(encoding="utf-8")
    assert text.count("</script>") == 2 and "alert(1)</script>" not in text
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text


def test_runs_without_a_kan(tmp_path: Path) -> None:
    X = events(3, 120)
    run = a_run(tmp_path / "run", lively([3, 1], X, "sigmoid"), X, labels(X))
    with pytest.raises(UsageError, match="hepkan prune"):
        explored(run, pruned=True)
    save(hepkan.MLP([3, 4, 1]), run.folder / "model.hepkan", {})
    with pytest.raises(UsageError, match="functions on the edges of a KAN"):
        explored(run)
    save(lively([2, 1], X[:, :2], "sigmoid"), run.folder / "model.hepkan", {})
    with pytest.raises(DataError, match="3 features"):
        explored(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "must hold edits"),
        ("format: 7", "no edits of format 1"),
        ("format: 1\nnetwork: a\nsha256: b\nedges: [{layer: 0, input: 0, sum: 0}]", "needs one edit"),
        ("format: 1\nnetwork: a\nsha256: b\nedges: [{layer: 0, input: 0, sum: 0, remove: .nan}]", "finite"),
        ("format: 1\nnetwork: a\nsha256: b\nedges: [{layer: 0, input: 0, sum: 0, replace: {nodes: 3}}]", "edits"),
        ("format: 1\nnetwork: a\nedges: []", "sha256"),
    ],
)
def test_damaged_edits(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "edits.yaml"
    with pytest.raises(DataError, match="there is no"):
        read_edits(path)
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_edits(path)


def test_edits_of_edges_that_are_not_there(tmp_path: Path) -> None:
    X = events(3, 120)
    model = lively([3, 2, 1], X, "sigmoid")
    path = tmp_path / "edits.yaml"
    for place in ((0, 3, 0), (2, 0, 0), (0, 0, -1)):
        edge = dict(zip(("layer", "input", "sum"), place, strict=True))
        content = {"format": 1, "network": "model.hepkan", "sha256": "", "edges": [{**edge, "remove": 0.5}]}
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(UsageError, match="edges that the network has"):
            without_removed(model, read_edits(path))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """A small run of the multijet task."""
    from hepkan.studies.options import load_card
    from hepkan.studies.run import run

    overrides = ["train.epochs=4", "model.hidden=[3]", "bootstrap=10"]
    card = load_card("multijet", models=("kan",), data=sample, seeds=1, overrides=overrides)
    return run(card, output=tmp_path_factory.mktemp("runs") / "one", command="hepkan run multijet").folder


def test_from_run_to_page_to_edits_and_back(browser: Any, finished: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["explore", str(finished), "--no-open"])
    assert done.exit_code == 0, done.output
    page = finished / "explore.html"
    assert str(page) in done.output.replace("\n", "")
    done = CliRunner().invoke(app, ["explore", str(finished), "--export", str(tmp_path / "page.html")])
    assert done.exit_code == 0 and (tmp_path / "page.html").read_bytes() == page.read_bytes()
    with opened(browser, page) as watched:
        loaded = ready(watched)
        slide(loaded, "#threshold", 300)
        pruned_value = measure(loaded)
        saved(loaded, tmp_path / "prune.json")
        embedded = np.array(loaded.evaluate("() => Array.from(explorer.store.x)")).reshape(-1, 43)
        pruned_scores = scores(loaded)
        loaded.click("#replace-all")
        measure(loaded)
        functions = saved(loaded, tmp_path / "symbolic.json")
        functional_scores = scores(loaded)
        watched.assert_quiet(page)
    assert 0.0 <= pruned_value <= 1.0 and functions.replaced
    done = CliRunner().invoke(app, ["prune", str(finished), "--edits", str(tmp_path / "prune.json")])
    assert done.exit_code == 0, done.output
    small = hepkan.load(finished / "pruned" / "model.hepkan")
    np.testing.assert_allclose(small.predict(embedded), pruned_scores, rtol=0, atol=1e-5)
    refused = CliRunner().invoke(app, ["prune", str(finished), "--edits", str(tmp_path / "symbolic.json")])
    assert refused.exit_code == 2 and "hepkan symbolic" in refused.output
    refused = CliRunner().invoke(app, ["prune", str(finished), "--edges", "9", "--edits", str(tmp_path / "prune.json")])
    assert refused.exit_code == 2 and "--edges" in refused.output
    done = CliRunner().invoke(app, ["symbolic", str(finished), "--edits", str(tmp_path / "symbolic.json")])
    assert done.exit_code == 0, done.output
    formula = hepkan.interpret.Formula.load(finished / "symbolic" / "formula.json")
    np.testing.assert_allclose(formula.predict(embedded), functional_scores, rtol=0, atol=1e-6)
    pruned_page = write_explorer(finished, tmp_path / "pruned.html", pruned=True)
    with opened(browser, pruned_page) as watched:
        assert measure(watched.page) == pytest.approx(pruned_value, abs=1e-6)
        assert watched.page.locator("details summary").inner_text() == "What hepkan symbolic has found"
        watched.assert_quiet(pruned_page)
    changed = json.loads((tmp_path / "prune.json").read_text()) | {"sha256": "0" * 64}
    (tmp_path / "other.json").write_text(json.dumps(changed))
    refused = CliRunner().invoke(app, ["prune", str(finished), "--edits", str(tmp_path / "other.json")])
    assert refused.exit_code == 2 and "hepkan explore" in refused.output
