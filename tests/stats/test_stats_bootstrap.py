import math

import numpy as np
import pytest
from scipy import stats

from harness.stats import bootstrap
from harness.stats.bootstrap import mean_interval, resample, resample_difference


@pytest.fixture
def cosines():
    """Scores as a quantized model gives them: near 1, with a tail to the left."""
    return 1 - np.random.default_rng(5).exponential(0.01, 200)


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_each_end_is_the_outer_one_of_the_bca_interval_of_scipy_and_students_t(cosines, level):
    bca = stats.bootstrap((cosines,), np.mean, confidence_level=level, method="BCa", random_state=np.random.default_rng(1))
    by_t = stats.t.interval(level, 199, cosines.mean(), cosines.std(ddof=1) / math.sqrt(200))
    found = mean_interval(cosines, level, np.random.default_rng(2))
    near = (found.high - found.low) * 0.03
    assert found.low == pytest.approx(min(bca.confidence_interval.low, by_t[0]), abs=near)
    assert found.high == pytest.approx(max(bca.confidence_interval.high, by_t[1]), abs=near)
    assert bca.confidence_interval.low < by_t[0] and by_t[1] > bca.confidence_interval.high, "each is the outer one at one end"


def test_ten_even_samples_are_decided_by_students_t():
    values = np.random.default_rng(4).normal(0, 1, 10)
    found = mean_interval(values, 0.99, np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.99, 9, values.mean(), values.std(ddof=1) / math.sqrt(10)), abs=0.02)


@pytest.mark.parametrize("level", [0.8, 0.98, 0.998])
def test_a_p_value_is_one_tail_of_the_interval_that_ends_on_its_bound(cosines, level):
    drawn = resample(cosines, np.random.default_rng(7))
    interval = drawn.interval(level)
    assert drawn.above_p(interval.low) == pytest.approx((1 - level) / 2, rel=0.02, abs=1e-4)
    assert drawn.below_p(interval.high) == pytest.approx((1 - level) / 2, rel=0.02, abs=1e-4)


def test_a_bound_beyond_every_resample_is_left_to_students_t(cosines):
    drawn = resample(cosines, np.random.default_rng(7))
    far = drawn.mean - 12 * drawn.error
    assert 0 < drawn.above_p(far) == pytest.approx(stats.t.sf(12, 199))
    assert drawn.below_p(far) == 1.0


def test_one_sample_shows_nothing_and_equal_ones_show_all():
    one, equal = resample(np.array([0.5]), np.random.default_rng(0)), resample(np.full(9, 0.1), np.random.default_rng(0))
    assert one.above_p(0.0) == one.below_p(1.0) == 1.0
    assert (equal.above_p(0.05), equal.above_p(0.15), equal.below_p(0.15)) == (0.0, 1.0, 0.0)


def test_the_order_of_a_sum_is_no_evidence():
    """Nine of ten differences are zero: a tenth of the resampled sums ties with the mean, whatever the last bit says."""
    drawn = resample(np.array([0.1, *[0.0] * 9]), np.random.default_rng(0))
    ties = stats.binom.pmf(1, 10, 0.1)
    assert drawn.bias == pytest.approx(stats.norm.ppf(stats.binom.pmf(0, 10, 0.1) + ties / 2), abs=0.05)


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


@pytest.mark.parametrize(
    ("draw", "truth", "samples", "red", "passed"),
    [
        ("normal", 0.0, 10, 0.02, 0.07),
        ("normal", 0.0, 50, 0.02, 0.08),
        ("exponential", 1.0, 10, 0.01, 0.16),
        ("exponential", 1.0, 50, 0.01, 0.10),
    ],
)
def test_a_red_holds_its_level_on_few_samples_too(draw, truth, samples, red, passed, monkeypatch):
    """At 1 %; a pass at 5 % holds it where the differences are even, and is told to be too easy where they are not."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1_000)
    generator = np.random.default_rng(20260111)
    found = [resample(getattr(generator, draw)(size=samples), generator) for _ in range(1_500)]
    assert sum(one.above_p(truth) < 0.01 for one in found) / 1_500 <= red
    assert sum(one.below_p(truth) < 0.05 for one in found) / 1_500 <= passed


def test_pairs_keep_what_both_arms_share_out_of_the_interval():
    generator = np.random.default_rng(11)
    shared = generator.normal(0.0, 10.0, 300)
    candidate = shared + 0.5 + generator.normal(0.0, 0.1, 300)
    found = resample_difference(shared, candidate, generator).interval(0.99)
    assert 0.47 < found.low < 0.5 < found.high < 0.53


def test_the_difference_is_candidate_less_baseline():
    found = resample_difference(np.array([1.0, 2.0]), np.array([0.5, 1.5]), np.random.default_rng(0)).interval(0.9)
    assert found.low == found.high == -0.5


def test_arms_of_other_lengths_are_not_pairs():
    with pytest.raises(ValueError, match="paired samples are needed, got 3 and 2"):
        resample_difference(np.zeros(3), np.zeros(2), np.random.default_rng(0))


@pytest.mark.parametrize("values", [np.array([]), np.array([1.0, math.nan]), np.array([1.0, math.inf])])
def test_nothing_and_nan_are_refused(values):
    with pytest.raises(ValueError, match="values"):
        mean_interval(values, 0.9, np.random.default_rng(0))
