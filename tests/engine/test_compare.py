import math
import re
from dataclasses import replace

import numpy as np
import pytest

from harness.core.comparison import Verdict
from harness.core.estimate import Absent
from harness.engine.compare import (
    LaunchEvidence,
    compare_exact,
    compare_launches,
    compare_samples,
    describe_change,
    invalidated,
    is_suspect,
    log_ratios_or_reason,
)
from harness.engine.evaluate import metric_of
from harness.engine.rules import Rule
from harness.engine.sample_evidence import weigh_samples
from harness.stats import mcnemar, paired

ALPHA = 0.0015
MS = 1e6


def rule(metric="latency_p50", *, tolerance=0.02, floor=0.0):
    return Rule(metric, metric_of(metric), tolerance, floor)


def spread_around(change, *, pairs=8, spread=0.01):
    """Log ratios with just this mean and standard deviation."""
    pattern = np.linspace(-1, 1, pairs)
    return [float(value) for value in math.log1p(change) + spread * pattern / pattern.std(ddof=1)]


def launches(log_ratios, *, baseline=MS, fresh=0):
    return LaunchEvidence(log_ratios, [baseline] * len(log_ratios), [baseline * math.exp(value) for value in log_ratios], fresh)


def compared(log_ratios, given=None, *, baseline=MS, fresh=0, may_be_red=True):
    evidence = launches(log_ratios, baseline=baseline, fresh=fresh)
    return compare_launches("fake/one-cpu-b1", given or rule(), evidence, ALPHA, "paired", may_be_red=may_be_red)


@pytest.mark.parametrize(
    ("change", "spread", "verdict"),
    [
        (0.10, 0.01, Verdict.REGRESSED),
        (0.03, 0.01, Verdict.INCONCLUSIVE),
        (0.015, 0.0015, Verdict.PASS),
        (0.0, 0.01, Verdict.PASS),
        (0.0, 0.05, Verdict.INCONCLUSIVE),
        (-0.05, 0.01, Verdict.IMPROVED),
    ],
)
def test_launch_pairs_are_decided_by_where_their_interval_lies(change, spread, verdict):
    found = compared(spread_around(change, spread=spread))
    assert found.verdict is verdict
    assert found.effect == pytest.approx(1 + change)
    assert (found.n, found.n_of, found.scale, found.metric) == (8, "launch pairs", "ratio", "latency_p50")


@pytest.mark.parametrize(("change", "verdict"), [(-0.10, Verdict.REGRESSED), (0.0, Verdict.PASS), (0.10, Verdict.IMPROVED)])
def test_more_throughput_is_better(change, verdict):
    assert compared(spread_around(change, spread=0.005), rule("throughput", tolerance=0.05), baseline=200.0).verdict is verdict


def test_a_red_is_shown_with_the_strict_interval_and_a_pass_with_that_of_a_pass():
    red, fine = compared(spread_around(0.10)), compared(spread_around(0.0))
    assert red.interval == paired.ratio_interval(spread_around(0.10), 1 - 2 * ALPHA)
    assert fine.interval == paired.ratio_interval(spread_around(0.0), 0.90)


def test_both_medians_are_told_as_measured():
    evidence = LaunchEvidence(spread_around(0.1, pairs=3), [1 * MS, 9 * MS, 2 * MS], [3 * MS, 4 * MS, 30 * MS], 0)
    found = compare_launches("t", rule(), evidence, ALPHA, "paired")
    assert (found.baseline, found.candidate) == (2 * MS, 4 * MS)


@pytest.mark.parametrize(("baseline", "verdict"), [(1e4, Verdict.PASS), (1e5, Verdict.REGRESSED)])
def test_ten_percent_of_ten_microseconds_is_below_the_floor(baseline, verdict):
    assert compared(spread_around(0.10), rule(floor=2_000.0), baseline=baseline).verdict is verdict


def test_what_is_below_the_floor_says_so():
    found = compared(spread_around(0.10), rule(floor=2_000.0), baseline=1e4)
    assert found.reason == "worse, but by less than the smallest absolute change that matters"


