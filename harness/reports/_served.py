"""Loads over the network: their course over time, and latency against rate where a capacity was looked for."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from harness.core.units import Unit, format_value
from harness.reports._svg import BASELINE, CANDIDATE, MUTED, Drawing, draw, in_unit

if TYPE_CHECKING:
    import altair as alt

    from harness.core.result import RunResult, ServedArm, TrialRecord
    from harness.core.serving import CapacityStep, LoadRun

CHARTS = 6
"""Trials whose loads are drawn; the tables tell the rest."""
COLOURS = {"baseline": BASELINE, "candidate": CANDIDATE}
DASHES = {"baseline": [5, 3], "candidate": [1, 0]}


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One launch in the table: which, and what came of its load. Quantiles are of its windows' course (the middle one), in ns."""

    arm: str
    number: int
    load: LoadRun

    @property
    def broken(self) -> int:
        return self.load.due - self.load.answered

    @property
    def broken_told(self) -> str:
        """``3 (timeout: 2, 503: 1)``."""
        kinds = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(self.load.failed.items(), key=lambda item: -item[1]))
        return f"{self.broken:,}" + (f" ({kinds})" if kinds else "")

    @property
    def queue_ns(self) -> float | None:
        server = self.load.server
        return None if server is None or server.queue_ns is None or not server.answered else server.queue_ns / server.answered

    @property
    def server_cpu(self) -> float | None:
        return statistics.fmean(usage.server_cpu for usage in self.load.usage) if self.server_bytes else None

    @property
    def server_bytes(self) -> int | None:
        return max((usage.server_rss_bytes for usage in self.load.usage), default=0) or None  # 0: its processes are elsewhere


@dataclass(frozen=True, slots=True)
class ServedView:
    """One trial's loads as the page shows them. ``told`` says in one sentence what was sent; ``notes`` why launches have no capacity."""

    trial: TrialRecord
    told: str
    rows: tuple[LoadRow, ...]
    course: Drawing | None
    capacity: Drawing | None
    steps: tuple[CapacityStep, ...]
    notes: tuple[str, ...]


def served_views(result: RunResult) -> list[ServedView]:
    """Every trial that was measured over the network, in order."""
    views: list[ServedView] = []
    for trial in result.trials:
        if trial.served:
            number = len(views)
            views.append(
                ServedView(
                    trial=trial,
                    told=load_told(trial.served[-1].loads[0]),
                    rows=tuple(LoadRow(arm.arm, index, load) for arm in trial.served for index, load in enumerate(arm.loads, 1)),
                    course=_course(trial, number) if number < CHARTS else None,
                    capacity=_capacity(trial, number) if number < CHARTS else None,
                    steps=_middle(trial.served[-1]).capacity,
                    notes=tuple(
                        f"{arm.arm} {number} has no capacity: {load.capacity_note}."
                        for arm in trial.served
                        for number, load in enumerate(arm.loads, 1)
                        if load.capacity_note
                    ),
                )
            )
    return views


def load_told(load: LoadRun) -> str:
    """What was sent and from where, and from when latency counts."""
    own = f", by the Locust file {load.locustfile}" if load.locustfile else ""
    own += _sent_from(load)
    if load.kind == "closed":
        who = load.arrivals if load.users is None else f"{load.users} users"
        return (
            f"Closed loop: {who}, each of whom sends again when its answer has come{own}. Latency counts from the send: a "
            "server that stalls stops its users too, so these latencies flatter it."
        )
    rate = "" if load.rate_per_s is None else f" at {format_value(load.rate_per_s, Unit.PER_SECOND)}"
    return (
        f"Open loop: {load.arrivals} arrivals{rate}, the same for both arms{own}. Latency counts from when a request was due, whether or "
        "not it could be sent then."
    )


def _sent_from(load: LoadRun) -> str:
    """Which other machines sent, and how nearly at once they began."""
    if not load.generator_hosts:
        return ""
    skew = "" if load.start_skew_ns is None else f" (begun within {format_value(load.start_skew_ns, Unit.NANOSECONDS)} of each other)"
    return f", sent from {', '.join(load.generator_hosts)}{skew}"


