"""See TorchRuntime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session
from harness.core.profile import Profile

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class DeviceClock:
    """Times a block with a pair of CUDA events around it, and waits for the device at its end; ``take`` gives the times in ns.

    Events are made when there are too few, which the warm-up sees to, and read by ``take``: in a timed query they are only recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._used = 0

    def __enter__(self) -> None:
        import torch

        if self._used == len(self._events):
            self._events.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
        self._events[self._used][0].record(torch.cuda.current_stream(self._device))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import torch

        self._events[self._used][1].record(torch.cuda.current_stream(self._device))
        self._used += 1
        torch.cuda.synchronize(self._device)

    def take(self) -> tuple[int, ...]:
        """The times since it was asked last, in order."""
        times = tuple(round(begin.elapsed_time(end) * 1e6) for begin, end in self._events[: self._used])
        self._used = 0
        return times


class TorchSession:
    """A module: ``run`` is one forward call and, on CUDA, the wait until the device has finished. ``dtype`` is that of floating inputs."""

    def __init__(self, module: torch.nn.Module, device: torch.device, dtype: torch.dtype, channels_last: bool) -> None:
        import torch

        self.module = module
        self.device = device
        self.dtype = dtype
        self.channels_last = channels_last
        self._mode = torch.inference_mode
        self._clock = DeviceClock(device) if device.type == "cuda" else None

    @property
    def facts(self) -> SessionFacts:
        return facts_of(self.module, self.device)

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
            if self._clock is None:
                return invoke(self.module, prepared)  # type: ignore[arg-type]  # what prepare gave
            with self._clock:
                return invoke(self.module, prepared)  # type: ignore[arg-type]

    def device_times(self) -> tuple[int, ...]:
        return () if self._clock is None else self._clock.take()

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        from harness.formats import torch_module

        return torch_module.arrays(torch_module.flatten(raw))


class TorchRuntime(Options):
    """PyTorch, eager. Options: ``dtype`` (model, float32, bfloat16, float16) and ``channels_last``.

    ``dtype: model`` runs the weights as they were saved, so what a pass has done to them holds; any other casts all of them when the model
    is opened. Floating inputs are given in the dtype that the model takes, outside the timed query.
    CUDA is synchronised in every query, and timed by the host's clock and by the device's.
    Running on CUDA is unverified until a run on a GPU is recorded in docs/measurements.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module", "torchscript", "exported_program")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    dtype: Literal["model", "float32", "bfloat16", "float16"] = "model"
    channels_last: bool = False

    def imports(self, artifact: ModelArtifact) -> tuple[str, ...]:
        from harness.formats import torch_module

        return ("torch", *torch_module.installed_modules(artifact.folder))

    def preload(self, artifact: ModelArtifact) -> None:
        from harness import plugins
        from harness.formats import torch_module

        plugins.require("torch", plugin="torch", extra="torch")
        import torch  # noqa: F401 - imported so that its memory and time are not the model's

        if artifact.format == "torch_module":
            torch_module.restore_code(artifact.folder)

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """The module on its device. Raises CannotMeasure when the CUDA device asked for is not there, or a pass has set the precision."""
        target = device_of(device)
        module, dtype = placed(load(artifact), target, self.dtype, self.channels_last)
        yield TorchSession(module, target, dtype, self.channels_last)

    def profile(
        self, artifact: ModelArtifact, device: Device, batches: Sequence[Mapping[str, NDArray[np.generic]]], least_ns: int, trace: Path
    ) -> Profile:
        from harness.runtimes import _torch_profile

        with self.open(artifact, device) as session:
            assert isinstance(session, TorchSession)
            return _torch_profile.profile(session, batches, least_ns, trace)


def device_of(device: Device) -> torch.device:
    """Torch's name of a device, with the threads set. Raises CannotMeasure when the CUDA device asked for is not there."""
    import torch

    torch.set_num_threads(device.threads)
    target = torch.device(device.name)
    if target.type == "cuda" and (target.index or 0) >= (count := torch.cuda.device_count()):
        seen = f"only {count} of them" if count else "no CUDA device"
        raise CannotMeasure(f"'{device.name}' was asked for and this torch ({torch.__version__}) sees {seen}")
    return target


def placed(module: torch.nn.Module, target: torch.device, dtype: str, channels_last: bool) -> tuple[torch.nn.Module, torch.dtype]:
    """The module on its device in the precision and layout asked for, and the dtype of its floating inputs."""
    import torch

    from harness.formats import precision

    module = module.to(target)
    if dtype != "model":
        if precision.casts_inputs(module):
            raise CannotMeasure(
                f"the runtime's 'dtype: {dtype}' would cast weights that a pass has put in a precision of their own",
                hint="leave out the runtime's dtype, or the recipe's pass",
            )
        module = module.to(getattr(torch, dtype))
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    return module, precision.input_dtype(module) if dtype == "model" else getattr(torch, dtype)


def load(artifact: ModelArtifact) -> torch.nn.Module:
    """The module of an artifact of the format torch_module, torchscript or exported_program, on the CPU."""
    from harness.formats import exported_program, torch_module, torchscript

    if artifact.format == "exported_program":
        return exported_program.load(artifact)
    return torchscript.load(artifact.path) if artifact.format == "torchscript" else torch_module.load(artifact)


def facts_of(module: torch.nn.Module, device: torch.device) -> SessionFacts:
    """Device and precision as the module's own tensors tell them; quantized layers hold theirs packed and are counted."""
    import torch

    from harness.formats import precision
    from harness.formats.torch_module import packed_weights, quantized_layers
    from harness.formats.torchao_tensors import quantized_weights, width_of

    sizes: Counter[str] = Counter()
    devices = {str(device)}
    for parameter in module.parameters():
        sizes[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
        devices.add(str(parameter.device))
    layers = quantized_layers(module)
    for layer in layers.values():
        sizes["int8"] += sum(weight.numel() for weight in packed_weights(layer))
    quantized = Counter(type(layer).__name__ for layer in layers.values())
    for name, weight in quantized_weights(module).items():  # they call themselves by the dtype that they are computed in
        sizes[str(weight.dtype).removeprefix("torch.")] -= weight.numel()
        sizes[f"int{width_of(weight)}"] += weight.numel()
        quantized[type(module.get_submodule(name.rpartition(".")[0])).__name__] += 1
    sizes["int8"] += sum(buffer.numel() for buffer in module.buffers() if buffer.dtype is torch.int8)  # those of an exported program
    sizes = +sizes
    total = sum(sizes.values()) or 1
    told = " + ".join(f"{name} ({count / total:.0%})" if len(sizes) > 1 else name for name, count in sizes.most_common())
    details = tuple(f"{count} quantized {name} layers" for name, count in sorted(quantized.items()))
    if layers:
        details += (f"engine {torch.backends.quantized.engine}",)
    if len(devices) > 1 and device.type != "cuda":
        details += (f"parameters on {', '.join(sorted(devices))}",)
    if (autocast := precision.autocast_of(module)) is not None:
        told = f"autocast to {autocast}, weights in {told}"
    if device.type == "cpu":
        computed = sorted({*sizes, *([autocast] if autocast else [])})
        details += tuple(warning for name in computed if (warning := precision.emulation(name)) is not None)
    return SessionFacts(str(device), told or "no parameters", torch.get_num_threads(), details)


PLUGIN = TorchRuntime