def test_what_is_below_the_floor_says_so_without_any_tolerance_too():
    found = compared(spread_around(0.10), rule(tolerance=0.0, floor=2_000.0), baseline=1e4)
    assert (found.verdict, found.reason) == (Verdict.PASS, "worse, but by less than the smallest absolute change that matters")


def test_only_fresh_pairs_show_a_regression():
    screen, fresh = spread_around(0.30, pairs=5), spread_around(0.0, pairs=8)
    assert compared(screen + fresh, fresh=8).verdict is Verdict.INCONCLUSIVE
    assert compared(fresh + screen, fresh=5).verdict is Verdict.REGRESSED


def test_a_regression_is_told_by_its_fresh_pairs():
    found = compared(spread_around(0.30, pairs=5) + spread_around(0.10), fresh=8)
    assert found.verdict is Verdict.REGRESSED
    assert (found.effect, found.n) == (pytest.approx(1.10), 8)


def test_the_pairs_of_the_screen_do_not_lift_a_change_above_the_floor():
    """The fresh pairs alone are 1.5 us slower, all together 4.3: what raised the suspicion must not decide it."""
    found = compared(spread_around(0.30, pairs=5) + spread_around(0.05, spread=0.002), rule(floor=2_000.0), baseline=3e4, fresh=8)
    assert found.verdict is Verdict.PASS


def test_a_suspicion_that_is_not_confirmed_is_no_red():
    assert compared(spread_around(0.30), may_be_red=False).verdict is Verdict.INCONCLUSIVE
    assert compared(spread_around(0.0), may_be_red=False).verdict is Verdict.PASS


def test_the_same_ratio_from_a_coarse_timer_is_not_a_certainty():
    found = compared([0.0] * 5, rule(tolerance=0.0))
    assert found.interval.low < 1.0 < found.interval.high
    assert found.verdict is Verdict.INCONCLUSIVE


def test_every_comparison_of_launches_says_what_it_would_have_seen():
    few, many = compared(spread_around(0.0, pairs=5)), compared(spread_around(0.0, pairs=40))
    assert 0 < many.visible_change < few.visible_change < 1


@pytest.mark.parametrize("pairs", [0, 1])
def test_fewer_than_two_pairs_are_not_compared(pairs):
    with pytest.raises(ValueError):
        compared([0.01] * pairs)


@pytest.mark.parametrize(
    ("change", "spread", "reason"),
    [
        (0.10, 0.01, r"shown to be at least \d\.\d % worse; 2\.0 % is tolerated"),
        (-0.05, 0.01, r"shown to be at least 3\.\d % better"),
        (0.0, 0.01, r"shown to be within the tolerance of 2\.0 % \(at most 0\.7 % worse\)"),
        (-0.007, 0.01, "not worse"),
        (
            0.0,
            0.05,
            r"between -3\.3 % and \+3\.4 % worse: not shown to be within 2\.0 %, nor beyond it; about \d+ launch pairs .* would tell",
        ),
        (
            0.03,
            0.01,
            r"between \+2\.3 % and \+3\.7 % worse: beyond 2\.0 % at this level, but not yet at the stricter one that a red takes; .* tell",
        ),
    ],
)
def test_the_reason_says_what_was_shown(change, spread, reason):
    assert re.fullmatch(reason, compared(spread_around(change, spread=spread)).reason)


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [
        (1_000_000, Verdict.PASS),
        (1_010_000, Verdict.PASS),
        (1_010_001, Verdict.REGRESSED),
        (1_009_999, Verdict.PASS),
        (999_999, Verdict.IMPROVED),
        (0, Verdict.IMPROVED),
    ],
)
def test_a_size_is_exact_and_may_be_just_at_its_tolerance(candidate, verdict):
    found = compare_exact("t", rule("model_size", tolerance=0.01), 1_000_000, candidate)
    assert found.verdict is verdict
    assert found.interval.low == found.interval.high == found.effect == candidate / 1_000_000
    assert (found.method, found.n_of, found.visible_change) == ("exact", "artifact", None)


def test_every_whole_percent_of_tolerance_may_be_used_up():
    for percent in range(1, 60):
        found = compare_exact("t", rule("model_size", tolerance=percent / 100), 1_000_000, 1_000_000 + 10_000 * percent)
        assert found.verdict is Verdict.PASS, percent