def _middle(arm: ServedArm) -> LoadRun:
    """The launch whose slowest second lies in the middle: what is drawn is no chance pick."""
    return sorted(arm.loads, key=lambda load: max((window.p99_ns for window in load.windows), default=0))[len(arm.loads) // 2]


def _course(trial: TrialRecord, number: int) -> Drawing | None:
    arms = [(arm.arm, _middle(arm)) for arm in trial.served]
    if not any(len(load.windows) > 1 for _, load in arms):
        return None
    told = "; ".join(f"{arm} p99 up to {format_value(max(w.p99_ns for w in load.windows), Unit.NANOSECONDS)}" for arm, load in arms)
    return draw(f"latency over time of {trial.id}: {told}", f"course-{number}", partial(_course_chart, arms))


def _course_chart(arms: list[tuple[str, LoadRun]], width: int) -> alt.LayerChart | alt.VConcatChart:
    import altair as alt

    size, unit = in_unit(max(window.p99_ns for _, load in arms for window in load.windows))
    rows = [
        {
            "arm": arm,
            "quantile": quantile,
            "series": f"{arm} {quantile}",
            "at": (w.start_ns + w.duration_ns / 2) / 1e9,
            "latency": ns / size,
        }
        for arm, load in arms
        for w in load.windows
        for quantile, ns in (("p50", w.p50_ns), ("p99", w.p99_ns))
    ]
    rates = [
        {"arm": arm, "at": (w.start_ns + w.duration_ns / 2) / 1e9, "rate": w.due / (w.duration_ns / 1e9)}
        for arm, load in arms[-1:]
        for w in load.windows
    ]
    names = [arm for arm, _ in arms]
    colour = alt.Color("arm:N", scale=alt.Scale(domain=names, range=[COLOURS.get(name, CANDIDATE) for name in names]), legend=None)
    dash = alt.StrokeDash("arm:N", scale=alt.Scale(domain=names, range=[DASHES.get(name, [1, 0]) for name in names]), legend=None)
    thickness = alt.StrokeWidth("quantile:N", scale=alt.Scale(domain=["p50", "p99"], range=[1.2, 2.4]), legend=None)
    plot = width - 74 - 24
    extent = {"minExtent": 74, "maxExtent": 74}
    ends = [max((row for row in rows if row["series"] == series), key=lambda row: cast("float", row["at"])) for series in _series(rows)]
    lines = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point={"size": 18, "filled": True})
        .encode(
            x=alt.X("at:Q", axis=alt.Axis(labels=False, title=None, tickCount=max(3, plot // 90))),
            y=alt.Y("latency:Q", scale=alt.Scale(zero=True), axis=alt.Axis(title=f"latency, {unit}", tickCount=5, **extent)),
            color=colour,
            strokeDash=dash,
            strokeWidth=thickness,
            detail="series:N",
        )
    )
    names_at_ends = (
        alt.Chart(alt.Data(values=ends))
        .mark_text(align="right", dy=-9, fontSize=11)
        .encode(x="at:Q", y="latency:Q", text="quantile:N", color=colour)
    )
    bars = (
        alt.Chart(alt.Data(values=rates))
        .mark_line(interpolate="step", color=MUTED, strokeWidth=1.4)
        .encode(
            x=alt.X("at:Q", axis=alt.Axis(title="seconds since the first request was due", tickCount=max(3, plot // 90))),
            y=alt.Y("rate:Q", scale=alt.Scale(zero=True), axis=alt.Axis(title="due, /s", tickCount=2, **extent)),
        )
        .properties(width=plot, height=50)
    )
    return alt.vconcat((lines + names_at_ends).properties(width=plot, height=160), bars, spacing=12).resolve_scale(x="shared")


def _series(rows: list[dict[str, object]]) -> list[object]:
    return list(dict.fromkeys(row["series"] for row in rows))


def _capacity(trial: TrialRecord, number: int) -> Drawing | None:
    arms = [(arm.arm, [step for load in arm.loads for step in load.capacity]) for arm in trial.served]
    arms = [(arm, steps) for arm, steps in arms if steps]
    if not arms:
        return None
    limit = next((load.limit_ns for arm in trial.served for load in arm.loads if load.limit_ns is not None), None)
    told = "; ".join(f"{arm}: {sum(step.kept for step in steps)} of {len(steps)} loads kept the promise" for arm, steps in arms)
    return draw(f"latency against rate of {trial.id}: {told}", f"capacity-{number}", partial(_capacity_chart, arms, limit))


def _capacity_chart(arms: list[tuple[str, list[CapacityStep]]], limit: int | None, width: int) -> alt.LayerChart:
    import altair as alt

    slowest = max(step.p99_ns for _, steps in arms for step in steps)
    size, unit = in_unit(slowest)
    rows = [
        {"arm": arm, "rate": step.rate_per_s, "p99": max(step.p99_ns, 1) / size, "kept": "kept" if step.kept else "broke"}
        for arm, steps in arms
        for step in steps
    ]
    names = [arm for arm, _ in arms]
    plot = width - 74 - 24
    colour = alt.Color("arm:N", scale=alt.Scale(domain=names, range=[COLOURS.get(name, CANDIDATE) for name in names]), legend=None)
    dots = (
        alt.Chart(alt.Data(values=rows))
        .mark_point(size=60, strokeWidth=1.8, opacity=1)
        .encode(
            x=alt.X(
                "rate:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(title="requests a second", tickCount=max(3, plot // 110))
            ),
            y=alt.Y(
                "p99:Q",
                scale=alt.Scale(type="log", nice=True),
                axis=alt.Axis(title=f"p99 of a load, {unit}", tickCount=5, minExtent=74, maxExtent=74),
            ),
            color=colour,
            shape=alt.Shape("kept:N", scale=alt.Scale(domain=["kept", "broke"], range=["circle", "cross"]), legend=None),
        )
    )
    layers: list[alt.Chart] = [dots]
    if limit is not None:
        promised = alt.Chart(alt.Data(values=[{"p99": limit / size}]))
        layers.append(promised.mark_rule(color=MUTED, strokeDash=[2, 3]).encode(y="p99:Q"))
    return alt.layer(*layers).properties(width=plot, height=200)
