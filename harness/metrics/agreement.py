"""See Agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.plugin import Options, Predictions
from harness.core.units import Unit
from harness.metrics import _samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Agreement(Options):
    """Share of samples whose highest output is the reference recipe's."""

    kind: ClassVar[Literal["sample"]] = "sample"
    unit: ClassVar[Unit] = Unit.FRACTION
    better: ClassVar[Direction] = "higher"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    needs_reference: ClassVar[bool] = True

    def scores(self, predictions: Predictions, reference: Predictions | None) -> NDArray[np.float64] | Absent:
        """1 where both recipes give the same answer, [N]."""
        import numpy as np

        arrays = _samples.both("agreement", predictions, reference)
        if isinstance(arrays, Absent):
            return arrays
        ours, theirs = arrays
        if predictions.task != "classification":
            return Absent("agreement", f"the scenario's data.task is '{predictions.task}', not 'classification'")
        return np.asarray(ours.argmax(axis=1) == theirs.argmax(axis=1), dtype=np.float64)


PLUGIN = Agreement
