"""Screen every changed trial, confirm the suspects with fresh launch pairs, stop when the answer is clear.

screen    5 launch pairs of each; a metric whose one-sided 80 % bound lies on the worse side is suspect
confirm   fresh pairs, in the same job: only these may show a regression; looked at after a fixed list of pair counts, each look with
          its own share of the error allowed to the job (family 1 %, Holm over all suspects)
pass      from all pairs, at every look too, each with its own share of 5 %; what has passed stays passed unless it is shown to be red
stop      when every gated metric is decided, when one is shown to be red (the trial fails, whatever the others would say), or when the
          trial's budget is spent
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.core.comparison import Comparison, Verdict
from harness.core.estimate import Absent
from harness.core.measurement import Failure, FailureReason, Measurement, Run
from harness.engine.compare import FAMILY_ALPHA, PASS_ALPHA, LaunchEvidence, compare_launches, is_suspect, log_ratios_or_reason
from harness.engine.evaluate import launch_figures, launch_log_ratios
from harness.engine.measure import launch
from harness.engine.procedure import Procedure
from harness.engine.workers import WorkerFailed
from harness.stats.sequential import SCHEDULE, Looks

if TYPE_CHECKING:
    from harness.engine.protocol import Subject
    from harness.engine.rules import Rule

SCREEN_PAIRS = 5
LEAST_PAIRS = 2
"""One launch pair has no spread: a contest that failed after it has nothing to compare."""
METHOD = "paired slices: t interval on launch pairs"
METHOD_APART = "launches one after the other (ABBA): t interval on launch pairs"
NOT_TOGETHER = "both arms did not fit into memory together: they were launched one after the other (ABBA), which sees less"
PASSES = Looks(PASS_ALPHA, (0, *SCHEDULE), decay=1.0)
"""What each look at all pairs may spend on a pass."""
NULL_SUFFIX = " (null control)"

Record = Callable[[str, Run | Failure], None]
"""Told of every launch as soon as it is finished: trial, and the run or its failure."""


@dataclass(slots=True)
class Contest:
    """One trial's two arms, what was measured of them so far, and what is decided.

    ``is_control`` marks a null control, of which only a red is wanted. ``apart``: both arms do not fit into memory together.
    ``looked`` is how often all pairs were looked at, ``red_look`` the last look at the fresh ones (0 is the first).
    """

    trial: str
    arms: Mapping[str, Subject]
    rules: Sequence[Rule]
    procedure: Procedure
    seed: int
    load: str
    runs: dict[str, list[Run]] = field(default_factory=lambda: {"baseline": [], "candidate": []})
    failure: Failure | None = None
    spent_s: float = 0.0
    screened: int = 0
    suspects: frozenset[str] = frozenset()
    is_control: bool = False
    apart: bool = False
    looked: int = 0
    red_look: int = 0
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    def take_pair(self, record: Record, clock: Callable[[], float]) -> bool:
        """Measure one more launch pair; False when a launch failed, which ends the contest."""
        begin = clock()
        try:
            pair = self._launch(len(self.runs["candidate"]))
        except WorkerFailed as error:
            self.failure = error.failure
            record(self.trial, error.failure)
            return False
        finally:
            self.spent_s += clock() - begin
        for arm, run in pair.items():
            self.runs[arm].append(run)
            record(self.trial, run)
        return True

    def _launch(self, number: int) -> dict[str, Run]:
        try:
            return launch(self.arms, number, self.procedure, self.seed, apart=self.apart)
        except WorkerFailed as error:
            if self.apart or number or error.failure.reason is not FailureReason.OUT_OF_MEMORY:
                raise
            self.apart = True  # the first pair says whether there is room for both
            return launch(self.arms, number, self.procedure, self.seed, apart=True)

    def measurement(self, arm: str) -> Measurement:
        subject = self.arms[arm]
        failures = (self.failure,) if self.failure else ()
        return Measurement(self.trial, subject.batch_size, self.load, tuple(self.runs[arm]), failures)

    def log_ratios(self, rule: Rule) -> list[float] | Absent:
        return log_ratios_or_reason(
            launch_log_ratios(rule.metric, self.measurement("baseline"), self.measurement("candidate")), LEAST_PAIRS
        )

    def find_suspects(self) -> None:
        """Judge the screen's pairs alone, also where an interrupted run left more of them."""
        self.screened = min(SCREEN_PAIRS, len(self.runs["candidate"]))
        found = {rule.metric: self.log_ratios(rule) for rule in self.rules}
        self.suspects = frozenset(
            rule.metric for rule in self.rules if isinstance(r := found[rule.metric], list) and is_suspect(rule, r[: self.screened])
        )

    def look(self, alpha: float) -> None:
        """Decide what this look can decide; what was decided for good by an earlier look stays."""
        pass_alpha = PASSES.alpha(self.looked)
        for rule in self.rules:
            found = self._compared(rule, alpha, pass_alpha)
            known = self.comparisons.get(rule.metric)
            if found is not None and (known is None or _says_more(known.verdict, found.verdict)):
                self.comparisons[rule.metric] = found
        self.looked += 1

    def look_again(self, alpha: float) -> None:
        """The last look once more, with what other rejections have left of the error."""
        for rule in self.rules:
            known = self.comparisons.get(rule.metric)
            if rule.metric in self.suspects and known is not None and known.verdict is not Verdict.REGRESSED:
                found = self._compared(rule, alpha, PASSES.alpha(max(0, self.looked - 1)))
                if found is not None and found.verdict is Verdict.REGRESSED:
                    self.comparisons[rule.metric] = found

    def tell_the_end(self) -> None:
        """Say of what is open beside a red that the red ended the trial."""
        shown = [comparison.metric for comparison in self.comparisons.values() if comparison.verdict is Verdict.REGRESSED]
        for metric, known in self.comparisons.items():
            if shown and known.verdict is Verdict.INCONCLUSIVE:
                self.comparisons[metric] = replace(known, reason=f"{known.reason}; the trial ended when {shown[0]} was shown to be worse")

    def _compared(self, rule: Rule, alpha: float, pass_alpha: float) -> Comparison | None:
        ratios = self.log_ratios(rule)
        baseline, candidate = (launch_figures(rule.metric, self.measurement(arm)) for arm in ("baseline", "candidate"))
        if isinstance(ratios, Absent) or isinstance(baseline, Absent) or isinstance(candidate, Absent):
            return None
        suspect = rule.metric in self.suspects
        fresh = len(ratios) - self.screened if suspect else 0
        evidence = LaunchEvidence(ratios, baseline, candidate, fresh if fresh >= 2 else 0)
        may_be_red = suspect and fresh >= 2
        method = METHOD_APART if self.apart else METHOD
        return compare_launches(self.trial, rule, evidence, alpha, method, pass_alpha=pass_alpha, may_be_red=may_be_red)

    @property
    def clear(self) -> bool:
        """Whether nothing more is worth its time: see ``stop`` at the top."""
        if self.failure is not None or self.reds or (self.is_control and not self.suspects):
            return True
        return all(comparison.verdict is not Verdict.INCONCLUSIVE for comparison in self.comparisons.values())

    @property
    def fresh(self) -> int:
        """Launch pairs after the screen."""
        return len(self.runs["candidate"]) - self.screened

    @property
    def pair_s(self) -> float:
        """What a launch pair takes on average, in seconds; 0 before the first."""
        return self.spent_s / max(1, len(self.runs["candidate"]))

    @property
    def reds(self) -> int:
        return sum(comparison.verdict is Verdict.REGRESSED for comparison in self.comparisons.values())


