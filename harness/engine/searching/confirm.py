"""The finalists against each other by fresh launch pairs, then the winner against the reference by pairs that nothing was chosen by.

Every other finalist is measured against the one that led the races, a launch pair each in turn; it is looked after 4, 6, 8 ... rounds
whether the best is told apart from the others, and each look has its own share of an error of 5 %. The leader's own lead in the races
counts for nothing here: that is what it was chosen by.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.estimate import Absent
from harness.core.search import Stage
from harness.engine.bisecting.weigh import interval_alone
from harness.engine.searching.field import AGAINST, EFFECT, LEAST_PAIRS, LEVEL, effect_of, simpler
from harness.stats.sequential import Looks

if TYPE_CHECKING:
    from harness.core.bisection import Effect
    from harness.core.estimate import ConfidenceInterval
    from harness.engine.bisecting.launch_pairs import Duel
    from harness.engine.searching.field import Field, Runner

SCHEDULE = (4, 6, 8, 10, 13, 16)
"""Rounds after which an answer is looked for; finalists that are not told apart by then are so alike that the smaller may be taken."""
DECAY = 0.5
FINAL_SHARE = 0.85
EFFECT_PAIRS = 8
LEAST_EFFECT_PAIRS = 4
"""Measured also where the budget is spent: without them there is no answer to what it was spent for."""


@dataclass(frozen=True, slots=True)
class Final:
    """The winner, the finalists that cannot be told apart from the best, and who led the races and was everybody's opponent."""

    winner: Runner
    tied: tuple[Runner, ...]
    leader: Runner


def confirm(field: Field, finalists: Sequence[Runner]) -> Final | None:
    """The best of the finalists, the first of which led. None where every one of them failed."""
    standing = [runner for runner in finalists if runner.reason is None]
    while standing:
        leader, *challengers = standing
        for runner in standing:
            runner.stage = Stage.FINAL
        rounds, alpha = _compare(field, leader, challengers)
        left = [runner for runner in standing if runner.reason is None]
        if len(left) == len(standing):
            return _decide(field, leader, challengers, rounds, alpha)
        standing = left
    return None


def measure_effect(field: Field, winner: Runner) -> Effect | None:
    """The winner against the reference by fresh pairs; None where it failed."""
    return field.effect(measure_launches(field, winner))


def measure_launches(field: Field, runner: Runner) -> Duel:
    """Launch pairs against the reference that nothing is chosen by."""
    duel = field.duel(EFFECT, runner)
    while runner.reason is None and duel.pairs < EFFECT_PAIRS:
        if duel.pairs >= LEAST_EFFECT_PAIRS and field.left_s() <= duel.contest.pair_s:
            break
        field.step(f"{runner.name} against {field.reference.trial.recipe.name}: launch pair {duel.pairs + 1} of {EFFECT_PAIRS}")
        field.take(duel, runner, None, Stage.FINAL)
    return duel


def _compare(field: Field, leader: Runner, challengers: Sequence[Runner]) -> tuple[int, float]:
    """Rounds of a pair of each challenger against the leader, until all are told apart or the budget's share is spent.

    Rounds measured, and the error (one-sided) that the last look may spend on one comparison.
    """
    if not challengers:
        return 0, 0.0
    looks = Looks((1 - LEVEL) / 2 / _comparisons(len(challengers)), SCHEDULE, DECAY)
    duels = [field.duel(AGAINST, runner, leader) for runner in challengers]
    for index, rounds in enumerate(SCHEDULE):
        while (done := min(duel.pairs for duel in duels)) < rounds:
            cost = sum(duel.contest.pair_s for duel in duels)
            if done >= LEAST_PAIRS and field.left_s(FINAL_SHARE) <= cost:
                return done, looks.alpha(index)
            field.step(f"finalists: round {done + 1}")
            for runner, duel in list(zip(challengers, duels, strict=True))[:: 1 if done % 2 == 0 else -1]:
                if duel.pairs == done and not field.take(duel, runner, leader, Stage.FINAL):
                    return done, looks.alpha(index)
        alpha = looks.alpha(index)
        best, others = _ordered(field, leader, challengers, rounds)
        if all(_told_apart(interval, field) for _, interval in _intervals(field, leader, best, others, rounds, alpha)):
            return rounds, alpha
    return SCHEDULE[-1], looks.alpha(len(SCHEDULE) - 1)


def _decide(field: Field, leader: Runner, challengers: Sequence[Runner], rounds: int, alpha: float) -> Final:
    """The best by point; where others cannot be told apart from it, the smallest and simplest of them all."""
    if not challengers:
        leader.rank = 1
        return Final(leader, (), leader)
    for runner in challengers:
        values = _values(field, leader, runner, rounds)
        figures = runner.duels[(AGAINST, leader.case.id)]
        plain = field.effect(figures)
        runner.head_to_head = (
            None if plain is None else effect_of(field.rule, values, interval_alone(values, alpha), plain.baseline, plain.candidate)
        )
    best, others = _ordered(field, leader, challengers, rounds)
    alike = [runner for runner, interval in _intervals(field, leader, best, others, rounds, alpha) if interval.low <= 0]
    winner = min([best, *alike], key=simpler)
    ordered = [winner, *(runner for runner in (best, *others) if runner is not winner)]
    for place, runner in enumerate(ordered, 1):
        runner.rank = place
    return Final(winner, tuple(runner for runner in (best, *alike) if runner is not winner), leader)


def _ordered(field: Field, leader: Runner, challengers: Sequence[Runner], rounds: int) -> tuple[Runner, list[Runner]]:
    """The best by the mean against the leader (whose own is 0), and the others, best first."""
    means = {runner.name: statistics.fmean(_values(field, leader, runner, rounds)) for runner in challengers} | {leader.name: 0.0}
    best, *others = sorted([leader, *challengers], key=lambda runner: (means[runner.name], simpler(runner)))
    return best, others


def _intervals(
    field: Field, leader: Runner, best: Runner, others: Sequence[Runner], rounds: int, alpha: float
) -> list[tuple[Runner, ConfidenceInterval]]:
    """How much worse than the best each of the others is, on the log scale; pairs of one round are taken off each other."""
    base = _values(field, leader, best, rounds)
    found = []
    for runner in others:
        differences = [ours - theirs for ours, theirs in zip(_values(field, leader, runner, rounds), base, strict=True)]
        found.append((runner, interval_alone(differences, alpha)))
    return found


def _values(field: Field, leader: Runner, runner: Runner, rounds: int) -> list[float]:
    """The log ratios against the leader in the first rounds; its own are 0."""
    if runner is leader:
        return [0.0] * rounds
    found = field.worsenings(runner.duels[(AGAINST, leader.case.id)])
    assert not isinstance(found, Absent)  # it raced with the same metric
    return found[:rounds]


def _told_apart(interval: ConfidenceInterval, field: Field) -> bool:
    """Worse than the best, or as good for all that the metric's tolerance cares."""
    return interval.low > 0 or interval.high < math.log1p(field.rule.tolerance)


def _comparisons(challengers: int) -> int:
    """Each finalist with each other: which of them will be the best is not known before."""
    return challengers * (challengers + 1) // 2
