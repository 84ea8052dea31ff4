"""Where the time of a query goes, as a picture: modules and the operators in them, each as wide as its share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from harness.core.profile import Profile
from harness.core.units import Unit, format_value
from harness.reports._svg import CANDIDATE, INK, PAPER, Drawing, draw

if TYPE_CHECKING:
    import altair as alt

LEAST_SHARE = 0.004
"""What is narrower cannot be seen: the table has it."""
MOST_DEPTH = 9
ROW_PX = 26
LETTER_PX = 6.8


@dataclass(slots=True)
class _Part:
    """A module or an operator: its own time and its parts', in ns."""

    name: str
    ns: float = 0.0
    parts: dict[str, _Part] = field(default_factory=dict)

    def add(self, path: list[str], ns: float) -> None:
        self.ns += ns
        if path:
            self.parts.setdefault(path[0], _Part(path[0])).add(path[1:], ns)


@dataclass(frozen=True, slots=True)
class Box:
    """One rectangle: its share of a query from ``begin`` to ``end``, 0 to 1, and its depth below the whole query."""

    name: str
    begin: float
    end: float
    depth: int


def boxes(profile: Profile) -> list[Box]:
    """Outermost first; parts in the order of their time. A path is split at slashes (a graph's nodes) or at dots (modules)."""
    whole = _Part("query")
    for operator in profile.operators:
        path = [part for part in operator.name.split("/" if "/" in operator.name else ".") if part]
        whole.add([*path[: MOST_DEPTH - 2], operator.kind], operator.own_ns)
    return list(_laid_out(whole, 0.0, whole.ns, 0)) if whole.ns else []


def _laid_out(part: _Part, begin: float, total: float, depth: int) -> Iterator[Box]:
    yield Box(part.name, begin, begin + part.ns / total, depth)
    for inner in sorted(part.parts.values(), key=lambda one: -one.ns):
        if inner.ns / total >= LEAST_SHARE:
            yield from _laid_out(inner, begin, total, depth + 1)
        begin += inner.ns / total


def flame(profile: Profile, number: int) -> Drawing | None:
    """The drawing; None where nothing was recorded."""
    found = boxes(profile)
    if not found:
        return None
    took = format_value(sum(operator.own_ns for operator in profile.operators) / profile.queries, Unit.NANOSECONDS)
    label = f"where the {took} of a query go, by module and operator; the table below has every number"
    return draw(label, f"flame-{number}", partial(_chart, found))


def _chart(found: list[Box], width: int) -> alt.LayerChart:
    import altair as alt

    rows = [
        {
            "begin": box.begin,
            "end": box.end,
            "top": box.depth,
            "bottom": box.depth + 0.94,
            "middle": box.depth + 0.47,
            "left": box.begin + 4 / width,
            "share": box.end - box.begin,
            "told": _fitting(box.name, (box.end - box.begin) * width),
        }
        for box in found
    ]
    depth = 1 + max(box.depth for box in found)
    x = alt.Scale(domain=[0, 1], nice=False)
    y = alt.Scale(domain=[0, depth], reverse=True, nice=False)
    base = alt.Chart(alt.Data(values=rows))
    marks = base.mark_rect(color=CANDIDATE, stroke=PAPER, strokeWidth=1).encode(
        x=alt.X("begin:Q", scale=x, axis=None),
        x2="end:Q",
        y=alt.Y("top:Q", scale=y, axis=None),
        y2="bottom:Q",
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.16, 0.42]), legend=None),
    )
    names = base.mark_text(align="left", baseline="middle", fontSize=12, color=INK).encode(
        x=alt.X("left:Q", scale=x), y=alt.Y("middle:Q", scale=y), text="told:N"
    )
    return alt.layer(marks, names).properties(width=width - 8, height=depth * ROW_PX)


def _fitting(name: str, pixels: float) -> str:
    """As much of a name as fits; nothing rather than two letters."""
    letters = int((pixels - 8) / LETTER_PX)
    if len(name) <= letters:
        return name
    return f"{name[: letters - 1]}…" if letters >= 4 else ""
