"""See LatencyP90."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit
from harness.metrics import _latency


class LatencyP90(Options):
    """Time of a query that 90 of 100 do not exceed."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = 0.05
    floor: ClassVar[float] = _latency.FLOOR_NS
    queries: ClassVar[int] = 50

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """The quantile of all the launch's latencies, in ns."""
        return _latency.tail_of_run("latency_p90", run, 0.90)

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' quantiles."""
        return _latency.tail_log_ratio("latency_p90", baseline, candidate, 0.90)


PLUGIN = LatencyP90
