"""Which machines can be told apart.

Launches of one run share its hour, its host and its neighbours: their interval does not know by how much the next run of the same machine
would differ. So where both machines have three runs or more, runs are what is compared. Otherwise launches are, and two machines are told
apart only where the whole interval lies beyond the margin by which two runs of one machine may differ: 15 %, or what two runs of a machine
in this very comparison showed, whichever is larger. docs/compare.md says how often equal machines are called different under this rule.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.estimate import ConfidenceInterval, Direction
from harness.core.purchase import Apart, Pair

FAMILY_ALPHA = 0.05
"""The chance that any two machines of the comparison are called different that are not; shared by Holm's procedure (Holm 1979)."""
LEAST_SESSIONS = 3
SESSION_MARGIN = 0.15
LEAST_SPREAD = 1e-4
"""Of a figure's logarithm: equal values of a coarse timer make no certainty."""


@dataclass(frozen=True, slots=True)
class Question:
    """Two machines in one metric, each with its sessions' launches. ``better`` is which way the metric is better."""

    first: str
    second: str
    work: str
    metric: str
    better: Direction
    figures: tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]
    sessions: bool = False


@dataclass(frozen=True, slots=True)
class _Test:
    """Welch's t on logarithms (Welch 1947): difference, its standard error and degrees of freedom, and the log of 1 + margin."""

    difference: float
    error: float
    freedom: float
    margin: float

    @property
    def p_value(self) -> float:
        """Two-sided, that the true difference is within the margin."""
        from scipy import stats

        return min(1.0, 2 * float(stats.t.sf((abs(self.difference) - self.margin) / self.error, self.freedom)))

    def interval(self, alpha: float) -> ConfidenceInterval:
        from scipy import stats

        half = float(stats.t.ppf(1 - alpha / 2, self.freedom)) * self.error
        return ConfidenceInterval(_exp(self.difference - half), _exp(self.difference + half), 1 - alpha)


def tell_apart(questions: Sequence[Question], session_margin: float = SESSION_MARGIN) -> list[Pair]:
    """A pair for each question, in order. The error of 5 % is shared by all of them."""
    seen = max(session_margin, _seen(questions))
    tests = {number: _test(one, session_margin if one.sessions else seen) for number, one in enumerate(questions)}
    ordered = sorted((test.p_value, number) for number, test in tests.items() if test is not None)
    alphas: dict[int, float] = {}
    shown = True
    for place, (p_value, number) in enumerate(ordered):
        if shown:
            alpha = FAMILY_ALPHA / (len(ordered) - place)
            shown = p_value <= alpha  # after the first that is not shown none is, and all keep its level
        alphas[number] = alpha
    return [_pair(question, tests[number], alphas.get(number, FAMILY_ALPHA)) for number, question in enumerate(questions)]


def _seen(questions: Sequence[Question]) -> float:
    """The largest difference that two sessions of one machine show here, as a share; 0 where no machine has two."""
    found = 0.0
    for question in questions:
        for sessions in question.figures:
            means = [statistics.geometric_mean(session) for session in sessions]
            if len(means) > 1:
                found = max(found, max(means) / min(means) - 1)
    return found


def _by_sessions(question: Question) -> bool:
    return not question.sessions and min(map(len, question.figures)) >= LEAST_SESSIONS


def _values(question: Question) -> tuple[list[float], list[float]]:
    """A figure for each session where sessions are compared, else for each launch."""
    first, second = (
        [statistics.geometric_mean(session) for session in sessions]
        if _by_sessions(question)
        else [value for session in sessions for value in session]
        for sessions in question.figures
    )
    return first, second


def _test(question: Question, session_margin: float) -> _Test | None:
    """None where a machine has fewer than two figures: there is no spread."""
    first, second = _values(question)
    if min(len(first), len(second)) < 2:
        return None
    a, b = ([math.log(value) for value in values] for values in (first, second))
    variances = [max(statistics.variance(values), LEAST_SPREAD**2) / len(values) for values in (a, b)]
    total = sum(variances)
    freedom = total**2 / (variances[0] ** 2 / (len(a) - 1) + variances[1] ** 2 / (len(b) - 1))
    margin = 0.0 if _by_sessions(question) else math.log1p(session_margin)
    return _Test(statistics.fmean(b) - statistics.fmean(a), math.sqrt(total), freedom, margin)


def _pair(question: Question, test: _Test | None, alpha: float) -> Pair:
    first, second = _values(question)
    n_of = "sessions" if _by_sessions(question) else "launches"
    bare = Pair(
        first=question.first,
        second=question.second,
        work=question.work,
        metric=question.metric,
        ratio=None,
        interval=None,
        margin=0.0,
        n=(len(first), len(second)),
        n_of=n_of,
        found=Apart.NOT_TESTED,
        reason="fewer than two launches have this figure: there is no spread to test with",
        sessions=question.sessions,
    )
    if test is None:
        return bare
    interval, margin = test.interval(alpha), math.expm1(test.margin)
    low, high = 1 / (1 + margin), 1 + margin
    higher = Apart.SECOND if question.better == "higher" else Apart.FIRST
    lower = Apart.FIRST if question.better == "higher" else Apart.SECOND
    if interval.low > high:
        found, reason = higher, f"{question.metric} of the second is shown to be at least ×{interval.low:.2f} that of the first"
    elif interval.high < low:
        found, reason = lower, f"{question.metric} of the second is shown to be at most ×{interval.high:.2f} that of the first"
    else:
        found, reason = Apart.NOT_APART, _why_not(interval, margin)
    return replace(bare, ratio=_exp(test.difference), interval=interval, margin=margin, found=found, reason=reason)


def _why_not(interval: ConfidenceInterval, margin: float) -> str:
    within = 1 / (1 + margin) <= interval.low and interval.high <= 1 + margin
    if margin == 0:
        return "the interval holds no difference at all"
    if within:
        return f"the whole interval is within the {margin * 100:.3g} % that two runs of one machine may differ by"
    return (
        f"the interval reaches into the {margin * 100:.3g} % that two runs of one machine may differ by; three runs of each would tell more"
    )


def _exp(value: float) -> float:
    return math.exp(max(-700.0, min(value, 700.0)))
