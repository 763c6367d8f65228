"""Measures agree with scikit-learn, SciPy, closed formulas and sums over pairs; errors behave as theory says."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from hepkan.errors import DataError, UsageError
from hepkan.metrics import (
    ams,
    asimov_z,
    auc,
    best_asimov_z,
    bootstrap,
    calibration,
    compare,
    effective_size,
    evaluate,
    evaluate_regression,
    ks_weighted,
    rejection,
    repeat,
    roc_curve,
)

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
FEW = settings(max_examples=20, deadline=None)
UNCERTAINTY = st.just(0.0) | st.floats(1e-6, 1.0)
LADDER_Y, LADDER = [1, 0, 1, 0, 1, 0, 1, 0], [8, 7, 6, 5, 4, 3, 2, 1]


def make(n: int = 2000, seed: int = 0, negative: float = 0.0, ties: bool = False) -> Sample:
    """Return labels, overlapping scores and weights of two classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    score = rng.normal(y, 1.0)
    weight = rng.exponential(1.0 + 3.0 * y) * np.where(rng.random(n) < negative, -1.0, 1.0)
    return y, np.round(2 * score) if ties else score, weight


@st.composite
def samples(draw: st.DrawFn, low: float = 0.01) -> Sample:
    """Small samples with both classes, many exact ties and weights from `low` with a positive sum per class."""
    n = draw(st.integers(2, 25))
    y = np.array(draw(st.permutations([0, 1] + draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2)))))
    score = np.array(draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)), dtype=float)
    weight = np.array(draw(st.lists(st.floats(low, 10.0), min_size=n, max_size=n)))
    for label in (0, 1):
        first = np.flatnonzero(y == label)[0]
        weight[first] += max(0.0, 1.0 - weight[y == label].sum())
    return y, score, weight


