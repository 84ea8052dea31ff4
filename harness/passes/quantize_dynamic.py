"""See QuantizeDynamic."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _onnx_loss, _ort_quantization


class QuantizeDynamic(Options):
    """ONNX Runtime dynamic quantization: int8 weights, activations quantized in every call. Good for transformers.

    ``operators`` limits the operator types; ``exclude_operators`` (types) and ``exclude`` (names) stay in float. ``symmetric_weight`` puts
    zero in the middle of a weight's range; the default is yes for int8 and no for uint8. ``reduce_range`` gives 7 bits where a CPU without
    VNNI would saturate. ``debug`` writes quantization_loss.json beside the model: what each weight loses, the worst first. Convolutions
    become ConvInteger, which is slow on most CPUs: prefer quantize_static for convolutional nets.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ()

    per_channel: bool = False
    reduce_range: bool = False
    weight_type: Literal["int8", "uint8"] = "int8"
    symmetric_weight: bool | None = None
    operators: tuple[str, ...] = ()
    exclude_operators: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    debug: bool = False

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Quantize the weights. Raises CannotMeasure when the graph has nothing to quantize."""

        def work(prepared: Path, excluded: list[str], into: Path) -> list[str]:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                prepared,
                into,
                op_types_to_quantize=list(self.operators) or None,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8 if self.weight_type == "int8" else QuantType.QUInt8,
                nodes_to_exclude=[*excluded, *(f"{node}_MatMul" for node in excluded)],  # what it makes of a Gemm before it looks
                extra_options={} if self.symmetric_weight is None else {"WeightSymmetric": self.symmetric_weight},
            )
            return []

        def losses(prepared: Path, into: Path) -> list[_onnx_loss.Loss]:
            return _onnx_loss.losses(prepared, into, None)

        quantizing = _ort_quantization.Quantizing("quantize_dynamic", self.model_dump_json(), self.exclude, self.exclude_operators)
        return _ort_quantization.quantize(quantizing, artifact, context, work, losses if self.debug else None)


PLUGIN = QuantizeDynamic
