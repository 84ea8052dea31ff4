"""Trials of scenarios as test items."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.core.errors import HarnessError, Interrupted
from harness.core.plan import Trial
from harness.engine.trial_outcome import Ending, TrialOutcome, trial_outcome
from harness.pytest_plugin.work import WORK, HarnessWarning, Work, in_pytest, seen_from, shown

if TYPE_CHECKING:
    from harness.core.scenario import ScenarioFile


class ScenarioItems(pytest.File):
    """A scenario's file; its items are its trials."""

    scenario: ScenarioFile

    def collect(self) -> Iterable[TrialItem]:
        for trial in trials_of(self.scenario):
            item: TrialItem = TrialItem.from_parent(self, name=trial.name)
            item.trial = trial
            item.extra_keyword_matches.add(trial.id)
            item.add_marker("harness")
            yield item


def trials_of(file: ScenarioFile) -> list[Trial]:
    """Every cell of a scenario, also those for other machines."""
    written = file.scenario
    return [Trial(file, *cell) for cell in product(written.recipes.values(), file.targets, written.measure.batch_sizes)]


class TrialItem(pytest.Item):
    """One trial. It is measured when it is set up: what could not be measured or decided is an error then, a regression a failure."""

    trial: Trial

    def setup(self) -> None:
        found = self._outcome()
        if isinstance(found, HarnessError):
            pytest.fail(f"{self.trial.id} could not be measured: {found}", pytrace=False)
        self.user_properties += found.properties
        if found.ending is Ending.SKIPPED:
            pytest.skip(found.text)
        if found.ending is Ending.ERROR:
            pytest.fail(self._with_report(found.text), pytrace=False)
        if found.warning is not None:
            self.warn(HarnessWarning(in_pytest(found.warning)))

    def runtest(self) -> None:
        found = self._outcome()
        if isinstance(found, TrialOutcome) and found.ending is Ending.FAILED:
            pytest.fail(self._with_report(found.text), pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        file = self.trial.source
        return self.path, file.lines.get(f"recipes.{self.trial.recipe.name}", 1) - 1, self.trial.id

    def _outcome(self) -> TrialOutcome | HarnessError:
        """All trials that were selected are one job, measured when the first of them is set up; where the run may end early (-x), each is a
        job of its own."""
        work = self.config.stash[WORK]
        if self.trial.id not in work.trials:
            wanted = [self.trial]
            if not self.config.getoption("maxfail") and not self.config.getoption("stepwise", False):
                others = (item.trial for item in self.session.items if isinstance(item, TrialItem))
                wanted = [trial for trial in others if trial.source.root == self.trial.source.root]
            measure(work, wanted)
        return work.trials[self.trial.id]

    def _with_report(self, text: str) -> str:
        work = self.config.stash[WORK]
        run = next(run for run in reversed(work.runs) if any(record.id == self.trial.id for record in run.trials))
        return f"{in_pytest(text)}\nreport: {work.report_of(run)}"


def measure(work: Work, trials: Sequence[Trial]) -> None:
    """Gate these trials in one job, and keep what came of each."""
    from harness import pipeline

    files = {trial.source.path.resolve(): trial.source for trial in trials}
    ids = tuple(dict.fromkeys(trial.id for trial in trials))
    only = () if len(ids) == sum(len(trials_of(file)) for file in files.values()) else ids
    request = pipeline.Request(
        command=as_command(work, tuple(files), only),
        paths=tuple(files),
        reports=work.reports,
        only=only,
        budget_s=work.budget_s,
        strict=work.strict,
        accept_new=work.accept_new,
        against=work.against,
    )
    try:
        with shown(work.config) as progress:
            result = pipeline.gate(request, progress)
    except Interrupted as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.INTERRUPTED)
    except HarnessError as error:
        work.trials |= dict.fromkeys(ids, error)
        return
    work.runs.append(result)
    work.trials |= {identity: trial_outcome(result, identity, strict=work.strict) for identity in ids}


def as_command(work: Work, paths: Sequence[Path], only: Sequence[str]) -> str:
    """What does the same on the command line: it names the run in its reports, and its verb is what a stopped run is gone on with."""
    folder = work.config.invocation_params.dir
    words = ["gate", *(str(seen_from(folder, path)) for path in paths)]
    words += [word for trial in only for word in ("--only", trial)]
    words += [] if work.against is None else ["--against", work.against]
    return shlex.join(words)
