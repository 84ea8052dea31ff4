"""What one pytest run has of harness: its options, its scenarios, what was found so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.core.errors import HarnessError
    from harness.core.progress import Progress
    from harness.core.result import RunResult
    from harness.core.scenario import ScenarioFile
    from harness.engine.callable_outcome import Outcome
    from harness.engine.serve_callable import Duty
    from harness.engine.trial_outcome import TrialOutcome
    from harness.engine.worktree import Worktrees

NOT_BESIDE_WORKERS = (
    "performance cannot be measured beside the workers of pytest-xdist, which share its cores: "
    "run scenarios and tests that use 'gate' without '-n' (or with '-n 0')"
)


class HarnessWarning(pytest.PytestWarning):
    """Something was measured and could not be decided."""


@dataclass(slots=True)
class Work:
    """``files`` are the scenarios by their resolved path; ``duty`` is set in a process that ``gate`` has started; ``trials``, ``runs`` and
    ``calls`` are what was found so far."""

    config: pytest.Config
    files: dict[Path, ScenarioFile] = field(default_factory=dict)
    against: str | None = None
    budget_s: float | None = None
    accept_new: bool | None = None
    strict: bool = False
    reports: Path = Path("reports")
    duty: Duty | None = None
    trials: dict[str, TrialOutcome | HarnessError] = field(default_factory=dict)
    runs: list[RunResult] = field(default_factory=list)
    calls: list[Outcome] = field(default_factory=list)
    worktrees: dict[Path, Worktrees] = field(default_factory=dict)
    resources: ExitStack = field(default_factory=ExitStack)

    def worktrees_of(self, project: Path) -> Worktrees:
        """Earlier commits of a project, checked out once and gone when pytest ends."""
        from harness.engine.worktree import Worktrees

        if project not in self.worktrees:
            self.worktrees[project] = self.resources.enter_context(Worktrees(project))
        return self.worktrees[project]

    def report_of(self, run: RunResult) -> Path:
        """The page of a run, as seen from where pytest was started."""
        return seen_from(self.config.invocation_params.dir, self.reports / run.id / "report.html")


WORK = pytest.StashKey[Work]()


def has_workers(config: pytest.Config) -> bool:
    """Whether tests run in worker processes of pytest-xdist, or this is one of them."""
    return hasattr(config, "workerinput") or any(config.getoption(name, None) for name in ("numprocesses", "tx"))


def in_pytest(text: str) -> str:
    """A sentence that names an option of the command line, with the option's name in pytest."""
    return text.replace(" --budget", " --harness-budget")


def seen_from(folder: Path, path: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


@contextmanager
def shown(config: pytest.Config) -> Iterator[Progress]:
    """Progress on stderr as the command line shows it, past pytest's capture; none with -q."""
    from harness.core.progress import Silent

    capture, reporter = (config.pluginmanager.getplugin(name) for name in ("capturemanager", "terminalreporter"))
    if capture is None or reporter is None or config.get_verbosity() < 0:
        yield Silent()
        return
    from harness.engine.progress_bar import shown_progress

    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        with shown_progress() as progress:
            yield progress
