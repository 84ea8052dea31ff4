"""A callable of the user's own tests in the paired procedure: the parent's side of the ``gate`` fixture.

A callable cannot be sent to another process, and an old one cannot be had at all; but a test can be run again. Each launch of each side is
a pytest process that runs this one test up to the same call of ``gate``, in the work tree or in a worktree of the commit that is compared
with, and then serves slices as every worker does. The rest is the contest of ``gate``: screen, confirm, null control, verdict.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.core.artifact import ModelArtifact
from harness.core.comparison import Verdict
from harness.core.errors import BadInput, Problem
from harness.core.scenario import GateRule, HardwareTarget, MeasureSpec, PluginRef
from harness.core.units import Unit
from harness.engine.callable_base import import_roots
from harness.engine.callable_outcome import METRIC, Outcome
from harness.engine.compare import invalidated
from harness.engine.contest import Contest, null_contest, screen_and_confirm
from harness.engine.evaluate import metric_of
from harness.engine.make_plan import cores_of, threads_of
from harness.engine.measure_cases import NOT_FIT
from harness.engine.procedure import Procedure
from harness.engine.protocol import Subject
from harness.engine.rules import Rule
from harness.engine.run_test_again import PytestLauncher, Side, TestCall
from harness.engine.serve_callable import NOTHING_THERE, finished

if TYPE_CHECKING:
    from harness.core.plugin import LaunchMetric

WITHOUT_OPPONENT_NS = 200_000_000
LEAST_CALLS = 5


def rule_of(tolerance: str | None, floor: str | None) -> Rule:
    """The rule for the median latency. Raises BadInput for what is no tolerance in percent, or no time."""
    plugin = cast("LaunchMetric", metric_of(METRIC))
    try:
        written = GateRule.model_validate({"tolerance": tolerance, "floor": floor})
    except ValueError as error:
        told = str(error).split("Value error, ")[-1].splitlines()[0].partition(" [type=")[0]
        raise BadInput(Problem(f"gate(tolerance={tolerance!r}, floor={floor!r}): {told}", hint="write tolerance='3 %'")) from error
    if written.tolerance is not None and written.tolerance.unit is not Unit.FRACTION:
        raise BadInput(Problem(f"gate(tolerance={tolerance!r}): a share of the baseline's time is needed", hint="write tolerance='3 %'"))
    if written.floor is not None and written.floor.unit is not Unit.NANOSECONDS:
        raise BadInput(Problem(f"gate(floor={floor!r}): a time is needed", hint="write floor='500 ns'"))
    default = plugin.tolerance or 0.0
    return Rule(
        METRIC,
        plugin,
        default if written.tolerance is None else written.tolerance.value,
        plugin.floor if written.floor is None else written.floor.value,
    )


def gate_callables(
    test: TestCall,
    sides: Mapping[str, Side],
    rule: Rule,
    compared_with: str,
    scratch: Path,
    *,
    budget_s: float,
    times: MeasureSpec,
    step: Callable[[str], None],
    seed: int = 0,
) -> Outcome:
    """Measure both ``sides`` ("baseline" and "candidate") in pairs and decide, with a null control where something is red."""
    launcher = PytestLauncher(False, test=test, sides=sides, scratch=scratch, roots=tuple(import_roots(test.project)))
    arms = {arm: _subject(arm) for arm in ("baseline", "candidate")}
    contest = Contest(test.told, arms, [rule], Procedure(scratch / "logs", times, {}, launcher), seed, "single_stream")

    def carry_out(contest: Contest, budget_s: float) -> None:
        screen_and_confirm([contest], budget_s=budget_s, record=lambda trial, event: None, step=step)

    carry_out(contest, budget_s)
    control = null_contest(contest) if contest.reds and contest.failure is None else None
    if control is not None:
        carry_out(control, contest.spent_s)
    return outcome_of(contest, compared_with, null_red=control is not None and control.reds > 0)


def outcome_of(contest: Contest, compared_with: str, *, null_red: bool = False) -> Outcome:
    """A finished contest in words."""
    if contest.failure is not None:
        failure = contest.failure
        if failure.message.startswith(NOTHING_THERE) and failure.stage.startswith("baseline"):
            return Outcome(contest.trial, compared_with, None, f"NEW: {compared_with} {failure.message.removeprefix(NOTHING_THERE)}")
        detail = f"\n{failure.detail}" if failure.detail else ""
        return Outcome(contest.trial, compared_with, Verdict.INVALID, f"could not be measured: {failure.stage}: {failure.message}{detail}")
    found = contest.comparisons.get(METRIC)
    if found is None:
        return Outcome(contest.trial, compared_with, Verdict.INVALID, "too few launch pairs were measured to compare anything")
    if null_red and found.verdict is Verdict.REGRESSED:
        found = invalidated(found, NOT_FIT)
    return Outcome(contest.trial, compared_with, found.verdict, found.reason, found.candidate, found)


def without_opponent(test: TestCall, call: Callable[[], object], reason: str, compared_with: str | None = None) -> Outcome:
    """The median of calls in this very process: told, and no evidence of anything."""
    call = finished(call)
    call()
    times: list[int] = []
    begin = time.perf_counter_ns()
    while len(times) < LEAST_CALLS or time.perf_counter_ns() - begin < WITHOUT_OPPONENT_NS:
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return Outcome(test.told, compared_with, None, reason, statistics.median(times))


def times_of(duration_s: float | None) -> MeasureSpec:
    """The usual times of a launch, with another measured time where one is asked for."""
    return MeasureSpec() if duration_s is None else MeasureSpec().model_copy(update={"duration": duration_s * 1e9})


def _subject(side: str) -> Subject:
    """An arm as workers know it; what it opens is the callable that its process comes to."""
    target = HardwareTarget(name="cpu")
    artifact = ModelArtifact(Path(os.devnull), "callable", "", (), (), 0, "", ())
    return Subject(
        artifact=artifact,
        runtime=PluginRef(name=side),
        load=PluginRef(name="single_stream"),
        scenario_folder=Path(),
        device="cpu",
        threads=threads_of(target),
        cores=cores_of(target),
        batch_size=1,
        data=Path(os.devnull),
    )
