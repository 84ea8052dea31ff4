"""Arms that were not measured in pairs: one arm alone, and two arms side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from harness.core.estimate import ConfidenceInterval
from harness.stats.checks import finite

MIN_SESSIONS = 10


def mean_interval(values: Sequence[float], level: float) -> ConfidenceInterval:
    """The two-sided t interval of the mean of launch figures. Raises ValueError with fewer than two."""
    array = finite(values, least=2)
    half = float(stats.t.ppf((1 + level) / 2, len(array) - 1)) * float(array.std(ddof=1)) / math.sqrt(len(array))
    mean = float(array.mean())
    return ConfidenceInterval(mean - half, mean + half, level)


def ratio_interval_independent(baseline: Sequence[float], candidate: Sequence[float], level: float) -> ConfidenceInterval:
    """The ratio of two arms' geometric means from unpaired launches: Welch's t on logarithms (Welch 1947).

    Raises ValueError with fewer than two launches an arm, or a figure that is not positive.
    """
    first, second = finite(baseline, least=2), finite(candidate, least=2)
    if (first <= 0).any() or (second <= 0).any():
        raise ValueError("a ratio needs positive figures")
    a, b = np.log(first), np.log(second)
    variances = (float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b))
    total = sum(variances)
    difference = float(b.mean() - a.mean())
    if total == 0:
        return ConfidenceInterval(math.exp(difference), math.exp(difference), level)
    freedom = total**2 / (variances[0] ** 2 / (len(a) - 1) + variances[1] ** 2 / (len(b) - 1))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(total)
    return ConfidenceInterval(math.exp(difference - half), math.exp(difference + half), level)


def prediction_interval(session_means: Sequence[float], level: float) -> ConfidenceInterval:
    """Where the next session's mean is expected, from earlier sessions' means: mean +- t * s * sqrt(1 + 1/n).

    Raises ValueError with fewer than 10 sessions: fewer predict nothing.
    """
    values = finite(session_means, least=MIN_SESSIONS)
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * float(values.std(ddof=1)) * math.sqrt(1 + 1 / len(values))
    mean = float(values.mean())
    return ConfidenceInterval(mean - half, mean + half, level)
