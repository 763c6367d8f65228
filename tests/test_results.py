"""Numbers in README and settings in the card are those that the scripts in `benchmarks/` have written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ideas
import multijet
import multijet_events
import multijet_teachers
import pytest
import summary
import teachers
import top_dm
import trials
import tuning

from hepkan.baselines import MODELS
from hepkan.studies.options import load_card

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
NOTEBOOK = summary.ROOT / "docs" / "notebook.md"
TUNED = {task: json.loads(tuning.result(task).read_text(encoding="utf-8")) for task in tuning.SPACE}
GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_multijet.json").read_text(encoding="utf-8"))
RESULT = json.loads(multijet.RESULT.read_text(encoding="utf-8"))
TAUGHT = json.loads(teachers.RESULT.read_text(encoding="utf-8"))["networks"]


@pytest.mark.parametrize(("task", "kind"), [(task, kind) for task in tuning.SPACE for kind in tuning.SPACE[task]])
def test_card_has_the_settings_that_won_on_validation_events(task: str, kind: str) -> None:
    settings = load_card(task).settings(kind, MODELS[kind].settings)
    winner = TUNED[task]["best"][kind]["settings"]
    if (task, kind) == ("top_dm", "kan"):  # larger teachers came after the search
        small = [row for row in TAUGHT if row["hidden"] == teachers.SMALL]
        winner = teachers.card_settings(min(small, key=lambda row: row["error"])["words"])
    assert {**MODELS[kind].settings, **settings} == {**MODELS[kind].settings, **winner}


@pytest.mark.parametrize("task", tuning.SPACE)
def test_every_kind_had_the_same_number_of_trials(task: str) -> None:
    search = tuning.SEARCH[task]
    counts = {kind: sum(trial["kind"] == kind for trial in TUNED[task]["trials"]) for kind in tuning.SPACE[task]}
    assert set(counts.values()) == {search.trials + search.finalists * (len(search.seeds) - 1)}
    again = [row["kind"] for row in TUNED[task].get("all_events", ())]
    assert {kind: again.count(kind) for kind in set(again)} == {k: len(v) for k, v in tuning.REFINE[task].items()}


@pytest.mark.parametrize("part", ["results", "compositions", "hidden", "speed"])
def test_readme_says_what_was_measured(part: str) -> None:
    found = re.search(rf"<!-- {part} -->\n(.*?)\n<!-- /{part} -->", README, re.DOTALL)
    assert found is not None
    speed = json.loads((multijet.RESULT.parent / "peers.json").read_text(encoding="utf-8"))
    assert found[1] == {**multijet.readme_parts(RESULT), "speed": summary.speed_table(speed)}[part]


DARK = json.loads(top_dm.RESULT.read_text(encoding="utf-8"))
IDEAS = {task: json.loads(ideas.result(task).read_text(encoding="utf-8")) for task in ideas.STUDIES}
TRIALS = json.loads(trials.RESULT.read_text(encoding="utf-8"))
TRIED = {f"{task}_ideas": ideas.lines(task, content) for task, content in IDEAS.items()}
TRIED |= {"top_dm_trials": trials.lines(TRIALS)}
TRIED |= {"top_dm_teachers": teachers.lines(TAUGHT)}
LEARNED = json.loads(multijet_teachers.RESULT.read_text(encoding="utf-8"))
GROWN = json.loads(multijet_events.RESULT.read_text(encoding="utf-8"))
TRIED |= {"multijet_teachers": multijet_teachers.lines(LEARNED), "multijet_events": multijet_events.lines(GROWN)}


@pytest.mark.parametrize("part", [*top_dm.parts(DARK), *TRIED])
def test_pages_say_what_was_measured_on_top_and_dark_matter(part: str) -> None:
    page = top_dm.PAGES.get(part, NOTEBOOK if part in TRIED else summary.ROOT / "README.md")
    found = re.search(rf"<!-- {part} -->\n(.*?)\n<!-- /{part} -->", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == {**top_dm.parts(DARK), **TRIED}[part]


def test_readme_says_what_teachers_do_on_the_multijet_task() -> None:
    assert f"<!-- taught -->\n{multijet_teachers.verdict(LEARNED)}\n<!-- /taught -->" in README
    assert [one["seed"] for one in LEARNED["seeds"]] == [0, 1, 2, 3, 4] and LEARNED["test_events"] > 60_000


def test_auc_of_either_network_grows_with_the_number_of_events() -> None:
    assert GROWN["seeds"] == [0, 1, 2, 3, 4] and GROWN["test_events"] > 60_000
    for kind in multijet_events.KINDS:
        auc = [row[kind][0] for row in GROWN["rows"]]
        assert auc == sorted(auc)


def test_every_network_that_teaches_or_learns_is_on_record_with_what_trained_it() -> None:
    assert [row["words"] for row in TAUGHT] == list(teachers.TRIALS)
    for row, one in zip(TAUGHT, teachers.TRIALS.values(), strict=True):
        assert (row["hidden"], row["settings"], tuple(row["teachers"])) == (one.hidden, one.settings, one.teachers)


def test_top_and_dark_matter_had_five_seeds_and_three_hundred_thousand_events() -> None:
    assert sum(DARK["sample"]["rows"].values()) >= 300_000
    seeds = {row["model"]: row["seeds"] for row in DARK["report"]["rows"]}
    assert {seeds[kind] for kind in top_dm.FAST} == {5}
    assert DARK["sha256"] != DARK["report"]["data"]["test_sha256"]


def test_results_are_of_the_full_sample_and_five_seeds() -> None:
    rows = RESULT["sample"]["rows"]
    assert sum(count for name, count in rows.items() if name != "multijet") >= 100_000
    multijet_events = GOLDEN["processes"]["multijet"]["effective"]
    assert GOLDEN["recipe_hash"] == RESULT["sample"]["recipe_hash"]
    assert multijet_events["rows"] >= 20_000
    # Copies of one collision are not independent: this is what the yields say, and what errors are made of.
    effective = {one["process"]: one["effective"] for one in RESULT["report"]["data"]["yields"]}
    assert effective["multijet"] == pytest.approx(multijet_events["collisions"])
    assert {row["seeds"] for row in RESULT["report"]["rows"] if not row["model"].startswith("cut")} == {5}
    assert RESULT["sha256"] == TUNED["multijet"]["sha256"]
