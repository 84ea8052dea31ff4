"""The sentences that every report and the terminal share: one comparison or SLA clause in words, the worst first, and what to do next.

Nothing is decided here: verdicts come from the result, and these functions only tell them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.core.comparison import SlaState, Verdict
from harness.core.result import TrialState, not_compared
from harness.core.units import Unit, format_change, format_points, format_value

if TYPE_CHECKING:
    from harness.core.baseline import Baseline
    from harness.core.comparison import Comparison, SlaFinding
    from harness.core.measurement import SessionFacts
    from harness.core.result import RunResult
    from harness.core.trend import ChangePoint, Trend

VERDICT_ORDER = (Verdict.REGRESSED, Verdict.INVALID, Verdict.INCONCLUSIVE, Verdict.IMPROVED, Verdict.PASS)
"""The order in which people read verdicts: what needs them first comes first."""
SLA_ORDER = (SlaState.BROKEN, SlaState.UNPROVEN, SlaState.UNMEASURED, SlaState.KEPT)
NOTHING_TO_DO = "Nothing to do."


def sentence_of(comparison: Comparison) -> str:
    """The whole finding in one sentence, the verdict last.

    ``latency_p50 of digits/int8-cpu-b1 went from 2.51 ms to 2.64 ms: ×1.051 (99 % interval 1.038 to 1.064), tolerance 2 %: REGRESSED``
    """
    if _told(comparison.baseline, comparison.unit) == _told(comparison.candidate, comparison.unit):
        change = f"stayed at {_told(comparison.candidate, comparison.unit)}"
    else:
        change = f"went from {_told(comparison.baseline, comparison.unit)} to {_told(comparison.candidate, comparison.unit)}"
    advice = " (told only, it decides nothing)" if comparison.advisory else ""
    return (
        f"{comparison.metric} of {comparison.trial} {change}: {effect_of(comparison)} ({interval_of(comparison)}), "
        f"tolerance {tolerance_of(comparison)}: {comparison.verdict}{advice}"
    )


def sentence_of_sla(finding: SlaFinding) -> str:
    """``SLA 'latency_p99: at most 50 ms' on digits/int8-cpu-b1: 51.2 ms; 31 of 840 queries over 50.0 ms: BROKEN``."""
    known = value_of(finding)
    told = finding.reason if finding.reason.startswith(known) else f"{known}; {finding.reason}" if finding.reason else known
    return f"SLA '{finding.clause}' on {finding.trial}: {told}: {finding.state}"


def value_of(finding: SlaFinding) -> str:
    """The value that a clause was checked on; "not measured" where there is none, for missing is not zero."""
    if finding.value is None:
        return "not measured"
    return _told(finding.value, finding.unit or Unit.NUMBER)


def effect_of(comparison: Comparison) -> str:
    """``×1.051`` on the ratio scale, ``-0.50 points`` for a difference of fractions, else the difference in its unit with its sign."""
    if comparison.scale == "ratio":
        return f"×{_factor(comparison.effect)}"
    return _difference(comparison.effect, comparison.unit)


def change_of(comparison: Comparison) -> str:
    """``+5.1 %`` on the ratio scale; a difference is told as it is."""
    if comparison.scale == "ratio" and math.isfinite(comparison.effect):
        return format_change(comparison.effect - 1)
    return effect_of(comparison)


def interval_of(comparison: Comparison) -> str:
    """``99 % interval 1.038 to 1.064``; "exact" where nothing is uncertain; an open end is "at least" or "at most"."""
    low, high = comparison.interval.low, comparison.interval.high
    if low == high:
        return "exact"
    level = _level(comparison.interval.level)
    if math.isinf(high):
        return f"{level} bound: at least {_end(comparison, low)}"
    if math.isinf(low):
        return f"{level} bound: at most {_end(comparison, high)}"
    return f"{level} interval {range_of(comparison)}"


def range_of(comparison: Comparison) -> str:
    """The interval without its level, for a table's cell: ``1.038 to 1.064``, ``-2.75 to -0.95 points``."""
    low, high = comparison.interval.low, comparison.interval.high
    if low == high:
        return "exact"
    return f"{_end(comparison, low).removesuffix(' points')} to {_end(comparison, high)}"


