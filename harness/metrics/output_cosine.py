"""See OutputCosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.plugin import Options, Predictions
from harness.core.units import Unit
from harness.metrics import _samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class OutputCosine(Options):
    """Cosine between a recipe's output and the reference recipe's, sample by sample."""

    kind: ClassVar[Literal["sample"]] = "sample"
    unit: ClassVar[Unit] = Unit.NUMBER
    better: ClassVar[Direction] = "higher"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    needs_reference: ClassVar[bool] = True

    def scores(self, predictions: Predictions, reference: Predictions | None) -> NDArray[np.float64] | Absent:
        """The cosine of each sample, [N]; 1 is the same direction."""
        import numpy as np

        arrays = _samples.both("output_cosine", predictions, reference)
        if isinstance(arrays, Absent):
            return arrays
        ours, theirs = arrays
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        if (lengths == 0).any():
            return Absent("output_cosine", "an output is zero everywhere: it has no direction")
        return np.asarray((ours * theirs).sum(axis=1) / lengths, dtype=np.float64)


PLUGIN = OutputCosine
