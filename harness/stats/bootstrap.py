"""The paired bootstrap over evaluation samples, for scores that are not just right or wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.core.estimate import ConfidenceInterval
from harness.stats.checks import finite

RESAMPLES = 10_000
CHUNK_VALUES = 4_000_000


def mean_interval(values: NDArray[np.float64], level: float, generator: np.random.Generator) -> ConfidenceInterval:
    """The percentile interval of the mean over samples (Efron 1979), 10,000 resamples, in chunks of bounded memory.

    The interval always holds the observed mean.
    """
    array = finite(values)
    means = np.empty(RESAMPLES)
    chunk = max(1, CHUNK_VALUES // len(array))
    for start in range(0, RESAMPLES, chunk):
        stop = min(start + chunk, RESAMPLES)
        means[start:stop] = array[generator.integers(0, len(array), (stop - start, len(array)))].mean(axis=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    mean = float(array.mean())
    return ConfidenceInterval(min(float(low), mean), max(float(high), mean), level)


def mean_difference_interval(
    baseline: NDArray[np.float64], candidate: NDArray[np.float64], level: float, generator: np.random.Generator
) -> ConfidenceInterval:
    """The interval of the mean of candidate - baseline, the samples resampled in pairs. Raises ValueError when lengths differ."""
    if len(baseline) != len(candidate):
        raise ValueError(f"paired samples are needed, got {len(baseline)} and {len(candidate)}")
    return mean_interval(np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64), level, generator)
