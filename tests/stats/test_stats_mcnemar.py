import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from harness.stats.mcnemar import beyond_p, difference_interval, discordant, mid_p, samples_needed

STEADY = settings(derandomize=True, deadline=None, max_examples=60)
COUNTS = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60))


def arms(lost, gained, same):
    """Answers of both arms: ``lost`` only right before, ``gained`` only right now, ``same`` right in both."""
    return np.array([1.0] * lost + [0.0] * gained + [1.0] * same), np.array([0.0] * lost + [1.0] * gained + [1.0] * same)


def test_changed_answers_are_counted_by_their_direction():
    baseline, candidate = np.array([1.0, 1.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 1.0, 0.0])
    assert discordant(baseline, candidate) == (2, 1, 5)


@pytest.mark.parametrize(("baseline", "candidate"), [([], []), ([1.0, 0.0], [1.0])])
def test_answers_that_are_no_pairs_are_refused(baseline, candidate):
    with pytest.raises(ValueError, match="paired samples"):
        discordant(np.array(baseline), np.array(candidate))


def test_the_mid_p_value_is_that_of_a_published_example():
    """Airway responsiveness before and after (Bentur et al. 2009, in Fagerland, Lydersen and Laake 2013): 1 against 7, mid-p 0.039."""
    assert 2 * mid_p(7, 1) == pytest.approx(0.0391, abs=5e-5)


@STEADY
@given(st.integers(0, 60), st.integers(0, 60))
def test_the_mid_p_value_is_the_exact_one_less_half_of_what_was_seen(lost, gained):
    if lost + gained == 0:
        assert mid_p(lost, gained) == 0.5
        return
    exact = stats.binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue
    assert mid_p(lost, gained) == pytest.approx(exact - 0.5 * stats.binom.pmf(lost, lost + gained, 0.5), abs=1e-12)
    assert mid_p(lost, gained) + mid_p(gained, lost) == pytest.approx(1.0)


def test_the_interval_is_that_of_a_published_example():
    """The same 21 children, 1 and 7 of them changed: Tango's interval is -0.517 to -0.026 (Fagerland, Lydersen and Laake 2014)."""
    found = difference_interval(*arms(7, 1, 13), 0.95)
    assert found.low == pytest.approx(-0.517, abs=5e-4)
    assert found.high == pytest.approx(-0.026, abs=5e-4)


