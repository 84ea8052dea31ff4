import pytest

from harness.engine.measure import slices_of

MS = 1_000_000


@pytest.mark.parametrize(
    ("query_ms", "in_flight", "queries"),
    [(10, 1, 3), (10, 2, 8), (1, 4, 32), (1, 7, 35), (500, 16, 64)],
    ids=["one at a time", "at least four rounds", "thirty ms", "whole rounds", "slow queries"],
)
def test_a_slice_is_of_whole_rounds_of_the_queries_in_flight(query_ms, in_flight, queries):
    assert slices_of(query_ms * MS, 1000 * MS, in_flight=in_flight)[0] == queries


def test_a_launch_takes_no_longer_for_several_in_flight_than_it_was_given():
    queries, slices = slices_of(1 * MS, 1000 * MS, in_flight=4)
    assert queries * slices == pytest.approx(1000, rel=0.05)
