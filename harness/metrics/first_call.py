"""See FirstCall."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit


class FirstCall(Options):
    """Time of the first query, apart from steady state."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.NANOSECONDS
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 5e6
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """The first query of a fresh process, in ns: lazy initialisation and cold caches included."""
        return float(run.first_call_ns)

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        first, second = self.of_run(baseline, batch_size), self.of_run(candidate, batch_size)
        if isinstance(first, Absent) or isinstance(second, Absent):
            return Absent("first_call", "not known for one of the arms")
        return math.log(second / first)


PLUGIN = FirstCall
