"""The latencies of both arms: their cumulative distribution, and below it every launch by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from harness.core.result import QUANTILES, Distribution
from harness.core.units import Unit, format_value
from harness.reports._svg import BASELINE, CANDIDATE, Drawing, draw, in_unit, padded

if TYPE_CHECKING:
    import altair as alt

    from harness.core.result import TrialRecord

_STEPS = 120
_LOW, _MEDIAN, _HIGH = QUANTILES.index(0.05), QUANTILES.index(0.5), QUANTILES.index(0.95)


def latencies(trial: TrialRecord, number: int) -> Drawing | None:
    """The drawing of one trial; None where its load does not time single queries."""
    arms = [arm for arm in trial.distributions if arm.sample_ns and any(launch.quantiles_ns for launch in arm.launches)]
    if not arms:
        return None
    label = f"latencies of {trial.id}: " + "; ".join(_told(arm) for arm in arms)
    return draw(label, f"latency-{number}", partial(_chart, arms))


def _told(arm: Distribution) -> str:
    values = sorted(arm.sample_ns)
    medians = [launch.quantiles_ns[_MEDIAN] for launch in arm.launches if launch.quantiles_ns]
    median, slowest = (format_value(value, Unit.NANOSECONDS) for value in (values[len(values) // 2], values[-1]))
    lowest, highest = (format_value(value, Unit.NANOSECONDS) for value in (min(medians), max(medians)))
    return f"{arm.arm} median {median}, slowest {slowest}, medians of {len(medians)} launches from {lowest} to {highest}"


def _chart(arms: list[Distribution], width: int) -> alt.VConcatChart:
    import altair as alt

    size, unit = in_unit(max(sorted(arm.sample_ns)[len(arm.sample_ns) // 2] for arm in arms))
    steps = [row for arm in arms for row in _steps(arm, size)]
    launches = [row for level, arm in enumerate(arms) for row in _launches(arm, level, size)]
    domain = padded(min(float(row["latency"]) for row in steps), _longest_shown_ns(arms) / size, 0.02)
    margin = 74
    plot = width - margin - 24
    names = [arm.arm for arm in arms]
    colours = {"baseline": BASELINE, "candidate": CANDIDATE}
    colour = alt.Color("arm:N", scale=alt.Scale(domain=names, range=[colours.get(name, CANDIDATE) for name in names]), legend=None)
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    extent = {"minExtent": margin, "maxExtent": margin}
    shares = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1], title=None, **extent)
    line = (
        alt.Chart(alt.Data(values=steps))
        .mark_line(strokeWidth=2, interpolate="step-after", clip=True)
        .encode(
            x=alt.X("latency:Q", scale=scale, axis=alt.Axis(labels=False, title=None, tickCount=max(3, plot // 90))),
            y=alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=shares),
            color=colour,
            strokeDash=alt.StrokeDash("arm:N", scale=alt.Scale(domain=["baseline", "candidate"], range=[[5, 3], [1, 0]]), legend=None),
        )
        .properties(width=plot, height=150)
    )
    expression = " : ".join(f"datum.value === {level} ? '{name}'" for level, name in enumerate(names)) + " : ''"
    arm_axis = alt.Axis(values=list(range(len(names))), labelExpr=expression, title=None, grid=False, **extent)
    y = alt.Y("level:Q", scale=alt.Scale(domain=[len(names) - 0.5, -0.5]), axis=arm_axis)
    x = alt.X("median:Q", scale=scale, axis=alt.Axis(title=f"latency of a query, {unit}", tickCount=max(3, plot // 90)))
    base = alt.Chart(alt.Data(values=launches))
    spread = base.mark_rule(strokeWidth=1.4, opacity=0.45, clip=True).encode(x=alt.X("low:Q", scale=scale), x2="high:Q", y=y, color=colour)
    dots = base.mark_point(size=34, strokeWidth=1.5, opacity=1, clip=True).encode(
        x=x,
        y=y,
        color=colour,
        fill=alt.Fill(
            "settled:N",
            scale=alt.Scale(domain=[*names, "unsettled"], range=[*(colours.get(n, CANDIDATE) for n in names), "transparent"]),
            legend=None,
        ),
    )
    strip = alt.layer(spread, dots).properties(width=plot, height=70 * len(names))
    return alt.vconcat(line, strip, spacing=14)


def _longest_shown_ns(arms: list[Distribution]) -> float:
    """Where the axis ends: beyond the 95th percentile by as much again as the bulk is wide, and never beyond the slowest query.

    A single stall would squeeze everything else against the axis; the page tells the slowest query in words.
    """
    ends = []
    for arm in arms:
        values = sorted(arm.sample_ns)
        fifth, ninety_fifth = values[len(values) * 5 // 100], values[len(values) * 95 // 100]
        ends.append(min(values[-1], ninety_fifth + (ninety_fifth - fifth)))
    return max(ends)


def _steps(arm: Distribution, size: float) -> list[dict[str, str | float]]:
    values = sorted(arm.sample_ns)
    shares = [step / _STEPS for step in range(_STEPS + 1)]
    return [{"arm": arm.arm, "share": share, "latency": values[min(len(values) - 1, int(share * len(values)))] / size} for share in shares]


def _launches(arm: Distribution, level: int, size: float) -> list[dict[str, str | float]]:
    timed = [launch for launch in arm.launches if launch.quantiles_ns]
    return [
        {
            "arm": arm.arm,
            "level": level + 0.7 * ((number + 0.5) / len(timed) - 0.5),
            "low": launch.quantiles_ns[_LOW] / size,
            "median": launch.quantiles_ns[_MEDIAN] / size,
            "high": launch.quantiles_ns[_HIGH] / size,
            "settled": arm.arm if launch.steady else "unsettled",
        }
        for number, launch in enumerate(timed)
    ]