def pair_auc(y: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """Return the AUC as a sum over all pairs of signal and background."""
    s, b = y == 1, y == 0
    higher = (score[s][:, None] > score[b]) + 0.5 * (score[s][:, None] == score[b])
    return float(weight[s] @ higher @ weight[b] / (weight[s].sum() * weight[b].sum()))


def exact_z(s: float, b: float, uncertainty: float) -> float:
    """Return the closed formulas of the Asimov significance as printed, with 60 digits."""
    with mpmath.workdps(60):
        s, b, variance = mpmath.mpf(s), mpmath.mpf(b), (mpmath.mpf(uncertainty) * mpmath.mpf(b)) ** 2
        if variance == 0:
            return float(mpmath.sqrt(2 * ((s + b) * mpmath.log(1 + s / b) - s)))
        n = s + b
        first = n * mpmath.log(n * (b + variance) / (b**2 + n * variance))
        second = b**2 / variance * mpmath.log(1 + variance * s / (b * (b + variance)))
        return float(mpmath.sqrt(2 * (first - second)))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_roc_and_auc_are_those_of_scikit_learn(ties: bool, weighted: bool) -> None:
    y, score, weight = make(ties=ties)
    w = weight if weighted else None
    assert auc(y, score, w) == pytest.approx(roc_auc_score(y, score, sample_weight=w), abs=1e-12)
    background, signal = roc_curve(y, score, w)
    expected = sklearn_roc_curve(y, score, sample_weight=w, drop_intermediate=False)
    np.testing.assert_allclose(background, expected[0], atol=1e-12)
    np.testing.assert_allclose(signal, expected[1], atol=1e-12)
    assert len(signal) == len(np.unique(score)) + 1


@FEW
@given(samples(low=-5.0))
def test_auc_is_the_sum_over_pairs_also_with_negative_weights(sample: Sample) -> None:
    size = [np.abs(sample[2][sample[0] == label]).sum() / sample[2][sample[0] == label].sum() for label in (0, 1)]
    assert auc(*sample) == pytest.approx(pair_auc(*sample), abs=1e-13 * size[0] * size[1])


@FEW
@given(samples(), st.sampled_from([np.exp, np.arctan, lambda x: 3 * x - 1, lambda x: x**3]))
def test_auc_knows_the_order_of_scores_only(sample: Sample, mapping: Callable[[np.ndarray], np.ndarray]) -> None:
    y, score, weight = sample
    assert auc(y, mapping(score), weight) == auc(y, score, weight)


@FEW
@given(samples())
def test_auc_is_mirrored_by_the_sign_of_the_score_and_by_the_labels(sample: Sample) -> None:
    y, score, weight = sample
    mirrored = pytest.approx(1 - auc(y, score, weight), abs=1e-12)
    assert auc(y, -score, weight) == mirrored
    assert auc(1 - y, score, weight) == mirrored


@FEW
@given(samples(), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_the_yields_of_the_classes_do_not_matter(sample: Sample, signal: float, background: float) -> None:
    y, score, weight = sample
    scaled = weight * np.where(y == 1, signal, background)
    assert auc(y, score, scaled) == pytest.approx(auc(y, score, weight), abs=1e-12)
    assert rejection(y, score, scaled) == pytest.approx(rejection(y, score, weight))


@FEW
@given(samples(), st.randoms(use_true_random=False))
def test_neither_row_order_nor_weightless_rows_matter(sample: Sample, random: Any) -> None:
    y, score, weight = sample
    rows = np.array(random.sample(range(len(y)), len(y)))
    assert auc(y[rows], score[rows], weight[rows]) == pytest.approx(auc(y, score, weight), abs=1e-12)
    more = np.append(y, [0, 1]), np.append(score, [9.0, -9.0]), np.append(weight, [0.0, 0.0])
    assert auc(*more) == pytest.approx(auc(y, score, weight), abs=1e-12)


@pytest.mark.parametrize(
    ("y", "score", "weight", "expected"),
    [
        ([0, 1], [1, 2], None, 1.0),
        ([0, 1], [2, 1], None, 0.0),
        ([0, 1], [1, 1], None, 0.5),
        ([0, 1, 1], [1, 2, 0], [1, 3, 1], 0.75),
        ([0, 0, 1], [0, 2, 1], [1, -0.5, 1], 2.0),
        ([1, 1, 0], [2, 0, 1], [3, -1, 1], 1.5),
        ([0, 1, 0, 1], [-math.inf, math.inf, 0, 0], None, 0.875),
        ([False, True], [0.1, 0.2], None, 1.0),
    ],
)
def test_auc_by_hand(y: list, score: list, weight: list | None, expected: float) -> None:
    assert auc(y, score, weight) == pytest.approx(expected, abs=1e-15)


def test_roc_by_hand() -> None:
    background, signal = roc_curve([1, 0, 1, 0, 1], [4, 3, 3, 2, 1], [1, 1, -0.5, 3, 1.5])
    assert signal.tolist() == [0, 0.5, 0.25, 0.25, 1]
    assert background.tolist() == [0, 0, 0.25, 1, 1]


@pytest.mark.parametrize(
    ("efficiency", "expected"),
    [(0.1, math.inf), (0.25, math.inf), (0.375, 4), (0.5, 4), (0.75, 2), (0.9, 4 / 3), (1.0, 4 / 3)],
)
def test_rejection_by_hand(efficiency: float, expected: float) -> None:
    assert rejection(LADDER_Y, LADDER, efficiency=efficiency) == pytest.approx(expected)


@pytest.mark.parametrize("unit", [1.0, 0.1, 1 / 3])
@pytest.mark.parametrize("n", [7, 10])
def test_rejection_at_exact_working_points(n: int, unit: float) -> None:
    """Rounding of the sums (0.1 + 0.1 + 0.1 > 0.3) must not move on to the next event."""
    y, score = np.tile([1, 0], n), -np.arange(2 * n)
    seen = [rejection(y, score, np.full(2 * n, unit), efficiency=k / n) for k in range(1, n + 1)]
    assert seen == pytest.approx([math.inf] + [n / k for k in range(1, n)])


@FEW
@given(samples(), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_rejection_is_read_off_the_curve_and_falls_with_the_efficiency(sample: Sample, one: float, two: float) -> None:
    background, signal = roc_curve(*sample)
    for efficiency in np.unique(signal)[1:]:
        lowest = background[signal == efficiency].min()
        assert 1 / rejection(*sample, efficiency=efficiency) == pytest.approx(lowest, abs=1e-9)
    easier, harder = (rejection(*sample, efficiency=efficiency) for efficiency in sorted((one, two)))
    assert easier >= harder * (1 - 1e-9)


@pytest.mark.parametrize(("efficiency", "expected"), [(0.5, math.inf), (0.75, math.inf), (0.9, 1.5), (1.0, 1.5)])
def test_rejection_where_the_efficiency_is_first_reached(efficiency: float, expected: float) -> None:
    """A negative weight lets the signal efficiency fall from 0.75 to 0.25 on its way to 1."""
    y, score, weight = [1, 0, 1, 0, 1, 0], [6, 5, 4, 3, 2, 1], [3, 1, -2, 1, 3, 1]
    assert rejection(y, score, weight, efficiency) == pytest.approx(expected)


def test_tied_scores_share_the_rejection() -> None:
    assert rejection([0, 1], [5, 5], efficiency=0.25) == pytest.approx(4)


@pytest.mark.parametrize("uncertainty", [0.0, 1e-9, 1e-6, 1e-3, 0.1, 1.0, 30.0])
def test_asimov_z_is_the_closed_formula(uncertainty: float) -> None:
    s, b = np.array([0.1, 1.0, 10.0, 500.0]), np.array([[0.01], [3.0], [100.0], [1e5]])
    expected = np.vectorize(exact_z)(*np.broadcast_arrays(s, b, uncertainty))
    z = asimov_z(s, b, uncertainty)
    assert z.shape == (4, 4)
    np.testing.assert_allclose(z, expected, rtol=1e-7)


@FEW
@given(st.floats(1, 1e6), UNCERTAINTY)
def test_limits_of_asimov_z(b: float, uncertainty: float) -> None:
    few = 1e-4 * b
    sigma = uncertainty * b
    assert asimov_z(few, b) == pytest.approx(few / math.sqrt(b), rel=1e-4)
    assert asimov_z(few, b, uncertainty) == pytest.approx(few / math.sqrt(b + sigma**2), rel=1e-3)
    assert asimov_z(0.3 * b, b, 1e-6 / math.sqrt(b)) == pytest.approx(asimov_z(0.3 * b, b), rel=1e-6)
    large = 1e4 * (1 + uncertainty)
    assert large * asimov_z(b, b, large) == pytest.approx(math.sqrt(2 * (1 - math.log(2))), rel=1e-3)


@FEW
@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4), UNCERTAINTY)
def test_more_signal_helps_and_more_background_or_uncertainty_does_not(s: float, b: float, u: float) -> None:
    z = float(asimov_z(s, b, u))
    assert asimov_z(1.1 * s, b, u) > z > asimov_z(s, 1.1 * b, u)
    assert z > asimov_z(s, b, u + 0.1)


def test_counts_that_are_no_experiment_have_no_significance() -> None:
    assert asimov_z([0.0, -3.0, 5.0, 5.0], [2.0, 2.0, 0.0, -1.0]).tolist() == [0, 0, 0, 0]
    assert asimov_z([0.0, -3.0, 5.0, 5.0], [2.0, 2.0, 0.0, -1.0], 0.2).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("regularisation", [0.0, 10.0, 25.0])
def test_ams_is_the_formula_of_the_challenge(regularisation: float) -> None:
    s, b = np.array([5.0, 300.0]), np.array([100.0, 2.0])
    b_reg = b + regularisation
    expected = np.sqrt(2 * ((s + b_reg) * np.log(1 + s / b_reg) - s))
    assert ams(s, b, regularisation) == pytest.approx(expected)
    assert ams(5.0, -4.0) == pytest.approx(asimov_z(5.0, 6.0))


@pytest.mark.parametrize("uncertainty", [0.0, 0.3])
@pytest.mark.parametrize("negative", [0.0, 0.1])
@pytest.mark.parametrize("ties", [False, True])
def test_best_asimov_z_is_the_best_of_all_thresholds(uncertainty: float, negative: float, ties: bool) -> None:
    y, score, weight = make(300, seed=2, negative=negative, ties=ties)
    best = -1.0, math.nan
    for threshold in np.unique(score)[::-1]:
        passed = score >= threshold
        s, b = (weight[passed & (y == label)] for label in (1, 0))
        if b.sum() > 0 and effective_size(b) >= 10:
            best = max(best, (float(asimov_z(2e3 * s.sum(), 2e3 * b.sum(), uncertainty)), threshold))
    assert best_asimov_z(y, score, weight, 2.0, uncertainty) == pytest.approx(best)


@pytest.mark.parametrize(
    ("min_background", "s", "b", "threshold"), [(1, 4, 3, 2), (3, 4, 3, 2), (4, 4, 4, 1), (10, 4, 4, 1)]
)
def test_best_asimov_z_by_hand(min_background: float, s: int, b: int, threshold: float) -> None:
    """A weight of 1e-3 pb is one event at 1/fb; where no threshold leaves enough background, all events are kept."""
    best = best_asimov_z(LADDER_Y, LADDER, np.full(8, 1e-3), 1.0, min_background=min_background)
    assert best == pytest.approx((exact_z(s, b, 0), threshold))


@pytest.mark.parametrize(
    ("weight", "expected"),
    [([1, 1, 1], 3), ([2, 0, 0], 1), ([3, 1], 1.6), ([1, 1, 1, -1], 1), ([1, -1], 0), ([0, 0], 0), ([], 0)],
)
def test_effective_size(weight: list, expected: float) -> None:
    assert effective_size(weight) == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_ks_distance_is_that_of_scipy(ties: bool) -> None:
    y, score, _ = make(500, ties=ties)
    a, b = score[y == 0], score[y == 1]
    distance, p = ks_weighted(a, b)
    assert distance == pytest.approx(scipy.stats.ks_2samp(a, b).statistic)
    assert p == pytest.approx(scipy.stats.kstwobign.sf(distance * math.sqrt(len(a) * len(b) / len(y))))


def test_ks_counts_weights_as_copies() -> None:
    rng = np.random.default_rng(1)
    a, b, copies = rng.normal(size=50), rng.normal(0.5, size=40), rng.integers(1, 5, 50)
    assert ks_weighted(a, b, copies)[0] == pytest.approx(ks_weighted(np.repeat(a, copies), b)[0])
    assert ks_weighted(a, b, 7.0 * copies) == pytest.approx(ks_weighted(a, b, copies))
    assert ks_weighted(b, a, None, copies) == pytest.approx(ks_weighted(a, b, copies))


@pytest.mark.parametrize(
    ("a", "b", "weight", "distance"),
    [
        ([1, 2], [3, 4], None, 1.0),
        ([1, 2], [2, 1], None, 0.0),
        ([1, 3], [2, 4], None, 0.5),
        ([1, 3], [2, 4], [3, 1], 0.75),
        ([1, 2, 3], [4], [1, 1, -1], 2.0),
    ],
)
def test_ks_by_hand(a: list, b: list, weight: list | None, distance: float) -> None:
    assert ks_weighted(a, b, weight)[0] == pytest.approx(distance)


def test_ks_p_values_of_equal_weighted_samples_are_uniform() -> None:
    rng = np.random.default_rng(0)
    p = [ks_weighted(rng.normal(size=400), rng.normal(size=300), rng.exponential(size=400))[1] for _ in range(300)]
    assert np.mean(p) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 300))
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 300))


