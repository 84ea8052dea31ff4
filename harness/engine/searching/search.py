"""``harness search`` from a request to an answer: expand, check, build, drop what breaks a constraint, race, confirm."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import BadInput, CannotMeasure, Interrupted, Problem
from harness.core.plan import Trial
from harness.core.search import Stage
from harness.engine import toolchain
from harness.engine.bisecting.launch_pairs import PairPlace
from harness.engine.build import Builder
from harness.engine.evaluate import metric_of
from harness.engine.job import Job
from harness.engine.launcher import Launcher
from harness.engine.make_plan import make_plan
from harness.engine.read_environment import read_environment
from harness.engine.read_scenario import read_scenario
from harness.engine.rules import Rule
from harness.engine.searching import conclude
from harness.engine.searching.candidates import Space, drop_the_same, read_space
from harness.engine.searching.confirm import confirm, measure_effect
from harness.engine.searching.constraints import Constraints, broken, read_constraints
from harness.engine.searching.exact import choose_exactly
from harness.engine.searching.field import Field, Runner, is_timed
from harness.engine.searching.race import race
from harness.engine.searching.request import Request, new_folder
from harness.engine.termination import termination_as_interrupt
from harness.store.baselines import Baselines
from harness.store.cache import Cache, cache_folder, cache_limit

if TYPE_CHECKING:
    from harness.core.plan import Plan
    from harness.core.progress import Progress
    from harness.core.scenario import ScenarioFile
    from harness.engine.searching.conclude import Concluded
    from harness.store.runs import RunFolder

BUILD_SHARE = 0.5
"""Of the budget: builds that have not begun by then are left out, so that there is time to measure what was built."""
ENERGY = ("energy_per_inference", "power_mean")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that is understood."""

    request: Request
    space: Space
    rule: Rule
    constraints: Constraints
    trial: Trial
    begin: float


def search(request: Request, progress: Progress) -> tuple[Concluded, RunFolder]:
    """What was found, and the folder where its launches are kept.

    Raises BadInput for a wrong request, CannotMeasure where the reference cannot be built or measured, Interrupted on Ctrl-C and SIGTERM.
    """
    begin = time.monotonic()
    rule = _rule_of(request.objective)
    file = read_scenario(request.scenario, overrides=request.overrides, allowed=request.allowed)
    space = read_space(file, request.limit)
    constraints = read_constraints(space.file, request.subject_to, space.reference)
    environment = read_environment(file.root)
    plan = make_plan([_reference_alone(space)], environment, only=request.only)
    asked = _Asked(request, space, rule, constraints, _one_trial(plan, request), begin)
    folder = request.resume or new_folder(request, plan.seed)
    if folder.begun().seed != plan.seed:
        hint = "leave --resume out to search anew"
        raise CannotMeasure(f"search {folder.id} used another seed: its launches do not belong to this scenario", hint=hint)
    with Cache(cache_folder(), cache_limit()) as cache, Launcher() as launcher, termination_as_interrupt():
        job = Job(
            environment=environment,
            toolchain=toolchain.installed(),
            builder=Builder(cache, folder.logs, progress),
            baselines=Baselines(file.root),
            folder=folder,
            progress=progress,
            seed=plan.seed,
            budget_s=request.budget_s,
            measure_all=True,
            accept_new=False,
            resuming=request.resume is not None,
            launcher=launcher,
        )
        with _kept(folder):
            return _search(asked, job), folder


