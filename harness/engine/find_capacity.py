"""The highest rate at which a server keeps its promises: up in doublings until they break, then halving what lies between.

A rate is tried in several short loads, each with arrivals of its own. It keeps the promises when most of them do: every promised quantile
within its limit, and no more broken requests than promised (none, where nothing is promised of them). The halving is on the logarithm
of the rate and ends when the next higher rate that broke is within the precision. What keeps is found in short loads: the share of slow
requests is looked at as it is, without a bound on what more of them would show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.serving import CapacityStep
from harness.core.units import Unit, format_value

if TYPE_CHECKING:
    from harness.core.plugin import Driven
    from harness.engine.protocol import CapacitySearch, Promise

MEDIAN, TAIL = 0.5, 0.99


@dataclass(frozen=True, slots=True)
class Capacity:
    """``per_s`` is None where even the lowest rate broke, or where the generator gave up before the server did; ``note`` then says which,
    and what the search has shown all the same."""

    per_s: float | None
    steps: tuple[CapacityStep, ...]
    note: str = ""


def find_capacity(drive: Callable[[float, int], Driven], search: CapacitySearch, promises: Sequence[Promise]) -> Capacity:
    """Search from ``search.at_least_per_s`` to ``search.at_most_per_s``; ``drive`` makes one load of a rate a second and a time in ns."""
    steps: list[CapacityStep] = []

    def keeps(rate: float) -> bool | None:
        """None where the generator could not send so fast."""
        wanted = search.runs // 2 + 1
        kept = broken = 0
        while kept < wanted and broken < wanted:
            step, sent = _try(drive(rate, search.step_ns), rate, promises)
            steps.append(step)
            if not sent:
                return None
            kept, broken = kept + step.kept, broken + (not step.kept)
        return kept >= wanted

    low, high = None, search.at_least_per_s
    while (found := keeps(high)) and high < search.at_most_per_s:
        low, high = high, min(2 * high, search.at_most_per_s)
    if found:
        return Capacity(high, tuple(steps))
    if found is None:
        return Capacity(None, tuple(steps), _given_up(low, high))
    if low is None:
        return Capacity(None, tuple(steps), f"the lowest rate that was tried, {_rate(high)}, did not keep the promises")
    while high / low > 1 + search.precision:
        middle = math.sqrt(low * high)
        found = keeps(middle)
        if found is None:
            return Capacity(None, tuple(steps), _given_up(low, middle))
        low, high = (middle, high) if found else (low, middle)
    return Capacity(low, tuple(steps))


def _given_up(kept: float | None, rate: float) -> str:
    """What is known of a server that could do more than the generator: a lower bound is no capacity."""
    could_not = f"at {_rate(rate)} the generator could not keep its schedule, so what the server can do is not known"
    return could_not if kept is None else f"at least {_rate(kept)}, which kept the promises; {could_not}"


def _rate(per_s: float) -> str:
    return format_value(per_s, Unit.PER_SECOND)


def _try(driven: Driven, rate: float, promises: Sequence[Promise]) -> tuple[CapacityStep, bool]:
    """What one load says of a rate, and whether it was sent at that rate at all."""
    from harness.stats.quantiles import quantile

    load, latencies = driven.load, driven.latencies_ns
    failed = sum(load.failed.values())
    reason = "" if load.doubt is None else f"the generator did not keep its schedule: {load.doubt}"
    for promise in promises:
        if reason:
            break
        if promise.q is None:
            share = failed / max(1, load.due)
            reason = f"{share:.2%} of the requests broke" if share > promise.limit else ""
        elif (found := quantile(latencies, promise.q)) > promise.limit:
            shown, limit = (format_value(value, Unit.NANOSECONDS) for value in (found, promise.limit))
            reason = f"p{100 * promise.q:g} is {shown}, promised are {limit}"
    p50, p99 = (round(quantile(latencies, q)) for q in (MEDIAN, TAIL))
    step = CapacityStep(rate, load.answered_per_s, p50, p99, failed, load.due, not reason, reason)
    return step, load.doubt is None
