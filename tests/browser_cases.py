"""A browser for tests of pages: it notes whatever a page complains about or asks the network for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 180_000
"""Milliseconds for a page of a hundred plots, on a machine that does much else."""
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a running Chromium, Debian's or that of the variable CHROMIUM; skip the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright (extra dev)")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium, or set CHROMIUM to a browser")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, what it complained about, and what it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def assert_quiet(self, own: Path) -> None:
        """Check that the page is its file, without any complaint or other request."""
        assert self.complaints == []
        inside = (own.resolve().as_uri(), "data:", "blob:")
        assert [url for url in self.requests if not url.startswith(inside)] == []


@contextmanager
def opened(browser: Any, path: Path, *, dark: bool = False, **viewport: int) -> Iterator[Watched]:
    """Give a page opened from its file."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport=viewport or DESKTOP, color_scheme=scheme, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    watched = Watched(context.new_page())
    watched.page.on("console", lambda message: watched.complaints.append(f"{message.type}: {message.text}"))
    watched.page.on("pageerror", lambda error: watched.complaints.append(f"error: {error}"))
    watched.page.on("request", lambda request: watched.requests.append(request.url))
    watched.page.goto(path.resolve().as_uri())
    yield watched
    context.close()


def violations(page: Any) -> list[str]:
    """Return the serious violations of accessibility that axe-core finds."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python (extra dev)")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in SERIOUS
    ]


def screenshot(page: Any, name: str, whole: bool = True) -> Path:
    """Keep a picture of the page, for eyes and as an artefact of continuous integration."""
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=str(path), full_page=whole)
    return path
