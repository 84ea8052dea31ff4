"""Numbers that know how uncertain they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from harness.core.units import Unit

Direction = Literal["lower", "higher", "none"]
"""Which way a metric is better; ``none`` is told and never judged."""


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """A two-sided interval, or a one-sided one with an infinite end; ``level`` is its confidence (0.99)."""

    low: float
    high: float
    level: float

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise ValueError(f"not an interval: {self.low} to {self.high}")
        if not 0 < self.level < 1:
            raise ValueError(f"not a confidence level: {self.level}")


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number with unit, interval and what it was computed from ("5 launches", "540 samples").

    ``interval`` is None where the number is exact (a file's size).
    """

    metric: str
    unit: Unit
    better: Direction
    value: float
    interval: ConfidenceInterval | None
    n: int
    n_of: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.metric} is not a finite number: {self.value}")


@dataclass(frozen=True, slots=True)
class Absent:
    """A metric that has no value here, and why. Missing is not zero."""

    metric: str
    reason: str
