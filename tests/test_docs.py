"""The documentation tells the truth: its code runs, its site builds without a warning, its links lead somewhere."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer
import yaml

import hepkan
from browser_cases import chromium, opened, violations
from hepkan.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "tools" not in path.parts)
LANGUAGES = {"python", "bash", "console", "yaml", "json", "cpp", "text", "cmake", "latex", "html"}
MOST_LEFT_OUT = 14
"""Blocks of code that no test runs, each with its reason."""
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Code of a page."""

    language: str
    body: str
    reason: str | None

    @property
    def script(self) -> str:
        """The block as Python."""
        if self.language == "python":
            return self.body
        commands = self.body
        if self.language == "console":
            commands = "\n".join(line[2:] for line in self.body.splitlines() if line.startswith("$ "))
        return f"subprocess.run(['bash', '-euo', 'pipefail', '-c', {commands!r}], check=True)\n"


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = []
    for match in FENCE.finditer(path.read_text(encoding="utf-8")):
        language, _, rest = match["info"].strip().partition(" ")
        reason = re.fullmatch(r'\{ \.no-run reason="(.+)" \}', rest)
        assert reason or not rest, f"{path.name}: ```{match['info']}"
        found.append(Block(language, match["body"], reason[1] if reason else None))
    return found


def runnable(path: Path) -> list[Block]:
    """Return the blocks of a page that tests run, in order."""
    return [one for one in blocks(path) if one.language in ("python", "bash", "console") and one.reason is None]


WITH_CODE = [path for path in PAGES if runnable(path)]


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_blocks_say_what_they_are(path: Path) -> None:
    assert {one.language for one in blocks(path)} <= LANGUAGES


def test_commands_stand_in_fences() -> None:
    for path in [ROOT / "README.md", *PAGES]:
        outside = FENCE.sub("", path.read_text(encoding="utf-8"))
        assert not re.search(r"^    (\$ )?(hepkan|import|python) ", outside, re.MULTILINE), path


def test_few_blocks_are_left_out() -> None:
    left_out = [one.reason for path in [ROOT / "README.md", *PAGES] for one in blocks(path) if one.reason is not None]
    assert len(left_out) <= MOST_LEFT_OUT, left_out
    assert len(WITH_CODE) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.stem)
def test_code_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    for name in ("examples", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = tmp_path / "page.py"
    script.write_text("import subprocess\n\n" + "\n".join(one.script for one in runnable(path)), encoding="utf-8")
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": search, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_pictures_are_those_of_the_code_and_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "tools"))
    pictures = importlib.import_module("pictures")
    digests = json.loads((pictures.FOLDER / pictures.DIGESTS).read_text(encoding="utf-8"))
    drawn = {name: pictures.digest(draw()) for name, draw in pictures.PICTURES.items() if name != "diagram"}
    assert digests == {**drawn, "diagram": digests["diagram"]}
    assert {path.stem for path in pictures.FOLDER.glob("*.svg")} == set(pictures.PICTURES)
    used = {name for path in PAGES for name in re.findall(r"pictures/(\w+)\.svg", path.read_text(encoding="utf-8"))}
    assert used == set(pictures.PICTURES)


def entries(nav: object) -> Iterator[str]:
    """Return the pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for one in nav.values() if isinstance(nav, dict) else nav:  # type: ignore[attr-defined]
            yield from entries(one)


def test_navigation_has_every_page_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(entries(nav)) == sorted(path.relative_to(DOCS).as_posix() for path in PAGES)


class Reader(HTMLParser):
    """Collects what a page is called by, leads to, and loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(values["href"])
        self.loads += [values[name] for name in ("src", "srcset", "data", "poster") if name in values and tag != "a"]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def html(site: Path) -> dict[Path, Reader]:
    """All pages of the site."""
    return {path: Reader(path) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_page_is_built(site: Path, html: dict[Path, Reader]) -> None:
    names = {path.relative_to(site).with_suffix(".md").as_posix() for path in html}
    assert names >= {path.relative_to(DOCS).as_posix() for path in PAGES}
    assert not (site / "tools").exists()


@pytest.mark.slow
def test_links_and_anchors_lead_somewhere(site: Path, html: dict[Path, Reader]) -> None:
    missing = []
    for page, content in html.items():
        for link in {*content.links, *content.loads}:
            parts = urlsplit(link)
            if parts.scheme or page.name == "404.html":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            there = html.get(target)
            if not target.exists() or (parts.fragment and there and unquote(parts.fragment) not in there.ids):
                missing.append((page.relative_to(site).as_posix(), link))
    assert missing == []


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path, html: dict[Path, Reader]) -> None:
    for page, content in html.items():
        assert [load for load in content.loads if urlsplit(load).netloc] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_browser_asks_for_nothing_from_elsewhere_and_anybody_can_read(site: Path) -> None:
    with chromium() as browser:
        for name in ("index", "kans", "api/metrics", "extending"):
            for dark in (False, True):
                with opened(browser, site / f"{name}.html", dark=dark) as watched:
                    watched.page.wait_for_timeout(300)
                    assert watched.complaints == []
                    assert [url for url in watched.requests if not url.startswith(site.resolve().as_uri())] == []
                    assert violations(watched.page) == []


@pytest.mark.slow
def test_formulae_are_mathml(site: Path, html: dict[Path, Reader]) -> None:
    text = (site / "kans.html").read_text(encoding="utf-8")
    assert text.count("<math") > 10
    for page in html:
        assert "arithmatex" not in page.read_text(encoding="utf-8"), page


@pytest.mark.slow
@pytest.mark.parametrize("module", ["hepkan", "hepkan.metrics", "hepkan.interpret", "hepkan.export", "hepkan.nn",
                                    "hepkan.train", "hepkan.data", "hepkan.splines"])  # fmt: skip
def test_every_public_name_has_its_reference(module: str, html: dict[Path, Reader]) -> None:
    ids = {one.rsplit(".", 1)[-1] for page, content in html.items() if page.parent.name == "api" for one in content.ids}
    names = {name for name in importlib.import_module(module).__all__ if not name.startswith("__")}
    assert names <= ids, names - ids


@pytest.mark.slow
def test_index_of_the_api_has_every_name(site: Path, html: dict[Path, Reader]) -> None:
    text = " ".join(html[site / "api" / "index.html"].text)
    assert all(f"hepkan.{name}" in text for name in hepkan.__all__ if not name.startswith("__"))


@pytest.mark.slow
def test_command_line_is_described_as_it_is(site: Path, html: dict[Path, Reader]) -> None:
    sections = re.split(r"<h2 ", (site / "cli.html").read_text(encoding="utf-8"))[1:]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(sections) == len(commands)
    for (name, command), section in zip(commands.items(), sections, strict=True):
        assert f"hepkan {name}" in section
        for one in command.params:
            shown = [*one.opts, *one.secondary_opts] if one.param_type_name == "option" else []
            if one.name not in ("help", "debug"):
                assert all(f"<code>{option}</code>" in section for option in shown), (name, shown)


@pytest.mark.slow
def test_observables_and_primitives_are_those_of_the_code(site: Path) -> None:
    from hepkan.interpret import PRIMITIVES
    from hepkan.physics.observables import OBSERVABLES
    from hepkan.physics.top_dm import INPUTS

    for page, names in {"physics": [*OBSERVABLES, *INPUTS], "extending": [*PRIMITIVES]}.items():
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        assert [name for name in names if f"<td><code>{name}</code></td>" not in text] == []
