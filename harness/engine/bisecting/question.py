"""What is asked, and how it is kept so that an interrupted search can be gone on with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.core.errors import BadInput, Problem
from harness.core.result import SCHEMA
from harness.store.runs import Begun, RunFolder, Runs, new_run_id

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
    now = datetime.now(UTC)
    folder = Runs(question.reports / FOLDER).create(new_run_id(now))
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
    folder.append(Begun(SCHEMA, folder.id, question.command, now.isoformat(timespec="seconds"), trial.source.scenario.seed, arguments))
    return folder


def resumed(name: str, reports: Path, allowed: Allowed) -> Question:
    """The question that an interrupted search was begun with; what is ``allowed`` is never taken from it.

    Raises BadInput where there is no such search.
    """
    folder = Runs(reports / FOLDER).find(name)
    begun = folder.begun()
    if begun.verb != "bisect":
        raise BadInput(Problem(f"run {folder.id} was begun by 'harness {begun.verb}'", hint=folder.how_to_go_on()))
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
