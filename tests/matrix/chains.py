"""How each pass is used alone: the passes before it that it cannot do without, small options, and the runtime that opens what it makes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chain:
    """A recipe. ``elsewhere`` says why it needs another environment than the one that has everything else."""

    passes: tuple[str | dict[str, object], ...]
    runtime: str | dict[str, object]
    elsewhere: str | None = None

    @property
    def recipe(self) -> dict[str, object]:
        return {"passes": list(self.passes), "runtime": self.runtime}


TENSORFLOW = "the extra 'tensorflow' has an environment of its own"
QUICK = {"steps": 12, "batch_size": 16, "learning_rate": 0.003}
ALONE = {
    "autocast": Chain(("autocast",), "torch"),
    "bfloat16": Chain(("bfloat16",), "torch"),
    "build_tensorrt": Chain(("export_onnx", "build_tensorrt"), "tensorrt", "TensorRT needs an NVIDIA GPU and its own libraries"),
    "convert_tflite": Chain(("convert_tflite",), "litert", TENSORFLOW),
    "distill": Chain(({"distill": {"student": "models/student.py:build", **QUICK, "steps": 60}},), "torch"),
    "export_onnx": Chain(("export_onnx",), "onnxruntime"),
    "export_openvino": Chain(("export_openvino",), "openvino"),
    "finetune": Chain(({"finetune": QUICK},), "torch"),
    "float16": Chain(("float16",), "torch"),
    # export_onnx leaves nothing to fold; quantize_dynamic does, where there are convolutions
    "fold_constants": Chain(("export_onnx", "quantize_dynamic", "fold_constants"), "onnxruntime"),
    "fuse_transformer": Chain(("export_onnx", "fuse_transformer"), "onnxruntime"),
    "onnx_float16": Chain(("export_onnx", "onnx_float16"), "onnxruntime"),
    "optimize_onnx": Chain(("export_onnx", "optimize_onnx"), "onnxruntime"),
    "prune_channels": Chain(({"prune_channels": {"ratio": 0.25}},), "torch"),
    "prune_heads": Chain(({"prune_heads": {"ratio": 0.25}},), "torch"),
    "prune_magnitude": Chain(({"prune_magnitude": {"amount": 0.3}},), "torch"),
    "prune_semi_structured": Chain(("prune_semi_structured",), "torch"),
    "pt2e_static_int8": Chain(({"pt2e_static_int8": {"calibration_samples": 16}},), "torch"),
    "qat": Chain(({"qat": {**QUICK, "calibration_samples": 16}},), "torch"),
    "quantize_dynamic": Chain(("export_onnx", "quantize_dynamic"), "onnxruntime"),
    "quantize_nncf": Chain(("export_openvino", {"quantize_nncf": {"calibration_samples": 32}}), "openvino"),
    "quantize_static": Chain(("export_onnx", {"quantize_static": {"calibration_samples": 16}}), "onnxruntime"),
    "tfmot_prune_magnitude": Chain(("tfmot_prune_magnitude", "convert_tflite"), "litert", TENSORFLOW),
    "tfmot_quantize": Chain(("tfmot_quantize", "convert_tflite"), "litert", TENSORFLOW),
    "torch_compile": Chain(("torch_compile",), "torch_compile"),
    "torch_dynamic_int8": Chain(("torch_dynamic_int8",), "torch"),
    "torchao_int4_weight_only": Chain(({"torchao_int4_weight_only": {"group_size": 32}},), "torch"),
    "torchao_int8_dynamic": Chain(("torchao_int8_dynamic",), "torch"),
    "torchao_int8_weight_only": Chain(("torchao_int8_weight_only",), "torch"),
    "torchao_qat": Chain(({"torchao_qat": QUICK},), "torch"),
    "torchscript": Chain(("torchscript",), "torchscript"),
}
"""By the pass that it is about."""
