"""What the metrics from telemetry share: why there is no number where there is none, and the ratio of two launches."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.core.estimate import Absent
from harness.core.measurement import Run
from harness.core.telemetry import Telemetry


def seen(metric: str, run: Run) -> Telemetry | Absent:
    """The launch's telemetry, or why it has none."""
    if run.telemetry is not None:
        return run.telemetry
    why = "is not taken under a load over the network" if run.served is not None else "was switched off (measure.telemetry)"
    return Absent(metric, f"telemetry {why}")


def joules(metric: str, run: Run) -> float | Absent:
    """The energy that the device took in the launch's slices; never zero: a counter that shows nothing is Absent."""
    telemetry = seen(metric, run)
    if isinstance(telemetry, Absent):
        return telemetry
    found = telemetry.joules
    return found if found is not None and found > 0 else Absent(metric, telemetry.no_energy or "no counter of energy was read")


def log_ratio(of_run: Callable[[Run, int], float | Absent], baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
    """The log ratio of both launches' figures, or the first reason why one has none."""
    first, second = of_run(baseline, batch_size), of_run(candidate, batch_size)
    if isinstance(first, Absent):
        return first
    if isinstance(second, Absent):
        return second
    return math.log(second / first)
