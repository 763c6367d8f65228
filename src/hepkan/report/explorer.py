"""The explorer: one self-contained page on which a network is looked at, driven, pruned and turned into functions.

Its script and style are built from `web/` and lie in `assets/`.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path

from markupsafe import Markup

from hepkan.errors import UsageError
from hepkan.files import write_text
from hepkan.report.explorer_data import EVENTS, EXPLAINED, Explored, explored, payload
from hepkan.report.html import render
from hepkan.report.reading import Run, read_run

PAGE = "explore.html"


def write_explorer(
    run: str | Path,
    output: str | Path | None = None,
    *,
    pruned: bool = False,
    events: int = EVENTS,
    explained: int = EXPLAINED,
) -> Path:
    """Write the explorer's page of a run's KAN; return it. It needs no network and no other file.

    Arguments:
        run: the run folder.
        output: the page, `explore.html` in the run folder by default.
        pruned: whether to take the network of `hepkan prune`.
        events: test events embedded at most.
        explained: the most important edges, which get a bootstrap band and symbolic candidates.

    Raises:
        UsageError: the run has no KAN, no pruned one, or the output is a folder.
        DataError: a file of the run is missing or damaged.
        OSError: the page cannot be written.
    """
    content = read_run(run)
    page = content.folder / PAGE if output is None else Path(output)
    if page.is_dir():
        raise UsageError(f"--export must be a file, however {page} is a folder. Add the name of the page.")
    write_text(page, explorer_page(content, explored(content, pruned, events), explained))
    return page


def explorer_page(run: Run, this: Explored, explained: int = EXPLAINED) -> str:
    """Return the text of the page of a network.

    Raises:
        DataError: the network gives the same for all events, or no numbers.
    """
    found = payload(run, this, explained)
    return render(
        "explorer.html",
        title=found["title"],
        question=found["question"],
        notes=found["notes"],
        data=embedded(found),
        style=Markup(asset("explorer.css")),
        script=Markup(asset("explorer.js")),
    )


def asset(name: str) -> str:
    """Return a file built from `web/`."""
    return (importlib.resources.files("hepkan.report") / "assets" / name).read_text(encoding="utf-8")


def embedded(content: object) -> Markup:
    """Return data as JSON that may stand in a script element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
