"""What the latency metrics share: a launch's figure, and a pair's log ratio by slices."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from harness.core.estimate import Absent
from harness.core.measurement import Run

FLOOR_NS = 2_000.0
"""Changes under 2 µs are never called a regression: interpreter and clock jitter, however sharp the ratio."""


def latencies(run: Run) -> list[int]:
    """All query latencies of a launch in order, in ns; empty under loads that do not time single queries."""
    return [latency for piece in run.slices for latency in piece.latencies_ns]


def untimed(metric: str) -> Absent:
    return Absent(metric, "this load does not time single queries: use 'load: single_stream' for latencies")


def slice_log_ratio(metric: str, baseline: Run, candidate: Run, figure: Callable[[Sequence[int]], float]) -> float | Absent:
    """The median over neighbouring slices (slice i of one arm with slice i of the other) of log(candidate / baseline).

    A burst of a neighbour hits a few slices of both arms; the median does not see it.
    """
    pairs = list(zip(baseline.slices, candidate.slices, strict=False))
    if not all(first.latencies_ns and second.latencies_ns for first, second in pairs):
        return untimed(metric)
    return statistics.median(math.log(figure(second.latencies_ns) / figure(first.latencies_ns)) for first, second in pairs)


def tail_of_run(metric: str, run: Run, q: float) -> float | Absent:
    """The q-quantile of a launch's latencies, in ns, where enough samples lie beyond it."""
    from harness.stats.quantiles import quantile, samples_needed

    values = latencies(run)
    if not values:
        return untimed(metric)
    needed = samples_needed(q)
    if len(values) < needed:
        return Absent(metric, f"{metric} needs {needed} queries a launch, this one has {len(values)}: raise measure.duration")
    return quantile(values, q)


def tail_log_ratio(metric: str, baseline: Run, candidate: Run, q: float) -> float | Absent:
    """The log ratio of two launches' quantiles, over all their samples."""
    first, second = tail_of_run(metric, baseline, q), tail_of_run(metric, candidate, q)
    if isinstance(first, Absent):
        return first
    return second if isinstance(second, Absent) else math.log(second / first)
