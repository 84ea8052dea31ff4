"""The trade-off of recipes: latency against what it costs in accuracy or fidelity, size as area."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.core.units import Unit, format_value
from harness.reports._recipes import COST, SIZE, RecipeGroup, pareto_front
from harness.reports._svg import BASELINE, CANDIDATE, INK, Drawing, decimals, draw, in_unit, padded

if TYPE_CHECKING:
    import altair as alt

    from harness.core.estimate import Estimate


_MARGIN = 66
_LETTER = 6.6
"""Pixels of one letter at 12 px, on average."""


def tradeoff(group: RecipeGroup, number: int) -> Drawing | None:
    """The drawing of one group of recipes; None where fewer than two have both a latency and a quality."""
    quality = group.quality
    if quality is None:
        return None
    points = _points(group, quality)
    worthwhile = ", ".join(recipe for recipe, _, _, _, front in points if front)
    label = f"latency_p50 against {quality} of {group.title}: {len(points)} recipes; no other is both quicker and better than {worthwhile}"
    return draw(label, f"tradeoff-{number}", partial(_chart, points, quality))


_Point = tuple[str, "Estimate", "Estimate", float | None, bool]


def _points(group: RecipeGroup, quality: str) -> list[_Point]:
    """Recipe, latency, quality, size in bytes and whether it is on the Pareto front; quickest first."""
    found = []
    for trial in group.trials:
        cost, good, size = trial.estimate(COST), trial.estimate(quality), trial.estimate(SIZE)
        if cost is not None and good is not None:
            name = f"{trial.recipe} (reference)" if trial.is_reference else trial.recipe
            found.append((name, cost, good, None if size is None else size.value))
    front = pareto_front([(cost.value, good.value if good.better != "lower" else -good.value) for _, cost, good, _ in found])
    points = [(name, cost, good, size, best) for (name, cost, good, size), best in zip(found, front, strict=True)]
    return sorted(points, key=lambda point: point[1].value)


def _chart(points: list[_Point], quality: str, width: int) -> alt.LayerChart:
    import altair as alt

    scale_ns, unit = in_unit(points[len(points) // 2][1].value)
    percent = points[0][2].unit is Unit.FRACTION
    costs = [cost.value / scale_ns for _, cost, _, _, _ in points]
    goods = [good.value * (100.0 if percent else 1.0) for _, _, good, _, _ in points]
    domain_x, domain_y = padded(min(costs), max(costs), 0.14), padded(min(goods), max(goods), 0.25)
    plot_width, plot_height = width - _MARGIN - 24, 300
    told = [_told(point, with_size=width > 500) for point in points]
    pixels = [_to_pixels(x, y, domain_x, domain_y, plot_width, plot_height) for x, y in zip(costs, goods, strict=True)]
    places = place_names(pixels, [len(name) * _LETTER for name in told], plot_width)
    rows = [
        {
            "cost": x,
            "quality": y,
            "area": area,
            "group": "front" if front else "dominated",
            "told": name,
            "told_x": domain_x[0] + left / plot_width * (domain_x[1] - domain_x[0]),
            "told_y": domain_y[1] - middle / plot_height * (domain_y[1] - domain_y[0]),
        }
        for (*_, front), x, y, area, name, (left, middle) in zip(points, costs, goods, _areas(points), told, places, strict=True)
    ]
    extent = {"minExtent": _MARGIN - 24, "maxExtent": _MARGIN - 24}
    axis_x = alt.Axis(title=f"latency_p50, {unit} (quicker is to the left)", tickCount=max(3, plot_width // 110))
    axis_y = alt.Axis(
        title=f"{quality}, %" if percent else quality, format=f".{decimals(domain_y[1] - domain_y[0])}f", tickCount=5, **extent
    )
    scale_x, scale_y = alt.Scale(domain=domain_x, nice=False, zero=False), alt.Scale(domain=domain_y, nice=False, zero=False)
    x, y = alt.X("cost:Q", scale=scale_x, axis=axis_x), alt.Y("quality:Q", scale=scale_y, axis=axis_y)
    groups = ["front", "dominated"]
    colour = alt.Color("group:N", scale=alt.Scale(domain=groups, range=[CANDIDATE, BASELINE]), legend=None)
    opacity = alt.Opacity("group:N", scale=alt.Scale(domain=groups, range=[0.85, 0.35]), legend=None)
    base = alt.Chart(alt.Data(values=rows))
    front_line = base.transform_filter("datum.group === 'front'").mark_line(
        color=CANDIDATE, strokeWidth=1.5, strokeDash=[2, 3], interpolate="step-after"
    )
    marks = base.mark_circle().encode(x=x, y=y, size=alt.Size("area:Q", scale=None), color=colour, opacity=opacity)
    names = base.mark_text(align="left", baseline="middle", fontSize=12, color=INK).encode(
        x=alt.X("told_x:Q", scale=scale_x, axis=axis_x), y=alt.Y("told_y:Q", scale=scale_y, axis=axis_y), text="told:N"
    )
    return alt.layer(front_line.encode(x=x, y=y), marks, names).properties(width=plot_width, height=plot_height)


def place_names(points: list[tuple[float, float]], widths: list[float], plot_width: float) -> list[tuple[float, float]]:
    """Left edge and middle of each point's name, in pixels: beside its point, moved up or down past circles and the names already placed.

    What finds no free place after a few tries overlaps: the table below the chart has every name.
    """
    taken = [_Box(x - 14, x + 14, y - 12, y + 12) for x, y in points]
    places = []
    for (x, y), width in zip(points, widths, strict=True):
        sides = [min(max(0.0, left), max(0.0, plot_width - width)) for left in (x + 6, x - 6 - width)]
        if x > plot_width * 0.6:
            sides.reverse()
        tries = [
            _Box(left, left + width, y + offset - 7, y + offset + 7)
            for step in (20, 36, 52, 68)
            for offset in (-step, step)
            for left in sides
        ]
        box = next((box for box in tries if not any(box.overlaps(other) for other in taken)), tries[0])
        taken.append(box)
        places.append((box.left, (box.top + box.bottom) / 2))
    return places


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    right: float
    top: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


def _to_pixels(
    x: float, y: float, domain_x: list[float], domain_y: list[float], plot_width: float, plot_height: float
) -> tuple[float, float]:
    return (
        (x - domain_x[0]) / (domain_x[1] - domain_x[0]) * plot_width,
        (domain_y[1] - y) / (domain_y[1] - domain_y[0]) * plot_height,
    )


def _areas(points: list[_Point]) -> list[float]:
    """Areas of the circles in square pixels, in proportion to size on disk; all alike where no size is known."""
    largest = max((size or 0.0 for _, _, _, size, _ in points), default=0.0)
    return [60 + 640 * (size or 0.0) / largest if largest else 180.0 for _, _, _, size, _ in points]


def _told(point: _Point, *, with_size: bool) -> str:
    name, _, _, size, _ = point
    name = name if len(name) <= 32 else f"{name[:31]}…"
    return f"{name}, {format_value(size, Unit.BYTES)}" if with_size and size is not None else name
