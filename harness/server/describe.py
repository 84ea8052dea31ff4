"""What the server tells of itself and its model, in the words of the Open Inference Protocol and of Triton's extensions to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import __version__
from harness.core.serving import ServerCounters
from harness.kserve.codec import DATATYPES
from harness.server.answers import VERSION

if TYPE_CHECKING:
    from harness.kserve.settings import Settings
    from harness.server.counters import Counters
    from harness.server.requests import Input, Output, ServedModel

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")


def server_metadata() -> dict[str, object]:
    return {"name": "harness", "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(settings: Settings, model: ServedModel) -> dict[str, object]:
    """Shapes have the samples' axis first; -1 is any length."""

    def told(tensors: Sequence[Input | Output]) -> list[dict[str, object]]:
        return [{"name": one.name, "datatype": DATATYPES[one.dtype], "shape": [-1, *_axes(one.row)]} for one in tensors]

    return {
        "name": settings.deployment.model,
        "versions": [VERSION],
        "platform": f"harness_{settings.deployment.runtime.name}",
        "inputs": told(model.inputs),
        "outputs": told(model.outputs),
    }


def model_config(settings: Settings, model: ServedModel) -> dict[str, object]:
    """As Triton tells it: dims without the samples' axis."""

    def told(tensors: Sequence[Input | Output]) -> list[dict[str, object]]:
        return [{"name": one.name, "data_type": _config_type(one.dtype), "dims": _axes(one.row)} for one in tensors]

    deployment = settings.deployment
    kind = "KIND_GPU" if deployment.device.startswith("cuda") else "KIND_CPU"
    return {
        "name": deployment.model,
        "platform": f"harness_{deployment.runtime.name}",
        "backend": deployment.runtime.name,
        "max_batch_size": model.most,
        "input": told(model.inputs),
        "output": told(model.outputs),
        "dynamic_batching": {
            "preferred_batch_size": list(settings.preferred_batch_sizes),
            "max_queue_delay_microseconds": settings.max_queue_delay_ns // 1000,
            "default_queue_policy": {
                "max_queue_size": settings.queue_limit,
                "default_timeout_microseconds": settings.request_timeout_ns // 1000,
            },
        },
        "instance_group": [{"name": deployment.model, "kind": kind, "count": settings.instances}],
        "response_cache": {"enable": settings.cache_bytes > 0},
        "parameters": {"threads": {"string_value": str(deployment.threads)}},
    }


def statistics(settings: Settings, counters: Counters) -> dict[str, object]:
    """As Triton tells it: times are of requests, each with the whole time of its batch; ``batch_stats`` are of batches."""
    none = {"count": 0, "ns": 0}
    success, failed = counters.answered, sum(counters.failed.values())
    ran = success - counters.cache_hits
    last = counters.last_inference_ms
    return {
        "model_stats": [
            {
                "name": settings.deployment.model,
                "version": VERSION,
                "last_inference": round(time.time() * 1000 - time.monotonic() * 1000) + last if last else 0,
                "inference_count": counters.samples,
                "execution_count": counters.batches,
                "inference_stats": {
                    "success": {"count": success, "ns": counters.request.total},
                    "fail": {"count": failed, "ns": counters.failed_ns},
                    "queue": {"count": ran, "ns": counters.queue.total},
                    "compute_input": none,
                    "compute_infer": {"count": ran, "ns": counters.compute_of_requests_ns},
                    "compute_output": none,
                    "cache_hit": {"count": counters.cache_hits, "ns": 0},
                    "cache_miss": {"count": counters.cache_misses, "ns": 0},
                },
                "batch_stats": [
                    {"batch_size": size, "compute_input": none, "compute_infer": {"count": count, "ns": ns}, "compute_output": none}
                    for size, (count, ns) in sorted(counters.by_size.items())
                ],
            }
        ]
    }


def server_counters(counters: Counters) -> ServerCounters:
    return ServerCounters(
        answered=counters.answered,
        failed=sum(counters.failed.values()),
        batches=counters.batches,
        samples=counters.samples,
        queue_ns=counters.queue.total,
        compute_ns=counters.compute.total,
        worker_restarts=counters.restarts,
    )


def _axes(row: Sequence[int | None]) -> list[int]:
    return [-1 if length is None else length for length in row]


def _config_type(dtype: str) -> str:
    name = DATATYPES[dtype]
    return f"TYPE_{'STRING' if name == 'BYTES' else name}"
