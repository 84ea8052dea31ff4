"""See QuantizeDynamic."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _ort_quantization


class QuantizeDynamic(Options):
    """ONNX Runtime dynamic quantization: int8 weights, activations quantized in every call. Good for transformers.

    ``operators`` limits the operator types, ``exclude`` names nodes to leave in float. Convolutions become ConvInteger, which is slow on
    most CPUs: prefer quantize_static for convolutional nets.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ()

    per_channel: bool = False
    reduce_range: bool = False
    weight_type: Literal["int8", "uint8"] = "int8"
    operators: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Quantize the weights. Raises CannotMeasure when the graph has nothing to quantize."""

        def work(prepared: Path, into: Path) -> None:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                prepared,
                into,
                op_types_to_quantize=list(self.operators) or None,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8 if self.weight_type == "int8" else QuantType.QUInt8,
                nodes_to_exclude=[*self.exclude, *(f"{node}_MatMul" for node in self.exclude)],  # what it makes of a Gemm before it looks
            )

        return _ort_quantization.quantize("quantize_dynamic", artifact, context, self.model_dump_json(), self.exclude, work)


PLUGIN = QuantizeDynamic
