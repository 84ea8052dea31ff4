"""An objective that does not vary from launch to launch: candidates are put in order, and only constraints are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.bisection import Effect
from harness.core.estimate import Absent, ConfidenceInterval
from harness.core.search import Stage
from harness.engine.bisecting.ask_exact import SURE
from harness.engine.searching.confirm import measure_launches
from harness.engine.searching.field import simpler

if TYPE_CHECKING:
    from harness.engine.searching.field import Field, Runner


@dataclass(frozen=True, slots=True)
class Exact:
    """``effects`` are of every candidate that has the objective, against the reference; the winner's may not be an improvement."""

    winner: Runner | None
    tied: tuple[Runner, ...]
    effects: dict[str, Effect]


def choose_exactly(field: Field) -> Exact:
    """The best by value that is not shown to break a constraint; the smallest and simplest of those that are equal."""
    theirs = field.exact_value(field.reference)
    sign = -1 if field.rule.better == "higher" else 1
    values: dict[str, float] = {}
    effects: dict[str, Effect] = {}
    for runner in field.alive():
        value = field.exact_value(runner.case)
        if isinstance(value, Absent) or isinstance(theirs, Absent):
            runner.leave(Stage.CONSTRAINTS, value.reason if isinstance(value, Absent) else f"the reference: {theirs.reason}")  # type: ignore[union-attr]
            continue
        values[runner.name] = value
        ratio = value / theirs if theirs else 1.0 if value == theirs else float("inf")
        effects[runner.name] = Effect(ratio, ConfidenceInterval(ratio, ratio, SURE), theirs, value, 0)
    ordered = sorted(field.alive(), key=lambda runner: (sign * values[runner.name], simpler(runner)))
    for place, runner in enumerate(ordered, 1):
        runner.rank = place
    for runner in ordered:
        if field.constraints.of_launches:
            measure_launches(field, runner)
            if runner.reason is None:
                field.check(runner, Stage.FINAL, last=True)
        if runner.reason is None:
            runner.stage = Stage.FINAL
            tied = [other for other in field.alive() if other is not runner and values[other.name] == values[runner.name]]
            return Exact(runner, tuple(tied), effects)
    return Exact(None, (), effects)
