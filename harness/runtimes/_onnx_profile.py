"""Where the time of an ONNX Runtime query goes, by its own profiler."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from harness.core.profile import OperatorTime, Profile, merged

KERNEL = "_kernel_time"
WARM_UP_CALLS = 5
MOST_QUERIES = 2_000
"""The library keeps a million events at most, and writes all of them as text."""


def profile(run: Callable[[object], object], prepared: Sequence[object], end: Callable[[], str], least_ns: int, trace: Path) -> Profile:
    """Queries for about ``least_ns`` ns in a session whose profiler is on; ``end`` ends it and names the file, which becomes ``trace``."""
    for batch in itertools.islice(itertools.cycle(prepared), WARM_UP_CALLS):
        run(batch)
    start = time.perf_counter_ns()
    run(prepared[0])
    queries = max(1, min(MOST_QUERIES, least_ns // max(1, time.perf_counter_ns() - start)))
    for batch in itertools.islice(itertools.cycle(prepared), queries):
        run(batch)
    Path(end()).replace(trace)
    wall_ns, operators = operators_in(trace, queries)
    return Profile(queries, wall_ns, tuple(operators))


def operators_in(trace: Path, queries: int) -> tuple[int, list[OperatorTime]]:
    """(wall ns, operators) of the last ``queries`` runs in a profile that ONNX Runtime wrote; times are whole microseconds there.

    An operator's name is the node's after graph optimization, and its place the execution provider that ran it.
    """
    events = json.loads(trace.read_text(encoding="utf-8"))
    runs = sorted((event for event in events if event.get("name") == "model_run"), key=lambda event: event["ts"])[-queries:]
    begin = runs[0]["ts"]
    wall_ns = sum(event["dur"] for event in runs) * 1000
    return wall_ns, merged(_kernels(event for event in events if event.get("cat") == "Node" and event["ts"] >= begin))


def _kernels(events: Iterable[Mapping[str, object]]) -> Iterable[OperatorTime]:
    for event in events:
        name, args, dur = str(event["name"]), event.get("args"), event["dur"]
        if name.endswith(KERNEL) and isinstance(args, Mapping) and isinstance(dur, int | float):
            provider = str(args.get("provider", "")).removesuffix("ExecutionProvider")
            yield OperatorTime(name.removesuffix(KERNEL), str(args.get("op_name", "")), provider, 1, round(dur * 1000))
