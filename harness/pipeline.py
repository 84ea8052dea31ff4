"""The straight line: scenario, plan, artifacts, launches, comparisons, verdict, reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness import __version__, plugins
from harness.core.comparison import NullControl
from harness.core.errors import BadInput, CannotMeasure, Interrupted, Problem
from harness.core.result import SCHEMA, RunResult, ScenarioText
from harness.engine import accept, toolchain
from harness.engine.against import resolve
from harness.engine.base_arm import BaseFinder
from harness.engine.build import Builder
from harness.engine.compare_cases import compare_cases
from harness.engine.explain_recipes import explain_recipes
from harness.engine.explain_reds import explain_reds
from harness.engine.fleet.measure_away import NOWHERE, Away, measure_away
from harness.engine.job import Job
from harness.engine.judge import decide
from harness.engine.keep_history import keep_history
from harness.engine.launcher import Launcher
from harness.engine.make_plan import make_plan
from harness.engine.measure_cases import measure_alone, measure_paired
from harness.engine.read_environment import read_environment
from harness.engine.read_scenario import read_scenarios
from harness.engine.record import record_of, skipped_record, trial_comparisons
from harness.engine.sla import check_sla
from harness.engine.termination import termination_as_interrupt
from harness.engine.trade_offs import note_trade_offs
from harness.engine.worktree import Worktrees
from harness.store.baselines import Baselines
from harness.store.cache import Cache, cache_folder, cache_limit
from harness.store.runs import RunFolder, Runs

if TYPE_CHECKING:
    from harness.core.allowed import Allowed
    from harness.core.plan import Plan
    from harness.core.plugin import Report
    from harness.core.progress import Progress
    from harness.core.scenario import ScenarioFile
    from harness.engine.against import Ref
    from harness.engine.case import Case

REPORTS = ("html", "markdown", "junit", "json", "text")
BUDGET_S = 60.0
RETRIES = 1
"""Nodes that a trial is tried on after the first was lost."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for. ``resume`` names a run to go on with; ``budget_s`` is what one trial's launch pairs may take.

    None is what was not said: the default, or in a run that is gone on with what it was begun with. ``allowed`` None is what the
    environment allows; it is never taken from an earlier run. ``on`` names a fleet for the trials whose targets have labels, each of which
    is tried on ``retries`` more nodes; ``labels`` are what this machine has itself, as a node of one.
    """

    command: str
    paths: tuple[Path, ...]
    reports: Path
    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    resume: str | None = None
    budget_s: float | None = None
    measure_all: bool = False
    strict: bool = False
    accept_new: bool | None = None
    base_python: Path | None = None
    against: str | None = None
    allowed: Allowed | None = None
    on: str | None = None
    retries: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def run(request: Request, progress: Progress) -> RunResult:
    """Measure every trial on its own; the verdict is that of the SLA."""
    with _opened(request, progress) as (job, plan, files):
        away, plan = _measure_away(request, job, plan, files)
        cases = [job.open_case(trial, None) for trial in plan.trials]
        if cases or not away.records:
            _build(job, cases)
            progress.phase("Measuring", len(cases))
        for case in cases:
            measure_alone(job, case)
        explain_recipes(job, cases)
        return _finish(request, job, plan, files, cases, None, gated=False, away=away)


def _measure_away(request: Request, job: Job, plan: Plan, files: Sequence[ScenarioFile]) -> tuple[Away, Plan]:
    """What a fleet measures, and the plan of what is left for this machine."""
    if request.on is None:
        return NOWHERE, plan
    retries = RETRIES if request.retries is None else request.retries
    remote_code = files[0].allowed.remote_code
    return measure_away(job, plan, request.on, overrides=request.overrides, remote_code=remote_code, retries=retries)


def gate(request: Request, progress: Progress) -> RunResult:
    """Measure what changed against its baseline, compare, decide."""
    with _opened(request, progress) as (job, plan, files), Worktrees(files[0].root) as worktrees:
        finder = _base_finder(job, files[0].root, worktrees)
        cases = [job.open_case(trial, finder) for trial in plan.trials]
        _build(job, cases, finder)
        progress.phase("Measuring", sum(case.subject is not None for case in cases))
        for case in cases:
            measure_alone(job, case)
        control = measure_paired(job, cases)
        explain_reds(job, cases)
        compare_cases(cases, job.seed)
        result = _finish(request, job, plan, files, cases, control, gated=True)
        if request.accept_new:
            accept.accept_new(result, job.baselines, now=result.finished_at, overrides=request.overrides)
        return result


def _base_finder(job: Job, root: Path, worktrees: Worktrees) -> BaseFinder:
    """Where baselines are found; built and opened by the interpreter that has their versions, where one was given."""
    if job.base_python is None:
        return BaseFinder(root, job.builder, job.toolchain, worktrees)
    builder = dataclasses.replace(job.builder, python=job.base_python)
    return BaseFinder(root, builder, toolchain.installed_in(job.base_python), worktrees)


def _build(job: Job, cases: Sequence[Case], finder: BaseFinder | None = None) -> None:
    """Artifacts and predictions of every case, its opponent's too, then every sample's scores."""
    job.progress.phase("Building", len(cases))
    for case in cases:
        job.build(case)
        if finder is not None:
            job.find_base(case, finder)
    for case in cases:
        case.score(job.reference(case, cases))
    note_trade_offs(cases, job.seed)


def _finish(
    request: Request,
    job: Job,
    plan: Plan,
    files: Sequence[ScenarioFile],
    cases: Sequence[Case],
    control: NullControl | None,
    *,
    gated: bool,
    away: Away = NOWHERE,
) -> RunResult:
    """Records, SLA and verdict; saved with every report."""
    records = [record_of(case, gated=gated, accepting=bool(request.accept_new)) for case in cases]
    records += [*away.records, *(skipped_record(skipped) for skipped in plan.skipped)]
    figures = dict(away.figures) | {case.id: found for case in cases if (found := case.launch_figures()) is not None}
    findings = [
        finding for file in files for finding in check_sla(file, [item for item in records if item.scenario == file.scenario.name], figures)
    ]
    comparisons = trial_comparisons(cases)
    decision = decide(records, comparisons, findings, control, strict=request.strict)
    begun = job.folder.begun()
    result = RunResult(
        schema=SCHEMA,
        program_version=__version__,
        id=job.folder.id,
        command=request.command,
        started_at=begun.started_at,
        finished_at=_now().isoformat(timespec="seconds"),
        seed=job.seed,
        environment=dataclasses.replace(job.environment, packages=_packages(cases)),
        scenarios=tuple(_text_of(file) for file in files),
        verdict=decision.verdict,
        exit_code=decision.exit_code,
        headline=decision.headline,
        trials=tuple(records),
        comparisons=comparisons,
        sla=tuple(findings),
        null_control=control,
        notes=(*_notes(request, job), *away.notes),
    )
    result = keep_history(result, files[0].root)
    job.folder.save(result, render(result))
    return result


def render(result: RunResult, names: Sequence[str] = REPORTS) -> dict[str, bytes]:
    """The reports of a result by file name."""
    reports = [cast("Report", plugins.load("reports", name)()) for name in names]
    return {report.file_name: report.render(result) for report in reports}


@contextmanager
def _opened(request: Request, progress: Progress) -> Iterator[tuple[Job, Plan, tuple[ScenarioFile, ...]]]:
    """Everything read and checked, the run's folder begun, the cache open. Ctrl-C and SIGTERM leave a run that can be gone on with."""
    files = read_scenarios(request.paths, overrides=request.overrides, allowed=request.allowed)
    roots = sorted({file.root for file in files})
    if len(roots) > 1:
        raise BadInput(Problem(f"scenarios of several projects in one command: {', '.join(map(str, roots))}", hint="run each on its own"))
    against = None if request.against is None else resolve(roots[0], request.against)
    environment = read_environment(roots[0])
    plan = make_plan(files, environment, only=request.only, labels=request.labels)
    packages = toolchain.installed()
    runs = Runs(request.reports)
    folder = _run_folder(request, runs, plan, against)
    with Cache(cache_folder(), cache_limit()) as cache, Launcher() as launcher:
        job = Job(
            environment=environment,
            toolchain=packages,
            builder=Builder(cache, folder.logs, progress),
            baselines=Baselines(roots[0]),
            folder=folder,
            progress=progress,
            seed=plan.seed,
            budget_s=BUDGET_S if request.budget_s is None else request.budget_s,
            measure_all=request.measure_all,
            accept_new=bool(request.accept_new),
            resuming=request.resume is not None,
            launcher=launcher,
            base_python=request.base_python,
            against=against,
        )
        with termination_as_interrupt():
            try:
                yield job, plan, files
            except KeyboardInterrupt as error:
                raise Interrupted(f"stopped; what was measured is kept in {folder.path}", hint=folder.how_to_go_on()) from error
            except CannotMeasure as error:
                error.hint = f"{f'{error.hint}, then ' if error.hint else ''}{folder.how_to_go_on()}"
                raise


