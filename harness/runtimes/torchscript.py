"""See TorchScriptRuntime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session
from harness.runtimes.torch import TorchSession, device_of

if TYPE_CHECKING:
    import torch


class ScriptSession(TorchSession):
    """A TorchScript module. What it tells of itself is the graph that its executor has run last, fused as it was."""

    def __init__(self, module: torch.nn.Module, device: torch.device, dtype: torch.dtype, precision: str, optimized: bool) -> None:
        super().__init__(module, device, dtype, channels_last=False)
        self.precision = precision
        self.optimized = optimized

    @property
    def facts(self) -> SessionFacts:
        import torch

        from harness.formats import precision, torchscript

        counts = torchscript.nodes(torch.jit.last_executed_optimized_graph())
        groups, onednn = counts["prim::oneDNNFusionGroup"], sum(count for kind, count in counts.items() if "mkldnn" in kind.lower())
        details = [f"{torchscript.operators(counts)} operators in the executed graph"]
        details += [f"{groups} oneDNN Graph fusions"] if groups else []
        details += [f"{onednn} oneDNN nodes"] if onednn else []
        details += ["optimized for inference when it was opened"] if self.optimized else []
        if self.device.type == "cpu":
            warnings = (precision.emulation(name) for name in ("bfloat16", "float16") if name in self.precision)
            details += [warning for warning in warnings if warning is not None]
        return SessionFacts(str(self.device), self.precision, torch.get_num_threads(), tuple(details))


class TorchScriptRuntime(Options):
    """TorchScript, frozen and optimized for inference when it is opened. Options: ``optimize_for_inference`` and ``onednn_fusion``.

    The optimization belongs to the load time. The executor records shapes in its first calls and compiles then: they are the first call
    and the warm-up, never timed queries. ``onednn_fusion`` lets oneDNN Graph fuse operators on a CPU (float32 only). The runtime ``torch``
    opens the same files as they are. On CUDA it is unverified.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torchscript",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    optimize_for_inference: bool = True
    onednn_fusion: bool = False

    def imports(self, artifact: ModelArtifact) -> tuple[str, ...]:
        return ("torch",)

    def preload(self, artifact: ModelArtifact) -> None:
        from harness import plugins

        plugins.require("torch", plugin="torchscript", extra="torch")
        import torch  # noqa: F401 - imported so that its memory and time are not the model's

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """The module, optimized. Raises CannotMeasure when torch cannot optimize it, or fusion is asked for away from a CPU."""
        import torch

        from harness.formats import precision, torchscript

        target = device_of(device)
        if self.onednn_fusion and target.type != "cpu":
            raise CannotMeasure(f"'onednn_fusion' fuses on a CPU and '{device.name}' was asked for", hint="leave the option out")
        before = torch.jit.onednn_fusion_enabled()
        with torchscript.quietly():
            torch.jit.enable_onednn_fusion(self.onednn_fusion)
            try:
                module = torchscript.load(artifact.path).to(target)
                told, dtype = _precision_of(module), precision.input_dtype(module)
                if self.optimize_for_inference:
                    module = _optimized(module)
                yield ScriptSession(module, target, dtype, told, self.optimize_for_inference)
            finally:
                torch.jit.enable_onednn_fusion(before)


def _optimized(module: torch.nn.Module) -> torch.nn.Module:
    import torch

    try:
        optimized: torch.nn.Module = torch.jit.optimize_for_inference(module)
    except RuntimeError as error:
        reason = (str(error).strip() or "no message").splitlines()[-1]
        hint = "open it as it is: torchscript: {optimize_for_inference: false}"
        raise CannotMeasure(f"torch cannot optimize this file for inference: {reason}", hint=hint) from error
    return optimized


def _precision_of(module: torch.nn.Module) -> str:
    """The dtypes of a module's weights, parameters or constants of a frozen graph."""
    from collections import Counter

    from harness.formats import torchscript

    sizes = Counter({name: count for name, count in torchscript.constants(module.inlined_graph).items() if "float" in name})
    for parameter in module.parameters():
        sizes[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    total = sum(sizes.values())
    return " + ".join(f"{name} ({count / total:.0%})" if len(sizes) > 1 else name for name, count in sizes.most_common()) or "no parameters"


PLUGIN = TorchScriptRuntime
