import math
import statistics

import pytest

from harness.metrics.throughput import Throughput


def test_throughput_is_total_work_over_total_time(runs):
    uneven = runs.run(runs.untimed(100, 10**9), runs.untimed(100, 3 * 10**9))
    assert Throughput().of_run(uneven, 1) == 50.0  # the mean of both rates would be 66.7


def test_the_loads_own_time_between_queries_counts(runs):
    one = runs.run(runs.timed(*[10**7] * 10, overhead_ns=10**8))
    assert Throughput().of_run(one, 1) == 50.0  # from the latencies alone it would be 100


def test_samples_are_counted_and_not_queries(runs):
    assert Throughput().of_run(runs.run(runs.untimed(10, 10**9)), 8) == 80.0


def test_a_candidate_with_half_the_rate_has_the_log_ratio_of_one_half(runs):
    quick, slow = (runs.run(*(runs.untimed(10, duration) for _ in range(6))) for duration in (10**8, 2 * 10**8))
    assert Throughput().log_ratio(quick, slow, 1) == pytest.approx(math.log(0.5))
    assert Throughput().log_ratio(slow, quick, 1) == pytest.approx(math.log(2))
    assert Throughput().log_ratio(quick, slow, 64) == Throughput().log_ratio(quick, slow, 1)


def test_a_burst_in_a_few_slices_does_not_move_the_ratio(runs):
    baseline = runs.run(*(runs.untimed(10, 10**8) for _ in range(7)))
    burst = runs.run(*(runs.untimed(10, 10**8 * (9 if number in (1, 4) else 1)) for number in range(7)))
    assert Throughput().log_ratio(baseline, burst, 1) == 0.0
    assert Throughput().of_run(burst, 1) < Throughput().of_run(baseline, 1) / 2  # but all of it is in the launch's own figure


@pytest.mark.parametrize("of", [lambda run: Throughput().of_run(run, 1), lambda run: Throughput().log_ratio(run, run, 1)])
def test_a_launch_without_slices_has_no_rate(runs, of):
    with pytest.raises((ZeroDivisionError, statistics.StatisticsError)):
        of(runs.run())
