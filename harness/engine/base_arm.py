"""The other arm: a baseline's artifact, from the cache or built again from the commit that it was accepted at."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import plugins
from harness.core.errors import BadInput, CannotMeasure
from harness.core.plan import Trial
from harness.engine.build import Builder, cached_artifact
from harness.engine.content import derive, plugin_digest
from harness.engine.read_environment import git
from harness.engine.read_scenario import read_scenario
from harness.engine.routes import version_changes
from harness.kserve.endpoint_file import FORMAT as ENDPOINT

if TYPE_CHECKING:
    from harness.core.artifact import ModelArtifact
    from harness.core.baseline import Baseline
    from harness.core.result import Content
    from harness.core.scenario import PluginRef
    from harness.engine.protocol import Served, Subject
    from harness.engine.toolchain import Toolchain
    from harness.engine.worktree import Worktrees


@dataclass(frozen=True, slots=True)
class BaseArm:
    """What is measured against the candidate. ``predictions`` is the cache key of its outputs over the candidate's evaluation set;
    ``note`` is told where the arm is not in every way what was accepted."""

    subject: Subject
    predictions: str
    note: str | None


@dataclass(frozen=True, slots=True)
class BaseFinder:
    """Finds the other arm of a trial; ``baseline_file`` is asked for the commits that may hold it."""

    root: Path
    builder: Builder
    toolchain: Toolchain
    worktrees: Worktrees

    def find(self, trial: Trial, baseline: Baseline, candidate: Subject, evaluation_key: str, baseline_file: Path) -> BaseArm:
        """The baseline's artifact, opened as it was, with the candidate's inputs, batch size and load, on the candidate's cores.

        Raises CannotMeasure when it is neither in the cache nor to be built from any commit that is here.
        """
        portable = baseline.portable
        changed = version_changes(portable.content.toolchain, {name: self._version(name) for name in portable.content.toolchain})
        if not changed and not portable.runtime.is_file and (artifact := cached_artifact(self.builder.cache, portable.artifact_key)):
            _refuse_same_endpoint(artifact, candidate)
            served = _served_by(candidate, portable.server)
            subject = dataclasses.replace(candidate, artifact=artifact, runtime=portable.runtime, served=served)
            return BaseArm(subject, predictions_key(portable.content, subject, evaluation_key), None)
        failures: list[str] = []
        for commit in self._commits(baseline, baseline_file):
            try:
                base = self.trial_at(commit, trial, portable.scenario_path)
                if base is None:
                    failures.append(f"at commit {commit[:12]}: the scenario had no recipe '{trial.recipe.name}'")
                    continue
                derivation = derive(base, self.toolchain)
                if derivation.content.source != portable.content.source:
                    failures.append(f"commit {commit[:12]} holds other content")
                    continue
                artifact = self.builder.artifact(base, derivation)
            except (BadInput, CannotMeasure) as error:
                failures.append(f"at commit {commit[:12]}: {'; '.join(line.strip() for line in str(error).splitlines())}")
                continue
            _refuse_same_endpoint(artifact, candidate)
            subject = dataclasses.replace(
                candidate,
                artifact=artifact,
                runtime=base.recipe.runtime,
                scenario_folder=base.source.folder.resolve(),
                served=_served_by(candidate, base.recipe.server),
            )
            note = (
                f"the baseline was accepted with other versions ({', '.join(changed)}); both arms run with the present ones"
                if changed
                else None
            )
            return BaseArm(subject, predictions_key(derivation.content, subject, evaluation_key), note)
        why = "; ".join(failures) or "it is not in the cache, and there is no commit to build it from"
        hint = "accept a new baseline from a clean commit: 'harness baseline accept'"
        raise CannotMeasure(f"the baseline of {trial.id} cannot be built here: {why}", hint=hint)

    def _commits(self, baseline: Baseline, baseline_file: Path) -> list[str]:
        """Where the content may be: the commit that it was accepted at, the one that brought the file, the present one."""
        brought = git(self.root, "log", "-1", "--format=%H", "--", str(baseline_file))
        found = [baseline.portable.commit, brought or None, git(self.root, "rev-parse", "HEAD")]
        return list(dict.fromkeys(commit for commit in found if commit))

    def trial_at(self, commit: str, trial: Trial, scenario_path: str) -> Trial | None:
        """The trial as a commit has it; None where its scenario has no such recipe. Raises BadInput and CannotMeasure as reading does."""
        root = self.worktrees.at(commit)
        file = read_scenario(root / scenario_path, root=root, allowed=trial.source.allowed)
        recipe = file.scenario.recipes.get(trial.recipe.name)
        if recipe is None:
            return None
        target = next((target for target in file.targets if target.name == trial.target.name), trial.target)
        return Trial(file, recipe, target, trial.batch_size)

    def _version(self, name: str) -> str:
        """The present version of what a baseline's toolchain names; its own plugins are those of this program."""
        if name == "python":
            return self.toolchain.python
        if name.startswith("harness."):
            _, family, plugin = name.split(".")
            path = plugins.PACKAGE / family / f"{plugin}.py"
            return plugin_digest(path) if path.is_file() else "none"
        return self.toolchain.versions.get(name, "none")


def _served_by(candidate: Subject, server: PluginRef | None) -> Served | None:
    """How the candidate is served, by the baseline's own server; a model that runs elsewhere is asked where it runs."""
    if candidate.served is None or server is None or candidate.artifact.format == ENDPOINT:
        return candidate.served
    return dataclasses.replace(candidate.served, server=server)


def _refuse_same_endpoint(artifact: ModelArtifact, candidate: Subject) -> None:
    """An address answers as it does now: in both arms it would be compared with itself."""
    if artifact.format == ENDPOINT and artifact.sha256 == candidate.artifact.sha256:
        hint = "compare two deployments at two addresses, or only what was stored: sizes and accuracy"
        raise CannotMeasure("the baseline is what this endpoint served then, which cannot be asked again", hint=hint)


def predictions_key(content: Content, subject: Subject, evaluation_key: str) -> str:
    """Over the content as a whole: the runtime's version, or its code where it is the user's own, decides what it answers."""
    facts = (content.digest, subject.device, subject.threads, subject.batch_size, evaluation_key)
    return hashlib.sha256(repr(facts).encode()).hexdigest()
