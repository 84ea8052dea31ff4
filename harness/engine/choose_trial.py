"""Which trial ``harness doctor`` launches: the one asked for, the project's own, else a starter model in whatever runtime is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure
from harness.engine.init_project import init_project
from harness.engine.make_plan import make_plan
from harness.engine.read_scenario import NO_SCENARIOS, read_scenarios

if TYPE_CHECKING:
    from harness.core.environment import Environment
    from harness.core.plan import Trial

SCENARIOS = "scenarios"
STARTER_RECIPES = {
    "my-model/onnx-*": ("onnxruntime", ("torch", "onnx", "onnxscript", "onnxruntime")),
    "my-model/fp32-*": ("torch", ("torch",)),
}
"""The starter's trials in order of preference: their runtime, and the packages that they are built and run with."""
STARTER_BATCH = "measure.batch_sizes=[64]"
"""One sample of the starter's data takes so little time that the floor of 2 µs would hide the machine."""
FAKE = """\
version: 1
name: fake-model
model:
  fake: {latency_us: 2000}
data:
  random: {x: "float32[16]"}
recipes:
  fake: {runtime: fake}
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A trial and what the reader must know of the choice, "" where it was asked for; ``users`` is False for a starter model."""

    trial: Trial
    note: str
    users: bool


def project_scenario(folder: Path) -> Path | None:
    """The scenario of a project that has exactly one; None where there is none, or a choice."""
    inside = (folder / SCENARIOS).glob("*.yaml")
    files = [path for path in inside if path.name not in NO_SCENARIOS and not path.name.startswith("_")]  # those are no scenarios
    return files[0] if len(files) == 1 else None


def choose_trial(path: Path | None, only: Sequence[str], environment: Environment, *, here: Path, scratch: Path) -> Chosen:
    """The first trial of ``path`` that ``only`` matches; without a path, of the only scenario under ``here``; else of a starter model,
    written into ``scratch``.

    Raises BadInput for a scenario that is wrong or a pattern that matches nothing, CannotMeasure where no trial can run here.
    """
    found = path or project_scenario(here)
    if found is not None:
        note = "" if path is not None else f"launched is the project's own scenario, {found.relative_to(here)}"
        return Chosen(_first(found, only, environment), note, users=True)
    init_project(scratch)
    for pattern, (runtime, packages) in STARTER_RECIPES.items():
        if all(importlib.util.find_spec(package) is not None for package in packages):
            note = f"launched is a small starter model in {runtime}: a model of yours may differ, name its scenario"
            return Chosen(
                _first(scratch / SCENARIOS, only or (pattern,), environment, root=scratch, overrides=(STARTER_BATCH,)), note, users=False
            )
    fake = scratch / "fake.yaml"
    fake.write_text(FAKE, encoding="utf-8")
    note = (
        "no runtime is installed, so the fake one was launched: it lets a fixed time pass, whatever the machine does; "
        "install one with: pip install 'harness[torch,onnx]'"
    )
    return Chosen(_first(fake, only, environment, root=scratch), note, users=False)


def _first(path: Path, only: Sequence[str], environment: Environment, root: Path | None = None, overrides: Sequence[str] = ()) -> Trial:
    plan = make_plan(read_scenarios([path], overrides=overrides, root=root), environment, only=only)
    if not plan.trials:
        raise CannotMeasure(f"no trial of {path} can run here: {plan.skipped[0].reason}", hint="name another with --only")
    return plan.trials[0]
