"""Why a recipe does not pay: a sentence for each reason, wherever it is slower, not smaller or much less accurate than its reference.

Where every recipe pays nothing is started. What is looked into once serves all trials of the same content.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from harness.core.errors import BadInput, CannotMeasure
from harness.core.measurement import FailureReason
from harness.core.units import format_change
from harness.engine import protocol
from harness.engine.evaluate import launch_figures
from harness.engine.reasons import less_accurate, not_smaller, slower
from harness.engine.reasons.passes import changes_answers
from harness.engine.trade_offs import reference_of
from harness.engine.workers import Seat, Worker, WorkerFailed

if TYPE_CHECKING:
    from harness.core.inspection import LayerDifference
    from harness.core.measurement import SessionFacts
    from harness.core.profile import Profile
    from harness.core.scenario import PluginRef
    from harness.engine.case import Case
    from harness.engine.job import Job
    from harness.engine.protocol import LayersCompared, Request

Answer = TypeVar("Answer")
METRIC = "latency_p50"
PAYS = 0.97
"""A recipe that takes more than this share of its reference's time has not paid: what it gained could be the machine's mood."""
MOST_PROFILED, MOST_INSPECTED = 6, 8
LEAST_NS = 200_000_000
"""Shares of time need less of it than a comparison does."""


@dataclass(slots=True)
class _Looks:
    """What was looked at for one case and serves the next: profiles by trial, notes by content, and the workers that look, by scenario and
    target: each imports a framework once."""

    open: ExitStack
    profiles: dict[str, Profile] = field(default_factory=dict)
    profiled: int = 0
    inspected: dict[str, list[str]] = field(default_factory=dict)
    workers: dict[tuple[str, str], Worker] = field(default_factory=dict)

    def ask(self, job: Job, case: Case, request: Request, kind: type[Answer]) -> Answer | str:
        """The reply, or in its place why there is none. A worker that has gone is not asked again."""
        assert case.subject is not None
        key = (case.trial.scenario, case.trial.target.name)
        try:
            if key not in self.workers:
                seat = Seat("reasons", case.subject.cores, case.subject.threads, job.folder.logs / f"{'-'.join(key)}-reasons.log")
                self.workers[key] = self.open.enter_context(Worker(seat))
            return self.workers[key].ask(request, kind, timeout_s=job.procedure(case).timeout_s)
        except (BadInput, CannotMeasure) as error:
            if isinstance(error, WorkerFailed) and error.failure.reason is not FailureReason.EXCEPTION:
                self.workers.pop(key, None)
            return _first_line(error, request)


def explain_recipes(job: Job, cases: Sequence[Case]) -> None:
    """Note on every recipe that does not pay why that is so, as far as it can be seen."""
    for case in cases:
        if note := less_accurate.saturation(case.trial.recipe.passes, job.environment.cpu_flags, case.quality_change):
            case.notes.append(note)
    with ExitStack() as stack:
        looks = _Looks(stack)
        for case in cases:
            reference = reference_of(case, cases)
            if reference is not None and _is_sound(case) and _is_sound(reference):
                case.notes += _why_slower(job, case, reference, looks)
                case.notes += _why_not_smaller_or_less_accurate(job, case, reference, looks)


def _why_slower(job: Job, case: Case, reference: Case, looks: _Looks) -> list[str]:
    ratio = _ratio(case, reference)
    if ratio is None or ratio <= PAYS:
        return []
    name = reference.trial.recipe.name
    head = f"not quicker than '{name}' ({format_change(ratio - 1)})"
    if looks.profiled == MOST_PROFILED:
        return [f"{head}; the reasons were looked for in {looks.profiled} other recipes only"]
    looks.profiled += 1
    job.progress.step(f"{case.id}: profiling it for the reasons why it is not quicker")
    _profile(job, reference, looks)
    trouble = _profile(job, case, looks)
    found = slower.reasons(
        slower.Evidence(
            looks.profiles.get(reference.id),
            looks.profiles.get(case.id),
            case.trial.recipe.passes,
            job.environment.cpu_flags,
            case.trial.batch_size,
            _facts(case),
        )
    )
    if not found:
        return [f"{head}: {trouble or 'nothing in its profile, passes or this machine says why'}"]
    return _sentences(head, "also not quicker", found)


def _profile(job: Job, case: Case, looks: _Looks) -> str | None:
    """Take a case's profile where it is not there yet; why it has none, where that is so."""
    assert case.subject is not None
    if case.id in looks.profiles:
        return None
    folder = job.folder.path / "profiles" / f"{case.trial.scenario}-{case.trial.name}"
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(trouble := looks.ask(job, case, protocol.Preload(case.subject), protocol.Done), str):
        return f"it was not profiled ({trouble})"
    told = looks.ask(job, case, protocol.TakeProfile(LEAST_NS, (folder / "reasons.json").absolute()), protocol.Profiled)
    if isinstance(told, str):
        return f"it was not profiled ({told})"
    if told.profile is None:
        return f"runtime '{case.subject.runtime.name}' has no profiler that would say why"
    looks.profiles[case.id] = told.profile
    return None


