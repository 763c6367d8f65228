"""Pictures are the same, and in the same order, whoever draws them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from hepkan.report import plots
from hepkan.report.drawing import MANY, drawn
from hepkan.report.reading import Feature
from hepkan.report.sections import Section, draw, plot
from hepkan.report.style import drawn_as


@pytest.mark.parametrize("look", ["plain", "CMS"])
def test_processes_draw_the_same_as_one(look: str) -> None:
    rng = np.random.default_rng(1)
    columns = {"a": rng.normal(size=500), "b": rng.normal(size=500), "weight": np.ones(500)}
    columns["target"] = rng.integers(0, 2, 500)
    first, second = (
        partial(plots.inputs, [Feature(name, "GeV", f"${name}_T$")], columns, ("multijet", "top")) for name in "ab"
    )
    done = plot("done", first(), "done before")
    sections = [
        Section("one", "One", "", [draw("b", second, "of b"), done], [draw("a", first, "of a")]),
        Section("two", "Two", "", [draw("a/again", first, "of a")]),
    ]
    with drawn_as(look):
        alone, together = (drawn(iter(sections), expected) for expected in (1, MANY))
    assert together == alone
    assert [[one.name for one in section.drawn] for section in alone] == [["b", "done", "a"], ["a-again"]]
    assert alone[0].plots[0].alt == "of b" and alone[0].drawn[1] == done
    assert (alone[1].drawn[0].svg == done.svg) == (look == "plain")
