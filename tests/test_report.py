"""The page of a run: honest, complete, self-contained, the same every time."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from hepkan.errors import DataError, UsageError
from hepkan.metrics import evaluate, roc_curve
from hepkan.model_io import save
from hepkan.nn import KAN, MLP
from hepkan.report import edge_plots, edges, html, sections, statistics, words
from hepkan.report.edges import Data
from hepkan.report.html import write_comparison, write_page
from hepkan.report.reading import Feature, read_run
from hepkan.report.style import axis_label

FEATURES = [
    {"name": "w_mt", "unit": "GeV", "label": "$m_T(W)$"},
    {"name": "lep_charge", "unit": "", "label": r"$q(\ell)$"},
    {"name": "ljet_eta", "unit": "", "label": r"$\eta(j)$"},
    {"name": "met_sig", "unit": "GeV^0.5", "label": r"$p_T^{miss}/\sqrt{H_T}$"},
    {"name": "broken", "unit": "rad", "label": r"$\nosuchmacro{$"},
]
MODELS = {"kan": 2, "gam": 2, "mlp": 2, "bdt": 1}
ROWS = 3000


def events(seed: int, n: int = ROWS) -> dict[str, Any]:
    """Return five inputs, two of which separate, with weights of which a few are negative."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, n)
    columns = {
        "w_mt": rng.gamma(2 + 2 * target, 15.0),
        "lep_charge": rng.choice([-1.0, 1.0], n),
        "ljet_eta": rng.normal(0, 1.5 + 0.7 * target),
        "met_sig": rng.exponential(3.0, n),
        "broken": rng.uniform(0, np.pi, n),
    }
    weight = rng.exponential(1.0, n) * np.where(target == 1, 0.01, 0.1) * rng.choice([1, 1, 1, 1, -0.1], n)
    process = np.where(target == 0, "multijet", rng.choice(["ttbar", "wjets"], n))
    return {
        **{name: column.astype(np.float32) for name, column in columns.items()},
        "target": target,
        "weight": weight,
        "process": process,
        "id": np.arange(n),
        "group": np.arange(n),
    }


def score(columns: dict[str, Any], noise: float, seed: int) -> np.ndarray:
    """Return a score that knows the truth up to some noise."""
    rng = np.random.default_rng(seed)
    logit = np.log(columns["w_mt"] / 45.0) * 2 + 0.2 * (np.abs(columns["ljet_eta"]) - 1.5)
    return 1 / (1 + np.exp(-logit - rng.normal(0, noise, len(logit))))


