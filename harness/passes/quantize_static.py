"""See QuantizeStatic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _ort_quantization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class QuantizeStatic(Options):
    """ONNX Runtime static quantization (QDQ): int8 weights and activations, with ranges from calibration data.

    The first ``calibration_samples`` of the scenario's ``data.calibration`` are run through the float graph. ``method`` chooses how
    ranges are cut: minmax, entropy or percentile. ``exclude`` names nodes, ``operators`` limits operator types. ``reduce_range`` gives
    7 bits where a CPU without VNNI would saturate.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ("calibration",)

    per_channel: bool = True
    calibration_samples: int = 128
    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    activation_type: Literal["uint8", "int8"] = "uint8"
    weight_type: Literal["int8", "uint8"] = "int8"
    reduce_range: bool = False
    operators: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Calibrate and insert Q/DQ pairs. Raises CannotMeasure without calibration data or with nothing to quantize."""
        data = context.data("calibration")
        names = [spec.name for spec in artifact.inputs]

        def work(prepared: Path, into: Path) -> None:
            from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

            types = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
            method = {
                "minmax": CalibrationMethod.MinMax,
                "entropy": CalibrationMethod.Entropy,
                "percentile": CalibrationMethod.Percentile,
            }[self.method]
            quantize_static(
                prepared,
                into,
                Reader(data, names, min(self.calibration_samples, data.count)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(self.operators) or None,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                activation_type=types[self.activation_type],
                weight_type=types[self.weight_type],
                nodes_to_exclude=list(self.exclude),
                calibrate_method=method,
            )

        return _ort_quantization.quantize("quantize_static", artifact, context, self.model_dump_json(), self.exclude, work)


class Reader:
    """Hands calibration batches to ONNX Runtime under the graph's input names, then None (its ``CalibrationDataReader``).

    Batches are of one size, at most ``batch``: the histograms of ``entropy`` and ``percentile`` refuse a last one that is shorter.
    """

    def __init__(self, data: Dataset, names: list[str], count: int, batch: int = 16) -> None:
        self.data = data
        self.names = names
        self.count = count
        self.batch = next(size for size in range(batch, 0, -1) if count % size == 0)
        self.start = 0

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        if self.start >= self.count:
            return None
        batch = self.data.batch(self.start, self.batch)
        self.start += self.batch
        return dict(zip(self.names, batch.values(), strict=True)) if len(self.names) == 1 else batch


PLUGIN = QuantizeStatic
