"""Halves the line until two neighbours are left, the older one good and the younger one bad.

At every moment the bad end is shown to be worse than the good end, not only than the commits that the search began with: a commit is
called bad when it is shown to be worse than the good end, good when it is shown to be better than the bad end. So it needs no assumption
that there is one change only; where there are several it ends at one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.core.bisection import Answer, Commit, Step, Stretch

MOST_UNDECIDED = 2
"""Neighbours are as hard to tell from the ends: a third would most likely cost its budget too."""
Ask = Callable[[Stretch, Stretch, Stretch], Step]
"""Given what is good, what is asked and what is bad; answers of the one in the middle."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What is left: the last good and the first bad stretch, and the commits of which one is the first bad one, oldest first."""

    good: Stretch
    bad: Stretch
    suspects: tuple[Commit, ...]
    steps: tuple[Step, ...]


def search(stretches: Sequence[Stretch], ask: Ask) -> Narrowed:
    """Ask for as few stretches as halving takes; the first is good and the last is bad.

    One that was skipped or not decided is never asked for again, and its neighbours are tried; where only such are left, or where several
    were not decided, all that lie between are suspects.
    """
    low, high = 0, len(stretches) - 1
    skipped = {number for number, stretch in enumerate(stretches) if stretch.content is None}
    steps: list[Step] = []
    while sum(step.answer is Answer.UNDECIDED for step in steps) < MOST_UNDECIDED:
        low, high = _same_as_an_end(stretches, low, high)
        left = [number for number in range(low + 1, high) if number not in skipped]
        if not left:
            break
        middle = min(left, key=lambda number: (abs(number - (low + high) / 2), number))
        step = ask(stretches[low], stretches[middle], stretches[high])
        steps.append(step)
        if step.answer is Answer.BAD:
            high = middle
        elif step.answer is Answer.GOOD:
            low = middle
        else:
            skipped.add(middle)
    between = [stretches[number] for number in range(low + 1, high)]
    unknown = [commit for stretch in between for commit in (stretch.commits if stretch.content is None else stretch.commits[:1])]
    return Narrowed(stretches[low], stretches[high], (*unknown, stretches[high].first), tuple(steps))


def most_steps(stretches: Sequence[Stretch]) -> int:
    """How many answers a search needs at most, nothing skipped."""
    readable = sum(stretch.content is not None for stretch in stretches)
    return math.ceil(math.log2(max(1, readable - 1)))


def _same_as_an_end(stretches: Sequence[Stretch], low: int, high: int) -> tuple[int, int]:
    """The ends moved inwards to what has their content again (a change that was reverted): the answer is known without a launch."""
    low = max(number for number in range(low, high) if stretches[number].content == stretches[low].content)
    high = min(number for number in range(low + 1, high + 1) if stretches[number].content == stretches[high].content)
    return low, high
