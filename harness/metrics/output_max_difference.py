"""See OutputMaxDifference."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.plugin import Options, Predictions
from harness.core.units import Unit
from harness.metrics import _samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class OutputMaxDifference(Options):
    """Largest absolute difference to the reference recipe's output, sample by sample."""

    kind: ClassVar[Literal["sample"]] = "sample"
    unit: ClassVar[Unit] = Unit.NUMBER
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    needs_reference: ClassVar[bool] = True

    def scores(self, predictions: Predictions, reference: Predictions | None) -> NDArray[np.float64] | Absent:
        """The largest difference of each sample, [N], in the output's own unit."""
        import numpy as np

        arrays = _samples.both("output_max_difference", predictions, reference)
        if isinstance(arrays, Absent):
            return arrays
        ours, theirs = arrays
        return np.asarray(np.abs(ours - theirs).max(axis=1), dtype=np.float64)


PLUGIN = OutputMaxDifference
