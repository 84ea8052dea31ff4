import dataclasses
import math
import random
from functools import cache

import pytest
from fakes import cases

from harness.core.comparison import Verdict
from harness.engine.compare_stored import compare_stored
from harness.engine.evaluate import metric_of
from harness.engine.rules import Rule

MS = 1e6
T_9 = 3.2498355
"""The 99.5 % point of Student's t with 9 degrees of freedom."""


def rule(metric="latency_p50", tolerance=0.02, floor=0.0):
    return Rule(metric, metric_of(metric), tolerance, floor)


@cache
def accepted():
    return cases.baseline().measured[cases.HERE]


RULE = rule()


def stored(figures=(MS, MS, MS), sessions=(), metric="latency_p50"):
    """Accepted numbers of one metric: the last session's launches, and the means of all sessions."""
    return dataclasses.replace(accepted(), figures={metric: tuple(figures)}, sessions={metric: tuple(sessions)})


def around(center, log_spread, count=10):
    """Means that lie evenly on both sides of ``center``."""
    half = [log_spread * (index + 1) / (count // 2) for index in range(count // 2)]
    return [center * math.exp(distance) for each in half for distance in (-each, each)]


def compared(figures, kept, gated=RULE, *, decides=True):
    return compare_stored("tiny/plain-cpu-b1", gated, kept, figures, decides=decides)


def test_ten_sessions_predict_where_the_next_one_should_lie():
    sessions = around(MS, 0.01)
    found = compared([1.5 * MS, 1.5 * MS], stored(sessions=sessions))
    logs = [math.log(mean / MS) for mean in sessions]
    spread = math.sqrt(sum(log**2 for log in logs) / 9)
    half = T_9 * spread * math.sqrt(1 + 1 / 10)
    assert found is not None and found.effect == pytest.approx(1.5)
    assert (found.interval.low, found.interval.high) == pytest.approx((1.5 * math.exp(-half), 1.5 * math.exp(half)), rel=1e-6)
    assert found.interval.level == 0.99
    assert (found.n, found.n_of, found.method) == (10, "sessions", "prediction interval over 10 stored sessions")
    assert found.visible_change == pytest.approx(math.exp(half) - 1)


@pytest.mark.parametrize(
    ("latency_ns", "verdict"),
    [(1.5 * MS, Verdict.REGRESSED), (0.5 * MS, Verdict.IMPROVED), (1.02 * MS, Verdict.INCONCLUSIVE), (0.999 * MS, Verdict.PASS)],
)
def test_the_verdict_is_the_intervals(latency_ns, verdict):
    found = compared([latency_ns, latency_ns], stored(sessions=around(MS, 0.004)))
    assert found is not None and found.verdict is verdict


def test_less_throughput_is_worse():
    kept = stored(figures=(1_000, 1_000), sessions=around(1_000, 0.004), metric="throughput")
    verdicts = [found.verdict for rate in (500, 2_000) if (found := compared([rate, rate], kept, rule("throughput", 0.05)))]
    assert verdicts == [Verdict.REGRESSED, Verdict.IMPROVED]


@pytest.mark.parametrize("figures", [(0.9 * MS, 0.9 * MS), (1.5 * MS, 1.5 * MS)])
def test_the_luck_of_the_last_accepted_session_decides_nothing(figures):
    found = compared([1.5 * MS, 1.5 * MS], stored(figures, sessions=around(MS, 0.004)), rule(floor=0.1 * MS))
    assert found is not None and found.verdict is Verdict.REGRESSED
    assert found.baseline == pytest.approx(MS)
    assert found.candidate / found.baseline == pytest.approx(found.effect)


def test_a_change_below_the_floor_is_no_regression():
    found = compared([1.5 * MS, 1.5 * MS], stored(sessions=around(MS, 0.004)), rule(floor=0.6 * MS))
    assert found is not None and found.verdict is Verdict.PASS


@pytest.mark.parametrize("count", [0, 1, 8])
@pytest.mark.parametrize("decides", [True, False])
def test_with_fewer_than_ten_sessions_the_difference_is_told_and_nothing_decided(count, decides):
    kept = stored((MS, 1.01 * MS, 0.99 * MS), sessions=around(MS, 0.004)[:count])
    found = compared([2 * MS, 2.02 * MS, 1.98 * MS], kept, decides=decides)
    assert found is not None and (found.verdict, found.advisory) == (Verdict.INCONCLUSIVE, True)
    assert found.effect == pytest.approx(2.0) and found.interval.low > 1.9
    assert (found.n, found.n_of, found.method) == (3, "launches", f"stored numbers, {count} of 10 sessions")


@pytest.mark.parametrize(("decides", "advisory"), [(True, False), (False, True)])
def test_it_is_advice_unless_the_scenario_says_otherwise(decides, advisory):
    found = compared([MS, MS], stored(sessions=around(MS, 0.004)), decides=decides)
    assert found is not None and found.advisory is advisory
    assert found.reason == "against stored numbers of an earlier session, not measured side by side"


@pytest.mark.parametrize(
    ("figures", "kept"),
    [
        ([MS, MS], stored(metric="throughput")),
        ([MS, MS], stored(figures=())),
        ([MS, MS], stored(figures=(MS,))),
        ([MS], stored()),
        ([], stored()),
        ([MS, 0.0], stored()),
        ([MS, MS], stored(figures=(MS, 0.0))),
    ],
)
def test_where_there_are_no_two_positive_numbers_a_side_nothing_is_compared(figures, kept):
    assert compared(figures, kept) is None


def test_a_session_without_a_mean_is_left_out():
    found = compared([MS, MS], stored(sessions=[0.0, *around(MS, 0.004)[:9]]))
    assert found is not None and found.method == "stored numbers, 9 of 10 sessions"


def test_of_sessions_of_the_same_code_one_in_a_hundred_lies_outside():
    draw = random.Random(1)
    outside = 0
    for _ in range(2_000):
        *sessions, mean = (MS * math.exp(draw.gauss(0, 0.05)) for _ in range(13))
        found = compared([mean, mean], stored(sessions=sessions))
        assert found is not None
        outside += not found.interval.low <= 1 <= found.interval.high
    assert 0.005 < outside / 2_000 < 0.016
