"""A model behind a server, and what happened when requests were sent to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.core.artifact import ModelArtifact
from harness.core.scenario import PluginRef


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a server is asked to serve: an artifact in a runtime, under a model's name, and the seat that it gets.

    ``folder`` is the server's own, empty, for its files and logs. ``cores`` are what its processes are pinned to (empty: not pinned),
    ``threads`` what the runtime is told. ``batch_size`` is the number of samples of one request. ``data`` is a saved data set
    (``engine/datasets``) whose samples a server may warm up with. ``python`` is the interpreter of its model processes.
    """

    artifact: ModelArtifact
    runtime: PluginRef
    scenario_folder: Path
    model: str
    device: str
    threads: int
    cores: tuple[int, ...]
    batch_size: int
    data: Path
    folder: Path
    python: Path
    start_timeout_s: float = 120.0
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers the Open Inference Protocol (KServe v2) over HTTP: ``url`` (``http://127.0.0.1:40321``, no path) and name.

    ``authorities`` are the certificates (PEM) that an https endpoint's must be signed by; empty: the system's. ``headers`` go with each
    request, as the scenario writes them: a secret is a variable's name here, and its value is looked up when it is sent.
    """

    url: str
    model: str
    version: str = ""
    authorities: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def infer_path(self) -> str:
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{self.model}{version}/infer"


@dataclass(frozen=True, slots=True)
class ServerCounters:
    """A server's own counters since its start: requests answered and failed, executed batches, samples in them, and the time in ns that
    requests waited in its queue and that batches took in the model. None where a server does not count it."""

    answered: int
    failed: int
    batches: int
    samples: int
    queue_ns: int | None
    compute_ns: int | None
    worker_restarts: int = 0

    def since(self, before: ServerCounters) -> ServerCounters:
        """What was added after ``before``."""

        def less(now: int | None, then: int | None) -> int | None:
            return None if now is None or then is None else now - then

        return ServerCounters(
            self.answered - before.answered,
            self.failed - before.failed,
            self.batches - before.batches,
            self.samples - before.samples,
            less(self.queue_ns, before.queue_ns),
            less(self.compute_ns, before.compute_ns),
            self.worker_restarts - before.worker_restarts,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """Both sides at one moment of a load: ``at_ns`` since its first intended send; CPU in cores busy since the sample before."""

    at_ns: int
    server_cpu: float
    server_rss_bytes: int
    generator_cpu: float
    generator_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Window:
    """A second or so of a load, for its course over time: requests due in it, those that failed, and quantiles of latency from the
    intended send time in ns (a failed request counts as one that took the whole timeout)."""

    start_ns: int
    duration_ns: int
    due: int
    failed: int
    p50_ns: int
    p99_ns: int


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late requests were sent against the schedule, in ns; and how many were never sent (``dropped``)."""

    p50_ns: int
    p99_ns: int
    greatest_ns: int
    dropped: int


@dataclass(frozen=True, slots=True)
class CapacityStep:
    """One run of a search for capacity. ``kept`` says whether this rate kept the SLA, ``reason`` why not."""

    rate_per_s: float
    achieved_per_s: float
    p50_ns: int
    p99_ns: int
    failed: int
    requests: int
    kept: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LoadRun:
    """One load on one server, without its ramp; the unit of evidence under load.

    ``kind``: ``open`` follows a schedule whatever the server does, and counts latency from the intended send; ``closed`` has ``users``
    that wait for their answers, and counts from the send. ``due`` requests were intended in the measured time, ``answered`` of them with
    status 200, ``failed`` by what came instead ("503", "timeout", "connection", "bad answer", "dropped"). ``duration_ns`` is from the
    first intended send to the last answer. ``limit_ns`` is the latency that the scenario promises, ``within_limit`` how many were
    answered in time (both None without one). ``records`` is the file with every request, relative to the run's folder, and
    ``records_sha256`` its digest.
    ``recovery_ns`` is the time after a spike until latency was what it had been; the whole rest of the load where it never was.
    ``generator_cpu`` is the busiest generator process, in cores. ``doubt`` says why the generator did not keep its schedule: the run is
    then no evidence.
    ``first_byte_p50_ns`` is from the send to the first byte of the answer. ``locustfile`` marks requests made by the user's own Locust
    file, each with its own name and kind of latency. ``drift`` is the median latency of the last tenth of the requests over that of the
    first (None where the rate changes). ``generator_hosts`` are the other machines that sent, empty where this one did; then
    ``start_skew_ns`` is within how much of each other all generators began. ``capacity_note`` says why no capacity was found, and what was
    shown all the same.
    """

    kind: Literal["open", "closed"]
    arrivals: str
    rate_per_s: float | None
    users: int | None
    due: int
    answered: int
    failed: Mapping[str, int]
    duration_ns: int
    limit_ns: int | None
    within_limit: int | None
    lateness: Lateness
    generator_cpu: float
    generator_processes: int
    windows: tuple[Window, ...]
    usage: tuple[Usage, ...]
    records: str
    records_sha256: str
    first_byte_p50_ns: int | None = None
    recovery_ns: int | None = None
    doubt: str | None = None
    locustfile: str | None = None
    drift: float | None = None
    server: ServerCounters | None = None
    server_log: str = ""
    capacity: tuple[CapacityStep, ...] = ()
    capacity_per_s: float | None = None
    generator_hosts: tuple[str, ...] = ()
    start_skew_ns: int | None = None
    capacity_note: str = ""

    @property
    def answered_per_s(self) -> float:
        """Answers a second, from the first intended send to the last answer."""
        return self.answered / (self.duration_ns / 1e9)

    @property
    def in_time_per_s(self) -> float | None:
        """Answers a second that came within ``limit_ns``; None where nothing is promised."""
        return None if self.within_limit is None else self.within_limit / (self.duration_ns / 1e9)

    @property
    def mean_batch(self) -> float | None:
        """Samples in a batch; None where the server does not tell its batches."""
        return None if self.server is None or not self.server.batches else self.server.samples / self.server.batches
