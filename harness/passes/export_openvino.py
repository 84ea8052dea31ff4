"""See ExportOpenvino."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _openvino_check
from harness.passes._openvino_check import Answer, Batch

if TYPE_CHECKING:
    import numpy as np
    import openvino
    import torch
    from numpy.typing import NDArray


class ExportOpenvino(Options):
    """Convert a torch module or an ONNX graph to OpenVINO's intermediate representation.

    A torch module goes through torch.export: a branch on the data is refused, where tracing would take one side for good. The converted
    graph runs in float32 against what it was made of; a difference beyond ``tolerance`` (on outputs of ordinary size) is refused.
    ``batch_size`` fixes the batch axis, which is open otherwise. ``compress_to_fp16`` stores float weights in 16 bits; OpenVINO's own
    converter does so by default, which this pass does not: it changes the model.
    """

    extra: ClassVar[str | None] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino", "torch")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module", "onnx")
    produces: ClassVar[str] = "openvino"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    compress_to_fp16: bool = False
    batch_size: int | None = Field(default=None, ge=1)
    tolerance: float = 1e-3

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Convert, check, write. Raises CannotMeasure when the converter does not know the model or what it gives is another."""
        from harness import plugins
        from harness.formats import openvino_model

        plugins.require("openvino", plugin="export_openvino", extra="openvino")
        data = context.data("evaluation")
        convert = _from_torch if artifact.format == "torch_module" else _from_onnx
        model, expected, names = convert(artifact, data)
        self._set_shapes(model, artifact)
        sizes = (1, 3) if self.batch_size is None else (self.batch_size,)
        worst = _worst(expected, _openvino_check.answer_of(model), data, sizes)
        if not worst <= self.tolerance:
            raise CannotMeasure(
                f"the converted graph differs from its model by {worst:.3g}, more than {self.tolerance:g}",
                hint="raise export_openvino's 'tolerance' if that is fine for this model's outputs",
            )
        counts = openvino_model.operators(model)
        told = ", ".join(f"{count} {kind}" for kind, count in counts.most_common(4))
        notes = [f"{sum(counts.values())} operators ({told})", f"largest difference {worst:.2g}"]
        made = openvino_model.save(model, context.folder, (), half=self.compress_to_fp16, names=names)
        saved = openvino_model.read(made.path)
        sizes_by_type = openvino_model.weight_bytes(saved)
        notes.append("weights " + ", ".join(f"{kind} {size:,} bytes" for kind, size in sizes_by_type.most_common(3)))
        if self.compress_to_fp16:
            if not sizes_by_type["f16"]:
                raise CannotMeasure("'compress_to_fp16' found no float32 weights to compress in this graph", hint="leave it out")
            after = _worst(expected, _openvino_check.answer_of(saved), data, sizes)
            notes.append(f"largest difference {after:.2g} with weights in 16 bits")
        step = AppliedStep("export_openvino", self.model_dump_json(), tuple(notes))
        return openvino_model.describe(context.folder, (*artifact.steps, step))

    def _set_shapes(self, model: openvino.Model, artifact: ModelArtifact) -> None:
        """The converter leaves axes open that torch.export has fixed: set them as the model has them, and the batch axis as asked."""
        from harness.formats import openvino_model

        shapes = {}
        for spec, value in zip(artifact.inputs, model.inputs, strict=True):
            batch = (self.batch_size,) if self.batch_size is not None and spec.shape else spec.shape[:1]
            shapes[value] = [-1 if length is None else length for length in (*batch, *spec.shape[1:])]
        try:
            model.reshape(shapes)
        except RuntimeError as error:
            said = openvino_model.reason(error)
            raise CannotMeasure(f"the graph cannot be given the batch size {self.batch_size}: {said}") from error


