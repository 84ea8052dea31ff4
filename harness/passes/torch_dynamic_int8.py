"""See TorchDynamicInt8."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options

if TYPE_CHECKING:
    import torch


class TorchDynamicInt8(Options):
    """Classic dynamic quantization of torch: int8 weights, activations quantized in every call (CPU only).

    Reaches Linear and recurrent layers; convolutions stay in float. ``engine`` is torch's kernel library. torch.nn.TransformerEncoder's own
    fused kernel takes no int8 weights: it is switched off where a layer of it is quantized.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    engine: Literal["auto", "x86", "fbgemm", "onednn", "qnnpack"] = "auto"
    layers: tuple[Literal["Linear", "LSTM", "GRU"], ...] = ("Linear", "LSTM", "GRU")

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Replace the layers. Raises CannotMeasure when there is none to replace, naming what the module has."""
        from harness import plugins
        from harness.formats import torch_module

        plugins.require("torch", plugin="torch_dynamic_int8", extra="torch")
        import torch

        if self.engine != "auto":
            if self.engine not in torch.backends.quantized.supported_engines:
                known = ", ".join(torch.backends.quantized.supported_engines)
                raise CannotMeasure(f"this torch has no quantization engine '{self.engine}'", hint=f"it has {known}")
            torch.backends.quantized.engine = self.engine
        module = torch_module.load(artifact)
        kinds = {getattr(torch.nn, name) for name in self.layers}
        wanted = [name for name, part in module.named_modules() if type(part) in kinds]
        if before := torch_module.quantized_layers(module):
            hint = "a recipe quantizes once: keep one of its quantizing passes"
            raise CannotMeasure(f"this module is already quantized (layer '{next(iter(before))}')", hint=hint)
        if not wanted:
            found = sorted({type(part).__name__ for part in module.modules() if not list(part.children())})
            raise CannotMeasure(f"no {' or '.join(self.layers)} layer to quantize in this module", hint=f"it has {', '.join(found)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated upstream in favour of torchao, and still what the field's tutorials use
            quantized = torch.ao.quantization.quantize_dynamic(module, kinds, dtype=torch.qint8)
        done = torch_module.quantized_layers(quantized)
        every = [name for name, part in module.named_modules() if isinstance(part, tuple(kinds))]
        share = f"{len(done)} of {len(every)} layers quantized to int8"
        if kept := [name for name in every if name not in done]:  # torch goes by the exact class: a subclass stays as it is
            share += f"; in float: {', '.join(kept[:5])}{' ...' if len(kept) > 5 else ''}"
        convolutions = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
        left = sum(isinstance(part, convolutions) for part in quantized.modules())
        notes = [share, f"engine {torch.backends.quantized.engine}"]
        if left:
            notes.append(f"{left} convolutions left in float: dynamic quantization does not reach them")
        if fused := _without_fused_kernel(quantized, done):
            notes.append(f"torch's fused kernel is off in {fused} transformer encoder layers: it takes no int8 weights")
        step = AppliedStep("torch_dynamic_int8", self.model_dump_json(), tuple(notes))
        example = context.data("evaluation")
        return torch_module.save(quantized, context.folder, example=example, root=context.root, steps=(*artifact.steps, step))


def _without_fused_kernel(module: torch.nn.Module, quantized: Iterable[str]) -> int:
    """Let encoder layers with int8 weights take the path of single operators, by the attributes that torch chooses it by; how many.

    On the fused path torch reads ``linear1.weight`` as a tensor, which a quantized layer gives by a call.
    """
    import torch

    inside = {name.rpartition(".")[0] for name in quantized}
    count = 0
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.TransformerEncoderLayer) and name in inside:
            part.activation_relu_or_gelu = 0
            count += 1
    for part in module.modules():
        if count and isinstance(part, torch.nn.TransformerEncoder):
            part.use_nested_tensor = False
    return count


PLUGIN = TorchDynamicInt8
