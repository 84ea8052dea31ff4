"""Launch pairs of two commits, every one kept on disk as soon as it is finished."""

from __future__ import annotations

import math
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.bisection import Effect
from harness.core.errors import BadInput, Problem
from harness.core.estimate import Absent, ConfidenceInterval
from harness.core.measurement import Failure, Run
from harness.engine.build import failure_of
from harness.engine.contest import Contest
from harness.engine.evaluate import launch_figures
from harness.store.runs import Broke, Launched

if TYPE_CHECKING:
    from harness.core.progress import Progress
    from harness.engine.bisecting.build_commits import Built
    from harness.engine.procedure import Procedure
    from harness.engine.rules import Rule
    from harness.store.runs import RunFolder


@dataclass(slots=True)
class Duel:
    """Two commits against each other. ``content`` marks its launches on disk."""

    contest: Contest
    rule: Rule
    content: str
    place: PairPlace

    def take(self) -> bool:
        """One more launch pair; False where a launch failed: see ``failure``."""
        try:
            taken = self.contest.take_pair(self._record, self.place.clock)
        except BadInput as error:
            self.contest.failure = failure_of(error, "measure")
            taken = False
        self.place.pairs += taken
        return taken

    @property
    def pairs(self) -> int:
        return len(self.contest.runs["candidate"])

    @property
    def failure(self) -> Failure | None:
        return self.contest.failure

    def worsenings(self, pairs: int) -> list[float]:
        """The log ratios of the first ``pairs`` launch pairs, above 0 where the candidate is worse.

        Raises BadInput where the launches do not have the metric.
        """
        found = self.contest.log_ratios(self.rule)
        if isinstance(found, Absent):
            raise _has_no(self.rule.metric, found)
        return [self._sign * ratio for ratio in found[:pairs]]

    def effect(self, interval: ConfidenceInterval, pairs: int) -> Effect:
        """Candidate against baseline in the first ``pairs``; ``interval`` is on the log scale, above 0 where worse."""
        figures = []
        for arm in ("baseline", "candidate"):
            found = launch_figures(self.rule.metric, self.contest.measurement(arm))
            if isinstance(found, Absent):
                raise _has_no(self.rule.metric, found)
            figures.append(statistics.median(found[:pairs]))
        ends = sorted(math.exp(min(self._sign * end, 700.0)) for end in (interval.low, interval.high))
        ratio = math.exp(self._sign * statistics.fmean(self.worsenings(pairs)))
        return Effect(ratio, ConfidenceInterval(ends[0], ends[1], interval.level), figures[0], figures[1], pairs)

    @property
    def _sign(self) -> int:
        return -1 if self.rule.better == "higher" else 1

    def _record(self, trial: str, event: Run | Failure) -> None:
        kept = Launched(trial, self.content, event) if isinstance(event, Run) else Broke(trial, self.content, event)
        self.place.folder.append(kept)


@dataclass(slots=True)
class PairPlace:
    """How and where pairs are measured. ``environment_key`` keeps pairs of another machine out of a search that is gone on with.

    ``pairs`` counts what was measured in this process.
    """

    rule: Rule
    procedure: Procedure
    folder: RunFolder
    progress: Progress
    environment_key: str
    seed: int
    resuming: bool
    clock: Callable[[], float] = time.monotonic
    pairs: int = 0

    def duel(self, name: str, baseline: Built, candidate: Built) -> Duel:
        """``candidate`` against ``baseline``, with what an interrupted search has measured of it already. ``name`` is of the trial and of
        what the pairs are for: those that look and those that confirm are never mixed."""
        arms = {"baseline": baseline.subject, "candidate": candidate.subject}
        digests = [built.derivation.content.digest[:16] for built in (baseline, candidate)]
        content = f"{digests[0]}-{digests[1]}-{self.environment_key}"
        logs = self.procedure.logs / f"{digests[1]}-against-{digests[0]}"
        procedure = replace(self.procedure, logs=logs)
        seed = self.seed + zlib.crc32(f"{name} {content}".encode())  # pairs that confirm have other layouts than those that looked
        contest = Contest(name, arms, [self.rule], procedure, seed, candidate.subject.load.name)
        if self.resuming:
            for arm, runs in self.folder.whole_pairs(name, content, 2).items():
                contest.runs[arm] = runs
                contest.spent_s += sum(piece.duration_ns for run in runs for piece in run.slices) / 1e9
        return Duel(contest, self.rule, content, self)


def until_shown(
    duels: Sequence[Duel], schedule: Sequence[int], budget_s: float, look: Callable[[int, int], bool], step: Callable[[int], None]
) -> Failure | None:
    """Rounds of a pair of each duel until ``look(index, rounds)`` shows something or the budget is spent; a launch that fails ends it.

    ``index`` is that of the look in ``schedule``; the last look may come early, when no other round fits into the budget.
    """
    for index, rounds in enumerate(schedule):
        while (done := min(duel.pairs for duel in duels)) < rounds:
            spent = sum(duel.contest.spent_s for duel in duels)
            if done >= schedule[0] and spent * (1 + 1 / done) > budget_s:
                if done > schedule[index - 1]:
                    look(index, done)
                return None
            step(done + 1)
            for duel in duels if done % 2 == 0 else duels[::-1]:
                if duel.pairs == done and not duel.take():
                    return duel.failure
        if look(index, rounds):
            return None
    return None


def _has_no(metric: str, absent: Absent) -> BadInput:
    return BadInput(Problem(f"--metric {metric}: {absent.reason}"))
