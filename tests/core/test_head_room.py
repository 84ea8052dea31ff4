import math

import pytest

from harness.core.head_room import room_of, room_told, shown_of
from harness.core.scenario import parse_clause

MS = 1_000_000


@pytest.mark.parametrize(
    ("key", "text", "value", "bound", "better", "room"),
    [
        ("latency_p99", "at most 50 ms", 31 * MS, 0.004, "lower", 0.38),  # the bound is of a share of queries
        ("latency_p99", "at most 50 ms", 31 * MS, 40 * MS, "lower", 0.2),  # and here of the quantile, over launches
        ("latency_p50", "at most 50 ms", 60 * MS, 1.0, "lower", -0.2),
        ("throughput", "at least 100 /s", 150.0, 120.0, "higher", 0.2),
        ("throughput", "at least 100 /s", 90.0, 80.0, "higher", -0.2),
        ("accuracy", "at least 80 %", 0.9, 0.9, "higher", 0.125),
        ("int8.model_size", "at most 50 % of fp32", 12e6, 0.25, "lower", 0.5),
        ("int8.accuracy", "at most 2 points below fp32", 0.97, 0.005, "higher", 0.75),
        ("int8.latency_p50", "at least 2 times faster than fp32", 3 * MS, 0.25, "lower", 0.5),
        ("int8.throughput", "at least 2 times faster than fp32", 300.0, 3.0, "higher", 0.5),
        ("error_rate", "at most 0 %", 0.0, 0.0, "lower", None),
        ("latency_p99", "at most 50 ms", None, 0.004, "lower", None),
        ("throughput", "at least 100 /s", 150.0, None, "higher", None),
        ("throughput", "at least 100 /s", 150.0, -math.inf, "higher", None),
    ],
)
def test_head_room_is_the_share_of_the_limit_that_is_left(key, text, value, bound, better, room):
    found = room_of(parse_clause(key, text), value, bound, better)
    assert found is None if room is None else found == pytest.approx(room)


def test_what_is_beyond_the_limit_is_told_as_that():
    assert [room_told(room) for room in (0.38, 0.0, -0.12, None)] == [
        "38.0 % left",
        "0.0 % left",
        "12.0 % beyond the limit",
        "–",
    ]


@pytest.mark.parametrize(
    ("key", "text", "value", "bound", "shown"),
    [
        ("throughput", "at least 100 /s", 150.0, 120.0, 120.0),
        ("latency_p99", "at most 50 ms", 31 * MS, 40 * MS, 40 * MS),
        ("latency_p99", "at most 50 ms", 31 * MS, 0.004, None),
        ("accuracy", "at least 80 %", 0.9, 0.9, None),
        ("int8.model_size", "at most 50 % of fp32", 12e6, 0.25, None),
    ],
)
def test_the_bound_is_shown_where_it_is_one_of_the_value(key, text, value, bound, shown):
    assert shown_of(parse_clause(key, text), value, bound) == shown
