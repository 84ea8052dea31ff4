"""See LatencyP50."""

from __future__ import annotations

import statistics
from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit
from harness.metrics import _latency


class LatencyP50(Options):
    """Median time of a query (of the whole batch)."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = 0.02
    floor: ClassVar[float] = _latency.FLOOR_NS
    queries: ClassVar[int] = 20

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """The median of the launch's latencies, in ns."""
        return _latency.tail_of_run("latency_p50", run, 0.5)

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The median over neighbouring slices of the log ratio of their median latencies."""
        return _latency.slice_log_ratio("latency_p50", baseline, candidate, statistics.median)


PLUGIN = LatencyP50
