"""Answers about a metric that does not vary from launch to launch: of the artifact (its size), or of its answers on the evaluation set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from harness.core.bisection import Answer, Commit, Effect, Step, Stretch
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.estimate import Absent, ConfidenceInterval
from harness.engine.base_arm import predictions_key
from harness.engine.bisecting.ask_timed import Compared
from harness.engine.content import derive

if TYPE_CHECKING:
    from harness.core.plugin import SampleMetric
    from harness.engine.bisecting.build_commits import Workshop
    from harness.engine.rules import Rule

SURE = 0.999999
"""The level that an exact figure is told at."""


@dataclass(frozen=True, slots=True)
class AskExact:
    """One figure a commit; which of the two ends it is nearer to. Of samples it is exact for this evaluation set and this artifact."""

    workshop: Workshop
    rule: Rule

    def ends(self, good: Commit, bad: Commit) -> Compared:
        """Whether there is anything to look for."""
        worse = self._worsening(self.figure(good), self.figure(bad))
        return Compared(self._effect(good, bad), worse > 0, worse < 0, "the figure is the same" if worse == 0 else "")

    confirm = ends

    def step(self, good: Stretch, asked: Stretch, bad: Stretch) -> Step:
        """Worse than the good end and no nearer to it than to the bad one: BAD."""
        commit = asked.first
        try:
            figure = self.figure(commit)
        except CannotMeasure as error:
            return Step(commit, Answer.SKIPPED, f"it cannot be measured: {error}")
        above, below = self._worsening(self.figure(good.first), figure), self._worsening(figure, self.figure(bad.first))
        answer = Answer.BAD if above > 0 and above >= below else Answer.GOOD
        between = "; it lies between the ends: there is more than one change" if above > 0 and below > 0 else ""
        side = "the bad end" if answer is Answer.BAD else "the good end"
        effects = self._effect(good.first, commit), self._effect(bad.first, commit)
        return Step(commit, answer, f"{'nearer to' if between else 'like'} {side}{between}", *effects)

    def figure(self, commit: Commit) -> float:
        """The metric of a commit. Raises CannotMeasure where it cannot be built or asked, BadInput where it does not have the metric."""
        built = self.workshop.built(commit)
        if self.rule.plugin.kind == "exact":
            return self.rule.plugin.of_artifact(built.subject.artifact)
        frame = derive(self.workshop.frame, self.workshop.reader.toolchain)
        key = predictions_key(built.derivation.content, built.subject, frame.data["evaluation"])
        predictions = self.workshop.builder.predictions(self.workshop.frame, built.subject, key)
        scores = cast("SampleMetric", self.rule.plugin).scores(predictions, None)
        if isinstance(scores, Absent):
            raise BadInput(Problem(f"--metric {self.rule.metric}: {scores.reason}"))
        return float(scores.mean())

    def _worsening(self, before: float, after: float) -> float:
        return before - after if self.rule.better == "higher" else after - before

    def _effect(self, before: Commit, after: Commit) -> Effect:
        figures = self.figure(before), self.figure(after)
        ratio = figures[1] / figures[0] if figures[0] else math.inf
        return Effect(ratio, ConfidenceInterval(ratio, ratio, SURE), *figures, 0)