def _run_folder(request: Request, runs: Runs, plan: Plan, against: Ref | None) -> RunFolder:
    """A new run's folder with its first line written, or the one to go on with."""
    if request.resume is not None:
        folder = runs.find(request.resume)
        if folder.begun().seed != plan.seed:
            hint = "leave --resume out to measure anew"
            raise CannotMeasure(f"run {folder.id} used another seed: its launches do not belong to this scenario", hint=hint)
        return folder
    arguments = {
        "paths": [str(path) for path in request.paths],
        "overrides": list(request.overrides),
        "only": list(request.only),
        "budget_s": request.budget_s,
        "measure_all": request.measure_all,
        "strict": request.strict,
        "accept_new": request.accept_new,
        "base_python": None if request.base_python is None else str(request.base_python),
        "against": None if against is None else against.commit,
        "on": request.on,
        "retries": request.retries,
    }
    return runs.begin(request.command, _now(), plan.seed, arguments)


def resumed(request: Request) -> Request:
    """The request with what the run that it goes on with was begun with, wherever it says nothing of its own.

    Raises BadInput when another command began that run.
    """
    if request.resume is None:
        return request
    folder = Runs(request.reports).find(request.resume)
    begun = folder.begun_by(request.command.partition(" ")[0])
    kept = {name: tuple(cast("list[str]", begun.arguments.get(name, []))) for name in ("paths", "overrides", "only")}
    return dataclasses.replace(
        request,
        reports=_as_seen_from_here(folder.path.parent),
        paths=request.paths or tuple(Path(path) for path in kept["paths"]),
        overrides=request.overrides or kept["overrides"],
        only=request.only or kept["only"],
        budget_s=cast("float | None", begun.arguments.get("budget_s")) if request.budget_s is None else request.budget_s,
        measure_all=request.measure_all or bool(begun.arguments.get("measure_all")),
        strict=request.strict or bool(begun.arguments.get("strict")),
        accept_new=cast("bool | None", begun.arguments.get("accept_new")) if request.accept_new is None else request.accept_new,
        base_python=request.base_python or (Path(str(python)) if (python := begun.arguments.get("base_python")) else None),
        against=request.against or cast("str | None", begun.arguments.get("against")),
        on=request.on or cast("str | None", begun.arguments.get("on")),
        retries=cast("int | None", begun.arguments.get("retries")) if request.retries is None else request.retries,
    )


def _as_seen_from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _packages(cases: Sequence[Case]) -> dict[str, str]:
    versions = {name: version for case in cases for name, version in case.derivation.content.toolchain.items()}
    return {name: versions[name] for name in sorted(versions) if not name.startswith("harness.") and name != "python"}


def _text_of(file: ScenarioFile) -> ScenarioText:
    path = file.path.resolve()
    told = path.relative_to(file.root) if path.is_relative_to(file.root) else path
    return ScenarioText(file.scenario.name, told.as_posix(), file.text, file.scenario.reference)


def _notes(request: Request, job: Job) -> tuple[str, ...]:
    notes = []
    if request.overrides:
        notes.append(f"measured with --set {' --set '.join(request.overrides)}")
    if job.against is not None:
        notes.append(f"compared with {job.against.told} as it is built now, not with accepted baselines")
    if job.environment.load_average is not None and job.environment.load_average > job.environment.cpu_count:
        notes.append(f"the machine was busy at the start: load {job.environment.load_average:.1f} on {job.environment.cpu_count} CPUs")
    return tuple(notes)


def _now() -> datetime:
    return datetime.now(UTC)
