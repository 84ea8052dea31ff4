"""Promises over sessions as the page of the history shows them: the share of each limit that was left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.comparison import SlaState
from harness.core.head_room import HeadRoom, PromisePoint, room_told
from harness.core.units import format_value
from harness.reports._svg import Drawing
from harness.reports._trend import LEAST_POINTS, draw_trend, label_of

ROOMS_DRAWN = 30


@dataclass(frozen=True, slots=True)
class PromiseView:
    """One promise as the page tells it; ``drawing`` is None with too few sessions and beyond the number of charts."""

    number: int
    promise: HeadRoom
    drawing: Drawing | None

    @property
    def last(self) -> PromisePoint:
        return self.promise.points[-1]

    def value(self, point: PromisePoint) -> str:
        """The value that the promise is about; a dash where there was none."""
        unit = self.promise.unit
        return "–" if point.value is None or unit is None else format_value(point.value, unit)

    def bound(self, point: PromisePoint) -> str:
        """``bound 54.1 /s``, where it is what the head room is counted from; empty elsewhere."""
        unit = self.promise.unit
        return "" if point.shown is None or unit is None else f"bound {format_value(point.shown, unit)}"

    def room(self, point: PromisePoint) -> str:
        """``38.0 % left``."""
        return room_told(point.room)


def promise_views(promises: Sequence[HeadRoom]) -> list[PromiseView]:
    """Those with the least head room in their last session first; those without any number last."""

    def tightness(one: HeadRoom) -> tuple[bool, float]:
        room = one.points[-1].room
        return room is None, 0.0 if room is None else room

    views: list[PromiseView] = []
    drawn = 0
    for number, one in enumerate(sorted(promises, key=tightness)):
        drawing = None
        if len(one.trend.points) >= LEAST_POINTS and drawn < ROOMS_DRAWN:
            label = label_of(one.trend).replace(f" of {one.trial} over", f" of ‘{one.clause}’ on {one.trial} over", 1)
            drawing = draw_trend(one.trend, label, f"room-{number}")
            drawn += 1
        views.append(PromiseView(number, one, drawing))
    return views


def lead_of(promises: Sequence[HeadRoom]) -> str:
    """What a reader is to know first: how many promises were kept in their last session, and which has the least head room."""
    if not promises:
        return ""
    kept = sum(one.points[-1].state is SlaState.KEPT for one in promises)
    told = f"{kept:,} of {len(promises):,} {'promise was' if len(promises) == 1 else 'promises were'} kept in the last session of each."
    known = [one for one in promises if one.points[-1].room is not None]
    if not known:
        return told
    tightest = min(known, key=lambda one: one.points[-1].room or 0.0)
    return f"{told} The tightest is ‘{tightest.clause}’ on {tightest.trial}: {room_told(tightest.points[-1].room)}."
