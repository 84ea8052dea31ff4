"""What the metrics of a load over the network share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.core.estimate import Absent

if TYPE_CHECKING:
    from harness.core.measurement import Run
    from harness.core.serving import LoadRun

ONLY_SERVED = "only a load over the network has it: 'load: {locust: {rate: 100 /s}}'"


def of_load(metric: str, run: Run, figure: Callable[[LoadRun], float | None], absent: str) -> float | Absent:
    """A figure of the launch's load, or why there is none: another kind of load, or the reason ``absent``."""
    if run.served is None:
        return Absent(metric, ONLY_SERVED)
    found = figure(run.served)
    return Absent(metric, absent) if found is None else found


def log_ratio(metric: str, baseline: float | Absent, candidate: float | Absent) -> float | Absent:
    """log(candidate / baseline) of two figures; Absent where one is, or where one is 0."""
    if isinstance(baseline, Absent):
        return baseline
    if isinstance(candidate, Absent):
        return candidate
    if baseline <= 0 or candidate <= 0:
        return Absent(metric, "a launch has 0 of it: there is no ratio")
    return math.log(candidate / baseline)
