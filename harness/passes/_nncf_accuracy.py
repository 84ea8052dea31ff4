"""Top-1 accuracy on held-out calibration samples, for the accuracy-aware mode of quantize_nncf."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure
from harness.passes._nncf_graph import Graph, Model

Score = Callable[[object, Iterable[int]], tuple[float, list[float]]]
"""What NNCF asks for: a model as it hands it over and rows of the data, to their mean score and the score of each."""


def held_out(data: Dataset, calibrated: int, max_drop: float) -> Dataset:
    """The labelled samples after the first ``calibrated``. Raises CannotMeasure without labels, or with too few to see ``max_drop``."""
    import numpy as np

    if data.targets is None:
        raise CannotMeasure(
            "'max_drop' needs labels, and data.calibration has none",
            hint="return (inputs, targets) from its factory, or leave 'max_drop' out",
        )
    if data.targets.ndim != 1 or not np.issubdtype(data.targets.dtype, np.integer):
        raise CannotMeasure(
            f"'max_drop' knows top-1 accuracy alone: targets of data.calibration are {data.targets.dtype}{list(data.targets.shape)}",
            hint="give one integer class a sample, or leave 'max_drop' out and let the gate judge accuracy",
        )
    left = data.count - calibrated
    if left * max_drop < 1:
        raise CannotMeasure(
            f"a drop of {max_drop:.2%} cannot be seen on {left} samples: one of them is {1 / max(left, 1):.2%}",
            hint=f"give at least {2 * int(np.ceil(1 / max_drop))} calibration samples: half of them or more are kept to judge by",
        )
    inputs = {name: values[calibrated:] for name, values in data.inputs.items()}
    return Dataset(inputs, data.targets[calibrated:])


def score_on(data: Dataset, graph: Graph) -> Score:
    """1 for a right answer and 0 for a wrong one, row by row, as the metric accuracy has it."""
    import numpy as np

    assert data.targets is not None
    targets = data.targets

    def score(prepared: object, rows: Iterable[int]) -> tuple[float, list[float]]:
        answer, hits = graph.answer_of(prepared), list[float]()
        for row in rows:
            values = np.asarray(answer(data.batch(row, 1)))
            if values.ndim != 2 or values.shape[1] < 2:
                raise CannotMeasure(f"'max_drop' needs one row of class scores a sample; the principal output is {list(values.shape)}")
            hits.append(float(int(np.argmax(values[0])) == int(targets[row])))
        return float(np.mean(hits)), hits

    return score


def accuracy(model: Model, data: Dataset, graph: Graph) -> float:
    """Top-1 accuracy, computed in float32 where the model is in float, whatever this CPU prefers."""
    return score_on(data, graph)(model, range(data.count))[0]
