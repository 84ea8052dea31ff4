"""See PowerMean."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit
from harness.metrics import _telemetry


class PowerMean(Options):
    """Mean power of the device while queries ran, idle power included."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.WATTS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """The joules of the launch's slices over their time."""
        found = _telemetry.joules("power_mean", run)
        if isinstance(found, Absent) or run.telemetry is None:
            return found
        return found / (run.telemetry.timed_ns / 1e9)

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        return _telemetry.log_ratio(self.of_run, baseline, candidate, batch_size)


PLUGIN = PowerMean
