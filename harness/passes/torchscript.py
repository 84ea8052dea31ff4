"""See TorchScript."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _torch_layers as layers

if TYPE_CHECKING:
    import torch


class TorchScript(Options):
    """Compile a torch module to TorchScript by tracing (or scripting), and freeze it.

    ``method: script`` compiles the source instead of tracing a call, for models with branches on their data. ``freeze`` folds weights into
    the graph and batch norms into convolutions. ``optimize_for_inference`` goes further; what it makes can often not be saved, and the
    runtime ``torchscript`` does the same when it opens the file. The result is called at two other batch sizes than the traced one; a
    difference beyond ``tolerance`` (relative to the largest output; by default 0.001, and 0.05 in half precision) is refused. TorchScript
    is deprecated upstream and still works.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torchscript"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    method: Literal["trace", "script"] = "trace"
    freeze: bool = True
    optimize_for_inference: bool = False
    tolerance: float | None = None

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Compile, freeze, compare, save. Raises CannotMeasure when a step fails or the answers differ."""
        from harness import plugins
        from harness.formats import torch_module, torchscript

        plugins.require("torch", plugin="torchscript", extra="torch")
        import torch

        module = torch_module.load(artifact)
        data = context.data("evaluation")
        with torchscript.quietly():
            scripted, doubts = self._compile(module, data)
            stages = [scripted.inlined_graph]
            if self.freeze or self.optimize_for_inference:
                scripted = torch.jit.freeze(scripted)
                stages.append(scripted.graph)
            if self.optimize_for_inference:
                scripted = torch.jit.optimize_for_inference(scripted)
                stages.append(scripted.graph)
        notes = (*self._told([torchscript.nodes(graph) for graph in stages]), *doubts)
        outputs = torch_module.call(module, layers.tensors(data, 2))
        try:
            made = torchscript.save(scripted, context.folder, example=data, outputs=outputs, steps=())
            opened = torchscript.load(made.path)
        except RuntimeError as error:
            optimized = "after optimize_for_inference " if self.optimize_for_inference else ""
            raise CannotMeasure(
                f"{optimized}torch cannot save this module and open it again: {_last_line(error)}",
                hint="leave optimize_for_inference to the runtime 'torchscript', which does it when it opens the file"
                if optimized
                else None,
            ) from error
        worst = self._largest_difference(module, opened, data)
        tolerance = self.tolerance if self.tolerance is not None else (0.05 if layers.computes_in_half(module) else 1e-3)
        if not worst <= tolerance:
            raise CannotMeasure(
                f"the compiled graph differs from the module by {worst:.3g} of the largest output, more than {tolerance:g}",
                hint="a trace holds what one call did: use torchscript: {method: script}, or raise 'tolerance' if that is fine here",
            )
        step = AppliedStep("torchscript", self.model_dump_json(), (*notes, f"largest difference {worst:.2g} at batch sizes 1 and 3"))
        return dataclasses.replace(made, steps=(*artifact.steps, step))

    def _compile(self, module: torch.nn.Module, data: Dataset) -> tuple[torch.jit.ScriptModule, list[str]]:
        """The compiled module, and what the tracer warned about."""
        import torch

        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                if self.method == "script":
                    return torch.jit.script(module), []
                layers.give_plain_outputs(module)
                inputs = layers.fitting_tensors(module, data, 2)
                single = len(inputs) == 1
                example = {"example_inputs": tuple(inputs.values())} if single else {"example_kwarg_inputs": inputs}
                with torch.no_grad():
                    traced = torch.jit.trace(module, strict=False, check_trace=False, **example)
            except Exception as error:  # what the model's code and the compiler raise shares no base class below Exception
                hint = "use the other method" if self.method == "script" else "try torchscript: {method: script}, or the pass torch_compile"
                raise CannotMeasure(f"torch.jit.{self.method} cannot compile this module: {layers.first_line(error)}", hint=hint) from error
        doubts = [str(one.message) for one in heard if issubclass(one.category, torch.jit.TracerWarning)]
        return traced, [f"{len(doubts)} warnings of the tracer, the first: {doubts[0].splitlines()[0]}"] if doubts else []

    def _largest_difference(self, module: torch.nn.Module, scripted: torch.nn.Module, data: Dataset) -> float:
        """At batch sizes that were not traced, on other samples. A graph that does not take them is refused here."""
        worst = []
        for start, size in ((2, 1), (3, 3)):
            inputs = layers.fitting_tensors(module, data, size, start)
            expected = layers.answers(module, inputs)
            try:
                worst.append(layers.difference(expected, layers.answers(scripted, inputs)))
            except layers.FAILURES as error:
                raise CannotMeasure(
                    f"the compiled graph does not take a batch of {size}: {_last_line(error)}",
                    hint="a trace holds the batch size where the model computes with it: use torchscript: {method: script}",
                ) from error
        return max(worst, key=lambda value: float("inf") if value != value else value)

    def _told(self, stages: list[dict[str, int]]) -> list[str]:
        from harness.formats import torchscript

        names = ("in the graph", "after freezing", "after optimize_for_inference")
        every = zip(stages, names, strict=False)
        told = ["; ".join(f"{torchscript.operators(one)} operators, {sum(one.values())} nodes {name}" for one, name in every)]
        folded = stages[0].get("aten::batch_norm", 0) - stages[-1].get("aten::batch_norm", 0)
        if folded:
            told.append(f"{folded} of {stages[0]['aten::batch_norm']} batch norms folded into convolutions")
        if fused := sum(count for kind, count in stages[-1].items() if "mkldnn" in kind.lower()):
            told.append(f"{fused} oneDNN nodes")
        return told


def _last_line(error: BaseException) -> str:
    """TorchScript puts the reason at the end, below the code that it was found in."""
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]


PLUGIN = TorchScript
