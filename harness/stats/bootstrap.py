"""The paired bootstrap over evaluation samples, for scores that are not just right or wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from harness.core.estimate import ConfidenceInterval
from harness.stats.checks import finite

RESAMPLES = 10_000
CHUNK_VALUES = 4_000_000
SAME = 1e-12
"""Means that differ by less than this share of the largest value are ties: the order of a sum is no evidence."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """What 10,000 resamples tell of a mean over samples; ``means`` are theirs, in order.

    Every end is the outer one of two: that of the bias-corrected and accelerated bootstrap (BCa, Efron 1987) and that of Student's t.
    BCa alone is too narrow for few samples, t alone for skewed scores. How often an end that should be wrong in 1 % and 0.1 % of all sets
    (a red), or in 5 % (a pass), was wrong, in percent (6,000 to 20,000 sets each, the differences skewed towards worse as a damaged
    model gives them: exponential, or one sample in ten changed by an exponential amount):

    ===========  =======  ==================  ==================  ==================  ==================
     differences samples  percentile          BCa                 percentile or t     BCa or t (this)
    ===========  =======  ==================  ==================  ==================  ==================
     normal      10       3.0   1.14    7.7   3.1   1.28    7.6   1.1   0.10    4.9   1.1   0.10    4.8
     normal      20       2.0   0.48    6.3   2.0   0.52    6.3   1.1   0.12    4.9   1.0   0.12    4.8
     normal      50       1.4   0.22    5.9   1.3   0.20    5.9   1.1   0.10    5.4   1.1   0.09    5.4
     normal      400      0.9   0.08    4.7   0.9   0.07    4.7   0.9   0.08    4.5   0.9   0.07    4.5
     exponential 10       0.6   0.08   15.4   1.1   0.21   12.4   0.1   0.00   13.3   0.1   0.00   11.8
     exponential 20       0.5   0.08   12.1   1.2   0.18    9.5   0.2   0.01   11.5   0.2   0.01    9.5
     exponential 50       0.4   0.00    8.8   1.0   0.08    6.8   0.1   0.00    8.7   0.1   0.00    6.8
     exponential 400      0.6   0.05    5.9   1.0   0.10    5.1   0.5   0.00    5.9   0.5   0.00    5.1
     one in ten  50       0.1   0.00   19.2   0.7   0.08   11.2   0.0   0.00   19.1   0.0   0.00   11.2
     one in ten  400      0.4   0.00    8.3   1.0   0.08    5.4   0.1   0.00    8.3   0.1   0.00    5.4
    ===========  =======  ==================  ==================  ==================  ==================

    So a red holds its level everywhere here; a pass on few samples with a long tail does not, and no interval from these samples could
    know of a tail that they do not show. A studentized bootstrap held better there, and is without bound where few samples changed.
    """

    mean: float
    error: float
    samples: int
    bias: float
    acceleration: float
    ties: float
    means: NDArray[np.float64]

    def interval(self, level: float) -> ConfidenceInterval:
        """The two-sided interval of the mean; it always holds the observed one."""
        if self.error == 0:
            return ConfidenceInterval(self.mean, self.mean, level)
        z = float(special.ndtri((1 + level) / 2))
        low, high = np.quantile(self.means, [self._share(-z), self._share(z)])
        reach = float(stats.t.ppf((1 + level) / 2, self.samples - 1)) * self.error
        return ConfidenceInterval(min(float(low), self.mean - reach), max(float(high), self.mean + reach), level)

    def above_p(self, bound: float) -> float:
        """One-sided p-value against "the mean is at most ``bound``": where the lower end lies just on it. One sample shows nothing."""
        return max(self._below(bound)) if self.samples > 1 else 1.0

    def below_p(self, bound: float) -> float:
        """One-sided p-value against "the mean is at least ``bound``"."""
        return 1 - min(self._below(bound)) if self.samples > 1 else 1.0

    def _share(self, z: float) -> float:
        """The share of resamples below the end of a normal deviate ``z``."""
        shifted = self.bias + z
        scale = 1 - self.acceleration * shifted
        return float(special.ndtr(self.bias + shifted / scale)) if scale > 0 else float(z > 0)

    def _below(self, bound: float) -> tuple[float, float]:
        """By BCa and by t, how much speaks for a mean of at most ``bound``."""
        if self.error == 0:
            return (float(self.mean <= bound),) * 2
        by_t = float(stats.t.cdf((bound - self.mean) / self.error, self.samples - 1))
        share = _share_below(self.means, bound, self.ties)
        if share in (0.0, 1.0):  # beyond every resample
            return share, by_t
        distance = float(special.ndtri(share)) - self.bias
        scale = 1 + self.acceleration * distance
        return (float(special.ndtr(distance / scale - self.bias)) if scale > 0 else float(distance > 0)), by_t


def resample(values: NDArray[np.float64], generator: np.random.Generator) -> Resampled:
    """Draw 10,000 resamples of the samples, in chunks of bounded memory."""
    array = finite(values)
    means = np.empty(RESAMPLES)
    chunk = max(1, CHUNK_VALUES // len(array))
    for start in range(0, RESAMPLES, chunk):
        stop = min(start + chunk, RESAMPLES)
        means[start:stop] = array[generator.integers(0, len(array), (stop - start, len(array)))].mean(axis=1)
    means.sort()
    mean, ties = float(array.mean()), SAME * float(np.abs(array).max())
    squares = float(((array - mean) ** 2).sum())
    if float(np.ptp(array)) <= ties:
        return Resampled(mean, 0.0, len(array), 0.0, 0.0, ties, means)
    return Resampled(
        mean=mean,
        error=math.sqrt(squares / (len(array) - 1) / len(array)),
        samples=len(array),
        bias=float(special.ndtri(np.clip(_share_below(means, mean, ties), 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES))),
        acceleration=float(((array - mean) ** 3).sum() / (6 * squares**1.5)),
        ties=ties,
        means=means,
    )


def mean_interval(values: NDArray[np.float64], level: float, generator: np.random.Generator) -> ConfidenceInterval:
    """The two-sided interval of the mean over samples; see ``Resampled``."""
    return resample(values, generator).interval(level)


def resample_difference(baseline: NDArray[np.float64], candidate: NDArray[np.float64], generator: np.random.Generator) -> Resampled:
    """The mean of candidate - baseline, the samples resampled in pairs. Raises ValueError when lengths differ."""
    if len(baseline) != len(candidate):
        raise ValueError(f"paired samples are needed, got {len(baseline)} and {len(candidate)}")
    return resample(np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64), generator)


def _share_below(means: NDArray[np.float64], bound: float, ties: float) -> float:
    """The share of means below ``bound``, ties counted half."""
    below, up_to = np.searchsorted(means, bound - ties, "left"), np.searchsorted(means, bound + ties, "right")
    return float(below + up_to) / (2 * len(means))