def build_run(
    folder: Path,
    difference: float = 0.02,
    sigma: float | None = 5.0,
    rows: int = ROWS,
    features: Sequence[Mapping[str, str]] = FEATURES,
    models: Mapping[str, int] = MODELS,
) -> Path:
    """Write a run folder as ARCHITECTURE.md describes it; `models` has the number of seeds of each."""
    folder.mkdir(parents=True)
    test, train = events(1, rows), events(2, rows)
    names = [one["name"] for one in features]
    X = np.column_stack([train[name] for name in names])
    frames = {"predictions": (test, {}), "train_scores": (train, {})}
    history, results, roc = [], [], {}
    for place, (model, seeds) in enumerate(models.items()):
        for seed in range(seeds):
            for columns, scores in frames.values():
                scores[f"{model}-seed{seed}"] = score(columns, 0.3 + 0.3 * place, 10 * place + seed)
            for epoch in range(1, 6):
                loss = 0.6 / epoch + 0.1 * place
                history.append((model, seed, epoch, loss, loss + 0.02))
            member = folder / "members" / f"{model}-seed{seed}"
            member.mkdir(parents=True)
            hidden = {"kan": [3], "gam": [], "mlp": [4]}.get(model)
            if hidden is not None:
                network = (MLP if model == "mlp" else KAN)([len(names), *hidden, 1], seed=seed)
                network.fit_inputs(X)
                save(network, member / "model.hepkan")
        first = frames["predictions"][1][f"{model}-seed0"]
        found = evaluate(test["target"], first, test["weight"], n_boot=5, luminosity_fb=138.0)
        facts = {"task": "multijet", "model": model, "seeds": seeds, "parameters": 1234 * (place + 1)}
        for metric, (value, error) in found.items():
            more = {"train_seconds": 12.0 * place, "settings": {"hidden": [3], "learning_rate": 0.005}}
            results.append({**facts, "metric": metric, "value": value, "error": error, **more})
        background, signal = roc_curve(test["target"], first, test["weight"])
        x = np.linspace(0, 1, 101)
        roc[model] = {
            "signal_efficiency": x.tolist(),
            "background_efficiency": np.interp(x, signal, background).tolist(),
        }
    for name, (columns, scores) in frames.items():
        kept = {key: columns[key] for key in ("id", "group", "process", "target", "weight")}
        pq.write_table(pa.table({**kept, "prediction": scores["kan-seed0"], **scores}), folder / f"{name}.parquet")
    inputs = {name: test[name] for name in (*names, "target", "weight", "process")}
    pq.write_table(pa.table(inputs), folder / "inputs.parquet")
    columns = zip(("model", "seed", "epoch", "train_loss", "validation_loss"), zip(*history, strict=True), strict=True)
    pq.write_table(pa.table({name: list(values) for name, values in columns}), folder / "history.parquet")
    card = {"task": "classification", "question": "Is <it> so?", "title": "A study", "reference": "mlp"}
    (folder / "card.yaml").write_text(yaml.safe_dump({**card, "model": {"kind": "kan"}, "seeds": 2}))
    error = difference / sigma if sigma else 0.0
    pair = {"model": "kan", "metric": "auc"}
    report = {
        "task": "multijet",
        "version": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "command": "hepkan run multijet",
        "environment": {"versions": {"hepkan": "0.1.0", "torch": "2.13.0"}, "platform": "Linux", "cpu": "one"},
        "data": {
            "source": "embedded:multijet",
            "recipe_hash": "abc123",
            "n_train": rows,
            "n_validation": 500,
            "n_test": rows,
            "yields": [
                {"process": "ttbar", "label": 1, "rows": 900, "effective": 500.0, "pb": 3.2},
                {"process": "wjets", "label": 1, "rows": 600, "effective": 300.0, "pb": 1.2},
                {"process": "multijet", "label": 0, "rows": 1500, "effective": 200.0, "pb": 80.0},
            ],
        },
        "luminosity_fb": 138.0,
        "rows": results,
        "comparisons": [
            {**pair, "reference": "mlp", "difference": difference, "error": error, "sigma": sigma},
            {**pair, "reference": "bdt", "difference": -0.01, "error": 0.002, "sigma": -5.0},
        ],
        "roc": roc,
        "features": features,
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


class Document(HTMLParser):
    """What a reader, a browser and a screen reader find in a page."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.style = ""
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"repeated attribute in {tag}: {names}"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            self.style += data
        else:
            self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def all(self, name: str) -> list[str]:
        """Return the values of an attribute, in order."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    def pictures(self) -> list[str]:
        """Return the SVG files in the page."""
        assert all(source.startswith("data:image/svg+xml,") for source in self.all("src"))
        return [unquote(source.partition(",")[2]) for source in self.all("src")]


def canonical(svg: str) -> str:
    """Return XML without the liberties of quotes and lines."""
    return ElementTree.canonicalize(svg.replace("\n", ""), strip_text=True)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four models with its page."""
    folder = build_run(tmp_path_factory.mktemp("report") / "complete")
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def source(complete: Path) -> str:
    return (complete / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Document:
    return Document(source)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one seed and two inputs, one of them discrete, and without its page; copy it before writing."""
    folder = tmp_path_factory.mktemp("report") / "small"
    return build_run(folder, rows=600, features=FEATURES[:2], models={"kan": 1, "gam": 1})


@pytest.fixture(scope="module")
def written(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run with its page."""
    folder = Path(shutil.copytree(small, tmp_path_factory.mktemp("report") / "written"))
    write_page(folder)
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """A small run to change."""
    return Path(shutil.copytree(small, tmp_path / "run"))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures, which take nearly all of the time."""
    monkeypatch.setattr(html, "sections", lambda run: iter(()))


@pytest.fixture
def blank_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw, and save empty pictures."""
    monkeypatch.setattr(sections, "svg", lambda figure: b"<svg/>")


def change_report(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Edit `report.json`."""
    content = json.loads((folder / "report.json").read_text())
    change(content)
    (folder / "report.json").write_text(json.dumps(content))


# The page as a file.


def test_page_needs_no_network(page: Document) -> None:
    loaded = [*page.all("src"), *(attributes["href"] for tag, attributes in page.tags if tag == "link")]
    assert len(loaded) > 25
    assert all(address.startswith("data:") for address in loaded)
    assert all(address.startswith("#") for address in (a["href"] for tag, a in page.tags if tag == "a"))
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "srcset"]
    assert "font:" in page.style
    assert not re.search(r"@import|url\(", page.style)


def test_page_is_small_and_its_plots_are_also_files(complete: Path, page: Document) -> None:
    assert (complete / "index.html").stat().st_size < 5e6
    files = [path.read_text(encoding="utf-8") for path in (complete / "plots").glob("*.svg")]
    shown, saved = ({canonical(text) for text in texts} for texts in (page.pictures(), files))
    assert shown == saved
    assert len(shown) == len(files) > 25
    assert not [path for path in complete.iterdir() if path.name.startswith(".")]


def test_pictures_are_complete_svg_without_references_outside(page: Document) -> None:
    for picture in page.pictures():
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith("svg")
        assert not [one for one in root.iter() if one.tag.endswith("script")]
        used = [value for one in root.iter() for name, value in one.attrib.items() if name.endswith("href")]
        ids = [one.attrib["id"] for one in root.iter() if "id" in one.attrib]
        assert {value for value in used if not value.startswith("data:")} <= {f"#{name}" for name in ids}
        assert len(set(ids)) == len(ids)


def test_page_is_accessible(page: Document) -> None:
    ids = page.all("id")
    assert len(set(ids)) == len(ids) > 10
    assert dict(page.tags)["html"]["lang"] == "en"
    assert [tag for tag, _ in page.tags].count("title") == 1
    assert [tag for tag, _ in page.tags].count("h1") == 1
    for tag, attributes in page.tags:
        assert tag not in ("img", "svg") or attributes.get("alt") or attributes.get("aria-label"), attributes
        assert attributes.get("role") != "region" or attributes["aria-label"], attributes
    assert set(page.all("aria-labelledby")) <= set(ids)
    assert {a["href"][1:] for tag, a in page.tags if tag == "a"} <= set(ids)


def test_same_run_gives_the_same_bytes(written: Path, copy: Path) -> None:
    write_page(copy)
    one, other = (
        {path.name: path.read_bytes() for path in (run / "index.html", *(run / "plots").iterdir())}
        for run in (written, copy)
    )
    assert one == other


# What the page says.


@pytest.mark.parametrize("model", MODELS)
def test_result_table_has_every_number_of_a_model(page: Document, complete: Path, model: str) -> None:
    rows = [row for row in json.loads((complete / "report.json").read_text())["rows"] if row["model"] == model]
    numbers = [words.with_error(row["value"], row["error"]) for row in rows]
    auc = next(row for row in rows if row["metric"] == "auc")
    assert re.fullmatch(r"0\.\d{2,4} ± 0\.\d{2,4}", words.with_error(auc["value"], auc["error"]))
    cost = [f"{auc['parameters']:,}".replace(",", "\u202f"), f"{auc['train_seconds']:.1f} s", str(MODELS[model])]
    assert [words.title(model), *numbers, *cost] in page.rows


@pytest.mark.parametrize(
    "row",
    [
        ["ttbar", "signal", "900", "500", "3.2", "441\u202f600"],
        ["multijet", "background", "1\u202f500", "200", "80", "11\u202f040\u202f000"],
        ["KAN", "MLP", "AUC", "+0.0200 ± 0.0040", "+5.0"],
        ["KAN", "gradient boosting", "AUC", "−0.0100 ± 0.0020", "−5.0"],
    ],
)
def test_tables_have_yields_and_differences(page: Document, row: list[str]) -> None:
    assert row in page.rows


@pytest.mark.parametrize(
    "text",
    [
        "The KAN beats the MLP by 5.0 standard deviations.",
        "Against the best of the others, the KAN loses to gradient boosting by 5.0 standard deviations.",
        "hepkan run multijet",
        "question: Is <it> so?",
        "learning_rate",
        "abc123",
        "embedded:multijet",
        "2.13.0",
        "2026-01-01 00:00 UTC",
    ],
)
def test_page_says(page: Document, text: str) -> None:
    assert text in " ".join(page.text)


@pytest.mark.parametrize(
    ("alt", "times"),
    [
        (r"Background rejection against signal efficiency of KAN, one-layer KAN, MLP, gradient boosting;", 1),
        (r"Functions that the first layer of the KAN applies to \w+ \(\d+\.\d % of the variation\)\.", 5),
        (r"Function of \w+ learned by the one-layer KAN, beside the log likelihood ratio of that input\.", 5),
        (r"Share of each input in the output of ", 1),
        (r"Score of the [\w -]+ for multijet and signal, training and test events\.", 4),
        (r"Fraction of signal against score of KAN, one-layer KAN, MLP, gradient boosting\.", 1),
        (r"Training and validation loss of the ", 4),
        (r"Distribution of \w+ for signal and multijet\.", 5),
        (r"Correlation matrix of the inputs, (signal|multijet)\.", 2),
    ],
)
def test_page_shows(page: Document, alt: str, times: int) -> None:
    found = [one for one in page.all("alt") if re.match(alt, one)]
    assert len(set(found)) == len(found) == times


def test_text_of_the_card_is_escaped(page: Document, source: str) -> None:
    assert "Is &lt;it&gt; so?" in source
    assert "it" not in {tag for tag, _ in page.tags}


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(
    ("difference", "sigma", "said", "not_said"),
    [
        (0.02, 5.0, "The KAN beats the MLP by 5.0 standard deviations.", "not distinguishable"),
        (-0.02, -5.0, "The KAN loses to the MLP by 5.0 standard deviations.", "beats the MLP"),
        (0.001, 1.9, "The KAN and the MLP are not distinguishable: they differ by 1.9", "beats"),
        (-0.001, -0.3, "The KAN and the MLP are not distinguishable: they differ by 0.3", "loses to the MLP"),
        (0.02, None, "The KAN cannot be compared with the MLP", "beats"),
    ],
)
def test_headline_says_plainly_who_wins(
    copy: Path, difference: float, sigma: float | None, said: str, not_said: str
) -> None:
    error = difference / sigma if sigma else 0.0
    change_report(copy, lambda one: one["comparisons"][0].update(difference=difference, error=error, sigma=sigma))
    found = " ".join(Document(write_page(copy).read_text(encoding="utf-8")).text)
    assert said in found
    assert not_said not in found
    assert "One seed per model was trained" in found


# Runs that lack something.


def test_run_with_one_seed_draws_everything(written: Path) -> None:
    document = Document((written / "index.html").read_text(encoding="utf-8"))
    text = " ".join(document.text)
    assert "One seed per model was trained: a look, not a result." in text
    assert "one seed" in text
    assert len(document.pictures()) == 16


@pytest.mark.usefixtures("blank_plots")
def test_page_without_networks_has_no_learned_functions(copy: Path) -> None:
    shutil.rmtree(copy / "members")
    document = Document(write_page(copy).read_text(encoding="utf-8"))
    assert "learned" not in " ".join(document.text)
    assert [row[0] for row in document.rows][:3] == ["model", "KAN", "one-layer KAN"]


def test_missing_and_foreign_networks_are_left_out(copy: Path) -> None:
    (copy / "members" / "gam-seed0" / "model.hepkan").unlink()
    (copy / "members" / "notes").mkdir()
    assert list(read_run(copy).members) == ["kan"]


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("key", ["comparisons", "roc"])
def test_optional_parts_of_the_report_may_be_missing(copy: Path, key: str) -> None:
    change_report(copy, lambda report: report.pop(key))
    text = " ".join(Document(write_page(copy).read_text(encoding="utf-8")).text)
    assert ("Nothing to compare it with." in text) == (key == "comparisons")


FILES = ("report.json", "card.yaml", "history.parquet", "predictions.parquet", "train_scores.parquet", "inputs.parquet")


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(DataError, match=rf"needs {name}, however {copy} has none.*--resume"):
        write_page(copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("report.json", content) for content in (b"", b"[]", b"\xff{}", b"{}")),
        ("card.yaml", b"a: [b"),
        *((name, content) for name in FILES[2:] for content in (b"", b"not a table", None)),
    ],
)
def test_damaged_file_is_named(copy: Path, name: str, content: bytes | None) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(DataError, match=rf"{copy / name} must be readable, however it is damaged"):
        write_page(copy)
    assert not (copy / "index.html").exists()


