"""Where the time of an OpenVINO query goes, by its own performance counters."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.profile import OperatorTime, Profile, merged

if TYPE_CHECKING:
    import openvino

WARM_UP_CALLS = 5
MOST_QUERIES = 100_000


@dataclass(frozen=True, slots=True)
class Counter:
    """One layer of the compiled model and what all its runs took together, in µs."""

    name: str
    kind: str
    kernel: str
    total_us: int


def profile(
    run: Callable[[object], object],
    prepared: Sequence[object],
    counters: Callable[[], Sequence[openvino.ProfilingInfo]],
    least_ns: int,
    trace: Path,
) -> Profile:
    """Queries for about ``least_ns`` ns in a request whose counters are on; what they took on average becomes ``trace``.

    The library tells the mean of all runs of a layer since the model was compiled, in whole µs: those of the warm-up, in which kernels are
    compiled, are taken off, and a layer of less than 1 µs counts as nothing. Layers that were fused into another have no time of their own.
    """
    batches = itertools.cycle(prepared)
    for batch in itertools.islice(batches, WARM_UP_CALLS):
        run(batch)
    start = time.perf_counter_ns()
    run(next(batches))
    queries = max(1, min(MOST_QUERIES, least_ns // max(1, time.perf_counter_ns() - start)))
    warm = WARM_UP_CALLS + 1
    before = counters_of(counters(), warm)
    start = time.perf_counter_ns()
    for batch in itertools.islice(batches, queries):
        run(batch)
    wall_ns = time.perf_counter_ns() - start
    after = counters_of(counters(), warm + queries)
    operators = [
        OperatorTime(now.name, now.kind, now.kernel, queries, max(0, now.total_us - then.total_us) * 1000)
        for then, now in zip(before, after, strict=True)
    ]
    trace.write_text(json.dumps(trace_of(operators, queries)), encoding="utf-8")
    return Profile(queries, wall_ns, tuple(merged(operators)))


def counters_of(infos: Sequence[openvino.ProfilingInfo], runs: int) -> list[Counter]:
    """The layers that run, in their order; ``runs`` is how often each has."""
    told = [info for info in infos if info.status == info.Status.EXECUTED]
    return [Counter(info.node_name, info.node_type, info.exec_type, round(info.real_time.total_seconds() * 1e6) * runs) for info in told]


def trace_of(operators: Sequence[OperatorTime], queries: int) -> dict[str, object]:
    """The mean query in Chrome's trace format: layers end to end in their order, for when each began is not told."""
    events = []
    begin_us = 0.0
    for one in operators:
        took_us = one.own_ns / 1000 / queries
        arguments = {"type": one.kind, "kernel": one.where}
        events.append({"name": one.name, "cat": one.kind, "ph": "X", "ts": begin_us, "dur": took_us, "pid": 0, "tid": 0, "args": arguments})
        begin_us += took_us
    return {"traceEvents": events, "otherData": {"told": f"means of {queries} queries, laid end to end"}}
