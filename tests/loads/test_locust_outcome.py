"""What a load showed: known answers."""

import dataclasses

import numpy as np
import pytest
from test_locust_records import MS, records_of

from harness.loads._outcome import GeneratorFacts, doubt_of, drift_of, failed_by_kind, lateness_of, recovery_ns, windows_of
from harness.loads._records import CONNECTION, DROPPED, NEVER, TIMEOUT

S = 1_000_000_000
FINE = GeneratorFacts(cpu=0.3, processes=1)


def every(gap_ms, seconds):
    return np.arange(0, round(seconds * 1000), gap_ms, dtype=np.int64) * MS


def nothing_failed(due):
    return np.zeros(due.size, dtype=bool)


def test_windows_are_seconds_where_a_second_holds_20_requests():
    due = every(10, 5)
    windows = windows_of(due, np.full(due.size, 3 * MS), nothing_failed(due))
    assert [window.start_ns // S for window in windows] == [0, 1, 2, 3, 4]
    assert {window.due for window in windows} == {100}
    assert {(window.p50_ns, window.p99_ns, window.failed) for window in windows} == {(3 * MS, 3 * MS, 0)}


def test_a_window_goes_on_until_it_holds_20_requests_and_none_is_left_over():
    due = every(150, 10)  # 6 or 7 a second: 20 in 3 s
    windows = windows_of(due, np.full(due.size, MS), nothing_failed(due))
    assert [window.start_ns // S for window in windows] == [0, 3, 6]
    assert all(window.due >= 20 for window in windows) and sum(window.due for window in windows) == due.size
    assert windows[0].start_ns + windows[0].duration_ns == windows[1].start_ns


def test_a_load_of_few_requests_is_one_window_and_one_of_none_has_none():
    due = every(500, 4)
    assert len(windows_of(due, due, nothing_failed(due))) == 1
    assert windows_of(due[:0], due[:0], nothing_failed(due[:0])) == ()


def test_a_window_tells_its_quantiles_and_what_failed_in_it():
    due = every(10, 2)
    latencies = np.concatenate([np.arange(1, 101), np.full(100, 1000)]) * MS
    failed = np.arange(200) >= 150
    first, second = windows_of(due, latencies, failed)
    assert (first.p50_ns, first.p99_ns, first.failed) == (50_500_000, 99_010_000, 0)
    assert (second.p50_ns, second.failed) == (1000 * MS, 50)


def test_failures_are_told_by_kind_the_most_frequent_first():
    records = records_of(range(6), [1] * 6, [200, 503, 503, TIMEOUT, 503, CONNECTION])
    assert list(failed_by_kind(records).items()) == [("503", 3), ("timeout", 1), ("connection", 1)]


def test_lateness_is_from_the_schedule_to_the_send_and_leaves_out_what_was_never_sent():
    records = records_of(range(5), [9] * 5, [200, 200, 200, 200, DROPPED])
    late = np.array([0, 1, 2, 3, 0]) * MS
    sent = np.where(records.status == DROPPED, NEVER, records.due_ns + late)
    told = lateness_of(dataclasses.replace(records, sent_ns=sent))
    assert (told.p50_ns, told.greatest_ns, told.dropped) == (1_500_000, 3 * MS, 1)


def test_a_send_a_little_before_its_time_is_not_late():
    records = records_of([5], [1])
    assert lateness_of(dataclasses.replace(records, sent_ns=records.due_ns - 10_000)).greatest_ns == 0


class Spike:
    """100 requests a second for 10 s; a spike from 3 s to 4 s; latency 5 ms but where said."""

    def __init__(self):
        self.due = every(10, 10)
        self.latencies = np.full(self.due.size, 5 * MS)

    def slow(self, begin_s, end_s, latency_ms):
        self.latencies[(self.due >= begin_s * S) & (self.due < end_s * S)] = latency_ms * MS
        return self

    def recovery_s(self):
        return recovery_ns(self.due, self.latencies, 3 * S, 4 * S) / S


def test_recovery_takes_until_the_end_of_the_first_window_in_which_latency_is_back():
    assert Spike().slow(3, 4, 90).recovery_s() == pytest.approx(0.49)  # 50 requests, the first at once
    assert Spike().slow(3, 5, 90).recovery_s() == pytest.approx(1.49)


def test_latency_is_back_at_half_as_much_again_and_not_above():
    assert Spike().slow(4, 6, 7.5).recovery_s() == pytest.approx(0.49)
    assert Spike().slow(4, 6, 7.6).recovery_s() == pytest.approx(2.49)


def test_a_window_that_is_back_but_does_not_stay_is_no_recovery():
    assert Spike().slow(4, 5, 90).slow(5.5, 6.5, 90).recovery_s() == pytest.approx(2.99)


def test_one_slow_request_after_the_spike_does_not_put_recovery_off():
    spike = Spike()
    spike.latencies[[410, 460, 510]] = 500 * MS
    assert spike.recovery_s() == pytest.approx(0.49)


def test_latency_that_never_comes_back_took_at_least_until_the_end():
    assert Spike().slow(3, 10, 90).recovery_s() == pytest.approx(5.99)


def test_too_few_requests_before_or_after_a_spike_tell_no_recovery():
    spike = Spike()
    assert recovery_ns(spike.due, spike.latencies, S // 4, S) is None
    assert recovery_ns(spike.due, spike.latencies, 3 * S, 9 * S + S // 2) is None


def test_drift_is_the_last_tenth_over_the_first():
    latencies = np.full(1000, 4 * MS)
    latencies[-100:] = 6 * MS
    assert drift_of(latencies) == pytest.approx(1.5)
    assert drift_of(latencies[:199]) is None


def taken_late(late_ms, count=1000, latency_ms=5):
    """So many requests, of which every fiftieth was taken up so late."""
    records = records_of(range(count), [latency_ms] * count)
    late = np.where(np.arange(count) % 50 == 0, round(late_ms * MS), 0)
    return dataclasses.replace(records, taken_ns=records.due_ns + late, sent_ns=records.due_ns + late)


def doubt(records, latency_ms=5, generator=FINE):
    return doubt_of(records, np.full(records.size, latency_ms * MS), generator)


def test_a_generator_that_keeps_its_schedule_is_believed():
    assert doubt(taken_late(0)) is None
    assert doubt(taken_late(1.9)) is None


def test_a_late_generator_is_doubted_with_advice():
    told = doubt(taken_late(2.1))
    assert "a p99 of 2.1 ms after the time, and at most 2.0 ms would not matter here" in told
    assert "other work kept it from its core" in told and "another machine" in told
    assert "raise 'processes'" in doubt(taken_late(2.1), generator=GeneratorFacts(0.8, 1))


def test_lateness_under_a_tenth_of_what_is_measured_does_not_matter():
    assert doubt(taken_late(9), latency_ms=100) is None
    assert doubt(taken_late(11), latency_ms=100) is not None


def test_waiting_for_a_connection_is_the_servers_queue_and_no_fault_of_the_generator():
    records = records_of(range(1000), [500] * 1000)
    assert doubt(dataclasses.replace(records, sent_ns=records.due_ns + 400 * MS)) is None


def test_a_busy_generator_is_doubted():
    assert doubt(taken_late(0), generator=GeneratorFacts(0.89, 1)) is None
    assert "the generator took 93% of a core" in doubt(taken_late(0), generator=GeneratorFacts(0.93, 1))
    assert "the busiest of 4 generators took 93%" in doubt(taken_late(0), generator=GeneratorFacts(0.93, 4))


def test_what_a_generator_says_of_itself_comes_first():
    assert doubt(taken_late(50), generator=GeneratorFacts(1.0, 1, "3 tasks raised")) == "3 tasks raised"
