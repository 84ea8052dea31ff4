"""Answers about a metric of launches, which vary: every answer is of fresh launch pairs, and is given when it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.bisection import Answer, Commit, Effect, Step, Stretch
from harness.core.errors import CannotMeasure
from harness.core.measurement import Failure
from harness.core.units import format_change
from harness.engine.bisecting.launch_pairs import PairPlace, until_shown
from harness.engine.bisecting.weigh import CONFIRM_LOOKS, DECAY, ENDS_LOOKS, STEP_LOOKS, Weighed, interval_alone, weigh
from harness.engine.compare import POWER
from harness.stats import paired
from harness.stats.sequential import Looks

if TYPE_CHECKING:
    from harness.core.estimate import ConfidenceInterval
    from harness.core.measurement import SessionFacts
    from harness.engine.bisecting.build_commits import Workshop


@dataclass(frozen=True, slots=True)
class Compared:
    """One commit against another. ``worse`` and ``better`` are what is shown; ``reason`` says why neither is."""

    effect: Effect | None
    worse: bool
    better: bool
    reason: str = ""


@dataclass(slots=True)
class AskTimed:
    """``alpha`` is the error of one answer; ``budget_s`` what the launch pairs of one may take, in seconds.

    ``facts`` are what the sessions of the two commits told that were compared last, the baseline's first.
    """

    trial: str
    workshop: Workshop
    place: PairPlace
    alpha: float
    budget_s: float
    facts: tuple[SessionFacts, ...] = ()

    def ends(self, good: Commit, bad: Commit) -> Compared:
        """Whether there is anything to look for."""
        return self._alone(f"{self.trial} ends", good, bad, ENDS_LOOKS)

    def confirm(self, parent: Commit, found: Commit) -> Compared:
        """What was found against its parent, by pairs that no step has seen."""
        return self._alone(f"{self.trial} confirming", parent, found, CONFIRM_LOOKS)

    def step(self, good: Stretch, asked: Stretch, bad: Stretch) -> Step:
        """Pairs against both ends in turn, until one claim is shown."""
        commit = asked.first
        try:
            built = self.workshop.built(commit)
        except CannotMeasure as error:
            return Step(commit, Answer.SKIPPED, f"it cannot be built: {error}")
        duels = [self.place.duel(f"{self.trial} step", self.workshop.built(end.first), built) for end in (good, bad)]
        looks = Looks(self.alpha, STEP_LOOKS, DECAY)
        last: list[tuple[Weighed, int]] = []

        def look(index: int, rounds: int) -> bool:
            weighed = weigh(duels[0].worsenings(rounds), duels[1].worsenings(rounds), looks.alpha(index))
            last.append((weighed, rounds))
            return weighed.answer is not None

        failure = until_shown(duels, STEP_LOOKS, self.budget_s, look, self._telling(f"commit {commit.short}", "against both ends, round"))
        if failure is not None:
            return Step(commit, Answer.SKIPPED, f"it cannot be measured: {failure.stage}: {failure.message}")
        weighed, rounds = last[-1]
        effects = [duel.effect(interval, rounds) for duel, interval in zip(duels, (weighed.against_good, weighed.against_bad), strict=True)]
        if weighed.answer is None:
            return Step(commit, Answer.UNDECIDED, f"neither is shown in {self.budget_s:g} s", *effects)
        side = "worse than the good end" if weighed.answer is Answer.BAD else "better than the bad end"
        reason = f"shown to be {side}" + (", and to lie between the ends: there is more than one change" if weighed.between else "")
        return Step(commit, weighed.answer, reason, *effects)

    def _alone(self, name: str, baseline: Commit, candidate: Commit, schedule: Sequence[int]) -> Compared:
        duel = self.place.duel(name, self.workshop.built(baseline), self.workshop.built(candidate))
        looks = Looks(self.alpha, tuple(schedule), DECAY)
        last: list[tuple[ConfidenceInterval, int, float]] = []

        def look(index: int, pairs: int) -> bool:
            interval = interval_alone(duel.worsenings(pairs), looks.alpha(index))
            last.append((interval, pairs, looks.alpha(index)))
            return interval.low > 0 or interval.high < 0

        what = f"{candidate.short} against {baseline.short}"
        failure = until_shown([duel], schedule, self.budget_s, look, self._telling(what, "launch pair"))
        if failure is not None:
            return Compared(None, False, False, _told(failure))
        self.facts = tuple(runs[0].facts for runs in (duel.contest.runs["baseline"], duel.contest.runs["candidate"]))
        interval, pairs, alpha = last[-1]
        effect = duel.effect(interval, pairs)
        if interval.low > 0 or interval.high < 0:
            return Compared(effect, interval.low > 0, interval.high < 0)
        seen = paired.visible_change(duel.worsenings(pairs), tolerance=0.0, alpha=alpha, power=POWER, floor=1e-4)
        why = f"a worsening of {format_change(seen).lstrip('+')} would have been seen four times of five in {pairs} launch pairs"
        return Compared(effect, False, False, why)

    def _telling(self, subject: str, what: str) -> Callable[[int], None]:
        return lambda number: self.place.progress.step(f"{subject}: {what} {number}")


def _told(failure: Failure) -> str:
    return f"{failure.stage}: {failure.message}"
