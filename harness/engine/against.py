"""An earlier commit in the place of accepted baselines: ``gate --against REF``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.baseline import BASELINE_SCHEMA, Baseline, Portable
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.engine.content import derive
from harness.engine.read_environment import git
from harness.engine.served import under_network_load

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.plan import Trial
    from harness.engine.base_arm import BaseFinder


@dataclass(frozen=True, slots=True)
class Ref:
    """What was asked for ("origin/main") and the commit that it meant when the run began."""

    name: str
    commit: str

    @property
    def told(self) -> str:
        return self.name if self.commit.startswith(self.name) else f"{self.name} ({self.commit[:12]})"


def resolve(root: Path, name: str) -> Ref:
    """The commit of a ref. Raises BadInput where there is none, or no repository."""
    commit = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if not commit:
        hint = "fetch it first ('git fetch origin main'; 'fetch-depth: 0' in a GitHub workflow), or see 'git branch --all'"
        raise BadInput(Problem(f"--against {name}: there is no such commit in {root}", hint=hint))
    return Ref(name, commit)


def baseline_at(ref: Ref, trial: Trial, finder: BaseFinder, accepted: Baseline | None) -> Baseline | None:
    """The trial as the commit has it, as a baseline; None where it has no such trial. ``accepted`` lends its numbers to the same content.

    Raises CannotMeasure when the commit has the scenario and it cannot be read there.
    """
    path = trial.source.path.resolve().relative_to(trial.source.root)
    if git(trial.source.root, "cat-file", "-e", f"{ref.commit}:./{path.as_posix()}") is None:
        return None
    try:
        base = finder.trial_at(ref.commit, trial, path.as_posix())
        if base is None or base.id != trial.id:
            return None
        derivation = derive(base, finder.toolchain)
    except BadInput as error:
        raise CannotMeasure(f"the scenario cannot be read as {ref.told} has it: {'; '.join(str(error).split(chr(10)))}") from error
    if accepted is not None and accepted.portable.content.digest == derivation.content.digest:
        return dataclasses.replace(accepted, portable=dataclasses.replace(accepted.portable, commit=ref.commit))
    portable = Portable(
        content=derivation.content,
        scenario_path=path.as_posix(),
        scenario_text=base.source.text,
        commit=ref.commit,
        artifact_key=derivation.steps[-1].key,
        evaluation_key=derivation.data["evaluation"],
        runtime=base.recipe.runtime,
        server=base.recipe.server if under_network_load(base) else None,
        device=base.target.device,
        steps=(),
        estimates=(),
        scores={},
        answers=None,
    )
    return Baseline(BASELINE_SCHEMA, trial.id, "", "", portable, {})
