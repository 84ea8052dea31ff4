import dataclasses
import math

import pytest
from fakes.served import MS, SECOND, load_run

from harness.core.estimate import Absent
from harness.core.serving import ServerCounters
from harness.engine.evaluate import metric_of

SERVED = ("goodput", "error_rate", "capacity", "queue_time", "served_batch_size", "recovery_time")


@pytest.fixture
def run_of(runs):
    return lambda **changes: dataclasses.replace(runs.even_run(5 * MS), served=load_run(**changes))


@pytest.mark.parametrize("name", SERVED)
def test_a_load_inside_the_worker_has_none_of_them_and_says_which_has(runs, name):
    plain = runs.even_run()
    for found in (metric_of(name).of_run(plain, 1), metric_of(name).log_ratio(plain, plain, 1)):
        assert isinstance(found, Absent) and "over the network" in found.reason


def test_goodput_is_what_came_in_time_over_all_the_time(run_of):
    assert metric_of("goodput").of_run(run_of(within_limit=600, duration_ns=12 * SECOND), 1) == 50.0


def test_goodput_without_a_promise_is_absent_and_not_zero(run_of):
    assert isinstance(metric_of("goodput").of_run(run_of(within_limit=None, limit_ns=None), 1), Absent)


def test_an_error_is_every_request_that_was_not_answered(run_of):
    assert metric_of("error_rate").of_run(run_of(due=1_000, answered=975, failed={"503": 20, "timeout": 5}), 1) == 0.025


def test_errors_that_appear_have_a_ratio_though_the_baseline_had_none(run_of):
    none, some = run_of(), run_of(answered=990, failed={"timeout": 10})
    assert metric_of("error_rate").log_ratio(none, some, 1) == pytest.approx(math.log(21))
    assert metric_of("error_rate").log_ratio(none, none, 1) == 0.0


def test_queue_time_is_the_mean_of_a_request(run_of):
    assert metric_of("queue_time").of_run(run_of(), 1) == MS
    uncounted = run_of(server=ServerCounters(1_000, 0, 250, 1_000, None, None))
    assert isinstance(metric_of("queue_time").of_run(uncounted, 1), Absent)


def test_a_served_batch_is_samples_over_batches(run_of):
    assert metric_of("served_batch_size").of_run(run_of(), 1) == 4.0
    assert isinstance(metric_of("served_batch_size").of_run(run_of(server=None), 1), Absent)


def test_throughput_of_a_server_is_what_it_answered(run_of):
    half = run_of(answered=500, failed={"timeout": 500})
    assert metric_of("throughput").of_run(half, 4) == 200.0
    assert metric_of("throughput").log_ratio(run_of(), half, 4) == pytest.approx(math.log(0.5))


def test_a_capacity_that_was_not_found_is_absent_with_what_the_search_showed(run_of):
    assert metric_of("capacity").of_run(run_of(), 1) == Absent("capacity", "'measure.capacity' is not asked for")
    told = metric_of("capacity").of_run(run_of(capacity_note="at least 200 /s, which kept the promises; at 400 /s the generator ..."), 1)
    assert isinstance(told, Absent) and told.reason.startswith("at least 200 /s")
    assert metric_of("capacity").log_ratio(run_of(capacity_per_s=100.0), run_of(capacity_per_s=110.0), 1) == pytest.approx(math.log(1.1))
