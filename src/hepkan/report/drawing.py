"""Drawing the pictures of a page, where there are many in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from joblib import Parallel, delayed

from hepkan.report.kept import Kept, Keys
from hepkan.report.sections import Picture, Plot, Section, Sketch, plot
from hepkan.report.style import drawn_as, look

MANY = 30
"""From about so many pictures on it pays to start processes, which takes two seconds of each."""
MOST_WORKERS = 8
AT_ONCE = 6
"""Pictures that a process gets at a time: while networks are evaluated, it would wait long for each single one."""


class Drawn(NamedTuple):
    """Sections with their pictures, and by name of these the keys of those that were ordered as sketches."""

    sections: list[Section]
    keys: dict[str, str]


def drawn(sections: Iterable[Section], expected: int, known: Mapping[str, Kept]) -> Drawn:
    """Return sections with all pictures drawn, while the next ones are made.

    The processes are joblib's, which do not run the user's script again as those of `multiprocessing` do.

    Arguments:
        sections: those with many pictures that are made soon come first.
        expected: the number of pictures, about.
        known: pictures of an earlier page by key, which are taken as they are.
    """
    workers = min(MOST_WORKERS, os.cpu_count() or 1) if expected >= MANY else 1
    parts: list[Section] = []
    keys: dict[str, str] = {}
    hashes = Keys()
    here: dict[str, Plot] = {}

    def tasks() -> Iterator[Any]:
        for part in sections:
            parts.append(part)
            for one in (*part.plots, *part.more):
                if isinstance(one, Sketch):
                    keys[one.name] = hashes.of(one)
                    if keys[one.name] in known:
                        continue
                    if one.here:
                        here[one.name] = _drawn(one, look())
                    else:
                        yield delayed(_drawn)(one, look())

    plots = iter(Parallel(n_jobs=workers, batch_size=AT_ONCE, pre_dispatch="all")(tasks()))

    def finished(one: Picture) -> Plot:
        if isinstance(one, Plot):
            return one
        before = known.get(keys[one.name])
        if before is not None:
            return Plot(one.name, before.svg, one.alt, before.width)
        return here[one.name] if one.here else next(plots)

    done = [replace(part, plots=[*map(finished, part.plots)], more=[*map(finished, part.more)]) for part in parts]
    return Drawn(done, keys)


def _drawn(sketch: Sketch, chosen: str) -> Plot:
    """Draw a picture in the look that was chosen, which a process of its own does not know."""
    with drawn_as(chosen):
        return plot(sketch.name, sketch.make(), sketch.alt)
