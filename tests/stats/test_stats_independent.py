import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.independent import MIN_SESSIONS, mean_interval, prediction_interval, ratio_interval_independent

STEADY = settings(derandomize=True, deadline=None, max_examples=60)
FIGURES = st.lists(st.floats(0.5, 2.0), min_size=2, max_size=20).filter(lambda values: np.std(values) > 1e-3)


@STEADY
@given(FIGURES, st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_the_mean_is_that_of_scipy(figures, level):
    expected = stats.ttest_1samp(figures, 0.0).confidence_interval(level)
    found = mean_interval(figures, level)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


@STEADY
@given(FIGURES, FIGURES)
def test_the_ratio_of_unpaired_arms_is_welchs_on_logarithms(baseline, candidate):
    expected = stats.ttest_ind(np.log(candidate), np.log(baseline), equal_var=False).confidence_interval(0.9)
    found = ratio_interval_independent(baseline, candidate, 0.9)
    assert math.log(found.low) == pytest.approx(expected.low, abs=1e-9)
    assert math.log(found.high) == pytest.approx(expected.high, abs=1e-9)


def test_arms_without_any_spread_have_an_exact_ratio():
    found = ratio_interval_independent([2.0, 2.0], [3.0, 3.0], 0.9)
    assert found.low == found.high == pytest.approx(1.5)


def test_one_arm_without_spread_leaves_the_others_freedom():
    found = ratio_interval_independent([1.0, 1.0, 1.0], [1.1, 1.2, 1.3], 0.9)
    alone = stats.ttest_1samp(np.log([1.1, 1.2, 1.3]), 0.0).confidence_interval(0.9)
    assert math.log(found.low) == pytest.approx(alone.low)
    assert math.log(found.high) == pytest.approx(alone.high)


@pytest.mark.parametrize(("baseline", "candidate"), [([1.0, 0.0], [1.0, 1.1]), ([1.0, 1.1], [1.0, 0.0]), ([1.0, 1.1], [1.0, -0.1])])
def test_a_figure_that_is_not_positive_has_no_ratio(baseline, candidate):
    with pytest.raises(ValueError, match="a ratio needs positive figures"):
        ratio_interval_independent(baseline, candidate, 0.9)


@pytest.mark.parametrize(("baseline", "candidate"), [([1.0], [1.0, 1.1]), ([1.0, 1.1], [1.0]), ([1.0, math.nan], [1.0, 1.1])])
def test_one_launch_or_nan_is_refused(baseline, candidate):
    with pytest.raises(ValueError, match="values"):
        ratio_interval_independent(baseline, candidate, 0.9)
    with pytest.raises(ValueError, match="values"):
        mean_interval(min(baseline, candidate, key=len) if len(baseline) != len(candidate) else baseline, 0.9)


def test_the_ratio_holds_the_truth_about_as_often_as_it_says_when_one_arm_is_noisier():
    generator = np.random.default_rng(20260140)
    held = 0
    for _ in range(800):
        baseline, candidate = np.exp(generator.normal(0.0, 0.02, 5)), np.exp(generator.normal(math.log(1.1), 0.10, 5))
        found = ratio_interval_independent(baseline, candidate, 0.90)
        held += found.low <= 1.1 <= found.high
    assert held / 800 == pytest.approx(0.90, abs=0.04)


def test_the_next_session_is_predicted_with_the_spread_of_sessions_and_not_of_their_mean():
    sessions = [10.0, 11.0, 9.0, 10.5, 9.5, 10.0, 10.2, 9.8, 10.4, 9.6]
    mean, predicted = mean_interval(sessions, 0.95), prediction_interval(sessions, 0.95)
    assert (predicted.high - predicted.low) / (mean.high - mean.low) == pytest.approx(math.sqrt(10 + 1))


def test_the_prediction_holds_the_next_session_as_often_as_it_says():
    draws = np.random.default_rng(20260141).normal(5.0, 0.3, (1500, 11))
    held = sum(interval.low <= row[-1] <= interval.high for row, interval in ((row, prediction_interval(row[:-1], 0.9)) for row in draws))
    assert held / len(draws) == pytest.approx(0.9, abs=0.025)


def test_fewer_than_ten_sessions_predict_nothing():
    assert MIN_SESSIONS == 10
    with pytest.raises(ValueError, match="10 values are needed, there are 9"):
        prediction_interval([1.0] * 9, 0.95)
