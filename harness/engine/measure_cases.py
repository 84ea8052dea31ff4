"""Launches: of trials that stand alone, and of trials that have an opponent. Each is saved as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.core.comparison import Comparison, NullControl, Verdict
from harness.core.errors import BadInput
from harness.core.estimate import Absent
from harness.core.measurement import Failure, Measurement, Run
from harness.engine.compare import invalidated
from harness.engine.contest import NOT_TOGETHER, NULL_SUFFIX, Contest, Record, null_contest, screen_and_confirm
from harness.engine.evaluate import metric_of
from harness.engine.measure import launch
from harness.engine.routes import Route
from harness.engine.rules import rules_of
from harness.engine.workers import WorkerFailed
from harness.store.runs import Broke, Launched

if TYPE_CHECKING:
    from harness.engine.case import Case
    from harness.engine.job import Job

NOT_FIT = "the null control called identical code different: this machine is not fit to call anything slower now"


def measure_alone(job: Job, case: Case) -> None:
    """As many launches as the scenario says, of a trial that has no baseline, or none that can be run here."""
    without_opponent = case.route is Route.ALONE or (case.route is Route.PAIRED and case.base is None)
    if not without_opponent or case.failure is not None or case.subject is None:
        return
    spec = case.trial.source.scenario.measure
    runs = job.earlier_launches(case.id, case.content_key, arms=1).get("candidate", [])[: spec.launches]
    while len(runs) < spec.launches:
        job.progress.step(f"{case.id}: launch {len(runs) + 1} of {spec.launches}")
        try:
            run = launch({"candidate": case.subject}, len(runs), job.procedure(case), job.seed)["candidate"]
        except (WorkerFailed, BadInput) as error:
            job.folder.append(Broke(case.id, case.content_key, case.fail(error, "measure")))
            break
        job.folder.append(Launched(case.id, case.content_key, run))
        runs.append(run)
    failures = (case.failure,) if case.failure else ()
    case.measurement = Measurement(case.id, case.trial.batch_size, spec.load.name, tuple(runs), failures)


def measure_paired(job: Job, cases: Sequence[Case]) -> NullControl | None:
    """Screen and confirm every case with two arms, then check the machine: one of them again, base against base. When that is red, every
    red is INVALID."""
    paired = [case for case in cases if case.base is not None and case.failure is None]
    contests = [_contest(job, case) for case in paired]
    keys = {case.id: case.content_key for case in paired}

    def record(trial: str, event: Run | Failure) -> None:
        key = keys[trial.removesuffix(NULL_SUFFIX)]
        job.folder.append(Launched(trial, key, event) if isinstance(event, Run) else Broke(trial, key, event))

    screen_and_confirm(contests, budget_s=job.budget_s, record=record, step=job.progress.step)

    def earlier(trial: str) -> dict[str, list[Run]]:
        return job.earlier_launches(trial + NULL_SUFFIX, keys[trial], arms=2)

    control = _null_control(contests, record, job.progress.step, earlier)
    for case, contest in zip(paired, contests, strict=True):
        case.measurement, case.base_measurement = contest.measurement("candidate"), contest.measurement("baseline")
        case.failure = contest.failure
        if contest.apart:
            case.notes.append(NOT_TOGETHER)
        case.comparisons += [_judged(comparison, control) for comparison in contest.comparisons.values()]
        case.notes += _not_compared(case, contest)
    return control


def _null_control(
    contests: Sequence[Contest], record: Record, step: Callable[[str], None], earlier: Callable[[str], dict[str, list[Run]]] = lambda _: {}
) -> NullControl | None:
    """The trial with most reds once more, the baseline in both arms, for as long as the red took.

    Where nothing is red the control can change no verdict, and is the screen alone of the trial whose pairs are the cheapest: what
    identical code looked like in this hour.
    """
    sound = [contest for contest in contests if contest.failure is None and contest.runs["candidate"]]
    chosen = max(sound, key=lambda contest: (contest.reds, -contest.pair_s), default=None)
    if chosen is None:
        return None
    opponent = null_contest(chosen)
    opponent.runs |= earlier(chosen.trial)  # an interrupted run's
    screen_and_confirm([opponent], budget_s=chosen.spent_s if chosen.reds else 0.0, record=record, step=step)
    return NullControl(chosen.trial, tuple(opponent.comparisons.values()), red=opponent.reds > 0)


def _contest(job: Job, case: Case) -> Contest:
    assert case.subject is not None and case.base is not None
    arms = {"baseline": case.base.subject, "candidate": case.subject}
    rules = [rule for rule in rules_of(case.trial.source.scenario) if metric_of(rule.metric).kind == "launch"]
    contest = Contest(case.id, arms, rules, job.procedure(case), job.seed, case.trial.source.scenario.measure.load.name)
    for arm, runs in job.earlier_launches(case.id, case.content_key, arms=2).items():
        contest.runs[arm] = runs
        contest.spent_s += sum(piece.duration_ns for run in runs for piece in run.slices) / 1e9  # it counts against the budget too
    return contest


def _not_compared(case: Case, contest: Contest) -> list[str]:
    """What the scenario itself gates and nothing is known of: silence would read as a pass."""
    gated = case.trial.source.scenario.gate
    found = {rule.metric: contest.log_ratios(rule) for rule in contest.rules if rule.metric in gated and contest.failure is None}
    return [f"{metric} was not compared: {ratios.reason}" for metric, ratios in found.items() if isinstance(ratios, Absent)]


def _judged(comparison: Comparison, control: NullControl | None) -> Comparison:
    if control is not None and control.red and comparison.verdict is Verdict.REGRESSED:
        return invalidated(comparison, NOT_FIT)
    return comparison
