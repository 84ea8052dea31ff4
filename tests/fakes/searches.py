"""A search whose truth is known: candidates with levels of their own, on a machine whose noise is drawn from a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from fakes import cases, runs

from harness.core.measurement import Failure, FailureReason
from harness.core.plan import Trial
from harness.core.progress import Silent
from harness.core.scenario import PluginRef, Recipe
from harness.core.search import Candidate
from harness.engine.bisecting.launch_pairs import PairPlace
from harness.engine.evaluate import metric_of
from harness.engine.procedure import Procedure
from harness.engine.rules import Rule
from harness.engine.searching.constraints import read_constraints
from harness.engine.searching.field import Field, Runner
from harness.engine.workers import WorkerFailed

REFERENCE = "plain"


@dataclass
class Journal:
    """Stands in for a run's folder: keeps what is appended in memory."""

    events: list[object] = field(default_factory=list)

    def append(self, event: object) -> None:
        self.events.append(event)


class Track:
    """Stands in for ``measure.launch``: each arm's runtime options hold its true log level (``truth``) and what fails (``fails``)."""

    def __init__(self, clock: runs.FakeClock, *, spread: float = 0.01, seed: int = 0, pair_s: float = 1.0) -> None:
        self.clock, self.spread, self.pair_s = clock, spread, pair_s
        self.draw = random.Random(seed)
        self.launched: list[tuple[str, ...]] = []

    def launch(self, arms, pair, procedure, seed, *, apart=False):
        self.clock.spend(self.pair_s)
        self.launched.append(tuple(str(subject.runtime.options["name"]) for subject in arms.values()))
        for arm, subject in arms.items():
            if subject.runtime.options["fails"] == pair:
                raise WorkerFailed(Failure(FailureReason.OUT_OF_MEMORY, f"{arm}, slice", "the worker was killed: out of memory"))
        level = runs.MS * math.exp(self.draw.gauss(0, 0.15))
        made = {}
        for arm, subject in arms.items():
            own = math.exp(subject.runtime.options["truth"] + self.draw.gauss(0, self.spread / math.sqrt(2)))
            memory = 200 * 2**20 + subject.runtime.options["memory_mib"] * 2**20
            made[arm] = runs.even_run(round(level * own), pair=pair, arm=arm, peak_rss_bytes=memory)
        return made


def subject(name: str, truth: float, *, size_bytes: int = 1024, fails: int | None = None, memory_mib: int = 100):
    options = {"name": name, "truth": truth, "fails": fails, "memory_mib": memory_mib}
    return replace(cases.subject(size_bytes), runtime=PluginRef(name="fake", options=options))


def case_of(trial: Trial, truth: float, *, wrong: int = 0, **changes):
    """A case that answers ``wrong`` of its 200 samples wrongly."""
    targets = list(range(10)) * 20
    given = [(target + 1) % 10 if number < wrong else target for number, target in enumerate(targets)]
    return cases.case(
        trial=trial,
        derivation=cases.derivation(cases.content(trial.recipe.name)),
        subject=subject(trial.recipe.name, truth, **changes),
        predictions=cases.answers(given, targets=targets),
        measurement=None,
    )


def field_of(
    candidates: dict[str, dict], *, objective: str = "latency_p50", subject_to: tuple[str, ...] = (), budget_s: float = 600.0
) -> tuple[Field, runs.FakeClock]:
    """A field of candidates, built and scored: ``truth`` is each one's log ratio to the reference, whose own is 0."""
    clock = runs.FakeClock()
    recipes = {name: {"runtime": {"fake": {"add_latency_us": number}}} for number, name in enumerate((REFERENCE, *candidates))}
    reference = cases.trial(REFERENCE, recipes=recipes, reference=REFERENCE)
    procedure = Procedure(Path("logs"), reference.source.scenario.measure, {}, None)  # type: ignore[arg-type]  # nothing is launched
    plugin = metric_of(objective)
    rule = Rule(objective, plugin, plugin.tolerance or 0.0, plugin.floor)
    place = PairPlace(rule, procedure, Journal(), Silent(), cases.HERE, 0, False, clock)  # type: ignore[arg-type]  # kept in memory
    own = case_of(reference, 0.0)
    constraints = read_constraints(reference.source, subject_to, REFERENCE)
    runners = []
    for order, (name, changes) in enumerate(candidates.items()):
        recipe = Recipe.model_validate(recipes[name] | {"name": name})
        case = case_of(replace(reference, recipe=recipe), **changes)
        case.score(own.predictions)
        runners.append(Runner(Candidate(recipe, f"search.space[{order}]", ()), order, case))
    return Field(runners, own, rule, constraints, place, lambda text: None, clock(), budget_s, clock), clock
