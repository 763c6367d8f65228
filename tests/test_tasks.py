"""The contract of every task, and the multijet task's choice of events and weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

import hepkan.tasks
from hepkan.errors import DataError, UsageError
from hepkan.tasks import TASKS, embedded, get_task
from hepkan.tasks.multijet import choose, keep_yields, mix_factors

SAMPLE = Path(hepkan.tasks.__file__).parent / "samples" / "multijet.parquet"
EMBEDDED = pytest.mark.skipif(not SAMPLE.is_file(), reason="no embedded sample in this checkout")


@pytest.mark.parametrize("name", TASKS)
def test_task_is_a_frozen_record_with_a_card(name: str) -> None:
    task = get_task(name)
    card = yaml.safe_load(task.card_text())
    assert task.name == name == card["name"]
    assert task.title == card["title"]
    assert task.question.endswith("?")
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", TASKS)
def test_card_is_valid_and_the_table_fits_it(name: str) -> None:
    from hepkan.studies.card import check_runnable, check_settings
    from hepkan.studies.options import load_card
    from hepkan.studies.run import default_settings

    card = load_card(name)
    check_settings(card, {kind: tuple(settings) for kind, settings in default_settings().items()})
    check_runnable(card)
    try:
        table = get_task(name).table(n=200, seed=1, features=card.feature_names)
    except DataError:
        pytest.skip("no embedded sample in this checkout")
    assert table.classification == (card.task == "classification")
    assert list(table.names) == card.feature_names
    assert list(table.target_names) == (card.target_names or ["label"])
    assert abs(len(table) - 200) <= 4 and len(np.unique(table.id)) == len(table)
    assert np.all(np.isfinite(table.X)) and np.all(table.weight > 0)
    assert all(table.labels) and len(set(table.labels)) == len(table.labels)


def test_unknown_task_suggests_the_closest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'multijet'"):
        get_task("mutlijet")


def test_inputs_of_the_card_are_the_observables() -> None:
    from hepkan.physics.observables import OBSERVABLES

    assert tuple(yaml.safe_load(get_task("multijet").card_text())["features"]) == tuple(OBSERVABLES)


def test_table_has_inputs_labels_groups_and_processes(sample: Path) -> None:
    table = get_task("multijet").table(path=sample)
    assert table.X.shape == (1200, 43)
    assert set(np.unique(table.y)) == {0, 1}
    assert table.classes == ("multijet", "prompt")
    assert np.array_equal(table.extra["process"] == "multijet", table.y == 0)
    assert table.units[table.names.index("w_mt")] == "GeV"


def test_fewer_events_keep_every_yield(sample: Path) -> None:
    task = get_task("multijet")
    full, part = task.table(path=sample), task.table(n=300, seed=1, path=sample)
    assert abs(len(part) - 300) <= 2
    assert abs(np.count_nonzero(part.y) - 150) <= 2
    for name in np.unique(full.extra["process"]):
        expected = full.weight[full.extra["process"] == name].sum()
        assert part.weight[part.extra["process"] == name].sum() == pytest.approx(expected)
    again, other = task.table(n=300, seed=1, path=sample), task.table(n=300, seed=2, path=sample)
    assert np.array_equal(part.id, again.id)
    assert not np.array_equal(part.id, other.id)


def test_more_events_than_there_are_gives_all(sample: Path) -> None:
    assert len(get_task("multijet").table(n=100_000, path=sample)) == 1200


def test_mix_sets_shares_and_keeps_the_yield_of_the_class(sample: Path) -> None:
    task = get_task("multijet")
    shares = {"single_top_tchannel": 2.0, "ttbar": 1.0, "wjets": 1.0}
    plain, mixed = task.table(path=sample, mix={}), task.table(path=sample, mix=shares)
    process, prompt = plain.extra["process"], plain.y == 1
    assert mixed.weight.sum() == pytest.approx(plain.weight.sum())
    assert mixed.weight[process == "ttbar"].sum() == pytest.approx(0.25 * plain.weight[prompt].sum())
    assert np.array_equal(mixed.weight[~prompt], plain.weight[~prompt])
    default = task.table(path=sample)
    top = default.weight[process == "single_top_tchannel"].sum()
    assert top == pytest.approx(0.6 * plain.weight[prompt].sum())
    with pytest.raises(UsageError, match="Did you mean 'ttbar'"):
        task.table(path=sample, mix={"tbar": 2.0})
    with pytest.raises(UsageError, match="all processes of a class"):
        task.table(path=sample, mix={"ttbar": 2.0})


def test_chosen_features_only(sample: Path) -> None:
    table = get_task("multijet").table(path=sample, features=["w_mt", "lep_pt"])
    assert table.names == ("w_mt", "lep_pt")
    with pytest.raises(UsageError, match="Did you mean 'w_mt'"):
        get_task("multijet").table(path=sample, features=["w_mtt"])


def test_missing_or_corrupted_sample(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        get_task("multijet").table(path=tmp_path / "nothing.parquet")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(sample.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"broken\.parquet"):
        get_task("multijet").table(path=broken)


def test_helpers_refuse_nonsense() -> None:
    process = np.array(["a", "a", "b"])
    with pytest.raises(UsageError, match="not negative"):
        mix_factors(np.array([0, 0, 1]), process, np.ones(3), {"a": -1.0})
    with pytest.raises(UsageError, match="two events"):
        choose(np.array([0, 1, 1]), process, 1, 0)
    assert keep_yields(np.array([1.0, 3.0, 5.0]), process, np.array([1, 2])).tolist() == [4.0, 5.0]


def test_missing_embedded_sample_says_how_to_make_one() -> None:
    with pytest.raises(DataError, match="hepkan generate other"):
        embedded("other")


@EMBEDDED
def test_embedded_sample_is_the_default() -> None:
    table = get_task("multijet").table()
    assert min(np.bincount(table.y)) >= 5000
    assert np.all(np.isfinite(table.X))
    assert (table.extra["process"] == "multijet").sum() == (table.y == 0).sum()
