"""Where the time of an ONNX Runtime query goes, by its own profiler."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.core.profile import OperatorTime, merged

KERNEL = "_kernel_time"


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
