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
from harness.stats import bootstrap, mcnemar, paired
from harness.stats.checks import finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.engine.rules import Rule

FAMILY_ALPHA = 0.01
"""The chance, over all that a job compares, that identical code is called slower."""
PASS_LEVEL = 0.90
"""A pass is shown by the upper end of this two-sided interval: one-sided 95 %."""
POWER = 0.80
MOST_PAIRS = 1_000
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


def compare_launches(trial: str, rule: Rule, evidence: LaunchEvidence, alpha: float, method: str, *, may_be_red: bool = True) -> Comparison:
    """The paired t interval on launch pairs; ``alpha`` is what this look may spend on a red (one-sided).

    ``may_be_red`` is False while a suspicion is not yet confirmed by enough fresh pairs: a red is then INCONCLUSIVE.
    """
    ratios = list(evidence.log_ratios)
    deciding = ratios[-evidence.fresh :] if evidence.fresh else ratios
    strict = paired.ratio_interval(deciding, 1 - 2 * alpha, floor=TIMER_LOG_RATIO)
    plain = paired.ratio_interval(ratios, PASS_LEVEL, floor=TIMER_LOG_RATIO)
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
        reason=_reason(verdict, judged, lambda: _pairs_that_would_tell(ratios, rule, alpha)),
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


def compare_samples(
    trial: str,
    rule: Rule,
    baseline: NDArray[np.float64],
    candidate: NDArray[np.float64],
    alpha: float,
    generator: np.random.Generator,
) -> Comparison:
    """Scores of the same samples in both arms: paired proportions for right and wrong, else a paired bootstrap over samples.

    Where no sample's score changed there is nothing uncertain: the difference is exactly zero.
    """
    import numpy as np

    baseline, candidate = finite(baseline), finite(candidate)
    binary = bool(np.isin(baseline, (0.0, 1.0)).all() and np.isin(candidate, (0.0, 1.0)).all())
    difference = float(np.mean(candidate) - np.mean(baseline))
    visible: float | None = None
    if np.array_equal(baseline, candidate):
        strict = plain = ConfidenceInterval(0.0, 0.0, 1 - 2 * alpha)
        method = "exact: every sample scores the same"
    elif binary:
        strict = mcnemar.difference_interval(baseline, candidate, 1 - 2 * alpha)
        plain = mcnemar.difference_interval(baseline, candidate, PASS_LEVEL)
        method = "paired proportions (score interval)"
    else:
        strict = bootstrap.mean_difference_interval(baseline, candidate, 1 - 2 * alpha, generator)
        plain = bootstrap.mean_difference_interval(baseline, candidate, PASS_LEVEL, generator)
        method = "paired bootstrap over samples"
    if not np.array_equal(baseline, candidate):
        z = statistics.NormalDist().inv_cdf  # half the interval alone, -z(alpha) standard errors, is seen at 50 % power
        visible = (strict.high - strict.low) / 2 * (1 + z(POWER) / -z(alpha))
    evidence = Evidence("difference", rule.better, strict, plain, rule.tolerance, rule.floor, difference)
    verdict = judge(evidence)
    return Comparison(
        trial=trial,
        metric=rule.metric,
        unit=rule.unit,
        better=rule.better,
        scale="difference",
        baseline=float(np.mean(baseline)),
        candidate=float(np.mean(candidate)),
        effect=difference,
        interval=strict if verdict in (Verdict.REGRESSED, Verdict.IMPROVED) else plain,
        tolerance=rule.tolerance,
        floor=rule.floor,
        n=len(baseline),
        n_of="samples",
        method=method,
        visible_change=visible,
        verdict=verdict,
        reason=_reason(verdict, evidence, lambda: _samples_that_would_tell(baseline, candidate, rule)),
    )


def invalidated(comparison: Comparison, reason: str) -> Comparison:
    """The same numbers, deciding nothing any more."""
    return replace(comparison, verdict=Verdict.INVALID, reason=reason)


def is_suspect(rule: Rule, log_ratios: Sequence[float]) -> bool:
    """Whether the one-sided 80 % bound of a screened metric lies beyond no change, on the worse side."""
    interval = paired.ratio_interval(list(log_ratios), 0.60, floor=TIMER_LOG_RATIO)
    return worsening(interval, "ratio", rule.better).low > 0


def _pairs_that_would_tell(log_ratios: Sequence[float], rule: Rule, alpha: float) -> str:
    """How many launch pairs decide four times of five, were the change and the spread what they seem."""
    worse = statistics.fmean(log_ratios) * (-1 if rule.better == "higher" else 1)
    distance = math.log1p(rule.tolerance) - worse
    spread = max(statistics.stdev(log_ratios), TIMER_LOG_RATIO)
    level = alpha if distance < 0 else (1 - PASS_LEVEL) / 2
    pairs = MOST_PAIRS if distance == 0 else paired.pairs_needed(spread, abs(distance), alpha=level, power=POWER, most=MOST_PAIRS)
    told = f"about {max(pairs, len(log_ratios) + 1):,}" if pairs < MOST_PAIRS else f"more than {MOST_PAIRS:,}"
    return f"{told} launch pairs (a larger --budget) or a quieter machine would tell"


def _samples_that_would_tell(baseline: NDArray[np.float64], candidate: NDArray[np.float64], rule: Rule) -> str:
    """How many samples show a change that is no worse than it seems to be within the tolerance, four times of five."""
    worse = float(candidate.mean() - baseline.mean()) * (-1 if rule.better == "higher" else 1)
    if worse >= rule.tolerance:
        return "more samples would tell"
    spread = float(((candidate - baseline) ** 2).mean())
    needed = mcnemar.samples_needed(spread, rule.tolerance - worse, alpha=(1 - PASS_LEVEL) / 2, power=POWER)
    return f"about {max(needed, len(baseline) + 1):,} samples would tell"


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
    return f"between {tell(plain.low)} and {tell(plain.high)} worse: not shown to be within {tolerance}, nor beyond it; {what_would_tell()}"


def describe_change(comparison: Comparison) -> str:
    """``2.51 ms to 2.64 ms``."""
    return f"{format_value(comparison.baseline, comparison.unit)} to {format_value(comparison.candidate, comparison.unit)}"


def log_ratios_or_reason(found: list[float] | Absent, minimum: int) -> list[float] | Absent:
    """At least ``minimum`` launch pairs, or why there are none."""
    if isinstance(found, list) and len(found) < minimum:
        return Absent("", f"{len(found)} launch pairs, {minimum} are needed")
    return found
