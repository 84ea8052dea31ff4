"""Counters of servers as they publish them: Triton's statistics extension, and the text of a Prometheus page."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import cast

from harness.core.serving import ServerCounters

_SAMPLE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?")
_LABEL = re.compile(r'(?P<key>[A-Za-z_]\w*)="(?P<value>(?:[^"\\]|\\.)*)"')


def from_statistics(told: Mapping[str, object], model: str) -> ServerCounters | None:
    """Counters from ``/v2/models/NAME/stats``, all versions together; None where the server does not tell of the model.

    The time in the model is taken from ``batch_stats``, which counts every batch once: ``inference_stats`` counts it for every request
    that was in the batch. https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
    """
    listed = [cast("Mapping[str, object]", one) for one in cast("list[object]", told.get("model_stats", []))]
    found = [one for one in listed if one.get("name") == model]
    if not found:
        return None

    def total(kind: str, field: str) -> int:
        return sum(_number(_mapping(_mapping(one.get("inference_stats")).get(kind)).get(field)) for one in found)

    batches = [_mapping(batch) for one in found for batch in cast("list[object]", one.get("batch_stats") or [])]
    return ServerCounters(
        answered=total("success", "count"),
        failed=total("fail", "count"),
        batches=sum(_number(one.get("execution_count")) for one in found),
        samples=sum(_number(one.get("inference_count")) for one in found),
        queue_ns=total("queue", "ns"),
        compute_ns=sum(_number(_mapping(batch.get("compute_infer")).get("ns")) for batch in batches),
    )


def from_prometheus(page: str, model: str) -> ServerCounters | None:
    """Counters from the metrics page of Triton or of this program's own server, all versions together; None without it.

    From Triton's page the time in the model stays None: ``nv_inference_compute_infer_duration_us`` adds a batch's time once for every
    request in it. https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md
    """
    sums = sums_of(page, model)
    if "nv_inference_request_success" in sums:
        return ServerCounters(
            answered=round(sums["nv_inference_request_success"]),
            failed=round(sums.get("nv_inference_request_failure", 0.0)),
            batches=round(sums.get("nv_inference_exec_count", 0.0)),
            samples=round(sums.get("nv_inference_count", 0.0)),
            queue_ns=_times(sums, "nv_inference_queue_duration_us", 1e3),
            compute_ns=None,
        )
    if "harness_requests_total" in sums:
        answered = sums_of(page, model, outcome="ok").get("harness_requests_total", 0.0)
        return ServerCounters(
            answered=round(answered),
            failed=round(sums["harness_requests_total"] - answered),
            batches=round(sums.get("harness_inference_seconds_count", 0.0)),
            samples=round(sums.get("harness_samples_total", 0.0)),
            queue_ns=_times(sums, "harness_queue_seconds_sum", 1e9),
            compute_ns=_times(sums, "harness_inference_seconds_sum", 1e9),
            worker_restarts=round(sums.get("harness_model_restarts_total", 0.0)),
        )
    return None


def sums_of(page: str, model: str, **labels: str) -> dict[str, float]:
    """The samples of a Prometheus page by metric, added over labels that are not named; those of other models are left out."""
    sums: dict[str, float] = defaultdict(float)
    for line in page.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line.strip())
        if match is None:
            continue
        own = {label["key"]: label["value"] for label in _LABEL.finditer(match["labels"] or "")}
        if own.get("model", own.get("model_name")) == model and labels.items() <= own.items():
            sums[match["name"]] += float(match["value"])
    return dict(sums)


def _times(sums: Mapping[str, float], name: str, ns: float) -> int | None:
    return round(sums[name] * ns) if name in sums else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
