import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.sequential import SCHEDULE, Looks, holm

STEADY = settings(derandomize=True, deadline=None, max_examples=60)
P_VALUES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20)


def test_holms_adjustment_is_that_of_the_textbook():
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_single_p_value_is_left_alone_and_none_exceeds_one():
    assert holm([0.2]) == [0.2]
    assert holm([0.9, 0.8, 0.7]) == [1.0, 1.0, 1.0]


@STEADY
@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_just_what_stepping_down_rejects(p_values, alpha):
    rejected = 0
    for value in sorted(p_values):
        if value * (len(p_values) - rejected) > alpha:
            break
        rejected += 1
    assert sum(value <= alpha for value in holm(p_values)) == rejected


@STEADY
@given(P_VALUES)
def test_holm_keeps_the_order_and_never_makes_a_p_value_smaller(p_values):
    adjusted = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert [after for _, after in pairs] == sorted(adjusted)


@pytest.mark.parametrize("p_values", [[], [0.1, math.nan]])
def test_holm_refuses_nothing_and_nan(p_values):
    with pytest.raises(ValueError, match="values"):
        holm(p_values)


def test_holm_keeps_the_family_wise_error():
    p_values = np.random.default_rng(20260150).uniform(size=(2000, 8))
    assert sum(min(holm(row)) < 0.05 for row in p_values) / 2000 == pytest.approx(0.05, abs=0.015)


def test_all_looks_together_spend_what_they_may_and_no_more():
    looks = Looks(0.01)
    shares = [looks.alpha(index) for index in range(len(SCHEDULE))]
    assert sum(shares) == pytest.approx(0.01)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] / shares[3] == pytest.approx(2.0)  # 1 / sqrt(k)


def test_the_schedule_goes_up():
    assert list(SCHEDULE) == sorted(set(SCHEDULE))
    assert SCHEDULE[0] >= 2  # one pair has no spread


@pytest.mark.parametrize("error", [0.0, 1.0, -0.1, 2.0])
def test_what_is_no_error_probability_is_refused(error):
    with pytest.raises(ValueError, match="not an error probability"):
        Looks(error)


def test_looking_sixteen_times_at_identical_code_costs_no_more_than_the_error_allowed():
    looks = Looks(0.10)
    draws = np.random.default_rng(20260151).normal(0.0, 0.02, (4000, SCHEDULE[-1]))
    red = np.zeros(len(draws), dtype=bool)
    naive = np.zeros(len(draws), dtype=bool)
    for index, pairs in enumerate(SCHEDULE):
        seen = draws[:, :pairs]
        p = stats.t.sf(seen.mean(axis=1) / (seen.std(axis=1, ddof=1) / math.sqrt(pairs)), pairs - 1)
        red |= p < looks.alpha(index)
        naive |= p < 0.10
    assert 0.03 < red.mean() <= 0.10  # the bound is kept, and not by spending nothing
    assert naive.mean() > 0.25  # what looking without paying would do
