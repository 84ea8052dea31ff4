"""What the server counts: whole numbers that a request costs well under a microsecond, read out when someone asks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

NS = 1e9
TIMES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Observations by bucket: each counts those that are at most its bound; the last one is for all above."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def add(self, value: int) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self, unit: float) -> list[tuple[str, float]]:
        """Cumulative counts as Prometheus wants them."""
        found, so_far = [], 0
        for bound, count in zip([*(f"{bound / unit:g}" for bound in self.bounds), "+Inf"], self.counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found


def _times() -> Histogram:
    return Histogram([round(bound * NS) for bound in TIMES_S])


@dataclass(slots=True)
class Counters:
    """All since the start. ``queue`` and ``request`` are in ns of each request, ``compute`` of each batch."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    restarts: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    compute_of_requests_ns: int = 0
    failed_ns: int = 0
    last_inference_ms: int = 0
    queue: Histogram = field(default_factory=_times)
    compute: Histogram = field(default_factory=_times)
    request: Histogram = field(default_factory=_times)
    batch: Histogram = field(default_factory=lambda: Histogram(SIZES))
    by_size: dict[int, list[int]] = field(default_factory=dict)
    """Batches and their time in ns, by the number of samples."""

    @property
    def batches(self) -> int:
        return sum(self.compute.counts)

    def ran(self, samples: int, compute_ns: int) -> None:
        """A batch was answered."""
        self.samples += samples
        self.compute.add(compute_ns)
        self.batch.add(samples)
        entry = self.by_size.get(samples)
        if entry is None:
            entry = self.by_size[samples] = [0, 0]
        entry[0] += 1
        entry[1] += compute_ns


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is now."""

    waiting: int
    in_model: int
    ready_instances: int
    cache_bytes: int


def prometheus_text(counters: Counters, gauges: Gauges, model: str) -> bytes:
    """In the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(counters, gauges, model))
    return generate_latest(registry)


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: the registry keeps it in a dictionary
class _Collector:
    counters: Counters
    gauges: Gauges
    model: str

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        now, model = self.counters, [self.model]
        requests = CounterMetricFamily("harness_requests", "Requests by outcome: ok, or why they failed.", labels=["model", "outcome"])
        requests.add_metric([self.model, "ok"], now.answered)
        for reason, count in sorted(now.failed.items()):
            requests.add_metric([self.model, reason], count)
        yield requests
        for name, text, value in (
            ("harness_samples", "Samples that the model has answered.", now.samples),
            ("harness_cache_hits", "Requests answered from the cache.", now.cache_hits),
            ("harness_cache_misses", "Requests that the cache had no answer for.", now.cache_misses),
            ("harness_model_restarts", "Model processes started anew.", now.restarts),
        ):
            counter = CounterMetricFamily(name, text, labels=["model"])
            counter.add_metric(model, value)
            yield counter
        for name, text, value in (
            ("harness_requests_waiting", "Requests in the queue.", self.gauges.waiting),
            ("harness_requests_in_model", "Requests in batches that run now.", self.gauges.in_model),
            ("harness_model_instances_ready", "Model processes that can take a batch.", self.gauges.ready_instances),
            ("harness_cache_bytes", "What the cache holds.", self.gauges.cache_bytes),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["model"])
            gauge.add_metric(model, value)
            yield gauge
        for name, text, histogram, unit in (
            ("harness_queue_seconds", "From the arrival of a request to the start of its batch.", now.queue, NS),
            ("harness_inference_seconds", "A batch in the model process.", now.compute, NS),
            ("harness_request_seconds", "From the arrival of a request to its answer, without the network.", now.request, NS),
            ("harness_batch_size", "Samples in a batch.", now.batch, 1.0),
        ):
            family = HistogramMetricFamily(name, text, labels=["model"])
            family.add_metric(model, buckets=histogram.buckets(unit), sum_value=histogram.total / unit)
            yield family
