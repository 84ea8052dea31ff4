"""Where intervals hold the truth less often than they say: is another interval, or another truth, the better one?

A launch pair that was spoiled as a whole lies tens of spreads away. It moves the mean of all pairs, which few draws then hold, and a draw
that has it gets an interval that holds everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from .records import PairRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Interval = Callable[["NDArray[np.float64]", float], tuple["NDArray[np.float64]", "NDArray[np.float64]"]]
    Truth = Callable[["NDArray[np.float64]"], float]

DRAWS = 20_000
SIZES = (5, 10, 20)
LEVELS = (0.90, 0.99)
TRIMMED = 0.2
METRIC = "latency_p50"


def student(draws: NDArray[np.float64], level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Student's t interval of the mean of each row: what the gate decides by."""
    size = draws.shape[1]
    half = stats.t.ppf(0.5 + level / 2, size - 1) * draws.std(axis=1, ddof=1) / np.sqrt(size)
    return draws.mean(axis=1) - half, draws.mean(axis=1) + half


def yuen(draws: NDArray[np.float64], level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interval of the mean without the outer fifths, with the spread of the winsorized rows (Tukey and McLaughlin 1963; Yuen 1974)."""
    size = draws.shape[1]
    cut = int(TRIMMED * size)
    ordered = np.sort(draws, axis=1)
    middle = ordered[:, cut : size - cut].mean(axis=1)
    winsorized = np.clip(ordered, ordered[:, [cut]], ordered[:, [size - cut - 1]])
    kept = size - 2 * cut
    error = np.sqrt((size - 1) * winsorized.var(axis=1, ddof=1) / (kept * (kept - 1)))
    half = stats.t.ppf(0.5 + level / 2, kept - 1) * error
    return middle - half, middle + half


def mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))


def trimmed_mean(values: NDArray[np.float64]) -> float:
    return float(stats.trim_mean(values, TRIMMED))


WAYS: dict[str, tuple[Interval, Truth]] = {
    "t interval, mean of all pairs": (student, mean),
    "t interval, median of all pairs": (student, median),
    "trimmed t interval, trimmed mean": (yuen, trimmed_mean),
}
"""An interval, and what of all pairs it is to hold."""


def shares(records: Sequence[PairRecord], way: str) -> dict[tuple[int, float], float]:
    """How often draws of each size hold the truth at each level."""
    interval, truth = WAYS[way]
    values = np.array([record.log_ratios[METRIC] for record in records])
    generator = np.random.default_rng(0)
    found = {}
    for size in SIZES:
        draws = values[generator.integers(0, len(values), (DRAWS, size))]
        for level in LEVELS:
            low, high = interval(draws, level)
            found[size, level] = float(np.mean((low <= truth(values)) & (truth(values) <= high)))
    return found


def farthest_pair(records: Sequence[PairRecord]) -> float:
    """How many spreads the pair that lies farthest from the median does, by the median absolute deviation."""
    values = np.array([record.log_ratios[METRIC] for record in records])
    return float(np.abs(values - np.median(values)).max() / stats.median_abs_deviation(values, scale="normal"))
