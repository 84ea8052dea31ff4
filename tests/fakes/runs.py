"""Launches, predictions and artifacts made by hand, and launches of a machine whose truth is known."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np

from harness.core.artifact import ModelArtifact
from harness.core.measurement import Failure, FailureReason, Measurement, Run, SessionFacts, Slice
from harness.core.plugin import Predictions
from harness.core.scenario import PluginRef
from harness.engine.protocol import Subject
from harness.engine.workers import WorkerFailed

MS = 1_000_000


def timed(*latencies_ns: int, started_ns: int = 0, overhead_ns: int = 0) -> Slice:
    """A slice of a load that times each query."""
    return Slice(started_ns, sum(latencies_ns) + overhead_ns, len(latencies_ns), tuple(latencies_ns))


def untimed(queries: int, duration_ns: int) -> Slice:
    """A slice of a load that times the block as a whole."""
    return Slice(0, duration_ns, queries, ())


def run(*slices: Slice, pair: int = 0, arm: str = "candidate", **changes) -> Run:
    """One launch: what is not given is plain and the same for all."""
    facts = {
        "pid": 4242,
        "cores": (0,),
        "facts": SessionFacts("cpu", "fp32", 1),
        "load_ns": 300 * MS,
        "first_call_ns": 14 * MS,
        "idle_rss_bytes": 200 * 2**20,
        "peak_rss_bytes": 300 * 2**20,
        "device_peak_bytes": None,
        "warm_up_calls": 3,
        "steady": True,
    }
    return Run(pair=pair, arm=arm, slices=slices, **(facts | changes))


def even_run(latency_ns: int = MS, *, slices: int = 6, queries: int = 4, **changes) -> Run:
    """A launch in which every query takes equally long."""
    return run(*(timed(*[latency_ns] * queries) for _ in range(slices)), **changes)


def measurement(*runs: Run, batch_size: int = 1, load: str = "single_stream", failures: tuple[Failure, ...] = ()) -> Measurement:
    return Measurement("fake/one-cpu-b1", batch_size, load, runs, failures)


def predictions(outputs, targets=None, task: str = "classification") -> Predictions:
    return Predictions((np.asarray(outputs, dtype=np.float32),), None if targets is None else np.asarray(targets), task)


def artifact(size_bytes: int = 1024) -> ModelArtifact:
    return ModelArtifact(Path("nowhere"), "fake", "model.json", (), (), size_bytes, "0" * 64, ())


def subject(batch_size: int = 1) -> Subject:
    """An arm as a contest holds it; nothing of it is opened."""
    return Subject(artifact(), PluginRef(name="fake"), PluginRef(name="single_stream"), Path(), "cpu", 1, (0,), batch_size, Path())


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now: float = 0) -> None:
        self.now = now
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now

    def spend(self, duration: float) -> None:
        self.now += duration


class Machine:
    """Stands in for ``measure.launch``: pairs of launches whose true log ratio is known.

    A launch has its own luck (15 %), shared by both arms of the pair; the ratio varies from pair to pair with the standard deviation
    ``spread`` around what ``truth(pair)`` says. The time to load varies by ``load_spread`` in each arm, whatever the truth. ``pair_s``
    passes on ``clock`` for each pair. The pair ``fails_at`` fails.
    """

    def __init__(self, truth, clock: FakeClock, *, spread=0.01, seed=0, latency_ns=MS, pair_s=1.0, load_spread=0.0, fails_at=None) -> None:
        self.truth = truth if callable(truth) else lambda pair: truth
        self.spread = spread
        self.draw = random.Random(seed)
        self.latency_ns = latency_ns
        self.pair_s = pair_s
        self.fails_at = fails_at
        self.clock = clock
        self.load_spread = load_spread
        self.launched = 0

    def launch(self, arms, pair, procedure, seed, *, apart=False) -> dict[str, Run]:
        self.launched += 1
        self.clock.spend(self.pair_s)
        if pair == self.fails_at:
            raise WorkerFailed(Failure(FailureReason.SIGNAL, "candidate, slice", "the worker was killed by SIGSEGV", "last words"))
        level = self.latency_ns * math.exp(self.draw.gauss(0, 0.15))
        ratio = math.exp(self.draw.gauss(self.truth(pair), self.spread))
        latencies = {"baseline": level, "candidate": level * ratio}
        return {
            arm: even_run(round(latency), pair=pair, arm=arm, load_ns=round(300 * MS * math.exp(self.draw.gauss(0, self.load_spread))))
            for arm, latency in latencies.items()
        }
