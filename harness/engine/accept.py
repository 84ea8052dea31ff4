"""A run's numbers as baselines."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.core.baseline import BASELINE_SCHEMA, Baseline, Measured, Portable
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.result import RunResult, TrialRecord, TrialState
from harness.store.baselines import Unreadable

if TYPE_CHECKING:
    from harness.core.estimate import Estimate
    from harness.store.baselines import Baselines

MOST_SESSIONS = 50
NOT_CONTENT = (
    *("measure.duration", "measure.warm_up", "measure.launches", "measure.timeout", "measure.build_timeout"),
    *("sla", "gate", "stored", "reference", "description"),
)
"""What may be overridden without another model being measured than the one that the scenario holds."""


def accept(
    result: RunResult,
    baselines: Baselines,
    *,
    now: str,
    only: Sequence[str] = (),
    force: bool = False,
    overrides: Sequence[str] = (),
) -> tuple[str, ...]:
    """Make a run's trials the baselines; their ids. What did not change keeps its baseline. ``overrides`` are what ``--set`` gave the run.

    Raises CannotMeasure for a run of uncommitted or overridden source or with trials that failed, unless ``force`` is given; BadInput
    when a pattern of ``only`` matches no trial of the run.
    """
    chosen = [trial for trial in result.trials if not only or any(fnmatch.fnmatch(trial.id, f"*{pattern}*") for pattern in only)]
    if not chosen:
        raise BadInput(Problem(f"no trial of run {result.id} matches {', '.join(only)}"))
    failed = [trial for trial in chosen if trial.state is TrialState.FAILED]
    if result.environment.dirty and not force:
        hint = "commit first, or add --force: such a baseline cannot be built again from its commit"
        raise CannotMeasure(f"run {result.id} measured source that was not committed", hint=hint)
    if not force and (replaced := [override for override in overrides if not override.startswith(NOT_CONTENT)]):
        hint = "write it into the scenario, commit and measure again, or add --force: such a baseline cannot be built again from its commit"
        raise CannotMeasure(f"run {result.id} did not measure what the scenario holds: --set {replaced[0]}", hint=hint)
    if failed and not force:
        raise CannotMeasure(
            f"{failed[0].id} failed in run {result.id}: {failed[0].reason}", hint="mend it, or accept the others with --force"
        )
    ready = [trial for trial in chosen if trial.material is not None and trial.state in (TrialState.MEASURED, TrialState.NEW)]
    if not ready:
        raise CannotMeasure(f"run {result.id} measured nothing that is not a baseline already")
    for trial in ready:
        baselines.write(baseline_of(trial, result, _present(baselines, trial.id), now=now, renew=True))
    return tuple(trial.id for trial in ready)


def accept_new(result: RunResult, baselines: Baselines, *, now: str, overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """Make first numbers the baselines of trials that have none, here or on this kind of machine; their ids.

    Numbers of uncommitted or overridden source are taken too; their baselines name no commit that they could be built again from.
    """
    if not all(override.startswith(NOT_CONTENT) for override in overrides):
        result = replace(result, environment=replace(result.environment, dirty=True))
    new = [trial for trial in result.trials if trial.state is TrialState.NEW and trial.material is not None]
    for trial in new:
        baselines.write(baseline_of(trial, result, _present(baselines, trial.id), now=now, renew=False))
    return tuple(trial.id for trial in new)


def baseline_of(trial: TrialRecord, result: RunResult, present: Baseline | None, *, now: str, renew: bool) -> Baseline:
    """The baseline that a measured trial makes. Of the same source, the numbers of other machines are kept, and the portable part too
    unless it is to be ``renew``ed."""
    assert trial.content is not None and trial.material is not None and trial.environment_key is not None
    same = present is not None and present.portable.content.source == trial.content.source
    kept: Mapping[str, Measured] = present.measured if present is not None and same else {}
    portable = present.portable if present is not None and same and not renew else _portable(trial, result)
    before = kept.get(trial.environment_key)
    return Baseline(
        schema=BASELINE_SCHEMA,
        trial=trial.id,
        program_version=result.program_version,
        accepted_at=now,
        portable=portable,
        measured={**kept, trial.environment_key: _measured(trial, result, before)},
    )


def _portable(trial: TrialRecord, result: RunResult) -> Portable:
    assert trial.content is not None and trial.material is not None
    scenario = next(text for text in result.scenarios if text.name == trial.scenario)
    return Portable(
        content=trial.content,
        scenario_path=scenario.path,
        scenario_text=scenario.text,
        commit=None if result.environment.dirty else result.environment.commit,
        artifact_key=trial.material.artifact_key,
        evaluation_key=trial.material.evaluation_key,
        runtime=trial.material.runtime,
        server=trial.material.server,
        device=trial.device,
        steps=trial.steps,
        estimates=tuple(estimate for estimate in trial.estimates if estimate.n_of != "launches"),
        scores=trial.material.scores,
        answers=trial.material.answers,
    )


def _measured(trial: TrialRecord, result: RunResult, before: Measured | None) -> Measured:
    assert trial.material is not None and trial.facts is not None
    environment = result.environment_of(trial)
    estimates = tuple(estimate for estimate in trial.estimates if estimate.n_of == "launches")
    distribution = next(item for item in trial.distributions if item.arm == "candidate")
    return Measured(
        machine=f"{environment.cpu_model}, {environment.cpu_count} CPUs, {environment.memory_bytes / 2**30:.0f} GiB, {environment.os}"
        + "".join(f", {gpu.name} ({gpu.driver})" for gpu in environment.gpus),
        run=result.id,
        measured_at=result.started_at,
        facts=trial.facts,
        estimates=estimates,
        absent=trial.absent,
        distribution=replace(distribution, arm="baseline"),
        figures=trial.material.figures,
        sessions=_sessions(estimates, before, result.id),
    )


def _sessions(estimates: Sequence[Estimate], before: Measured | None, run: str) -> dict[str, tuple[float, ...]]:
    """This session's mean after the earlier ones of the same content on the same kind of machine; a run accepted again is one session."""
    earlier = before.sessions if before is not None else {}
    if before is not None and before.run == run:
        return dict(earlier)
    return {item.metric: (*earlier.get(item.metric, ()), item.value)[-MOST_SESSIONS:] for item in estimates}


def _present(baselines: Baselines, trial: str) -> Baseline | None:
    """What there is; a damaged file is what the new one replaces."""
    try:
        return baselines.read(trial)
    except Unreadable:
        return None