def test_calibration_by_hand() -> None:
    """Bins of a half: 0.5 and 1 belong to the second; the error of a fraction is that of a weighted binomial."""
    seen = calibration([0, 1, 0, 1, 1], [0.0, 0.4, 0.5, 1.0, 0.9], [3, 1, 1, 2, 1], bins=2)
    assert seen.predicted == pytest.approx([0.1, 0.85])
    assert seen.observed == pytest.approx([0.25, 0.75])
    assert seen.error == pytest.approx(np.sqrt([0.1875 * 10, 0.1875 * 6]) / 4)
    assert seen.weight == pytest.approx([0.5, 0.5])
    assert seen.expected_error == pytest.approx(0.5 * (0.15 + 0.1))


def test_calibration_leaves_out_empty_and_negative_bins() -> None:
    seen = calibration([0, 1, 1, 0], [0.1, 0.3, 0.9, 0.35], [1, 1, 2, -3], bins=4)
    assert seen.predicted == pytest.approx([0.1, 0.9])
    assert seen.weight == pytest.approx([1 / 3, 2 / 3])
    assert np.all(seen.error == 0)
    beyond = calibration([1, 0], [0.5, 0.5], [2, -1], bins=1)
    assert beyond.observed == pytest.approx([2]) and beyond.error.tolist() == [0]


