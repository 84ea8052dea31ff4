import math

import pytest

from harness.core.trend import RECENT_SESSIONS, ChangePoint, Trend, TrendPoint, recent_changes, scale_of
from harness.core.units import Unit
from harness.core.wording import drift_of, drift_size_of


def trend(**changes):
    facts = {"trial": "digits/fp32-cpu-b1", "metric": "latency_p50", "unit": Unit.NANOSECONDS, "better": "lower", "environment_key": "4f0a"}
    facts |= {"points": tuple(point(day) for day in range(1, 9)), "changes": (ChangePoint(4, 2.00e6, 2.082e6, 1e-7),)}
    return Trend(**(facts | changes))


def point(day=1, *, value=2e6, commit="abc1234def", dirty=False):
    return TrendPoint(f"2026-10-{day:02}T12:00:00+00:00", f"run-{day}", commit, "main", value, 1.9e6, 2.1e6, dirty)


def test_a_drift_is_told_with_its_size_its_date_and_its_commit():
    told = trend()
    assert drift_of(told, told.changes[0]) == "digits/fp32-cpu-b1 latency_p50 +4.1 % since 2026-10-05 (commit abc1234)"


def test_a_session_that_no_commit_holds_is_not_told_as_if_one_did():
    (change,) = trend().changes
    assert drift_of(trend(points=(point(dirty=True),) * 8), change).endswith("(commit abc1234 with changes)")
    assert drift_of(trend(points=(point(commit=None),) * 8), change).endswith("(run run-1)")


@pytest.mark.parametrize(
    ("unit", "before", "after", "told"),
    [
        (Unit.FRACTION, 0.98, 0.975, "-0.50 points"),
        (Unit.BYTES, 24e6, 25e6, "+4.2 %"),
        (Unit.NUMBER, 0.5, 0.75, "+0.250"),
        (Unit.NANOSECONDS, 0.0, 2e6, "+2.00 ms"),
    ],
)
def test_a_change_is_told_on_the_scale_of_its_metric(unit, before, after, told):
    assert drift_size_of(trend(unit=unit), ChangePoint(4, before, after, 0.0)) == told


@pytest.mark.parametrize(("better", "worse"), [("lower", True), ("higher", False), ("none", None)])
def test_what_is_worse_depends_on_the_metric(better, worse):
    told = trend(better=better)
    assert told.is_worse(told.changes[0]) is worse


def test_a_change_from_nothing_is_an_infinite_ratio_and_nothing_stays_nothing():
    assert ChangePoint(3, 0.0, 1.0, 0.0).ratio == math.inf
    assert ChangePoint(3, 0.0, 0.0, 1.0).ratio == 1.0


def test_shares_and_scores_change_by_a_difference_and_all_else_by_a_ratio():
    assert [unit for unit in Unit if scale_of(unit) == "difference"] == [Unit.FRACTION, Unit.NUMBER]


def test_only_the_last_change_of_a_series_is_news_and_what_is_worse_comes_first():
    two = (ChangePoint(2, 1.0, 2.0, 0.0), ChangePoint(5, 2.0, 1.5, 0.0))
    better, worse = trend(metric="load_time", changes=two), trend()
    assert recent_changes([better, worse, trend(changes=())]) == [(worse, worse.changes[0]), (better, two[1])]


@pytest.mark.parametrize(("since", "told"), [(RECENT_SESSIONS, 1), (RECENT_SESSIONS + 1, 0)])
def test_a_change_of_long_ago_is_no_news(since, told):
    old = trend(points=(point(),) * (10 + since), changes=(ChangePoint(10, 1.0, 2.0, 0.0),))
    assert len(recent_changes([old])) == told
