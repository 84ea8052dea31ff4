"""Two arms whose launches were not measured in pairs: Welch's interval, and whether it may decide anything.

The unit is a process launch (of saved runs, where several are given an arm, a whole run). An interval over launches does not know how one
hour or one host differs from the next, so it decides only where both arms shared those: on the same hosts, in turn.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from harness.core.comparison import Verdict
from harness.core.estimate import ConfidenceInterval, Direction
from harness.core.units import Unit, format_change
from harness.engine.compare import FAMILY_ALPHA, PASS_LEVEL, POWER, TIMER_LOG_RATIO, between
from harness.engine.diffing.report import Row
from harness.engine.judge import Evidence, judge, worsening

LEAST_LAUNCHES = 5
"""Of fewer an arm nothing is concluded; the gate's screen takes as many pairs."""
MOST_IN_A_ROW = 2
"""Launches of one arm after each other in what counts as in turn: ABAB and ABBA do."""
METHOD = "Welch's t interval on the logarithms of launches, unpaired"


@dataclass(frozen=True, slots=True)
class Figure:
    """One launch's figure and when it was taken."""

    value: float
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One metric in both arms. ``cap`` says why nothing may be concluded however sharp the interval is; None where something may."""

    name: str
    metric: str
    unit: Unit
    better: Direction
    tolerance: float
    floor: float
    baseline: tuple[Figure, ...]
    candidate: tuple[Figure, ...]
    n_of: str
    cap: str | None = None


def compare_unpaired(questions: Sequence[Question]) -> list[Row]:
    """A row for each question, in order. The error allowed to all reds together is 1 %, shared by Holm's procedure (Holm 1979): what has
    been shown leaves its share to the others.
    """
    measured = [question for question in questions if _least(question) >= 2]
    red: set[int] = set()
    while True:
        alpha = FAMILY_ALPHA / max(1, len(measured) - len(red))
        rows = {id(question): _row(question, alpha) for question in measured}
        now = {key for key, row in rows.items() if row.shown is Verdict.REGRESSED} | red
        if now == red:
            return [rows.get(id(question)) or _alone(question) for question in questions]
        red = now


def told_only(question: Question, reason: str) -> Row:
    """Both values and no ratio of them."""
    return replace(_bare(question), baseline=_middle(question.baseline), candidate=_middle(question.candidate), reason=reason)


def order_of(baseline: Sequence[datetime | None], candidate: Sequence[datetime | None]) -> str:
    """ "interleaved" where no arm has more than two launches in a row, "in blocks" where one has, "unknown" where the times do not tell."""
    moments = [("baseline", at) for at in baseline] + [("candidate", at) for at in candidate]
    known = [(at, arm) for arm, at in moments if at is not None]
    first = {at for at, arm in known if arm == "baseline"}
    if len(known) < len(moments) or any(at in first for at, arm in known if arm == "candidate"):
        return "unknown"
    longest = max(len(list(turn)) for _, turn in groupby(sorted(known), key=lambda one: one[1]))
    return "interleaved" if longest <= MOST_IN_A_ROW else "in blocks"


def welch(question: Question, level: float) -> ConfidenceInterval:
    """The two-sided interval of candidate / baseline (geometric means), by Welch's t with the Welch-Satterthwaite degrees of freedom
    (Welch 1947), on logarithms:

        log(candidate) - log(baseline) +- t * sqrt(s1^2 / n1 + s2^2 / n2),
        freedom = (s1^2 / n1 + s2^2 / n2)^2 / ((s1^2 / n1)^2 / (n1 - 1) + (s2^2 / n2)^2 / (n2 - 1))

    Assumption: launches are independent and their logarithms near enough to normal. The interval is never drawn narrower than a spread of
    0.01 % a launch allows: equal values of a coarse timer make no certainty. Raises ValueError with fewer than two launches an arm.
    """
    from scipy import stats

    from harness.stats.independent import ratio_interval_independent

    before, after = ([figure.value for figure in figures] for figures in (question.baseline, question.candidate))
    found = ratio_interval_independent(before, after, level)
    centre = math.sqrt(found.low * found.high)
    critical = float(stats.t.ppf((1 + level) / 2, len(before) + len(after) - 2))
    least = math.exp(critical * TIMER_LOG_RATIO * math.sqrt(1 / len(before) + 1 / len(after)))
    return ConfidenceInterval(min(found.low, centre / least), max(found.high, centre * least), level)


def _row(question: Question, alpha: float) -> Row:
    strict, plain = welch(question, 1 - 2 * alpha), welch(question, PASS_LEVEL)
    effect = math.sqrt(strict.low * strict.high)
    baseline, candidate = _middle(question.baseline), _middle(question.candidate)
    evidence = Evidence("ratio", question.better, strict, plain, question.tolerance, question.floor, (effect - 1) * baseline)
    shown = judge(evidence)
    interval = strict if shown in (Verdict.REGRESSED, Verdict.IMPROVED) else plain
    told = _told(shown, evidence)
    z = statistics.NormalDist().inv_cdf  # half the interval alone, -z(alpha) standard errors, is seen at 50 % power
    visible = math.expm1(min(math.log(strict.high / strict.low) / 2 * (1 + z(POWER) / -z(alpha)), 700.0))
    row = replace(
        _bare(question),
        baseline=baseline,
        candidate=candidate,
        effect=effect,
        interval=interval,
        method=METHOD,
        shown=shown,
        verdict=shown,
        reason=told,
        visible_change=visible,
    )
    if _least(question) < LEAST_LAUNCHES:
        numbers = f"{len(question.baseline)} and {len(question.candidate)}"
        return _held_back(row, f"too few {question.n_of}: {numbers}, and {LEAST_LAUNCHES} an arm are needed")
    return row if question.cap is None else _held_back(row, question.cap)


def _alone(question: Question) -> Row:
    """One launch in an arm: both values and their ratio, and no evidence."""
    one = question.n_of.removesuffix("es") if question.n_of.endswith("launches") else question.n_of.removesuffix("s")
    ones = [arm for arm, figures in (("baseline", question.baseline), ("candidate", question.candidate)) if len(figures) < 2]
    where = "an arm" if len(ones) == 2 else f"in the {ones[0]}"
    why = "one session has no spread" if one == "run" else "samples of one process are not independent"
    row = told_only(question, f"cannot be concluded: one {one} {where}; {why}")
    return replace(row, effect=_middle(question.candidate) / _middle(question.baseline))


def _bare(question: Question) -> Row:
    """A row without evidence: INVALID, as too few launches are in the gate."""
    return Row(
        name=question.name,
        metric=question.metric,
        unit=question.unit,
        better=question.better,
        scale="ratio",
        baseline=None,
        candidate=None,
        effect=None,
        interval=None,
        tolerance=question.tolerance,
        baseline_n=len(question.baseline),
        candidate_n=len(question.candidate),
        n_of=question.n_of,
        method="none",
        shown=None,
        verdict=Verdict.INVALID,
        reason="",
    )


def _held_back(row: Row, why: str) -> Row:
    """What the figures show is told, and nothing is concluded of it."""
    return replace(row, verdict=Verdict.INCONCLUSIVE, reason=why)


def _least(question: Question) -> int:
    return min(len(question.baseline), len(question.candidate))


def _middle(figures: Sequence[Figure]) -> float:
    """The geometric mean, as the interval is of: the ratio is then that of the two values that are told."""
    return statistics.geometric_mean([figure.value for figure in figures])


def _told(shown: Verdict, evidence: Evidence) -> str:
    strict = worsening(evidence.strict, "ratio", evidence.better)
    plain = worsening(evidence.plain, "ratio", evidence.better)
    tolerance = format_change(evidence.tolerance).lstrip("+")
    match shown:
        case Verdict.REGRESSED:
            return f"shown to be at least {format_change(strict.low).lstrip('+')} worse; {tolerance} is tolerated"
        case Verdict.IMPROVED:
            return f"shown to be at least {format_change(-strict.high).lstrip('+')} better"
        case Verdict.PASS if plain.high <= evidence.tolerance:
            return f"shown to be within the tolerance of {tolerance}"
        case Verdict.PASS:
            return "worse, but by less than the smallest absolute change that matters"
        case _:
            return f"{between(plain, evidence.tolerance, format_change)}; more launches would tell"
