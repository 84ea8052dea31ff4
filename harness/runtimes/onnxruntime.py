"""See OnnxRuntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from harness.core.artifact import ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session
from harness.core.profile import Profile
from harness.runtimes import _onnx_profile, _onnx_providers, _onnx_trace
from harness.runtimes._onnx_binding import ELEMENTS, Binder, Bound
from harness.runtimes._onnx_providers import CPU, CUDA, SHORT_NAMES

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray

ROOM = 4
"""A second session is opened only where this many times the model's size of memory is available."""


class OnnxSession:
    """An inference session: ``run`` takes numpy arrays and returns numpy arrays, so it ends when the device has finished.

    With a ``binder`` the arrays have places on the device, and whether they travel in a query is the binder's.
    """

    def __init__(
        self, runtime: OnnxRuntime, session: onnxruntime.InferenceSession, artifact: ModelArtifact, device: Device, binder: Binder | None
    ) -> None:
        self.session = session
        self._runtime = runtime
        self._artifact = artifact
        self._device = device
        self._binder = binder
        self._inputs = {value.name: value for value in session.get_inputs()}
        self._sample: Mapping[str, NDArray[np.generic]] | None = None

    @property
    def facts(self) -> SessionFacts:
        """Providers by the nodes that they ran, and the precision of the kernels: opens the model a second time and traces one call.

        Where that is not possible it says so, and tells what the library noted when it shared out the nodes.
        """
        in_use = self.session.get_providers()
        kernels, reason = self._kernels()
        precision, details = _precision(self._artifact, kernels)
        providers = _onnx_trace.by_provider(kernels, in_use) if kernels else _onnx_providers.shares(self.session)
        missed = (f"not traced: {reason}",) if reason else ()
        told = (*providers, *details, *missed, *self._runtime.details())
        return SessionFacts(self._device.name, precision, self._device.threads, told)

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        """Arrays under the graph's input names, in half precision where the graph wants it; with a binder, in their places.

        Raises BadInput when names do not match; a single input is matched by position.
        """
        import numpy as np

        names = list(self._inputs)
        if len(batch) == 1 and len(names) == 1:
            batch = {names[0]: next(iter(batch.values()))}
        if set(batch) != set(names):
            raise BadInput(Problem(f"the graph's inputs are {', '.join(names)}; the data gives {', '.join(batch)}"))
        half = {name for name, value in self._inputs.items() if value.type == "tensor(float16)"}
        arrays = {name: values.astype(np.float16) if name in half else values for name, values in batch.items()}
        if self._sample is None:
            self._sample = arrays
        return arrays if self._binder is None else self._binder.bind(arrays)

    def run(self, prepared: object) -> object:
        if isinstance(prepared, Bound):
            assert self._binder is not None
            return self._binder.run(prepared)
        return self.session.run(None, prepared)

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        import numpy as np

        found = raw if self._binder is None else self._binder.outputs(raw)
        assert isinstance(found, list)
        return tuple(np.asarray(value) for value in found)

    def _kernels(self) -> tuple[tuple[_onnx_trace.Kernel, ...] | None, str | None]:
        """What ran, or the reason why that is not known."""
        import psutil

        if compilers := [name for name in self.session.get_providers() if name in _onnx_providers.COMPILERS]:
            return None, f"{', '.join(compilers)} compiles whole subgraphs"
        if psutil.virtual_memory().available < ROOM * self._artifact.size_bytes:
            return None, "too little memory is free to open the model twice"
        threads = Device(self._device.name, 1)
        configured = [(name, {k: v for k, v in kept.items() if "graph" not in k}) for name, kept in self._runtime.configured(self._device)]
        try:
            feed = self._sample or self._zeros()
            return _onnx_trace.trace(self._artifact.path, self._runtime.session_options(threads), configured, feed), None
        except Exception as error:  # noqa: BLE001 - a measurement that is done is not lost for this: the reason is told with it
            return None, (str(error).strip() or type(error).__name__).splitlines()[0]

    def _zeros(self) -> dict[str, NDArray[np.generic]]:
        """An input for a session that has not been given any: every open axis has length 1."""
        import numpy as np

        return {
            name: np.zeros([axis if isinstance(axis, int) else 1 for axis in value.shape], ELEMENTS.get(value.type, "float32"))
            for name, value in self._inputs.items()
        }