@pytest.mark.parametrize(
    ("name", "column"),
    [("history", "epoch"), ("predictions", "weight"), ("train_scores", "target"), ("inputs", "w_mt")],
)
def test_missing_column_is_named(copy: Path, name: str, column: str) -> None:
    path = copy / f"{name}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(column), path)
    with pytest.raises(DataError, match=rf"{name}.parquet must be readable.*no column {column}"):
        write_page(copy)


@pytest.mark.parametrize("key", ["task", "command", "environment", "data", "rows", "features"])
def test_missing_entry_of_the_report_is_named(copy: Path, key: str) -> None:
    change_report(copy, lambda report: report.pop(key))
    with pytest.raises(DataError, match=rf"report.json must be readable, however it is damaged.*{key}"):
        write_page(copy)


def test_report_without_results_is_refused(copy: Path) -> None:
    change_report(copy, lambda report: report["rows"].clear())
    with pytest.raises(DataError, match="rows: List should have at least 1 item"):
        write_page(copy)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path / 'absent'} is none.*hepkan run"):
        write_page(tmp_path / "absent")
    with pytest.raises(DataError, match=rf"needs report.json, however {tmp_path} has none"):
        write_page(tmp_path)


def test_damaged_network_is_named_and_leaves_no_page(copy: Path) -> None:
    path = copy / "members" / "kan-seed0" / "model.hepkan"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=re.escape(str(path))):
        write_page(copy)
    assert not (copy / "index.html").exists()
    assert not (copy / "plots").exists()