def test_calibrated_probabilities_are_calibrated_within_errors() -> None:
    rng = np.random.default_rng(3)
    p, weight = rng.random(20_000), rng.exponential(size=20_000)
    y = rng.random(20_000) < p
    seen = calibration(y, p, weight, bins=20)
    chi2 = np.sum(((seen.observed - seen.predicted) / seen.error) ** 2)
    assert 5 < chi2 < 45  # 20 degrees of freedom
    assert seen.expected_error < 0.02
    assert calibration(y, p**2, weight, bins=20).expected_error > 0.1


def test_bootstrap_error_of_a_mean_is_sigma_over_root_n() -> None:
    rng = np.random.default_rng(0)
    for n in (100, 400, 1600):
        values = rng.normal(size=n)
        many = repeat(lambda w, x=values: np.array([w @ x / w.sum()]), np.ones(n), None, 800, 1)
        assert many.shape == (800, 1)
        assert many.std() == pytest.approx(values.std() / math.sqrt(n), rel=0.1)


def test_bootstrap_error_of_the_auc_is_that_of_repeated_samples() -> None:
    truth = np.std([auc(*make(400, seed)) for seed in range(300)])
    seen = np.mean([evaluate(*make(400, seed), n_boot=60)["auc"][1] for seed in range(20)])
    assert seen == pytest.approx(truth, rel=0.12)