@contextmanager
def _kept(folder: RunFolder) -> Iterator[None]:
    """Whoever ends a search early is told how it goes on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped; what was measured is kept in {folder.path}", hint=folder.how_to_go_on()) from error
    except CannotMeasure as error:
        error.hint = f"{f'{error.hint}, then ' if error.hint else ''}{folder.how_to_go_on()}"
        raise


def _search(asked: _Asked, job: Job) -> Concluded:
    field = _built_field(asked, job)
    standing = field.alive()
    job.progress.phase("Racing", len(standing))
    if not is_timed(field.rule):
        return conclude.exactly(asked.space, field, choose_exactly(field))
    finalists = race(field)
    while (final := confirm(field, finalists)) is not None:
        effect = measure_effect(field, final.winner)
        field.check(final.winner, Stage.FINAL, last=True)
        if final.winner.reason is None and effect is not None:
            return conclude.timed(asked.space, field, final, effect)
        finalists = [runner for runner in finalists if runner.reason is None]
        final.winner.rank = len(finalists) + 1
    return conclude.timed(asked.space, field, None, None)


def _built_field(asked: _Asked, job: Job) -> Field:
    """Every candidate checked, built and scored; who cannot be, or breaks a constraint already, has left."""
    trial, space = asked.trial, asked.space
    job.progress.phase("Building", len(space.candidates) + 1)
    reference = job.open_case(trial, None)
    runners: list[Runner] = []
    for order, candidate in enumerate(space.candidates):
        own = Trial(space.file, candidate.recipe, trial.target, trial.batch_size)
        if (why := space.impossible.get(candidate.name)) is not None:
            runner = Runner(candidate, order, dataclasses.replace(reference, trial=own))  # nothing of it can be derived
            runner.leave(Stage.CHECK, why)
        else:
            runner = Runner(candidate, order, job.open_case(own, None))
        runners.append(runner)
    drop_the_same(runners, space.reference, reference.derivation.content.digest)
    job.build(reference)
    if reference.failure is not None:
        raise CannotMeasure(f"the reference {reference.id} cannot be built: {reference.failure.stage}: {reference.failure.message}")
    reference.score(reference.predictions)
    field = Field(
        runners, reference, asked.rule, asked.constraints, _place(asked, job), job.progress.step, asked.begin, asked.request.budget_s
    )
    for runner in field.alive():
        _build(field, job, runner)
    return field


def _build(field: Field, job: Job, runner: Runner) -> None:
    if field.left_s(BUILD_SHARE) <= 0:
        runner.leave(Stage.BUILD, "was not built: its share of the budget was spent; what is built already stays in the cache")
        return
    case = runner.case
    job.build(case)
    if case.failure is not None:
        runner.leave(Stage.BUILD, f"{case.failure.stage}: {case.failure.message}")
        return
    case.score(field.reference.predictions)
    runner.stage = Stage.CONSTRAINTS
    runner.checks = field.constraints.check(case, field.reference)
    if (why := broken(runner.checks, measured=False)) is not None:
        runner.leave(Stage.CONSTRAINTS, why)


def _place(asked: _Asked, job: Job) -> PairPlace:
    """Where pairs are measured and kept: launches hold what the objective and the constraints need."""
    case = job.open_case(asked.trial, None)
    procedure = job.procedure(case)
    metrics = [asked.rule.plugin, *(metric_of(clause.metric) for clause in asked.constraints.clauses)]
    queries = max([procedure.least_queries, *(plugin.queries for plugin in metrics if plugin.kind == "launch")])
    energy = any(name in ENERGY for name in (asked.rule.metric, *(clause.metric for clause in asked.constraints.clauses)))
    procedure = dataclasses.replace(procedure, least_queries=queries, wants_energy=energy, logs=job.folder.logs)
    return PairPlace(asked.rule, procedure, job.folder, job.progress, case.environment_key, job.seed, job.resuming)


def _rule_of(metric: str) -> Rule:
    """Raises BadInput for a metric that is not known, or that has no better."""
    from harness import plugins

    plugins.find("metrics", metric)
    plugin = metric_of(metric)
    if plugin.better == "none":
        raise BadInput(Problem(f"--objective {metric}: more of it is neither better nor worse"))
    return Rule(metric, plugin, plugin.tolerance or 0.0, plugin.floor)


def _reference_alone(space: Space) -> ScenarioFile:
    scenario = space.file.scenario
    return dataclasses.replace(
        space.file, scenario=scenario.model_copy(update={"recipes": {space.reference: scenario.recipes[space.reference]}})
    )


def _one_trial(plan: Plan, request: Request) -> Trial:
    """The hardware and the batch size to search on. Raises BadInput where there are several, CannotMeasure where none is this machine."""
    if len(plan.trials) > 1:
        told = ", ".join(trial.id.partition("/")[2] for trial in plan.trials)
        hint = f"choose one with --only, such as --only '{plan.trials[0].id}'"
        raise BadInput(Problem(f"a search is on one machine with one batch size, and there are {told}", path=request.scenario, hint=hint))
    if not plan.trials:
        raise CannotMeasure(f"{plan.skipped[0].trial.id} cannot be measured here: {plan.skipped[0].reason}")
    return plan.trials[0]
