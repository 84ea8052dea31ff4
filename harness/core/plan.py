"""What will be measured: one Trial for each cell of the matrix recipe x hardware x batch size."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.scenario import HardwareTarget, Recipe, ScenarioFile


@dataclass(frozen=True, slots=True)
class Trial:
    """One cell. Its ``id`` is its identity: it pairs a candidate with its baseline, and nothing else does."""

    source: ScenarioFile
    recipe: Recipe
    target: HardwareTarget
    batch_size: int

    @property
    def name(self) -> str:
        """The identity inside its scenario, fit for a file name: ``int8-cpu-b1``."""
        return f"{self.recipe.name}-{self.target.name}-b{self.batch_size}"

    @property
    def scenario(self) -> str:
        return self.source.scenario.name

    @property
    def id(self) -> str:
        """``digits-resnet50/int8-cpu-b1``."""
        return f"{self.scenario}/{self.name}"


@dataclass(frozen=True, slots=True)
class SkippedTrial:
    """A cell whose hardware target is not this machine: named, never run."""

    trial: Trial
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All cells in order, those of other machines apart, and the seed that every random choice comes from."""

    trials: tuple[Trial, ...]
    skipped: tuple[SkippedTrial, ...]
    seed: int
