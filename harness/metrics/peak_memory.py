"""See PeakMemory."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit


class PeakMemory(Options):
    """Highest resident memory of the worker above its idle level with the framework imported."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.BYTES
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = 0.10
    floor: ClassVar[float] = 4 * 2.0**20
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """Peak less idle resident bytes; a page shared with the idle process is not counted."""
        above = run.peak_rss_bytes - run.idle_rss_bytes
        return float(above) if above > 0 else Absent("peak_memory", "the model took no memory above the worker's idle level")

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        first, second = self.of_run(baseline, batch_size), self.of_run(candidate, batch_size)
        if isinstance(first, Absent) or isinstance(second, Absent):
            return Absent("peak_memory", "not known for one of the arms")
        return math.log(second / first)


PLUGIN = PeakMemory
