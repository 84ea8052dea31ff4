"""The one place that decides. Everything else computes or tells.

A red needs evidence at the job's level (family-wise 1 %, the looks paid for); a PASS needs the change shown to be within the tolerance at
one-sided 95 %. What is neither is INCONCLUSIVE.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from harness.core.comparison import Comparison, NullControl, Scale, SlaFinding, SlaState, Verdict
from harness.core.errors import ExitCode
from harness.core.estimate import ConfidenceInterval, Direction
from harness.core.result import TrialRecord, TrialState, not_compared

GRAVITY = (Verdict.PASS, Verdict.IMPROVED, Verdict.INCONCLUSIVE, Verdict.INVALID, Verdict.REGRESSED)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict on one metric is made from.

    ``strict`` decides red and better, ``plain`` decides a pass; both are on ``scale`` (ratio: 1 is no change; difference: 0).
    ``change`` is the absolute change in the metric's unit, candidate - baseline.
    """

    scale: Scale
    better: Direction
    strict: ConfidenceInterval
    plain: ConfidenceInterval
    tolerance: float
    floor: float
    change: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.change):
            raise ValueError(f"not a change that can be judged: {self.change}")


def judge(evidence: Evidence) -> Verdict:
    """The table of verdicts: wholly beyond the tolerance and the floor REGRESSED, wholly better IMPROVED, wholly within PASS."""
    strict = worsening(evidence.strict, evidence.scale, evidence.better)
    plain = worsening(evidence.plain, evidence.scale, evidence.better)
    if strict.low > evidence.tolerance and abs(evidence.change) > evidence.floor:
        return Verdict.REGRESSED
    if strict.high < 0:
        return Verdict.IMPROVED
    if plain.high < evidence.tolerance or (evidence.tolerance == 0 and plain.high <= 0):
        return Verdict.PASS
    if strict.low > evidence.tolerance:  # a change, but below the smallest that matters
        return Verdict.PASS
    return Verdict.INCONCLUSIVE


def worsening(interval: ConfidenceInterval, scale: Scale, better: Direction) -> ConfidenceInterval:
    """The interval as a distance from no change, positive where the candidate is worse: 0.03 is 3 % slower, or 3 points less.

    A ratio where higher is better is turned over first: half the throughput is 100 % worse, as twice the latency is.
    """
    if scale == "difference":
        low, high = (interval.low, interval.high) if better != "higher" else (-interval.high, -interval.low)
        return ConfidenceInterval(low, high, interval.level)
    if better != "higher":
        return ConfidenceInterval(interval.low - 1, interval.high - 1, interval.level)
    low = 1 / interval.high if interval.high > 0 else math.inf
    high = 1 / interval.low if interval.low > 0 else math.inf
    return ConfidenceInterval(low - 1, high - 1, interval.level)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of several verdicts; improvements and passes together are IMPROVED; none at all is a PASS."""
    return max(verdicts, key=GRAVITY.index, default=Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Decision:
    """The whole run's verdict, the exit code that CI sees, and one sentence."""

    verdict: Verdict
    exit_code: ExitCode
    headline: str


def decide(
    trials: Iterable[TrialRecord],
    comparisons: Iterable[Comparison],
    sla: Iterable[SlaFinding],
    null_control: NullControl | None,
    *,
    strict: bool,
) -> Decision:
    """The run's verdict from everything in it.

    A shown regression or a broken SLA is exit 1 even beside trials that could not be measured: it is known. When the null control is red,
    every red that rests on timings is INVALID already. ``strict`` makes INCONCLUSIVE, UNPROVEN and UNMEASURED fail as not decided.
    """
    trials, sla = tuple(trials), tuple(sla)
    deciding = [comparison for comparison in comparisons if not comparison.advisory]
    regressed = [comparison for comparison in deciding if comparison.verdict is Verdict.REGRESSED]
    broken = [finding for finding in sla if finding.state is SlaState.BROKEN]
    invalid = [trial for trial in trials if trial.verdict is Verdict.INVALID or trial.state is TrialState.FAILED]
    undecided = [comparison for comparison in deciding if comparison.verdict is Verdict.INCONCLUSIVE]
    unproven = [finding for finding in sla if finding.state in (SlaState.UNPROVEN, SlaState.UNMEASURED)]
    open_trials = not_compared(trials, undecided)
    verdict = worst(
        [trial.verdict for trial in trials if trial.verdict is not None]
        + [Verdict.REGRESSED for _ in (*regressed, *broken)]
        + [Verdict.INVALID for _ in invalid]
        + ([Verdict.INVALID] if null_control is not None and null_control.red else [])
    )
    if trials and all(trial.state is TrialState.SKIPPED for trial in trials):
        return Decision(Verdict.INVALID, ExitCode.NOT_DECIDED, "INVALID: every trial is for another machine: nothing was measured")
    parts = [
        _count(len(regressed), "metric regressed", "metrics regressed"),
        _count(len(broken), "SLA clause broken", "SLA clauses broken"),
        _count(len(invalid), "trial could not be decided", "trials could not be decided"),
        "the machine called identical code different (null control red)" if null_control is not None and null_control.red else "",
        _count(len(undecided), "metric inconclusive", "metrics inconclusive"),
        _count(len(open_trials), "trial whose timings could not be compared", "trials whose timings could not be compared"),
        _count(sum(finding.state is SlaState.UNPROVEN for finding in sla), "SLA clause unproven", "SLA clauses unproven"),
        _count(sum(finding.state is SlaState.UNMEASURED for finding in sla), "SLA clause not measured", "SLA clauses not measured")
        if strict
        else "",
    ]
    if regressed or broken:
        code = ExitCode.REGRESSION
    elif verdict is Verdict.INVALID or (strict and (undecided or open_trials or unproven)):
        code = ExitCode.NOT_DECIDED
    else:
        code = ExitCode.PASS
    told = [part for part in parts if part]
    return Decision(verdict, code, f"{verdict}: {', '.join(told) if told else _good_news(trials, deciding, sla)}")


def _good_news(trials: tuple[TrialRecord, ...], comparisons: list[Comparison], sla: tuple[SlaFinding, ...]) -> str:
    states = {state: sum(trial.state is state for trial in trials) for state in TrialState}
    better = sum(comparison.verdict is Verdict.IMPROVED for comparison in comparisons)
    kept = sum(finding.state is SlaState.KEPT for finding in sla)
    parts = [
        _count(better, "metric better", "metrics better"),
        _count(len(comparisons) - better, "metric within its tolerance", "metrics within their tolerances"),
        _count(states[TrialState.UNCHANGED], "trial unchanged", "trials unchanged"),
        _count(states[TrialState.NEW], "trial new", "trials new"),
        _count(states[TrialState.SKIPPED], "trial for another machine", "trials for other machines"),
        _count(kept, "SLA clause kept", "SLA clauses kept"),
    ]
    told = [part for part in parts if part]
    return ", ".join(told) if told else _count(len(trials), "trial measured", "trials measured") or "no trials"


def _count(number: int, one: str, many: str) -> str:
    return "" if number == 0 else f"{number:,} {one if number == 1 else many}"