def test_errors_fall_as_one_over_root_n() -> None:
    def relative_errors(n: int) -> np.ndarray:
        seen = [evaluate(*make(n, seed), n_boot=60, luminosity_fb=1 / n) for seed in range(5)]
        return np.mean([[error / value for value, error in each.values()] for each in seen], axis=0)

    ratio = relative_errors(1000) / relative_errors(16_000)
    assert ratio == pytest.approx(4 * np.ones(5), rel=0.25)


def test_error_of_the_rejection_is_that_of_repeated_rejections() -> None:
    y, score, weight = make(4000)
    many = repeat(lambda w: np.array([rejection(y, score, w, 0.7)]), weight, None, 300, 5)
    assert evaluate(y, score, weight, n_boot=300, seed=5)["rejection_70"][1] == pytest.approx(many.std(), rel=0.1)


def test_copies_in_a_group_add_no_information() -> None:
    """Grouped copies give the error of the originals; ignoring the groups makes it smaller by the root of copies."""
    sample = make(1500)
    copied = [np.repeat(values, 4) for values in sample]
    group = np.repeat(np.arange(1500), 4)
    alone, grouped, ignored = (evaluate(*rows) for rows in (sample, (*copied, group), copied))
    for name in alone:
        assert grouped[name] == pytest.approx(alone[name], rel=1e-9)
    assert grouped["auc"][1] / ignored["auc"][1] == pytest.approx(2, rel=0.2)


