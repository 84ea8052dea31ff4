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


def test_where_the_generator_gives_up_first_nothing_is_claimed():
    told = found(capacity=50_000.0, most_sent=300.0)
    assert told.per_s is None
    assert "did not keep its schedule" in told.steps[-1].reason


def test_broken_requests_break_the_promise():
    told = found(broken=1)
    assert told.per_s is None
    assert "of the requests broke" in told.steps[0].reason


def test_a_share_of_broken_requests_may_be_promised():
    assert found(broken=1, promises=(P99, Promise(None, 0.05))).per_s is not None
