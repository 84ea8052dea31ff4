import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.binomial import design_effect, lower_bound, near_limit, queries_needed, queries_to_tell, share_interval, upper_bound

STEADY = settings(derandomize=True, deadline=None, max_examples=60)
COUNTS = st.integers(1, 400).flatmap(lambda queries: st.tuples(st.integers(0, queries), st.just(queries)))


@pytest.mark.parametrize(
    ("q", "over", "queries"),
    [
        (0.99, 0, 299),
        (0.99, 1, 473),
        (0.99, 2, 628),
        (0.90, 0, 29),
        (0.95, 0, 59),
        (0.95, 1, 93),
        (0.95, 2, 124),
        (0.999, 0, 2995),
        (0.50, 0, 5),
    ],
)
def test_the_queries_needed_are_those_of_wilks(q, over, queries):
    """One-sided 95 % tolerance limits (Wilks 1941; 59, 93, 124 are the sample sizes of reactor safety analysis)."""
    assert queries_needed(q, over, 0.95) == queries


@STEADY
@given(st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]), st.integers(0, 40), st.sampled_from([0.8, 0.95, 0.99]))
def test_with_one_query_fewer_nothing_would_be_shown(q, over, confidence):
    queries = queries_needed(q, over, confidence)
    assert upper_bound(over, queries, confidence) <= 1 - q
    assert queries == over + 1 or upper_bound(over, queries - 1, confidence) > 1 - q


@pytest.mark.parametrize(("over", "queries", "needed"), [(0, 100, 299), (1, 400, 521), (8, 400, 401), (7, 620, 17_262), (4, 400, None)])
def test_the_queries_that_would_tell_are_counted_at_the_share_seen_so_far(over, queries, needed):
    assert queries_to_tell(0.99, over, queries, 0.95) == needed


@STEADY
@given(st.sampled_from([0.9, 0.95, 0.99]), st.integers(0, 60), st.integers(60, 2_000))
def test_with_so_many_at_that_share_a_bound_is_clear_and_with_one_fewer_none_is(q, over, queries):
    needed = queries_to_tell(q, over, queries, 0.95)
    if needed is None:
        assert abs(over / queries - (1 - q)) < 1e-3
        return

    def clear(count):
        beyond = over / queries * count
        return upper_bound(beyond, count, 0.95) <= 1 - q or lower_bound(beyond, count, 0.95) > 1 - q

    assert clear(needed) and (needed <= queries or not clear(needed - 1))


@pytest.mark.parametrize(("q", "over"), [(0.0, 0), (1.0, 0), (1.5, 0), (0.99, -1)])
def test_impossible_quantiles_and_counts_are_refused(q, over):
    with pytest.raises(ValueError, match="no such quantile or count"):
        queries_needed(q, over, 0.95)


@STEADY
@given(COUNTS, st.sampled_from([0.9, 0.95, 0.99]))
def test_the_bounds_are_the_exact_ones_of_scipy(counts, confidence):
    over, queries = counts
    less = stats.binomtest(over, queries, alternative="less").proportion_ci(confidence, method="exact")
    greater = stats.binomtest(over, queries, alternative="greater").proportion_ci(confidence, method="exact")
    assert upper_bound(over, queries, confidence) == pytest.approx(less.high, abs=1e-12)
    assert lower_bound(over, queries, confidence) == pytest.approx(greater.low, abs=1e-12)


def test_none_over_is_bounded_by_the_closed_form():
    assert upper_bound(0, 300, 0.95) == pytest.approx(1 - 0.05 ** (1 / 300))
    assert lower_bound(0, 300, 0.95) == 0.0
    assert upper_bound(300, 300, 0.95) == 1.0


def missed(share):
    """How often the upper bound of 200 queries is below the true share: exactly, by summing over all that can happen."""
    counts = np.arange(201)
    bounds = np.array([upper_bound(int(count), 200, 0.95) for count in counts])
    return stats.binom.pmf(counts, 200, share)[bounds < share].sum()


@pytest.mark.parametrize("share", [0.016, 0.03, 0.2, 0.5, 0.9])
def test_the_upper_bound_is_below_the_truth_at_most_as_often_as_it_says(share):
    assert 0.01 < missed(share) <= 0.05