@pytest.mark.slow
def test_page_of_many_events_stays_small(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=100_000)
    assert write_page(folder).stat().st_size < 5e6


# Several runs.


def test_comparison_of_two_runs(small: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(small, tmp_path / "other"))
    change_report(other, lambda report: report.update(rows=[row for row in report["rows"] if row["model"] == "kan"]))
    output = write_comparison([small, other], tmp_path / "pages" / "comparison.html")
    assert output == tmp_path / "pages" / "comparison.html"
    document = Document(output.read_text(encoding="utf-8"))
    rows = json.loads((small / "report.json").read_text())["rows"]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    auc = {row["model"]: words.with_error(row["value"], row["error"]) for row in rows if row["metric"] == "auc"}
    assert document.rows[:3] == [
        ["model", "small", "other"],
        ["KAN", auc["kan"], auc["kan"]],
        ["one-layer KAN", auc["gam"], "–"],
    ]
    assert len(document.pictures()) == len(metrics) == len(document.rows) / 3
    assert "2 runs side by side" in " ".join(document.text)
    assert all(document.all("alt"))
    assert all(address.startswith("data:") for address in document.all("src"))


def test_comparison_tells_runs_of_the_same_name_apart(small: Path, copy: Path, tmp_path: Path) -> None:
    same = Path(shutil.copytree(small, tmp_path / "again" / copy.name))
    text = write_comparison([copy, same], tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert Document(text).rows[0] == ["model", str(copy), str(same)]


def test_comparison_needs_runs(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs run folders"):
        write_comparison([], tmp_path / "comparison.html")
    with pytest.raises(DataError, match="absent is none"):
        write_comparison([small, tmp_path / "absent"], tmp_path / "comparison.html")
    assert not (tmp_path / "comparison.html").exists()


# Words.


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.97123, 0.00112, "0.9712 ± 0.0011"),
        (0.97123, 0.0112, "0.971 ± 0.011"),
        (0.97123, 0.0996, "0.97 ± 0.10"),
        (37.21, 9.71, "37.2 ± 9.7"),
        (37.21, 9.96, "37 ± 10"),
        (3617.4, 390.2, "3617 ± 390"),
        (-0.0038, 0.0016, "−0.0038 ± 0.0016"),
        (0.5, 1e-9, "0.500000 ± 0.000000"),
        (0.5, None, "0.5"),
        (-1e-5, 0.0, "−1e−05"),
        (0.97125, float("nan"), "0.9712"),
        (None, 0.1, "–"),
        (float("inf"), 0.1, "–"),
    ],
)
def test_with_error(value: float | None, error: float | None, text: str) -> None:
    assert words.with_error(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0 s"), (2.56, "2.6 s"), (99.9, "99.9 s"), (100, "1.7 min"), (6000, "1.7 h")]
)
def test_seconds(value: float, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (words.count, 999, "999"),
        (words.count, 1234567.2, "1\u202f234\u202f567"),
        (words.rounded, 11_043_999.0, "11\u202f040\u202f000"),
        (words.rounded, 12.3, "12"),
        (words.date, "2026-01-01T02:03:04+00:00", "2026-01-01 02:03 UTC"),
        (words.date, "yesterday", "yesterday"),
        (words.metric_name, "auc", "AUC"),
        (words.metric_name, "rejection_50", "rejection at 50 % signal"),
        (words.metric_name, "asimov_z", "Asimov Z"),
        (words.metric_name, "other_one", "other one"),
        (words.title, "kan", "KAN"),
        (words.title, "kan ensemble", "KAN ensemble"),
        (words.title, "cut w_mt", "cut on w_mt"),
        (words.title, "my_own", "my own"),
        (words.the, "mlp", "the MLP"),
        (words.the, "bdt", "gradient boosting"),
        (words.the, "bdt ensemble", "the gradient boosting ensemble"),
    ],
)
def test_names_and_numbers(function: Callable[[Any], str], value: Any, text: str) -> None:
    assert function(value) == text


