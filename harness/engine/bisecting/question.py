"""What is asked, and how it is kept so that an interrupted search can be gone on with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.store.runs import RunFolder, Runs

if TYPE_CHECKING:
    from harness.core.allowed import Allowed
    from harness.core.bisection import Commit
    from harness.core.plan import Trial

FOLDER = "bisect"
"""Under the folder of saved runs."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line asks. ``good`` and ``bad`` are refs; ``same_scenario`` reads the bad commit's scenario file everywhere."""

    command: str
    scenario: Path
    good: str
    bad: str
    metric: str
    only: tuple[str, ...]
    overrides: tuple[str, ...]
    budget_s: float
    same_scenario: bool
    reports: Path
    allowed: Allowed
    resume: RunFolder | None = None


def new_folder(question: Question, line: tuple[Commit, ...], trial: Trial) -> RunFolder:
    """The folder of a new search, with the question as its first line."""
    arguments = {
        "scenario": str(question.scenario.resolve()),
        "good": line[0].hash,
        "bad": line[-1].hash,
        "metric": question.metric,
        "only": [trial.id],
        "overrides": list(question.overrides),
        "budget_s": question.budget_s,
        "same_scenario": question.same_scenario,
    }
    return Runs(question.reports / FOLDER).begin(question.command, datetime.now(UTC), trial.source.scenario.seed, arguments)


def resumed(name: str, reports: Path, allowed: Allowed) -> Question:
    """The question that an interrupted search was begun with; what is ``allowed`` is never taken from it.

    Raises BadInput where there is no such search.
    """
    folder = Runs(reports / FOLDER).find(name)
    begun = folder.begun_by("bisect")
    kept = begun.arguments
    return Question(
        command=begun.command,
        scenario=Path(str(kept["scenario"])),
        good=str(kept["good"]),
        bad=str(kept["bad"]),
        metric=str(kept["metric"]),
        only=tuple(cast("list[str]", kept["only"])),
        overrides=tuple(cast("list[str]", kept["overrides"])),
        budget_s=float(str(kept["budget_s"])),
        same_scenario=bool(kept["same_scenario"]),
        reports=reports,
        allowed=allowed,
        resume=folder,
    )
