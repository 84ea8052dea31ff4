"""What is asked, and how it is kept so that an interrupted search can be gone on with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.engine.searching.space import LIMIT
from harness.store.runs import RunFolder, Runs

if TYPE_CHECKING:
    from harness.core.allowed import Allowed

FOLDER = "search"
"""Under the folder of saved runs: candidates are no recipes, and their numbers must not become baselines."""
OBJECTIVE = "latency_p50"
BUDGET_S = 600.0


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks. ``budget_s`` is for the whole of one command; ``limit`` is the most candidates."""

    command: str
    scenario: Path
    objective: str
    subject_to: tuple[str, ...]
    only: tuple[str, ...]
    overrides: tuple[str, ...]
    reports: Path
    allowed: Allowed
    budget_s: float = BUDGET_S
    limit: int = LIMIT
    resume: RunFolder | None = None


def new_folder(request: Request, seed: int) -> RunFolder:
    """The folder of a new search, with the request as its first line."""
    arguments = {
        "scenario": str(request.scenario.resolve()),
        "objective": request.objective,
        "subject_to": list(request.subject_to),
        "only": list(request.only),
        "overrides": list(request.overrides),
        "budget_s": request.budget_s,
        "limit": request.limit,
    }
    return Runs(request.reports / FOLDER).begin(request.command, datetime.now(UTC), seed, arguments)


def resumed(name: str, reports: Path, allowed: Allowed) -> Request:
    """The request that an interrupted search was begun with; what is ``allowed`` is never taken from it.

    Raises BadInput where there is no such search.
    """
    folder = Runs(reports / FOLDER).find(name)
    begun = folder.begun_by("search")
    kept = begun.arguments
    return Request(
        command=begun.command,
        scenario=Path(str(kept["scenario"])),
        objective=str(kept["objective"]),
        subject_to=tuple(cast("list[str]", kept["subject_to"])),
        only=tuple(cast("list[str]", kept["only"])),
        overrides=tuple(cast("list[str]", kept["overrides"])),
        reports=reports,
        allowed=allowed,
        budget_s=float(str(kept["budget_s"])),
        limit=int(str(kept["limit"])),
        resume=folder,
    )
