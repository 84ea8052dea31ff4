"""Loads over the network made by hand, and a server and a load plugin whose truth is known: no process, no socket."""

from __future__ import annotations

import math
import random
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from harness.core.measurement import SessionFacts
from harness.core.plugin import Driven
from harness.core.result import RunResult, ServedArm
from harness.core.serving import CapacityStep, Endpoint, Lateness, LoadRun, ServerCounters, Usage, Window

MS = 1_000_000
SECOND = 1_000 * MS


def load_run(**changes) -> LoadRun:
    """One load as its generator tells it: what is not given is plain, and nothing broke."""
    plain = LoadRun(
        kind="open",
        arrivals="poisson",
        rate_per_s=100.0,
        users=None,
        due=1_000,
        answered=1_000,
        failed={},
        duration_ns=10 * SECOND,
        limit_ns=50 * MS,
        within_limit=990,
        lateness=Lateness(100_000, 900_000, 2 * MS, 0),
        generator_cpu=0.3,
        generator_processes=1,
        windows=tuple(Window(second * SECOND, SECOND, 100, 0, 5 * MS, 20 * MS) for second in range(10)),
        usage=(Usage(0, 0.5, 300 * 2**20, 0.3, 80 * 2**20), Usage(SECOND, 0.6, 310 * 2**20, 0.3, 80 * 2**20)),
        records="logs/one/candidate-000-load/load-00/requests.npz",
        records_sha256="0" * 64,
        first_byte_p50_ns=4 * MS,
        server=ServerCounters(1_000, 0, 250, 1_000, 1_000 * MS, 2_000 * MS),
    )
    return replace(plain, **changes)


@dataclass
class FakeServer:
    """Serves ``capacity`` requests a second in ``service_ns`` each; beyond that its queue grows."""

    capacity: float = 500.0
    service_ns: int = 2 * MS
    trouble_: str | None = None
    counted: ServerCounters = field(default_factory=lambda: ServerCounters(0, 0, 0, 0, 0, 0))
    endpoint: Endpoint = field(default_factory=lambda: Endpoint("http://127.0.0.1:1", "fake"))

    def pids(self):
        return (4242,)

    def counters(self):
        return self.counted

    def trouble(self):
        return self.trouble_

    def log(self):
        return "the end of what it printed"

    def facts(self):
        return SessionFacts("cpu", "fp32", 1)


@dataclass
class FakeServing:
    """Yields ``server`` and keeps what was deployed and whether it was ended."""

    server: FakeServer = field(default_factory=FakeServer)
    deployed: list = field(default_factory=list)
    ended: int = 0

    @contextmanager
    def serve(self, deployment):
        self.deployed.append(deployment)
        try:
            yield self.server
        finally:
            self.ended += 1


@dataclass
class FakeLoad:
    """Poisson arrivals at a rate on the fake server: latency is the service time, and the wait where more comes than it can serve."""

    rate: float = 100.0
    duration_ns: int = 10 * SECOND
    most_sent: float = math.inf
    broken: int = 0
    jobs: list = field(default_factory=list)

    def at_rate(self, rate_per_s, duration_ns):
        return replace(self, rate=rate_per_s, duration_ns=duration_ns)

    def drive(self, job):
        self.jobs.append((job, self.rate))
        draw = random.Random(job.seed)
        intended, latencies, now, free = [], [], 0.0, 0.0
        while (now := now + draw.expovariate(self.rate)) < self.duration_ns / SECOND:
            free = max(now, free) + 1 / job.server.capacity
            intended.append(round(now * SECOND))
            latencies.append(round((free - now) * SECOND) + job.server.service_ns)
        before = job.server.counted
        job.server.counted = replace(before, answered=before.answered + len(latencies), batches=before.batches + 1)
        doubt = "its CPU was saturated: raise 'processes'" if self.rate > self.most_sent else None
        load = load_run(
            rate_per_s=self.rate,
            due=len(latencies),
            answered=len(latencies) - self.broken,
            failed={"503": self.broken} if self.broken else {},
            duration_ns=self.duration_ns,
            records=job.records_as,
            doubt=doubt,
            server=None,
        )
        return Driven(load, tuple(intended), tuple(latencies))


def course(seconds: int = 12, *, rate: int = 200, spike_at: int | None = 5, level: float = 1.0) -> tuple[Window, ...]:
    """Windows of a second each; at ``spike_at`` ten times as much is due and latency rises."""
    windows = []
    for second in range(seconds):
        spike = spike_at is not None and spike_at <= second < spike_at + 2
        p50 = round(level * (30 if spike else 4 + 0.3 * math.sin(second)) * MS)
        windows.append(Window(second * SECOND, SECOND, rate * (10 if spike else 1), 3 if spike else 0, p50, 4 * p50))
    return tuple(windows)


def search(capacity: float = 640.0) -> tuple[CapacityStep, ...]:
    """The steps of a search that found this capacity."""
    rates = (100, 200, 400, 800, 566, 673, 617, 644)
    steps = []
    for rate in rates:
        p99 = round(8 * MS / max(0.05, 1 - rate / (1.15 * capacity)))
        kept = rate <= capacity
        steps.append(
            CapacityStep(rate, min(rate, capacity), p99 // 3, p99, 0, 3 * rate, kept, "" if kept else "p99 is 61 ms, promised are 50 ms")
        )
    return tuple(steps)


def result_under_load(results) -> RunResult:
    """A gate of two recipes behind servers: open loop with a spike and a capacity in both arms, and a closed loop."""
    arms = tuple(
        ServedArm(
            arm,
            tuple(
                load_run(
                    rate_per_s=200.0,
                    due=6_400,
                    answered=6_394,
                    failed={"503": 4, "timeout": 2},
                    duration_ns=12 * SECOND,
                    windows=course(level=level),
                    capacity=search(640 / level),
                    capacity_per_s=617.0 / level,
                    recovery_ns=round(1.4 * SECOND),
                )
                for _ in range(5)
            ),
        )
        for arm, level in (("baseline", 1.0), ("candidate", 1.25))
    )
    closed = ServedArm("candidate", (load_run(kind="closed", arrivals="users", rate_per_s=None, users=16, server=None, usage=()),) * 2)
    trials = (results.trial("int8", load="locust", served=arms), results.trial("onnx", load="locust", served=(closed,)))
    return results.result(trials=trials, comparisons=(), sla=())
