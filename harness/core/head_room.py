"""How far a promise was from being broken, session by session, as a share of its limit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.comparison import SlaState
from harness.core.trend import Trend, TrendPoint

if TYPE_CHECKING:
    from harness.core.estimate import Direction
    from harness.core.scenario import SlaClause
    from harness.core.units import Unit

HEAD_ROOM = "head room"
"""What the series is called where a metric's name would stand."""
_QUANTILE = re.compile(r"latency_p\d+")


@dataclass(frozen=True, slots=True)
class PromisePoint:
    """One promise in one session. ``value`` and ``bound`` are those of the SLA finding (None where there was no number); ``room`` is the
    share of the limit that was left, negative beyond the limit, None where there is no number or the limit is 0. ``shown`` is the bound
    where it is what the room is counted from and is in the unit of the value, None elsewhere."""

    session: TrendPoint
    state: SlaState
    value: float | None
    bound: float | None
    room: float | None
    shown: float | None = None


@dataclass(frozen=True, slots=True)
class HeadRoom:
    """One promise on one trial on one kind of machine, the oldest session first.

    ``unit`` is that of the values, None where no session had one. ``trend`` is the head room as a series like any metric's: only the
    sessions in which there was one, with its lasting changes.
    """

    trial: str
    clause: str
    metric: str
    limit: float
    unit: Unit | None
    environment_key: str
    points: tuple[PromisePoint, ...]
    trend: Trend

    @property
    def least(self) -> PromisePoint | None:
        """The session with the least head room, the newest of several; None where none had any number."""
        known = [point for point in self.points if point.room is not None]
        return min(reversed(known), key=lambda point: math.inf if point.room is None else point.room, default=None)


def room_of(clause: SlaClause, value: float | None, bound: float | None, better: Direction | None) -> float | None:
    """The share of the limit that is left: ``(limit - reached) / limit``, for "at least" ``(reached - limit) / limit``.

    Reached is the bound that decides, of a latency quantile the quantile itself, because its bound is of a share of queries.
    """
    reached = value if _counts_queries(clause, bound) else bound
    limit, at_least = clause.limit, clause.bound == "at least"
    if clause.speed_up is not None and better == "higher":  # 3 times as fast is three times the throughput
        limit, at_least = clause.speed_up, True
    if reached is None or limit == 0 or not math.isfinite(reached):
        return None
    return (reached - limit if at_least else limit - reached) / abs(limit)


def shown_of(clause: SlaClause, value: float | None, bound: float | None) -> float | None:
    """The bound of a value that is uncertain, in the value's unit; None where the bound is of something else or is the value itself."""
    return None if clause.relation != "absolute" or _counts_queries(clause, bound) or bound == value else bound


def _counts_queries(clause: SlaClause, bound: float | None) -> bool:
    """Whether the bound is of a share of queries: no latency is shorter than 1 ns."""
    return clause.relation == "absolute" and _QUANTILE.fullmatch(clause.metric) is not None and (bound is None or bound <= 1)


def room_told(room: float | None) -> str:
    """``38.0 % left``, ``12.0 % beyond the limit``; a dash where there is no number or the limit is 0."""
    if room is None:
        return "–"
    return f"{room * 100:.1f} % left" if room >= 0 else f"{-room * 100:.1f} % beyond the limit"
