"""``harness doctor``: looks at the machine, launches identical code in pairs, and says what the gate will see."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.core.checkup import Checkup, Finding, Sight, State
from harness.core.checkup_wording import headline_of
from harness.core.errors import CannotMeasure
from harness.core.scenario import BUILT_IN_TARGETS
from harness.engine import see, toolchain
from harness.engine.build import Builder
from harness.engine.check_machine import check_machine
from harness.engine.choose_trial import choose_trial, project_scenario
from harness.engine.contest import LEAST_PAIRS, Contest
from harness.engine.evaluate import metric_of
from harness.engine.job import Job
from harness.engine.launcher import Launcher
from harness.engine.machine.read_gpus import read_gpus
from harness.engine.machine.read_machine import read_machine
from harness.engine.make_plan import cores_of
from harness.engine.read_environment import read_environment
from harness.engine.rules import rules_of
from harness.store.baselines import Baselines
from harness.store.cache import Cache, cache_folder, cache_limit
from harness.store.files import pretty_json
from harness.store.runs import RunFolder

if TYPE_CHECKING:
    from harness.core.estimate import Absent
    from harness.core.plan import Trial
    from harness.core.progress import Progress
    from harness.engine.machine.readings import Readings

BUDGET_S = 60.0
SCHEMA = 1
_CHECKUP: TypeAdapter[Checkup] = TypeAdapter(Checkup)
ARMS = ("baseline", "candidate")


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line asks: ``scenario`` and ``only`` choose the trial; ``launches`` False looks at the machine alone."""

    scenario: Path | None = None
    only: tuple[str, ...] = ()
    budget_s: float = BUDGET_S
    launches: bool = True


def read_here(cores: tuple[int, ...], device: str | None) -> Readings:
    """This machine; ``device`` is the trial's, None where no trial was chosen."""
    return read_machine(cores, gpus=lambda: None if device == "cpu" else read_gpus(device))


def examine(question: Question, progress: Progress, read: Callable[[tuple[int, ...], str | None], Readings] = read_here) -> Checkup:
    """Look first, while nothing of ours runs; then launch.

    Raises BadInput for a wrong scenario or pattern, CannotMeasure where none of its trials can run here.
    """
    here = Path.cwd()
    if not question.launches and question.scenario is None and project_scenario(here) is None:
        findings = _look(read, cores_of(BUILT_IN_TARGETS["cpu"]), None, progress)
        return Checkup(findings, (), question.budget_s, headline_of(findings, ()))
    with tempfile.TemporaryDirectory(prefix="harness-doctor-") as folder:
        scratch = Path(folder)
        environment = read_environment(here)
        chosen = choose_trial(question.scenario, question.only, environment, here=here, scratch=scratch / "project")
        trial = chosen.trial
        findings = _look(read, cores_of(trial.target), trial.target.device if chosen.users else None, progress)
        if not question.launches:
            return Checkup(findings, (), question.budget_s, headline_of(findings, ()))
        with Cache(cache_folder(), cache_limit()) as cache, Launcher() as launcher:
            job = Job(
                environment=environment,
                toolchain=toolchain.installed(),
                builder=Builder(cache, scratch / "logs", progress),
                baselines=Baselines(trial.source.root),
                folder=RunFolder(scratch),
                progress=progress,
                seed=trial.source.scenario.seed,
                budget_s=question.budget_s,
                measure_all=False,
                accept_new=False,
                resuming=False,
                launcher=launcher,
            )
            return _launched(job, trial, findings, chosen.note)


def checkup_json(checkup: Checkup) -> bytes:
    """What ``--json`` prints: the checkup's own fields, with the answer in ``fit`` and ``exit_code``."""
    facts = _CHECKUP.dump_python(checkup, mode="json")
    return pretty_json({"schema": SCHEMA, "fit": checkup.fit, "exit_code": int(checkup.exit_code), **facts})


def _look(
    read: Callable[[tuple[int, ...], str | None], Readings], cores: tuple[int, ...], device: str | None, progress: Progress
) -> tuple[Finding, ...]:
    progress.step("machine: looking at it for a second")
    return check_machine(read(cores, device), gpu=device != "cpu")


def _launched(job: Job, trial: Trial, findings: tuple[Finding, ...], note: str) -> Checkup:
    """The checkup with what the A/A gave; a launch that failed is a finding like the others."""
    try:
        contest = _contest(job, trial)
        see.take_pairs(contest, budget_s=job.budget_s, step=job.progress.step)
    except CannotMeasure as error:
        findings = (
            *findings,
            Finding("launches", State.UNFIT, str(error).splitlines()[0], "Mend it: 'harness run' shows the whole failure."),
        )
        return Checkup(findings, (), job.budget_s, headline_of(findings, ()), notes=(note,) if note else ())
    if trouble := see.trouble_of(contest):
        findings = (*findings, Finding("launches", State.UNFIT, trouble, "Mend it: 'harness run' shows the whole failure."))
    pairs = len(contest.runs["candidate"])
    sights: tuple[Sight, ...] = ()
    unseen: tuple[Absent, ...] = ()
    notes = [note] if note else []
    if pairs >= LEAST_PAIRS:
        sights, unseen = see.sights_of(contest, budget_s=job.budget_s)
        notes.append(
            f"{pairs} launch pairs tell the spread but roughly: it may be up to {see.doubt(pairs):.1f} times as large, "
            "and what the gate sees beyond the tolerance with it"
        )
    return Checkup(findings, sights, job.budget_s, headline_of(findings, sights), trial.id, unseen, tuple(notes))


def _contest(job: Job, trial: Trial) -> Contest:
    """The trial's artifact in both arms, built or from the cache. Raises WorkerFailed when it cannot be built."""
    case = job.open_case(trial, None)
    subject = job.builder.subject(trial, case.derivation, job.builder.artifact(trial, case.derivation))
    rules = [rule for rule in rules_of(trial.source.scenario) if metric_of(rule.metric).kind == "launch"]
    load = trial.source.scenario.measure.load.name
    return Contest(trial.id, dict.fromkeys(ARMS, subject), rules, job.procedure(case), job.seed, load)
