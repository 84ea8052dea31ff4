import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.change_points import change_points, energy

STEADY = settings(derandomize=True, deadline=None, max_examples=40)


def places(values, **options):
    return [change.index for change in change_points(values, **options)]


def steps(generator, *levels, spread=0.01):
    """(level, sessions) after each other, with normal noise."""
    return np.concatenate([generator.normal(level, spread, count) for level, count in levels])


def test_the_energy_of_two_pairs_is_that_of_a_sum_by_hand():
    """Between: (3 + 5 + 2 + 4) / 4 = 3.5; inside: 1 and 2. So 2 x 2 / 4 x (2 x 3.5 - 1 - 2) = 4."""
    assert energy([0, 1], [3, 5]) == pytest.approx(4.0)


def test_samples_of_one_value_have_no_energy_between_them():
    assert energy([2, 2, 2], [2, 2]) == 0.0
    assert energy([0, 0], [1, 1, 1]) == pytest.approx(2 * 3 / 5 * 2)


@STEADY
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12), st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_the_energy_is_the_formula_of_the_paper_pair_by_pair(before, after):
    m, n = len(before), len(after)
    between = sum(abs(x - y) for x in before for y in after) / (m * n)
    inside = [sum(abs(x - y) for i, x in enumerate(part) for y in part[:i]) / math.comb(len(part), 2) for part in (before, after)]
    assert energy(before, after) == pytest.approx(m * n / (m + n) * (2 * between - sum(inside)), abs=1e-9)


def test_a_step_of_a_tiny_series_is_found_with_its_means_and_students_p_value():
    values = [1.0, 1.1, 0.9, 1.0, 5.0, 5.1, 4.9, 5.0]
    (change,) = change_points(values)
    assert (change.index, change.before, change.after) == (4, pytest.approx(1.0), pytest.approx(5.0))
    without = [stats.ttest_ind(values[:4][:i] + values[:4][i + 1 :], values[4:]).pvalue for i in range(4)]
    without += [stats.ttest_ind(values[:4], values[4:][:i] + values[4:][i + 1 :]).pvalue for i in range(4)]
    assert change.p_value == pytest.approx(max(without), rel=1e-6)


def test_an_exact_number_changes_with_its_third_session():
    assert places([24e6] * 10 + [25e6] * 2) == []
    (change,) = change_points([24e6] * 10 + [25e6] * 3)
    assert (change.index, change.before, change.after) == (10, 24e6, 25e6)


