"""The forest plot: every comparison as a point with its interval, around the line of no change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness.core.comparison import Comparison, Verdict
from harness.core.units import Unit
from harness.core.wording import effect_of
from harness.reports._svg import (
    BAND,
    INK,
    MUTED,
    VERDICT_COLOURS,
    VERDICT_SHAPES,
    Drawing,
    decimals,
    draw,
)

if TYPE_CHECKING:
    import altair as alt

ROWS = 30
_ROW_HEIGHT = 38


def forest(comparisons: Sequence[Comparison]) -> list[Drawing]:
    """The worst ``ROWS`` comparisons, given worst first: one drawing for ratios, and one for differences in each unit."""
    drawings: list[Drawing] = []
    for name, members in _by_axis(comparisons[:ROWS]).items():
        regressed = sum(comparison.verdict is Verdict.REGRESSED for comparison in members)
        label = (
            f"{name} of candidate and baseline with interval and tolerance, {len(members)} comparisons, worst first, {regressed} of them "
            "REGRESSED; the same numbers are in the table above"
        )
        drawings.append(draw(label, f"forest-{len(drawings)}", partial(_chart, members)))
    return drawings


def _by_axis(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Ratios share one axis; differences share one with their own unit."""
    axes: dict[str, list[Comparison]] = {"Ratio": []}
    for comparison in comparisons:
        name = "Ratio" if comparison.scale == "ratio" else "Difference in points" if comparison.unit is Unit.FRACTION else "Difference"
        axes.setdefault(name, []).append(comparison)
    return {name: members for name, members in axes.items() if members}


def _chart(comparisons: list[Comparison], width: int) -> alt.LayerChart:
    import altair as alt

    first = comparisons[0]
    ratio, points = first.scale == "ratio", first.unit is Unit.FRACTION
    none, size = (1.0, 1.0) if ratio else (0.0, 100.0 if points else 1.0)
    reach = _reach(comparisons) * size
    low, high = none - reach, none + reach
    rows = [_row(number, comparison, size, low, high) for number, comparison in enumerate(comparisons)]
    plot = width - 2 * 18
    places = decimals(high - low)
    told = f"'×' + format(datum.value, '.{places}f')" if ratio else f"format(datum.value, '+.{places}f')"
    title = "candidate / baseline" if ratio else "candidate - baseline" + (", points" if points else "")
    axis = alt.Axis(title=title, labelExpr=told, tickCount=max(3, plot // 130), orient="top", labelBound=True)
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=list(range(len(rows))), padding=0))
    names = [str(verdict) for verdict in Verdict]
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=names, range=[VERDICT_COLOURS[v] for v in Verdict]), legend=None)
    shape = alt.Shape("verdict:N", scale=alt.Scale(domain=names, range=[VERDICT_SHAPES[v] for v in Verdict]), legend=None)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    base = alt.Chart(alt.Data(values=rows))
    nothing = alt.Chart(alt.Data(values=[{"none": none}])).mark_rule(color=INK, strokeWidth=1.2).encode(x=x("none"))
    below, above = 8, -3  # a name stands above its interval: a long one then costs no width
    band = base.mark_rect(color=BAND, height=18, yOffset=below).encode(x=x("inside"), x2="outside:Q", y=y)
    interval = base.mark_rule(strokeWidth=2.2, yOffset=below).encode(x=x("low"), x2="high:Q", y=y, color=colour)
    point = base.mark_point(filled=True, size=110, opacity=1, yOffset=below).encode(x=x("effect"), y=y, color=colour, shape=shape)
    name = base.mark_text(align="left", baseline="bottom", fontSize=12, color=INK, limit=plot - 92, yOffset=above)
    effect = base.mark_text(align="right", baseline="bottom", fontSize=12, color=MUTED, yOffset=above)
    layers = (
        band,
        nothing,
        interval,
        point,
        name.encode(x=alt.value(0), y=y, text="name:N"),
        effect.encode(x=alt.value(plot), y=y, text="effect_told:N"),
    )
    return alt.layer(*layers).properties(width=plot, height=_ROW_HEIGHT * len(rows))


def _row(number: int, comparison: Comparison, size: float, low: float, high: float) -> dict[str, str | float]:
    effect = comparison.effect * size
    beyond = "‹ " if effect < low else "› " if effect > high else ""
    inside, outside = _tolerated(comparison)
    return {
        "row": number,
        "name": f"{comparison.metric}  {comparison.trial}",
        "verdict": str(comparison.verdict),
        "effect": min(high, max(low, effect)),
        "low": min(high, max(low, comparison.interval.low * size)),
        "high": min(high, max(low, comparison.interval.high * size)),
        "inside": inside * size,
        "outside": min(high, max(low, outside * size)),
        "effect_told": f"{beyond}{effect_of(comparison).removesuffix(' points')}",
    }


def _tolerated(comparison: Comparison) -> tuple[float, float]:
    """No change, and where the tolerance ends: to the right where lower is better, to the left where higher is."""
    if comparison.scale == "difference":
        return 0.0, -comparison.tolerance if comparison.better == "higher" else comparison.tolerance
    return 1.0, 1 / (1 + comparison.tolerance) if comparison.better == "higher" else 1 + comparison.tolerance


def _reach(comparisons: Sequence[Comparison]) -> float:
    """How far the axis goes to both sides of no change: every interval and tolerance, but for improvements.

    An int8 model of a quarter of the size would squeeze everything else onto the line: what is beyond is drawn at the edge.
    """
    none = 1.0 if comparisons[0].scale == "ratio" else 0.0
    reaches = [0.005 if none == 0 else 0.04]
    for comparison in comparisons:
        reaches.append(1.5 * comparison.tolerance)
        if comparison.verdict is not Verdict.IMPROVED:
            ends = (comparison.interval.low, comparison.interval.high, comparison.effect)
            reaches += [abs(end - none) for end in ends if math.isfinite(end)]
    return min(1.0, 1.05 * max(reaches)) if none else 1.05 * max(reaches)
