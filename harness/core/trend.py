"""One metric of one trial over many sessions, and where it changed for good."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from harness.core.comparison import Scale
from harness.core.estimate import Direction
from harness.core.units import Unit

RECENT_SESSIONS = 50
"""A change of more sessions ago than this is the new normal: it is drawn, and no longer told as news."""


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One session's number. ``at`` is ISO 8601 in UTC; ``ref`` is the branch; ``low`` and ``high`` are None where the number is exact.

    ``dirty``: the source differed from ``commit``. ``release`` is what an audit of the run called it; several names by commas.
    """

    at: str
    run: str
    commit: str | None
    ref: str | None
    value: float
    low: float | None
    high: float | None
    dirty: bool
    release: str | None = None

    @property
    def date(self) -> str:
        """``2026-10-03``."""
        return self.at[:10]

    @property
    def name(self) -> str:
        """The release where an audit named one, else the date."""
        return self.release or self.date


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A lasting shift of the mean: ``index`` is the first point of the new segment; the means are of the segments on both sides of it.

    ``p_value`` is that of the test between the two, with the session that speaks most for the change left out.
    """

    index: int
    before: float
    after: float
    p_value: float

    @property
    def ratio(self) -> float:
        """After / before; infinite where there was nothing before."""
        if self.before == 0:
            return math.inf if self.after != 0 else 1.0
        return self.after / self.before


@dataclass(frozen=True, slots=True)
class Trend:
    """A metric of a trial on one kind of machine, the oldest point first."""

    trial: str
    metric: str
    unit: Unit
    better: Direction
    environment_key: str
    points: tuple[TrendPoint, ...]
    changes: tuple[ChangePoint, ...]

    @property
    def scale(self) -> Scale:
        """On which a change of this metric is told, as its comparisons are."""
        return scale_of(self.unit)

    def point_of(self, change: ChangePoint) -> TrendPoint:
        """The first session after the change."""
        return self.points[change.index]

    def is_worse(self, change: ChangePoint) -> bool | None:
        """Whether the change is in the bad direction; None where the metric has none."""
        if self.better == "none":
            return None
        return (change.after > change.before) == (self.better == "lower")


def scale_of(unit: Unit) -> Scale:
    """Shares and plain scores are told by their difference (0.5 points), all that is counted in a unit by its ratio."""
    return "difference" if unit in (Unit.FRACTION, Unit.NUMBER) else "ratio"


def recent_changes(trends: Iterable[Trend]) -> list[tuple[Trend, ChangePoint]]:
    """The last change of every series, where it is of the newest ``RECENT_SESSIONS``: what became worse first, then the newest first."""
    found = [
        (trend, trend.changes[-1]) for trend in trends if trend.changes and len(trend.points) - trend.changes[-1].index <= RECENT_SESSIONS
    ]
    found.sort(key=lambda pair: (pair[0].trial, pair[0].metric))
    found.sort(key=lambda pair: pair[0].point_of(pair[1]).at, reverse=True)
    return sorted(found, key=lambda pair: pair[0].is_worse(pair[1]) is not True)
