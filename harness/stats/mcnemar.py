"""Right and wrong answers on the same samples in both arms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from harness.core.estimate import ConfidenceInterval


def discordant(baseline: NDArray[np.float64], candidate: NDArray[np.float64]) -> tuple[int, int, int]:
    """(lost, gained, samples): right before and wrong now, wrong before and right now, all. Raises ValueError when unequal or empty."""
    if len(baseline) == 0 or len(baseline) != len(candidate):
        raise ValueError(f"paired samples are needed, got {len(baseline)} and {len(candidate)}")
    lost = int(np.sum((baseline == 1) & (candidate == 0)))
    gained = int(np.sum((baseline == 0) & (candidate == 1)))
    return lost, gained, len(baseline)


def mid_p(lost: int, gained: int) -> float:
    """One-sided mid-p McNemar p-value against "not worse": half the probability of what was seen, and all of what is more extreme
    (Lancaster 1961; Fagerland, Lydersen and Laake 2013)."""
    changed = lost + gained
    if changed == 0:
        return 0.5
    return float(stats.binom.sf(lost, changed, 0.5) + 0.5 * stats.binom.pmf(lost, changed, 0.5))


def beyond_p(lost: int, gained: int, samples: int, margin: float) -> float:
    """One-sided p-value against "the drop is at most ``margin``": the largest of three, so that each of them shows it.

    The score test on the margin, which is where the interval's end lies (Tango 1998); the binomial mid-p of as many lost samples, were
    the share of gained ones just what was seen; and the mid-p McNemar test against "not worse". The first alone is too eager where
    hardly a sample is gained. How often a drop of just 0.5 points was called larger, as a multiple of the level (0.01, 0.01 / 6, 0.001;
    400,000 draws each), the score test alone and all three:

    ========  ==============  ==================  ==================
     samples  gained, share   score test          all three
    ========  ==============  ==================  ==================
     400      0.5 %           0.8    0.2    0.1   0.8    0.2    0.1
     2,000    0 %             1.4    2.0    3.4   0.7    1.0    0.7
     2,000    0.2 %           1.2    1.6    2.4   1.1    1.3    1.5
     5,000    0 %             1.4    2.0    2.0   0.9    1.2    1.1
     5,000    0.2 %           1.2    1.3    1.3   1.2    1.3    1.2
     5,000    0.5 %           1.1    1.1    1.1   1.1    1.1    1.1
    ========  ==============  ==================  ==================
    """
    if margin < 0 or samples < lost + gained or samples < 1:
        raise ValueError(f"not a margin or not a sample: {margin}, {lost} and {gained} of {samples}")
    score = float(stats.norm.cdf(_score(lost, gained, samples, -margin)))
    expected = min(1.0, margin + gained / samples)
    alone = float(stats.binom.sf(lost, samples, expected) + 0.5 * stats.binom.pmf(lost, samples, expected))
    return max(score, alone, mid_p(lost, gained))


def difference_interval(baseline: NDArray[np.float64], candidate: NDArray[np.float64], level: float) -> ConfidenceInterval:
    """The two-sided score interval of the paired difference candidate - baseline (Tango 1998): holds its level for few changed samples too.

    A margin is tested by where the interval's end lies (non-inferiority by inclusion).
    """
    lost, gained, samples = discordant(baseline, candidate)
    z = float(stats.norm.ppf((1 + level) / 2))
    observed = (gained - lost) / samples
    low = _bound(lost, gained, samples, -z, -1 + 1e-9, observed)
    high = _bound(lost, gained, samples, z, observed, 1 - 1e-9)
    return ConfidenceInterval(min(low, observed), max(high, observed), level)


def samples_needed(changed_share: float, margin: float, *, alpha: float, power: float) -> int:
    """Samples with which "no worse than ``margin``" can be shown when the arms are equal and this share of samples changes its answer
    (Lachenbruch 1992: normal approximation of McNemar's test)."""
    if margin <= 0:
        raise ValueError("a margin is positive")
    z = float(stats.norm.isf(alpha) + stats.norm.ppf(power))
    return math.ceil(z**2 * max(changed_share, 1e-6) / margin**2)


def _bound(lost: int, gained: int, samples: int, z: float, start: float, end: float) -> float:
    """Where Tango's score statistic for the difference d equals -z (upper) or z (lower)."""

    def excess(difference: float) -> float:
        return _score(lost, gained, samples, difference) + z

    if excess(start) * excess(end) > 0:
        return start if z < 0 else end
    return float(optimize.brentq(excess, start, end, xtol=1e-10))


def _score(lost: int, gained: int, samples: int, difference: float) -> float:
    """Tango's score statistic of the difference, with the restricted maximum likelihood estimate of the "lost" probability."""
    a, b = 2.0 * samples, -gained - lost + (2 * samples - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    p = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = samples * (2 * p + difference * (1 - difference))
    return (gained - lost - samples * difference) / math.sqrt(max(variance, 1e-300))
