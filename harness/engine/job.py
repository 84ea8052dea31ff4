"""What all cases of one command share, and how a case gets its artifact, its predictions and its opponent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.environment import environment_key
from harness.core.errors import BadInput, CannotMeasure
from harness.core.plan import Trial
from harness.engine.against import baseline_at
from harness.engine.case import Case
from harness.engine.content import derive
from harness.engine.make_plan import cores_of, threads_of
from harness.engine.procedure import Procedure
from harness.engine.routes import Route, choose_route
from harness.engine.rules import queries_wanted, wants_energy
from harness.store.baselines import Baselines, Unreadable

if TYPE_CHECKING:
    from harness.core.baseline import Baseline
    from harness.core.environment import Environment
    from harness.core.measurement import Run
    from harness.core.plugin import Predictions
    from harness.core.progress import Progress
    from harness.engine.against import Ref
    from harness.engine.base_arm import BaseFinder
    from harness.engine.build import Builder
    from harness.engine.launcher import Launcher
    from harness.engine.toolchain import Toolchain
    from harness.store.runs import RunFolder


@dataclass(frozen=True, slots=True)
class Job:
    """What all cases of one command share. ``budget_s`` is what a trial's launch pairs may take; ``accept_new`` makes first numbers
    baselines; ``measure_all`` measures what did not change too; ``base_python`` is the interpreter that baselines run in;
    ``against`` is the commit that stands in their place."""

    environment: Environment
    toolchain: Toolchain
    builder: Builder
    baselines: Baselines
    folder: RunFolder
    progress: Progress
    seed: int
    budget_s: float
    measure_all: bool
    accept_new: bool
    resuming: bool
    launcher: Launcher
    base_python: Path | None = None
    against: Ref | None = None

    def open_case(self, trial: Trial, finder: BaseFinder | None) -> Case:
        """A trial's content, baseline and route; a damaged baseline is named and the trial goes no further. Without a ``finder`` of
        baselines it has none."""
        derivation = derive(trial, self.toolchain)
        key = environment_key(
            self.environment,
            cores=len(cores_of(trial.target)),
            threads=threads_of(trial.target),
            device=trial.target.device,
            packages=derivation.content.toolchain,
        )
        if finder is None:
            return Case(trial, derivation, key, None, Route.ALONE, "measured")
        try:
            baseline = self.baselines.read(trial.id) if self.against is None else self._baseline_at(self.against, trial, finder)
        except (Unreadable, CannotMeasure) as error:
            return Case(trial, derivation, key, None, Route.UNCHANGED, "", unreadable=str(error).replace("\n  ", "; "))
        route, reason = choose_route(
            baseline,
            derivation.content,
            key,
            measure_all=self.measure_all,
            accept_new=self.accept_new,
            base_python=self.base_python is not None,
            ref=None if self.against is None else self.against.told,
        )
        undecided = reason if route is Route.PORTABLE else None
        return Case(trial, derivation, key, baseline, route, reason, undecided=undecided, against=self.against)

    def _baseline_at(self, ref: Ref, trial: Trial, finder: BaseFinder) -> Baseline | None:
        """The commit's own content; accepted numbers of the very same content serve as its numbers. A damaged file serves nothing."""
        try:
            accepted = self.baselines.read(trial.id)
        except Unreadable:
            accepted = None
        return baseline_at(ref, trial, finder, accepted)

    def build(self, case: Case) -> None:
        """The candidate's artifact and its predictions; a failure ends the case and nothing else."""
        if case.route is Route.UNCHANGED:
            return
        try:
            artifact = self.builder.artifact(case.trial, case.derivation)
            case.subject = self.builder.subject(case.trial, case.derivation, artifact)
            case.predictions = self.builder.predictions(case.trial, case.subject, case.derivation.predictions)
        except (BadInput, CannotMeasure) as error:
            case.fail(error, "build")

    def reference(self, case: Case, cases: Sequence[Case]) -> Predictions | None:
        """The reference recipe's predictions on the same samples; taken from the cache or made where its trial is not measured."""
        scenario, trial = case.trial.source.scenario, case.trial
        if scenario.reference is None or case.route is Route.UNCHANGED or case.failure is not None:
            return None
        wanted = Trial(trial.source, scenario.recipes[scenario.reference], trial.target, trial.batch_size)
        measured = next((other for other in cases if other.id == wanted.id), None)
        if measured is not None and (measured.predictions is not None or measured.failure is not None):
            return measured.predictions
        derivation = derive(wanted, self.toolchain)
        try:
            subject = self.builder.subject(wanted, derivation, self.builder.artifact(wanted, derivation))
            return self.builder.predictions(wanted, subject, derivation.predictions)
        except (BadInput, CannotMeasure) as error:
            case.notes.append(f"no fidelity to the reference '{scenario.reference}': {str(error).splitlines()[0]}")
            return None

    def find_base(self, case: Case, finder: BaseFinder) -> None:
        """The other arm and its predictions on the candidate's samples; without one, the case cannot be timed against its baseline."""
        if case.route is not Route.PAIRED or case.failure is not None:
            return
        assert case.baseline is not None and case.subject is not None
        evaluation = case.derivation.data["evaluation"]
        try:
            case.base = finder.find(case.trial, case.baseline, case.subject, evaluation, self.baselines.path(case.id))
            case.base_predictions = finder.builder.predictions(case.trial, case.base.subject, case.base.predictions)
        except (BadInput, CannotMeasure) as error:
            case.base = None
            case.undecided = str(error).replace("\n  ", "; ")
            return
        if case.base.note:
            case.notes.append(case.base.note)

    def procedure(self, case: Case) -> Procedure:
        """How the launches of a case are made."""
        logs = self.folder.logs / f"{case.trial.scenario}-{case.trial.name}"
        pythons = {} if self.base_python is None else {"baseline": self.base_python}
        scenario = case.trial.source.scenario
        return Procedure(logs, scenario.measure, pythons, self.launcher, queries_wanted(scenario), self.folder.path, wants_energy(scenario))

    def earlier_launches(self, trial: str, content: str, *, arms: int) -> dict[str, list[Run]]:
        """What an interrupted run has measured of this very content already, by arm; nothing in a new run."""
        return self.folder.whole_pairs(trial, content, arms) if self.resuming else {}
