"""See ErrorRate."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.serving import LoadRun
from harness.core.units import Unit
from harness.metrics import _served


class ErrorRate(Options):
    """Share of requests that were not answered: errors, timeouts and requests that could not be sent."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.FRACTION
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.001
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """Broken requests over all that were due."""
        return _served.of_load("error_rate", run, lambda load: (load.due - load.answered) / load.due, "")

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both counts, half a request added to each, so that none broken has a ratio too (Haldane, 1956)."""
        if baseline.served is None or candidate.served is None:
            return Absent("error_rate", _served.ONLY_SERVED)
        return math.log(_smoothed(candidate.served) / _smoothed(baseline.served))


def _smoothed(load: LoadRun) -> float:
    return (load.due - load.answered + 0.5) / (load.due + 1)


PLUGIN = ErrorRate
