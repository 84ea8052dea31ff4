"""See AccuracyTop5."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.plugin import Options, Predictions
from harness.core.units import Unit
from harness.metrics import _samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class AccuracyTop5(Options):
    """Share of samples whose label is among the five highest outputs."""

    kind: ClassVar[Literal["sample"]] = "sample"
    unit: ClassVar[Unit] = Unit.FRACTION
    better: ClassVar[Direction] = "higher"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    needs_reference: ClassVar[bool] = False

    def scores(self, predictions: Predictions, reference: Predictions | None) -> NDArray[np.float64] | Absent:
        """1 for a right answer, 0 for a wrong one, [N]."""
        return _samples.hits("accuracy_top5", predictions, 5)


PLUGIN = AccuracyTop5
