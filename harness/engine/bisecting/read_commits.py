"""What a trial is made of at every commit of the line: read, never run; neighbouring commits with the same content are one stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.allowed import NOTHING_MORE, Allowed
from harness.core.bisection import Commit, Stretch
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plan import Trial
from harness.engine.bounds import check_remote_code
from harness.engine.content import Derivation, derive
from harness.engine.make_plan import make_plan
from harness.engine.read_environment import git
from harness.engine.read_scenario import read_scenario

if TYPE_CHECKING:
    from harness.core.environment import Environment
    from harness.core.scenario import ScenarioFile
    from harness.engine.toolchain import Toolchain
    from harness.engine.worktree import Worktrees


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one scenario as commits have it. ``path`` is relative to the project; ``text`` stands in its place everywhere, if given.

    ``allowed`` is what the user allows beyond the project, the same at every commit.
    """

    worktrees: Worktrees
    path: Path
    overrides: tuple[str, ...]
    toolchain: Toolchain
    text: str | None = None
    allowed: Allowed = NOTHING_MORE

    def chosen(self, commit: str, environment: Environment, only: Sequence[str]) -> Trial:
        """The one trial that is asked about, as ``commit`` has it.

        Raises BadInput where the scenario is not there or wrong, or where it has several trials that match; CannotMeasure where this
        machine is none that it can run on.
        """
        root = self.worktrees.at(commit)
        if not (root / self.path).is_file():
            hint = "only what is committed is looked at: commit it, or name another --bad"
            raise BadInput(Problem(f"commit {commit[:12]} has no {self.path.as_posix()}", hint=hint))
        plan = make_plan([self._file(root)], environment, only=only)
        if not plan.trials:
            raise CannotMeasure(f"{plan.skipped[0].trial.id}: {plan.skipped[0].reason}")
        if len(plan.trials) > 1:
            names = ", ".join(trial.name for trial in plan.trials)
            raise BadInput(
                Problem(f"there are {len(plan.trials)} trials ({names})", self.path, hint="choose the one to look at with --only")
            )
        return plan.trials[0]

    def trial_at(self, commit: str, trial: Trial) -> Trial:
        """The trial as a commit has it, in a worktree that stays. Raises BadInput and CannotMeasure as reading does."""
        return self._trial(self.worktrees.at(commit), trial)

    def stretches(self, line: Sequence[Commit], trial: Trial) -> tuple[Stretch, ...]:
        """The line, oldest first, as stretches of the same content."""
        found: list[Stretch] = []
        for commit in line:
            content, reason = None, ""
            root = self.worktrees.turned_to(commit.hash)
            try:
                content = self._derived(root, trial).content.digest
            except (BadInput, CannotMeasure) as error:
                reason = in_a_line(error, root)
            if found and found[-1].content == content and found[-1].reason == reason:
                found[-1] = Stretch((*found[-1].commits, commit), content, reason)
            else:
                found.append(Stretch((commit,), content, reason))
        return tuple(found)

    def digest_with(self, commit: str, other: str, name: str, trial: Trial) -> str | None:
        """The content's digest at ``commit`` with one file as ``other`` has it; None where it cannot be read so."""
        root = self.worktrees.turned_to(commit)
        if git(root, "checkout", "--quiet", other, "--", name) is None:
            (root / name).unlink(missing_ok=True)  # the other commit does not have it
        try:
            return self._derived(root, trial).content.digest
        except (BadInput, CannotMeasure):
            return None

    def _derived(self, root: Path, trial: Trial) -> Derivation:
        return derive(self._trial(root, trial), self.toolchain)

    def _trial(self, root: Path, trial: Trial) -> Trial:
        if self.text is None and not (root / self.path).is_file():
            hint = "--same-scenario reads that of the bad commit everywhere"
            raise CannotMeasure(f"it has no {self.path.as_posix()}", hint=hint)
        file = self._file(root)
        recipe = file.scenario.recipes.get(trial.recipe.name)
        if recipe is None:
            raise CannotMeasure(f"its scenario has no recipe '{trial.recipe.name}'")
        target = next((target for target in file.targets if target.name == trial.target.name), trial.target)
        return Trial(file, recipe, target, trial.batch_size)

    def _file(self, root: Path) -> ScenarioFile:
        if self.text is not None:
            (root / self.path).parent.mkdir(parents=True, exist_ok=True)
            (root / self.path).write_text(self.text, encoding="utf-8")
        file = read_scenario(root / self.path, overrides=self.overrides, root=root, allowed=self.allowed)
        check_remote_code([file])
        return file


def in_a_line(error: BadInput | CannotMeasure, root: Path) -> str:
    """An error in one line, without the worktree that it happened in."""
    told = str(error).replace(f"{root}/", "")
    return "; ".join(line.strip() for line in told.splitlines() if line.strip())
