"""Cards of the user's own files: what events they give, and what is wrong with them in words."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepkan.errors import DataError, UsageError
from hepkan.studies.card import Card, build_card
from hepkan.studies.members import load_table, load_test, split
from hepkan.studies.options import load_card
from hepkan.studies.own_data import learn
from hepkan.studies.run import prepare
from hepkan.studies.starter_card import schema, starter_card
from ntuple_cases import card, dump, events, make, write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("events"))


def table(content: dict[str, Any]) -> Any:
    return load_table(prepare(build_card(content)))


def test_events_are_those_of_the_files(files: Path) -> None:
    found = table(card(files))
    raw = {label: events(400, 2 - label, bool(label)) for label in (0, 1)}
    kept = {label: columns["pt"] > 5 for label, columns in raw.items()}
    pt = np.concatenate([raw[label]["pt"][kept[label]] for label in (0, 1)])
    eta = np.concatenate([raw[label]["eta"][kept[label]] for label in (0, 1)])
    assert found.names == ("pt", "eta", "mass", "energy", "mass_missing")
    assert found.classes == ("bkg", "sig")
    np.testing.assert_allclose(found.column("pt"), pt, rtol=1e-6)
    np.testing.assert_allclose(found.column("energy"), np.log(pt * np.cosh(eta)), rtol=1e-5)
    np.testing.assert_array_equal(found.weight, np.concatenate([raw[label]["w"][kept[label]] for label in (0, 1)]))
    np.testing.assert_array_equal(found.extra["fold"], found.id % 2)
    missing = np.concatenate([raw[label]["mass"][kept[label]] == -999 for label in (0, 1)])
    np.testing.assert_array_equal(found.column("mass_missing"), missing)
    assert (found.weight < 0).any()


@pytest.mark.parametrize("suffix", ["root", "h5", "csv"])
def test_every_format_gives_the_same_table(files: Path, tmp_path: Path, suffix: str) -> None:
    one, other = table(card(files)), table(card(make(tmp_path, suffix), suffix=suffix))
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.id, other.id)


def test_missing_values_are_learned_from_training_events_only(files: Path) -> None:
    data = prepare(build_card(card(files)))
    learned, found = learn(data.recipe), load_table(data)
    train, validation, test = split(data, 0)
    known = np.concatenate([part.column("mass")[part.column("mass_missing") == 0] for part in (train, validation)])
    assert learned.fills["split"]["mass"] == pytest.approx(float(np.median(known)))
    assert set(test.column("mass")[test.column("mass_missing") == 1]) == {np.float32(np.median(known))}
    rest = found.extra["fold"] != 1
    known = found.column("mass")[rest & (found.column("mass_missing") == 0)]
    assert learned.fills["1"]["mass"] == pytest.approx(float(np.median(known)))


def test_impute_has_no_flag_and_a_feature_has_its_own_rule(files: Path) -> None:
    assert "mass_missing" not in table(card(files, missing={"sentinel": -999, "policy": "impute"})).names
    own = {"name": "mass", "missing": {"sentinel": [-999, -99], "policy": "flag"}}
    assert "mass_missing" in table(card(files, features=["pt", own], missing={"policy": "error"})).names


def test_rows_are_a_share_of_every_source_with_its_yield(files: Path) -> None:
    whole, part = table(card(files)), table(card(files, rows=200))
    assert len(part) == 200
    for name in ("bkg", "sig"):
        sums = [one.weight[one.extra["process"] == name].sum() for one in (whole, part)]
        assert sums[0] == pytest.approx(sums[1])
    assert set(part.id) < set(whole.id)


def test_labels_from_a_column(files: Path, tmp_path: Path) -> None:
    both = {name: np.concatenate([events(400, 2, False)[name], events(400, 1)[name]]) for name in events(1)}
    write(tmp_path / "all.parquet", both)
    source = [{"name": "all", "files": [str(tmp_path / "all.parquet")]}]
    numbers = table(card(files, data=source, target="y", classes=["bkg", "sig"]))
    np.testing.assert_array_equal(numbers.X, table(card(files)).X)
    texts = table(card(files, data=source, target="process"))
    assert texts.classes == ("alt", "bkg", "sig")
    formula = table(card(files, data=source, target=[{"name": "y", "expr": 'process == "sig"'}]))
    np.testing.assert_array_equal(formula.y == 1, texts.y == 2)


def test_regression_and_a_test_file(files: Path) -> None:
    source = [{"name": "sig", "files": [str(files / "sig.parquet")]}]
    content = card(files, task="regression", data=source, target=["truth"], test=str(files / "bkg.parquet"))
    data = prepare(build_card(content))
    assert load_table(data).target_names == ("truth",)
    assert split(data, 0)[2].y.shape == load_test(data).y.shape
    assert set(load_test(data).id) == set(events(400, 2, False)["event"][events(400, 2, False)["pt"] > 5])


def test_ids_of_several_columns_text_and_none(files: Path) -> None:
    by_event = table(card(files))
    for ids in (["event", "njet"], ["process", "event"], None):
        found = table(card(files, event_id=ids))
        assert len(np.unique(found.id)) == len(np.unique(by_event.id))
        assert set(found.extra["fold"]) == {0, 1}
    reordered = table(card(files, event_id=None, data=card(files)["data"][::-1]))
    assert set(reordered.id) == set(table(card(files, event_id=None)).id)


def test_identity_follows_content_and_not_place(files: Path, tmp_path: Path) -> None:
    one = prepare(build_card(card(files)))
    other = prepare(build_card(card(make(tmp_path / "x" if (tmp_path / "x").mkdir() is None else tmp_path))))
    assert one.sha256 == other.sha256
    assert one.sha256 != prepare(build_card(card(files, selection=["pt > 6"]))).sha256


def bad_cards() -> list[tuple[str, dict[str, Any], type[Exception], str]]:
    """Return changes of the small card that cannot work: a name, the change, the error, and words in it."""
    one = [{"name": "a", "files": ["a"], "label": 0}]
    nothing = [{"name": "a", "files": ["nowhere.root"], "label": 0}, {"name": "b", "files": ["x_*.csv"], "label": 1}]
    return [
        ("missing file", {"data": nothing}, DataError, "nowhere.root does not exist"),
        ("missing branch", {"features": ["pt", "etaa"]}, UsageError, "Did you mean 'eta'"),
        ("missing branch in a formula", {"features": ["pt * etaa"]}, UsageError, "Did you mean 'eta'"),
        ("bad formula", {"features": [{"name": "a", "expr": "pt *"}]}, UsageError, "invalid syntax"),
        ("hostile formula", {"features": ["__import__('os')"]}, UsageError, "Unknown function"),
        ("text as input", {"features": ["pt", "process"]}, UsageError, "it is text"),
        ("text as weight", {"weight": "process"}, UsageError, "it is text"),
        ("no weight", {"weight": "weigth"}, UsageError, "weight: null"),
        ("weights all zero", {"weight": "w * 0"}, DataError, "all .* are zero"),
        ("weights not finite", {"weight": "1 / (njet - 1)"}, DataError, "Weights must be finite"),
        ("no id", {"event_id": "evnt"}, UsageError, "event_id: null"),
        ("duplicate ids", {"event_id": "njet"}, DataError, "duplicate_ids: group"),
        ("fractional ids", {"event_id": "pt"}, DataError, "fractions"),
        ("missing values", {"missing": {"sentinel": -999}}, DataError, "mass .* of .* events"),
        ("undefined values", {"features": ["sqrt(eta)"], "missing": {}}, DataError, "undefined"),
        ("empty selection", {"selection": ["pt < -1"]}, DataError, "none of the 400 of bkg"),
        ("bad selection", {"selection": ["pt >"]}, UsageError, "invalid syntax"),
        ("one label", {"data": one}, UsageError, "at least two"),
        ("no label", {"data": [*one, {"name": "b", "files": ["b"]}]}, UsageError, "needs a label"),
        ("same name", {"spectators": ["njet", "njet"]}, UsageError, "occurs twice"),
        ("text labels", {"target": "process", "classes": ["sig", "bkg"]}, UsageError, "both"),
        ("keep", {"negative_weights": "keep", "models": {"kan": {}, "bdt": {}}}, UsageError, "Trees need"),
        ("test path", {"test": "all.parquet"}, UsageError, "list sources with labels"),
        ("mix", {"mix": {"sig": 1.0}}, UsageError, "scale"),
        ("unknown key", {"feature": ["pt"]}, UsageError, "Did you mean 'features'"),
        ("unknown policy", {"missing": {"policy": "ignore"}}, UsageError, "missing.policy"),
        ("folds", {"folds": 300}, DataError, "fold"),
    ]


BAD = bad_cards()


@pytest.mark.parametrize(("change", "kind", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_cards_are_refused_in_words(
    files: Path, change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as error:
        prepare(build_card(card(files, **change)))
    assert "\n" not in str(error.value)


def test_a_reader_needs_its_branches_and_thresholds(files: Path) -> None:
    sources = [{**source, "reader": {"kind": "nanoaod"}} for source in card(files)["data"]]
    with pytest.raises(UsageError, match=r"nanoaod needs the branches Muon_pt.* lacks them"):
        prepare(build_card(card(files, data=sources)))
    sources[0]["reader"]["thresholds"] = {"jet_pt": 30}
    with pytest.raises(UsageError, match="Did you mean 'jet_pt_min'"):
        prepare(build_card(card(files, data=sources)))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_identical_result(files: Path, tmp_path: Path) -> None:
    path = dump(card(files), tmp_path / "card.yaml")
    command = [sys.executable, "-m", "hepkan", "run", str(path), "--workers", "2", "--resume", "-o"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    for moment in (6.0, 9.0):
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moment)
        process.kill()
        process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    for name in ("predictions.parquet", "train_scores.parquet", "cross_scores.parquet", "inputs.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_groups_of_one_id_stay_together(files: Path) -> None:
    data = prepare(build_card(card(files, event_id="njet", duplicate_ids="group", folds=None)))
    parts = split(data, 0)
    assert not set(parts[0].id) & set(parts[2].id)


def test_paths_are_relative_to_the_working_folder_or_the_card(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = card(files)
    for source in content["data"]:
        source["files"] = [Path(source["files"][0]).name]
    path = dump(content, files / "card.yaml")
    found = load_card(str(path))
    assert found.data[0].files == [str(files / "bkg.parquet")]
    monkeypatch.chdir(files)
    assert load_card("card.yaml").data[0].files == ["bkg.parquet"]


def test_the_schema_in_the_package_is_that_of_the_card() -> None:
    shipped = Path(schema.__code__.co_filename).parent / "card.schema.json"
    assert json.loads(shipped.read_text(encoding="utf-8")) == schema()
    assert set(schema()["properties"]) == set(Card.model_fields)


@pytest.mark.parametrize("suffix", ["parquet", "root", "h5", "csv"])
def test_a_starter_card_runs_when_its_labels_are_named(tmp_path: Path, suffix: str) -> None:
    both = {name: np.concatenate([events(200, 2, False)[name], events(200, 1)[name]]) for name in events(1)}
    both["event"] = np.arange(400)
    both |= {"GenWeight": both["w"], "label": both.pop("y"), "weight": both.pop("w")}
    path = write(tmp_path / f"all.{suffix}", both)
    (tmp_path / "card.yaml").write_text(starter_card(str(path)), encoding="utf-8")
    found = load_card(str(tmp_path / "card.yaml"))
    assert found.target_names == ["label"]
    assert found.weight == "weight"
    assert found.ids == ["event"]
    assert found.missing.sentinels == (-999.0,)
    assert sorted(found.feature_names) == ["eta", "mass", "njet", "pt"]  # `truth` looks like what it is
    assert len(load_table(prepare(found))) == 400


def test_a_starter_card_without_labels_says_what_to_do(files: Path) -> None:
    text = starter_card(str(files / "sig.parquet"))
    assert "label: 0" in text
    assert "OTHER" in text
