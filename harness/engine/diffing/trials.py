"""One trial in both arms of saved runs, metric by metric: its launches, its size, its samples' scores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from harness import plugins
from harness.core.comparison import Comparison
from harness.core.result import QUANTILES, RunResult, TrialRecord, TrialState
from harness.engine.compare import compare_exact, compare_samples
from harness.engine.diffing.launches import Figure, Question, told_only
from harness.engine.diffing.report import Row
from harness.engine.evaluate import metric_of
from harness.engine.packing import unpack
from harness.engine.rules import Rule
from harness.engine.sample_evidence import weigh_samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LAUNCHES, RUNS = "process launches", "runs"
Record = tuple[RunResult, TrialRecord]
"""A trial in one run."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """Scores of the same samples, that wait to be told how much error they may spend."""

    trial: str
    rule: Rule
    seed: int
    baseline: NDArray[np.float64]
    candidate: NDArray[np.float64]

    def decided(self, alpha: float) -> Row:
        import numpy as np

        evidence = weigh_samples(self.rule, self.baseline, self.candidate, np.random.default_rng(self.seed))
        return _row_of(compare_samples(self.trial, self.rule, evidence, alpha))


def rules_for(before: Record, after: Record, tolerances: Mapping[str, float]) -> Iterable[Rule]:
    """Gated metrics that either arm has; the tolerance that was asked for, else that of a gate in either run, else the default."""
    judged = {(item.metric): item for result, trial in (before, after) for item in result.comparisons if item.trial == trial.id}
    for name in plugins.names("metrics"):
        plugin = metric_of(name)
        earlier = judged.get(name)
        tolerance = tolerances.get(name, earlier.tolerance if earlier else plugin.tolerance)
        if tolerance is None or plugin.better == "none" or not (before[1].estimate(name) and after[1].estimate(name)):
            continue
        yield Rule(name, plugin, tolerance, earlier.floor if earlier else plugin.floor)


def timing(trial: str, rule: Rule, before: Sequence[Record], after: Sequence[Record], several: bool, cap: str | None) -> Question | None:
    """Launches of both arms, or a figure for each run; None where a run kept none of this metric."""
    first, second = (_arm(rule.metric, records, several) for records in (before, after))
    if not (first and second):
        return None
    return Question(
        trial, rule.metric, rule.unit, rule.better, rule.tolerance, rule.floor, first, second, n_of=RUNS if several else LAUNCHES, cap=cap
    )


def _arm(metric: str, records: Sequence[Record], several: bool) -> tuple[Figure, ...]:
    if not several:
        return tuple(Figure(value) for value in figures_of(records[-1][1], metric))
    figures = [(result, figures_of(record, metric)) for result, record in records]
    return tuple(Figure(statistics.geometric_mean(values), started(result)) for result, values in figures if values)


def figures_of(record: TrialRecord, metric: str) -> Sequence[float]:
    """Each launch's figure that this run measured: as kept for a baseline, else the medians of its sketches. Zero and less is no time."""
    if record.state is TrialState.UNCHANGED:
        return ()
    found: Sequence[float] = record.material.figures.get(metric, ()) if record.material is not None else ()
    if not found and metric == "latency_p50":
        launches = next((one.launches for one in record.distributions if one.arm == "candidate"), ())
        found = [float(launch.quantiles_ns[QUANTILES.index(0.5)]) for launch in launches if launch.quantiles_ns]
    return found if all(value > 0 and math.isfinite(value) for value in found) else ()


def portable(trial: str, rule: Rule, before: Record, after: Record) -> Row | Weighed | None:
    """A size is exact; scores are paired where both runs scored the same samples."""
    first, second = before[1].estimate(rule.metric), after[1].estimate(rule.metric)
    if first is None or second is None:
        return None
    if rule.plugin.kind == "exact":
        return _row_of(compare_exact(trial, rule, first.value, second.value))
    mine, theirs = before[1].material, after[1].material
    if mine is not None and theirs is not None and rule.metric in mine.scores and rule.metric in theirs.scores:
        packed = (mine.scores[rule.metric], theirs.scores[rule.metric])
        if mine.evaluation_key == theirs.evaluation_key and packed[0].count == packed[1].count:
            return Weighed(trial, rule, after[0].seed, unpack(packed[0]).astype(float), unpack(packed[1]).astype(float))
        reason = "not compared: the evaluation data are not the same"
    else:
        reason = "not compared: one of the runs kept no scores of single samples"
    plain = Question(
        trial, rule.metric, rule.unit, rule.better, rule.tolerance, rule.floor, (Figure(first.value),), (Figure(second.value),), "samples"
    )
    return replace(told_only(plain, reason), scale="difference", baseline_n=first.n, candidate_n=second.n)


def _row_of(found: Comparison) -> Row:
    """A comparison that does not depend on the hour decides here as it does in the gate."""
    return Row(
        name=found.trial,
        metric=found.metric,
        unit=found.unit,
        better=found.better,
        scale=found.scale,
        baseline=found.baseline,
        candidate=found.candidate,
        effect=found.effect,
        interval=found.interval,
        tolerance=found.tolerance,
        baseline_n=found.n,
        candidate_n=found.n,
        n_of=found.n_of,
        method=found.method,
        shown=found.verdict,
        verdict=found.verdict,
        reason=found.reason,
        visible_change=found.visible_change,
    )


def launches_of(record: TrialRecord) -> Sequence[float]:
    if record.material is not None and record.state is not TrialState.UNCHANGED:
        return max(record.material.figures.values(), key=len, default=())
    return figures_of(record, "latency_p50")


def started(result: RunResult) -> datetime:
    return datetime.fromisoformat(result.started_at)
