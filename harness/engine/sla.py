"""Whether the promises are kept, shown by a bound and not by a point.

A latency quantile is kept when the share of queries above the limit is shown to be small enough (one-sided binomial bound, 95 %, the
design effect of queries in one launch counted in, also where few or none are above: see ``_design_effect``). Other measured numbers use
an end of their interval over launches. Metrics of the evaluation set and of the artifact are exact: they are about that set and that
file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.comparison import SlaFinding, SlaState
from harness.core.result import TrialState
from harness.core.units import Unit, format_points, format_value
from harness.stats import binomial, independent

if TYPE_CHECKING:
    from harness.core.estimate import Estimate
    from harness.core.result import TrialRecord
    from harness.core.scenario import ScenarioFile, SlaClause

CONFIDENCE = 0.95
ROUNDING = 1e-9
"""What floating point may add to an exact number, relative to the limit: 0.98 - 0.97 is a little more than 1 point."""
LEAST_NEAR, FEWEST_NEAR = 20, 5
"""How many of the slowest queries say how alike those of one launch are, and with how few nothing can be said."""
_QUANTILE = re.compile(r"latency_p(\d+)")


@dataclass(frozen=True, slots=True)
class LaunchFigures:
    """What an SLA is checked on: each launch's figure of every launch metric, and each launch's latencies in ns."""

    figures: Mapping[str, Sequence[float]]
    latencies_ns: Sequence[Sequence[int]]


def check_sla(
    file: ScenarioFile, trials: Sequence[TrialRecord], figures: Mapping[str, LaunchFigures], *, confidence: float = CONFIDENCE
) -> tuple[SlaFinding, ...]:
    """Every clause of a scenario on every trial that it speaks of; ``figures`` by trial id, absent for what was not measured.

    ``confidence`` is that of one-sided bounds; the ends of intervals over launches are those of the estimates that are given.
    """
    ran = [trial for trial in trials if trial.state not in (TrialState.SKIPPED, TrialState.FAILED)]
    return tuple(
        replace(_check(clause, trial, ran, figures, confidence), line=file.lines.get(f"sla.{clause.text.partition(': ')[0]}"))
        for clause in file.scenario.clauses()
        for trial in ran
        if speaks_of(clause, trial.recipe)
    )


def quantile_of(metric: str) -> float | None:
    """0.99 of ``latency_p99``; None of a metric that is no quantile of latency."""
    match = _QUANTILE.fullmatch(metric)
    return None if match is None else float(f"0.{match[1]}")


def speaks_of(clause: SlaClause, recipe: str) -> bool:
    """Whether a clause is about a recipe: its own, or any where it names none but the one that it compares with."""
    return clause.recipe == recipe or (clause.recipe is None and clause.of != recipe)  # fp32 promises nothing about fp32


def counts_queries(clause: SlaClause, measured: LaunchFigures | None) -> bool:
    """Whether a clause is decided by how many queries are over its limit."""
    return (
        clause.relation == "absolute"
        and quantile_of(clause.metric) is not None
        and measured is not None
        and any(map(len, measured.latencies_ns))
    )


def _check(
    clause: SlaClause, trial: TrialRecord, trials: Sequence[TrialRecord], figures: Mapping[str, LaunchFigures], confidence: float
) -> SlaFinding:
    estimate = trial.estimate(clause.metric)
    measured = figures.get(trial.id)
    q = quantile_of(clause.metric)
    if q is not None and measured is not None and counts_queries(clause, measured):
        return _quantile_clause(clause, trial, q, measured, confidence)
    if estimate is None:
        why = next((absent.reason for absent in trial.absent if absent.metric == clause.metric), "not measured in this run")
        return _finding(clause, trial, SlaState.UNMEASURED, why)
    if clause.relation == "absolute":
        return _bound_clause(clause, trial, estimate)
    other = _counterpart(clause, trial, trials)
    if other is None or (of := other.estimate(clause.metric)) is None:
        return _finding(clause, trial, SlaState.UNMEASURED, f"recipe '{clause.of}' has no {clause.metric} in this run", estimate)
    if clause.speed_up is not None and estimate.better == "higher":  # 3 times as fast is three times the throughput
        clause = clause.model_copy(update={"bound": "at least", "limit": clause.speed_up})
    if clause.relation == "share":
        return _share_clause(clause, trial, other, estimate, of, figures, confidence)
    return _distance_clause(clause, trial, estimate, of)


def _quantile_clause(clause: SlaClause, trial: TrialRecord, q: float, measured: LaunchFigures, confidence: float) -> SlaFinding:
    """The share of queries over the limit against 1 - q, with Clopper-Pearson bounds on the effective number of queries."""
    counts = [(sum(latency > clause.limit for latency in launch), len(launch)) for launch in measured.latencies_ns]
    over, queries = sum(count for count, _ in counts), sum(number for _, number in counts)
    effect, why_effect = _design_effect(clause, 1 - q, counts, measured.latencies_ns)
    effective, effective_over = queries / effect, over / effect
    high = binomial.upper_bound(effective_over, effective, confidence)
    low = binomial.lower_bound(effective_over, effective, confidence)
    estimate = trial.estimate(clause.metric)
    told = f"{over:,} of {queries:,} queries over {_limit(clause)} ({over / queries * 100:.2f} %; at most {(1 - q) * 100:.3g} % may be)"
    told += f", {why_effect}" if why_effect else ""
    kept = high <= 1 - q if clause.bound == "at most" else low > 1 - q
    broken = low > 1 - q if clause.bound == "at most" else high <= 1 - q
    if why := next((item.reason for item in trial.absent if item.metric == clause.metric), None):
        told += f"; the quantile of a launch is not told: {why}"  # all launches together have enough for the share
    if kept:
        return _finding(clause, trial, SlaState.KEPT, told, estimate, high)
    if broken:
        return _finding(clause, trial, SlaState.BROKEN, told, estimate, low)
    return _finding(clause, trial, SlaState.UNPROVEN, f"{told}; {_what_would_tell(q, over, queries, effect, confidence)}", estimate, high)


def _what_would_tell(q: float, over: int, queries: int, effect: float, confidence: float) -> str:
    """How many queries more decide a clause if as many of them are over its limit as of those so far."""
    needed = binomial.queries_to_tell(q, over / effect, queries / effect, confidence)
    if needed is None:
        return "so near to the limit that more queries would not tell"
    more = math.ceil(needed * effect) - queries
    if more <= 0:
        return "more launches would tell"
    return f"about {more:,} more queries would tell{', if the share stays as it is' if over else ''}"


def _design_effect(
    clause: SlaClause, allowed: float, counts: Sequence[tuple[int, int]], launches: Sequence[Sequence[int]]
) -> tuple[float, str]:
    """How many times fewer the queries are worth than independent ones, and why.

    With few queries over the limit, how much their number differs from launch to launch says nothing. So where fewer are over than twice
    what the promise allows (and at least 20), the slowest so many are looked at too, as far as they lie beyond halfway from the median
    query to the limit, and the larger effect counts. Where fewer than 5 do, queries are taken as independent.

    Measured on launches with a level of their own (log-normal latencies of spread 0.2, of which a launch's level has this share of the
    variance; 2,000 sets each): how often, in percent, a p99 is called kept with exactly 1 % over the limit, from the queries over it
    alone and so; and with 0.05 % over. Spreads of 0.05 and 0.6 differ little where 1 % is over (at most 7.0).

    =====  ===================  =================  ================
    share  launches of queries  exactly 1 %        0.05 %
    =====  ===================  =================  ================
    0      5 of 60              4.2 alone, 2.5     86 alone, 53
    0      5 of 200             2.2 alone, 1.9     100 alone, 98
    0.1    5 of 200             12.0 alone, 5.4    99 alone, 61
    0.1    5 of 1,000           16.6 alone, 6.0    100 alone, 73
    0.1    20 of 100            6.9 alone, 2.9     100 alone, 99
    0.3    5 of 60              18.2 alone, 1.8    89 alone, 33
    0.3    5 of 200             27.2 alone, 6.6    96 alone, 31
    0.3    5 of 1,000           28.6 alone, 6.6    97 alone, 34
    0.3    20 of 100            14.4 alone, 4.4    99 alone, 63
    =====  ===================  =================  ================
    """
    import numpy as np

    over, queries = sum(count for count, _ in counts), sum(number for _, number in counts)
    effect = binomial.design_effect(counts)
    told = f"design effect {effect:.1f}" if effect > 1.05 else ""
    wanted = max(LEAST_NEAR, round(2 * allowed * queries))
    if over >= wanted:
        return effect, told
    timed = [np.asarray(launch, dtype=np.float64) for launch in launches if len(launch)]
    if len(timed) < 2:
        return effect, "of one launch: its queries are taken as independent"
    near = binomial.near_limit(timed, clause.limit, wanted)
    if near.queries >= FEWEST_NEAR and near.effect > effect:
        shown = format_value(near.threshold, clause.unit)
        return near.effect, f"design effect {near.effect:.1f}, of the {near.queries:,} queries that took {shown} or more"
    if near.queries < FEWEST_NEAR and not told:
        return effect, f"queries are taken as independent: {near.queries or 'none'} came near the limit"
    return effect, told


def _bound_clause(clause: SlaClause, trial: TrialRecord, estimate: Estimate) -> SlaFinding:
    """An absolute limit against the end of the estimate's interval; exact where the metric is of the evaluation set or the file."""
    low, high = _one_sided(estimate)
    state = _state(clause, low, high, clause.limit)
    bound = high if clause.bound == "at most" else low
    return _finding(clause, trial, state, _told(clause, estimate, bound), estimate, bound)


