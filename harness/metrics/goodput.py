"""See Goodput."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.serving import LoadRun
from harness.core.units import Unit
from harness.metrics import _served


class Goodput(Options):
    """Answers a second that came within the promised latency, under a load over the network."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.PER_SECOND
    better: ClassVar[Direction] = "higher"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """Answers within the limit of the highest promised quantile, over the time from the first intended send to the last answer."""
        return _served.of_load(
            "goodput", run, _figure, "no latency is promised: 'sla: {latency_p99: at most 50 ms}' says what counts as in time"
        )

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        return _served.log_ratio("goodput", self.of_run(baseline, batch_size), self.of_run(candidate, batch_size))


def _figure(load: LoadRun) -> float | None:
    return load.in_time_per_s


PLUGIN = Goodput
