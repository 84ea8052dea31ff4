"""See ModelSize."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.estimate import Direction
from harness.core.plugin import Options
from harness.core.units import Unit


class ModelSize(Options):
    """Bytes on disk that a deployment ships: weights and graph."""

    kind: ClassVar[Literal["exact"]] = "exact"
    unit: ClassVar[Unit] = Unit.BYTES
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = 0.01
    floor: ClassVar[float] = 1024.0

    def of_artifact(self, artifact: ModelArtifact) -> float:
        """The artifact's own files, this program's notes not counted."""
        return float(artifact.size_bytes)


PLUGIN = ModelSize
