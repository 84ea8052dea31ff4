"""A finished case as the record that is saved and told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.comparison import Comparison, Verdict
from harness.core.estimate import Absent
from harness.core.measurement import Failure, FailureReason, Measurement
from harness.core.repeat_wording import doubts_of
from harness.core.result import Content, Distribution, Flip, Material, ServedArm, TargetFacts, TrialRecord, TrialState
from harness.engine.evaluate import artifact_estimates, launch_estimates, sample_estimates, sketch, split
from harness.engine.judge import worst
from harness.engine.packing import pack, unpack
from harness.engine.routes import Route, version_changes
from harness.engine.rules import rules_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.baseline import Baseline
    from harness.core.estimate import Estimate
    from harness.core.plan import SkippedTrial, Trial
    from harness.core.plugin import Predictions
    from harness.core.scenario import PluginRef
    from harness.engine.case import Case

MOST_FLIPS = 1_000
_FRAME = re.compile(r'File "(.+)", line (\d+)')
NO_TIMINGS = "no timings of this kind of machine were accepted yet: 'harness gate --new-baselines accept' measures and keeps them"


def skipped_record(skipped: SkippedTrial) -> TrialRecord:
    """A trial for another machine: named, never run."""
    return record_with(skipped.trial, TrialState.SKIPPED, None, skipped.reason)


def unmeasured_record(trial: Trial, reason: str) -> TrialRecord:
    """A trial that was to be measured on another machine and was not."""
    return record_with(trial, TrialState.FAILED, Verdict.INVALID, reason)


def record_of(case: Case, *, gated: bool, accepting: bool) -> TrialRecord:
    """Everything known of a case. ``gated``: a verdict is wanted; ``accepting``: new trials become baselines."""
    if case.unreadable is not None:
        return record_with(case.trial, TrialState.FAILED, Verdict.INVALID, case.unreadable, content=case.derivation.content)
    if case.route is Route.UNCHANGED and case.failure is None:
        return _unchanged(case)
    estimates, absent = _numbers(case)
    state, verdict, reason = _outcome(case, gated=gated, accepting=accepting)
    runs = case.measurement.runs if case.measurement else ()
    record = record_with(
        case.trial,
        state,
        verdict,
        reason,
        content=case.derivation.content,
        parts=case.derivation.parts,
        environment_key=case.environment_key,
        steps=case.subject.artifact.steps if case.subject else (),
        facts=runs[0].facts if runs else None,
        estimates=estimates,
        absent=absent,
        distributions=_distributions(case),
        served=_served(case),
        flips=_flips(case),
        changes=_changes(case),
        failures=(case.failure,) if case.failure else (),
        notes=(*case.notes, *_unsteady(case), *_marked(case)),
        material=_material(case),
        repeat=case.predictions.repeat if case.predictions else None,
        base_repeat=case.base_predictions.repeat if case.base_predictions else None,
        operators=case.operators,
        quality_change=case.quality_change,
    )
    return replace(record, notes=(*record.notes, *doubts_of(record)))


def record_with(trial: Trial, state: TrialState, verdict: Verdict | None, reason: str, **rest: object) -> TrialRecord:
    return TrialRecord(
        id=trial.id,
        scenario=trial.scenario,
        recipe=trial.recipe.name,
        hardware=trial.target.name,
        device=trial.target.device,
        batch_size=trial.batch_size,
        load=trial.source.scenario.measure.load.name,
        passes=tuple(step.name for step in trial.recipe.passes),
        runtime=trial.recipe.runtime.name,
        is_reference=trial.recipe.name == trial.source.scenario.reference,
        state=state,
        verdict=verdict,
        reason=reason,
        target=TargetFacts(trial.target.cores, trial.target.threads, trial.target.price_per_hour, trial.target.currency),
        **rest,  # type: ignore[arg-type]  # the callers above name fields of TrialRecord
    )


def _unchanged(case: Case) -> TrialRecord:
    """The accepted numbers of this kind of machine, where it has any, so that the SLA is checked all the same."""
    assert case.baseline is not None
    portable, measured = case.baseline.portable, case.baseline.measured.get(case.environment_key)
    return record_with(
        case.trial,
        TrialState.UNCHANGED,
        Verdict.PASS,
        case.reason,
        content=case.derivation.content,
        environment_key=case.environment_key,
        steps=portable.steps,
        facts=measured.facts if measured else None,
        estimates=(*portable.estimates, *(measured.estimates if measured else ())),
        absent=measured.absent if measured else (),
        distributions=(measured.distribution,) if measured else (),
        notes=tuple(case.notes) if measured or case.against is not None else (*case.notes, NO_TIMINGS),
    )


def _outcome(case: Case, *, gated: bool, accepting: bool) -> tuple[TrialState, Verdict | None, str]:
    if case.failure is not None:
        return TrialState.FAILED, Verdict.INVALID, _told_failure(case.failure, case.trial.source.root)
    compared = [comparison.verdict for comparison in case.comparisons if not comparison.advisory]
    if case.route is Route.ALONE and case.baseline is None:
        if not gated:
            return TrialState.MEASURED, None, "measured"
        if case.against is not None:
            return TrialState.NEW, None, f"{case.reason}: there is nothing to compare with"
        if accepting:
            return TrialState.NEW, None, "no baseline yet: these numbers become its first"
        return TrialState.NEW, Verdict.INVALID, "no baseline yet: keep these numbers with 'harness baseline accept'"
    if case.route is Route.ALONE:
        return TrialState.NEW, worst(compared) if compared else None, case.reason
    if case.undecided is not None:
        least = Verdict.INVALID if case.route is Route.PAIRED else Verdict.INCONCLUSIVE
        return TrialState.MEASURED, worst([*compared, least]), case.undecided
    verdict = worst(compared)
    counts = Counter(compared)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in Verdict if counts[kind])
    return TrialState.MEASURED, verdict, f"{case.reason}; metrics: {told or 'none gated'}"


def _told_failure(failure: Failure, root: Path) -> str:
    """The stage, what went wrong in it, and where in the project; after a time-out the option that allows more."""
    told = failure.message if f"'{failure.stage}'" in failure.message else f"{failure.stage}: {failure.message}"
    if failure.reason is FailureReason.EXCEPTION:
        for file, line in reversed(_FRAME.findall(failure.detail)):
            if Path(file).is_relative_to(root) and "site-packages" not in file:
                return f"{told} ({Path(file).relative_to(root)}:{line})"
    if failure.reason is FailureReason.TIMEOUT:
        option = "build_timeout" if failure.stage.startswith("build") or failure.stage == "predictions, predict" else "timeout"
        return f"{told}; 'measure.{option}' allows more"
    return told


def _numbers(case: Case) -> tuple[tuple[Estimate, ...], tuple[Absent, ...]]:
    found: list[Estimate | Absent] = []
    if case.subject is not None:
        found += artifact_estimates(case.subject.artifact)
    found += sample_estimates(dict(case.scores), case.trial.source.scenario.seed)
    if case.measurement is not None and case.measurement.runs:
        found += launch_estimates(case.measurement)
    return split(found)


def _distributions(case: Case) -> tuple[Distribution, ...]:
    arms = (("baseline", case.base_measurement), ("candidate", case.measurement))
    return tuple(sketch(measurement, arm) for arm, measurement in arms if measurement is not None and measurement.runs)


def _served(case: Case) -> tuple[ServedArm, ...]:
    """Each arm's loads over the network; none under a load inside the worker."""
    arms = (("baseline", case.base_measurement), ("candidate", case.measurement))
    loads = {arm: tuple(run.served for run in found.runs if run.served is not None) for arm, found in arms if found is not None}
    return tuple(ServedArm(arm, found) for arm, found in loads.items() if found)


