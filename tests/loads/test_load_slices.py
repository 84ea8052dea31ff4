import pytest

from harness.loads.offline import Offline
from harness.loads.single_stream import SingleStream


class FakeSystem:
    """A system under test that takes as long as each batch says."""

    def __init__(self, clock):
        self.clock = clock
        self.seen = []

    def run(self, batch):
        self.seen.append(batch)
        self.clock.spend(batch)
        return batch


@pytest.fixture
def clock(runs):
    return runs.FakeClock(1_000)


@pytest.fixture
def system(clock):
    return FakeSystem(clock)


def test_single_stream_times_each_query_and_the_whole(system, clock):
    taken = SingleStream().take_slice(system.run, [100, 250, 40], 3, clock)
    assert taken.latencies_ns == (100, 250, 40)
    assert (taken.started_ns, taken.duration_ns, taken.queries) == (1_000, 390, 3)


def test_offline_times_the_block_as_a_whole_and_no_single_query(system, clock):
    taken = Offline().take_slice(system.run, [100, 250, 40], 3, clock)
    assert taken.latencies_ns == ()
    assert (taken.started_ns, taken.duration_ns, taken.queries) == (1_000, 390, 3)


def test_offline_hands_all_queries_over_at_once_where_a_session_computes_several(clock):
    handed = []

    def run_many(batches):
        handed.append(list(batches))
        clock.spend(70)

    taken = Offline().take_slice_of_all(run_many, [1, 2, 3], 7, clock)
    assert handed == [[1, 2, 3, 1, 2, 3, 1]]
    assert (taken.started_ns, taken.duration_ns, taken.queries, taken.latencies_ns) == (1_000, 70, 7, ())
    assert clock.reads == 2


@pytest.mark.parametrize("load", [SingleStream(), Offline()])
def test_prepared_batches_are_issued_in_turn_and_go_round(load, system, clock):
    load.take_slice(system.run, [1, 2, 3], 7, clock)
    assert system.seen == [1, 2, 3, 1, 2, 3, 1]


def test_single_stream_reads_the_clock_twice_a_query_and_twice_for_the_slice(system, clock):
    SingleStream().take_slice(system.run, [1], 5, clock)
    assert clock.reads == 2 * 5 + 2


def test_offline_reads_the_clock_twice_in_all(system, clock):
    Offline().take_slice(system.run, [1], 500, clock)
    assert clock.reads == 2


def test_single_stream_counts_its_own_bookkeeping_in_the_slice_and_in_no_query(runs):
    """Each read of this clock takes 3 ns itself: 8 reads pass between the first and the last, one of them within each query."""

    class SlowClock(runs.FakeClock):
        def __call__(self):
            self.spend(3)
            return super().__call__()

    slow = SlowClock()
    taken = SingleStream().take_slice(FakeSystem(slow).run, [100], 4, slow)
    assert taken.latencies_ns == (103,) * 4
    assert taken.duration_ns == 4 * 100 + 9 * 3


@pytest.mark.parametrize("load", [SingleStream(), Offline()])
def test_a_query_that_fails_ends_the_slice_and_becomes_no_number(load, clock):
    def run(batch):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        load.take_slice(run, [1], 3, clock)


@pytest.mark.parametrize("load", [SingleStream, Offline])
def test_a_load_takes_no_option_that_it_does_not_know(load):
    with pytest.raises(ValueError, match="Extra inputs"):
        load.model_validate({"rate": "200 /s"})