class OnnxRuntime(Options):
    """ONNX Runtime with any execution provider of its build.

    ``providers`` in order of preference (default: the device's own), ``provider_options`` for each (``cuda: {cudnn_conv_algo_search:
    HEURISTIC}``); ``optimization`` is the graph level, ``inter_op_threads`` for graphs with branches. A provider that was asked for and is
    not in use, or is given no node, is an error: the library itself would fall back to the CPU in silence; so is an option that the
    provider does not report back.

    ``io_binding`` on CUDA: none gives and takes host memory, as most callers do; device places inputs before the query and leaves outputs
    on the device, so that no transfer is counted; copied has buffers on the device and counts both transfers. ``pinned`` (with copied)
    page-locks the host's inputs, ``cuda_graph`` (with copied) replays a captured graph on fixed buffers.

    All of it on another provider than the CPU's is unverified until a run on such a machine is recorded in docs/measurements. Launches
    share the imports of every worker, not that of onnxruntime itself: it starts a thread, which a fork would not have.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    providers: tuple[str, ...] = ()
    provider_options: dict[str, dict[str, bool | int | float | str]] = Field(default_factory=dict)
    optimization: Literal["none", "basic", "extended", "all"] = "all"
    inter_op_threads: int = 1
    io_binding: Literal["none", "device", "copied"] = "none"
    pinned: bool = False
    cuda_graph: bool = False

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _fits_together(self) -> OnnxRuntime:
        for name in ("pinned", "cuda_graph"):
            if getattr(self, name) and self.io_binding != "copied":
                raise ValueError(f"'{name}' needs 'io_binding: copied'")
        return self

    def imports(self, artifact: ModelArtifact) -> tuple[str, ...]:
        return ()

    def preload(self, artifact: ModelArtifact) -> None:
        from harness import plugins

        plugins.require("onnxruntime", plugin="onnxruntime", extra="onnx")
        import onnxruntime  # noqa: F401 - imported so that its memory and time are not the model's

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """A session on exactly the providers asked for. Raises CannotMeasure, naming what this build offers, when one is missing."""
        import onnxruntime

        configured = self.configured(device)
        wanted = [name for name, _ in configured]
        _onnx_providers.check_offered(wanted)
        if self.cuda_graph and CUDA not in wanted:
            raise CannotMeasure(f"cuda_graph needs the CUDA provider; this is {', '.join(wanted)}")
        try:
            session = onnxruntime.InferenceSession(str(artifact.path), self.session_options(device), providers=configured)
        except Exception as error:  # the library's errors share no base class below Exception
            raise CannotMeasure(f"onnxruntime cannot open this model: {str(error).splitlines()[0]}") from error
        _onnx_providers.check_in_use(session, configured)
        copied = self.io_binding == "copied"
        binder = None if self.io_binding == "none" else Binder(session, device.name, copied, self.pinned, self.cuda_graph)
        yield OnnxSession(self, session, artifact, device, binder)

    def profile(
        self, artifact: ModelArtifact, device: Device, batches: Sequence[Mapping[str, NDArray[np.generic]]], least_ns: int, trace: Path
    ) -> Profile:
        """Inputs and outputs are the host's, whatever ``io_binding`` says: what is looked at is the graph."""
        import onnxruntime

        options = self.session_options(device)
        options.enable_profiling = True
        options.profile_file_prefix = str(trace.with_suffix(""))
        try:
            session = onnxruntime.InferenceSession(str(artifact.path), options, providers=self.configured(device))
        except Exception as error:  # the library's errors share no base class below Exception
            raise CannotMeasure(f"onnxruntime cannot open this model: {str(error).splitlines()[0]}") from error
        opened = OnnxSession(self, session, artifact, device, None)
        prepared = [opened.prepare(batch) for batch in batches]
        return _onnx_profile.profile(opened.run, prepared, session.end_profiling, least_ns, trace)

    def configured(self, device: Device) -> list[tuple[str, dict[str, str]]]:
        """The providers by their full names, each with its options as the library takes them. Raises BadInput for options of another."""
        own = [CPU] if device.name == "cpu" else [CUDA]
        wanted = [SHORT_NAMES.get(name, name) for name in self.providers] or own
        given = {SHORT_NAMES.get(name, name): options for name, options in self.provider_options.items()}
        if others := [name for name in given if name not in wanted]:
            raise BadInput(Problem(f"provider_options are for {', '.join(others)}; the providers are {', '.join(wanted)}"))
        return [(name, {**self._own_options(name, device), **_onnx_providers.as_text(given.get(name, {}))}) for name in wanted]

    def session_options(self, device: Device) -> onnxruntime.SessionOptions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = device.threads
        options.inter_op_num_threads = self.inter_op_threads
        options.log_severity_level = 3
        level = {"none": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}[self.optimization]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
        if [name for name, _ in self.configured(device)] != [CPU]:
            options.add_session_config_entry(_onnx_providers.RECORD, "1")
        return options

    def details(self) -> tuple[str, ...]:
        """What the options of this runtime mean for the numbers."""
        placed = {
            "none": (),
            "device": ("inputs and outputs stay on the device: no transfer is counted",),
            "copied": (f"inputs{' in pinned memory' if self.pinned else ''} are copied to the device and outputs back in every query",),
        }[self.io_binding]
        graph = ("replayed as a CUDA graph",) if self.cuda_graph else ()
        given = (f"{name}: {', '.join(f'{key}={value}' for key, value in kept.items())}" for name, kept in self.provider_options.items())
        return (*placed, *graph, *given)

    def _own_options(self, provider: str, device: Device) -> dict[str, str]:
        index = device.name.partition(":")[2]
        options = {"device_id": index} if index and provider in (CUDA, SHORT_NAMES["tensorrt"]) else {}
        return {**options, "enable_cuda_graph": "1"} if self.cuda_graph and provider == CUDA else options


def _precision(artifact: ModelArtifact, kernels: Sequence[_onnx_trace.Kernel] | None) -> tuple[str, tuple[str, ...]]:
    """What is computed in; the model's file is read with the onnx package where installed."""
    import importlib.util

    if importlib.util.find_spec("onnx") is None:
        return "unknown (the onnx package is not installed)", ()
    import onnx

    return _onnx_trace.precision(onnx.load(artifact.path, load_external_data=False), kernels)


PLUGIN = OnnxRuntime