def test_a_size_with_no_tolerance_passes_only_unchanged():
    strict = rule("model_size", tolerance=0.0)
    assert compare_exact("t", strict, 1_000_000, 1_000_000).verdict is Verdict.PASS
    assert compare_exact("t", strict, 1_000_000, 1_000_001).verdict is Verdict.REGRESSED


def test_a_kilobyte_more_is_below_the_floor_of_the_size():
    given = rule("model_size", tolerance=0.01, floor=1024.0)
    assert compare_exact("t", given, 2_000, 3_024).verdict is Verdict.PASS
    assert compare_exact("t", given, 2_000, 3_025).verdict is Verdict.REGRESSED


@pytest.mark.parametrize(("candidate", "verdict"), [(0.0, Verdict.PASS), (5.0, Verdict.REGRESSED)])
def test_a_baseline_of_nothing_has_a_ratio_all_the_same(candidate, verdict):
    found = compare_exact("t", rule("model_size", tolerance=0.01), 0.0, candidate)
    assert found.verdict is verdict
    assert found.effect == 1.0 if candidate == 0.0 else found.effect > 1e6


@pytest.mark.parametrize(("baseline", "candidate"), [(1e6, math.nan), (math.nan, 1e6), (1e6, math.inf), (math.inf, math.inf)])
def test_nan_and_infinity_never_pass_as_exact(baseline, candidate):
    with pytest.raises(ValueError, match="not a change that can be judged"):
        compare_exact("t", rule("model_size", tolerance=0.01), baseline, candidate)


def answers(lost, gained, same, wrong=0):
    return np.repeat([1.0, 0.0, 1.0, 0.0], [lost, gained, same, wrong]), np.repeat([0.0, 1.0, 1.0, 0.0], [lost, gained, same, wrong])


def scored(baseline, candidate, given=None, seed=0):
    wanted = given or rule("accuracy", tolerance=0.005)
    return compare_samples("t", wanted, weigh_samples(wanted, baseline, candidate, np.random.default_rng(seed)), ALPHA)


@pytest.mark.parametrize(
    ("lost", "gained", "same", "verdict"),
    [
        (100, 10, 890, Verdict.REGRESSED),
        (10, 100, 890, Verdict.IMPROVED),
        (1, 0, 539, Verdict.INCONCLUSIVE),
        (12, 9, 5000, Verdict.PASS),
        (60, 40, 900, Verdict.INCONCLUSIVE),
    ],
)
def test_right_and_wrong_answers_are_compared_as_paired_proportions(lost, gained, same, verdict):
    found = scored(*answers(lost, gained, same))
    assert found.verdict is verdict
    assert found.effect == pytest.approx((gained - lost) / (lost + gained + same))
    assert (found.scale, found.n, found.n_of) == ("difference", lost + gained + same, "samples")
    assert found.method == "paired proportions (score interval, mid-p McNemar)"
    assert found.p_value == mcnemar.mid_p(lost, gained)


def test_a_drop_of_accuracy_is_shown_with_the_interval_that_decided_it():
    red, open_ = scored(*answers(100, 10, 890)), scored(*answers(60, 40, 900))
    assert red.interval == mcnemar.difference_interval(*answers(100, 10, 890), 1 - 2 * ALPHA)
    assert open_.interval == mcnemar.difference_interval(*answers(60, 40, 900), 0.90)
    assert red.reason == "shown to be at least 6.21 points worse; 0.50 points is tolerated; 100 samples lost, 10 gained, mid-p below 0.0001"
    assert re.search(r"about [\d,]+ samples would tell; 60 samples lost, 40 gained, mid-p 0\.023$", open_.reason)


def test_a_single_lost_sample_is_told_as_one():
    assert scored(*answers(1, 0, 539)).reason.endswith("; 1 sample lost, 0 gained, mid-p 0.25")


def test_a_red_needs_the_test_as_well_as_the_interval():
    """44 lost of 5,000 and none gained: the score interval alone would call it at this level."""
    arms, level = answers(44, 0, 4956), 2e-4
    given = rule("accuracy", tolerance=0.005)
    evidence = weigh_samples(given, *arms, np.random.default_rng(0))
    assert evidence.interval(1 - 2 * level).high < -0.005
    assert compare_samples("t", given, evidence, level).verdict is Verdict.INCONCLUSIVE
    assert compare_samples("t", given, evidence, evidence.red_p * 1.001).verdict is Verdict.REGRESSED


