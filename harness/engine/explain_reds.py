"""Where the time went, of trials that became slower: both arms under a profiler, after everything is decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.core.comparison import Verdict
from harness.core.errors import BadInput, CannotMeasure
from harness.core.profile import operator_table
from harness.engine.profile_arms import profile_arms

if TYPE_CHECKING:
    from harness.engine.case import Case
    from harness.engine.job import Job

MOST_TRIALS = 4
"""Of more red trials than these the first tell enough: each costs four processes more."""
TIMES = ("latency", "throughput", "device_time", "first_call")


def explain_reds(job: Job, cases: Sequence[Case]) -> None:
    """Give the first red trials their operator tables; where that fails the trial says so, and its verdict stays."""
    slower = [case for case in cases if _is_slower(case)]
    for case in slower[:MOST_TRIALS]:
        assert case.subject is not None and case.base is not None
        job.progress.step(f"{case.id}: profiling both arms")
        folder = job.folder.path / "profiles" / f"{case.trial.scenario}-{case.trial.name}"
        try:
            profiles = profile_arms({"baseline": case.base.subject, "candidate": case.subject}, job.procedure(case), folder)
        except (BadInput, CannotMeasure) as error:
            case.notes.append(f"no operator table: {str(error).splitlines()[0]}")
            continue
        if not profiles:
            case.notes.append(f"no operator table: runtime '{case.subject.runtime.name}' has no profiler here")
            continue
        case.operators = operator_table(profiles["baseline"], profiles["candidate"])
    for case in slower[MOST_TRIALS:]:
        case.notes.append(f"no operator table: those of {MOST_TRIALS} other red trials were taken; '--only {case.id}' takes this one's")


def _is_slower(case: Case) -> bool:
    timed = (one for one in case.comparisons if one.metric.startswith(TIMES))
    return (
        case.failure is None
        and case.subject is not None
        and case.base is not None
        and any(one.verdict is Verdict.REGRESSED for one in timed)
    )
