"""The page's charts, as SVG on white. Every number in them is also in a table of the page."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from .cells import ARMS, CONDITIONS, WORKLOADS, Cell
from .summary import METRIC, Summary, percent

if TYPE_CHECKING:
    import altair as alt

OURS = "harness gate"
WIDTH, HEIGHT = 300, 200
INK, MUTED, GRID = "#1d1f24", "#5a5f69", "#d8dbe0"
COLOURS = ("#0b62a9", "#56b4e9", "#b03a0c", "#e69f00", "#8d3d75", "#00694f", "#855c00", "#999999", "#000000")
"""Okabe and Ito's hues, the first two for this program."""
Row = dict[str, object]


def place_of(workload: str, condition: str) -> str:
    return f"{workload}, {condition}"


PLACES = [place_of(workload, condition) for workload in WORKLOADS for condition in CONDITIONS]


def ratios(summary: Summary) -> alt.Chart:
    """The raw material: the log ratio of every launch pair's medians, by planted change."""
    import altair as alt

    rows = [
        {"place": place_of(cell.workload, cell.condition), "planted": cell.arm, "change": math.expm1(pair.log_ratios[METRIC]) * 100}
        for cell in _cells()
        for pair in summary.pairs.get(cell.id, [])
        if METRIC in pair.log_ratios
    ]
    box = alt.Chart(alt.Data(values=rows)).mark_boxplot(extent=1.5, size=18, color=COLOURS[0], outliers={"size": 6, "opacity": 0.5})
    encoded = box.encode(
        x=alt.X("planted:N", sort=list(ARMS), title="planted", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("change:Q", title="change seen by one pair, %", scale=alt.Scale(domain=[-10, 20], clamp=True)),
    )
    return _by_place(encoded)


def detection(summary: Summary) -> alt.Chart:
    """How often each rule calls the head slower, by the size of what was planted."""
    import altair as alt

    rows = detection_rows(summary)
    rules = list(dict.fromkeys(str(row["rule"]) for row in rows))
    rules.sort(key=lambda rule: not rule.startswith(OURS))
    lines = alt.Chart(alt.Data(values=rows)).mark_line(point={"size": 36}, strokeWidth=2)
    encoded = lines.encode(
        x=alt.X("planted:Q", title="planted, %", scale=alt.Scale(domain=[0, 10])),
        y=alt.Y("share:Q", title="called slower, %", scale=alt.Scale(domain=[0, 100])),
        color=alt.Color("rule:N", sort=rules, title=None, scale=alt.Scale(domain=rules, range=list(COLOURS[: len(rules)]))),
    )
    return _by_place(encoded)


def detection_rows(summary: Summary) -> list[Row]:
    """Share in percent by rule, place and planted change; other tools' launches are taken apart, as they take them."""
    rows: list[Row] = []
    for cell in _cells():
        planted = ARMS[cell.arm].planted * 100
        shares = {f"{OURS}, {percent(row.tolerance)}": row.fails / row.decisions for row in summary.powers if row.cell == cell.id}
        shares |= {row.told: row.slower / row.decisions for row in summary.rivals if row.cell == cell.id and row.way == "apart"}
        rows += [
            {"place": place_of(cell.workload, cell.condition), "planted": planted, "rule": rule, "share": share * 100}
            for rule, share in shares.items()
        ]
    return rows


def seconds(summary: Summary) -> alt.Chart | alt.LayerChart:
    """What a resampled decision took at the default tolerance: median to 95th percentile, the null control included."""
    import altair as alt

    rows = [
        {
            "place": place_of(cell.workload, cell.condition),
            "planted": cell.arm,
            "middle": power.with_control[0],
            "high": power.with_control[1],
            "budget": power.budget_s,
        }
        for cell in _cells()
        if (power := summary.power(cell, 0.02)) is not None
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("planted:N", sort=list(ARMS), title="planted", axis=alt.Axis(labelAngle=0)),
    )
    bars = base.mark_bar(color=COLOURS[0], size=22).encode(y=alt.Y("middle:Q", title="seconds, median to 95 %"))
    rules = base.mark_rule(color=INK, strokeWidth=2).encode(y="middle:Q", y2="high:Q")
    budget = base.mark_tick(color=COLOURS[2], thickness=2, size=34).encode(y="budget:Q")
    return _by_place(bars + rules + budget)


def coverage(summary: Summary) -> alt.Chart:
    """The share of intervals that hold the truth, against their level, for every change."""
    import altair as alt

    rows = [
        {
            "place": row.cell.rpartition("/")[0].replace("/", ", "),
            "pairs": row.size,
            "off": (row.held / row.draws - row.level) * 100,
            "level": f"{row.level:.0%}",
        }
        for row in summary.coverages
        if row.metric == METRIC and not row.whole
    ]
    points = alt.Chart(alt.Data(values=rows)).mark_point(filled=True, size=44, opacity=0.7)
    encoded = points.encode(
        x=alt.X("pairs:O", title="launch pairs", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("off:Q", title="held more often than it says, points"),
        color=alt.Color("level:N", title="level", scale=alt.Scale(range=[COLOURS[0], COLOURS[2]])),
        shape=alt.Shape("level:N", title="level"),
    )
    return _by_place(encoded)


CHARTS: dict[str, tuple[Callable[[Summary], alt.Chart], str]] = {
    "detection": (detection, "How often each rule calls the head slower, by the size of the planted change"),
    "seconds": (seconds, "Seconds of a decision by planted change; the red ticks are the time allowed"),
    "coverage": (coverage, "How much more or less often the intervals hold the truth than they say"),
    "ratios": (ratios, "The change of the median that single launch pairs see, by planted change"),
}


def svg(chart: alt.Chart) -> str:
    """Rendered, on white."""
    import vl_convert

    styled = chart.configure(background="white", font="sans-serif", padding=8).configure_view(stroke=None)
    styled = styled.configure_axis(gridColor=GRID, domainColor=GRID, tickColor=GRID, labelColor=MUTED, titleColor=MUTED, labelFontSize=12)
    styled = styled.configure_header(labelColor=INK, labelFontSize=13, labelFontWeight="bold", title=None)
    styled = styled.configure_legend(labelColor=INK, labelFontSize=12, labelLimit=300, orient="bottom", columns=3)
    drawn: str = vl_convert.vegalite_to_svg(styled.to_dict())
    return drawn


def _by_place(chart: alt.Chart | alt.LayerChart) -> alt.Chart:
    """One panel for each workload and condition."""
    import altair as alt

    sized = chart.properties(width=WIDTH, height=HEIGHT)
    faceted: alt.Chart = sized.facet(facet=alt.Facet("place:N", sort=PLACES, title=None), columns=2)
    return faceted


def _cells() -> list[Cell]:
    """Cells in the page's order."""
    return [Cell(workload, condition, arm) for workload in WORKLOADS for condition in CONDITIONS for arm in ARMS]