def _distance_clause(clause: SlaClause, trial: TrialRecord, estimate: Estimate, of: Estimate) -> SlaFinding:
    """``at most 1 point below fp32``: the value must not fall under the other's value less the distance."""
    (low, high), (of_low, of_high) = _one_sided(estimate), _one_sided(of)
    distance = of.value - estimate.value if clause.relation == "below" else estimate.value - of.value
    worst = of_high - low if clause.relation == "below" else high - of_low
    best = of_low - high if clause.relation == "below" else low - of_high
    state = _state(clause, best, worst, clause.limit)
    told = f"{_show(estimate.value, estimate)} against {_show(of.value, of)} of '{clause.of}'"
    if distance:
        size = format_points(abs(distance)).lstrip("+") if estimate.unit is Unit.FRACTION else _show(abs(distance), estimate)
        told += f", {size} {'below' if (distance > 0) == (clause.relation == 'below') else 'above'}"
    return _finding(clause, trial, state, told, estimate, worst if clause.bound == "at most" else best)


def _share_clause(
    clause: SlaClause,
    trial: TrialRecord,
    other: TrialRecord,
    estimate: Estimate,
    of: Estimate,
    figures: Mapping[str, LaunchFigures],
    confidence: float,
) -> SlaFinding:
    """``at most 50 % of fp32``: the ratio of both, with a Welch interval on the logarithms where launches make it uncertain."""
    ratio = estimate.value / of.value if of.value else math.inf
    ours, theirs = _figures_of(figures, trial, clause.metric), _figures_of(figures, other, clause.metric)
    low = high = ratio
    if ours is not None and theirs is not None and min(len(ours), len(theirs)) >= 2:
        interval = independent.ratio_interval_independent(theirs, ours, 2 * confidence - 1)
        low, high = interval.low, interval.high
    state = _state(clause, low, high, clause.limit)
    told = f"{_show(estimate.value, estimate)} is {ratio:.1%} of {_show(of.value, of)} of '{clause.of}'"
    if high > low:
        told += f" (one-sided {confidence * 100:.4g}% bounds {low:.1%} and {high:.1%})"
    return _finding(clause, trial, state, told, estimate, high if clause.bound == "at most" else low)


