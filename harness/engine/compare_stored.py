"""Against stored numbers only, where the baseline cannot be run here: told, and decided only where the scenario says so.

A session (all launches of one job) is the unit: machines, neighbours and hours differ between sessions far more than launches within one.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.core.comparison import Comparison, Verdict
from harness.core.estimate import ConfidenceInterval
from harness.engine.judge import Evidence, judge
from harness.stats import independent

if TYPE_CHECKING:
    from harness.core.baseline import Measured
    from harness.engine.rules import Rule

LEVEL = 0.99


def compare_stored(trial: str, rule: Rule, stored: Measured, figures: Sequence[float], *, decides: bool) -> Comparison | None:
    """The candidate's launches against accepted numbers of the same environment key; None where the metric has none.

    With 10 or more earlier sessions the interval predicts a session's mean (s * sqrt(1 + 1/n)), and it decides if ``decides``. With
    fewer it is Welch's interval over launches, which does not know how sessions differ: INCONCLUSIVE, whatever it says.
    """
    before = stored.figures.get(rule.metric)
    if not before or len(before) < 2 or len(figures) < 2 or min(*before, *figures) <= 0:
        return None
    sessions = [mean for mean in stored.sessions.get(rule.metric, ()) if mean > 0]
    candidate = statistics.fmean(figures)
    enough = len(sessions) >= independent.MIN_SESSIONS
    if enough:
        logs = [math.log(mean) for mean in sessions]
        expected = independent.prediction_interval(logs, LEVEL)
        baseline = math.exp(statistics.fmean(logs))  # not the last session alone, which has a luck of its own
        ratio = candidate / baseline
        interval = ConfidenceInterval(candidate / math.exp(expected.high), candidate / math.exp(expected.low), LEVEL)
        method, n, n_of = f"prediction interval over {len(sessions)} stored sessions", len(sessions), "sessions"
    else:
        baseline = statistics.fmean(before)
        ratio = math.exp(statistics.fmean(map(math.log, figures)) - statistics.fmean(map(math.log, before)))
        interval = independent.ratio_interval_independent(before, figures, LEVEL)
        method, n, n_of = f"stored numbers, {len(sessions)} of 10 sessions", len(figures), "launches"
    verdict = judge(Evidence("ratio", rule.better, interval, interval, rule.tolerance, rule.floor, candidate - baseline))
    comparison = Comparison(
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
        n=n,
        n_of=n_of,
        method=method,
        visible_change=math.sqrt(interval.high / interval.low) - 1,
        verdict=verdict,
        reason="against stored numbers of an earlier session, not measured side by side",
        advisory=not (enough and decides),
    )
    return comparison if enough else dataclasses.replace(comparison, verdict=Verdict.INCONCLUSIVE)