def test_a_share_too_rare_for_so_few_queries_is_never_missed():
    assert missed(0.01) == 0 < upper_bound(0, 200, 0.95) - 0.01


def test_effective_numbers_that_are_not_whole_lie_between_their_neighbours():
    assert upper_bound(2, 100, 0.95) < upper_bound(2.5, 100, 0.95) < upper_bound(3, 100, 0.95)
    assert upper_bound(2, 100, 0.95) < upper_bound(2, 99.5, 0.95) < upper_bound(2, 99, 0.95)
    assert lower_bound(2, 100, 0.95) < lower_bound(2.5, 100, 0.95) < lower_bound(3, 100, 0.95)


@pytest.mark.parametrize(("over", "queries"), [(0, 0), (5, 4), (-1, 4)])
def test_what_is_no_share_is_refused(over, queries):
    for bound in (upper_bound, lower_bound):
        with pytest.raises(ValueError, match="not a share"):
            bound(over, queries, 0.95)


def test_the_two_sided_interval_of_none_of_ten_is_the_textbooks():
    assert share_interval(0, 10, 0.95) == (0.0, pytest.approx(0.3085, abs=5e-5))
    assert share_interval(10, 10, 0.95) == (pytest.approx(0.6915, abs=5e-5), 1.0)


def test_launches_that_agree_cost_nothing():
    assert design_effect([(5, 100), (5, 100), (5, 100)]) == 1.0


def test_a_launch_with_all_that_is_over_costs_by_kishs_formula():
    """Share 0.05, residuals 5 and -5: 2 * 50 / 200^2 is 0.0025, the binomial variance 0.05 * 0.95 / 200 is 0.0002375."""
    assert design_effect([(10, 100), (0, 100)]) == pytest.approx(0.0025 / 0.0002375)


@pytest.mark.parametrize("launches", [[], [(3, 100)], [(0, 100), (0, 100)], [(100, 100), (50, 50)], [(0, 0), (0, 0)]])
def test_where_launches_cannot_differ_the_effect_is_one(launches):
    assert design_effect(launches) == 1.0


def test_the_design_effect_is_found_in_queries_that_share_their_launch():
    """Beta-binomial launches of 50 queries with an intraclass correlation of 0.05: 1 + 49 * 0.05 is 3.45."""
    generator = np.random.default_rng(20260130)
    shares = generator.beta(0.05 * 19, 0.95 * 19, 4000)
    over = generator.binomial(50, shares)
    assert design_effect([(int(count), 50) for count in over]) == pytest.approx(3.45, rel=0.1)


def test_queries_that_share_nothing_have_no_design_effect_to_speak_of():
    over = np.random.default_rng(20260131).binomial(50, 0.05, 4000)
    assert design_effect([(int(count), 50) for count in over]) == pytest.approx(1.0, abs=0.06)


def test_the_slowest_queries_near_a_limit_say_how_alike_those_of_a_launch_are():
    quick, slow = np.full(100, 1.0), np.array([1.0] * 90 + [4.0] * 10)
    near = near_limit([quick, slow], 5.0, 10)
    assert (near.threshold, near.queries, near.effect) == (4.0, 10, design_effect([(0, 100), (10, 100)]))


def test_no_more_queries_are_near_than_are_wanted_unless_they_tie():
    latencies = np.concatenate([np.linspace(1, 2, 900), np.linspace(4, 5, 100)])
    assert near_limit([latencies[::2], latencies[1::2]], 5.5, 20).queries == 20
    assert near_limit([np.array([1.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0])], 5.0, 2).queries == 3


@pytest.mark.parametrize(("limit", "queries"), [(3.9, 3), (4.1, 0), (40.0, 0)])
def test_what_is_not_beyond_halfway_from_the_median_to_the_limit_is_not_near(limit, queries):
    """The median is 1: halfway to 3.9 is 2.45, to 4.1 is 2.55."""
    assert near_limit([np.array([1.0] * 50), np.array([1.0] * 47 + [2.5] * 3)], limit, 20).queries == queries
