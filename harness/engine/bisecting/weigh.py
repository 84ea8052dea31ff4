"""Whether a commit is as slow as the bad end or as fast as the good end, from launch pairs against both.

Log ratios are on the worse side: above 0 is worse. Two claims may be made of a commit in the middle:

    BAD    it is worse than the good end: the lower bound of the mean log ratio against it lies above 0
    GOOD   it is better than the bad end: the upper bound of the mean log ratio against it lies below 0

Each is what the search goes on with, and is wrong with at most the error that the look may spend, whatever the size of the change, however
many changes there are. Where both are shown the commit lies between the ends: there is a change on either side, and the larger is followed.

Bounds are Student's t (1908). A few pairs tell a spread badly, so the spread is the larger of that against this end and of that against
both ends together, with the degrees of freedom of Welch (1947) and Satterthwaite (1946) for a variance that is pooled from two that may
differ. Assumption: log ratios of launch pairs are independent and near enough to normal; tests/engine/test_bisect_errors.py simulates what
it costs where they are not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.bisection import Answer
from harness.core.estimate import ConfidenceInterval
from harness.engine.compare import TIMER_LOG_RATIO

STEP_LOOKS = (3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 31, 39, 49, 61, 76, 95)
"""Rounds (a launch pair against each end) after which an answer is looked for."""
ENDS_LOOKS = (4, 5, 6, 8, 10, 13, 16, 20, 25, 31, 39, 49, 61, 76, 95, 119)
"""Launch pairs of the two ends after which it is looked whether they differ."""
CONFIRM_LOOKS = (8, 10, 13, 16, 20, 25, 31, 39, 49, 61, 76, 95)
"""Fresh launch pairs of what was found; 8 come from two template processes at least."""
DECAY = 1.0
BETWEEN = 0.2
"""A commit that lies this share of the way or more from both ends is told to lie between them."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """``answer`` is None where neither claim is shown. Intervals are on the log scale, worse above 0, at the level of this look."""

    answer: Answer | None
    against_good: ConfidenceInterval
    against_bad: ConfidenceInterval
    between: bool


def weigh(against_good: Sequence[float], against_bad: Sequence[float], alpha: float) -> Weighed:
    """What the log ratios of the commit against both ends show; ``alpha`` is the error (one-sided) that this look may spend.

    Raises ValueError with fewer than two pairs against an end.
    """
    spreads = [max(statistics.stdev(values), TIMER_LOG_RATIO) for values in (against_good, against_bad)]
    from_good, from_bad = (
        _interval(values, alpha, spread, other)
        for values, spread, other in (
            (against_good, spreads[0], (spreads[1], len(against_bad))),
            (against_bad, spreads[1], (spreads[0], len(against_good))),
        )
    )
    worse, better = from_good.low > 0, from_bad.high < 0
    above, below = statistics.fmean(against_good), -statistics.fmean(against_bad)
    if worse and better:
        share = min(above, below) / (above + below)
        return Weighed(Answer.BAD if above >= below else Answer.GOOD, from_good, from_bad, share >= BETWEEN)
    answer = Answer.BAD if worse else Answer.GOOD if better else None
    return Weighed(answer, from_good, from_bad, False)


def interval_alone(log_ratios: Sequence[float], alpha: float) -> ConfidenceInterval:
    """The t interval of one comparison on the log scale, each end wrong with ``alpha`` at most.

    Raises ValueError with fewer than two pairs.
    """
    return _interval(log_ratios, alpha, max(statistics.stdev(log_ratios), TIMER_LOG_RATIO), None)


def _interval(values: Sequence[float], alpha: float, spread: float, other: tuple[float, int] | None) -> ConfidenceInterval:
    from scipy import stats

    number = len(values)
    freedom = float(number - 1)
    if other is not None:
        own, its = spread**2 * (number - 1), other[0] ** 2 * (other[1] - 1)
        pooled = math.sqrt((own + its) / (number + other[1] - 2))
        freedom = (own + its) ** 2 / (own**2 / (number - 1) + its**2 / (other[1] - 1))
        spread = max(spread, pooled)
    half = float(stats.t.isf(alpha, freedom)) * spread / math.sqrt(number)
    mean = statistics.fmean(values)
    return ConfidenceInterval(mean - half, mean + half, 1 - 2 * alpha)
