"""Where the level of a series of sessions changed for good: E-divisive means, without random permutations.

The split: energy statistics (Matteson and James 2014, "A nonparametric approach for multiple change point analysis of multivariate data",
Journal of the American Statistical Association 109). Used on performance results by Daly, Brown, Ingo, O'Leary and Bradford 2020 ("The use
of change point detection to identify software performance regressions in a continuous integration system", ICPE). As Fleming, Kołaczkowski
and others 2023 ("Hunter: using change point detection to hunt for performance regressions", ICPE): in windows, so that what is long past
does not blur what is new; Student's t test in place of permutations, so that the same series always gives the same answer; split with a
weaker test first, for the strict one would stop before a change that a second one hides; then merged.

Our own: a change must stand, in significance and in size, whichever one session is left out, so that no single session makes one.

Assumption: sessions within a segment are independent, and their means near enough to normal for Student's t. The p-value is of one
test and not of the search; how often noise alone is called a change is found by simulation in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.core.comparison import Scale
from harness.core.trend import ChangePoint
from harness.stats.checks import finite

Values = NDArray[np.float64]
WEAKER = 10.0
"""How many times the p-value the first split may have, as in Hunter."""
ROUNDING = 1e-12
"""A standard error, as a share of the largest value, below which a difference is one of rounding."""


def change_points(
    values: Sequence[float],
    *,
    window: int = 50,
    p: float = 1e-4,
    least_change: float = 0.0,
    least_segment: int = 3,
    scale: Scale = "ratio",
) -> list[ChangePoint]:
    """The changes of level in the order of the series; none where there are fewer than two segments' values.

    ``least_change`` is the smallest that is told: a share of the mean before it (0.02: 2 %), or a difference where ``scale`` says so.
    Raises ValueError for NaN or infinity, a segment of fewer than 2 and a window of fewer than two segments.
    """
    if least_segment < 2 or window < 2 * least_segment:
        raise ValueError(f"segments of {least_segment} in a window of {window}: needed are 2 and twice the segment")
    if len(values) < 2 * least_segment:
        finite(values, least=0)
        return []
    series = finite(values)
    demand = _Demand(p, least_change, least_segment, scale)
    found: set[int] = set()
    for start in _window_starts(len(series), window):
        found |= {start + index for index in _split(series[start : start + window], p * WEAKER, least_segment)}
    merged = _merge(series, sorted(found), demand)
    return [
        _change(series, *place, scale) for place in _places(_merge(series, _relocate(series, merged, least_segment), demand), len(series))
    ]


def energy(before: Sequence[float], after: Sequence[float]) -> float:
    """How far two samples of at least two values lie apart: Q of Matteson and James (equations 5 and 6), with exponent 1.

    Twice the mean distance between the samples, less the mean distances inside each, times mn / (m + n).
    """
    first, second = finite(before, least=2), finite(after, least=2)
    sums = _distance_sums(np.concatenate([first, second]))
    cut, end = np.array([len(first)]), np.array([len(first) + len(second)])
    return float(_energies(sums, cut, end)[0])


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a change must show."""

    p: float
    least_change: float
    least_segment: int
    scale: Scale


