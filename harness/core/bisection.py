"""A search for the commit that made a metric worse: commits, what was answered of them, what was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.core.estimate import ConfidenceInterval, Direction
from harness.core.units import Unit

SHORT = 12
"""Hex digits of a commit that people are told."""


class Answer(StrEnum):
    """GOOD: better than the bad end. BAD: worse than the good end. SKIPPED: could not be built or measured.

    UNDECIDED: the budget was spent before either was shown.
    """

    GOOD = "GOOD"
    BAD = "BAD"
    SKIPPED = "SKIPPED"
    UNDECIDED = "UNDECIDED"


class Outcome(StrEnum):
    """How a search ended; only FOUND is an answer."""

    FOUND = "FOUND"
    NOT_CONFIRMED = "NOT_CONFIRMED"
    """One commit is left, and fresh launch pairs did not show it to be worse than its parent."""
    SEVERAL_LEFT = "SEVERAL_LEFT"
    """Commits that were skipped or not decided lie between the last good and the first bad one."""
    NO_DIFFERENCE = "NO_DIFFERENCE"
    """The bad end is not shown to be worse than the good end."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as git tells it; ``date`` is the author's day. ``parents`` has two or more for a merge."""

    hash: str
    parents: tuple[str, ...]
    author: str
    date: str
    subject: str

    @property
    def short(self) -> str:
        return self.hash[:SHORT]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring commits, oldest first, under which the trial's content is the same; ``content`` is its digest.

    None where the trial cannot be read, for ``reason``.
    """

    commits: tuple[Commit, ...]
    content: str | None
    reason: str = ""

    @property
    def first(self) -> Commit:
        """The commit that brought this content."""
        return self.commits[0]


@dataclass(frozen=True, slots=True)
class Effect:
    """The metric of one commit against that of another: a ratio (1 is no change), its interval, and both figures.

    ``n`` launch pairs; 0 where the metric does not vary and the ratio is exact.
    """

    ratio: float
    interval: ConfidenceInterval
    baseline: float
    candidate: float
    n: int


@dataclass(frozen=True, slots=True)
class Step:
    """What was answered of one commit. ``against_good`` and ``against_bad`` are against the ends of what was left then."""

    commit: Commit
    answer: Answer
    reason: str
    against_good: Effect | None = None
    against_bad: Effect | None = None


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """Files of a commit's change: those that the trial's content depends on, and how many others."""

    content: tuple[str, ...]
    others: int


@dataclass(frozen=True, slots=True)
class Found:
    """The one commit that is left, ``parent`` its neighbour on the line; ``effect`` is of fresh launch pairs against it.

    ``effect`` is None where no pair could be measured, for ``reason``.
    """

    commit: Commit
    parent: Commit
    effect: Effect | None
    reason: str
    files: ChangedFiles
    differences: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bisection:
    """The whole search. ``commits`` lie after ``good`` up to and with ``bad``, along first parents; ``contents`` are different ones.

    ``effect`` is of ``bad`` against ``good``. ``suspects`` are the commits that are left. ``pairs`` counts launch pairs.
    """

    trial: str
    metric: str
    unit: Unit
    better: Direction
    good: Commit
    bad: Commit
    commits: int
    contents: int
    outcome: Outcome
    headline: str
    effect: Effect | None
    steps: tuple[Step, ...]
    suspects: tuple[Commit, ...]
    found: Found | None
    pairs: int
    seconds: float
    notes: tuple[str, ...]