BOTH = "The KAN and the MLP are not distinguishable: they"
NOT_COMPARABLE = "The KAN cannot be compared with the MLP: the error of the difference"


def pair(difference: float | None, error: float | None, sigma: float | None, reference: str = "mlp") -> dict[str, Any]:
    names = {"model": "kan", "reference": reference, "metric": "auc"}
    return {**names, "difference": difference, "error": error, "sigma": sigma}


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (pair(0.02, 0.01, 2.0), "The KAN beats the MLP by 2.0 standard deviations."),
        (pair(-0.02, 0.01, -2.0, "bdt"), "The KAN loses to gradient boosting by 2.0 standard deviations."),
        *(
            (pair(d, abs(d) / 1.9, 1.9 * np.sign(d)), f"{BOTH} differ by 1.9 standard deviations.")
            for d in (0.02, -0.02)
        ),
        *(
            (pair(0.02, *two), f"{NOT_COMPARABLE} is unknown.")
            for two in ((0.0, None), (None, 5.0), (0.01, float("nan")))
        ),
    ],
)
def test_verdict(item: Mapping[str, Any], text: str) -> None:
    assert words.verdict(item) == text


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (pair(0.0046, 0.0018, 2.5), "+0.0046 ± 0.0018"),
        (pair(-0.0046, 0.0018, -2.5), "−0.0046 ± 0.0018"),
        (pair(0.0, 0.0018, 0.0), "+0.0000 ± 0.0018"),
        (pair(None, None, None), "–"),
    ],
)
def test_difference_has_a_sign(item: Mapping[str, Any], text: str) -> None:
    assert words.difference(item) == text


def result(model: str, value: float | None, seeds: int = 3, metric: str = "auc") -> dict[str, Any]:
    return {"model": model, "metric": metric, "value": value, "error": 0.001, "seeds": seeds}


RESULTS = [result("kan", 0.91), result("mlp", 0.92), result("gam", 0.9), result("bdt", 0.93)]
AGAINST = "Against the best of the others,"
PAIRS = [pair(0.01, 0.001, 10.0, "gam"), pair(-0.01, 0.001, -10.0), pair(-0.02, 0.001, -20.0, "bdt")]


