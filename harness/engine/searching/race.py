"""Sequential halving (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016): short paired races, the better half goes on.

Every candidate that is still in runs the same number of launch pairs against the reference, in turn. Then the half with the better mean log
ratio stays and the pairs are doubled, until three are left. A candidate is dropped by that point estimate, not because it is shown to be
worse: how often the best is lost on the way is simulated in tests/engine/searching/test_search_errors.py.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from harness.core.estimate import Absent
from harness.core.search import Stage
from harness.engine.searching.field import LEAST_PAIRS, RACE, simpler

if TYPE_CHECKING:
    from harness.engine.searching.field import Field, Runner

FIRST_PAIRS = 2
FINALISTS = 3
RACE_SHARE = 0.6
"""Of the budget; the rest is for the finalists."""


def race(field: Field) -> list[Runner]:
    """The finalists, the leader first; everybody else has left, with a rank. Empty where nobody could be measured."""
    pairs, number = FIRST_PAIRS, 1
    rank = len(field.alive())
    while True:
        spent = _run(field, pairs, f"round {number}")
        _drop_unmeasured(field)
        for runner in field.alive():
            if field.constraints.of_launches:
                field.check(runner, Stage.RACE)
        standing = sorted(field.alive(), key=lambda runner: (_mean(field, runner), simpler(runner)))
        rank = min(rank, len(standing))
        keep = FINALISTS if spent else max(FINALISTS, math.ceil(len(standing) / 2))
        for place, runner in enumerate(standing[keep:], keep + 1):
            why = "the budget of the races was spent" if spent else f"round {number}"
            runner.leave(Stage.RACE, f"{why}: place {place} of {len(standing)} by the mean of {_pairs(field, runner)} launch pairs")
            runner.rank = place
        if len(standing) <= keep <= FINALISTS or keep == FINALISTS:
            return field.alive() if len(standing) < 2 else [runner for runner in standing[:keep] if runner.reason is None]
        pairs, number = 2 * pairs, number + 1


def _run(field: Field, pairs: int, told: str) -> bool:
    """Everybody up to so many launch pairs, a pair of each in turn; True where the races' share of the budget ends it."""
    runners = field.alive()
    for number in range(1, pairs + 1):
        for runner in runners if number % 2 else runners[::-1]:
            duel = field.duel(RACE, runner)
            while runner.reason is None and duel.pairs < number:
                if field.left_s(RACE_SHARE) <= duel.contest.pair_s:
                    return True
                field.step(f"{runner.name}: {told}, launch pair {number} of {pairs}")
                field.take(duel, runner, None, Stage.RACE)
    return False


def _drop_unmeasured(field: Field) -> None:
    """Who has no mean: launches without the objective, or fewer pairs than say anything before the budget was spent."""
    for runner in field.alive():
        found = field.worsenings(field.duel(RACE, runner))
        if isinstance(found, Absent):
            few = _pairs(field, runner) < LEAST_PAIRS
            runner.leave(Stage.RACE, "the budget of the races was spent before it was measured" if few else found.reason)


def _pairs(field: Field, runner: Runner) -> int:
    return field.duel(RACE, runner).pairs


def _mean(field: Field, runner: Runner) -> float:
    found = field.worsenings(field.duel(RACE, runner))
    assert not isinstance(found, Absent)
    return statistics.fmean(found)
