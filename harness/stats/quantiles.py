"""Quantiles of latencies, and how many samples they take."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from harness.stats.checks import finite

BEYOND = 5
"""A quantile of one launch is only told when at least this many samples lie beyond it."""
LEAST = 20


def quantile(values: Iterable[float], q: float) -> float:
    """The quantile by linear interpolation of order statistics: definition 7 of Hyndman and Fan (1996), numpy's default."""
    return float(np.quantile(finite(values), q))


def samples_needed(q: float) -> int:
    """Samples a launch needs before its q-quantile is told: 20 for the median, 50 for p90, 100 for p95, 500 for p99."""
    if not 0 < q < 1:
        raise ValueError(f"a quantile lies between 0 and 1, not {q}")
    return max(LEAST, math.ceil(round(BEYOND / min(q, 1 - q), 6)))
