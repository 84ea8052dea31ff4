"""What a counter of energy says about a stretch of time, and power samples where there is no counter. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

MOST_WATTS = 20_000.0
"""More than any device draws: what would need more power than this is no wrap-around but a counter that was set back."""


def moved(before: int, after: int, wraps_at: int, per_joule: float, seconds: float) -> float | None:
    """Joules between two readings of a counter that starts again from 0 after ``wraps_at``; None where it was set back.

    A counter that wrapped once is told from one that was set back (a driver that was loaded again) by the power that it would have taken.
    One that wraps twice between two readings is not seen: at 200 W a RAPL counter takes 5 minutes or more, a slice well under a second.
    """
    if after >= before:
        return (after - before) / per_joule
    wrapped = (after + wraps_at - before) / per_joule
    return wrapped if 0 <= wrapped <= MOST_WATTS * max(seconds, 1e-3) else None


def step_of(readings: Sequence[tuple[int, int]]) -> int | None:
    """How often a counter moves, in ns: the median time between two changes; None where fewer than two were seen.

    ``readings`` are (time in ns, value) in order, read more often than the counter moves.
    """
    changes = [time for (_, old), (time, new) in pairwise(readings) if new != old]
    gaps = [later - sooner for sooner, later in pairwise(changes)]
    return round(statistics.median(gaps)) if gaps else None


def joules_within(power: Sequence[tuple[int, float]], begin_ns: int, end_ns: int) -> float:
    """The trapezoid rule over power samples (time in ns, watts) between two times; beyond the first and the last the power is theirs."""
    inside = [(time, watts) for time, watts in power if begin_ns < time < end_ns]
    points = [(begin_ns, _power_at(power, begin_ns)), *inside, (end_ns, _power_at(power, end_ns))]
    return sum((first + second) / 2 * (later - sooner) / 1e9 for (sooner, first), (later, second) in pairwise(points))


def _power_at(power: Sequence[tuple[int, float]], time_ns: int) -> float:
    if time_ns <= power[0][0]:
        return power[0][1]
    for (sooner, first), (later, second) in pairwise(power):
        if sooner <= time_ns <= later:
            return first + (second - first) * (time_ns - sooner) / max(1, later - sooner)
    return power[-1][1]