@pytest.mark.parametrize(
    ("comparisons", "reference", "starts"),
    [
        (PAIRS, "mlp", ["The KAN loses to the MLP by 10.0 ", f"{AGAINST} the KAN loses to gradient boosting"]),
        (PAIRS, "bdt", ["The KAN loses to gradient boosting by 20.0 ", f"{AGAINST} the KAN loses to the MLP"]),
        (PAIRS, None, ["The KAN beats the one-layer KAN by 10.0 ", AGAINST]),
        (PAIRS[:1], "gam", ["The KAN beats the one-layer KAN by 10.0 "]),
        ([], "mlp", ["The KAN: AUC 0.9100 ± 0.0010. Nothing to compare it with."]),
    ],
)
def test_headline(comparisons: list[dict[str, Any]], reference: str | None, starts: list[str]) -> None:
    lines = words.headline({"rows": RESULTS, "comparisons": comparisons}, "kan", reference)
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_headline_ends_with_values_and_difference() -> None:
    line, *_ = words.headline({"rows": RESULTS, "comparisons": PAIRS}, "kan", "mlp")
    assert line.endswith("AUC: KAN 0.9100 ± 0.0010, MLP 0.9200 ± 0.0010, difference −0.0100 ± 0.0010.")


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("auc", [0.9, 0.8], [True, False]),
        ("rejection_50", [10.0, None], [False, False]),
        ("test_loss", [0.9, 0.8], [False, True]),
        ("auc", [0.9, 0.9], [True, True]),
        ("unheard_of", [0.9, 0.8], [False, False]),
    ],
)
def test_best_value(metric: str, values: list[float | None], best: list[bool]) -> None:
    rows = [result(f"m{i}", value, metric=metric) for i, value in enumerate(values)]
    assert [words.is_best(rows, row) for row in rows] == best


@pytest.mark.parametrize(
    ("label", "unit", "name", "text"),
    [
        ("$m_T$", "GeV", "w_mt", "$m_T$ [GeV]"),
        ("$x$", "GeV^0.5", "x", r"$x$ [$\sqrt{\mathrm{GeV}}$]"),
        (r"$\nosuchmacro{$", "rad", "bro$ken", "broken [rad]"),
        ("", "", "plain", "plain"),
    ],
)
def test_label_that_is_no_mathtext_falls_back_to_the_name(label: str, unit: str, name: str, text: str) -> None:
    assert axis_label(label, unit, name) == text


# Statistics, against NumPy.


@pytest.fixture(scope="module")
def weighted() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=500), rng.exponential(size=500)


def test_histogram(weighted: tuple[np.ndarray, np.ndarray]) -> None:
    values, weight = weighted
    bins = np.linspace(-5, 5, 21)
    found = statistics.histogram(values, weight, bins)
    np.testing.assert_allclose(found.density, np.histogram(values, bins, weights=weight, density=True)[0])
    for i in (8, 10):
        inside = weight[(values >= bins[i]) & (values < bins[i + 1])]
        assert found.error[i] == pytest.approx(np.sqrt(np.sum(inside**2)) / weight.sum() / 0.5)
    assert found.centres[0] == pytest.approx(-4.75)
    narrow = statistics.histogram(values, weight, bins[9:12])
    np.testing.assert_allclose(narrow.density, found.density[9:11])


def test_quantile(weighted: tuple[np.ndarray, np.ndarray]) -> None:
    values, weight = weighted
    levels = np.array([0.005, 0.3, 0.5, 0.995])
    equal = statistics.quantile(values, np.ones(500), levels)
    np.testing.assert_allclose(equal, np.quantile(values, levels, method="inverted_cdf"), rtol=1e-12)
    found = statistics.quantile(values, weight, levels)
    below = np.array([weight[values <= one].sum() for one in found]) / weight.sum()
    assert np.all((below >= levels) & (below - levels < weight.max() / weight.sum()))


def test_correlation(weighted: tuple[np.ndarray, np.ndarray]) -> None:
    values, weight = weighted
    X = np.column_stack([values, values**2 + values, np.full(500, 3.0)])
    found = statistics.correlation(X, weight)
    covariance = np.cov(X[:, :2].T, aweights=weight)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found[:2, :2], covariance / np.outer(scale, scale))
    np.testing.assert_allclose(found[2, :2], 0, atol=1e-12)


