"""When requests are due: known answers, and simulation with a seed."""

import numpy as np
import pytest
from scipy import stats

from harness.loads._load_shapes import Stretch
from harness.loads._schedule import make_schedule, part_of
from harness.loads.locust import Locust

S = 1_000_000_000


def flat(per_s, seconds):
    return (Stretch(round(seconds * S), per_s, per_s),)


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another():
    first, again, other = (make_schedule(flat(200, 10), "poisson", seed, 0) for seed in (7, 7, 8))
    assert np.array_equal(first.due_ns, again.due_ns)
    assert not np.array_equal(first.due_ns[:100], other.due_ns[:100])


def test_a_longer_load_begins_with_the_shorter_one():
    short, long = (make_schedule(flat(100, seconds), "poisson", 3, 0).due_ns for seconds in (5, 200))
    assert np.array_equal(long[: short.size], short)


def test_twice_the_rate_is_the_same_schedule_in_half_the_time():
    slow, fast = make_schedule(flat(100, 10), "poisson", 3, 0).due_ns, make_schedule(flat(200, 5), "poisson", 3, 0).due_ns
    assert slow.size == fast.size
    assert np.allclose(slow / 2, fast, atol=1)


def test_gaps_of_poisson_arrivals_are_exponential_and_independent():
    due = make_schedule(flat(500, 100), "poisson", 1, 0).due_ns
    gaps = np.diff(due) / S
    assert stats.kstest(gaps, "expon", args=(0, 1 / 500)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 3 / np.sqrt(gaps.size)


def test_counts_of_poisson_arrivals_vary_from_seed_to_seed_as_they_must():
    counts = [make_schedule(flat(100, 10), "poisson", seed, 0).due_ns.size for seed in range(400)]
    assert np.mean(counts) == pytest.approx(1000, abs=4 * np.sqrt(1000 / 400))
    assert np.var(counts) == pytest.approx(1000, rel=0.25)


def test_constant_arrivals_are_all_alike_and_begin_at_once():
    due = make_schedule(flat(250, 2), "constant", 0, 0).due_ns
    assert due.tolist() == [number * 4_000_000 for number in range(500)]


def test_a_ramp_has_the_area_under_its_line():
    due = make_schedule((Stretch(10 * S, 0.0, 100.0),), "constant", 0, 0).due_ns
    assert due.size == 500
    # n requests are due when 5 t² has reached n: the n-th at sqrt(n / 5).
    assert due.tolist() == [int(np.floor(np.sqrt(number / 5) * S)) for number in range(500)]


def test_a_ramp_may_fall_to_nothing():
    due = make_schedule((Stretch(10 * S, 100.0, 0.0),), "constant", 0, 0).due_ns
    assert due.size == 500 and due[-1] < 10 * S
    assert np.all(np.diff(np.diff(due)) >= -1)  # the gaps grow, but for rounding


def test_steps_follow_each_other():
    load = Locust.model_validate({"steps": ["10 /s", "30 /s", "20 /s"], "duration": "6 s", "ramp_up": "0 s", "arrivals": "constant"})
    due = make_schedule(load.curve(), load.arrivals, 0, 0).due_ns
    assert [int(((due >= begin * S) & (due < (begin + 2) * S)).sum()) for begin in (0, 2, 4)] == [20, 60, 40]


def test_a_spike_is_so_many_times_as_many_for_its_time():
    spike = {"factor": 10, "at": "2 s", "for": "1 s"}
    load = Locust.model_validate({"rate": "20 /s", "duration": "5 s", "ramp_up": "1 s", "arrivals": "constant", "spike": spike})
    due = make_schedule(load.curve(), load.arrivals, 0, 1 * S).due_ns - 1 * S
    assert [int(((due >= begin * S) & (due < (begin + 1) * S)).sum()) for begin in range(-1, 5)] == [20, 20, 20, 200, 20, 20]


def test_the_lead_in_has_the_rate_of_the_beginning_and_is_not_counted():
    load = Locust.model_validate({"ramp": {"from": "50 /s", "to": "150 /s"}, "duration": "10 s", "ramp_up": "2 s", "arrivals": "constant"})
    schedule = make_schedule(load.curve(), load.arrivals, 0, round(load.ramp_up))
    assert int((~schedule.counted).sum()) == 100
    assert int(schedule.counted.sum()) == 1000
    assert np.all(schedule.due_ns[schedule.counted] >= 2 * S) and np.all(schedule.due_ns[~schedule.counted] < 2 * S)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_the_schedule_and_every_request_is_sent_by_one(processes):
    schedule = make_schedule(flat(100, 3), "poisson", 5, 0)
    parts = [part_of(schedule, process, processes) for process in range(processes)]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(schedule.due_ns.size))
    assert max(part.size for part in parts) - min(part.size for part in parts) <= 1


def test_a_rate_so_low_that_nothing_is_due_makes_an_empty_schedule():
    assert make_schedule(flat(1e-6, 1), "poisson", 0, 0).due_ns.size == 0