def _why_not_smaller_or_less_accurate(job: Job, case: Case, reference: Case, looks: _Looks) -> list[str]:
    """Both are of the content alone, so that trials which differ in their batch size share the answers; asked in one worker."""
    assert case.subject is not None and reference.subject is not None
    passes = case.trial.recipe.passes
    size, before = case.subject.artifact.size_bytes, reference.subject.artifact.size_bytes
    is_large = not_smaller.is_to_shrink(passes) and size > not_smaller.SMALLER * before
    fallen = less_accurate.fall(case)
    if not is_large and fallen is None:
        return []
    key = f"{case.subject.artifact.sha256} {reference.subject.artifact.sha256} {is_large} {fallen}"
    if key not in looks.inspected:
        if len(looks.inspected) == MOST_INSPECTED:
            return [f"not smaller or less accurate than '{reference.trial.recipe.name}'; {MOST_INSPECTED} other recipes were looked into"]
        job.progress.step(f"{case.id}: looking for the reasons why it is {'not smaller' if is_large else 'less accurate'}")
        looks.inspected[key] = _inspected(job, case, reference, looks, is_large=is_large, fallen=fallen)
    return looks.inspected[key]


def _inspected(job: Job, case: Case, reference: Case, looks: _Looks, *, is_large: bool, fallen: str | None) -> list[str]:
    """The sentences of both questions."""
    assert case.subject is not None and reference.subject is not None
    name, notes = reference.trial.recipe.name, list[str]()
    if is_large:
        size, share = case.subject.artifact.size_bytes, case.subject.artifact.size_bytes / reference.subject.artifact.size_bytes
        head = f"not smaller than '{name}' ({100 * share:.0f} % of its bytes)"
        told = looks.ask(job, case, protocol.TellContents(case.subject.artifact), protocol.ContentsTold)
        if not isinstance(told, str):
            found = not_smaller.reasons(told.contents, size, case.trial.recipe.passes)
            notes += _sentences(head, "also not smaller", found or ["nothing that its file stores says why"])
        else:
            notes.append(f"{head}: {told}")
    if fallen is not None:
        head = f"answers worse than '{name}' ({fallen})"
        try:
            steps = _changing_steps(job, case)
        except (BadInput, CannotMeasure) as error:
            return [*notes, f"{head}: the model before its passes cannot be made again: {str(error).splitlines()[0]}"]
        replies = [looks.ask(job, case, request, protocol.LayersCompared) for _, request in steps]
        notes += _why_less_accurate(job, case, head, [ref for ref, _ in steps], replies)
    return notes


def _why_less_accurate(job: Job, case: Case, head: str, steps: Sequence[PluginRef], replies: Sequence[LayersCompared | str]) -> list[str]:
    passes = case.trial.recipe.passes
    compared = [(ref, reply.differences) for ref, reply in zip(steps, replies, strict=True) if not isinstance(reply, str)]
    if compared:
        step, differences = max(compared, key=lambda one: _worst(one[1]))
        worst = less_accurate.telling(differences)
        told = less_accurate.told_of(worst, step.name) if worst else f"no layer's output differs after '{step.name}'"
    elif steps:
        step, differences = steps[-1], ()
        told = f"which layers differ most cannot be told: {replies[-1]}"
    else:
        facts = _facts(case)
        computed = "" if facts is None else f", and its session computes in {facts.precision}"
        return [f"{head}: none of its passes rounds or cuts weights{computed}"]
    advice = less_accurate.advice(step, passes, differences, job.environment.cpu_flags)
    return [f"{head}: {told}", *([advice] if advice else [])]


def _changing_steps(job: Job, case: Case) -> list[tuple[PluginRef, protocol.CompareLayers]]:
    """Each pass that changes answers, with the question how the layers of the model before it differ from those behind it."""
    assert case.subject is not None
    found = []
    artifacts = [
        job.builder.artifact(case.trial, dataclasses.replace(case.derivation, steps=case.derivation.steps[: length + 1]))
        for length in range(len(case.derivation.steps))
    ]
    for number, ref in enumerate(case.trial.recipe.passes, start=1):
        if changes_answers(ref):
            data, size = case.subject.data, case.subject.batch_size
            found.append((ref, protocol.CompareLayers(artifacts[number - 1], artifacts[number], data, size)))
    return found


def _sentences(head: str, further: str, found: Sequence[str]) -> list[str]:
    return [f"{head}: {found[0]}", *(f"{further}: {reason}" for reason in found[1:])]


def _worst(differences: Sequence[LayerDifference]) -> float:
    return max((float("inf") if one.relative is None else one.relative for one in differences), default=0.0)


def _facts(case: Case) -> SessionFacts | None:
    return case.measurement.runs[0].facts if case.measurement is not None and case.measurement.runs else None


def _first_line(error: Exception, request: Request) -> str:
    """What an error says, without the stage that it was raised in."""
    return str(error).splitlines()[0].removeprefix(f"reasons, {request.kind}: ")


def _is_sound(case: Case) -> bool:
    return case.subject is not None and case.failure is None and case.measurement is not None and bool(case.measurement.runs)


def _ratio(case: Case, reference: Case) -> float | None:
    """The recipe's median over its reference's, by the medians of their launches."""
    figures = [launch_figures(METRIC, one.measurement) for one in (case, reference) if one.measurement is not None]
    values = [statistics.median(found) for found in figures if isinstance(found, list)]
    return values[0] / values[1] if len(values) == 2 else None
