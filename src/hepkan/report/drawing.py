"""Drawing the pictures of a page, where there are many in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from joblib import Parallel, delayed

from hepkan.report.sections import Picture, Plot, Section, Sketch, plot
from hepkan.report.style import drawn_as, look

MANY = 30
"""From about so many pictures on it pays to start processes, which takes two seconds of each."""
MOST_WORKERS = 8
AT_ONCE = 6
"""Pictures that a process gets at a time: while networks are evaluated, it would wait long for each single one."""


def drawn(sections: Iterable[Section], expected: int) -> list[Section]:
    """Return sections with all pictures drawn, while the next ones are made.

    The processes are joblib's, which do not run the user's script again as those of `multiprocessing` do.

    Arguments:
        sections: those with many pictures that are made soon come first.
        expected: the number of pictures, about.
    """
    workers = min(MOST_WORKERS, os.cpu_count() or 1) if expected >= MANY else 1
    parts: list[Section] = []

    def tasks() -> Iterator[Any]:
        for part in sections:
            parts.append(part)
            for one in (*part.plots, *part.more):
                if isinstance(one, Sketch):
                    yield delayed(_drawn)(one, look())

    pool = Parallel(n_jobs=workers, batch_size=AT_ONCE, pre_dispatch="all")
    plots = iter(pool(tasks()))

    def finished(pictures: list[Picture]) -> list[Picture]:
        return [next(plots) if isinstance(one, Sketch) else one for one in pictures]

    return [replace(part, plots=finished(part.plots), more=finished(part.more)) for part in parts]


def _drawn(sketch: Sketch, chosen: str) -> Plot:
    """Draw a picture in the look that was chosen, which a process of its own does not know."""
    with drawn_as(chosen):
        return plot(sketch.name, sketch.make(), sketch.alt)