def _from_torch(artifact: ModelArtifact, data: Dataset) -> tuple[openvino.Model, Answer, frozenset[str]]:
    """A model with the module's inputs by name and its outputs with the principal one first; and the module itself, to compare."""
    from harness import plugins
    from harness.formats import openvino_model, torch_module

    plugins.require("torch", plugin="export_openvino", extra="torch")
    import torch

    module = torch_module.load(artifact)
    if quantized := torch_module.quantized_layers(module):
        raise CannotMeasure(
            f"layer '{next(iter(quantized))}' is quantized by torch and cannot be converted",
            hint="convert first, then quantize_nncf",
        )
    names = [spec.name for spec in artifact.inputs]
    example = tuple(torch.from_numpy(data.inputs[name][:2].copy()) for name in names)
    axes = {"inputs": tuple({0: torch.export.Dim("batch")} for _ in example)}
    with _openvino_check.quiet():
        try:
            program = torch.export.export(_by_position(module, names), example, dynamic_shapes=axes)
            model = openvino_model.framework().convert_model(program)
        except Exception as error:  # torch.export and the converter wrap whatever the model's code raises
            said = openvino_model.reason(error)
            raise CannotMeasure(f"this module cannot be converted to OpenVINO: {said}") from error
    for kind, values, specs in (("inputs", model.inputs, artifact.inputs), ("outputs", model.outputs, artifact.outputs)):
        if len(values) != len(specs):
            raise CannotMeasure(f"the converted graph has {len(values)} {kind}, its module has {len(specs)}")
        for value, spec in zip(values, specs, strict=True):
            value.get_tensor().set_names({spec.name})
    for value, name in zip(model.inputs, names, strict=True):
        value.get_node().set_friendly_name(name)

    def answer(batch: Batch) -> NDArray[np.generic]:
        return torch_module.arrays(torch_module.call(module, {name: torch.from_numpy(values) for name, values in batch.items()}))[0]

    return model, answer, frozenset(names)


def _by_position(module: torch.nn.Module, names: list[str]) -> torch.nn.Module:
    """A module that takes its inputs by position and as the data has them, and gives a tuple of tensors, the principal one first."""
    import torch

    from harness.formats import torch_module
    from harness.formats.precision import input_dtype

    dtype = input_dtype(module)

    class ByPosition(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            cast = [value.to(dtype) if value.is_floating_point() else value for value in inputs]
            return tuple(torch_module.flatten(torch_module.invoke(self.module, dict(zip(names, cast, strict=True)))).values())

    return ByPosition().eval()


def _from_onnx(artifact: ModelArtifact, data: Dataset) -> tuple[openvino.Model, Answer, frozenset[str]]:
    """A model of an ONNX file under the file's own names, and ONNX Runtime on the same file, to compare."""
    from harness import plugins
    from harness.formats import openvino_model

    for package in ("onnx", "onnxruntime"):
        plugins.require(package, plugin="export_openvino", extra="onnx")
    import numpy as np
    import onnx
    import onnxruntime

    with _openvino_check.quiet():
        try:
            model = openvino_model.framework().convert_model(artifact.path)
        except Exception as error:  # the converter's errors share no base class below Exception
            raise CannotMeasure(f"this graph cannot be converted to OpenVINO: {openvino_model.reason(error)}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(artifact.path), options, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]

    def answer(batch: Batch) -> NDArray[np.generic]:
        feed = dict(zip(inputs, batch.values(), strict=True)) if len(inputs) == 1 else dict(batch)
        return np.asarray(session.run(None, feed)[0])

    graph = onnx.load(artifact.path, load_external_data=False).graph
    names = {node.name for node in graph.node} | {tensor.name for tensor in graph.initializer}
    return model, answer, frozenset(names.union(*(node.output for node in graph.node), inputs))


def _worst(expected: Answer, got: Answer, data: Dataset, sizes: tuple[int, ...]) -> float:
    """The largest difference over the first evaluation samples, in batches of these sizes."""
    import numpy as np

    batches = [data.batch(0, size) for size in sizes]
    return float(np.max([_openvino_check.difference(expected(batch), got(batch)) for batch in batches]))  # keeps a NaN


PLUGIN = ExportOpenvino
