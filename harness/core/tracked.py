"""A run as an experiment tracker knows it: one tracked run for each trial, with parameters, metrics and tags under flat names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.result import TrialState

if TYPE_CHECKING:
    from harness.core.comparison import Comparison, SlaFinding
    from harness.core.environment import Environment
    from harness.core.result import RunResult, TrialRecord

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TrackedTrial:
    """One trial. ``params`` is what was measured and where, ``metrics`` the numbers in base units, ``tags`` what was decided.

    What is not known, and what is not a finite number, is left out: missing is not zero.
    """

    id: str
    failed: bool
    params: dict[str, Value] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """One run of harness. ``files`` are its reports by file name; times are ISO 8601 in UTC."""

    id: str
    started_at: str
    finished_at: str
    tags: dict[str, str]
    trials: tuple[TrackedTrial, ...]
    files: dict[str, bytes]


def tracked(result: RunResult, files: dict[str, bytes]) -> TrackedRun:
    """Every trial of a result, in its order, those that were not measured too."""
    whole = {"command": result.command, "run_verdict": str(result.verdict), "headline": result.headline}
    trials = tuple(_trial(trial, result) for trial in result.trials)
    return TrackedRun(result.id, result.started_at, result.finished_at, whole, trials, files)


def _trial(trial: TrialRecord, result: RunResult) -> TrackedTrial:
    comparisons = [comparison for comparison in result.comparisons if comparison.trial == trial.id]
    findings = [finding for finding in result.sla if finding.trial == trial.id]
    tags = {"state": str(trial.state), "reason": trial.reason}
    if trial.verdict is not None:
        tags["verdict"] = str(trial.verdict)
    tags |= {f"verdict.{comparison.metric}": _decided(comparison) for comparison in comparisons}
    tags |= {f"sla.{_promised(finding)[0]}": str(finding.state) for finding in findings}
    return TrackedTrial(
        trial.id,
        failed=trial.state is TrialState.FAILED,
        params={name: value for name, value in _params(trial, result, findings) if value not in (None, "")},
        metrics={name: value for name, value in _metrics(trial, comparisons) if math.isfinite(value)},
        tags=tags,
    )


def _params(trial: TrialRecord, result: RunResult, findings: list[SlaFinding]) -> Iterator[tuple[str, Value | None]]:
    named: dict[str, Value | None] = {
        "scenario": trial.scenario,
        "recipe": trial.recipe,
        "is_reference": trial.is_reference,
        "runtime": trial.runtime,
        "passes": ", ".join(trial.passes),
        "hardware": trial.hardware,
        "device": trial.device,
        "batch_size": trial.batch_size,
        "load": trial.load,
        "harness": result.program_version,
        "seed": result.seed,
        "environment_key": trial.environment_key,
    }
    yield from named.items()
    for number, step in enumerate(trial.steps):
        yield f"step.{number}.{step.plugin}", step.options
    if trial.facts is not None:
        yield "precision", trial.facts.precision
        yield "threads", trial.facts.threads
    if trial.content is not None:
        yield "content_digest", trial.content.digest
        yield "source_digest", trial.content.source
    if trial.target is not None:
        yield "cores", trial.target.cores
        yield "price_per_hour", trial.target.price_per_hour
        yield "currency", None if trial.target.price_per_hour is None else trial.target.currency
    for estimate in trial.estimates:
        yield f"unit.{estimate.metric}", str(estimate.unit)
    for finding in findings:
        name, promise = _promised(finding)
        yield f"sla.{name}", promise
    if trial.state is not TrialState.SKIPPED:  # its hardware target is another machine than this
        yield from _environment(result.environment)
        versions = {**result.environment.packages, **(trial.content.toolchain if trial.content is not None else {})}
        for name, version in sorted(versions.items()):
            yield f"version.{name}", version


def _environment(environment: Environment) -> Iterator[tuple[str, Value | None]]:
    for name in ("cpu_model", "cpu_count", "memory_bytes", "os", "kernel", "python", "governor", "virtual_machine", "commit", "dirty"):
        yield f"environment.{name}", getattr(environment, name)
    yield "environment.gpus", ", ".join(f"{gpu.name} (driver {gpu.driver})" for gpu in environment.gpus)
    for name, value in sorted(environment.variables.items()):
        yield f"environment.variable.{name}", value


def _metrics(trial: TrialRecord, comparisons: list[Comparison]) -> Iterator[tuple[str, float]]:
    for estimate in trial.estimates:
        yield estimate.metric, estimate.value
        if estimate.interval is not None:
            yield f"{estimate.metric}/low", estimate.interval.low
            yield f"{estimate.metric}/high", estimate.interval.high
    for comparison in comparisons:
        name = f"{comparison.metric}/{comparison.scale}"
        yield f"{comparison.metric}/baseline", comparison.baseline
        yield name, comparison.effect
        yield f"{name}/low", comparison.interval.low
        yield f"{name}/high", comparison.interval.high


def _decided(comparison: Comparison) -> str:
    return f"{comparison.verdict} (advisory)" if comparison.advisory else str(comparison.verdict)


def _promised(finding: SlaFinding) -> tuple[str, str]:
    """The key of a clause and what it promises: ``int8.latency_p99`` and ``at most 50 ms``."""
    name, _, promise = finding.clause.partition(":")
    return name.strip(), promise.strip()
