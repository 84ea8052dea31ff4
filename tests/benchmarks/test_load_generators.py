"""The page of the load generators' comparison, from data whose answer is known."""

from pathlib import Path

import pytest
from load_generators.page import Measured, page_of, read_measured
from load_generators.seen import Seen

PUBLISHED = Path(__file__).parents[2] / "docs" / "measurements" / "load-generators.md"


def page(own_ms, other_ms):
    loads = [Seen("locust", "100 /s", own_ms, 1000, 0, 0.2, 0.1), Seen("h2load", "100 /s", other_ms, 1000)]
    return page_of(Measured(("a machine",), 10.0, 1, 2.0, tuple(loads)))


def test_the_published_page_is_made_from_the_published_data():
    assert PUBLISHED.read_text(encoding="utf-8") == page_of(read_measured(PUBLISHED.with_suffix(".json")))


@pytest.mark.parametrize(
    ("own_ms", "agreeing"),
    [
        ((5.0, 6.0, 20.0), 3),
        ((5.9, 6.9, 21.9), 3),  # 1 ms or 10 %, whichever is more
        ((6.1, 6.0, 20.0), 2),
        ((5.0, 6.0, 22.1), 2),
        ((3.9, 6.0, 17.9), 1),
    ],
)
def test_generators_agree_within_a_tenth_or_a_millisecond(own_ms, agreeing):
    told = page(own_ms, (5.0, 6.0, 20.0))
    assert f"{agreeing} of 3 quantiles are" in told
    assert told.count("| **no** |") == 3 - agreeing


def test_rounds_are_told_by_their_median():
    loads = [Seen("locust", "100 /s", (value,) * 3, 10, 0, 0.1, 0.1) for value in (5.0, 5.2, 90.0)]
    loads += [Seen("h2load", "100 /s", (value,) * 3, 10) for value in (5.1, 5.0, 5.3)]
    assert "| 100 /s | p50 | 5.20 ms | 5.10 ms (h2load) | +0.10 ms | +2.0% | yes |" in page_of(Measured((), 10.0, 3, 2.0, tuple(loads)))
