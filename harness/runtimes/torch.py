"""See TorchRuntime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class TorchSession:
    """An eager module: ``run`` is one forward call and, on CUDA, the wait until the device has finished."""

    def __init__(self, module: torch.nn.Module, device: torch.device, dtype: torch.dtype, channels_last: bool) -> None:
        import torch

        self.module = module
        self.device = device
        self.dtype = dtype
        self.channels_last = channels_last
        self.facts = _facts(module, device)
        self._mode = torch.inference_mode
        self._synchronize = torch.cuda.synchronize if device.type == "cuda" else None

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        import torch

        prepared = {}
        for name, values in batch.items():
            tensor = torch.from_numpy(values.copy()).to(self.device)
            if tensor.is_floating_point():
                tensor = tensor.to(self.dtype)
                if self.channels_last and tensor.ndim == 4:
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
            prepared[name] = tensor
        return prepared

    def run(self, prepared: object) -> object:
        from harness.formats.torch_module import invoke

        with self._mode():
            raw = invoke(self.module, prepared)  # type: ignore[arg-type]  # what prepare gave
        if self._synchronize is not None:
            self._synchronize(self.device)
        return raw

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        from harness.formats import torch_module

        return torch_module.arrays(torch_module.flatten(raw))


class TorchRuntime(Options):
    """PyTorch, eager. Options: ``dtype`` (float32, bfloat16, float16) and ``channels_last``.

    CUDA is synchronised in every query. Running on CUDA is unverified until a run on a GPU is recorded in docs/measurements.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module", "torchscript")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False

    def preload(self, artifact: ModelArtifact) -> None:
        from harness import plugins
        from harness.formats import torch_module

        plugins.require("torch", plugin="torch", extra="torch")
        import torch  # noqa: F401 - imported so that its memory and time are not the model's

        if artifact.format == "torch_module":
            torch_module.restore_code(artifact.folder)

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """The module on its device. Raises CannotMeasure when the CUDA device asked for is not there."""
        import torch

        torch.set_num_threads(device.threads)
        target = torch.device(device.name)
        if target.type == "cuda" and (target.index or 0) >= (count := torch.cuda.device_count()):
            seen = f"only {count} of them" if count else "no CUDA device"
            raise CannotMeasure(f"'{device.name}' was asked for and this torch ({torch.__version__}) sees {seen}")
        module = _open(artifact).to(target)
        dtype = getattr(torch, self.dtype)
        module = module.to(dtype)  # also float32: checkpoints are kept in half precision, and inputs are given in this dtype
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        yield TorchSession(module, target, dtype, self.channels_last)


def _open(artifact: ModelArtifact) -> torch.nn.Module:
    import warnings

    import torch

    from harness.formats import torch_module

    if artifact.format == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            scripted: torch.nn.Module = torch.jit.load(str(artifact.path), map_location="cpu")
            return scripted.eval()
    return torch_module.load(artifact)


def _facts(module: torch.nn.Module, device: torch.device) -> SessionFacts:
    """Device and precision as the module's own tensors tell them; quantized layers hold theirs packed and are counted."""
    import torch

    from harness.formats.torch_module import packed_weights, quantized_layers

    sizes: Counter[str] = Counter()
    devices = {str(device)}
    for parameter in module.parameters():
        sizes[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
        devices.add(str(parameter.device))
    layers = quantized_layers(module)
    for layer in layers.values():
        sizes["int8"] += sum(weight.numel() for weight in packed_weights(layer))
    quantized = Counter(type(layer).__name__ for layer in layers.values())
    total = sum(sizes.values()) or 1
    precision = " + ".join(f"{name} ({count / total:.0%})" if len(sizes) > 1 else name for name, count in sizes.most_common())
    details = tuple(f"{count} quantized {name} layers" for name, count in sorted(quantized.items()))
    if layers:
        details += (f"engine {torch.backends.quantized.engine}",)
    if len(devices) > 1 and device.type != "cuda":
        details += (f"parameters on {', '.join(sorted(devices))}",)
    return SessionFacts(str(device), precision or "no parameters", torch.get_num_threads(), details)


PLUGIN = TorchRuntime
