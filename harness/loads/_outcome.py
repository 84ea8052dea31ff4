"""What a load showed, from its records: its course over time, lateness, recovery after a spike, drift, and whether it is to be believed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.core.serving import Lateness, Window
from harness.loads._records import DROPPED, FAILURES, NEVER, Records

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
LEAST_IN_A_WINDOW = 20
RECOVERY_WINDOW = 50
"""Requests in a window of the search for recovery; as many must be due before the spike."""
RECOVERED = 1.5
LEAST_FOR_DRIFT = 200
"""A tenth of fewer requests has no median worth telling."""
LATENESS_FLOOR_NS = 2_000_000
LATENESS_SHARE = 0.1
MOST_CPU = 0.9
HALF_BUSY = 0.5
"""A generator that is late and took less than this of a core was kept from it by others."""
MORE_HANDS = "raise 'processes', lower the rate, or send from another machine"
MORE_ROOM = (
    "other work kept it from its core: let nothing else run, give it a core with 'cores' of the hardware target, allow it a realtime "
    "priority (root, or CAP_SYS_NICE), or send from another machine"
)


@dataclass(frozen=True, slots=True)
class GeneratorFacts:
    """What the generator processes tell of themselves: the busiest one's CPU in cores, how many there were, and their own trouble."""

    cpu: float
    processes: int
    trouble: str | None = None


def failed_by_kind(records: Records) -> dict[str, int]:
    """How many requests were not answered with success, by what came instead, the most frequent first."""
    counts = Counter(records.status[~records.answered].tolist())
    return {FAILURES.get(status, str(status)): count for status, count in counts.most_common()}


def windows_of(due_ns: NDArray[np.int64], latencies_ns: NDArray[np.int64], failed: NDArray[np.bool_]) -> tuple[Window, ...]:
    """The load in windows of whole seconds, as few as hold 20 requests; what is left at the end belongs to the last one.

    ``due_ns`` begins at 0 and rises.
    """
    if not due_ns.size:
        return ()
    edges = [0]
    seconds = due_ns // SECOND_NS
    for second in range(1, int(seconds[-1]) + 1):
        end = int(np.searchsorted(due_ns, second * SECOND_NS))
        if end - edges[-1] >= LEAST_IN_A_WINDOW and due_ns.size - end >= LEAST_IN_A_WINDOW:
            edges.append(end)
    found = []
    starts = [int(seconds[edge]) * SECOND_NS if edge else 0 for edge in edges]
    for number, (begin, end) in enumerate(zip(edges, [*edges[1:], due_ns.size], strict=True)):
        until = starts[number + 1] if number + 1 < len(starts) else int(due_ns[-1]) + 1
        p50, p99 = np.quantile(latencies_ns[begin:end], (0.5, 0.99))
        found.append(
            Window(starts[number], until - starts[number], end - begin, int(failed[begin:end].sum()), round(float(p50)), round(float(p99)))
        )
    return tuple(found)


def lateness_of(records: Records) -> Lateness:
    """How late the requests that were sent were sent, against the schedule; waiting for a free connection is part of it."""
    sent = records.sent_ns != NEVER
    late = np.maximum(records.sent_ns[sent] - records.due_ns[sent], 0)
    dropped = int((records.status == DROPPED).sum())
    if not late.size:
        return Lateness(0, 0, 0, dropped)
    p50, p99 = np.quantile(late, (0.5, 0.99))
    return Lateness(round(float(p50)), round(float(p99)), int(late.max()), dropped)


def recovery_ns(due_ns: NDArray[np.int64], latencies_ns: NDArray[np.int64], begin_ns: int, end_ns: int) -> int | None:
    """The time from the end of a spike until latency is what it was before it.

    Before: the median latency of the requests due before the spike. The requests due after it are cut into windows of 50 in a row.
    Latency is back at the end of the first window whose median is at most 1.5 times that of before, where the window that follows keeps
    it too; a queue delays every request, so the median shows it, and the p99 of a window would be its one slowest request. Where latency
    never comes back, it is the whole time from the spike's end to the load's: it took at least so long. None with fewer than 50 requests
    before, or 100 after. Failed requests count as the whole timeout, as everywhere.
    """
    before = latencies_ns[due_ns < begin_ns]
    later = due_ns >= end_ns
    after_due, after = due_ns[later], latencies_ns[later]
    if before.size < RECOVERY_WINDOW or after.size < 2 * RECOVERY_WINDOW:
        return None
    allowed = RECOVERED * float(np.median(before))
    count = after.size // RECOVERY_WINDOW
    kept = np.median(after[: count * RECOVERY_WINDOW].reshape(count, RECOVERY_WINDOW), axis=1) <= allowed
    back = np.flatnonzero(kept[:-1] & kept[1:])
    last = (int(back[0]) + 1) * RECOVERY_WINDOW - 1 if back.size else after.size - 1
    return int(after_due[last]) - end_ns


def drift_of(latencies_ns: NDArray[np.int64]) -> float | None:
    """The median latency of the last tenth of the requests over that of the first; None with fewer than 200 requests."""
    tenth = latencies_ns.size // 10
    if latencies_ns.size < LEAST_FOR_DRIFT:
        return None
    return float(np.median(latencies_ns[-tenth:]) / np.median(latencies_ns[:tenth]))


def doubt_of(records: Records, latencies_ns: NDArray[np.int64], generator: GeneratorFacts) -> str | None:
    """Why this load is no evidence, with what to do about it; None where the generator did what it was asked.

    Late: the p99 of the time from when a request was due until the generator turned to it is above 2 ms and above a tenth of the p99
    of latency. Latency counts from when the request was due, so what the generator is late by is in it: at a tenth it can move the p99 by
    no more than that, and 2 ms are less than one turn of another process on the core (Linux gives 3 ms). Waiting for a connection is
    not part of this: then the server has not answered, and its queue is what the latency shows.
    Busy: a generator process took more than 90 % of a core, so that answers waited for it and their times are its own.
    """
    if generator.trouble:
        return generator.trouble
    taken = records.taken_ns != NEVER
    late = np.maximum(records.taken_ns[taken] - records.due_ns[taken], 0)
    if late.size:
        p99, allowed = float(np.quantile(late, 0.99)), max(LATENESS_FLOOR_NS, LATENESS_SHARE * float(np.quantile(latencies_ns, 0.99)))
        if p99 > allowed:
            told = f"it sent with a p99 of {p99 / 1e6:,.1f} ms after the time, and at most {allowed / 1e6:,.1f} ms would not matter here"
            return f"{told}: {MORE_HANDS if generator.cpu > HALF_BUSY else MORE_ROOM}"
    if generator.cpu > MOST_CPU:
        which = "the generator" if generator.processes == 1 else f"the busiest of {generator.processes} generators"
        return f"{which} took {generator.cpu:.0%} of a core, so that answers waited for it: {MORE_HANDS}"
    return None