def _unsteady(case: Case) -> tuple[str, ...]:
    notes = []
    arms: tuple[tuple[str, Measurement | None], ...] = (("candidate", case.measurement), ("baseline", case.base_measurement))
    for arm, measurement in arms:
        restless = sum(not run.steady for run in measurement.runs) if measurement else 0
        if measurement and restless:
            notes.append(f"UNSTEADY: in {restless} of {len(measurement.runs)} launches of the {arm} the halves differ by more than 10 %")
    return tuple(notes)


def _marked(case: Case) -> tuple[str, ...]:
    """What telemetry marked, by arm, and in how many of its launches."""
    arms = (("candidate", case.measurement), ("baseline", case.base_measurement))
    return tuple(
        f"MARKED: {what}, in {number} of {len(measurement.runs)} launches of the {arm}"
        for arm, measurement in arms
        if measurement is not None
        for what, number in Counter(mark.what for run in measurement.runs if run.telemetry for mark in run.telemetry.marks).items()
    )


def _material(case: Case) -> Material | None:
    """What a baseline keeps; None where the trial was not measured to the end."""
    figures = case.launch_figures()
    if case.subject is None or case.predictions is None or figures is None or case.failure is not None:
        return None
    gated = {rule.metric for rule in rules_of(case.trial.source.scenario)}  # the others are never compared, and would be most of the file
    packed = {name: pack(values) for name, values in case.scores.items() if name in gated and not isinstance(values, Absent)}
    answers = _answers(case.predictions)
    return Material(
        artifact_key=case.derivation.steps[-1].key,
        evaluation_key=case.derivation.data["evaluation"],
        runtime=case.trial.recipe.runtime,
        server=None if case.subject.served is None else case.trial.recipe.server,
        scores={name: value for name, value in packed.items() if value is not None},
        answers=None if answers is None else pack(answers),
        figures={name: tuple(values) for name, values in figures.figures.items()},
    )


