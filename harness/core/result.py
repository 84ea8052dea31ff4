"""What is saved and what reports are made from.

Schema history of the saved result (``SCHEMA``):
  1  first version; a trial's ``target``, ``parts``, ``served`` and ``environment`` came later, and are empty in runs saved before
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from harness.core.artifact import AppliedStep
from harness.core.comparison import Comparison, NullControl, SlaFinding, Verdict
from harness.core.environment import Environment
from harness.core.estimate import Absent, ConfidenceInterval, Estimate
from harness.core.measurement import Failure, Repeat, SessionFacts
from harness.core.profile import OperatorTable
from harness.core.scenario import PluginRef
from harness.core.serving import LoadRun
from harness.core.telemetry import Telemetry
from harness.core.trend import Trend

SCHEMA = 1


class TrialState(StrEnum):
    """What happened to a trial.

    MEASURED: compared with its baseline, or measured by ``run``. NEW: measured, no baseline yet. UNCHANGED: its content equals its
    baseline's, so it was not measured. SKIPPED: its hardware target is another machine. FAILED: could not be built or measured.
    """

    MEASURED = "MEASURED"
    NEW = "NEW"
    UNCHANGED = "UNCHANGED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class LaunchSketch:
    """One launch in little: quantiles of its query latencies in ns at ``QUANTILES``, how many queries, and its other figures.

    ``sample_ns`` are latencies evenly taken in their order, a bounded number for all launches of an arm together. Both are empty where
    the load does not time single queries. ``telemetry`` is what was seen of the machine meanwhile, None where it was off.
    """

    pair: int
    queries: int
    duration_ns: int
    quantiles_ns: tuple[int, ...]
    load_ns: int
    first_call_ns: int
    memory_bytes: int
    steady: bool
    sample_ns: tuple[int, ...] = ()
    telemetry: Telemetry | None = None


QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Distribution:
    """The latencies of one arm: a sketch of every launch, with about 2,000 sampled latencies in all."""

    arm: str
    launches: tuple[LaunchSketch, ...]

    @property
    def sample_ns(self) -> tuple[int, ...]:
        return tuple(latency for launch in self.launches for latency in launch.sample_ns)


@dataclass(frozen=True, slots=True)
class Content:
    """What went into a trial. ``source`` is the digest of what the user controls (code, arguments, weights, data, task, passes,
    runtime options, seed); ``toolchain`` are versions of packages and digests of plugin files; ``digest`` is over both."""

    digest: str
    source: str
    toolchain: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What the scenario said of a trial's hardware target: the cores that launches were pinned to and the threads that runtimes were told
    (None: as many as there are), and what the machine costs an hour (None: not told)."""

    cores: int | None
    threads: int | None
    price_per_hour: float | None
    currency: str


@dataclass(frozen=True, slots=True)
class Packed:
    """An array of numbers as text: ``dtype`` is numpy's name or ``bits``, ``data`` zlib in base64."""

    dtype: str
    count: int
    data: str


@dataclass(frozen=True, slots=True)
class Material:
    """What a baseline keeps of a trial beyond its numbers: cache keys of the artifact and of the evaluation set, how it was opened and
    served, every sample's score by gated metric and the class it was given, and every launch's figure by metric."""

    artifact_key: str
    evaluation_key: str
    runtime: PluginRef
    scores: Mapping[str, Packed]
    answers: Packed | None
    figures: Mapping[str, tuple[float, ...]]
    server: PluginRef | None = None


@dataclass(frozen=True, slots=True)
class QualityChange:
    """A recipe's score less its reference's over the same samples, with its interval; it decides nothing."""

    metric: str
    difference: float
    interval: ConfidenceInterval
    samples: int


@dataclass(frozen=True, slots=True)
class Flip:
    """One evaluation sample whose answer changed from baseline to candidate."""

    sample: int
    target: str
    baseline: str
    candidate: str


@dataclass(frozen=True, slots=True)
class ServedArm:
    """The loads over the network of one arm, a launch each, in order."""

    arm: str
    loads: tuple[LoadRun, ...]


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """All that is known of one trial after a run. ``reason`` says in one line why the state and the verdict are what they are.

    ``repeat`` and ``base_repeat`` are what came of asking each arm twice; None where that was not done. ``operators`` is where the time
    went, of a trial that became slower; ``quality_change`` what it costs in accuracy against the reference recipe. ``parts`` are digests of
    what the user controls, by name and without the machine: equal parts are the same work on any machine. ``served`` is each arm's loads
    where its requests came over the network. ``environment`` is the machine of a trial that was measured elsewhere; None: the run's own.
    """

    id: str
    scenario: str
    recipe: str
    hardware: str
    device: str
    batch_size: int
    load: str
    passes: tuple[str, ...]
    runtime: str
    is_reference: bool
    state: TrialState
    verdict: Verdict | None
    reason: str
    content: Content | None = None
    environment_key: str | None = None
    steps: tuple[AppliedStep, ...] = ()
    facts: SessionFacts | None = None
    estimates: tuple[Estimate, ...] = ()
    absent: tuple[Absent, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    flips: tuple[Flip, ...] = ()
    changes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    material: Material | None = None
    repeat: Repeat | None = None
    base_repeat: Repeat | None = None
    operators: OperatorTable | None = None
    quality_change: QualityChange | None = None
    target: TargetFacts | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    served: tuple[ServedArm, ...] = ()
    environment: Environment | None = None

    def estimate(self, metric: str) -> Estimate | None:
        return next((estimate for estimate in self.estimates if estimate.metric == metric), None)


@dataclass(frozen=True, slots=True)
class ScenarioText:
    """A scenario as it was when it ran; ``path`` is relative to the project."""

    name: str
    path: str
    text: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run of ``harness run`` or ``harness gate``: everything that a report, a baseline or another program needs.

    Times are ISO 8601 in UTC. ``headline`` is the verdict in one sentence. ``notes`` are warnings for the whole run.
    ``trends`` are what the history tells of its trials; they change no verdict.
    """

    schema: int
    program_version: str
    id: str
    command: str
    started_at: str
    finished_at: str
    seed: int
    environment: Environment
    scenarios: tuple[ScenarioText, ...]
    verdict: Verdict
    exit_code: int
    headline: str
    trials: tuple[TrialRecord, ...]
    comparisons: tuple[Comparison, ...]
    sla: tuple[SlaFinding, ...]
    null_control: NullControl | None = None
    notes: tuple[str, ...] = ()
    trends: tuple[Trend, ...] = ()

    def environment_of(self, trial: TrialRecord) -> Environment:
        """The machine that a trial was measured on."""
        return trial.environment or self.environment


def not_compared(trials: Iterable[TrialRecord], undecided: Iterable[Comparison]) -> list[TrialRecord]:
    """The trials that are inconclusive and have no inconclusive comparison: nothing could be held against their timings."""
    compared = {comparison.trial for comparison in undecided}
    return [trial for trial in trials if trial.verdict is Verdict.INCONCLUSIVE and trial.id not in compared]
