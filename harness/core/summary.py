"""What ``--json`` tells a machine: the verdict and the numbers that it rests on, small, flat and strict.

Schema history (``SUMMARY_SCHEMA``):
  1  first version

The JSON Schema in ``harness/reports/result.schema.json`` is made from these types. Every number is in the base unit that stands
beside it (``ns``, ``bytes``, ``per_s``, ``fraction``, ``joules``, ``number``), never rounded; what is not a finite number is null.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.comparison import Comparison, SlaFinding, SlaState, Verdict
from harness.core.estimate import Direction
from harness.core.result import TrialState
from harness.core.units import Unit

if TYPE_CHECKING:
    from harness.core.estimate import Estimate
    from harness.core.profile import OperatorChange
    from harness.core.result import RunResult, TrialRecord

SUMMARY_SCHEMA = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RunSummary(_Part):
    """Which run this is, and where it was measured."""

    id: str
    command: str
    program_version: str
    started_at: str
    """ISO 8601, UTC."""
    finished_at: str
    """ISO 8601, UTC."""
    seed: int
    cpu_model: str
    commit: str | None
    dirty: bool | None
    """Whether the working tree differed from the commit."""


class MetricSummary(_Part):
    """One number of one trial; ``low`` and ``high`` are its interval at ``level``, null where the number is exact."""

    metric: str
    unit: Unit
    better: Direction
    value: float
    low: float | None
    high: float | None
    level: float | None
    n: int
    n_of: str


class OperatorSummary(_Part):
    """An operator of a trial that became slower, under its runtime's profiler; ``name`` is empty where all of a type are told together."""

    kind: str
    name: str
    where: str
    baseline_calls: float
    """Calls a query."""
    candidate_calls: float
    baseline_ns: float
    """Own time of a query, in ns."""
    candidate_ns: float


class TrialSummary(_Part):
    """One cell of the matrix: what happened to it, and what it measured."""

    id: str
    scenario: str
    recipe: str
    hardware: str
    device: str
    batch_size: int
    state: TrialState
    verdict: Verdict | None
    """Null where nothing was compared."""
    reason: str
    metrics: tuple[MetricSummary, ...]
    operators: tuple[OperatorSummary, ...]
    """Where the time went, of a trial that became slower; empty for all others."""


class ComparisonSummary(_Part):
    """One metric of one trial, candidate against baseline."""

    trial: str
    metric: str
    unit: Unit
    better: Direction
    scale: Literal["ratio", "difference"]
    """``ratio``: candidate / baseline, 1 is no change. ``difference``: candidate - baseline in ``unit``, 0 is no change."""
    baseline: float | None
    candidate: float | None
    ratio: float | None
    """The paired effect on the ratio scale; null on the difference scale. Not always candidate / baseline: it is paired by launch."""
    difference: float | None
    """The effect on the difference scale; null on the ratio scale."""
    low: float | None
    """The lower end of the interval on ``scale``; null where it is open."""
    high: float | None
    """The upper end of the interval on ``scale``; null where it is open."""
    level: float
    """The confidence of the interval: 0.99 is 99 %."""
    tolerance: float
    """How far the candidate may be on the worse side of no change, on ``scale``."""
    visible_change: float | None
    """The smallest change that would have been seen at 80 % power, on ``scale``; null where the comparison is exact."""
    n: int
    n_of: str
    method: str
    verdict: Verdict
    reason: str
    advisory: bool
    """True where the comparison is told and decides nothing."""
    p_value: float | None
    """One-sided mid-p McNemar against "not worse", where samples are right or wrong; else null."""


class SlaSummary(_Part):
    """One SLA clause on one trial."""

    trial: str
    metric: str
    clause: str
    unit: Unit | None
    value: float | None
    limit: float | None
    state: SlaState
    reason: str
    line: int | None
    """The clause's line in the scenario file."""


class NullControlSummary(_Part):
    """The baseline against itself: red means that the machine was not fit for a verdict."""

    trial: str
    red: bool


class Summary(_Part):
    """One run of ``harness run`` or ``harness gate``, as ``--json`` prints it."""

    model_config = ConfigDict(title="harness result summary")

    schema_version: int = Field(alias="schema")
    """The version of this document; a change that breaks readers raises it."""
    verdict: Verdict
    exit_code: int
    headline: str
    """The verdict in one sentence."""
    run: RunSummary
    trials: tuple[TrialSummary, ...]
    comparisons: tuple[ComparisonSummary, ...]
    sla: tuple[SlaSummary, ...]
    null_control: NullControlSummary | None
    notes: tuple[str, ...]