def _answers(predictions: Predictions) -> NDArray[np.generic] | None:
    """The class that each sample is given; None where the task is not classification."""
    if predictions.task != "classification":
        return None
    import numpy as np

    output = predictions.outputs[0].reshape(len(predictions.outputs[0]), -1)
    return np.asarray(output.argmax(axis=1))


def _flips(case: Case) -> tuple[Flip, ...]:
    """Which samples changed their answer, candidate against baseline."""
    if case.predictions is None or case.baseline is None:
        return ()
    now, before = _answers(case.predictions), _base_answers(case, case.baseline)
    if now is None or before is None or len(now) != len(before):
        return ()
    targets = case.predictions.targets
    changed = [index for index in range(len(now)) if int(now[index]) != int(before[index])]
    return tuple(
        Flip(index, "" if targets is None else str(targets[index]), str(int(before[index])), str(int(now[index])))
        for index in changed[:MOST_FLIPS]
    )


def _base_answers(case: Case, baseline: Baseline) -> NDArray[np.generic] | None:
    if case.base_predictions is not None:
        return _answers(case.base_predictions)
    same_data = baseline.portable.evaluation_key == case.derivation.data["evaluation"]
    return None if baseline.portable.answers is None or not same_data else unpack(baseline.portable.answers)


def _changes(case: Case) -> tuple[str, ...]:
    """What differs between candidate and baseline, for the reader who asks why."""
    if case.baseline is None or case.subject is None:
        return ()
    portable = case.baseline.portable
    changes: list[str] = []
    steps = portable.steps if case.base is None else case.base.subject.artifact.steps
    before = [f"{step.plugin} {step.options}" for step in steps]
    now = [f"{step.plugin} {step.options}" for step in case.subject.artifact.steps]
    changes += [f"step only in the baseline: {step}" for step in before if step not in now]
    changes += [f"step only in the candidate: {step}" for step in now if step not in before]
    for old, new in zip(steps, case.subject.artifact.steps, strict=False):
        if old.plugin == new.plugin and old.notes != new.notes:
            changes.append(f"{new.plugin}: {'; '.join(old.notes)} -> {'; '.join(new.notes)}")
    if portable.runtime != case.trial.recipe.runtime:
        changes.append(f"runtime: {_told(portable.runtime)} -> {_told(case.trial.recipe.runtime)}")
    if portable.server is not None and portable.server != case.trial.recipe.server:
        changes.append(f"server: {_told(portable.server)} -> {_told(case.trial.recipe.server)}")
    if portable.evaluation_key != case.derivation.data["evaluation"]:
        changes.append("what the evaluation data come from: code, arguments or the version of a package")
    changes += _fact_changes(case) + _toolchain_changes(portable.content, case.derivation.content)
    if not changes and portable.content.source != case.derivation.content.source:
        changes.append("code, arguments or files of the model or its data")
    return tuple(changes)


def _fact_changes(case: Case) -> list[str]:
    if case.measurement is None or case.base_measurement is None or not (case.measurement.runs and case.base_measurement.runs):
        return []
    before, now = case.base_measurement.runs[0].facts, case.measurement.runs[0].facts
    return [
        f"{name}: {old} -> {new}"
        for name, old, new in (
            ("precision", before.precision, now.precision),
            ("threads", before.threads, now.threads),
            ("session", ", ".join(before.details), ", ".join(now.details)),
        )
        if old != new
    ]


def _toolchain_changes(before: Content, now: Content) -> list[str]:
    common = {name: version for name, version in before.toolchain.items() if name in now.toolchain}
    return version_changes(common, {name: now.toolchain[name] for name in common})


def _told(ref: PluginRef) -> str:
    return f"{ref.name} {ref.options}" if ref.options else ref.name


def trial_comparisons(cases: Sequence[Case]) -> tuple[Comparison, ...]:
    """All comparisons of a job, in the order of its trials."""
    return tuple(comparison for case in cases for comparison in case.comparisons)