def test_balanced_classes_have_the_same_sum(weighted: tuple[np.ndarray, np.ndarray]) -> None:
    target = np.arange(500) % 3 == 0
    weight = weighted[1] * np.where(np.arange(500) % 7 == 0, -1, 1)
    found = statistics.balanced(target.astype(int), weight)
    assert found.min() >= 0
    assert [found[target].sum(), found[~target].sum()] == pytest.approx([0.5, 0.5])
    np.testing.assert_allclose(found[target] / np.abs(weight)[target], found[0] / abs(weight[0]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.tile([-1.0, 1.0], 50), [-2.0, 0.0, 2.0]),
        (np.tile([0.0, 1.0, 4.0], 50), [-0.5, 0.5, 2.5, 5.5]),
        (np.full(100, 7.0), [6.5, 7.5]),
        (np.linspace(0, 100, 10_001), np.linspace(0.5, 99.5, 41)),
        (np.append(np.zeros(10_000), np.arange(20.0)), np.linspace(-0.5, 0.5, 41)),
    ],
)
def test_edges(values: np.ndarray, expected: Sequence[float]) -> None:
    np.testing.assert_allclose(statistics.edges(values, np.ones(len(values))), expected, atol=0.02)


def test_separation() -> None:
    bins = np.array([0.0, 1.0, 3.0])
    low, high, both = (
        statistics.histogram(np.array(values), np.ones(2), bins) for values in ([0.5, 0.5], [2.0, 2.0], [0.5, 2.0])
    )
    assert statistics.separation(low, low) == 0
    assert statistics.separation(low, high) == pytest.approx(1)
    # 1/2 [(1 - 1/2)^2 / (1 + 1/2) + (1/4)^2 / (1/4) * 2]
    assert statistics.separation(low, both) == pytest.approx(1 / 3)


def test_log_ratio() -> None:
    bins = np.array([0.0, 1.0, 2.0])
    signal = np.column_stack([[0.5] * 20 + [1.5] * 20, np.full(40, 2.0)])
    background = np.column_stack([[0.5] * 30 + [1.5] * 3, np.ones(33)])
    ratio, error = statistics.log_ratio(signal, background, bins)
    assert ratio[0] == pytest.approx(np.log(20 / 40) - np.log(30 / 33))
    assert error[0] == pytest.approx(np.sqrt(1 / 20 + 1 / 30))
    assert np.isnan(ratio[1])


# What a network learned.


def gaussians(shift: float, n: int = 20_000, inputs: int = 1) -> Data:
    """Return signal around +shift and background around -shift, of width one."""
    rng = np.random.default_rng(5)
    target = np.arange(n) % 2
    X = rng.normal(size=(n, inputs)) + shift * (2 * target - 1)[:, None]
    features = tuple(Feature(f"x{i}", "", f"$x_{i}$") for i in range(inputs))
    return Data(features, X, target, np.full(n, 1 / n), ("background", "signal"))


def linear_kan(slopes: Sequence[float], scale: float = 1.0) -> KAN:
    """Return a one-layer KAN that is a linear function of raw values."""
    model = KAN([len(slopes), 1], base="linear", input_map="none")
    with torch.no_grad():
        model.layers[0].coef.zero_()
        model.layers[0].base_weight.copy_(torch.tensor(slopes).unsqueeze(-1))
        model.output_map.scale.fill_(scale)
    return model


def test_likelihood_ratio_of_two_gaussians() -> None:
    data = gaussians(0.7)
    x, ratio, error = edges.likelihood_ratio(data, 0)
    pull = (ratio - 2 * 0.7 * x) / error
    assert len(x) == 24
    assert np.abs(pull).max() < 4
    assert 0.4 < np.mean(pull**2) < 1.8


def test_ratio_panel_shows_a_network_that_knows_the_likelihood_ratio() -> None:
    data = gaussians(0.7)
    found = edges.edges_of([linear_kan([0.7], scale=2.0)] * 2, data)
    axes = edge_plots.ratio_panel(found, data, 0).axes[0]
    learned = next(line for line in axes.lines if line.get_label() == "learned")
    np.testing.assert_allclose(np.gradient(learned.get_ydata(), learned.get_xdata()), 2 * 0.7, rtol=1e-3)
    (points,) = axes.containers
    x, ratio, error = edges.likelihood_ratio(data, 0)
    np.testing.assert_array_equal(points.lines[0].get_xydata(), np.column_stack([x, ratio]))
    assert np.abs((ratio - np.interp(x, *learned.get_data())) / error).max() < 4


