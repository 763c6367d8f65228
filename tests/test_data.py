"""Splits depend on the group alone, training weights are balanced, wrong tables are refused in words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepkan.data import Table, concatenate
from hepkan.data.checks import splitmix64, uniform_hash
from hepkan.errors import DataError, UsageError


def make(n: int = 4000, seed: int = 0, negative: float = 0.2, rows_per_group: int = 3) -> Table:
    """Return a table of two classes with groups of several rows and some negative weights."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    weight = rng.exponential(1.0 + 20 * y) * np.where(rng.random(n) < negative, -0.5, 1.0)
    X = rng.normal(size=(n, 3)) + y[:, None]
    process = np.where(y == 1, "prompt", "multijet")
    return Table(
        X, y, weight, id=10_000 + np.arange(n), group=np.arange(n) // rows_per_group, names=("a", "b", "c"),
        units=("GeV", "", "rad"), classes=("multijet", "prompt"), extra={"process": process},
    )  # fmt: skip


def ids(parts: tuple[Table, ...]) -> list[set[int]]:
    """Return the ids of each part."""
    return [set(part.id.tolist()) for part in parts]


def test_hash_is_the_published_one() -> None:
    """The first outputs of SplitMix64 seeded with 0 (state advanced by the golden ratio each time)."""
    states = np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)
    assert splitmix64(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_hash_is_uniform_and_streams_are_independent() -> None:
    group = np.arange(200_000)
    one, other, seeded = uniform_hash(group, 0, 0), uniform_hash(group, 0, 1), uniform_hash(group, 1, 0)
    assert one.min() >= 0 and one.max() < 1
    counts = np.bincount((one * 100).astype(int), minlength=100)
    chi2 = np.sum((counts - 2000) ** 2 / 2000)
    assert 50 < chi2 < 160  # 99 degrees of freedom
    for pair in ((one, other), (one, seeded), (one[:-1], one[1:])):
        assert abs(np.corrcoef(*pair)[0, 1]) < 5 / np.sqrt(len(group))


def test_parts_add_up_and_groups_never_cross() -> None:
    table = make()
    parts = table.split()
    assert sum(map(len, parts)) == len(table)
    assert set().union(*ids(parts)) == set(table.id.tolist())
    groups = [set(part.group.tolist()) for part in parts]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_fractions_within_binomial_error() -> None:
    n = 100_000
    table = Table(np.ones((n, 1)), np.arange(n) % 2)
    for part, fraction in zip(table.split((0.6, 0.15, 0.25), seed=3), (0.6, 0.15, 0.25), strict=True):
        assert abs(len(part) - n * fraction) < 4 * np.sqrt(n * fraction * (1 - fraction))


def test_the_test_part_does_not_know_the_seed() -> None:
    table = make()
    first, second = ids(table.split(seed=0)), ids(table.split(seed=1))
    assert first[2] == second[2]
    assert first[0] != second[0]
    assert ids(table.split(test_seed=1))[2] != first[2]
    assert ids(table.split(seed=0)) == first
    bigger = ids(table.split((0.5, 0.2, 0.3)))[2]
    assert first[2] < bigger


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_splits_know_neither_row_order_nor_other_rows(order: int, seed: int) -> None:
    table = make(600)
    expected = ids(table.split(seed=seed))
    rows = np.random.default_rng(order).permutation(len(table))
    assert ids(table.take(rows).split(seed=seed)) == expected
    few = ids(table.take(rows[:300]).split(seed=seed))
    assert all(part <= full for part, full in zip(few, expected, strict=True))


def test_appending_rows_moves_nobody() -> None:
    table = make(900)
    more = table.join(make(300, seed=9).take(np.arange(300)))
    for part, longer in zip(table.split(), more.split(), strict=True):
        assert set(part.group.tolist()) <= set(longer.group.tolist())


def test_two_fractions_split_the_rest() -> None:
    table = make()
    train, validation, test = table.split((0.6, 0.2, 0.2), seed=4)
    a, b = train.join(validation).split((0.75, 0.25), seed=4)
    assert ids((a, b)) == ids((train, validation))
    assert len(test) > 0


def test_folds_partition_by_group() -> None:
    table = make()
    pairs = table.folds(5)
    assert len(pairs) == 5
    seen = [set(fold.id.tolist()) for _, fold in pairs]
    assert sum(map(len, seen)) == len(table) and set().union(*seen) == set(table.id.tolist())
    for rest, fold in pairs:
        assert len(rest) + len(fold) == len(table)
        assert not set(rest.group.tolist()) & set(fold.group.tolist())
    with pytest.raises(UsageError, match="at least 2"):
        table.folds(1)


def test_impossible_splits_are_refused() -> None:
    table = make(30, rows_per_group=30)
    with pytest.raises(DataError, match="1 groups"):
        table.split()
    for wrong in ((1.0,), (0.5, 0.6), (0.5, 0.5, 0.0), (0.4, 0.3, 0.2, 0.1)):
        with pytest.raises(UsageError, match="sum 1"):
            table.split(wrong)
    with pytest.raises(DataError, match="every fold"):
        table.folds(2)


@pytest.mark.parametrize("policy", ["abs", "zero", "keep"])
def test_training_weights_are_balanced_with_mean_one(policy: str) -> None:
    table = make()
    weight = table.training_weights(policy)
    assert weight.shape == (len(table),)
    assert weight.mean() == pytest.approx(1)
    sums = [weight[table.y == label].sum() for label in (0, 1)]
    assert sums == pytest.approx([len(table) / 2] * 2)
    negative = table.weight < 0
    assert negative.any()
    if policy == "keep":
        assert np.all(weight[negative] < 0)
    if policy == "zero":
        assert np.all(weight[negative] == 0)
    if policy == "abs":
        assert np.all(weight > 0)
    own = table.y == 1
    positive = own & ~negative
    assert np.allclose(
        weight[positive] / table.weight[positive], (weight[positive] / table.weight[positive])[0]
    )


def test_drop_leaves_the_rows_out() -> None:
    table = make()
    kept, weight = table.for_training("drop")
    assert np.all(kept.weight >= 0) and len(kept) == len(weight) == int((table.weight >= 0).sum())
    assert weight.mean() == pytest.approx(1)
    full = table.training_weights("drop")
    assert len(full) == len(table) and np.array_equal(full[table.weight >= 0], weight)
    assert np.all(full[table.weight < 0] == 0)
    same, ones = table.for_training("abs")
    assert same is table and len(ones) == len(table)


def test_weights_without_balance() -> None:
    table = make(negative=0.0)
    weight = table.training_weights(balance=False)
    assert weight == pytest.approx(table.weight / table.weight.mean())
    targets = Table(table.X, np.ones((len(table), 2)), table.weight)
    assert targets.training_weights() == pytest.approx(weight)


def test_weights_that_cannot_be_balanced() -> None:
    with pytest.raises(UsageError, match="abs"):
        make().training_weights("asb")  # type: ignore[arg-type]
    one_class = make().take(make().y == 1)
    with pytest.raises(DataError, match="'multijet'"):
        one_class.training_weights()
    negative = Table(np.ones((4, 1)), [0, 0, 1, 1], [-1.0, -1.0, 1.0, 1.0])
    with pytest.raises(DataError, match="positive sum"):
        negative.training_weights("keep")


def test_effective_size() -> None:
    X = np.ones((4, 1))
    assert Table(X, [0, 1, 0, 1]).effective_size() == 4
    assert Table(X, [0, 1, 0, 1], [3.0, 0, 0, 0]).effective_size() == 1
    assert Table(X, [0, 1, 0, 1], [1.0, 1, 1, -1]).effective_size() == 1
    copies = Table(X, [0, 1, 0, 1], group=[7, 8, 7, 8])
    assert copies.effective_size() == 2


def test_select_take_and_join_carry_everything() -> None:
    table = make(100)
    some = table.select(["c", "a"])
    assert some.names == ("c", "a") and some.units == ("rad", "GeV") and some.X.flags.c_contiguous
    assert np.array_equal(some.column("a"), table.column("a"))
    rows = np.array([5, 2, 2])
    taken = table.take(rows)
    assert taken.id.tolist() == [10005, 10002, 10002]
    assert taken.extra["process"].tolist() == table.extra["process"][rows].tolist()
    masked = table.take(table.y == 1)
    assert len(masked) == int(table.y.sum()) and len(table.take([])) == 0
    again = concatenate([table.take(np.arange(40)), table.take(np.arange(40, 100))])
    for name in ("X", "y", "weight", "id", "group"):
        assert np.array_equal(getattr(again, name), getattr(table, name))
    assert np.array_equal(again.extra["process"], table.extra["process"])
    with pytest.raises(UsageError, match="same names"):
        table.join(some)
    with pytest.raises(UsageError, match="At least one"):
        concatenate([])
    with pytest.raises(UsageError, match="mask"):
        table.take(np.ones(3, dtype=bool))


def test_defaults_and_types() -> None:
    table = Table([[1, 2], [3, 4]], [True, False])
    assert table.X.dtype == np.float32 and table.y.dtype == np.int64 and table.weight.tolist() == [1, 1]
    assert table.id.tolist() == table.group.tolist() == [0, 1]
    assert table.names == table.labels == ("x0", "x1") and table.units == ("", "")
    assert table.classes == ("0", "1") and table.classification and table.target_names == ("label",)
    assert repr(table) == "Table(2 events, 2 features, 0: 1, 1: 1)"
    targets = Table([[1.0], [2.0]], [0.5, 1.5], target_names=("nu_pz",))
    assert targets.y.shape == (2, 1) and not targets.classification and targets.classes == ()
    assert repr(targets) == "Table(2 events, 1 features, targets nu_pz)"
    scored = Table([[1.0], [2.0]], [0, 0], classes=("data",))
    assert scored.classes == ("data",)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"X": np.ones(3)}, UsageError, "events, features"),
        ({"X": np.ones((0, 2))}, UsageError, "events, features"),
        ({"X": [[1.0], [np.nan], [3.0], [np.inf]]}, DataError, r"pt \(2 of 4 events\)"),
        ({"X": [[1.0], [1e300], [3.0], [4.0]]}, DataError, r"too large for float32: pt \(1"),
        ({"y": [0, 1]}, UsageError, r"shape \(4,\)"),
        ({"y": [0, 0, 0, 0]}, DataError, "two classes"),
        ({"y": [0, 1, 2, 3], "classes": ("a", "b")}, UsageError, "0 to 1"),
        ({"y": [-1, 1, 1, -1]}, UsageError, "Labels must be"),
        ({"y": [[0], [1], [0], [1]]}, UsageError, "integer labels"),
        ({"y": ["a", "b", "a", "b"]}, UsageError, "integer labels"),
        ({"y": [0.1, np.nan, 0.2, 0.3]}, DataError, "1 of 4 events"),
        ({"weight": [1.0, 2.0]}, UsageError, "weight needs"),
        ({"weight": [0.0] * 4}, DataError, "all 4 are zero"),
        ({"weight": [1.0, np.nan, 1.0, 1.0]}, DataError, "1 of 4"),
        ({"id": [0.5, 1.0, 2.0, 3.0]}, UsageError, "id needs integers"),
        ({"group": [1, 2]}, UsageError, "group needs integers"),
        ({"names": ("pt", "eta")}, UsageError, "names needs 1"),
        ({"X": np.ones((4, 2)), "names": ("pt", "pt")}, UsageError, "twice: pt"),
        ({"extra": {"process": np.array(["a"])}}, UsageError, "process"),
    ],
)
def test_wrong_tables_say_what_is_wrong(arguments: dict, error: type[Exception], words: str) -> None:
    good = {"X": [[1.0], [2.0], [3.0], [4.0]], "y": [0, 1, 0, 1], "names": ("pt",)}
    assert len(Table(**good)) == 4
    if "names" not in arguments and np.shape(arguments.get("X", good["X"]))[-1:] != (1,):
        arguments = {"names": (), **arguments}
    with pytest.raises(error, match=words):
        Table(**{**good, **arguments})


def test_unknown_features_get_a_suggestion() -> None:
    table = Table([[1.0, 2.0], [3.0, 4.0]], [0, 1], names=("lep_pt", "met_pt"))
    with pytest.raises(UsageError, match="Did you mean 'lep_pt'"):
        table.select(["lep_pT"])
    with pytest.raises(UsageError, match="once each"):
        table.select([])
    with pytest.raises(UsageError, match="Unknown feature"):
        table.column("mass")
