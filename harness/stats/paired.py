"""Launch pairs: intervals, p-values and power for the ratio candidate / baseline, from one log ratio a pair.

Assumption: log ratios of launch pairs are independent and near enough to normal for Student's t. They are medians over dozens of
slices, and pairs share nothing but the machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import optimize, stats

from harness.core.estimate import ConfidenceInterval
from harness.stats.checks import finite


def ratio_interval(log_ratios: Sequence[float], level: float, *, floor: float = 0.0) -> ConfidenceInterval:
    """The two-sided t interval of the mean log ratio, as a ratio (Student 1908).

    ``floor`` is the least standard deviation believed, in log units: equal values of a coarse timer must not make a certainty.
    Raises ValueError with fewer than two pairs.
    """
    values = finite(log_ratios, least=2)
    mean, error = float(values.mean()), _standard_error(values, floor)
    half = _critical((1 + level) / 2, len(values) - 1) * error
    return ConfidenceInterval(math.exp(mean - half), math.exp(min(mean + half, 700.0)), level)


def p_value(log_ratios: Sequence[float], beyond: float, *, floor: float = 0.0) -> float:
    """One-sided p-value against "the ratio is at most 1 + ``beyond``"."""
    values = finite(log_ratios, least=2)
    t = (float(values.mean()) - math.log1p(beyond)) / max(_standard_error(values, floor), 1e-300)
    return float(stats.t.sf(t, len(values) - 1))


def visible_change(log_ratios: Sequence[float], *, tolerance: float, alpha: float, power: float, floor: float = 0.0) -> float:
    """The smallest true change (0.02: 2 %) that would have been shown to be beyond ``tolerance`` with this spread and number of pairs.

    From the power of the one-sided t test, by the noncentral t distribution (Lehmann and Romano 2005, section 5.2).
    """
    values = finite(log_ratios, least=2)
    spread = max(float(values.std(ddof=1)), floor)
    return change_seen(spread, len(values), tolerance=tolerance, alpha=alpha, power=power)


def change_seen(spread: float, pairs: int, *, tolerance: float, alpha: float, power: float) -> float:
    """The smallest true change (0.02: 2 %) that ``pairs`` launch pairs, whose log ratios have the standard deviation ``spread``, show to
    be beyond ``tolerance`` with ``power``: see ``visible_change``.

    Raises ValueError with fewer than two pairs.
    """
    if pairs < 2:
        raise ValueError(f"{pairs} launch pairs have no spread: at least 2 are needed")
    return math.expm1(min(math.log1p(tolerance) + _distance(pairs, alpha, power) * spread / math.sqrt(pairs), 700.0))


def pairs_needed(spread: float, distance: float, *, alpha: float, power: float, most: int = 10_000) -> int:
    """Launch pairs with which a true change ``distance`` (log units) beyond the tolerance is shown, given the spread of one pair."""
    if distance <= 0:
        raise ValueError("the change must lie beyond the tolerance")
    low, high = 2, most
    while low < high:  # what can be seen shrinks with every pair: halve the range
        middle = (low + high) // 2
        enough = _distance(middle, alpha, power) * spread / math.sqrt(middle) <= distance
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def _standard_error(values: np.ndarray[tuple[int], np.dtype[np.float64]], floor: float) -> float:
    return max(float(values.std(ddof=1)), floor) / math.sqrt(len(values))


@cache
def _critical(probability: float, freedom: int) -> float:
    """Student's quantile, remembered: a sequence of looks asks for the same few again and again."""
    return float(stats.t.ppf(probability, freedom))


@cache
def _distance(pairs: int, alpha: float, power: float) -> float:
    """The noncentrality (in standard errors) at which a one-sided t test of level ``alpha`` has ``power``."""
    freedom = pairs - 1
    critical = float(stats.t.isf(alpha, freedom))
    # The noncentral t's tail overflows for huge critical values; there the numerator's spread is nothing beside the critical value, and
    # P(shift > critical * s) = power, s^2 a chi square over its freedom, is the limit.
    if critical > 35:
        return critical * math.sqrt(float(stats.chi2.ppf(power, freedom)) / freedom)
    high = critical + 10 * math.sqrt(1 + critical**2 / (2 * freedom))
    return float(optimize.brentq(lambda shift: float(stats.nct.sf(critical, freedom, shift)) - power, 0.0, high, xtol=1e-6))