def summarize(result: RunResult) -> Summary:
    """The summary of a result, everything in the result's own order."""
    return Summary(
        schema=SUMMARY_SCHEMA,
        verdict=result.verdict,
        exit_code=result.exit_code,
        headline=result.headline,
        run=RunSummary(
            id=result.id,
            command=result.command,
            program_version=result.program_version,
            started_at=result.started_at,
            finished_at=result.finished_at,
            seed=result.seed,
            cpu_model=result.environment.cpu_model,
            commit=result.environment.commit,
            dirty=result.environment.dirty,
        ),
        trials=tuple(_trial(trial) for trial in result.trials),
        comparisons=tuple(_comparison(comparison) for comparison in result.comparisons),
        sla=tuple(_finding(finding) for finding in result.sla),
        null_control=None
        if result.null_control is None
        else NullControlSummary(trial=result.null_control.trial, red=result.null_control.red),
        notes=result.notes,
    )


def summary_json(result: RunResult) -> str:
    """The summary as strict JSON on indented lines, ending in a newline: no NaN, no Infinity."""
    return summarize(result).model_dump_json(by_alias=True, indent=2) + "\n"


def summary_schema() -> str:
    """The JSON Schema (draft 2020-12) of the summary, as the file that is checked in."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Summary.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps(schema, indent=2, ensure_ascii=False).replace("``", "`") + "\n"


def _trial(trial: TrialRecord) -> TrialSummary:
    return TrialSummary(
        id=trial.id,
        scenario=trial.scenario,
        recipe=trial.recipe,
        hardware=trial.hardware,
        device=trial.device,
        batch_size=trial.batch_size,
        state=trial.state,
        verdict=trial.verdict,
        reason=trial.reason,
        metrics=tuple(_metric(estimate) for estimate in trial.estimates),
        operators=tuple(_operator(change) for part in _operator_tables(trial) for change in part),
    )


def _operator_tables(trial: TrialRecord) -> tuple[tuple[OperatorChange, ...], ...]:
    return () if trial.operators is None else (trial.operators.kinds, trial.operators.operators)


def _operator(change: OperatorChange) -> OperatorSummary:
    return OperatorSummary(
        kind=change.kind,
        name=change.name,
        where=change.where,
        baseline_calls=change.baseline_calls,
        candidate_calls=change.candidate_calls,
        baseline_ns=change.baseline_ns,
        candidate_ns=change.candidate_ns,
    )


def _metric(estimate: Estimate) -> MetricSummary:
    interval = estimate.interval
    return MetricSummary(
        metric=estimate.metric,
        unit=estimate.unit,
        better=estimate.better,
        value=estimate.value,
        low=None if interval is None else _finite(interval.low),
        high=None if interval is None else _finite(interval.high),
        level=None if interval is None else interval.level,
        n=estimate.n,
        n_of=estimate.n_of,
    )


def _comparison(comparison: Comparison) -> ComparisonSummary:
    return ComparisonSummary(
        trial=comparison.trial,
        metric=comparison.metric,
        unit=comparison.unit,
        better=comparison.better,
        scale=comparison.scale,
        baseline=_finite(comparison.baseline),
        candidate=_finite(comparison.candidate),
        ratio=_finite(comparison.effect) if comparison.scale == "ratio" else None,
        difference=_finite(comparison.effect) if comparison.scale == "difference" else None,
        low=_finite(comparison.interval.low),
        high=_finite(comparison.interval.high),
        level=comparison.interval.level,
        tolerance=comparison.tolerance,
        visible_change=None if comparison.visible_change is None else _finite(comparison.visible_change),
        n=comparison.n,
        n_of=comparison.n_of,
        method=comparison.method,
        verdict=comparison.verdict,
        reason=comparison.reason,
        advisory=comparison.advisory,
        p_value=comparison.p_value,
    )


def _finding(finding: SlaFinding) -> SlaSummary:
    return SlaSummary(
        trial=finding.trial,
        metric=finding.metric,
        clause=finding.clause,
        unit=finding.unit,
        value=None if finding.value is None else _finite(finding.value),
        limit=None if finding.limit is None else _finite(finding.limit),
        state=finding.state,
        reason=finding.reason,
        line=finding.line,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
