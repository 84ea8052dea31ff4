"""See QuantizeStatic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _onnx_calibration, _onnx_loss, _ort_quantization
from harness.passes._onnx_calibration import Reader

DEBUG_SAMPLES = 16
"""The report of losses holds every activation of the float and of the quantized graph on this many samples in memory."""


class QuantizeStatic(Options):
    """ONNX Runtime static quantization (QDQ): int8 weights and activations, with ranges from calibration data.

    The first ``calibration_samples`` of the scenario's ``data.calibration`` are run through the float graph. ``method`` chooses how
    ranges are cut: minmax keeps all, percentile keeps that share of the values of each tensor, entropy cuts where the rounded histogram
    stays nearest to the whole one (Kullback-Leibler; slow, and slower with more bins). Both count in ``num_bins`` bins.
    ``symmetric_activation`` puts zero in the middle of the range (with activation_type int8: no zero point to subtract), and so
    ``symmetric_weight`` for weights, where the default is yes for int8 and no for uint8. ``operators`` limits operator types;
    ``exclude_operators`` (types) and ``exclude`` (names) stay in float. ``reduce_range`` gives 7 bits where a CPU without VNNI would
    saturate. ``debug`` writes quantization_loss.json beside the model: what each weight and activation loses, the worst first.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ("calibration",)

    per_channel: bool = True
    calibration_samples: Annotated[int, Field(gt=0)] = 128
    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    num_bins: Annotated[int, Field(ge=256)] = 2048
    activation_type: Literal["uint8", "int8"] = "uint8"
    weight_type: Literal["int8", "uint8"] = "int8"
    symmetric_activation: bool = False
    symmetric_weight: bool | None = None
    reduce_range: bool = False
    operators: tuple[str, ...] = ()
    exclude_operators: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    debug: bool = False

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Calibrate and insert Q/DQ pairs. Raises CannotMeasure without calibration data or with nothing to quantize."""
        data = context.data("calibration")
        names = [spec.name for spec in artifact.inputs]

        def work(prepared: Path, excluded: list[str], into: Path) -> list[str]:
            return self._quantize(prepared, excluded, into, Reader(data, names, min(self.calibration_samples, data.count)))

        def losses(prepared: Path, into: Path) -> list[_onnx_loss.Loss]:
            samples = min(DEBUG_SAMPLES, self.calibration_samples, data.count)
            return _onnx_loss.losses(prepared, into, lambda: Reader(data, names, samples))

        quantizing = _ort_quantization.Quantizing("quantize_static", self.model_dump_json(), self.exclude, self.exclude_operators)
        return _ort_quantization.quantize(quantizing, artifact, context, work, losses if self.debug else None)

    def _quantize(self, prepared: Path, excluded: list[str], into: Path, reader: Reader) -> list[str]:
        """What the library's own ``quantize_static`` does, but for the calibrator's options."""
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import load_model_with_shape_infer, update_opset_version
        from onnxruntime.quantization.quantize import check_static_quant_arguments
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        types = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
        activations, weights = types[self.activation_type], types[self.weight_type]
        check_static_quant_arguments(QuantFormat.QDQ, activations, weights)
        model = update_opset_version(load_model_with_shape_infer(prepared), weights)
        updated = prepared.with_name("updated.onnx")
        onnx.save(model, updated)
        operators = sorted({*(self.operators or {**QLinearOpsRegistry, **QDQRegistry})} - {*self.exclude_operators})
        found = _onnx_calibration.ranges(updated, operators, reader, self.method, self.percentile, self.num_bins, self.symmetric_activation)
        extra: dict[str, object] = {"ActivationSymmetric": self.symmetric_activation}
        if self.symmetric_weight is not None:
            extra["WeightSymmetric"] = self.symmetric_weight
        quantizer = QDQQuantizer(model, self.per_channel, self.reduce_range, weights, activations, found, [], excluded, operators, extra)
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(into, False)
        how = {"minmax": "", "percentile": f" {self.percentile:g} over {self.num_bins} bins", "entropy": f" over {self.num_bins} bins"}
        return [f"ranges of {len(list(found))} tensors by {self.method}{how[self.method]} from {reader.count} samples"]


PLUGIN = QuantizeStatic
