"""Altair charts as static SVG that follows the page: its colours are the page's, light and dark, and its text is the page's font.

Static, because nothing in these charts needs a pointer: every number in them is also in a table. A page with the scripts of an
interactive chart in it would be 0.9 MB larger and blank without JavaScript.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.comparison import Verdict

if TYPE_CHECKING:
    import altair as alt

WIDTHS = {"wide": 860, "narrow": 328}
"""Every chart is drawn twice, so that its text is never scaled: for a desk and for a telephone of 360 px."""

INK, MUTED, GRID, BAND, PAPER = "#1d1f24", "#5a5f69", "#d8dbe0", "#e7e9ee", "#fefefe"
BASELINE, CANDIDATE = "#6b707b", "#0b62a9"
VERDICT_COLOURS = {
    Verdict.REGRESSED: "#b03a0c",
    Verdict.INVALID: "#8d3d75",
    Verdict.INCONCLUSIVE: "#855c00",
    Verdict.IMPROVED: "#0b62a8",
    Verdict.PASS: "#00694f",
}
"""Okabe and Ito's hues (jfly.uni-koeln.de/color), darkened until small text keeps a contrast of 4.5 on white. The page's style sheet
turns every colour of this module into its counterpart of the dark theme, by its value; so no two of them are equal."""
VERDICT_SHAPES = {
    Verdict.REGRESSED: "triangle-up",
    Verdict.INVALID: "cross",
    Verdict.INCONCLUSIVE: "diamond",
    Verdict.IMPROVED: "triangle-down",
    Verdict.PASS: "circle",
}
VERDICT_GLYPHS = {
    Verdict.REGRESSED: "▲",
    Verdict.INVALID: "✚",
    Verdict.INCONCLUSIVE: "◆",
    Verdict.IMPROVED: "▼",
    Verdict.PASS: "●",
}
"""The same shapes in text: a verdict is never told by colour alone."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart of the page: what it shows in words (its text alternative), and its SVG for each of ``WIDTHS``."""

    label: str
    svgs: dict[str, str]


def draw(label: str, identity: str, chart: Callable[[int], alt.Chart | alt.LayerChart | alt.VConcatChart]) -> Drawing:
    """Render ``chart(width)`` at each width; ``identity`` keeps the ids inside the SVGs of one page apart."""
    return Drawing(label, {name: _svg(chart(width), label, f"{identity}-{name}") for name, width in WIDTHS.items()})


def in_unit(largest_ns: float) -> tuple[float, str]:
    """The unit in which latencies up to ``largest_ns`` are drawn: its size in ns, and its name."""
    return next(((size, name) for size, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")) if largest_ns >= size), (1.0, "ns"))


def padded(low: float, high: float, share: float = 0.06) -> list[float]:
    """A domain a little larger than its values, so that no mark lies on the edge; never empty."""
    room = (high - low) * share or abs(high) * 0.01 or 1.0
    return [low - room, high + room]


def decimals(span: float) -> int:
    """How many decimals tell the ticks of an axis over ``span`` apart."""
    return max(0, 1 - math.floor(math.log10(span))) if span > 0 else 0


def _svg(chart: alt.Chart | alt.LayerChart | alt.VConcatChart, label: str, identity: str) -> str:
    import vl_convert

    styled = chart.configure(background="transparent", font="sans-serif", padding=4).configure_view(stroke=None)
    styled = styled.configure_axis(
        domain=False,
        grid=True,
        gridColor=GRID,
        labelColor=MUTED,
        labelFontSize=12,
        ticks=False,
        titleColor=MUTED,
        titleFontSize=12,
        titleFontWeight="normal",
        titlePadding=10,
    )
    drawn: str = vl_convert.vegalite_to_svg(styled.to_dict())
    numbers: dict[str, int] = {}  # the renderer counts its ids on from chart to chart: here the page stays a function of the result

    def renamed(match: re.Match[str]) -> str:
        return f"{match[1]}{identity}-{numbers.setdefault(match[2], len(numbers))}"

    drawn = re.sub(r'(\bid="|url\(#)([^")]+)', renamed, drawn)
    drawn = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", drawn)  # the drawing is one image with one name: its parts are not to be read out
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)