def test_where_less_is_better_a_one_that_was_a_zero_is_lost():
    given = rule("output_max_difference", tolerance=0.005)
    worse, better = scored(*answers(10, 100, 890), given), scored(*answers(100, 10, 890), given)
    assert (worse.verdict, better.verdict) == (Verdict.REGRESSED, Verdict.IMPROVED)
    assert worse.p_value == mcnemar.mid_p(100, 10) and worse.reason.endswith("100 samples lost, 10 gained, mid-p below 0.0001")


@pytest.mark.parametrize(
    ("lost", "gained", "same", "needed"),
    [
        (60, 40, 900, "about 6,424 samples would tell"),  # 1.5 points from the margin: (2.968 + 0.842)^2 * 0.0996 / 0.015^2
        (9, 4, 987, "the change seems to lie just on the tolerance: no number of samples would tell"),
        (4, 4, 392, "about 4,947 samples would tell"),  # (1.645 + 0.842)^2 * 0.02 / 0.005^2
        (80_000, 74_999, 845_001, "more than 10,000,000 samples would tell"),
    ],
)
def test_what_is_not_decided_says_how_many_samples_would_tell(lost, gained, same, needed):
    assert f"; {needed}; " in scored(*answers(lost, gained, same)).reason


def test_as_many_samples_as_were_told_decide_four_times_of_five():
    """Equal arms of which 2 % change: 4,947 samples are told, of which 1 % are lost and 1 % gained."""
    counts = np.random.default_rng(20260162).multinomial(4_947, [0.01, 0.01, 0.98], 1_000)
    kinds, often = np.unique(counts[:, :2], axis=0, return_counts=True)
    passed = sum(
        number
        for (lost, gained), number in zip(kinds.tolist(), often, strict=True)
        if mcnemar.difference_interval(*answers(lost, gained, 4_947 - lost - gained), 0.90).low > -0.005
    )
    assert passed / 1_000 == pytest.approx(0.8, abs=0.04)


def test_one_sample_is_no_regression():
    assert scored(np.array([0.9]), np.array([0.1]), rule("output_cosine", tolerance=0.005)).verdict is Verdict.INCONCLUSIVE


def test_answers_that_are_all_the_same_are_exactly_no_change():
    found = scored(*answers(0, 0, 90, wrong=10))
    assert (found.verdict, found.effect, found.interval.low, found.interval.high) == (Verdict.PASS, 0.0, 0.0, 0.0)
    assert (found.method, found.visible_change, found.p_value) == ("exact: every sample scores the same", None, None)
    assert found.baseline == found.candidate == pytest.approx(0.9)


def test_as_many_lost_as_gained_is_not_exact():
    found = scored(*answers(8, 8, 84))
    assert found.effect == 0.0
    assert found.interval.low < 0 < found.interval.high
    assert found.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("change", "verdict"), [(-0.02, Verdict.REGRESSED), (0.0, Verdict.PASS), (0.02, Verdict.IMPROVED)])
def test_other_scores_are_compared_by_a_paired_bootstrap(change, verdict):
    generator = np.random.default_rng(4)
    baseline = generator.uniform(0.5, 0.9, 400)
    found = scored(baseline, baseline + change + generator.normal(0, 0.005, 400), rule("output_cosine", tolerance=0.005))
    assert found.verdict is verdict
    assert found.method == "paired bootstrap over samples (wider of BCa and t)"
    assert found.interval.low < change < found.interval.high
    assert found.interval.level == pytest.approx(0.90 if verdict is Verdict.PASS else 1 - 2 * ALPHA)


def test_a_larger_difference_is_worse_where_less_is_better():
    generator = np.random.default_rng(4)
    baseline = generator.uniform(0.1, 0.2, 400)
    given = rule("output_max_difference", tolerance=0.005)
    assert scored(baseline, baseline + 0.05 + generator.normal(0, 0.001, 400), given).verdict is Verdict.REGRESSED
    assert scored(baseline, baseline - 0.05 + generator.normal(0, 0.001, 400), given).verdict is Verdict.IMPROVED