def screen_and_confirm(
    contests: Sequence[Contest],
    *,
    budget_s: float,
    record: Record,
    step: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Carry every contest to its end; results are in the contests. ``budget_s`` is each trial's, in seconds."""
    for contest in contests:
        while (number := len(contest.runs["candidate"])) < SCREEN_PAIRS:
            step(f"{contest.trial}: screening, launch pair {number + 1} of {SCREEN_PAIRS}")
            if not contest.take_pair(record, clock):
                break
        contest.find_suspects()
    suspects = sum(len(contest.suspects) for contest in contests)
    for contest in contests:
        standing = suspects - sum(other.reds for other in contests)  # Holm: what has been rejected no longer shares the error
        confirm(contest, max(1, standing), budget_s=budget_s, record=record, step=step, clock=clock)
    step_down(contests, suspects)
    for contest in contests:
        contest.tell_the_end()


def confirm(
    contest: Contest, standing: int, *, budget_s: float, record: Record, step: Callable[[str], None], clock: Callable[[], float]
) -> None:
    """Fresh pairs until the answer is clear or the budget is spent; ``standing`` suspects share the error."""
    looks = Looks(FAMILY_ALPHA / standing)
    contest.look(looks.alpha(0))  # where nothing is fresh yet this can show a pass, never a red
    index, looked_at = (1, contest.fresh) if contest.fresh >= LEAST_PAIRS else (0, 0)  # an interrupted run's pairs were the first look
    while not contest.clear and index < len(looks.schedule) and contest.spent_s + contest.pair_s <= budget_s:
        step(f"{contest.trial}: {'confirming' if contest.suspects else 'deciding'}, fresh launch pair {contest.fresh + 1}")
        if not contest.take_pair(record, clock):
            break
        if contest.fresh >= looks.schedule[index]:
            contest.red_look = index
            contest.look(looks.alpha(index))
            index, looked_at = index + 1, contest.fresh
    if contest.fresh > looked_at and index < len(looks.schedule):
        contest.red_look = index
        contest.look(looks.alpha(index))  # the pairs since the last look count too


def step_down(contests: Sequence[Contest], suspects: int) -> None:
    """Holm's procedure to its end: every rejection leaves more of the error to those that still stand, also to those looked at before."""
    reds = 0
    while reds < (now := sum(contest.reds for contest in contests)):
        reds = now
        looks = Looks(FAMILY_ALPHA / max(1, suspects - reds))
        for contest in contests:
            contest.look_again(looks.alpha(contest.red_look))


def null_contest(contest: Contest) -> Contest:
    """The same procedure, the baseline in both arms: what it calls different is the machine's doing."""
    arms = dict.fromkeys(("baseline", "candidate"), contest.arms["baseline"])
    python = contest.procedure.pythons.get("baseline")
    pythons = {} if python is None else dict.fromkeys(arms, python)
    procedure = replace(contest.procedure, logs=contest.procedure.logs / "null-control", pythons=pythons)
    opponent = Contest(contest.trial + NULL_SUFFIX, arms, contest.rules, procedure, contest.seed + 1, contest.load, is_control=True)
    opponent.apart = contest.apart
    return opponent


def _says_more(known: Verdict, found: Verdict) -> bool:
    """Whether a later look replaces what is known: a regression stays, and a pass is only taken back by one."""
    if known is Verdict.REGRESSED:
        return False
    return known not in (Verdict.PASS, Verdict.IMPROVED) or found is not Verdict.INCONCLUSIVE
