import math

import numpy as np
import pytest

from harness.core.estimate import Absent
from harness.metrics.latency_mean import LatencyMean
from harness.metrics.latency_p50 import LatencyP50
from harness.metrics.latency_p90 import LatencyP90
from harness.metrics.latency_p95 import LatencyP95
from harness.metrics.latency_p99 import LatencyP99

QUANTILES = [(LatencyP50(), 0.5, 20), (LatencyP90(), 0.9, 50), (LatencyP95(), 0.95, 100), (LatencyP99(), 0.99, 500)]
TAILS = [(metric, q, needed) for metric, q, needed in QUANTILES if q > 0.5]
ALL = [LatencyMean(), *(metric for metric, _, _ in QUANTILES)]


def counted(runs, count, **changes):
    """A launch with the latencies 1, 2, ... ns, shuffled, in slices of ten."""
    order = np.random.default_rng(count).permutation(count) + 1
    return runs.run(*(runs.timed(*(int(value) for value in order[start : start + 10])) for start in range(0, count, 10)), **changes)


@pytest.mark.parametrize(("metric", "q", "needed"), QUANTILES)
def test_a_quantile_is_over_all_queries_of_the_launch(runs, metric, q, needed):
    assert metric.of_run(counted(runs, 1001), 1) == pytest.approx(1 + 1000 * q)


@pytest.mark.parametrize(("metric", "q", "needed"), QUANTILES)
def test_a_quantile_without_enough_samples_is_absent_with_the_reason(runs, metric, q, needed):
    found = metric.of_run(counted(runs, needed - 1), 1)
    assert isinstance(found, Absent)
    assert found.reason == f"{found.metric} needs {needed} queries a launch, this one has {needed - 1}: raise measure.duration"
    assert isinstance(metric.of_run(counted(runs, needed), 1), float)


@pytest.mark.parametrize("metric", ALL)
def test_a_load_that_does_not_time_queries_has_no_latency_and_says_which_load_has(runs, metric):
    offline = runs.run(*(runs.untimed(100, 10**8) for _ in range(6)))
    for found in (metric.of_run(offline, 1), metric.log_ratio(offline, offline, 1)):
        assert isinstance(found, Absent)
        assert "load: single_stream" in found.reason


def test_the_mean_is_not_an_average_of_averages(runs):
    uneven = runs.run(runs.timed(10), runs.timed(40, 40, 40))
    assert LatencyMean().of_run(uneven, 1) == 130 / 4  # the average of the slices' averages would be 25


def test_the_median_is_not_a_median_of_medians(runs):
    uneven = runs.run(*(runs.timed(10) for _ in range(5)), runs.timed(*[1000] * 16))
    assert LatencyP50().of_run(uneven, 1) == 1000.0


@pytest.mark.parametrize("metric", ALL)
def test_a_latency_is_that_of_the_whole_batch(runs, metric):
    one = counted(runs, 600)
    assert metric.of_run(one, 1) == metric.of_run(one, 64)


@pytest.mark.parametrize("metric", ALL)
def test_a_candidate_twice_as_slow_has_the_log_ratio_of_two(runs, metric):
    baseline, candidate = runs.even_run(1000, slices=10, queries=60), runs.even_run(2000, slices=10, queries=60)
    assert metric.log_ratio(baseline, candidate, 1) == pytest.approx(math.log(2))
    assert metric.log_ratio(candidate, baseline, 1) == pytest.approx(-math.log(2))
    assert metric.log_ratio(baseline, baseline, 1) == 0.0


@pytest.mark.parametrize("metric", [LatencyP50(), LatencyMean()])
def test_neighbouring_slices_are_compared_and_a_burst_in_a_few_of_them_is_not_seen(runs, metric):
    levels = [1000, 1300, 900, 1100, 1200, 1000, 950]
    baseline = runs.run(*(runs.timed(level, level + 10, level + 20) for level in levels))
    slices = [runs.timed(*(round(latency * 1.1) for latency in piece.latencies_ns)) for piece in baseline.slices]
    burst = runs.run(*slices[:2], runs.timed(9000, 9000, 9000), runs.timed(8000, 8000, 8000), *slices[4:])
    assert metric.log_ratio(baseline, burst, 1) == pytest.approx(math.log(1.1), abs=1e-3)
    assert LatencyMean().of_run(burst, 1) > 2 * LatencyMean().of_run(baseline, 1)  # but it is in the launch's own figure


@pytest.mark.parametrize(("metric", "q", "needed"), TAILS)
def test_a_tail_is_compared_over_all_samples_where_they_do_not_fill_three_blocks(runs, metric, q, needed):
    baseline = counted(runs, 3 * needed - 1)
    candidate = runs.run(*(runs.timed(*(3 * latency for latency in piece.latencies_ns)) for piece in reversed(baseline.slices)))
    assert metric.log_ratio(baseline, candidate, 1) == pytest.approx(math.log(3))


@pytest.mark.parametrize(("metric", "q", "needed"), TAILS)
def test_a_burst_that_fills_the_tail_of_one_block_of_three_is_not_seen_in_the_comparison(runs, metric, q, needed):
    ordinary = [runs.timed(*range(1000, 1000 + needed // 10)) for _ in range(30)]
    slower = [runs.timed(*(round(1.1 * latency) for latency in piece.latencies_ns)) for piece in ordinary]
    burst = [runs.timed(*(9 * latency for latency in piece.latencies_ns)) for piece in slower[:8]]
    baseline, candidate = runs.run(*ordinary), runs.run(*burst, *slower[8:])
    assert metric.log_ratio(baseline, candidate, 1) == pytest.approx(math.log(1.1), abs=2e-3)
    assert metric.of_run(candidate, 1) > 5 * metric.of_run(baseline, 1)  # but it is in the launch's own figure


@pytest.mark.parametrize(("metric", "q", "needed"), TAILS)
def test_a_tail_that_grows_in_every_block_is_seen_though_the_median_stays(runs, metric, q, needed):
    share = round((1 - q) * 1.5 * needed)
    base = [1000] * (needed - share) + [2000] * share
    baseline = runs.run(*(runs.timed(*base) for _ in range(4)))
    candidate = runs.run(*(runs.timed(*(3000 if latency == 2000 else latency for latency in base)) for _ in range(4)))
    assert metric.log_ratio(baseline, candidate, 1) == pytest.approx(math.log(1.5))
    assert LatencyP50().log_ratio(baseline, candidate, 1) == 0.0


@pytest.mark.parametrize(("metric", "q", "needed"), TAILS)
@pytest.mark.parametrize("short", ["baseline", "candidate"])
def test_a_tail_that_one_arm_lacks_is_absent_for_the_pair(runs, metric, q, needed, short):
    counts = {"baseline": needed, "candidate": needed, short: needed - 1}
    found = metric.log_ratio(counted(runs, counts["baseline"]), counted(runs, counts["candidate"]), 1)
    assert isinstance(found, Absent)
    assert f"this one has {needed - 1}" in found.reason


def test_one_slice_of_the_pair_without_latencies_makes_the_pair_absent(runs):
    whole, holed = runs.even_run(), runs.run(*(runs.timed(5) for _ in range(5)), runs.untimed(4, 100))
    assert isinstance(LatencyP50().log_ratio(whole, holed, 1), Absent)
    assert isinstance(LatencyP50().log_ratio(holed, whole, 1), Absent)


def test_a_launch_without_slices_is_not_compared(runs):
    with pytest.raises(ValueError):
        LatencyP50().log_ratio(runs.run(), runs.run(), 1)
