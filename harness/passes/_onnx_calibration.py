"""Ranges of activations from calibration samples, through ONNX Runtime's calibrators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.core.artifact import Dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime.quantization.calibrate import TensorsData

Method = Literal["minmax", "entropy", "percentile"]
BATCH = 16


class Reader:
    """Hands calibration batches to ONNX Runtime under the graph's input names, then None (its ``CalibrationDataReader``).

    Batches are of one size, at most ``BATCH``: a graph may have its batch axis fixed by what it was exported with.
    """

    def __init__(self, data: Dataset, names: Sequence[str], count: int) -> None:
        self.data = data
        self.names = names
        self.count = count
        self.batch = next(size for size in range(BATCH, 0, -1) if count % size == 0)
        self.start = 0

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        if self.start >= self.count:
            return None
        batch = self.data.batch(self.start, self.batch)
        self.start += self.batch
        return dict(zip(self.names, batch.values(), strict=True)) if len(self.names) == 1 else batch

    def __iter__(self) -> Iterator[dict[str, NDArray[np.generic]]]:
        while (batch := self.get_next()) is not None:
            yield batch


class OneBatch:
    """A reader that has one batch to give."""

    def __init__(self, batch: dict[str, NDArray[np.generic]]) -> None:
        self.batches = [batch]

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        return self.batches.pop() if self.batches else None


def ranges(
    prepared: Path, operators: Sequence[str], reader: Reader, method: Method, percentile: float, num_bins: int, symmetric: bool
) -> TensorsData:
    """The range of every tensor that a node of ``operators`` reads or writes.

    ``quantize_static`` itself does not hand on the number of bins. Its calibrator for entropy then takes as many bins as quantized levels
    (128), so that the whole range is its only candidate: minmax by another name. The histogram methods are given a batch at a time,
    because they keep every activation of what they are given at once.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    known = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
    options: dict[str, object] = {"symmetric": symmetric}
    if method != "minmax":
        options["num_bins"] = num_bins
    if method == "percentile":
        options["percentile"] = percentile
    augmented = prepared.with_name("augmented.onnx")
    calibrator = create_calibrator(
        prepared, list(operators), augmented_model_path=str(augmented), calibrate_method=known[method], extra_options=options
    )
    if method == "minmax":
        calibrator.collect_data(reader)
    else:
        for batch in reader:
            calibrator.collect_data(OneBatch(batch))
    return calibrator.compute_data()
