"""See RecoveryTime."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.serving import LoadRun
from harness.core.units import Unit
from harness.metrics import _served


class RecoveryTime(Options):
    """Time after a spike until latency is what it was before it."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """See the load's own definition of it."""
        return _served.of_load("recovery_time", run, _figure, "the load has no spike, or too few requests before or after it")

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        return _served.log_ratio("recovery_time", self.of_run(baseline, batch_size), self.of_run(candidate, batch_size))


def _figure(load: LoadRun) -> float | None:
    return load.recovery_ns


PLUGIN = RecoveryTime
