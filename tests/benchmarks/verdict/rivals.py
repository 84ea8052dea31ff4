"""What the rules of other tools say of single launches. Each is written anew from what its source does, with its defaults.

All get the latencies of whole process launches, warmed up and on one pinned core: better care than the tools themselves take of it. A rule
is asked one question: is the second sample slower than the first?
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Launch = Sequence[float]
"""The latencies of one process launch in order, in ns."""
RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Rule:
    """``says(base, head, generator)`` is True where the rule calls the head slower; it takes so many launches of each arm."""

    name: str
    launches: int
    says: Callable[[Sequence[Launch], Sequence[Launch], np.random.Generator], bool]
    told: str


def mean_up(base: Sequence[Launch], head: Sequence[Launch], generator: np.random.Generator) -> bool:
    """pytest-benchmark, ``--benchmark-compare-fail=mean:5%`` (``pytest_benchmark/utils.py``, ``PercentageRegressionCheck``): the mean is
    more than 5 % higher. There is no default threshold; 5 % is what its documentation shows."""
    return statistics.fmean(head[0]) / statistics.fmean(base[0]) * 100 - 100 > 5


def median_up(base: Sequence[Launch], head: Sequence[Launch], generator: np.random.Generator) -> bool:
    """pytest-benchmark, ``--benchmark-compare-fail=median:5%``."""
    return statistics.median(head[0]) / statistics.median(base[0]) * 100 - 100 > 5


def student(base: Sequence[Launch], head: Sequence[Launch], generator: np.random.Generator) -> bool:
    """pyperf, ``compare_to`` (``pyperf/_utils.py``, ``is_significant``): Student's two-sample t with pooled variance, two-sided 95 %, on
    all values of all processes; by default 20 processes of 3 values (``pyperf/_runner.py``)."""
    before, after = _values(base, 3), _values(head, 3)
    pooled = (before.var(ddof=1) + after.var(ddof=1)) / 2
    if pooled == 0:
        return bool(after.mean() > before.mean())
    score = (after.mean() - before.mean()) / np.sqrt(2 * pooled / len(before))
    return bool(score >= _critical(len(before) + len(after) - 2))


def student_and_speed(base: Sequence[Launch], head: Sequence[Launch], generator: np.random.Generator) -> bool:
    """pyperf, ``compare_to --min-speed 5`` (``pyperf/_compare.py``, ``CompareResult``): significant, and the means differ by 5 % or more.
    The option has no default."""
    ratio = _values(head, 3).mean() / _values(base, 3).mean()
    return bool((ratio - 1) * 100 >= 5) and student(base, head, generator)


def u_test(base: Sequence[Launch], head: Sequence[Launch], generator: np.random.Generator) -> bool:
    """Google Benchmark, ``tools/compare.py`` (``tools/gbench/report.py``, ``calc_utest``): two-sided Mann-Whitney U on the repetitions of
    one process each, ``--alpha`` 0.05; 9 repetitions are what it recommends. Slower is what it colours with a higher median."""
    before, after = _values(base, 9), _values(head, 9)
    p = stats.mannwhitneyu(before, after, alternative="two-sided").pvalue
    return bool(p < 0.05 and np.median(after) > np.median(before))


def bootstrap(base: Sequence[Launch], head: Sequence[Launch], generator: np.random.Generator) -> bool:
    """criterion.rs (``src/analysis/compare.rs``, ``src/report.rs``, ``compare_to_threshold``): a bootstrapped two-sample t with p < 0.05,
    and the 95 % percentile interval of the ratio of means wholly above its ``noise_threshold`` of 1 %.

    1,000 resamples here and 100,000 there; as many values as there are latencies here, and 100 there.
    """
    before, after = np.asarray(base[0], dtype=np.float64), np.asarray(head[0], dtype=np.float64)
    together = np.concatenate([before, after])
    null = _welch(_resampled(together, len(after), generator), _resampled(together, len(before), generator))
    seen = float(_welch(after[None], before[None])[0])
    below = float((null < seen).mean())
    if 2 * min(below, 1 - below) >= 0.05:
        return False
    ratios = _resampled(after, len(after), generator).mean(axis=1) / _resampled(before, len(before), generator).mean(axis=1)
    return bool(np.quantile(ratios, 0.025) > 1.01)


def u_test_and_factor(base: Sequence[Launch], head: Sequence[Launch], generator: np.random.Generator) -> bool:
    """asv, ``asv continuous`` (``asv/_stats.py``, ``is_different``; ``asv/commands/compare.py``, ``_is_result_better``): Mann-Whitney U
    with p < 0.002, and the median more than ``--factor`` 1.1 times as high; 2 rounds, each a process, of 5 samples."""
    before, after = _values(base, 5), _values(head, 5)
    p = stats.mannwhitneyu(before, after, alternative="two-sided", method="exact").pvalue
    return bool(p < 0.002 and np.median(before) < np.median(after) / 1.1)


RULES = (
    Rule("mean more than 5 % up", 1, mean_up, "pytest-benchmark, mean:5%"),
    Rule("median more than 5 % up", 1, median_up, "pytest-benchmark, median:5%"),
    Rule("Student's t, 95 %", 20, student, "pyperf compare_to"),
    Rule("Student's t, 95 %, and 5 % slower", 20, student_and_speed, "pyperf compare_to --min-speed 5"),
    Rule("U test, p < 0.05", 1, u_test, "Google Benchmark compare.py"),
    Rule("bootstrap, p < 0.05 and beyond 1 %", 1, bootstrap, "criterion.rs"),
    Rule("U test, p < 0.002, and factor 1.1", 2, u_test_and_factor, "asv continuous"),
)


def _values(launches: Sequence[Launch], count: int) -> NDArray[np.float64]:
    """So many values of each launch: means over equal parts of it, in order, as a tool times a loop of calls."""
    return np.array([part.mean() for launch in launches for part in np.array_split(np.asarray(launch, dtype=np.float64), count)])


def _critical(freedom: int) -> float:
    return float(stats.t.ppf(0.975, freedom))


def _resampled(values: NDArray[np.float64], size: int, generator: np.random.Generator) -> NDArray[np.float64]:
    return values[generator.integers(0, len(values), (RESAMPLES, size))]


def _welch(after: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """The two-sample t statistic, row by row."""
    error = after.var(axis=1, ddof=1) / after.shape[1] + before.var(axis=1, ddof=1) / before.shape[1]
    difference: NDArray[np.float64] = (after.mean(axis=1) - before.mean(axis=1)) / np.sqrt(np.maximum(error, 1e-300))
    return difference
