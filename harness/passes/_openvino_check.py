"""What the OpenVINO passes share: running a model as written, in float32, and comparing what comes out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import openvino
    from numpy.typing import NDArray

Batch = Mapping[str, "NDArray[np.generic]"]
Answer = Callable[[Batch], "NDArray[np.generic]"]
"""A model as a function from a batch to its principal output."""

LOGGERS = ("nncf", "openvino", "torch.export", "torch.onnx")


def compiled(model: openvino.Model) -> openvino.CompiledModel:
    """A model on the CPU in float32, whatever that CPU prefers."""
    from harness.formats import openvino_model

    config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    return openvino_model.framework().Core().compile_model(model, "CPU", config)


def answer_of(model: openvino.Model) -> Answer:
    """A model as a function. A single input is matched by position."""
    runnable = compiled(model)

    def answer(batch: Batch) -> NDArray[np.generic]:
        first: NDArray[np.generic] = runnable(feed_of(batch))[0]
        return first

    return answer


def feed_of(batch: Batch) -> object:
    """A batch as OpenVINO takes it."""
    return [next(iter(batch.values()))] if len(batch) == 1 else dict(batch)


def difference(expected: NDArray[np.generic], got: NDArray[np.generic]) -> float:
    """The largest difference of two outputs, in units of the larger of 1 and the expected output's largest value; inf for other shapes."""
    import numpy as np

    if got.shape != expected.shape:
        return float("inf")
    wide, seen = np.asarray(expected, dtype=np.float64), np.asarray(got, dtype=np.float64)
    return float(np.max(np.abs(seen - wide)) / max(1.0, float(np.abs(wide).max())))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Converters and quantizers draw progress bars, log and warn about what is of no use to a reader of a build log."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
