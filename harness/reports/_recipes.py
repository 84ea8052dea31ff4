"""Recipes side by side: what each costs and gives against the scenario's reference, and which of them are worth choosing from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.result import TrialState
from harness.core.units import format_points

if TYPE_CHECKING:
    from harness.core.result import RunResult, TrialRecord

TOLD_FIRST = ("latency_p50", "latency_p99", "throughput", "accuracy", "agreement", "output_cosine", "peak_memory", "model_size")
"""The order in which metrics are told; others follow by name."""
COLUMNS = (*TOLD_FIRST, "energy_per_inference")
"""The metrics that stand in the table of recipes beside each other; all others are folded away below it."""
COST = "latency_p50"
QUALITIES = ("accuracy", "agreement", "output_cosine")
"""What latency is traded against: the first of these that the recipes have."""
SIZE = "model_size"
NEXT_TO_NOTHING = 0.02


@dataclass(frozen=True, slots=True)
class RecipeGroup:
    """The measured trials of one scenario on one hardware target at one batch size, and the reference among them, if it was measured."""

    scenario: str
    hardware: str
    batch_size: int
    trials: tuple[TrialRecord, ...]
    reference: TrialRecord | None

    @property
    def title(self) -> str:
        return f"{self.scenario} on {self.hardware}, batch {self.batch_size}"

    @property
    def quality(self) -> str | None:
        """The first quality that at least two recipes have together with a latency; None where there is no trade-off to draw."""
        for metric in QUALITIES:
            if sum(trial.estimate(metric) is not None and trial.estimate(COST) is not None for trial in self.trials) >= 2:
                return metric
        return None


def recipe_groups(result: RunResult) -> list[RecipeGroup]:
    """Every group with at least one number, in the result's order. A trial without numbers is told elsewhere."""
    cells: dict[tuple[str, str, int], list[TrialRecord]] = defaultdict(list)
    for trial in result.trials:
        if trial.estimates and trial.state is not TrialState.FAILED:
            cells[trial.scenario, trial.hardware, trial.batch_size].append(trial)
    return [
        RecipeGroup(scenario, hardware, batch_size, tuple(trials), next((trial for trial in trials if trial.is_reference), None))
        for (scenario, hardware, batch_size), trials in cells.items()
    ]


def metrics_told(trials: Sequence[TrialRecord]) -> list[str]:
    """The metrics that any of the trials has, in the order in which they are told."""
    known = {estimate.metric for trial in trials for estimate in trial.estimates}
    first = [metric for metric in TOLD_FIRST if metric in known]
    return first + sorted(known.difference(first))


def columns_of(trials: Sequence[TrialRecord]) -> tuple[list[str], list[str]]:
    """The metrics that the table of recipes shows beside each other, and those for which there is no room: the wider it is, the less is
    seen of it. Of qualities that never move (an agreement of 100 % everywhere) the first is enough."""
    told = metrics_told(trials)
    shown = [metric for metric in told if metric in COLUMNS]
    quality = next((metric for metric in QUALITIES if metric in shown), None)
    shown = [metric for metric in shown if metric not in QUALITIES or metric == quality or _varies(trials, metric)]
    return shown, [metric for metric in told if metric not in shown]


def _varies(trials: Sequence[TrialRecord], metric: str) -> bool:
    return len({estimate.value for trial in trials if (estimate := trial.estimate(metric)) is not None}) > 1


def ratio_to(trial: TrialRecord, other: TrialRecord | None, metric: str) -> float | None:
    """The trial's value over the other's; None without both, or where the other's is zero."""
    ours, theirs = trial.estimate(metric), None if other is None else other.estimate(metric)
    if ours is None or theirs is None or theirs.value == 0:
        return None
    return ours.value / theirs.value


def difference_to(trial: TrialRecord, other: TrialRecord | None, metric: str) -> float | None:
    """The trial's value less the other's; None without both."""
    ours, theirs = trial.estimate(metric), None if other is None else other.estimate(metric)
    return None if ours is None or theirs is None else ours.value - theirs.value


def bargain(trial: TrialRecord, reference: TrialRecord | None) -> str:
    """What a recipe buys and what it costs against its reference, in one sentence; empty for the reference and without one.

    Speed is from each recipe's own launches; accuracy is the difference over the same samples, with its interval.
    """
    if reference is None or trial.is_reference:
        return ""
    told = [
        _compared(ratio_to(trial, reference, metric), better, worse)
        for metric, better, worse in (
            (COST, "{:.2f} times as quick", "{:.2f} times the latency"),
            (SIZE, "{:.2f} of the size", "{:.2f} times as large"),
            ("peak_memory", "{:.2f} of the memory", "{:.2f} times the memory"),
        )
    ]
    buys = [text for text, is_better in filter(None, told) if is_better]
    costs = [text for text, is_better in filter(None, told) if not is_better]
    if (change := trial.quality_change) is not None and change.difference != 0:
        interval = f"{format_points(change.interval.low)} to {format_points(change.interval.high)} at {100 * change.interval.level:.0f} %"
        quality = f"{format_points(change.difference)} of {change.metric} ({interval})"
        (costs if change.difference < 0 else buys).append(quality)
    if not buys and not costs:
        return ""
    gained = f"Buys {', '.join(buys)}" if buys else "Buys nothing"
    return f"{gained}; costs {', '.join(costs)}." if costs else f"{gained}, and costs nothing that was measured."


def _compared(ratio: float | None, better: str, worse: str) -> tuple[str, bool] | None:
    """A ratio in words and whether it is a gain; None where it is next to nothing (2 %) or not known."""
    if ratio is None or abs(ratio - 1) < NEXT_TO_NOTHING:
        return None
    if ratio < 1:
        return better.format(1 / ratio if "quick" in better else ratio), True
    return worse.format(ratio), False


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, quality) whether no other point is at least as cheap and as good, and better in one of the two."""
    return [not any(cost <= own and quality >= good and (cost < own or quality > good) for cost, quality in points) for own, good in points]
