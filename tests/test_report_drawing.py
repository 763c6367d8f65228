"""Pictures are the same, and in the same order, whoever draws them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hepkan.report import drawing, plots
from hepkan.report.drawing import MANY, drawn
from hepkan.report.kept import KEYS, kept_in, write_pictures
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
        Section("one", "One", "", [draw("b", second, "of b"), done], [draw("a", first, "of a", here=True)]),
        Section("two", "Two", "", [draw("a/again", first, "of a")]),
    ]
    with drawn_as(look):
        (alone, keys), together = (drawn(iter(sections), expected, {}) for expected in (1, MANY))
    assert together == (alone, keys) and set(keys) == {"a", "b", "a-again"} and keys["a"] == keys["a-again"]
    assert [[one.name for one in section.drawn] for section in alone] == [["b", "done", "a"], ["a-again"]]
    assert alone[0].plots[0].alt == "of b" and alone[0].drawn[1] == done
    assert (alone[1].drawn[0].svg == done.svg) == (look == "plain")


def sketches(columns: dict[str, np.ndarray]) -> list[Section]:
    orders = [draw(one, partial(plots.inputs, [Feature(one)], columns, ()), one) for one in "ab"]
    return [Section("inputs", "Inputs", "", [*orders])]


def test_pictures_are_kept_while_all_they_depend_on_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    columns = {name: rng.normal(size=300) for name in "ab"} | {"weight": np.ones(300), "target": np.zeros(300)}
    first = drawn(sketches(columns), 1, {})
    write_pictures(tmp_path, first.sections[0].drawn, first.keys)
    known = kept_in(tmp_path)
    assert set(known) == set(first.keys.values())
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "_drawn", lambda *_: pytest.fail("drawn again"))
        assert drawn(sketches({name: values.copy() for name, values in columns.items()}), 1, known) == first
    columns["a"][0] += 1e-6
    other = drawn(sketches(columns), 1, known)
    with drawn_as("CMS"):
        styled = drawn(sketches(columns), 1, known)
    assert not set(first.keys.values()) & {other.keys["a"], other.keys["b"], *styled.keys.values()}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": ["k", "x", "y"]}', '{"../a": ["k", 1, "d"]}'])
def test_damaged_keys_keep_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_bytes(b"<svg/>")
    (tmp_path / KEYS).write_text(content, encoding="utf-8")
    assert kept_in(tmp_path) == {} == kept_in(tmp_path / "nowhere")


def test_a_picture_that_was_changed_is_drawn_again(tmp_path: Path) -> None:
    columns = {"a": np.arange(50.0), "b": np.arange(50.0), "weight": np.ones(50), "target": np.zeros(50)}
    first = drawn(sketches(columns), 1, {})
    write_pictures(tmp_path, first.sections[0].drawn, first.keys)
    (tmp_path / "a.svg").write_bytes(b"<svg/>")
    assert set(kept_in(tmp_path)) == {first.keys["b"]}
