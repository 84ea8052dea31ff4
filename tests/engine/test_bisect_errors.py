"""How often a whole search errs, by simulation: levels of twelve commits that are known, noise that is drawn from a seed."""

import math
import random
from collections import Counter

import pytest

from harness.core.bisection import Answer, Commit, Step, Stretch
from harness.engine.bisecting.search import most_steps, search
from harness.engine.bisecting.weigh import DECAY, STEP_LOOKS, weigh
from harness.engine.compare import FAMILY_ALPHA
from harness.stats.sequential import Looks

OTHER_ANSWERS = 3
COMMITS = 12
ROUNDS = 15
"""What a minute holds at two seconds a launch pair."""


def normal(draw, spread):
    return draw.gauss(0, spread)


def heavy_tailed(draw, spread):
    """Student's t with three degrees of freedom, scaled to the same standard deviation."""
    chi_square = sum(draw.gauss(0, 1) ** 2 for _ in range(3))
    return spread * draw.gauss(0, 1) / math.sqrt(chi_square / 3) / math.sqrt(3)


def line_of(levels):
    return [Stretch((Commit(str(number), (), "", "", ""),), f"content {number}") for number in range(len(levels))]


def searched(levels, spread, noise, draw, rounds=ROUNDS):
    """The search over commits of these log levels; what is left, and how many launch pairs it took."""
    line = line_of(levels)
    looks = Looks(FAMILY_ALPHA / (most_steps(line) + OTHER_ANSWERS), STEP_LOOKS, DECAY)
    pairs = 0

    def ask(good, asked, bad):
        nonlocal pairs
        low, middle, high = (levels[int(stretch.first.hash)] for stretch in (good, asked, bad))
        against_good, against_bad = [], []
        for index, count in enumerate(number for number in STEP_LOOKS if number <= rounds):
            while len(against_good) < count:
                against_good.append(middle - low + noise(draw, spread))
                against_bad.append(middle - high + noise(draw, spread))
                pairs += 2
            if (answer := weigh(against_good, against_bad, looks.alpha(index)).answer) is not None:
                return Step(asked.first, answer, "")
        return Step(asked.first, Answer.UNDECIDED, "")

    return search(line, ask), pairs


def stepped(change, place):
    return [math.log1p(change) if number >= place else 0.0 for number in range(COMMITS + 1)]


def outcomes(change, spread, noise, searches, seed):
    """How many searches found the commit, were wrong, or left several; and the mean number of launch pairs."""
    draw = random.Random(seed)
    told, pairs = Counter(), 0
    for _ in range(searches):
        place = draw.randrange(1, COMMITS + 1)
        left, taken = searched(stepped(change, place), spread, noise, draw)
        suspects = [int(commit.hash) for commit in left.suspects]
        told["wrong" if place not in suspects else "found" if len(suspects) == 1 else "several"] += 1
        pairs += taken
    return told, pairs / searches


@pytest.mark.parametrize("noise", [normal, heavy_tailed])
def test_five_percent_is_found_where_launch_pairs_vary_by_one_percent(noise):
    told, pairs = outcomes(0.05, 0.01, noise, searches=60, seed=1)
    assert told == Counter(found=60)
    assert pairs < 40


@pytest.mark.slow
@pytest.mark.parametrize("noise", [normal, heavy_tailed])
@pytest.mark.parametrize(("change", "spread"), [(0.02, 0.01), (0.05, 0.02), (0.05, 0.03)])
def test_at_most_one_search_of_a_hundred_blames_a_wrong_commit_however_small_the_change(noise, change, spread):
    told, _ = outcomes(change, spread, noise, searches=200, seed=2)
    assert told["wrong"] <= 2


@pytest.mark.slow
def test_a_change_that_the_budget_cannot_show_is_left_open_and_no_commit_is_blamed():
    told, _ = outcomes(0.005, 0.02, normal, searches=200, seed=3)
    assert told["found"] + told["wrong"] <= 2


def test_of_two_changes_one_is_found_whatever_lies_between():
    """3 % at the fourth commit and 3 % more at the ninth: those between are neither as good as the good end nor as bad as the bad one."""
    draw = random.Random(4)
    levels = [0.0] * 4 + [math.log1p(0.03)] * 5 + [2 * math.log1p(0.03)] * 4
    blamed = Counter(searched(levels, 0.005, normal, draw)[0].suspects[-1].hash for _ in range(40))
    assert set(blamed) <= {"4", "9"}


def test_a_commit_that_is_neither_is_never_claimed_more_often_than_the_error_allows():
    """The worst case: the commit in the middle is exactly as good as the good end, and the bad end hardly differs from both."""
    draw = random.Random(5)
    alpha = 0.02
    claims = sum(
        weigh([normal(draw, 0.01) for _ in range(4)], [normal(draw, 0.02) for _ in range(4)], alpha).answer is Answer.BAD
        for _ in range(2_000)
    )
    assert claims <= 2_000 * alpha * 1.25
