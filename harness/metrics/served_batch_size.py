"""See ServedBatchSize."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.serving import LoadRun
from harness.core.units import Unit
from harness.metrics import _served


class ServedBatchSize(Options):
    """Samples in a batch that the server put together, on average."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NUMBER
    better: ClassVar[Direction] = "none"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """Samples over batches, by the server's own counters."""
        return _served.of_load("served_batch_size", run, _figure, "the server does not tell its batches")

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        return _served.log_ratio("served_batch_size", self.of_run(baseline, batch_size), self.of_run(candidate, batch_size))


def _figure(load: LoadRun) -> float | None:
    return load.mean_batch


PLUGIN = ServedBatchSize
