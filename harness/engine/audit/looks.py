"""How many launches an SLA needs, and what looking at it several times costs.

Launches are added until every promise is shown to be kept or broken, so the bounds are looked at more than once. Each look spends half of
what is left of the 5 % that all of them together may be wrong: 2.5 %, then 1.25 %, and so on (the union bound; nothing is assumed of how
looks depend on each other). The price is small: a p99 with no query over its limit takes 368 queries at the first look, 437 at the second
and 505 at the third, where a single look takes 299.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.core.comparison import SlaState
from harness.engine.sla import CONFIDENCE
from harness.stats import binomial

if TYPE_CHECKING:
    from harness.core.audit import Audit, AuditedClause

MARGIN = 1.1
"""Launches differ in length: some more than the number that would just do."""
AT_ONCE = 4
"""No look has more than so many times the launches of the last: what they will show is only an estimate."""


def confidence_at(look: int) -> float:
    """The one-sided confidence of the bounds at a look, counted from 1, of an unknown number of looks."""
    return 1 - (1 - CONFIDENCE) * 0.5**look


def launches_wanted(audit: Audit, launches: int, confidence: float) -> int | None:
    """How many launches a trial should have for the next look, at its confidence; None where more of them would show nothing."""
    wanted = [
        _wanted(clause, launches, confidence)
        for clause in audit.clauses
        if clause.state is SlaState.UNPROVEN and clause.basis in ("queries", "launches") and clause.launches
    ]
    if not wanted:
        return None
    return max(launches + 1, min(max(wanted), AT_ONCE * launches))


def _wanted(clause: AuditedClause, launches: int, confidence: float) -> int:
    if clause.basis != "queries" or clause.over is None or clause.bound is None:
        return 2 * launches  # the interval is then about 0.7 times as wide
    q = float(f"0.{clause.metric.removeprefix('latency_p')}")
    share = clause.over / clause.count
    if share >= (1 - q) / 2:  # near to what may be, or beyond: it takes very many, whichever way it ends
        return AT_ONCE * launches
    need = binomial.queries_needed(q, clause.over, confidence)
    effect = max(1.0, clause.count / _effective(clause))
    return math.ceil(MARGIN * need * effect / (clause.count / len(clause.launches)))


def _effective(clause: AuditedClause) -> float:
    """How many independent queries would give the clause's bound, as near as a bisection of 20 steps comes."""
    assert clause.over is not None and clause.bound is not None and clause.confidence is not None
    low, high = 1.0, float(clause.count)
    for _ in range(20):
        middle = math.sqrt(low * high)
        if binomial.upper_bound(clause.over * middle / clause.count, middle, clause.confidence) > clause.bound:
            low = middle
        else:
            high = middle
    return high
