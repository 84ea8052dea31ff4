"""Artifacts of commits, from the cache or built in worktrees, each opened in the same frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.errors import BadInput, CannotMeasure
from harness.engine.bisecting.read_commits import in_a_line
from harness.engine.content import Derivation, derive

if TYPE_CHECKING:
    from harness.core.bisection import Commit
    from harness.core.plan import Trial
    from harness.engine.bisecting.read_commits import Reader
    from harness.engine.build import Builder
    from harness.engine.protocol import Subject


@dataclass(frozen=True, slots=True)
class Built:
    """A commit's artifact, ready to be opened, and what it came from."""

    trial: Trial
    derivation: Derivation
    subject: Subject


@dataclass(slots=True)
class Workshop:
    """Builds each commit once. ``frame`` is the bad commit's trial: its inputs, batch size, load and cores are everybody's, so that any
    two commits can be compared."""

    reader: Reader
    builder: Builder
    frame: Trial
    _built: dict[str, Built] = field(default_factory=dict)
    _open_as: Subject | None = None

    def built(self, commit: Commit) -> Built:
        """The commit, ready to be measured. Raises CannotMeasure, in one line, where it cannot be read or built."""
        if commit.hash not in self._built:
            root = self.reader.worktrees.at(commit.hash)
            try:
                self._built[commit.hash] = self._build(self.reader.trial_at(commit.hash, self.frame))
            except (BadInput, CannotMeasure) as error:
                raise CannotMeasure(in_a_line(error, root)) from error
        return self._built[commit.hash]

    def _build(self, trial: Trial) -> Built:
        derivation = derive(trial, self.reader.toolchain)
        artifact = self.builder.artifact(trial, derivation)
        if self._open_as is None:
            framing = derive(self.frame, self.reader.toolchain)
            self._open_as = self.builder.subject(self.frame, framing, self.builder.artifact(self.frame, framing))
        folder = trial.source.folder.resolve()
        subject = dataclasses.replace(self._open_as, artifact=artifact, runtime=trial.recipe.runtime, scenario_folder=folder)
        return Built(trial, derivation, subject)