def test_names_of_groups_do_not_matter() -> None:
    sample = make(300)
    group = np.arange(300) // 3
    expected = evaluate(*sample, group, n_boot=20)
    assert evaluate(*sample, 1_000_000 + 7 * group, n_boot=20) == expected
    assert evaluate(*sample, np.char.zfill(group.astype(str), 5), n_boot=20) == expected


def test_same_seed_same_numbers() -> None:
    sample = make(300)
    first = evaluate(*sample, n_boot=20, seed=1, luminosity_fb=1.0)
    assert evaluate(*sample, n_boot=20, seed=1, luminosity_fb=1.0) == first
    assert evaluate(*sample, n_boot=20, seed=2, luminosity_fb=1.0)["auc"][1] != first["auc"][1]


@pytest.mark.parametrize("negative", [0.0, 0.1])
def test_evaluate_gives_the_single_measures(negative: float) -> None:
    sample = make(1000, negative=negative)
    seen = evaluate(*sample, n_boot=10, efficiencies=(0.3, 0.825), luminosity_fb=2.0)
    expected = {
        "auc": auc(*sample),
        "rejection_30": rejection(*sample, efficiency=0.3),
        "rejection_82.5": rejection(*sample, efficiency=0.825),
        "asimov_z": best_asimov_z(*sample, luminosity_fb=2.0)[0],
    }
    assert {name: value for name, (value, _) in seen.items()} == pytest.approx(expected)
    assert all(error > 0 for _, error in seen.values())
    _, many = bootstrap(*sample, n_boot=10)
    assert {name: values.shape for name, values in many.items()} == dict.fromkeys(
        ("auc", "rejection_50", "rejection_70", "rejection_90"), (10,)
    )


def test_a_paired_comparison_is_sharper_than_an_unpaired_one() -> None:
    y, score, weight = make(2000)
    other = score + np.random.default_rng(1).normal(0, 0.2, 2000)
    one, two = (evaluate(y, each, weight, n_boot=100) for each in (score, other))
    difference = compare(y, score, other, weight, n_boot=100)
    for name, (value, error) in difference.items():
        assert value == pytest.approx(one[name][0] - two[name][0])
        assert 0 < error < 0.8 * math.hypot(one[name][1], two[name][1])
    assert difference["auc"][1] < 0.4 * math.hypot(one["auc"][1], two["auc"][1])
    swapped = compare(y, other, score, weight, n_boot=100)
    assert {name: -value for name, (value, _) in swapped.items()} == pytest.approx(
        {name: value for name, (value, _) in difference.items()}
    )
    assert all(pair == (0, 0) for pair in compare(y, score, 2 * score, weight, n_boot=5).values())


def test_a_perfect_score_has_infinite_rejection_and_no_error_for_it() -> None:
    y = np.arange(40) % 2
    seen = evaluate(y, y, n_boot=20)
    assert seen["auc"] == (1, 0)
    assert seen["rejection_50"][0] == math.inf and math.isnan(seen["rejection_50"][1])
    assert math.isnan(compare(y, y, y, n_boot=20)["rejection_50"][0])


def test_no_error_when_most_repetitions_lack_a_class() -> None:
    """A single event is drawn in 63 % of the repetitions, two single events in 40 %."""
    one = np.arange(20) == 13
    assert 0 < evaluate(one, np.arange(20.0))["auc"][1] < 0.5
    value, error = evaluate([0, 1], [1, 2])["auc"]
    assert value == 1 and math.isnan(error)


