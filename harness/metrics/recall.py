"""See Recall."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.plugin import Options, Predictions
from harness.core.units import Unit
from harness.metrics import _samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Recall(Options):
    """Share of the samples of class 1 that are answered so, of two classes: of defective parts, those that are found."""

    kind: ClassVar[Literal["sample"]] = "sample"
    unit: ClassVar[Unit] = Unit.FRACTION
    better: ClassVar[Direction] = "higher"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 0.0
    needs_reference: ClassVar[bool] = False

    def scores(self, predictions: Predictions, reference: Predictions | None) -> NDArray[np.float64] | Absent:
        """1 for a positive sample that is found, 0 for one that is missed, [P] in the order of the set; negative samples take no part.

        True positives over true positives and false negatives, at the highest output of each sample, so the interval, the number of
        samples told and a comparison of two arms are all of the P positives. Of more than two classes there is one recall for each, and no
        single number: absent.
        """
        import numpy as np

        labels = _samples.labelled("recall", predictions)
        if isinstance(labels, Absent):
            return labels
        width = _samples.rows(predictions.outputs[0]).shape[1]
        if width > 2:
            return Absent("recall", f"the principal output has {width} values a sample: recall is told of two classes")
        positive = np.asarray(labels).reshape(-1) == 1
        if not np.isin(labels, (0, 1)).all() or not positive.any():
            return Absent("recall", "the targets are not 0 and 1, with a 1 among them")
        found = _samples.hits("recall", predictions, 1)
        return found if isinstance(found, Absent) else found[positive]


PLUGIN = Recall
