from dataclasses import replace
from types import SimpleNamespace

import pytest
from fakes.served import MS, SECOND, FakeLoad, FakeServer

from harness.engine.find_capacity import find_capacity
from harness.engine.protocol import CapacitySearch, Promise

P99 = Promise(0.99, 50 * MS)
NOTHING_BROKEN = Promise(None, 0.0)


def found(*, capacity=500.0, promises=(P99, NOTHING_BROKEN), most_sent=float("inf"), broken=0, **search):
    """The search on a server that serves ``capacity`` requests a second."""
    search = {"at_least_per_s": 20, "at_most_per_s": 5_000, "step_ns": 4 * SECOND, "runs": 3, "precision": 0.05} | search
    server, load, seeds = FakeServer(capacity), FakeLoad(most_sent=most_sent, broken=broken), iter(range(10_000))

    def drive(rate, duration_ns):
        job = SimpleNamespace(seed=next(seeds), server=server, records_as="requests.npz")
        return load.at_rate(rate, duration_ns).drive(job)

    return find_capacity(drive, CapacitySearch(**search), promises)


@pytest.mark.parametrize("capacity", [300.0, 1_000.0, 2_222.0])
def test_the_highest_rate_that_keeps_the_promise_is_found(capacity):
    assert 0.75 * capacity < found(capacity=capacity).per_s <= capacity * 1.02  # the queue is long before it grows without end


def test_the_search_ends_within_its_precision():
    steps = found(precision=0.02, runs=1).steps
    kept, broken = max(step.rate_per_s for step in steps if step.kept), min(step.rate_per_s for step in steps if not step.kept)
    assert kept < broken <= 1.02 * kept


def test_most_of_a_rates_loads_decide():
    steps = found(runs=3).steps
    rates = {step.rate_per_s for step in steps}
    for rate in rates:
        told = [step.kept for step in steps if step.rate_per_s == rate]
        assert 2 <= len(told) <= 3
        assert max(told.count(True), told.count(False)) == 2


def test_a_server_that_keeps_the_highest_rate_has_at_least_that():
    assert found(capacity=50_000.0, at_most_per_s=1_000).per_s == 1_000


def test_a_server_that_breaks_the_lowest_rate_has_none():
    told = found(capacity=10.0)
    assert told.per_s is None
    assert "p99 is" in told.steps[0].reason
    assert "the lowest rate that was tried, 20.0 /s, did not keep the promises" in told.note


def test_where_the_generator_gives_up_first_the_lower_bound_is_told_and_no_capacity():
    told = found(capacity=50_000.0, most_sent=300.0)
    assert told.per_s is None
    assert "did not keep its schedule" in told.steps[-1].reason
    assert max(step.rate_per_s for step in told.steps if step.kept) == 160
    assert told.note.startswith("at least 160 /s, which kept the promises; at 320 /s the generator could not keep its schedule")


def test_a_lower_bound_is_the_highest_rate_kept_also_between_two_doublings():
    """The search has seen the server break at 640 /s, and the generator cannot send at the rates between: a bound from below is left."""

    class Gap(FakeLoad):
        def drive(self, job):
            driven = super().drive(job)
            doubt = "busy" if 330 < self.rate < 640 else None
            return replace(driven, load=replace(driven.load, doubt=doubt))

    server, seeds = FakeServer(500.0), iter(range(10_000))

    def drive(rate, duration_ns):
        job = SimpleNamespace(seed=next(seeds), server=server, records_as="requests.npz")
        return Gap().at_rate(rate, duration_ns).drive(job)

    told = find_capacity(drive, CapacitySearch(20, 5_000, 4 * SECOND, 3, 0.05), (P99, NOTHING_BROKEN))
    assert told.per_s is None and told.note.startswith("at least 320 /s, which kept the promises; at 453 /s the generator")


def test_a_generator_that_cannot_send_the_lowest_rate_shows_nothing():
    told = found(capacity=50_000.0, most_sent=1.0)
    assert told.per_s is None and told.note.startswith("at 20.0 /s the generator could not keep its schedule")


def test_broken_requests_break_the_promise():
    told = found(broken=1)
    assert told.per_s is None
    assert "of the requests broke" in told.steps[0].reason


def test_a_share_of_broken_requests_may_be_promised():
    assert found(broken=1, promises=(P99, Promise(None, 0.05))).per_s is not None