def tolerance_of(comparison: Comparison) -> str:
    """``2 %`` or ``0.5 points``."""
    return _distance(comparison.tolerance, comparison)


def visible_change_of(comparison: Comparison) -> str:
    """The smallest change that would have been seen, told like the tolerance; "any change" where the comparison is exact."""
    if comparison.visible_change is None:
        return "any change"
    return _distance(comparison.visible_change, comparison)


def worsening_of(comparison: Comparison) -> float:
    """How far the candidate is on the worse side of no change, on the comparison's scale; negative where it is better.

    A ratio where higher is better is turned over, so that half the throughput counts as twice the latency does.
    """
    if comparison.scale == "difference":
        return -comparison.effect if comparison.better == "higher" else comparison.effect
    if comparison.better != "higher":
        return comparison.effect - 1
    return 1 / comparison.effect - 1 if comparison.effect > 0 else math.inf


def worst_first(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """By verdict, then what decides before what is only told, then by how many tolerances the change is worse; names break ties."""

    def key(comparison: Comparison) -> tuple[int, bool, float, str, str]:
        worse = worsening_of(comparison) / max(comparison.tolerance, 1e-4)
        return VERDICT_ORDER.index(comparison.verdict), comparison.advisory, -worse, comparison.trial, comparison.metric

    return sorted(comparisons, key=key)


def worst_sla_first(findings: Iterable[SlaFinding]) -> list[SlaFinding]:
    """Broken promises first, then what is not shown; otherwise in the scenario's order."""
    return sorted(findings, key=lambda finding: SLA_ORDER.index(finding.state))


def next_steps(result: RunResult) -> list[str]:
    """What the reader does now, one sentence each, most urgent first; ``[NOTHING_TO_DO]`` where all is well."""
    deciding = [comparison for comparison in result.comparisons if not comparison.advisory]
    broken = [finding for finding in result.sla if finding.state is SlaState.BROKEN]
    unproven = [finding for finding in result.sla if finding.state is SlaState.UNPROVEN]
    failed = [trial for trial in result.trials if trial.state is TrialState.FAILED]
    invalid = [
        trial for trial in result.trials if trial.state in (TrialState.MEASURED, TrialState.UNCHANGED) and trial.verdict is Verdict.INVALID
    ]
    new = [trial for trial in result.trials if trial.state is TrialState.NEW and trial.verdict is Verdict.INVALID]
    regressed = worst_first(comparison for comparison in deciding if comparison.verdict is Verdict.REGRESSED)
    undecided = [comparison for comparison in deciding if comparison.verdict is Verdict.INCONCLUSIVE]
    uncompared = not_compared(result.trials, undecided)
    steps = []
    if result.null_control is not None and result.null_control.red:
        steps.append("Run again on a quieter machine: this one called identical code different.")
    if regressed:
        first = regressed[0]
        steps.append(
            f"Look first at {first.metric} of {first.trial} ({change_of(first)}). "
            "Where the change is intended, accept it with 'harness baseline accept' and commit the new baseline."
        )
    if broken:
        steps.append(f"Mend the broken promise, or change it in the scenario: '{broken[0].clause}' on {broken[0].trial}.")
    if failed:
        steps.append(f"Mend {_trials(len(failed))} that failed, {failed[0].id} first.")
    if invalid:
        steps.append(f"See why {_trials(len(invalid))} could not be decided, {invalid[0].id} first.")
    if undecided:
        steps.append(
            f"Give a larger --budget, or a quieter machine, to tell {_metrics(len(undecided))} of which neither "
            "a pass nor a regression was shown."
        )
    if uncompared:
        steps.append(f"The timings of {_trials(len(uncompared))} were not compared, {uncompared[0].id} first: {uncompared[0].reason}.")
    if unproven:
        steps.append(f"Measure longer to prove '{unproven[0].clause}' on {unproven[0].trial}: {unproven[0].reason}")
    if new:
        steps.append(
            f"Keep the first numbers of {_trials(len(new))} with 'harness baseline accept': there was no baseline to compare with."
        )
    return steps or [NOTHING_TO_DO]


def _trials(number: int) -> str:
    return f"{number:,} trial" if number == 1 else f"{number:,} trials"


def _metrics(number: int) -> str:
    return f"{number:,} metric" if number == 1 else f"{number:,} metrics"


def _told(value: float, unit: Unit) -> str:
    return format_value(value, unit) if math.isfinite(value) else str(value)


def _factor(ratio: float) -> str:
    if not math.isfinite(ratio):
        return "∞" if ratio > 0 else str(ratio)
    if ratio >= 100:
        return f"{ratio:,.0f}"
    return f"{ratio:.3f}" if ratio >= 0.1 or ratio == 0 else f"{ratio:.3g}"


def _difference(value: float, unit: Unit) -> str:
    if unit is Unit.FRACTION and math.isfinite(value):
        return format_points(value)
    sign = "+" if value > 0 else ""
    return f"{sign}{_told(value, unit)}"


def _end(comparison: Comparison, end: float) -> str:
    return _factor(end) if comparison.scale == "ratio" else _difference(end, comparison.unit)


def _distance(value: float, comparison: Comparison) -> str:
    """A positive distance from no change; three digits, so that 0.5 is not told as 0.50."""
    if comparison.scale == "ratio":
        return f"{_short(value * 100)} %"
    if comparison.unit is Unit.FRACTION:
        return f"{_short(value * 100)} {'point' if math.isclose(value, 0.01) else 'points'}"
    return _told(value, comparison.unit)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _level(level: float) -> str:
    """``99 %``; never rounded up to certainty."""
    return "more than 99.99 %" if level > 0.9999 else f"{level * 100:.4g} %"


def baseline_line(baseline: Baseline) -> str:
    """A baseline in one line: its median latency on each machine, size, accuracy, commit."""
    told = [
        f"{estimate.metric} {_told(estimate.value, estimate.unit)}"
        for part in (baseline.portable.estimates, *(measured.estimates for measured in baseline.measured.values()))
        for estimate in part
        if estimate.metric in ("latency_p50", "accuracy", "model_size")
    ]
    commit = "not of a commit" if baseline.portable.commit is None else f"commit {baseline.portable.commit[:12]}"
    machines = len(baseline.measured)
    return f"{baseline.trial}  {', '.join(told)}; {machines} {'machine' if machines == 1 else 'machines'}, {commit}"


def drift_of(trend: Trend, change: ChangePoint) -> str:
    """``digits/fp32-cpu-b1 latency_p50 +4.1 % since 2026-10-03 (commit abc1234)``."""
    point = trend.point_of(change)
    source = f"run {point.run}" if point.commit is None else f"commit {point.commit[:7]}{' with changes' if point.dirty else ''}"
    return f"{trend.trial} {trend.metric} {drift_size_of(trend, change)} since {point.date} ({source})"


def drift_size_of(trend: Trend, change: ChangePoint) -> str:
    """``+4.1 %``, or ``-0.50 points`` for a difference of fractions."""
    if trend.scale == "ratio" and math.isfinite(change.ratio):
        return format_change(change.ratio - 1)
    return _difference(change.after - change.before, trend.unit)


def threads_told(facts: SessionFacts) -> str:
    """``, 2 threads`` to put behind a device; empty where nobody knows, of a model that runs elsewhere."""
    return "" if not facts.threads else f", {facts.threads} thread{'' if facts.threads == 1 else 's'}"