@pytest.mark.parametrize("targets", [None, 1, 3])
def test_regression_is_that_of_numpy(targets: int | None) -> None:
    rng = np.random.default_rng(0)
    shape = (4000,) if targets is None else (4000, targets)
    target, residual = 50 * rng.normal(size=shape), 0.3 + rng.normal(size=shape)
    copies = rng.integers(1, 4, 4000)
    seen = evaluate_regression(target, target + residual, copies, n_boot=50)
    rows = np.repeat(residual.reshape(4000, -1), copies, axis=0)
    assert seen["mae"][0] == pytest.approx(np.abs(rows).mean(axis=0))
    assert seen["bias"][0] == pytest.approx(rows.mean(axis=0))
    low, high = np.quantile(rows, [0.16, 0.84], axis=0)
    assert seen["width68"][0] == pytest.approx((high - low) / 2, rel=2e-3)
    spread = residual.reshape(4000, -1).std(axis=0) / math.sqrt(effective_size(copies))
    assert seen["bias"][1] == pytest.approx(spread, rel=0.35)
    assert all(value.shape == error.shape == (targets or 1,) for value, error in seen.values())


def test_regression_by_hand_and_by_group() -> None:
    seen = evaluate_regression([0, 0, 0, 0], [-1, 1, 2, -3], [1, 1, 1, -0.5], n_boot=5)
    assert [float(seen[name][0][0]) for name in ("mae", "bias")] == pytest.approx([2.5 / 2.5, 3.5 / 2.5])
    assert evaluate_regression([0] * 4, [3, 1, 0, 2], n_boot=5)["width68"][0] == pytest.approx([(2.86 - 0.14) / 2])
    target, prediction = np.random.default_rng(0).normal(size=(2, 300))
    group = np.repeat(np.arange(300), 4)
    alone = evaluate_regression(target, prediction, n_boot=30)
    copied = [np.repeat(values, 4) for values in (target, prediction)]
    grouped, ignored = (evaluate_regression(*copied, group=g, n_boot=30) for g in (group, None))
    for name in ("mae", "bias"):
        assert np.ravel(grouped[name]) == pytest.approx(np.ravel(alone[name]))
        assert grouped[name][1] > 1.3 * ignored[name][1]


