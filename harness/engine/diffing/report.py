"""What ``harness diff`` finds: two arms, the rows of a table, and what may be concluded of each.

Schema history of its JSON (``SCHEMA``):
  1  first version
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.comparison import Scale, Verdict
from harness.core.estimate import ConfidenceInterval, Direction
from harness.core.units import Unit

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Arm:
    """One side: the files or runs it is of, the tool that made them, how many ``units`` of evidence of what kind, and its source."""

    names: tuple[str, ...]
    tool: str
    units: int
    units_of: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not the same in both arms. ``machine``: timings are not compared because of it."""

    what: str
    baseline: str
    candidate: str
    machine: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one benchmark or trial.

    ``effect`` and ``interval`` are on ``scale`` (see ``Comparison``), None where there is no evidence for them. ``shown`` is what the
    figures alone say; ``verdict`` is what may be concluded, and ``reason`` why. ``visible_change`` is the smallest change that would have
    been seen, None where that is not known or the row is exact.
    """

    name: str
    metric: str
    unit: Unit
    better: Direction
    scale: Scale
    baseline: float | None
    candidate: float | None
    effect: float | None
    interval: ConfidenceInterval | None
    tolerance: float
    baseline_n: int
    candidate_n: int
    n_of: str
    method: str
    shown: Verdict | None
    verdict: Verdict
    reason: str
    visible_change: float | None = None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A benchmark or trial that only one arm has, or that has no number in one of them, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class DiffReport:
    """All of it. ``order`` says how the launches of both arms followed each other: "interleaved", "in blocks" or "unknown"."""

    baseline: Arm
    candidate: Arm
    order: str
    differences: tuple[Difference, ...]
    rows: tuple[Row, ...]
    unmatched: tuple[Unmatched, ...]
    notes: tuple[str, ...]
    next_steps: tuple[str, ...]