@pytest.mark.parametrize("values", [[5.0] * 60, [0.0] * 20, [0.1 + 0.2, 0.3] * 30])
def test_what_is_equal_but_for_rounding_never_changed(values):
    assert places(values) == []


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_two_segments_of_values_give_nothing(count):
    assert places([1.0, 1.0, 1.0, 9.0, 9.0, 9.0][:count]) == []


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_refused_in_a_series_of_any_length(count, bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        change_points([1.0] * count + [bad])


def test_a_segment_of_one_and_a_window_of_less_than_two_segments_are_refused():
    with pytest.raises(ValueError, match="segments of 1"):
        change_points([1.0] * 9, least_segment=1)
    with pytest.raises(ValueError, match="window of 5"):
        change_points([1.0] * 9, window=5)


@pytest.mark.parametrize("at", [0, 1, 2, 20, 37, 38, 39])
def test_one_session_makes_no_change_wherever_it_stands_and_however_slow_it_was(at):
    values = np.random.default_rng(20260201).normal(1.0, 0.01, 40)
    values[at] = 10.0
    assert places(values) == []


def test_two_slow_sessions_between_good_ones_are_no_change():
    values = np.random.default_rng(20260202).normal(1.0, 0.01, 40)
    values[20:22] = 1.5
    assert places(values) == []


def test_a_step_is_found_beside_a_single_slow_session():
    values = steps(np.random.default_rng(20260203), (1.0, 30), (1.1, 20))
    values[[10, 40]] = 1.4
    assert places(values) == [30]


def test_two_shifts_are_both_found_also_when_the_second_takes_the_first_back():
    generator = np.random.default_rng(20260204)
    assert places(steps(generator, (1.0, 25), (1.05, 25), (1.10, 25))) == [25, 50]
    assert places(steps(generator, (1.0, 25), (1.05, 10), (1.0, 25))) == [25, 35]


def test_a_shift_is_found_beyond_the_first_windows_and_at_the_place_where_windows_meet():
    generator = np.random.default_rng(20260205)
    for at in (48, 49, 50, 51, 52, 74, 75, 76, 130):
        assert places(steps(generator, (1.0, at), (1.08, 180 - at))) == [at]


def test_what_is_long_past_does_not_hide_what_is_new():
    values = steps(np.random.default_rng(20260206), (1.0, 60), (3.0, 60), (1.0, 60), (1.05, 12))
    assert places(values) == [60, 120, 180]


def test_a_drift_that_no_session_shows_is_found_in_steps_of_the_tolerance():
    values = 1 + 0.001 * np.arange(120) + np.random.default_rng(20260207).normal(0, 0.004, 120)
    changes = change_points(values, least_change=0.02)
    assert 2 <= len(changes) <= 6
    assert all(change.after / change.before >= 1.02 for change in changes)


def test_a_change_within_the_tolerance_is_not_told_however_sure_it_is():
    values = steps(np.random.default_rng(20260208), (1.0, 40), (1.015, 40), spread=0.002)
    assert places(values) == [40]
    assert places(values, least_change=0.02) == []


def test_a_difference_of_shares_is_held_against_a_tolerance_in_points():
    values = steps(np.random.default_rng(20260209), (0.30, 40), (0.31, 40), spread=0.001)
    assert places(values, least_change=0.02) == [40]
    assert places(values, least_change=0.02, scale="difference") == []
    assert places(values, least_change=0.008, scale="difference") == [40]


@pytest.mark.parametrize("factor", [1e-9, -1.0, 1e12])
def test_the_unit_of_the_series_changes_nothing(factor):
    values = steps(np.random.default_rng(20260210), (1.0, 30), (1.06, 30))
    assert places(values * factor, least_change=0.02) == places(values, least_change=0.02) == [30]


@pytest.mark.parametrize("count", [20, 60, 200])
@pytest.mark.parametrize("noise", ["normal", "three degrees of freedom", "lognormal", "cauchy"])
def test_noise_alone_is_seldom_called_a_change(count, noise):
    """Of 120 series at most 3: the rates found with 400 series are at most 0.5 %."""
    generator = np.random.default_rng(20260211)
    draw = {
        "normal": lambda: generator.normal(1.0, 0.01, count),
        "three degrees of freedom": lambda: 1 + 0.01 * generator.standard_t(3, count),
        "lognormal": lambda: np.exp(generator.normal(0.0, 0.5, count)),
        "cauchy": lambda: generator.standard_cauchy(count),
    }[noise]
    assert sum(bool(places(draw())) for _ in range(120)) <= 3


@pytest.mark.parametrize(("step", "after", "low", "high"), [(1, 3, 0.0, 0.05), (2, 30, 0.95, 1.0), (3, 5, 0.65, 0.95), (5, 3, 0.9, 1.0)])
def test_a_step_is_found_the_sooner_the_larger_it_is(step, after, low, high):
    """``step`` in standard deviations of a session, ``after`` sessions with it, following 40 without."""
    generator = np.random.default_rng(20260212)
    found = [places(steps(generator, (100.0, 40), (100.0 + step, after), spread=1.0)) for _ in range(100)]
    assert low <= sum(bool(one) for one in found) / 100 <= high


def test_the_place_of_a_clear_step_is_right_within_two_sessions():
    generator = np.random.default_rng(20260213)
    found = [places(steps(generator, (1.0, 40), (1.03, 20))) for _ in range(100)]
    assert sum(len(one) == 1 and abs(one[0] - 40) <= 2 for one in found) >= 95


def test_the_same_series_gives_the_same_answer():
    values = steps(np.random.default_rng(20260214), (1.0, 70), (1.03, 60))
    assert change_points(values) == change_points(list(values))
