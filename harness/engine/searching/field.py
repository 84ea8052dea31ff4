"""All candidates of one search and the reference, on their way: what is known of each so far, and why it left."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.core.bisection import Effect
from harness.core.errors import CannotMeasure
from harness.core.estimate import Absent, ConfidenceInterval
from harness.core.measurement import FailureReason, Measurement
from harness.core.search import Stage
from harness.engine.bisecting.build_commits import Built
from harness.engine.bisecting.weigh import interval_alone
from harness.engine.evaluate import launch_figures, metric_of
from harness.engine.searching.constraints import Constraints, broken

if TYPE_CHECKING:
    from harness.core.search import Candidate, Checked
    from harness.engine.bisecting.launch_pairs import Duel, PairPlace
    from harness.engine.case import Case
    from harness.engine.rules import Rule

LEVEL = 0.95
LEAST_PAIRS = 2
MOST_DISTURBED = 3
"""Launch pairs that telemetry called disturbed before a candidate counts as not measurable."""
RACE, AGAINST, EFFECT = "race", "against", "effect"
"""What pairs are for: they are kept apart on disk, and those that chose are never those that tell."""


class ReferenceFailed(CannotMeasure):
    """The arm that everything is measured against cannot be launched."""


@dataclass(slots=True)
class Runner:
    """One candidate. ``reason`` is set once: it has left. ``duels`` are all that it was measured in, by what they were for and whom
    against. ``order`` is its place in the search space; ``rank`` is given when it leaves, or at the end."""

    candidate: Candidate
    order: int
    case: Case
    stage: Stage = Stage.CHECK
    reason: str | None = None
    rank: int | None = None
    checks: tuple[Checked, ...] = ()
    head_to_head: Effect | None = None
    duels: dict[tuple[str, str], Duel] = field(default_factory=dict)
    disturbed: int = 0

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def size_bytes(self) -> int:
        return 0 if self.case.subject is None else self.case.subject.artifact.size_bytes

    def leave(self, stage: Stage, reason: str) -> None:
        if self.reason is None:
            self.stage, self.reason = stage, reason


@dataclass(slots=True)
class Field:
    """Who races whom, by which rule, where, and until when. ``clock`` is in seconds, ``ends`` on it."""

    runners: list[Runner]
    reference: Case
    rule: Rule
    constraints: Constraints
    place: PairPlace
    step: Callable[[str], None]
    begin: float
    budget_s: float
    clock: Callable[[], float] = time.monotonic

    def alive(self) -> list[Runner]:
        return [runner for runner in self.runners if runner.reason is None]

    def left_s(self, share: float = 1.0) -> float:
        """What is left of a share of the budget, in seconds; below 0 when it is spent."""
        return self.begin + share * self.budget_s - self.clock()

    def duel(self, what: str, runner: Runner, opponent: Runner | None = None) -> Duel:
        """The runner as candidate against another, or against the reference; with what an interrupted search has measured of it."""
        other = self.reference if opponent is None else opponent.case
        key = (what, other.id)
        if key not in runner.duels:
            name = f"{runner.case.id} {what}" if opponent is None else f"{runner.case.id} {what} {opponent.name}"
            runner.duels[key] = self.place.duel(name, _built(other), _built(runner.case))
        return runner.duels[key]

    def take(self, duel: Duel, runner: Runner, opponent: Runner | None, stage: Stage) -> bool:
        """One more launch pair; False where a launch failed, and whose it was has left. A disturbed pair is measured again.

        Raises ReferenceFailed where the reference was the one.
        """
        while not duel.take():
            failure = duel.failure
            assert failure is not None
            if failure.reason is FailureReason.DISTURBED and runner.disturbed < MOST_DISTURBED:
                runner.disturbed += 1
                duel.contest.failure = None
                continue
            told = f"{failure.stage}: {failure.message}"
            if not failure.stage.startswith("baseline"):
                runner.leave(stage, told)
            elif opponent is not None:
                opponent.leave(stage, told.removeprefix("baseline, "))
                duel.contest.failure = None
            else:
                raise ReferenceFailed(f"the reference {self.reference.id} cannot be measured: {told}")
            return False
        return True

    def check(self, runner: Runner, stage: Stage, *, last: bool = False) -> None:
        """Constraints from all launches so far; who breaks one leaves."""
        self.collect([runner])
        runner.checks = self.constraints.check(runner.case, self.reference)
        measured = runner.case.measurement is not None
        if (why := broken(runner.checks, measured=measured, last=last)) is not None:
            runner.leave(stage, why)

    def collect(self, runners: Sequence[Runner]) -> None:
        """Every launch of these and of the reference into their measurements, numbered anew.

        The reference's are those beside the runners: a constraint that compares with it is then of the same minutes.
        """
        load = self.reference.trial.source.scenario.measure.load.name
        beside = []
        for runner in runners:
            runs = [run for duel in runner.duels.values() for run in duel.contest.runs["candidate"]]
            beside += [
                run for (_, other), duel in runner.duels.items() if other == self.reference.id for run in duel.contest.runs["baseline"]
            ]
            if runs:
                renumbered = tuple(replace(run, pair=number) for number, run in enumerate(runs))
                runner.case.measurement = Measurement(runner.case.id, runner.case.trial.batch_size, load, renumbered)
        if beside:
            renumbered = tuple(replace(run, pair=number) for number, run in enumerate(beside))
            self.reference.measurement = Measurement(self.reference.id, self.reference.trial.batch_size, load, renumbered)

    def worsenings(self, duel: Duel) -> list[float] | Absent:
        """One log ratio a launch pair, above 0 where the candidate is worse; Absent where launches do not have the objective."""
        found = duel.contest.log_ratios(self.rule)
        sign = -1 if self.rule.better == "higher" else 1
        return found if isinstance(found, Absent) else [sign * ratio for ratio in found]

    def effect(self, duel: Duel, *, alpha: float = (1 - LEVEL) / 2) -> Effect | None:
        """What all pairs of a duel say, with the interval that is wrong with ``alpha`` at each end; None with fewer than two."""
        found = self.worsenings(duel)
        if isinstance(found, Absent):
            return None
        figures = [launch_figures(self.rule.metric, duel.contest.measurement(arm)) for arm in ("baseline", "candidate")]
        baseline, candidate = (math.nan if isinstance(values, Absent) else statistics.median(values) for values in figures)
        return effect_of(self.rule, found, interval_alone(found, alpha), baseline, candidate)

    def exact_value(self, case: Case) -> float | Absent:
        """The objective where it does not vary: of the artifact, or over the evaluation set."""
        plugin = self.rule.plugin
        assert case.subject is not None
        if plugin.kind == "exact":
            return plugin.of_artifact(case.subject.artifact)
        scores = case.scores.get(self.rule.metric)
        if scores is None or isinstance(scores, Absent):
            return scores or Absent(self.rule.metric, "was not scored")
        return float(scores.mean())


def effect_of(rule: Rule, worsenings: Sequence[float], interval: ConfidenceInterval, baseline: float, candidate: float) -> Effect:
    """Log ratios on the worse side as a ratio candidate / baseline with its interval."""
    sign = -1 if rule.better == "higher" else 1
    ends = sorted(math.exp(min(sign * end, 700.0)) for end in (interval.low, interval.high))
    ratio = math.exp(sign * statistics.fmean(worsenings))
    return Effect(ratio, ConfidenceInterval(ends[0], ends[1], interval.level), baseline, candidate, len(worsenings))


def simpler(runner: Runner) -> tuple[int, int, int]:
    """Smaller, then fewer passes, then first in the search space: what is taken where nothing else tells candidates apart."""
    return runner.size_bytes, len(runner.candidate.recipe.passes), runner.order


def is_timed(rule: Rule) -> bool:
    return metric_of(rule.metric).kind == "launch"


def _built(case: Case) -> Built:
    assert case.subject is not None
    return Built(case.trial, case.derivation, case.subject)
