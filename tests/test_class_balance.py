"""`class_balance` of a card: training weights of the classes, in every model; tests keep theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepkan.baselines import train_model
from hepkan.data import Table
from hepkan.errors import UsageError
from hepkan.studies.card import build_card
from hepkan.studies.members import load_table, split
from hepkan.studies.run import prepare, run
from ntuple_cases import card, make


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("events"))


def share(table: Table) -> float:
    """Return the share of the signal in the training weights."""
    weight = table.training_weights()
    return float(weight[table.y == 1].sum() / weight.sum())


def test_a_table_balances_unless_told_otherwise() -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(1000) % 10 == 0).astype(int)
    table = Table(rng.normal(size=(1000, 2)), y)
    assert share(table) == pytest.approx(0.5)
    plain = Table(table.X, y, class_balance=False)
    assert share(plain) == pytest.approx(0.1)
    assert float(plain.training_weights().mean()) == pytest.approx(1.0)
    assert share(plain.take(np.arange(500))) == pytest.approx(0.1)
    assert [share(part) for part in plain.split((0.5, 0.5))] == pytest.approx([0.1, 0.1], abs=0.03)
    assert float(plain.training_weights(balance=True)[y == 1].sum()) == pytest.approx(500.0)


def test_a_card_decides_for_training_and_leaves_tests_alone(files: Path) -> None:
    tables = {}
    for balance in (True, False):
        data = prepare(build_card(card(files, class_balance=balance)))
        tables[balance] = split(data, 0)
    assert share(tables[True][0]) == pytest.approx(0.5)
    weight = np.abs(tables[False][0].weight)
    assert share(tables[False][0]) == pytest.approx(weight[tables[False][0].y == 1].sum() / weight.sum())
    np.testing.assert_array_equal(tables[True][2].weight, tables[False][2].weight)
    np.testing.assert_array_equal(tables[True][0].X, tables[False][0].X)


def test_the_choice_is_part_of_the_identity_and_the_default_changes_nothing(files: Path) -> None:
    cards = [build_card(card(files, **changes)) for changes in ({}, {"class_balance": True}, {"class_balance": False})]
    contents = [prepare(one).content for one in cards]
    assert cards[0].identity() == cards[1].identity() != cards[2].identity()
    assert "class_balance" not in contents[0]
    assert contents[2]["class_balance"] is False


@pytest.mark.parametrize("kind", ["logistic", "bdt", "kan"])
def test_scores_of_every_kind_follow_the_weights(kind: str) -> None:
    rng = np.random.default_rng(1)
    y = (np.arange(3000) % 10 == 0).astype(int)
    X = rng.normal(size=(3000, 2)) + 0.3 * y[:, None]
    settings = {"rounds": 20} if kind == "bdt" else {"epochs": 8, "batch": 100, "learning_rate": 0.02}
    means = []
    for balance in (True, False):
        table = Table(X, y, class_balance=balance)
        means.append(float(train_model(kind, table, table, settings).predict(X).mean()))
    assert means[0] == pytest.approx(0.5, abs=0.12)
    assert means[1] == pytest.approx(0.1, abs=0.05)


def test_a_run_keeps_the_choice(files: Path, tmp_path: Path) -> None:
    done = run(build_card(card(files, class_balance=False, folds=None)), output=tmp_path / "run")
    assert "class_balance: false" in (done.folder / "card.yaml").read_text()
    assert "classes have their own weights" in (done.folder / "index.html").read_text()
    assert not load_table(prepare(build_card(card(files, class_balance=False)))).class_balance


def test_regression_has_no_classes(files: Path) -> None:
    source = {"name": "all", "files": [str(files / "sig.parquet")]}
    content = card(files, data=[source], task="regression", target="truth", class_balance=False)
    with pytest.raises(UsageError, match="class_balance: false"):
        prepare(build_card(content))
    with pytest.raises(UsageError, match="class_balance"):
        build_card(card(files, class_balance="sometimes"))
    with pytest.raises(UsageError, match="Did you mean 'class_balance'"):
        build_card(card(files, class_balanced=True))
