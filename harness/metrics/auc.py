"""See Auc."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.plugin import Options, Predictions
from harness.core.units import Unit
from harness.metrics import _samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Auc(Options):
    """Area under the ROC curve of two classes: how often a sample of class 1 is ranked above one of class 0."""

    kind: ClassVar[Literal["sample"]] = "sample"
    unit: ClassVar[Unit] = Unit.FRACTION
    better: ClassVar[Direction] = "higher"
    tolerance: ClassVar[float | None] = 0.005
    floor: ClassVar[float] = 0.0
    needs_reference: ClassVar[bool] = False

    def scores(self, predictions: Predictions, reference: Predictions | None) -> NDArray[np.float64] | Absent:
        """Structural components, [N]: their mean is the area, and the spread of that mean is DeLong's.

        A sample's placement is the share of the other class that it is ranked right against, ties counting one half; a component is the
        area plus what the placement differs from it, times N over the number of samples of its own class (DeLong, DeLong and
        Clarke-Pearson, Biometrics 1988, written as an influence function). The principal output is one score a sample, or one for each
        of the two classes.
        """
        import numpy as np

        labels = _samples.labelled("auc", predictions)
        if isinstance(labels, Absent):
            return labels
        output = _samples.rows(predictions.outputs[0])
        if output.shape[1] > 2:
            return Absent("auc", f"the principal output has {output.shape[1]} values a sample: the area is of two classes")
        score = output[:, -1] - output[:, 0] if output.shape[1] == 2 else output[:, 0]
        positive = np.asarray(labels).reshape(-1) == 1
        if not np.isin(labels, (0, 1)).all() or positive.all() or not positive.any():
            return Absent("auc", "the targets are not 0 and 1, with both among them")
        above, below = score[positive], score[~positive]
        placements = np.empty(len(score))
        placements[positive] = _share_below(above, np.sort(below))
        placements[~positive] = 1 - _share_below(below, np.sort(above))
        area = float(placements[positive].mean())
        weight = np.where(positive, len(score) / positive.sum(), len(score) / (~positive).sum())
        return np.asarray(area + weight * (placements - area), dtype=np.float64)


def _share_below(scores: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each score, the share of ``others`` (sorted) below it, and half of those equal to it."""
    import numpy as np

    left, right = np.searchsorted(others, scores, "left"), np.searchsorted(others, scores, "right")
    return np.asarray((left + right) / (2 * len(others)), dtype=np.float64)


PLUGIN = Auc
