"""How often the product's interval holds the truth, against how often it should.

The truth of resampling is the mean of all log ratios of the cell: draws are made from these. Beside it stands what was planted, which the
fixed part of a query makes a little larger than what is there, and the standard error by which the two may differ by chance.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from harness.stats import paired

from .cells import ARMS, Cell
from .records import PairRecord
from .replay import Clock, Source

METRICS = ("latency_p50", "latency_p90", "throughput")
SIZES = (4, 5, 10, 20)
LEVELS = (0.90, 0.99)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The share of ``draws`` intervals of ``size`` pairs that hold the truth; all log ratios.

    ``spread`` is the standard deviation from pair to pair, ``together`` the correlation of pairs of the same visit, ``error`` the standard
    error of ``truth`` with visits as its units. ``whole`` draws visits as they were taken, else single pairs were drawn.
    """

    cell: str
    metric: str
    size: int
    level: float
    whole: bool
    draws: int
    held: int
    truth: float
    planted: float
    error: float
    spread: float
    together: float


def coverage_of(cell: Cell, visits: Sequence[Sequence[PairRecord]], draws: int) -> list[Coverage]:
    """Both levels and ways of drawing, every size and metric that all pairs of the cell have."""
    records, found = list(chain.from_iterable(visits)), []
    for metric in METRICS:
        if not all(metric in record.log_ratios for record in records):
            continue
        groups = [[record.log_ratios[metric] for record in visit] for visit in visits]
        values = np.array(list(chain.from_iterable(groups)))
        truth, planted = float(values.mean()), math.log1p(ARMS[cell.arm].planted) * (-1 if metric == "throughput" else 1)
        spread, together = float(values.std(ddof=1)), intraclass(groups)
        for whole in (True, False):
            for size in SIZES:
                draw = random.Random(f"{cell.id}/{metric}/{size}/{whole}")
                held = dict.fromkeys(LEVELS, 0)
                for _ in range(draws):
                    sample = _drawn(visits, metric, size, draw) if whole else draw.choices(values.tolist(), k=size)
                    for level in LEVELS:
                        interval = paired.ratio_interval(sample, level)
                        held[level] += interval.low <= math.exp(truth) <= interval.high
                found += [
                    Coverage(
                        cell.id, metric, size, level, whole, draws, held[level], truth, planted, clustered_error(groups), spread, together
                    )
                    for level in LEVELS
                ]
    return found


def clustered_error(groups: Sequence[Sequence[float]]) -> float:
    """The standard error of the mean of all values, whose groups are the independent units (Cochran 1977, ratio of sums); NaN for one."""
    if len(groups) < 2:
        return math.nan
    mean, total = sum(map(sum, groups)) / sum(map(len, groups)), sum(map(len, groups))
    squares = sum(sum(value - mean for value in group) ** 2 for group in groups)
    return math.sqrt(len(groups) / (len(groups) - 1) * squares) / total


def intraclass(groups: Sequence[Sequence[float]]) -> float:
    """How alike values of one group are: the intraclass correlation of a one-way analysis of variance (Fisher 1925); 0 where unknown."""
    full = [group for group in groups if len(group) > 1]
    size = min((len(group) for group in full), default=0)
    if len(full) < 2 or size < 2:
        return 0.0
    table = np.array([list(islice(group, size)) for group in full])
    between, within = size * table.mean(axis=1).var(ddof=1), table.var(axis=1, ddof=1).mean()
    total = between + (size - 1) * within
    return float((between - within) / total) if total > 0 else 0.0


def _drawn(visits: Sequence[Sequence[PairRecord]], metric: str, size: int, draw: random.Random) -> list[float]:
    source = Source(visits, draw, Clock())
    return [source.take().log_ratios[metric] for _ in range(size)]
