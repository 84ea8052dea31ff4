import math
from dataclasses import replace

import numpy as np
import pytest

from harness.core.audit import LaunchLine, verdict_of
from harness.core.comparison import SlaState
from harness.core.errors import ExitCode
from harness.engine.audit.looks import AT_ONCE, confidence_at, launches_wanted
from harness.engine.audit.make import read_audit
from harness.stats.binomial import queries_needed, upper_bound


def test_all_looks_together_are_wrong_in_five_percent_at_most():
    assert [confidence_at(look) for look in (1, 2, 3)] == [0.975, 0.9875, 0.99375]
    assert math.fsum(1 - confidence_at(look) for look in range(1, 40)) == pytest.approx(0.05) and confidence_at(1) < 1


def test_what_looking_again_costs_a_p99_is_as_documented():
    assert [queries_needed(0.99, 0, confidence_at(look)) for look in (1, 2, 3)] == [368, 437, 505]


def test_promises_at_their_limit_are_called_kept_in_less_than_five_percent_however_often_one_looks():
    """Exactly 1 % of queries are over the limit; up to six looks, each with twice as many queries as the last."""
    draw = np.random.default_rng(7)
    wrong = 0
    for _ in range(1_000):
        over = (draw.random(300 * 2**5) < 0.01).cumsum()
        wrong += any(upper_bound(float(over[300 * 2**look - 1]), 300 * 2**look, confidence_at(look + 1)) <= 0.01 for look in range(6))
    assert wrong / 1_000 < 0.05


@pytest.fixture(scope="module")
def unproven(bundle):
    """An audit in which one p99 rests on 100 queries in two launches, none over its limit."""

    def of(over=0, queries=100, **more):
        audit = read_audit(bundle)
        lines = (LaunchLine(0, queries // 2, 0, 1, None), LaunchLine(1, queries // 2, over, 1, None))
        bound = upper_bound(over, queries, 0.975)
        clause = replace(
            audit.clauses[0], state=SlaState.UNPROVEN, count=queries, over=over, bound=bound, confidence=0.975, launches=lines, **more
        )
        return replace(audit, clauses=(clause, *audit.clauses[1:]))

    return of


def test_as_many_launches_are_wanted_as_the_promise_needs_queries(unproven):
    needed = math.ceil(1.1 * queries_needed(0.99, 0, 0.9875) / 200)
    assert launches_wanted(unproven(queries=400), 2, 0.9875) == max(3, needed)


def test_no_look_takes_many_times_the_launches_of_the_last(unproven):
    assert launches_wanted(unproven(queries=20), 2, 0.9875) == 2 * AT_ONCE


def test_a_share_near_to_what_may_be_takes_as_many_as_one_look_may_have(unproven):
    assert launches_wanted(unproven(over=1), 2, 0.9875) == 2 * AT_ONCE


def test_nothing_more_is_measured_where_more_would_show_nothing(bundle, unproven):
    assert launches_wanted(read_audit(bundle), 2, 0.9875) is None
    assert launches_wanted(unproven(basis="samples"), 2, 0.9875) is None


@pytest.mark.parametrize(
    ("states", "code", "told"),
    [
        (["KEPT", "KEPT"], ExitCode.PASS, "all 2 kept"),
        (["KEPT"], ExitCode.PASS, "the one promise is kept"),
        (["KEPT", "UNPROVEN"], ExitCode.NOT_DECIDED, "not shown to be kept: 1 unproven, 1 kept"),
        (["UNMEASURED", "KEPT"], ExitCode.NOT_DECIDED, "not shown to be kept: 1 unmeasured, 1 kept"),
        (["BROKEN", "UNPROVEN"], ExitCode.REGRESSION, "not kept: 1 broken, 1 unproven"),
    ],
)
def test_unproven_is_not_kept(bundle, states, code, told):
    clause = read_audit(bundle).clauses[0]
    _, _, found, headline = verdict_of([replace(clause, state=SlaState(state)) for state in states], "2026-11-28")
    assert (found, headline) == (code, told)
