"""See LatencyP99."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit
from harness.metrics import _latency


class LatencyP99(Options):
    """Time of a query that 99 of 100 do not exceed."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = 0.10
    floor: ClassVar[float] = _latency.FLOOR_NS
    queries: ClassVar[int] = 500

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """The quantile of all the launch's latencies, in ns."""
        return _latency.tail_of_run("latency_p99", run, 0.99)

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' quantiles."""
        return _latency.tail_log_ratio("latency_p99", baseline, candidate, 0.99)


PLUGIN = LatencyP99
