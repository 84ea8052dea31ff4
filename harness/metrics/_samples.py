"""What the metrics over evaluation samples share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.estimate import Absent
from harness.core.plugin import Predictions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def rows(output: NDArray[np.generic]) -> NDArray[np.float64]:
    """An output with one row of numbers a sample. Raises ValueError on NaN or infinity: an error never becomes a number."""
    import numpy as np

    flat = np.asarray(output, dtype=np.float64).reshape(len(output), -1)
    if not np.isfinite(flat).all():
        raise ValueError("NaN or infinity among the outputs")
    return flat


def labelled(metric: str, predictions: Predictions) -> NDArray[np.generic] | Absent:
    """The class labels, or why there are none to score against."""
    if predictions.task != "classification":
        return Absent(metric, f"the scenario's data.task is '{predictions.task}', not 'classification'")
    if predictions.targets is None:
        return Absent(metric, "the evaluation data has no targets")
    return predictions.targets


def hits(metric: str, predictions: Predictions, k: int) -> NDArray[np.float64] | Absent:
    """1 where the label is among the k highest outputs, else 0; ties go to the lower class index."""
    import numpy as np

    labels = labelled(metric, predictions)
    if isinstance(labels, Absent):
        return labels
    scores = rows(predictions.outputs[0])
    if scores.shape[1] < max(2, k):
        return Absent(metric, f"the principal output has {scores.shape[1]} values a sample, {max(2, k)} are needed")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = (best == np.asarray(labels).reshape(-1, 1)).any(axis=1)
    return np.asarray(found, dtype=np.float64)


def both(metric: str, predictions: Predictions, reference: Predictions | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | Absent:
    """Principal outputs of a recipe and of the reference on the same samples."""
    if reference is None:
        return Absent(metric, "the scenario names no 'reference' recipe with predictions on this hardware")
    ours, theirs = rows(predictions.outputs[0]), rows(reference.outputs[0])
    if ours.shape != theirs.shape:
        return Absent(metric, f"outputs have other shapes than the reference's: {ours.shape} and {theirs.shape}")
    return ours, theirs
