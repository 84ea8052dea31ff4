"""A search for the best recipe: candidates, where each left the race and why, what was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.core.bisection import Effect
from harness.core.comparison import SlaState
from harness.core.estimate import ConfidenceInterval, Direction
from harness.core.scenario import Recipe
from harness.core.units import Unit


class Stage(StrEnum):
    """How far a candidate came. FINAL: it was among the last, which were measured against each other."""

    CHECK = "check"
    BUILD = "build"
    CONSTRAINTS = "constraints"
    RACE = "race"
    FINAL = "final"


class Outcome(StrEnum):
    """How a search ended; FOUND and TIED have a winner that is shown to be better than the reference."""

    FOUND = "FOUND"
    TIED = "TIED"
    """Better than the reference; another finalist cannot be told apart from it, and the smaller or simpler was taken."""
    NONE_BETTER = "NONE_BETTER"
    """The best candidate is not shown to be better than the reference."""
    UNPROVEN = "UNPROVEN"
    """The best candidate is not shown to keep a constraint, nor to break it."""
    NONE_LEFT = "NONE_LEFT"
    """Every candidate was dropped."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe of the search space. ``key`` is where it is declared (``search.space[0]``), ``choices`` what was chosen in it."""

    recipe: Recipe
    key: str
    choices: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.recipe.name


@dataclass(frozen=True, slots=True)
class Checked:
    """A constraint on one candidate: the clause as written, the value, what is decided of it and why.

    ``difference`` is the candidate's mean less the reference's over the same samples and ``interval`` what other samples like these would
    give; None where the metric is not of samples.
    """

    clause: str
    metric: str
    unit: Unit | None
    value: float | None
    state: SlaState
    reason: str
    difference: float | None = None
    interval: ConfidenceInterval | None = None


@dataclass(frozen=True, slots=True)
class Entrant:
    """What became of a candidate. ``rank`` counts from 1, None for what was never compared; ``reason`` says why it left.

    ``race`` is against the reference, of the pairs that decided how far it came: no claim rests on it. ``head_to_head`` is against the
    finalist that led, of fresh pairs; None for the leader and for who was no finalist.
    """

    name: str
    key: str
    choices: tuple[str, ...]
    recipe: Recipe
    stage: Stage
    rank: int | None
    reason: str
    race: Effect | None
    head_to_head: Effect | None
    constraints: tuple[Checked, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """The whole search. ``effect`` is of the winner against ``reference``, of launch pairs that nothing was chosen by.

    ``pairs`` counts launch pairs measured by this command, ``seconds`` its time. ``winner`` is the candidate to take where ``outcome`` is
    FOUND or TIED; with the others it is the best there was.
    """

    scenario: str
    hardware: str
    batch_size: int
    objective: str
    unit: Unit
    better: Direction
    constraints: tuple[str, ...]
    reference: str
    outcome: Outcome
    headline: str
    winner: str | None
    effect: Effect | None
    entrants: tuple[Entrant, ...]
    pairs: int
    seconds: float
    notes: tuple[str, ...]