@pytest.mark.parametrize("turned", [False, True])
def test_answers_beside_scores_that_are_not_right_or_wrong_are_no_proportions(turned):
    arms = np.array([1.0, 0.0] * 20), np.array([0.9, 0.1] * 20)
    assert scored(*(reversed(arms) if turned else arms)).method == "paired bootstrap over samples (wider of BCa and t)"


def test_the_bootstrap_repeats_with_its_seed():
    generator = np.random.default_rng(4)
    arms = generator.exponential(size=50), np.zeros(50)  # skewed: an end is the bootstrap's
    first, again, other = (scored(*arms, rule("output_cosine"), seed) for seed in (1, 1, 2))
    assert first == again
    assert first.interval != other.interval


def test_a_change_as_large_as_the_visible_one_is_shown_at_least_four_times_of_five():
    """Twelve of a hundred answers change; by how much more are lost than gained, the visible change says."""
    visible = scored(*answers(24, 24, 352)).visible_change
    changed = 0.12
    lost = (changed + visible) / 2
    counts = np.random.default_rng(20260160).multinomial(400, [lost, changed - lost, 1 - changed], 1500)
    intervals = {tuple(row): None for row in counts.tolist()}
    for row in intervals:
        intervals[row] = mcnemar.difference_interval(*answers(*row), 1 - 2 * ALPHA).high < 0
    assert sum(intervals[tuple(row)] for row in counts.tolist()) / 1500 == pytest.approx(0.85, abs=0.05)


@pytest.mark.parametrize(
    ("baseline", "candidate"),
    [
        ([], []),
        ([1.0, math.nan], [1.0, math.nan]),
        ([1.0, 0.0], [1.0, math.nan]),
        ([math.inf, 1.0], [math.inf, 1.0]),
        ([1.0, 0.0, 1.0], [1.0, 0.0]),
        ([0.5, 0.7, 0.2], [0.5, 0.7]),
    ],
)
def test_nothing_nan_and_other_samples_never_pass(baseline, candidate):
    with pytest.raises(ValueError, match=r"values|paired samples are needed, got 3 and 2"):
        scored(np.array(baseline), np.array(candidate))


def test_an_invalid_comparison_keeps_its_numbers():
    red = compared(spread_around(0.10))
    found = invalidated(red, "the null control is red")
    assert found == replace(red, verdict=Verdict.INVALID, reason="the null control is red")


@pytest.mark.parametrize(("change", "suspect"), [(0.02, True), (-0.02, False), (0.0, False)])
def test_a_screened_metric_is_suspect_when_its_80_percent_bound_is_worse(change, suspect):
    assert is_suspect(rule(), spread_around(change, pairs=5)) is suspect
    assert is_suspect(rule("throughput"), [-value for value in spread_around(change, pairs=5)]) is suspect


@pytest.mark.parametrize(("t", "suspect"), [(0.93, False), (0.95, True)])
def test_the_bound_of_the_screen_is_that_of_80_percent(t, suspect):
    """Student's t with 4 degrees of freedom exceeds 0.941 in one of five samples."""
    spread = 0.01
    assert is_suspect(rule(), spread_around(math.expm1(t * spread / math.sqrt(5)), pairs=5, spread=spread)) is suspect


def test_identical_code_is_suspect_about_one_time_in_five():
    draws = np.random.default_rng(20260161).normal(0.0, 0.02, (1000, 5))
    assert sum(is_suspect(rule(), list(row)) for row in draws) / 1000 == pytest.approx(0.20, abs=0.04)


def test_too_few_launch_pairs_are_absent_with_both_counts():
    assert log_ratios_or_reason([0.1, 0.2], 2) == [0.1, 0.2]
    found = log_ratios_or_reason([0.1], 2)
    assert isinstance(found, Absent)
    assert found.reason == "1 launch pairs, 2 are needed"
    absent = Absent("latency_p99", "too few queries")
    assert log_ratios_or_reason(absent, 2) is absent


def test_a_change_is_described_with_both_values():
    assert describe_change(replace(compared(spread_around(0.10)), baseline=2.51e6, candidate=2.64e6)) == "2.51 ms to 2.64 ms"
