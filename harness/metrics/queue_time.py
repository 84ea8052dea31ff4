"""See QueueTime."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.serving import LoadRun
from harness.core.units import Unit
from harness.metrics import _served


class QueueTime(Options):
    """Time that a request waited in the server's queue, the mean by the server's own counters."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 2_000.0
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """Queue time of all requests over their number."""
        return _served.of_load("queue_time", run, _figure, "the server does not tell how long requests waited")

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        return _served.log_ratio("queue_time", self.of_run(baseline, batch_size), self.of_run(candidate, batch_size))


def _figure(load: LoadRun) -> float | None:
    counted = load.server
    return None if counted is None or counted.queue_ns is None or not counted.samples else counted.queue_ns / max(1, counted.answered)


PLUGIN = QueueTime
