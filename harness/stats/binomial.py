"""The share of queries beyond a limit: bounds, the queries that a proof takes, and what clustering in launches costs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def upper_bound(over: float, queries: float, confidence: float) -> float:
    """One-sided upper bound of the share (Clopper and Pearson 1934); effective numbers need not be whole."""
    _check(over, queries)
    return 1.0 if over >= queries else float(stats.beta.ppf(confidence, over + 1, queries - over))


def lower_bound(over: float, queries: float, confidence: float) -> float:
    """One-sided lower bound of the share (Clopper and Pearson 1934)."""
    _check(over, queries)
    return 0.0 if over <= 0 else float(stats.beta.ppf(1 - confidence, over, queries - over + 1))


def share_interval(successes: int, count: int, level: float) -> tuple[float, float]:
    """The two-sided Clopper-Pearson interval of a share."""
    confidence = (1 + level) / 2
    return lower_bound(successes, count, confidence), upper_bound(successes, count, confidence)


def queries_needed(q: float, over: int, confidence: float) -> int:
    """The fewest queries that show "at most 1 - q lie beyond the limit" when ``over`` of them do.

    p99 at 95 %: 299 with none over, 473 with one, 628 with two; p90: 29 with none; p99.9: 2,995.
    """
    if not 0 < q < 1 or over < 0:
        raise ValueError(f"no such quantile or count: {q}, {over}")
    low, high = over + 1, over + 2
    while upper_bound(over, high, confidence) > 1 - q:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_bound(over, middle, confidence) <= 1 - q else (middle + 1, high)
    return low


def queries_to_tell(q: float, over: float, queries: float, confidence: float, most: int = 10**8) -> int | None:
    """The fewest queries that show on which side of 1 - q the share lies, if it stays what ``over`` of ``queries`` make it.

    p99 at 95 %: 299 where none is over, 521 where 1 of 400 is. None where it would take more than ``most``: the share is at the limit.
    """

    def told(count: int) -> bool:
        beyond = over / queries * count
        return upper_bound(beyond, count, confidence) <= 1 - q or lower_bound(beyond, count, confidence) > 1 - q

    high = max(1, int(queries))
    while not told(high):
        high *= 2
        if high > most:
            return None
    return bisect_left(range(high), True, lo=high // 2, key=told)


def design_effect(launches: Sequence[tuple[int, int]]) -> float:
    """How many times more the share varies between launches than independent queries would let it (Kish 1965), at least 1.

    ``launches`` are (over, queries) of each launch. The variance of the ratio estimate over launches, divided by the binomial variance.
    """
    over = np.array([count for count, _ in launches], dtype=np.float64)
    queries = np.array([number for _, number in launches], dtype=np.float64)
    if len(launches) < 2 or queries.sum() <= 0:
        return 1.0
    share = over.sum() / queries.sum()
    if share in (0.0, 1.0):
        return 1.0
    residual = over - share * queries
    clustered = len(launches) / (len(launches) - 1) * float((residual**2).sum()) / queries.sum() ** 2
    return max(1.0, float(clustered / (share * (1 - share) / queries.sum())))


@dataclass(frozen=True, slots=True)
class NearLimit:
    """How many queries of all launches came near a limit, which is ``threshold`` or more, and their design effect over launches."""

    threshold: float
    queries: int
    effect: float


def near_limit(launches: Sequence[NDArray[np.float64]], limit: float, wanted: int) -> NearLimit:
    """The ``wanted`` slowest queries, or fewer: only what lies beyond halfway from the median query to the limit is near it.

    What varies far below a limit says nothing about who would break it.
    """
    every = np.concatenate(launches)
    last = max(0, len(every) - wanted)
    threshold = max(float(np.partition(every, last)[last]), (float(np.median(every)) + limit) / 2)
    counts = [(int(np.count_nonzero(launch >= threshold)), len(launch)) for launch in launches]
    return NearLimit(threshold, sum(count for count, _ in counts), design_effect(counts))


def _check(over: float, queries: float) -> None:
    if queries <= 0 or not 0 <= over <= queries:
        raise ValueError(f"not a share: {over} of {queries}")
