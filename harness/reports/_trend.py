"""The history as the page shows it: one metric over sessions as a chart, and the series of each trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.core.comparison import Verdict
from harness.core.trend import Trend, TrendPoint
from harness.core.units import Unit, format_value
from harness.core.wording import drift_size_of
from harness.reports._svg import CANDIDATE, INK, MUTED, VERDICT_COLOURS, Drawing, decimals, draw, in_unit, padded

if TYPE_CHECKING:
    import altair as alt

LEAST_POINTS = 3
TRENDS_DRAWN = 6
"""More charts than these nobody looks at in the report of a run; with its table, one of 120 sessions takes 120 kB."""
_LABEL_ROWS = 3
TRIALS_TOLD = 50
_MARGIN = 74
_SIZES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


@dataclass(frozen=True, slots=True)
class Series:
    """One trend as the page tells it; ``drawing`` is None beyond the number of charts. ``number`` names its place on the page."""

    number: int
    trend: Trend
    drawing: Drawing | None


@dataclass(frozen=True, slots=True)
class TrialHistory:
    """The series of a trial, what changed first."""

    trial: str
    series: list[Series]

    @property
    def changed(self) -> int:
        """How many of its series have a change point."""
        return sum(bool(one.trend.changes) for one in self.series)


def histories(trends: Sequence[Trend], drawn: int = TRENDS_DRAWN) -> list[TrialHistory]:
    """Trials with a change first, in the order given otherwise; series of fewer than three points are left out."""
    told = sorted((trend for trend in trends if len(trend.points) >= LEAST_POINTS), key=lambda trend: not trend.changes)
    trials: dict[str, list[Series]] = {}
    for number, trend in enumerate(told):
        drawing = draw_trend(trend, label_of(trend), f"trend-{number}") if number < drawn else None
        trials.setdefault(trend.trial, []).append(Series(number, trend, drawing))
    return [TrialHistory(trial, series) for trial, series in trials.items()]


def draw_trend(trend: Trend, label: str, identity: str) -> Drawing:
    """The chart of a series; ``label`` tells it in words, ``identity`` keeps its ids apart from those of other charts."""
    return draw(label, identity, partial(_chart, trend))


def label_of(trend: Trend) -> str:
    """The chart in words: from when to when, first and last value, every change."""
    first, last = trend.points[0], trend.points[-1]
    values = f"{format_value(first.value, trend.unit)} to {format_value(last.value, trend.unit)}"
    changes = "; ".join(f"{_told_change(trend, number)} on {trend.point_of(one).date}" for number, one in enumerate(trend.changes))
    head = f"{trend.metric} of {trend.trial} over {len(trend.points)} sessions from {first.date} to {last.date}: {values}"
    return f"{head}; {changes or 'no lasting change'}"


def interval_told(trend: Trend, point: TrendPoint) -> str:
    """``1.90 ms to 2.10 ms``, ``at least 1.90 ms``, "unknown" where both ends are open, "exact" where the number has none."""
    if point.low is None or point.high is None:
        return "exact"
    low, high = (format_value(end, trend.unit) if math.isfinite(end) else "" for end in (point.low, point.high))
    return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}" if high else "unknown"


def _told_change(trend: Trend, number: int) -> str:
    """``+4.1 % worse``: never told by colour alone."""
    change = trend.changes[number]
    words = {True: " worse", False: " better", None: ""}
    return f"{drift_size_of(trend, change)}{words[trend.is_worse(change)]}"


def _chart(trend: Trend, width: int) -> alt.LayerChart:
    import altair as alt

    size, unit = _in_unit(trend)
    plot = width - _MARGIN - 24
    low, high = (end / size for end in _shown(trend))
    ticks, dates = _date_ticks(trend, max(2, plot // 120))
    x_axis = alt.Axis(title=None, values=ticks, labelExpr=dates, grid=False, labelOverlap=True, labelPadding=10)
    x_scale = alt.Scale(domain=[-0.6, len(trend.points) - 0.4], nice=False, zero=False)
    y_axis = alt.Axis(title=f"{trend.metric}{f', {unit}' if unit else ''}", format=f",.{decimals(high - low)}f", tickCount=5)
    y_axis.minExtent = y_axis.maxExtent = _MARGIN - 20
    y_scale = alt.Scale(domain=[low, high], nice=False, zero=False)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=x_axis)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=y_scale, axis=y_axis)

    points = alt.Chart(alt.Data(values=_points(trend, size)))
    levels = alt.Chart(alt.Data(values=_levels(trend, size)))
    changes = alt.Chart(alt.Data(values=_changes(trend)))
    fill = alt.Fill("source:N", scale=alt.Scale(domain=["clean", "dirty"], range=[CANDIDATE, "transparent"]), legend=None)
    kinds = {"worse": VERDICT_COLOURS[Verdict.REGRESSED], "better": VERDICT_COLOURS[Verdict.IMPROVED], "other": MUTED}
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(kinds), range=list(kinds.values())), legend=None)
    layers = (
        points.mark_rule(aria=False, color=CANDIDATE, strokeWidth=1.4, opacity=0.45, clip=True).encode(
            x=x("session"), y=y("low"), y2="high:Q"
        ),
        levels.mark_rule(color=INK, strokeWidth=1.4, clip=True).encode(x=x("first"), x2="last:Q", y=y("mean")),
        changes.mark_rule(strokeWidth=1.6, strokeDash=[4, 3]).encode(x=x("place"), color=colour),
        points.mark_point(aria=False, size=38, strokeWidth=1.5, opacity=1, color=CANDIDATE, clip=True).encode(
            x=x("session"), y=y("value"), fill=fill
        ),
        *(
            changes.transform_filter(f"datum.side === '{side}'")
            .mark_text(align=side, dx=-5 if side == "right" else 5, fontSize=12, baseline="top")
            .encode(x=x("place"), y=alt.Y("row:Q", axis=None, scale=None), text="told:N", color=colour)
            for side in ("left", "right")
        ),
    )
    return alt.layer(*layers).properties(width=plot, height=190)


def _in_unit(trend: Trend) -> tuple[float, str]:
    """The unit in which the values are drawn: its size in the base unit, and its name."""
    largest = max(abs(point.value) for point in trend.points)
    if trend.unit is Unit.NANOSECONDS:
        return in_unit(largest)
    if trend.unit is Unit.BYTES:
        return next(((size, name) for size, name in _SIZES if largest >= size), (1.0, "B"))
    return {Unit.FRACTION: (0.01, "%"), Unit.PER_SECOND: (1.0, "/s"), Unit.JOULES: (1.0, "J")}.get(trend.unit, (1.0, ""))


def _shown(trend: Trend) -> tuple[float, float]:
    """From the lowest to the highest value, with as much of the intervals as leaves the values most of the height."""
    values = [point.value for point in trend.points]
    low, high = min(values), max(values)
    reach = (high - low) or abs(high) * 0.05
    lows = [point.low for point in trend.points if point.low is not None]
    highs = [point.high for point in trend.points if point.high is not None]
    bottom, top = padded(max(min([low, *lows]), low - reach), min(max([high, *highs]), high + reach))
    return bottom, top + 0.09 * min(len(trend.changes), _LABEL_ROWS) * (top - bottom)  # room for the labels of changes


def _date_ticks(trend: Trend, most: int) -> tuple[list[int], str]:
    """The sessions that the axis names, and the expression that gives each its date."""
    last = len(trend.points) - 1
    ticks = sorted({round(last * step / (most - 1)) for step in range(most)})
    return ticks, " : ".join(f"datum.value === {tick} ? '{trend.points[tick].date}'" for tick in ticks) + " : ''"


def _points(trend: Trend, size: float) -> list[dict[str, str | float]]:
    """An open end of an interval is drawn to the edge; an exact number has none to draw."""
    bottom, top = _shown(trend)
    return [
        {
            "session": session,
            "value": point.value / size,
            "low": max(bottom, point.value if point.low is None else point.low) / size,
            "high": min(top, point.value if point.high is None else point.high) / size,
            "source": "dirty" if point.dirty else "clean",
        }
        for session, point in enumerate(trend.points)
    ]


def _levels(trend: Trend, size: float) -> list[dict[str, float]]:
    """The mean of every segment; none is drawn where nothing changed."""
    if not trend.changes:
        return []
    edges = [0, *(change.index for change in trend.changes), len(trend.points)]
    means = [trend.changes[0].before, *(change.after for change in trend.changes)]
    return [
        {"first": first - 0.5, "last": last - 0.5, "mean": mean / size} for first, last, mean in zip(edges, edges[1:], means, strict=False)
    ]


def _changes(trend: Trend) -> list[dict[str, str | float]]:
    """Labels stand on the side that has more room, on three lines in turn."""
    kinds = {True: "worse", False: "better", None: "other"}
    return [
        {
            "place": change.index - 0.5,
            "told": _told_change(trend, number),
            "kind": kinds[trend.is_worse(change)],
            "side": "left" if change.index < len(trend.points) / 2 else "right",
            "row": 2 + 15 * (number % _LABEL_ROWS),
        }
        for number, change in enumerate(trend.changes)
    ]