def _state(clause: SlaClause, low: float, high: float, limit: float) -> SlaState:
    """KEPT when the whole of low..high is on the right side of the limit, BROKEN when the whole is on the wrong one."""
    slack = ROUNDING * abs(limit)
    if clause.bound == "at most":
        kept, broken = high <= limit + slack, low > limit + slack
    else:
        kept, broken = low >= limit - slack, high < limit - slack
    return SlaState.KEPT if kept else SlaState.BROKEN if broken else SlaState.UNPROVEN


def _one_sided(estimate: Estimate) -> tuple[float, float]:
    """The estimate's interval over launches (95 % two-sided: each end is a one-sided 97.5 % bound); exact for sets and files."""
    if estimate.interval is None or estimate.n_of != "launches":
        return estimate.value, estimate.value
    return estimate.interval.low, estimate.interval.high


def _counterpart(clause: SlaClause, trial: TrialRecord, trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The other recipe's trial on the same hardware with the same batch size."""
    same = (other for other in trials if other.hardware == trial.hardware and other.batch_size == trial.batch_size)
    return next((other for other in same if other.recipe == clause.of), None)


def _figures_of(figures: Mapping[str, LaunchFigures], trial: TrialRecord, metric: str) -> Sequence[float] | None:
    return figures[trial.id].figures.get(metric) if trial.id in figures else None


def _told(clause: SlaClause, estimate: Estimate, bound: float) -> str:
    if estimate.interval is None or estimate.n_of != "launches":
        return f"{_show(estimate.value, estimate)}, exact for this {'set of samples' if estimate.n_of == 'samples' else 'artifact'}"
    return f"{_show(estimate.value, estimate)}, shown to be {clause.bound} {_show(bound, estimate)} ({estimate.n} launches)"


def _show(value: float, estimate: Estimate) -> str:
    return format_value(value, estimate.unit)


def _limit(clause: SlaClause) -> str:
    return format_value(clause.limit, clause.unit)


def _finding(
    clause: SlaClause, trial: TrialRecord, state: SlaState, reason: str, estimate: Estimate | None = None, bound: float | None = None
) -> SlaFinding:
    return SlaFinding(
        trial=trial.id,
        metric=clause.metric,
        clause=clause.text,
        unit=None if estimate is None else estimate.unit,
        value=None if estimate is None else estimate.value,
        bound=bound,
        limit=clause.limit,
        state=state,
        reason=reason,
    )
