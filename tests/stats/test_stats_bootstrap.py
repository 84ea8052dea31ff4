import math

import numpy as np
import pytest
from scipy import stats

from harness.stats import bootstrap
from harness.stats.bootstrap import mean_difference_interval, mean_interval


@pytest.fixture
def cosines():
    """Scores as a quantized model gives them: near 1, with a tail to the left."""
    return 1 - np.random.default_rng(5).exponential(0.01, 200)


def test_the_interval_is_the_percentile_interval_of_scipy(cosines):
    expected = stats.bootstrap((cosines,), np.mean, confidence_level=0.9, method="percentile", random_state=np.random.default_rng(1))
    found = mean_interval(cosines, 0.9, np.random.default_rng(2))
    width = found.high - found.low
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=width * 0.03)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=width * 0.03)


def test_the_width_is_that_of_the_central_limit(cosines):
    found = mean_interval(cosines, 0.95, np.random.default_rng(3))
    expected = 2 * 1.96 * cosines.std(ddof=1) / math.sqrt(len(cosines))
    assert found.high - found.low == pytest.approx(expected, rel=0.05)


def test_the_same_seed_gives_the_same_interval(cosines):
    first, second, other = (mean_interval(cosines, 0.9, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert first == second != other


def test_bounded_memory_does_not_change_the_answer(cosines, monkeypatch):
    whole = mean_interval(cosines, 0.9, np.random.default_rng(7))
    monkeypatch.setattr(bootstrap, "CHUNK_VALUES", 1234 * len(cosines))
    assert mean_interval(cosines, 0.9, np.random.default_rng(7)) == whole


def test_samples_that_are_more_than_a_chunk_are_still_resampled(cosines, monkeypatch):
    monkeypatch.setattr(bootstrap, "CHUNK_VALUES", 10)
    monkeypatch.setattr(bootstrap, "RESAMPLES", 300)
    found = mean_interval(cosines, 0.9, np.random.default_rng(7))
    assert found.low < cosines.mean() < found.high


def test_values_that_are_all_equal_have_no_width():
    found = mean_interval(np.full(30, 0.25), 0.9, np.random.default_rng(0))
    assert found.low == found.high == 0.25


def test_the_interval_always_holds_the_mean():
    lonely = np.array([0.0] * 999 + [1000.0])
    found = mean_interval(lonely, 0.01, np.random.default_rng(0))
    assert found.low <= 1.0 <= found.high


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(20260110)
    held = 0
    for _ in range(200):
        found = mean_interval(generator.normal(3.0, 1.0, 60), 0.90, generator)
        held += found.low <= 3.0 <= found.high
    assert held / 200 == pytest.approx(0.90, abs=0.06)


def test_pairs_keep_what_both_arms_share_out_of_the_interval():
    generator = np.random.default_rng(11)
    shared = generator.normal(0.0, 10.0, 300)
    candidate = shared + 0.5 + generator.normal(0.0, 0.1, 300)
    found = mean_difference_interval(shared, candidate, 0.99, generator)
    assert 0.47 < found.low < 0.5 < found.high < 0.53


def test_the_difference_is_candidate_less_baseline():
    found = mean_difference_interval(np.array([1.0, 2.0]), np.array([0.5, 1.5]), 0.9, np.random.default_rng(0))
    assert found.low == found.high == -0.5


def test_arms_of_other_lengths_are_not_pairs():
    with pytest.raises(ValueError, match="paired samples are needed, got 3 and 2"):
        mean_difference_interval(np.zeros(3), np.zeros(2), 0.9, np.random.default_rng(0))


@pytest.mark.parametrize("values", [np.array([]), np.array([1.0, math.nan]), np.array([1.0, math.inf])])
def test_nothing_and_nan_are_refused(values):
    with pytest.raises(ValueError, match="values"):
        mean_interval(values, 0.9, np.random.default_rng(0))
