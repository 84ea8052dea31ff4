"""See DeviceTime."""

from __future__ import annotations

import math
import statistics
from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit
from harness.metrics import _latency


class DeviceTime(Options):
    """Median time of a query by the device's own clock (CUDA events): what the host adds to it is the rest of latency_p50."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = _latency.FLOOR_NS
    queries: ClassVar[int] = 20

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """The median of the launch's queries, in ns."""
        times = [time for piece in run.slices for time in piece.device_ns]
        return statistics.median(times) if times else Absent("device_time", "this device has no clock of its own")

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' medians."""
        before, after = self.of_run(baseline, batch_size), self.of_run(candidate, batch_size)
        if isinstance(before, Absent) or isinstance(after, Absent):
            return before if isinstance(before, Absent) else after
        return math.log(after / before)


PLUGIN = DeviceTime
