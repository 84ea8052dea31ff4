import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.paired import p_value, pairs_needed, ratio_interval, visible_change

STEADY = settings(derandomize=True, deadline=None, max_examples=60)
LOG_RATIOS = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=30).filter(lambda values: np.std(values) > 1e-3)
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Additional hours of sleep, two drugs on ten patients: the paired differences of Student (1908)."""


def test_the_interval_is_that_of_students_own_example():
    interval = ratio_interval(SLEEP, 0.95)
    assert math.log(interval.low) == pytest.approx(0.7001142, abs=1e-6)
    assert math.log(interval.high) == pytest.approx(2.4598858, abs=1e-6)
    assert p_value(SLEEP, 0.0) == pytest.approx(0.002833 / 2, abs=1e-6)


@STEADY
@given(LOG_RATIOS, st.sampled_from([0.6, 0.9, 0.99]))
def test_the_interval_is_the_t_interval_of_scipy(log_ratios, level):
    expected = stats.ttest_1samp(log_ratios, 0.0).confidence_interval(level)
    found = ratio_interval(log_ratios, level)
    assert math.log(found.high) == pytest.approx(min(expected.high, 700.0), rel=1e-6, abs=1e-9)
    assert found.low == pytest.approx(math.exp(expected.low), rel=1e-6)
    assert found.level == level


@STEADY
@given(LOG_RATIOS)
def test_to_change_the_arms_over_turns_the_ratio_over(log_ratios):
    there, back = ratio_interval(log_ratios, 0.9), ratio_interval([-value for value in log_ratios], 0.9)
    assert there.low * back.high == pytest.approx(1.0)
    assert there.high * back.low == pytest.approx(1.0)


@STEADY
@given(LOG_RATIOS, st.floats(0.0, 0.2), st.sampled_from([0.001, 0.05, 0.2]))
def test_the_p_value_is_below_alpha_just_where_the_interval_lies_beyond(log_ratios, beyond, alpha):
    p = p_value(log_ratios, beyond)
    low = ratio_interval(log_ratios, 1 - 2 * alpha).low
    if abs(p / alpha - 1) > 1e-6:
        assert (p < alpha) == (low > 1 + beyond)


def test_equal_values_of_a_coarse_timer_are_no_certainty():
    exact = ratio_interval([0.03] * 5, 0.99)
    floored = ratio_interval([0.03] * 5, 0.99, floor=0.01)
    assert exact.low == exact.high == pytest.approx(math.exp(0.03))
    assert floored.low < 1.02 < 1.04 < floored.high
    assert p_value([0.03] * 5, 0.02, floor=0.01) > 0.01 > p_value([0.03] * 5, 0.02)


def test_a_spread_above_the_floor_is_left_as_it_is():
    assert ratio_interval(SLEEP, 0.95, floor=0.5) == ratio_interval(SLEEP, 0.95)


def test_two_wild_pairs_give_a_wide_interval_and_no_overflow():
    interval = ratio_interval([-0.4, 0.4], 1 - 2e-6)
    assert interval.low == 0.0
    assert 1e300 < interval.high < math.inf
    assert 1e300 < visible_change([-0.4, 0.4], tolerance=0.0, alpha=1e-6, power=0.8) < math.inf


@pytest.mark.parametrize("values", [[], [0.01]])
def test_one_pair_says_nothing(values):
    for ask in (
        lambda: ratio_interval(values, 0.9),
        lambda: p_value(values, 0.0),
        lambda: visible_change(values, tolerance=0.0, alpha=0.01, power=0.8),
    ):
        with pytest.raises(ValueError, match="2 values are needed"):
            ask()


def test_nan_among_the_pairs_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        ratio_interval([0.01, math.nan, 0.02], 0.9)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(20260101)
    samples = generator.normal(math.log(1.03), 0.02, (1500, 5))
    held = sum(interval.low <= 1.03 <= interval.high for interval in (ratio_interval(row, 0.90) for row in samples))
    assert held / len(samples) == pytest.approx(0.90, abs=0.025)  # three standard errors


def test_identical_code_is_called_slower_no_more_often_than_alpha():
    generator = np.random.default_rng(20260102)
    samples = generator.normal(0.0, 0.02, (2000, 5))
    assert sum(p_value(row, 0.0) < 0.05 for row in samples) / len(samples) == pytest.approx(0.05, abs=0.015)
    assert sum(p_value(row, 0.02) < 0.05 for row in samples) / len(samples) < 0.01


@pytest.mark.parametrize(("alpha", "pairs"), [(0.05, 27), (0.025, 34)])
def test_the_pairs_needed_are_those_of_published_power_tables(alpha, pairs):
    """R's power.t.test(delta=0.5, sd=1, power=0.8, type="one.sample") gives 26.14 one-sided and 33.37 two-sided."""
    assert pairs_needed(1.0, 0.5, alpha=alpha, power=0.8) == pairs
    assert pairs_needed(0.04, 0.02, alpha=alpha, power=0.8) == pairs


def test_two_pairs_are_enough_for_a_change_that_is_huge_beside_the_spread():
    assert pairs_needed(1e-6, 0.5, alpha=0.01, power=0.8) == 2


def test_pairs_beyond_what_is_worth_a_search_are_told_as_the_most():
    assert pairs_needed(1.0, 0.01, alpha=0.05, power=0.8, most=40) == 40


@pytest.mark.parametrize("distance", [0.0, -0.01])
def test_a_change_within_the_tolerance_is_never_shown_however_many_pairs(distance):
    with pytest.raises(ValueError, match="beyond the tolerance"):
        pairs_needed(0.01, distance, alpha=0.01, power=0.8)


def test_the_visible_change_is_found_four_times_of_five():
    pattern = np.array([-1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5])
    log_ratios = 0.02 * pattern / pattern.std(ddof=1)
    change = visible_change(log_ratios, tolerance=0.03, alpha=0.01, power=0.8)
    draws = np.random.default_rng(20260103).normal(math.log1p(change), 0.02, (4000, 8))
    t = (draws.mean(axis=1) - math.log1p(0.03)) / (draws.std(axis=1, ddof=1) / math.sqrt(8))
    assert (t > stats.t.isf(0.01, 7)).mean() == pytest.approx(0.8, abs=0.02)


def test_more_pairs_see_smaller_changes_and_a_tolerance_moves_what_is_seen():
    few, many = ([0.01, -0.01] * count for count in (3, 20))

    def seen(values, tolerance=0.0):
        return visible_change(values, tolerance=tolerance, alpha=0.01, power=0.8)

    assert 0 < seen(many) < seen(few)
    assert seen(many, 0.02) == pytest.approx((1 + seen(many)) * 1.02 - 1)


@pytest.mark.parametrize("pairs", [2, 4, 6])
def test_the_visible_change_has_no_jump_where_the_limit_takes_over(pairs):
    """Above a critical value of 35 a limit stands for the noncentral t: the change grows with the critical value alone."""

    def seen(critical):
        alpha = float(stats.t.sf(critical, pairs - 1))
        return math.log1p(visible_change([-0.0001, 0.0001] * (pairs // 2), tolerance=0.0, alpha=alpha, power=0.8))

    assert seen(35.1) / seen(34.9) == pytest.approx(35.1 / 34.9, rel=1e-3)