@pytest.mark.parametrize("measure", [auc, rejection, roc_curve, evaluate])
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"score": [0.1, math.nan, 0.3, math.nan]}, DataError, "2 of 4 are NaN"),
        ({"y": [1, 1, 1, 1]}, DataError, r"both present, however: \[1\]"),
        ({"y": [-1, 1, -1, 1]}, DataError, r"\[-1, 1\]"),
        ({"y": [0, 1, 2, 1]}, DataError, r"\[0, 1, 2\]"),
        ({"y": [], "score": [], "weight": []}, DataError, r"\[\]"),
        ({"score": [0.1, 0.2]}, UsageError, r"\(4,\) and \(2,\)"),
        ({"y": [[0, 1, 0, 1]], "score": [[0.1, 0.2, 0.3, 0.4]]}, UsageError, r"\(1, 4\)"),
        ({"y": 1, "score": 0.5}, UsageError, r"\(\)"),
        ({"weight": [1, 2]}, UsageError, r"\(4,\), however it has \(2,\)"),
        ({"weight": [1, math.inf, 1, 1]}, DataError, "finite"),
        ({"weight": [0, 1, 0, 1]}, DataError, "class 0 has 0"),
        ({"weight": [1, 1, 1, -3]}, DataError, "class 1 has -2"),
    ],
)
def test_hostile_samples_are_refused_in_words(
    measure: Callable, arguments: dict, error: type[Exception], words: str
) -> None:
    good = {"y": [0, 1, 0, 1], "score": [0.1, 0.2, 0.3, 0.4], "weight": [1, 1, 1, 1]}
    with pytest.raises(error, match=words):
        measure(**{**good, **arguments})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: rejection(LADDER_Y, LADDER, efficiency=0.0), UsageError, "however: 0.0"),
        (lambda: rejection(LADDER_Y, LADDER, efficiency=1.5), UsageError, "however: 1.5"),
        (lambda: rejection(LADDER_Y, LADDER, efficiency=math.nan), UsageError, "however: nan"),
        (lambda: evaluate(LADDER_Y, LADDER, n_boot=1), UsageError, "n_boot=1"),
        (lambda: evaluate(LADDER_Y, LADDER, group=[1, 2]), UsageError, r"\(8,\), however it has \(2,\)"),
        (lambda: best_asimov_z([0, 1], [1, 2], [1, -1], 1.0), DataError, "class 1 has -1"),
        (lambda: compare([0, 1], [1, 2], [1, math.nan]), DataError, "1 of 2"),
        (lambda: ks_weighted([1, math.nan], [1, 2]), DataError, "1 of 2"),
        (lambda: ks_weighted([], [1, 2]), DataError, "sum is 0"),
        (lambda: ks_weighted([1, 2], [1, 2], None, [1, -2]), DataError, "sum is -1"),
        (lambda: ks_weighted([1, 2], [1, 2], [1]), UsageError, r"\(2,\), however it has \(1,\)"),
        (lambda: calibration([0, 1], [0.1, 1.1]), DataError, "between 0 and 1"),
        (lambda: calibration([0, 1], [0.1, math.nan]), DataError, "between 0 and 1"),
        (lambda: calibration([0, 1], [0.1, 0.2], [1]), UsageError, "however it has"),
        (lambda: evaluate_regression([1.0, 2.0], [1.0]), UsageError, r"\(2,\) and \(1,\)"),
        (lambda: evaluate_regression([1.0, 2.0], [[1.0], [2.0]]), UsageError, r"\(2,\) and \(2, 1\)"),
        (lambda: evaluate_regression([], []), UsageError, r"\(0,\)"),
        (lambda: evaluate_regression([1.0, math.nan], [1.0, 2.0]), DataError, "NaN"),
        (lambda: evaluate_regression([1.0, 2.0], [1.0, 2.0], [1.0]), UsageError, "however it has"),
        (lambda: evaluate_regression([1.0, 2.0], [1.0, 2.0], group=[1]), UsageError, "group needs"),
    ],
)
def test_impossible_requests_are_refused_in_words(call: Callable, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_working_point_where_negative_weights_let_the_curve_fall() -> None:
    """The last segment of the curve leads from (0, 0.2) to (1, 1), so 0.7 is reached at 0.625."""
    y, score, weight = [1, 1, 1, 0], [4, 3, 2, 2], [0.6, -0.4, 0.8, 1.0]
    assert rejection(y, score, weight, 0.7) == pytest.approx(1 / 0.625)


@pytest.mark.parametrize("weight", [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
def test_weights_without_positive_sum_are_refused(weight: list[float]) -> None:
    with pytest.raises(DataError, match="positive sum"):
        evaluate_regression([1, 2, 3], [1, 2, 4], weight)
    with pytest.raises(DataError, match="positive sum"):
        calibration([0, 1, 1], [0.1, 0.5, 0.6], weight)


def test_wrong_shapes_and_labels_are_named() -> None:
    with pytest.raises(UsageError, match="one shape"):
        calibration([0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(UsageError, match="bins at least 1"):
        calibration([0, 1], [0.1, 0.2], bins=0)
    with pytest.raises(DataError, match="labels 0 and 1"):
        calibration([0, 2], [0.1, 0.2])
    with pytest.raises(UsageError, match=r"shape \(n,\)"):
        ks_weighted([[0.1, 0.2]], [0.3])
    with pytest.raises(DataError, match="finite"):
        evaluate_regression([1.0, 2.0], [1.0, np.inf])


def test_few_events_still_have_an_error() -> None:
    """Some repetitions of three events draw nothing at all."""
    found = evaluate_regression([1.0, 2.0, 3.0], [1.0, 2.0, 4.0], n_boot=300)
    assert all(np.isfinite(error).all() for _, error in found.values())
