"""See ExportOnnx."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, ClassVar

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options

if TYPE_CHECKING:
    import onnx
    import torch


class ExportOnnx(Options):
    """Export a torch module to ONNX through torch.export, with a dynamic batch axis.

    The exported graph is run against the module on evaluation samples at two batch sizes; a difference beyond ``tolerance`` (absolute, on
    outputs of ordinary size) is refused.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    opset: int | None = None
    tolerance: float = 1e-3

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Export, fold the weights into one file (under 2 GB), check. Raises CannotMeasure when export or check fails."""
        from harness import plugins
        from harness.formats import onnx_model, torch_module

        for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
            plugins.require(package, plugin="export_onnx", extra="onnx")
        import onnx

        module = torch_module.load(artifact)
        if quantized := torch_module.quantized_layers(module):
            raise CannotMeasure(
                f"layer '{next(iter(quantized))}' is quantized by torch and cannot be exported",
                hint="export first, then quantize_dynamic or quantize_static",
            )
        data = context.data("evaluation")
        path = context.folder / onnx_model.MAIN
        _export(module, data, str(path), self.opset)
        model = onnx.load(path)
        for leftover in context.folder.glob("*.data"):
            leftover.unlink()
        _put_first(model, _before_principal(module, data))
        onnx_model.forget_places(model)
        onnx_model.save(model, context.folder, artifact.steps)
        worst = _largest_difference(module, str(path), data)
        if not worst <= self.tolerance:
            raise CannotMeasure(
                f"the exported graph differs from the module by {worst:.3g}, more than {self.tolerance:g}",
                hint="raise export_onnx's 'tolerance' if that is fine for this model's outputs",
            )
        counts = onnx_model.operators(model)
        told = ", ".join(f"{count} {name}" for name, count in counts.most_common(4))
        notes = (f"{sum(counts.values())} nodes ({told}), opset {model.opset_import[0].version}", f"largest difference {worst:.2g}")
        return onnx_model.describe(context.folder, (*artifact.steps, AppliedStep("export_onnx", self.model_dump_json(), notes)))


def _export(module: torch.nn.Module, data: Dataset, path: str, opset: int | None) -> None:
    import torch

    example = {name: torch.from_numpy(values[:2].copy()) for name, values in data.inputs.items()}
    batch = torch.export.Dim("batch")
    single = len(example) == 1
    arguments: dict[str, object] = (
        {"args": tuple(example.values()), "dynamic_shapes": ({0: batch},), "input_names": list(example)}
        if single
        else {"args": (), "kwargs": example, "dynamic_shapes": {name: {0: batch} for name in example}, "input_names": list(example)}
    )
    with _quiet():
        try:
            torch.onnx.export(module, f=path, dynamo=True, verbose=False, opset_version=opset, external_data=False, **arguments)
        except Exception as error:  # the exporter wraps whatever the model's code and torch.export raise
            reason = str(error.__cause__ or error).strip().splitlines()
            raise CannotMeasure(f"torch.onnx.export cannot export this module: {reason[0] if reason else type(error).__name__}") from error


def _before_principal(module: torch.nn.Module, data: Dataset) -> int:
    """How many tensors the module returns before its principal output: the graph has them in the module's order."""
    import torch
    from torch.utils._pytree import tree_leaves

    from harness.formats import torch_module

    with torch.inference_mode():
        returned = torch_module.invoke(module, {name: torch.from_numpy(values[:2].copy()) for name, values in data.inputs.items()})
    if not isinstance(returned, Mapping):
        return 0
    principal = next(iter(torch_module.flatten(returned)))
    before = tree_leaves([returned[name] for name in takewhile(lambda name: name != principal, returned)])
    return sum(isinstance(leaf, torch.Tensor) for leaf in before)


def _put_first(model: onnx.ModelProto, index: int) -> None:
    """Make the graph's output at ``index`` its first."""
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([outputs.pop(index), *outputs])


def _largest_difference(module: torch.nn.Module, path: str, data: Dataset) -> float:
    import numpy as np
    import onnxruntime
    import torch

    from harness.formats import torch_module

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors share no base class below Exception
        raise CannotMeasure(f"onnxruntime cannot open the exported graph: {str(error).splitlines()[0]}") from error
    names = [value.name for value in session.get_inputs()]
    differences = []
    for size in (1, 3):
        batch = data.batch(0, size)
        expected = torch_module.arrays(torch_module.call(module, {name: torch.from_numpy(values) for name, values in batch.items()}))[0]
        feed = dict(zip(names, batch.values(), strict=True)) if len(names) == 1 else batch
        got = np.asarray(session.run(None, feed)[0])
        scale = max(1.0, float(np.abs(expected).max()))
        difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else float("inf")
        differences.append(difference / scale)
    return float(np.max(differences))  # unlike the built-in, this one does not lose a NaN


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints and logs much that is of no use to a reader of a build log."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


PLUGIN = ExportOnnx
