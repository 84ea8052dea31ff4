"""Candidate against baseline, and what is decided from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from harness.core.estimate import ConfidenceInterval, Direction
from harness.core.units import Unit


class Verdict(StrEnum):
    """What is decided; the order is from harmless to grave (``worst`` takes the gravest)."""

    PASS = "PASS"
    IMPROVED = "IMPROVED"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"
    REGRESSED = "REGRESSED"


class SlaState(StrEnum):
    """KEPT and BROKEN are shown by a bound; UNPROVEN needs more queries; UNMEASURED has no number here at all."""

    KEPT = "KEPT"
    BROKEN = "BROKEN"
    UNPROVEN = "UNPROVEN"
    UNMEASURED = "UNMEASURED"


Scale = Literal["ratio", "difference"]
"""``ratio``: candidate / baseline, 1 is no change. ``difference``: candidate - baseline, 0 is no change (accuracy)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one trial, candidate against baseline.

    ``effect`` and ``interval`` are on ``scale``; ``tolerance`` is a positive distance from no change in the bad direction
    (0.02: 2 % on the ratio scale, 2 points on the difference scale). ``floor`` is the smallest absolute change, in the metric's
    unit, that may be called a regression. ``visible_change`` is the smallest change that would have been seen at 80 % power, on the
    same scale, or None where it is exact. ``method`` names how it was computed, in words for the page. ``advisory`` marks a
    comparison that is told but decides nothing. ``p_value`` is the one-sided mid-p McNemar p-value against "not worse", where samples
    are right or wrong.
    """

    trial: str
    metric: str
    unit: Unit
    better: Direction
    scale: Scale
    baseline: float
    candidate: float
    effect: float
    interval: ConfidenceInterval
    tolerance: float
    floor: float
    n: int
    n_of: str
    method: str
    visible_change: float | None
    verdict: Verdict
    reason: str
    advisory: bool = False
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class SlaFinding:
    """One SLA clause on one trial: the clause as written, its value, the bound that shows it, and the state."""

    trial: str
    metric: str
    clause: str
    unit: Unit | None
    value: float | None
    bound: float | None
    limit: float | None
    state: SlaState
    reason: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class NullControl:
    """The baseline against itself through the same pipeline: red means that the machine is not fit for a verdict."""

    trial: str
    comparisons: tuple[Comparison, ...]
    red: bool
