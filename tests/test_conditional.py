"""Calibration and sharpness of samples against distributions whose answers are known."""

import math

import numpy as np
import pytest

from hepkan.errors import DataError, UsageError
from hepkan.metrics import crps, evaluate_conditional, pit, pit_histogram

N, S = 4000, 60


@pytest.fixture(scope="module")
def gaussian() -> tuple[np.ndarray, np.ndarray]:
    """Truth and samples of one distribution per event, different in place and width: calibrated."""
    rng = np.random.default_rng(0)
    place, width = rng.normal(size=(N, 2)), rng.exponential(size=(N, 2)) + 0.1
    truth = place + width * rng.normal(size=(N, 2))
    return truth, place[:, None] + width[:, None] * rng.normal(size=(N, S, 2))


def test_calibrated_samples_cover_what_they_say(gaussian: tuple[np.ndarray, np.ndarray]) -> None:
    found = evaluate_conditional(*gaussian)
    assert list(found) == ["coverage_50", "coverage_68", "coverage_90", "coverage_95", "crps"]
    for name, (value, error) in list(found.items())[:-1]:
        level = float(name.removeprefix("coverage_")) / 100
        assert error == pytest.approx(math.sqrt(level * (1 - level) / N), rel=0.25)
        assert np.all(np.abs(value - level) < 4 * error)
    edges, density, error = pit_histogram(*gaussian, bins=10)
    assert edges == pytest.approx(np.linspace(0, 1, 11)) and density.shape == error.shape == (2, 10)
    assert density.mean(axis=1) == pytest.approx(1.0) and np.all(np.abs(density - 1) < 4.5 * error)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_wrong_widths_cover_as_a_gaussian_does(factor: float) -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=N)
    samples = factor * rng.normal(size=(N, 4 * S))
    value, error = evaluate_conditional(truth, samples)["coverage_68"]
    quantile = 0.994457883  # half width of the central 68 %
    assert value[0] == pytest.approx(math.erf(factor * quantile / math.sqrt(2)), abs=4 * error[0] + 0.01)
    density = pit_histogram(truth, samples, bins=8)[1][0]
    ends, middle = density[[0, -1]].mean(), density[3:5].mean()
    assert (ends > 1.5 * middle) if factor < 1 else (ends < 0.5 * middle)


def test_score_of_a_gaussian(gaussian: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    y = np.array([-2.0, 0.0, 0.7])
    exact = y * np.array([math.erf(v / math.sqrt(2)) for v in y])
    exact = exact + 2 * np.exp(-(y**2) / 2) / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    assert crps(y, rng.normal(size=(3, 100_000)))[:, 0] == pytest.approx(exact, abs=0.01)
    few = crps(np.zeros(40_000), rng.normal(size=(40_000, 3)))  # unbiased with three samples
    assert few.mean() == pytest.approx(2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi), abs=0.012)
    brute = np.abs(gaussian[1][:5, :, None] - gaussian[1][:5, None]).sum(axis=(1, 2)) / (2 * S * (S - 1))
    first = np.abs(gaussian[1][:5] - gaussian[0][:5, None]).mean(axis=1)
    assert crps(gaussian[0][:5], gaussian[1][:5]) == pytest.approx(first - brute)


def test_score_punishes_what_is_not_the_truth(gaussian: tuple[np.ndarray, np.ndarray]) -> None:
    truth, samples = gaussian
    centre = samples.mean(axis=1, keepdims=True)
    best = crps(truth, samples).mean()
    for wrong in (samples + 0.5, centre + 0.5 * (samples - centre), centre + 2.0 * (samples - centre)):
        assert crps(truth, wrong).mean() > 1.02 * best
    assert crps(truth, np.repeat(centre, S, axis=1)) == pytest.approx(np.abs(truth - centre[:, 0]))


def test_ties_are_uniform_too() -> None:
    rng = np.random.default_rng(3)
    u = pit(rng.integers(3, size=20_000).astype(float), rng.integers(3, size=(20_000, 10)))[:, 0]
    counts = np.histogram(u, bins=11, range=(0, 1))[0]
    assert np.all(np.abs(counts - 20_000 / 11) < 5 * math.sqrt(20_000 / 11))
    assert np.array_equal(u, pit(*_integers(), seed=0)[:, 0]) and not np.array_equal(u, pit(*_integers(), seed=1)[:, 0])


def _integers() -> tuple[np.ndarray, np.ndarray]:
    """The same numbers again."""
    rng = np.random.default_rng(3)
    return rng.integers(3, size=20_000).astype(float), rng.integers(3, size=(20_000, 10))


def test_weights_and_groups_count(gaussian: tuple[np.ndarray, np.ndarray]) -> None:
    truth, samples = (part[:500] for part in gaussian)
    weight = np.arange(500) % 3
    one = evaluate_conditional(truth, samples, weight)
    score = crps(truth, samples)
    assert one["crps"][0] == pytest.approx(np.average(score, axis=0, weights=weight))
    copies = [np.concatenate([part, part]) for part in (truth, samples, weight, np.arange(500))]
    grouped = evaluate_conditional(*copies)
    alone = evaluate_conditional(*copies[:3])
    assert grouped["crps"][0] == pytest.approx(one["crps"][0])
    assert np.all(grouped["crps"][1] > 1.2 * alone["crps"][1])


def test_wrong_requests_are_explained(gaussian: tuple[np.ndarray, np.ndarray]) -> None:
    truth, samples = (part[:10] for part in gaussian)
    for wrong in (samples[:5], samples[:, :, :1], samples[:, 0], samples[:, :0]):
        with pytest.raises(UsageError, match=r"need samples \(n, S, t\)"):
            pit(truth, wrong)
    with pytest.raises(UsageError, match="at least two samples"):
        crps(truth, samples[:, :1])
    with pytest.raises(UsageError, match=r"between 0 and 1, however: 68"):
        evaluate_conditional(truth, samples, levels=(68,))
    with pytest.raises(DataError, match="must be finite"):
        crps(truth * np.nan, samples)
    with pytest.raises(DataError, match="positive sum"):
        evaluate_conditional(truth, samples, np.zeros(10))
    with pytest.raises(UsageError, match="at least one bin"):
        pit_histogram(truth, samples, bins=0)