def _window_starts(count: int, window: int) -> Iterable[int]:
    """Windows overlap by half; the last ends with the series."""
    last = max(0, count - window)
    return [*range(0, last, window // 2), last]


def _split(values: Values, p: float, least: int) -> set[int]:
    """Halve at the split of the greatest energy for as long as the weaker test finds its sides apart."""
    if len(values) < 2 * least:
        return set()
    cut, end = _best_split(values, least)
    if _p_value(values[:cut], values[cut:end]) > p:
        return set()
    return {cut} | _split(values[:cut], p, least) | {cut + index for index in _split(values[cut:], p, least)}


def _best_split(values: Values, least: int, *, to_the_end: bool = False) -> tuple[int, int]:
    """Where the right side begins and ends. It may end early (equation 7 there): of a change that goes back, one side alone is seen."""
    count = len(values)
    cuts, ends = np.meshgrid(np.arange(least, count - least + 1), np.array([count]) if to_the_end else np.arange(2 * least, count + 1))
    possible = ends - cuts >= least
    cuts, ends = cuts[possible], ends[possible]
    best = int(np.argmax(_energies(_distance_sums(values), cuts, ends)))
    return int(cuts[best]), int(ends[best])


def _distance_sums(values: Values) -> Values:
    """[n + 1, n + 1]: at i, j the sum of the distances of the first i to the first j values."""
    sums = np.zeros((len(values) + 1, len(values) + 1))
    sums[1:, 1:] = np.abs(values[:, None] - values[None, :]).cumsum(axis=0).cumsum(axis=1)
    return sums


def _energies(sums: Values, cuts: NDArray[np.int64], ends: NDArray[np.int64]) -> Values:
    """Q of the first ``cut`` values against those from there to ``end``, for every pair of the two."""
    m, n = cuts, ends - cuts
    inside_first = sums[cuts, cuts]
    between = sums[cuts, ends] - inside_first
    inside_second = sums[ends, ends] - 2 * sums[cuts, ends] + inside_first
    # every pair inside a sample is in its sum twice
    apart = 2 * between / (m * n) - inside_first / (m * (m - 1)) - inside_second / (n * (n - 1))
    found: Values = apart * m * n / (m + n)
    return found


def _merge(values: Values, found: list[int], demand: _Demand) -> list[int]:
    """Take the least significant point away until all are significant, then the smallest until all are large enough.

    Each time the segments beside it become one, so that the others are tested anew against what is really beside them.
    """
    kept = list(found)
    while kept:
        places = list(_places(kept, len(values)))
        p_values = [
            _p_value(values[start:cut], values[cut:end]) if min(cut - start, end - cut) >= demand.least_segment else math.inf
            for start, cut, end in places
        ]
        weakest = int(np.argmax(p_values))
        if p_values[weakest] <= demand.p:
            sizes = [_least_size(values[start:cut], values[cut:end], demand.scale) for start, cut, end in places]
            weakest = int(np.argmin(sizes))
            if sizes[weakest] >= demand.least_change:
                return kept
        del kept[weakest]
    return kept


def _relocate(values: Values, found: list[int], least: int) -> list[int]:
    """Every point at the best split between its neighbours: a window may have ended before the new level was seen whole."""
    moved = []
    for start, _, end in _places(found, len(values)):
        cut, _ = _best_split(values[start:end], least, to_the_end=True)
        moved.append(start + cut)
    return sorted(set(moved))


def _places(found: Sequence[int], count: int) -> Iterable[tuple[int, int, int]]:
    """(start of the segment before, the point, end of the segment after) of each."""
    edges = [0, *found, count]
    return zip(edges, edges[1:], edges[2:], strict=False)


def _change(values: Values, start: int, cut: int, end: int, scale: Scale) -> ChangePoint:
    before, after = values[start:cut], values[cut:end]
    return ChangePoint(cut, float(before.mean()), float(after.mean()), _p_value(before, after))


def _p_value(before: Values, after: Values) -> float:
    """Two-sided p-value of Student's t test with a common variance (Student 1908): the largest, whichever one value is left out."""
    means_before, means_after, squares = _one_left_out(before, after)
    m, n = len(before), len(after)
    freedom = m + n - 3
    sizes = np.concatenate([np.full(m, 1 / (m - 1) + 1 / n), np.full(n, 1 / m + 1 / (n - 1))])
    rounding = ROUNDING * max(float(np.abs(before).max()), float(np.abs(after).max()))
    errors = np.maximum(np.sqrt(np.maximum(squares, 0) / freedom * sizes), max(rounding, 1e-300))
    return float((2 * stats.t.sf(np.abs(means_after - means_before) / errors, freedom)).max())


def _least_size(before: Values, after: Values, scale: Scale) -> float:
    """The change of the mean on its scale, the smallest, whichever one value is left out."""
    means_before, means_after, _ = _one_left_out(before, after)
    differences = np.abs(means_after - means_before)
    if scale == "difference":
        return float(differences.min())
    return float((differences / np.maximum(np.abs(means_before), 1e-300)).min())


def _one_left_out(before: Values, after: Values) -> tuple[Values, Values, Values]:
    """Both means and the sum of squares about them, once for every value of both that is left out."""
    m, n = len(before), len(after)
    off_before, off_after = before - before.mean(), after - after.mean()
    means_before = np.concatenate([before.mean() - off_before / (m - 1), np.full(n, before.mean())])
    means_after = np.concatenate([np.full(m, after.mean()), after.mean() - off_after / (n - 1)])
    taken = np.concatenate([off_before**2 * m / (m - 1), off_after**2 * n / (n - 1)])
    return means_before, means_after, (off_before**2).sum() + (off_after**2).sum() - taken