@STEADY
@given(COUNTS)
def test_at_each_end_the_score_test_is_just_significant(counts):
    """The restricted estimate is found here by maximizing the likelihood, not by Tango's formula."""
    lost, gained, same = counts
    samples = lost + gained + same

    def score(difference):
        # p is the probability of "lost", p + difference that of "gained", the rest that of the same answer.
        def against(p):
            terms = ((lost, p), (gained, p + difference), (same, 1 - 2 * p - difference))
            return -sum(count * math.log(max(share, 1e-300)) for count, share in terms)

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        p = optimize.minimize_scalar(against, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return (gained - lost - samples * difference) / math.sqrt(samples * (2 * p + difference * (1 - difference)))

    found = difference_interval(*arms(*counts), 0.9)
    z = stats.norm.ppf(0.95)
    assert score(found.low) == pytest.approx(z, rel=2e-3)
    assert score(found.high) == pytest.approx(-z, rel=2e-3)


@STEADY
@given(COUNTS)
def test_to_change_the_arms_over_mirrors_the_interval(counts):
    lost, gained, same = counts
    there, back = difference_interval(*arms(lost, gained, same), 0.95), difference_interval(*arms(gained, lost, same), 0.95)
    assert there.low == pytest.approx(-back.high, abs=1e-7)
    assert there.high == pytest.approx(-back.low, abs=1e-7)
    assert -1 <= there.low <= (gained - lost) / (lost + gained + same) <= there.high <= 1


def test_no_changed_answer_of_many_is_no_proof_of_no_difference():
    found = difference_interval(*arms(0, 0, 100), 0.95)
    z2 = stats.norm.ppf(0.975) ** 2
    assert found.high == pytest.approx(z2 / (100 + z2))
    assert found.low == pytest.approx(-found.high)


@pytest.mark.parametrize(("lost", "gained", "observed"), [(20, 0, -1.0), (0, 20, 1.0)])
def test_when_every_answer_changed_the_interval_ends_there(lost, gained, observed):
    found = difference_interval(*arms(lost, gained, 0), 0.95)
    assert observed in (found.low, found.high)
    assert 0 < found.high - found.low < 0.4


def test_more_confidence_is_a_wider_interval():
    narrow, wide = (difference_interval(*arms(9, 4, 200), level) for level in (0.8, 0.999))
    assert wide.low < narrow.low < -5 / 213 < narrow.high < wide.high


@cache
def interval_of(lost, gained, samples, level):
    return difference_interval(*arms(lost, gained, samples - lost - gained), level)


@pytest.mark.parametrize(("lost", "gained", "most"), [(0.03, 0.03, 0.975), (0.08, 0.02, 0.975), (0.02, 0.0, 0.999)])
def test_the_interval_holds_the_truth_as_often_as_it_says_and_more_often_where_answers_hardly_change(lost, gained, most):
    counts = np.random.default_rng(20260120).multinomial(120, [lost, gained, 1 - lost - gained], 3000)
    held = sum(
        interval.low <= gained - lost <= interval.high for interval in (interval_of(int(row[0]), int(row[1]), 120, 0.95) for row in counts)
    )
    assert 0.925 < held / len(counts) < most


def test_the_samples_needed_show_equal_arms_to_be_no_worse_four_times_of_five():
    """6.1826 * 0.1 / 0.0025 is 247.3."""
    samples = samples_needed(0.10, 0.05, alpha=0.05, power=0.8)
    assert samples == 248
    counts = np.random.default_rng(20260121).multinomial(samples, [0.05, 0.05, 0.90], 2000)
    shown = sum(interval_of(int(row[0]), int(row[1]), samples, 0.90).low > -0.05 for row in counts)
    assert shown / len(counts) == pytest.approx(0.8, abs=0.04)


def test_answers_that_never_change_still_need_a_sample():
    assert samples_needed(0.0, 0.5, alpha=0.05, power=0.8) == 1


@pytest.mark.parametrize("margin", [0.0, -0.01])
def test_no_margin_is_shown_by_no_number_of_samples(margin):
    with pytest.raises(ValueError, match="a margin is positive"):
        samples_needed(0.1, margin, alpha=0.05, power=0.8)


@STEADY
@given(COUNTS, st.sampled_from([0.0, 0.005, 0.05]))
def test_a_drop_beyond_the_margin_is_never_shown_where_the_intervals_end_is_within_it(counts, margin):
    lost, gained, same = counts
    p_value = beyond_p(lost, gained, lost + gained + same, margin)
    assert p_value >= mid_p(lost, gained)
    if 1e-6 < p_value < 0.4:
        assert difference_interval(*arms(*counts), 1 - 2 * p_value * 1.001).high < -margin + 1e-6


def test_with_many_changed_samples_the_margin_is_tested_by_where_the_intervals_end_lies():
    p_value = beyond_p(300, 240, 10_000, 0.002)
    assert difference_interval(*arms(300, 240, 9_460), 1 - 2 * p_value).high == pytest.approx(-0.002, abs=1e-7)


def test_without_a_margin_it_is_the_larger_of_the_score_test_and_the_mid_p_test():
    """z is 9 / sqrt(15)."""
    assert beyond_p(12, 3, 500, 0.0) == pytest.approx(max(stats.norm.sf(9 / math.sqrt(15)), mid_p(12, 3)))
    assert beyond_p(0, 0, 500, 0.0) == pytest.approx(0.5)


def test_losses_alone_are_tested_by_the_binomial_for_which_the_score_test_is_too_eager():
    """44 of 5,000 lost and none gained, where 25 may be: the mid-p of the binomial, about four times that of the score test."""
    exact = stats.binom.sf(44, 5000, 0.005) + stats.binom.pmf(44, 5000, 0.005) / 2
    assert beyond_p(44, 0, 5000, 0.005) == pytest.approx(exact)
    assert difference_interval(*arms(44, 0, 4956), 1 - 2 * exact).high < -0.0051


@pytest.mark.parametrize(("lost", "gained", "samples", "margin"), [(1, 1, 1, 0.1), (0, 0, 0, 0.1), (1, 0, 9, -0.1)])
def test_what_is_no_margin_or_no_sample_is_refused(lost, gained, samples, margin):
    with pytest.raises(ValueError, match="not a margin or not a sample"):
        beyond_p(lost, gained, samples, margin)


@pytest.mark.parametrize(
    ("samples", "gained", "most"), [(400, 0.002, 0.1), (400, 0.05, 1.3), (5000, 0.0, 1.3), (5000, 0.002, 1.5), (5000, 0.05, 1.3)]
)
def test_a_drop_just_on_the_margin_is_called_larger_as_seldom_as_it_should(samples, gained, most):
    """At a sixth of 1 %, in multiples of it, where few and many answers change: see the table of ``beyond_p``."""
    level = 0.01 / 6
    counts = np.random.default_rng(20260122).multinomial(samples, [gained + 0.005, gained, 1 - 2 * gained - 0.005], 200_000)
    kinds, often = np.unique(counts[:, :2], axis=0, return_counts=True)
    false = sum(
        int(number) for (lost, won), number in zip(kinds.tolist(), often, strict=True) if beyond_p(lost, won, samples, 0.005) <= level
    )
    assert false / 200_000 / level <= most
