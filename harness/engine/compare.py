"""Candidate against baseline, metric by metric: computes intervals and lets ``judge`` decide."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.comparison import Comparison, Verdict
from harness.core.estimate import Absent, ConfidenceInterval
from harness.core.units import format_change, format_points, format_value
from harness.engine.judge import Evidence, judge, worsening
from harness.stats import mcnemar, paired

if TYPE_CHECKING:
    from harness.engine.rules import Rule
    from harness.engine.sample_evidence import SampleEvidence

FAMILY_ALPHA = 0.01
"""The chance, over all that a job compares, that identical code is called slower."""
PASS_LEVEL = 0.90
"""A pass is shown by the upper end of this two-sided interval: one-sided 95 %. Of launches it is shared among the looks."""
PASS_ALPHA = (1 - PASS_LEVEL) / 2
POWER = 0.80
MOST_PAIRS = 1_000
MOST_SAMPLES = 10_000_000
TIMER_LOG_RATIO = 1e-4
"""Spreads below 0.01 % are the timer's and the scheduler's, not evidence: intervals are never drawn narrower than this allows."""
ROUNDING = 1e-12
"""What floating point may add to an exact ratio: 1.01 - 1 is a little more than 0.01."""


@dataclass(frozen=True, slots=True)
class LaunchEvidence:
    """Log ratios of launch pairs and both arms' figures. ``fresh`` is how many of the last ones were taken after the screen:
    where there are any, only they may show a regression or an improvement."""

    log_ratios: Sequence[float]
    baseline: Sequence[float]
    candidate: Sequence[float]
    fresh: int


def compare_launches(
    trial: str, rule: Rule, evidence: LaunchEvidence, alpha: float, method: str, *, pass_alpha: float = PASS_ALPHA, may_be_red: bool = True
) -> Comparison:
    """The paired t interval on launch pairs; ``alpha`` is what this look may spend on a red, ``pass_alpha`` on a pass (both one-sided).

    ``may_be_red`` is False while a suspicion is not yet confirmed by enough fresh pairs: a red is then INCONCLUSIVE.
    """
    ratios = list(evidence.log_ratios)
    deciding = ratios[-evidence.fresh :] if evidence.fresh else ratios
    strict = paired.ratio_interval(deciding, 1 - 2 * alpha, floor=TIMER_LOG_RATIO)
    plain = paired.ratio_interval(ratios, 1 - 2 * pass_alpha, floor=TIMER_LOG_RATIO)
    baseline, candidate = statistics.median(evidence.baseline), statistics.median(evidence.candidate)
    change = (math.exp(statistics.fmean(deciding)) - 1) * baseline
    judged = Evidence("ratio", rule.better, strict, plain, rule.tolerance, rule.floor, change)
    verdict = judge(judged)
    if verdict is Verdict.REGRESSED and not may_be_red:
        verdict = Verdict.INCONCLUSIVE
    decides_strictly = verdict in (Verdict.REGRESSED, Verdict.IMPROVED)
    shown = strict if decides_strictly else plain
    used = deciding if decides_strictly else ratios
    visible = paired.visible_change(ratios, tolerance=0.0, alpha=alpha, power=POWER, floor=TIMER_LOG_RATIO)
    return Comparison(
        trial=trial,
        metric=rule.metric,
        unit=rule.unit,
        better=rule.better,
        scale="ratio",
        baseline=baseline,
        candidate=candidate,
        effect=math.exp(statistics.fmean(used)),
        interval=shown,
        tolerance=rule.tolerance,
        floor=rule.floor,
        n=len(used),
        n_of="launch pairs",
        method=method,
        visible_change=visible,
        verdict=verdict,
        reason=_reason(verdict, judged, lambda: _pairs_that_would_tell(ratios, rule, alpha, pass_alpha)),
    )


def compare_exact(trial: str, rule: Rule, baseline: float, candidate: float) -> Comparison:
    """Two numbers that do not vary: the ratio is exact."""
    ratio = candidate / baseline if baseline else math.inf
    if not math.isfinite(ratio):
        ratio = 1.0 if candidate == baseline else 1e9
    interval = ConfidenceInterval(ratio, ratio, 0.999999)
    evidence = Evidence("ratio", rule.better, interval, interval, rule.tolerance + ROUNDING, rule.floor, candidate - baseline)
    verdict = judge(evidence)
    if verdict is Verdict.INCONCLUSIVE:  # exactly on the tolerance
        verdict = Verdict.PASS
    return Comparison(
        trial=trial,
        metric=rule.metric,
        unit=rule.unit,
        better=rule.better,
        scale="ratio",
        baseline=baseline,
        candidate=candidate,
        effect=ratio,
        interval=interval,
        tolerance=rule.tolerance,
        floor=rule.floor,
        n=1,
        n_of="artifact",
        method="exact",
        visible_change=None,
        verdict=verdict,
        reason=_reason(verdict, evidence),
    )


def compare_samples(trial: str, rule: Rule, evidence: SampleEvidence, alpha: float) -> Comparison:
    """Scores of the same samples in both arms; ``alpha`` is what this comparison may spend on a red (one-sided).

    A red needs the whole interval beyond the tolerance and a p-value within ``alpha``; a pass needs the plain interval within it.
    """
    strict, plain = evidence.interval(1 - 2 * alpha), evidence.interval(PASS_LEVEL)
    judged = Evidence("difference", rule.better, strict, plain, rule.tolerance, rule.floor, evidence.difference)
    verdict = judge(judged)
    if verdict is Verdict.REGRESSED and evidence.red_p > alpha:
        verdict = Verdict.INCONCLUSIVE
    reason = _reason(verdict, judged, lambda: _samples_that_would_tell(evidence, rule, alpha))
    z = statistics.NormalDist().inv_cdf  # half the interval alone, -z(alpha) standard errors, is seen at 50 % power
    return Comparison(
        trial=trial,
        metric=rule.metric,
        unit=rule.unit,
        better=rule.better,
        scale="difference",
        baseline=evidence.baseline,
        candidate=evidence.candidate,
        effect=evidence.difference,
        interval=strict if verdict in (Verdict.REGRESSED, Verdict.IMPROVED) else plain,
        tolerance=rule.tolerance,
        floor=rule.floor,
        n=evidence.samples,
        n_of="samples",
        method=evidence.method,
        visible_change=None if evidence.exact else (strict.high - strict.low) / 2 * (1 + z(POWER) / -z(alpha)),
        verdict=verdict,
        reason=f"{reason}; {evidence.told}" if evidence.told else reason,
        p_value=evidence.mid_p,
    )


def invalidated(comparison: Comparison, reason: str) -> Comparison:
    """The same numbers, deciding nothing any more."""
    return replace(comparison, verdict=Verdict.INVALID, reason=reason)


def is_suspect(rule: Rule, log_ratios: Sequence[float]) -> bool:
    """Whether the one-sided 80 % bound of a screened metric lies beyond no change, on the worse side."""
    interval = paired.ratio_interval(list(log_ratios), 0.60, floor=TIMER_LOG_RATIO)
    return worsening(interval, "ratio", rule.better).low > 0


def _pairs_that_would_tell(log_ratios: Sequence[float], rule: Rule, alpha: float, pass_alpha: float) -> str:
    """How many launch pairs decide four times of five, were the change and the spread what they seem."""
    worse = statistics.fmean(log_ratios) * (-1 if rule.better == "higher" else 1)
    distance = math.log1p(rule.tolerance) - worse
    spread = max(statistics.stdev(log_ratios), TIMER_LOG_RATIO)
    level = alpha if distance < 0 else pass_alpha
    pairs = MOST_PAIRS if distance == 0 else paired.pairs_needed(spread, abs(distance), alpha=level, power=POWER, most=MOST_PAIRS)
    told = f"about {max(pairs, len(log_ratios) + 1):,}" if pairs < MOST_PAIRS else f"more than {MOST_PAIRS:,}"
    return f"{told} launch pairs (a larger --budget) or a quieter machine would tell"


def _samples_that_would_tell(evidence: SampleEvidence, rule: Rule, alpha: float) -> str:
    """How many samples decide four times of five, were the change what it seems and did as many of them change."""
    worse = evidence.difference * (-1 if rule.better == "higher" else 1)
    distance = rule.tolerance - worse
    if abs(distance) < ROUNDING:
        return "the change seems to lie just on the tolerance: no number of samples would tell"
    level = alpha if distance < 0 else PASS_ALPHA
    needed = max(mcnemar.samples_needed(evidence.variance, abs(distance), alpha=level, power=POWER), evidence.samples + 1)
    return f"about {needed:,} samples would tell" if needed < MOST_SAMPLES else f"more than {MOST_SAMPLES:,} samples would tell"


def _reason(verdict: Verdict, evidence: Evidence, what_would_tell: Callable[[], str] = str) -> str:
    tell = format_change if evidence.scale == "ratio" else format_points
    tolerance = tell(evidence.tolerance).lstrip("+")
    strict = worsening(evidence.strict, evidence.scale, evidence.better)
    plain = worsening(evidence.plain, evidence.scale, evidence.better)
    if verdict is Verdict.REGRESSED:
        return f"shown to be at least {tell(strict.low).lstrip('+')} worse; {tolerance} is tolerated"
    if verdict is Verdict.IMPROVED:
        return f"shown to be at least {tell(-strict.high).lstrip('+')} better"
    if verdict is Verdict.PASS:
        if plain.high >= evidence.tolerance and strict.low > evidence.tolerance:
            return "worse, but by less than the smallest absolute change that matters"
        return (
            f"shown to be within the tolerance of {tolerance} (at most {tell(plain.high).lstrip('+')} worse)"
            if plain.high > 0
            else "not worse"
        )
    return f"{between(plain, evidence.tolerance, tell)}; {what_would_tell()}"


def between(worse: ConfidenceInterval, tolerance: float, tell: Callable[[float], str]) -> str:
    """Where the change lies when neither a pass nor a red was shown."""
    told = tell(tolerance).lstrip("+")
    span = f"between {tell(worse.low)} and {tell(worse.high)} worse"
    if worse.low > tolerance:
        return f"{span}: beyond {told} at this level, but not yet at the stricter one that a red takes"
    return f"{span}: not shown to be within {told}, nor beyond it"


def describe_change(comparison: Comparison) -> str:
    """``2.51 ms to 2.64 ms``."""
    return f"{format_value(comparison.baseline, comparison.unit)} to {format_value(comparison.candidate, comparison.unit)}"


def log_ratios_or_reason(found: list[float] | Absent, minimum: int) -> list[float] | Absent:
    """At least ``minimum`` launch pairs, or why there are none."""
    if isinstance(found, list) and len(found) < minimum:
        return Absent("", f"{len(found)} launch pairs, {minimum} are needed")
    return found
