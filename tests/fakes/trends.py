"""Series over sessions, the same each time, and promises whose head room shrinks."""

from __future__ import annotations

import random
from dataclasses import replace

from harness.core.comparison import SlaState
from harness.core.head_room import HEAD_ROOM, HeadRoom, PromisePoint
from harness.core.trend import ChangePoint, Trend, TrendPoint
from harness.core.units import Unit

TRIAL = "digits-resnet50/fp32-cpu-b1"


def point(day, value, *, dirty=False):
    at = f"2026-{9 + day // 30:02}-{1 + day % 30:02}T08:00:00+00:00"
    return TrendPoint(at, f"run-{day}", f"{day:07x}ffff", "main", value, value * 0.99, value * 1.02, dirty)


def trend(metric="latency_p50", *, trial=TRIAL, sessions=24, at=(12,), step=1.041, base=2.5e6, unit=Unit.NANOSECONDS, better="lower"):
    """A series with noise that is the same each time, and a step at each of the places."""
    generator = random.Random(metric)
    level, points, edges = base, [], []
    for day in range(sessions):
        if day in at:
            edges.append(ChangePoint(day, level, level * step, 3e-9))
            level *= step
        points.append(point(day, level * (1 + generator.gauss(0, 0.004)), dirty=day == 5))
    return Trend(trial, metric, unit, better, "4f0aa1c3b977", tuple(points), tuple(edges))


def promise(clause="latency_p99: at most 50 ms", *, trial=TRIAL, sessions=24, step=0.16, room=0.38):
    """A promise on a trial: from the middle of its sessions on a share of the limit less is left; every sixth session is a release."""
    half = sessions // 2
    series = trend(HEAD_ROOM, trial=trial, sessions=sessions, at=(), base=room, unit=Unit.FRACTION, better="higher")
    known = tuple(
        replace(
            one,
            value=one.value - (step if day >= half else 0),
            low=None,
            high=None,
            release=f"1.{day // 6}.0" if day % 6 == 5 else None,
        )
        for day, one in enumerate(series.points)
    )
    changes = (ChangePoint(half, room, room - step, 2e-8),) if step else ()
    points = tuple(
        PromisePoint(one, SlaState.KEPT if one.value > 0 else SlaState.BROKEN, 5e7 * (1 - one.value), 0.004, one.value) for one in known
    )
    metric = clause.partition(":")[0].rpartition(".")[2]
    series = replace(series, points=known, changes=changes)
    return HeadRoom(trial, clause, metric, 5e7, Unit.NANOSECONDS, "4f0aa1c3b977", points, series)