def test_edge_panel_shows_the_density_of_the_data() -> None:
    data = gaussians(0.7)
    found = edges.edges_of([KAN([1, 5, 1])], data)
    (axes,) = edge_plots.edge_panel(found, data, 0).axes
    points = sorted(len(line.get_xdata()) for line in axes.lines)
    assert points == [2, *2 * [edges.POINTS // 2 + 1], *3 * [edges.POINTS]]
    bins = statistics.edges(data.X[:, 0], data.weight)
    counts = [np.histogram(data.X[data.target == label, 0], bins)[0] for label in (0, 1)]
    expected = [one / np.diff(bins) / (data.target == label).sum() for label, one in enumerate(counts)]
    shown = [patch.get_data().values for patch in axes.patches]
    np.testing.assert_allclose(shown, np.array(expected) / (4.5 * np.max(expected)))
    assert all(patch.get_transform() == axes.get_xaxis_transform() for patch in axes.patches)


@pytest.mark.parametrize("widths", [[3, 4, 1], [3, 1]])
def test_edge_functions_are_those_of_the_layer(widths: list[int]) -> None:
    data = gaussians(0.5, inputs=3)
    model = KAN(widths, seed=2)
    model.fit_inputs(data.X.astype(np.float32))
    found = edges.edges_of([model], data)
    with torch.no_grad():
        own = model.layers[0].edge_functions(model.input_map(torch.as_tensor(found.x, dtype=torch.float32))).numpy()
    constant = found.phi[0] - own
    np.testing.assert_allclose(constant, np.broadcast_to(constant[:1], constant.shape), atol=1e-5)
    assert found.phi.shape == (1, edges.POINTS, 3, widths[1])
    assert found.layers == len(widths) - 1
    np.testing.assert_allclose(found.x[[0, -1]], np.quantile(data.X, [0.005, 0.995], axis=0), atol=0.02)


def test_functions_of_a_one_layer_network_add_up_to_its_output() -> None:
    data = gaussians(0.5, inputs=3)
    model = KAN([3, 1], seed=4)
    model.fit_inputs(data.X.astype(np.float32))
    model.output_map.scale.fill_(3.0)
    found = edges.edges_of([model], data)
    rest = model.predict(found.x.astype(np.float32)) - found.phi[0].sum(axis=(1, 2))
    np.testing.assert_allclose(rest, rest[0], atol=1e-4)


def test_edge_functions_are_centred_on_the_data() -> None:
    data = gaussians(1.0, inputs=2)
    data = replace(data, X=data.X + 5)
    found = edges.edges_of([linear_kan([1.0, -2.0])], data)
    expected = (found.x - data.X.mean(axis=0)) * [1.0, -2.0]
    np.testing.assert_allclose(found.phi[0, :, :, 0], expected, atol=0.1)


@pytest.mark.parametrize("widths", [[3, 1], [3, 4, 1], [3, 4, 2, 1]])
def test_importance_shares_add_up_to_one(widths: list[int]) -> None:
    data = gaussians(0.5, inputs=3)
    found = edges.edges_of([KAN(widths, seed=seed) for seed in range(2)], data)
    assert found.importance.shape == (2, 3, widths[1])
    assert found.importance.min() >= 0
    np.testing.assert_allclose(found.importance.sum(axis=(1, 2)), 1.0)


def test_importance_of_a_linear_network_is_known() -> None:
    data = gaussians(0.0, inputs=3)
    found = edges.edges_of([linear_kan([1.0, 0.0, -3.0])], data)
    np.testing.assert_allclose(found.importance[0, :, 0], [0.25, 0.0, 0.75], atol=0.01)
    assert found.order == [2, 0, 1]


def test_only_kans_with_the_inputs_of_the_run_are_read(tmp_path: Path) -> None:
    for seed, model in enumerate((MLP([2, 1]), KAN([2, 1]))):
        save(model, tmp_path / f"{seed}.hepkan")
    files = {seed: tmp_path / f"{seed}.hepkan" for seed in (1, 0)}
    assert [model.widths for model in edges.load_kans(files, 2)] == [[2, 1]]
    with pytest.raises(DataError, match=r"1\.hepkan must have the 3 inputs of its run, however it has 2"):
        edges.load_kans(files, 3)


@pytest.mark.usefixtures("blank_plots")
@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["data"].pop("yields"),
        lambda report: report["data"].pop("n_test"),
        lambda report: report.update(environment=None),
        lambda report: report.update(luminosity_fb=None),
        lambda report: report.update(rows={"a": 1}),
        lambda report: report.update(features=[]),
        lambda report: report["rows"][0].pop("seeds"),
    ],
)
def test_incomplete_report_is_named(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    change_report(copy, change)
    with pytest.raises(DataError, match=r"report\.json must be readable, however it is damaged"):
        write_page(copy)


@pytest.mark.parametrize("content", [b"title: \xff", b"model: kan"])
def test_unreadable_card_is_named(copy: Path, content: bytes) -> None:
    (copy / "card.yaml").write_bytes(content)
    with pytest.raises(DataError, match=r"card\.yaml must be readable, however it is damaged"):
        write_page(copy)


@pytest.mark.usefixtures("blank_plots")
@pytest.mark.parametrize("name", ["predictions", "train_scores", "inputs"])
def test_table_without_events_is_named(copy: Path, name: str) -> None:
    path = copy / f"{name}.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match=f"{name}.parquet must be readable"):
        write_page(copy)


@pytest.mark.usefixtures("blank_plots")
def test_scores_that_are_no_probabilities_have_no_calibration(copy: Path) -> None:
    for name in ("predictions", "train_scores"):
        path = copy / f"{name}.parquet"
        table = pq.read_table(path)
        names = [key for key in table.column_names if key != "process"]
        columns = {key: table[key].to_numpy() * (4 if "-seed" in key else 1) for key in names}
        pq.write_table(pa.table({**columns, "process": table["process"]}), path)
    assert "Calibration" not in Document(write_page(copy).read_text(encoding="utf-8")).text
