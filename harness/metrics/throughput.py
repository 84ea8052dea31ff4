"""See Throughput."""

from __future__ import annotations

import math
import statistics
from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit
from harness.metrics import _served


class Throughput(Options):
    """Samples a second: all the work of a launch over all its time, under a load over the network what was answered of it."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.PER_SECOND
    better: ClassVar[Direction] = "higher"
    tolerance: ClassVar[float | None] = 0.05
    floor: ClassVar[float] = 0.0
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """Queries times batch size, over the time of all slices together; of a server answers, from the first intended send to the last."""
        if run.served is not None:
            return run.served.answered_per_s * batch_size
        return sum(piece.queries for piece in run.slices) * batch_size / (sum(piece.duration_ns for piece in run.slices) / 1e9)

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The median over neighbouring slices of the log ratio of their rates; of two servers the log ratio of what they answered."""
        if baseline.served is not None and candidate.served is not None:
            first, second = (self.of_run(run, batch_size) for run in (baseline, candidate))
            return _served.log_ratio("throughput", first, second)
        pairs = zip(baseline.slices, candidate.slices, strict=False)
        return statistics.median(
            math.log((second.queries / second.duration_ns) / (first.queries / first.duration_ns)) for first, second in pairs
        )


PLUGIN = Throughput
