"""How small a change the gate can see here: an A/A, the same artifact in both arms, through the procedure of the gate itself.

    spread    the standard deviation of a launch pair's log ratio, of a few pairs of identical code
    budget    leaves so many fresh pairs after the screen's five
    change    the least true worsening that the screen suspects and that the last look at the fresh pairs shows to be beyond the tolerance,
              four times of five

The looks before the last add a little that is not counted, so the gate sees slightly more than is told. The error of 1 % is shared as it
would be were every gated metric of the trial suspect at once, as a slower model makes them.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.core.checkup import Sight
from harness.core.estimate import Absent
from harness.engine.compare import FAMILY_ALPHA, POWER, TIMER_LOG_RATIO
from harness.engine.contest import LEAST_PAIRS, SCREEN_PAIRS, Contest
from harness.engine.evaluate import launch_figures
from harness.stats import paired
from harness.stats.sequential import Looks

if TYPE_CHECKING:
    from harness.engine.rules import Rule

PAIRS = 8
FEWEST_PAIRS = 4
"""With fewer the spread would be a guess: these are taken even where they take more than their share of the budget."""
SHARE = 1 / 3
"""Of the budget, for the A/A's launches."""
SCREEN_ALPHA = 0.20
"""One minus the level of the screen's one-sided bound."""
STEPS = 12
SURE = 1 - 1e-4
LARGEST = 9.0
"""Ten times as slow: a budget with which only more than that would be seen is too short to speak of."""


def take_pairs(
    contest: Contest, *, budget_s: float, step: Callable[[str], None], clock: Callable[[], float] = time.monotonic, pairs: int = PAIRS
) -> None:
    """Launch identical code in pairs: ``pairs`` of them, or as many as a third of the budget allows, but no fewer than four.

    A launch that fails ends it and is kept in the contest.
    """
    while (number := len(contest.runs["candidate"])) < pairs:
        if number >= FEWEST_PAIRS and contest.spent_s * (1 + 1 / number) > SHARE * budget_s:
            return
        step(f"{contest.trial}: identical code, launch pair {number + 1} of {pairs}")
        if not contest.take_pair(lambda trial, event: None, clock):
            return


def sights_of(contest: Contest, *, budget_s: float) -> tuple[tuple[Sight, ...], tuple[Absent, ...]]:
    """What the pairs say of every gated metric, and the metrics of which they say nothing."""
    found = {rule.metric: contest.log_ratios(rule) for rule in contest.rules}
    seen = [rule for rule in contest.rules if isinstance(found[rule.metric], list)]
    sights = tuple(_sight(contest, rule, budget_s=budget_s, suspects=len(seen)) for rule in seen)
    return sights, tuple(Absent(metric, ratios.reason) for metric, ratios in found.items() if isinstance(ratios, Absent))


def fresh_pairs(pair_s: float, budget_s: float, looks: Looks) -> int:
    """Launch pairs that the budget leaves after the screen; the gate ends at its last look."""
    return max(0, min(int(budget_s / pair_s + 1e-9) - SCREEN_PAIRS, looks.schedule[-1]))


def smallest_change(spread: float, fresh: int, *, tolerance: float, floor: float = 0.0, suspects: int = 1) -> float | None:
    """The least true worsening that the gate calls REGRESSED with 80 % power; None where the budget leaves too few fresh pairs.

    The screen and the fresh pairs are independent, so the chance of both is the product of two powers. ``floor`` is the metric's smallest
    absolute change that counts, as a share of its value: the change found must be larger, sure or not.
    """
    looks = Looks(FAMILY_ALPHA / max(1, suspects))
    if fresh < LEAST_PAIRS:
        return None
    alpha = looks.alpha(sum(pairs < fresh for pairs in looks.schedule))

    def by_screen(power: float) -> float:
        return paired.change_seen(spread, SCREEN_PAIRS, tolerance=0.0, alpha=SCREEN_ALPHA, power=power)

    def by_look(power: float) -> float:
        return paired.change_seen(spread, fresh, tolerance=tolerance, alpha=alpha, power=power)

    if by_look(POWER) >= by_screen(SURE):  # whatever the look finds, the screen has let through
        change = by_look(POWER)
    else:
        low, high = POWER, SURE
        for _ in range(STEPS):  # the more the look finds, the less is asked of the screen
            middle = (low + high) / 2
            low, high = (low, middle) if by_look(middle) >= by_screen(POWER / middle) else (middle, high)
        change = max(by_look(high), by_screen(POWER / high))
    change = max(change, paired.change_seen(spread, fresh, tolerance=floor, alpha=0.5, power=POWER))
    return change if change <= LARGEST else None


def doubt(pairs: int) -> float:
    """By how much the true spread may exceed the one found in so many pairs, nine times of ten (chi square of a variance)."""
    from scipy import stats

    return math.sqrt((pairs - 1) / float(stats.chi2.ppf(0.10, pairs - 1)))


def _sight(contest: Contest, rule: Rule, *, budget_s: float, suspects: int) -> Sight:
    ratios, figures = contest.log_ratios(rule), launch_figures(rule.metric, contest.measurement("baseline"))
    assert isinstance(ratios, list) and isinstance(figures, list)
    looks = Looks(FAMILY_ALPHA / suspects)
    spread = max(statistics.stdev(ratios), TIMER_LOG_RATIO)
    pair_s = max(contest.spent_s / len(contest.runs["candidate"]), 1e-9)
    floor = rule.floor / statistics.median(figures)

    def least(budget_s: float) -> float | None:
        fresh = fresh_pairs(pair_s, budget_s, looks)
        return smallest_change(spread, fresh, tolerance=rule.tolerance, floor=floor, suspects=suspects)

    interval = paired.ratio_interval(ratios, 1 - FAMILY_ALPHA / suspects, floor=TIMER_LOG_RATIO)
    effect = math.exp(statistics.fmean(ratios))
    beyond = max(interval.low, 1 / interval.high) > 1 + rule.tolerance
    return Sight(
        metric=rule.metric,
        tolerance=rule.tolerance,
        pairs=len(ratios),
        spread=spread,
        pair_s=pair_s,
        fresh_pairs=fresh_pairs(pair_s, budget_s, looks),
        smallest_change=least(budget_s),
        with_twice=least(2 * budget_s),
        floor=floor,
        effect=effect,
        interval=interval,
        red=beyond and abs(effect - 1) > floor,
    )


def trouble_of(contest: Contest) -> str:
    """Why the launches ended before there were enough of them; "" where nothing failed."""
    return "" if contest.failure is None else f"{contest.failure.stage}: {contest.failure.message}"
