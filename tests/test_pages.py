"""The ordinary pages in a browser: no complaint, no request, accessible, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser_cases import DESKTOP, PHONE, chromium, opened, screenshot, violations
from hepkan.report.html import write_comparison, write_page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> dict[str, Path]:
    """The pages of a run, of a scan, and of two runs side by side."""
    from hepkan.studies.options import load_card
    from hepkan.studies.run import run
    from hepkan.studies.scan import scan

    place = tmp_path_factory.mktemp("pages")
    overrides = ["train.epochs=2", "model.hidden=[3]", "bootstrap=10"]
    card = load_card("multijet", models=("kan", "logistic"), data=sample, seeds=1, overrides=overrides)
    one = run(card, output=place / "one", command="hepkan run multijet").folder
    short = load_card("multijet", models=("kan",), data=sample, seeds=1, overrides=overrides)
    two = scan(short, ["model.grid=3,5"], output=place / "scan", command="hepkan scan multijet").folder
    both = write_comparison([one, one], place / "both.html")
    return {"run": write_page(one), "scan": two / "index.html", "comparison": both}


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["run", "scan", "comparison"])
def test_pages_are_quiet_and_accessible(browser: Any, pages: dict[str, Path], name: str, dark: bool) -> None:
    for size, kind in ((DESKTOP, "desktop"), (PHONE, "phone")):
        with opened(browser, pages[name], dark=dark, **size) as watched:
            shown = screenshot(watched.page, f"{name}-{kind}-{'dark' if dark else 'light'}")
            assert shown.stat().st_size > 20_000
            assert violations(watched.page) == []
            assert watched.page.evaluate("() => document.documentElement.scrollWidth") <= size["width"]
            watched.assert_quiet(pages[name])
