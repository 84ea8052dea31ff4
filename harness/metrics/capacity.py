"""See Capacity."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.serving import LoadRun
from harness.core.units import Unit
from harness.metrics import _served


class Capacity(Options):
    """Requests a second, the most at which every promised latency was kept, by a search on each launch's server."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.PER_SECOND
    better: ClassVar[Direction] = "higher"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """The highest rate that kept the promises; see engine/find_capacity. A lower bound is told as the reason of an absent one."""
        note = "" if run.served is None else run.served.capacity_note
        return _served.of_load("capacity", run, _figure, note or "'measure.capacity' is not asked for")

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        return _served.log_ratio("capacity", self.of_run(baseline, batch_size), self.of_run(candidate, batch_size))


def _figure(load: LoadRun) -> float | None:
    return load.capacity_per_s


PLUGIN = Capacity
