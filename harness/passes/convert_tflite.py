"""See ConvertTflite."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _tflite_conversion
from harness.passes._tflite_conversion import Conversion, Element, Graph, Quantization

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from harness.formats.tflite import Operator

COMPARED = 64
"""Evaluation samples that the converted model and the one that it was made of both answer."""


class _Needs:
    """Calibration data are needed for ``quantization: int8`` alone: an instance says what its options need, the class all it may read."""

    def __get__(self, options: ConvertTflite | None, kind: type[ConvertTflite]) -> tuple[DataRole, ...]:
        return ("evaluation", "calibration") if options is None or options.quantization == "int8" else ("evaluation",)


class ConvertTflite(Options):
    """Convert a Keras model or a SavedModel to TFLite, in float or quantized.

    ``quantization``: none keeps float32; dynamic stores large kernels in int8 and quantizes activations in every call; float16 stores
    weights in 16 bits and computes in float32; int8 quantizes weights and activations with ranges from the first ``calibration_samples``
    of data.calibration; qat takes the ranges that ``tfmot_quantize`` trained. With int8 and qat an operator that stays in float is
    refused unless ``allow_float``; ``inference_input_type`` and ``inference_output_type`` make inputs and outputs integers too. ``sparse``
    stores kernels that are mostly zeros without them. ``batch_size`` fixes the batch axis. In float, the converted model may differ from
    its model by ``tolerance`` (on outputs of ordinary size).
    """

    extra: ClassVar[str | None] = "tensorflow"
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "ai-edge-litert")
    accepts: ClassVar[tuple[str, ...]] = ("keras_model", "saved_model")
    produces: ClassVar[str] = "tflite"
    needs: ClassVar[_Needs] = _Needs()

    quantization: Quantization = "none"
    calibration_samples: int = Field(128, ge=1)
    allow_float: bool = False
    inference_input_type: Element = "float32"
    inference_output_type: Element = "float32"
    sparse: bool = False
    batch_size: int | None = Field(None, ge=1)
    tolerance: float = Field(1e-3, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> ConvertTflite:
        whole = self.quantization in ("int8", "qat")
        if not whole and (self.inference_input_type, self.inference_output_type) != ("float32", "float32"):
            raise ValueError("integer inputs and outputs need 'quantization: int8' or 'qat'")
        if not whole and self.allow_float:
            raise ValueError("'allow_float' is about 'quantization: int8' and 'qat': others leave operators in float anyway")
        return self

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Convert, look into the file, compare. Raises CannotMeasure, naming operators and layers, when it is not what was asked for."""
        from harness import plugins
        from harness.formats import tensorflow_package, tflite

        for package in ("tensorflow", "tf_keras", "ai_edge_litert"):
            plugins.require(package, plugin="convert_tflite", extra="tensorflow")
        tensorflow_package.framework()
        tensorflow_package.repeatable(context.seed)
        graph = Graph(artifact, self.batch_size)
        self._check_training(graph.trained_for_int8)
        samples, notes = _tflite_conversion.samples_of(context.data("evaluation"), graph.names, 1), []
        if self.quantization == "int8":
            data = context.data("calibration")
            samples = _tflite_conversion.samples_of(data, graph.names, self.calibration_samples)
            notes.append(f"ranges from {min(self.calibration_samples, data.count)} calibration samples")
        wanted = Conversion(self.quantization, self.sparse, self.allow_float, self.inference_input_type, self.inference_output_type)
        (context.folder / tflite.MAIN).write_bytes(graph.converted(wanted, samples, context.folder))
        if (self.inference_input_type, self.inference_output_type) != ("float32", "float32"):
            notes.append(f"the model takes {self.inference_input_type} and gives {self.inference_output_type}")
        made = tflite.describe(context.folder, (), graph.outputs)
        every = tflite.operators(tflite.opened(made.path))
        told = [self._operators(every), self._weights(made.path), *notes, self._agreement(graph, made, context.data("evaluation"))]
        return dataclasses.replace(made, steps=(*artifact.steps, AppliedStep("convert_tflite", self.model_dump_json(), tuple(told))))

    def _check_training(self, trained_for_int8: bool) -> None:
        if self.quantization == "qat" and not trained_for_int8:
            hint = "put 'tfmot_quantize' before it, or take 'quantization: int8', which takes ranges from data.calibration"
            raise CannotMeasure(
                "'quantization: qat' takes the ranges of a model that was trained for int8, and this one was not", hint=hint
            )
        if trained_for_int8 and self.quantization != "qat":
            raise CannotMeasure(
                f"this model was trained for int8, and 'quantization: {self.quantization}' would not keep its ranges",
                hint="write 'convert_tflite: {quantization: qat}'",
            )

    def _operators(self, every: tuple[Operator, ...]) -> str:
        """What the operators compute in. Raises CannotMeasure when some stay in float that were to be int8, or nothing was quantized."""
        from harness.formats import tflite

        compute = [operator for operator in every if operator.kind in tflite.COMPUTE]
        whole = [operator for operator in compute if operator.precision in ("int8", "dynamic int8")]
        left = tflite.left_in_float(every)
        if self.quantization in ("int8", "qat") and left and not self.allow_float:
            hint = "'allow_float: true' leaves them in float, with conversions around them"
            raise CannotMeasure(f"{len(left)} of {len(every)} operators stay in float: {_tflite_conversion.told(left)}", hint=hint)
        if self.quantization in ("int8", "dynamic", "qat") and not whole:
            small = "kernels under 1,024 weights stay in float in 'quantization: dynamic'" if self.quantization == "dynamic" else None
            raise CannotMeasure(f"'quantization: {self.quantization}' left every operator with weights in float", hint=small)
        told = f"{len(every)} operators"
        if self.quantization in ("int8", "qat"):
            return f"{told}, {len(whole)} of {len(compute)} with weights in int8" + (
                f"; in float: {_tflite_conversion.told(left)}" if left else ", none in float"
            )
        if self.quantization == "dynamic":
            return f"{told}, {len(whole)} of {len(compute)} with weights in int8, activations quantized in every call"
        return f"{told}, {len(compute)} with weights"

    def _weights(self, path: Path) -> str:
        """The constants by type. Raises CannotMeasure when they are not stored as was asked for."""
        from harness.formats import tflite

        sizes = tflite.weight_bytes(path)
        if self.quantization == "float16" and not sizes["float16"] + sizes["sparse float16"]:
            raise CannotMeasure("'quantization: float16' found no weights to store in 16 bits")
        if self.sparse and not any(kind.startswith("sparse") for kind in sizes):
            hint = "prune first, with tfmot_prune_magnitude, to half of the weights or more"
            raise CannotMeasure("'sparse' found no kernel with zeros enough to leave out", hint=hint)
        return "constants " + ", ".join(f"{kind} {size:,} bytes" for kind, size in sizes.most_common(4))

    def _agreement(self, graph: Graph, made: ModelArtifact, data: Dataset) -> str:
        """What the converted model answers beside its model. Raises CannotMeasure when it is another, in float."""
        import numpy as np

        size = self.batch_size or min(COMPARED, data.count)
        batch = data.batch(0, size)
        expected, got = graph.answer(batch), _answer(made, batch, graph.outputs[0])
        if expected.shape != got.shape:
            raise CannotMeasure(f"the converted model answers in the shape {list(got.shape)}, its model in {list(expected.shape)}")
        wide = np.asarray(expected, dtype=np.float64)
        worst = float(np.max(np.abs(wide - got)) / max(1.0, float(np.abs(wide).max())))
        if not worst <= (self.tolerance if self.quantization == "none" else np.inf):
            hint = "raise convert_tflite's 'tolerance' if that is fine for this model's outputs"
            raise CannotMeasure(f"the converted model differs from its model by {worst:.3g}, more than {self.tolerance:g}", hint=hint)
        if expected.ndim != 2 or expected.shape[1] == 1:
            return f"largest difference {worst:.2g} on {size} evaluation samples"
        same = int((expected.argmax(axis=1) == got.argmax(axis=1)).sum())
        return f"largest difference {worst:.2g}, the same highest output for {same} of {size} evaluation samples"


def _answer(made: ModelArtifact, batch: dict[str, NDArray[np.generic]], output: str) -> NDArray[np.float64]:
    """The converted model's principal output, in float, without any delegate."""
    from harness.formats import tflite

    interpreter = tflite.opened(made.path, delegates=False)
    inputs, outputs = tflite.tensors(interpreter)
    named = {next(iter(inputs)): next(iter(batch.values()))} if len(batch) == 1 else batch
    for name, values in named.items():
        interpreter.resize_tensor_input(inputs[name], values.shape)
    interpreter.allocate_tensors()
    for name, values in named.items():
        interpreter.set_tensor(inputs[name], tflite.quantized(values, tflite.scale_of(interpreter, inputs[name])))
    interpreter.invoke()
    index = outputs[output]
    return tflite.dequantized(interpreter.get_tensor(index), tflite.scale_of(interpreter, index)).astype("float64")


PLUGIN = ConvertTflite
