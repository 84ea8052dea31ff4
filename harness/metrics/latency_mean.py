"""See LatencyMean."""

from __future__ import annotations

import statistics
from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit
from harness.metrics import _latency


class LatencyMean(Options):
    """Mean time of a query (of the whole batch)."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = _latency.FLOOR_NS
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """Total time over the number of queries of the launch, in ns: never a mean of means."""
        values = _latency.latencies(run)
        return statistics.fmean(values) if values else _latency.untimed("latency_mean")

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The median over neighbouring slices of the log ratio of their mean latencies."""
        return _latency.slice_log_ratio("latency_mean", baseline, candidate, statistics.fmean)


PLUGIN = LatencyMean
