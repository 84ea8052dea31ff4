"""See OpenvinoRuntime."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session
from harness.core.profile import Profile

if TYPE_CHECKING:
    import numpy as np
    import openvino
    from numpy.typing import NDArray

NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i8": "int8", "u8": "int8", "I8": "int8"}
CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
COMPUTE = frozenset(
    {
        "Convolution",
        "Deconvolution",
        "FullyConnected",
        "MatMul",
        "RNNCell",
        "RNNSeq",
        "ScaledDotProductAttention",
        "LLMMLP",
        "QKVProjection",
    }
)
FUSED = "Subgraph"
"""What the plugin has compiled of several operators: attention, or a chain of elementwise ones."""


class OpenvinoSession:
    """One inference request: ``run`` waits for it and copies its outputs, so that a later query does not change them.

    ``run_many`` keeps ``in_flight`` requests of its own busy, as many as the library calls optimal for these streams. They are made when
    it is first called.
    """

    def __init__(self, compiled: openvino.CompiledModel, device: Device) -> None:
        self.compiled = compiled
        self.in_flight = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._device = device
        self._request = compiled.create_infer_request()
        self._requests: list[openvino.InferRequest] = []
        self._inputs = list(compiled.inputs)
        self._outputs = range(len(compiled.outputs))

    @property
    def facts(self) -> SessionFacts:
        """Threads, streams and precision as the compiled model tells them: walks its layers."""
        threads = int(self.compiled.get_property("INFERENCE_NUM_THREADS"))
        streams = int(self.compiled.get_property("NUM_STREAMS"))
        hint = str(self.compiled.get_property("PERFORMANCE_HINT")).lower()
        layers = layers_by_precision(self.compiled)
        details = [f"{count} {kind} in {name}" for (kind, name), count in sorted(layers.items())]
        details += [f"hint {hint}", f"{streams} {'stream' if streams == 1 else 'streams'}"]
        if self._requests:
            details.append(f"{self.in_flight} requests in flight")
        elif streams > 1:
            details.append(f"one request at a time: {streams - 1} of {streams} streams idle")
        return SessionFacts(self._device.name, _precision(layers), threads, tuple(details))

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        """Tensors over the batch's own memory, by place. Raises BadInput where names, dtypes or shapes are not the model's."""
        import numpy as np
        import openvino

        names = {name: index for index, value in enumerate(self._inputs) for name in value.get_names()}
        if len(batch) == 1 and len(self._inputs) == 1:
            placed = {0: next(iter(batch.values()))}
        elif all(name in names for name in batch) and len(batch) == len(self._inputs):
            placed = {names[name]: values for name, values in batch.items()}
        else:
            known = ", ".join(min(value.get_names(), default="?") for value in self._inputs)
            raise BadInput(Problem(f"the model's inputs are {known}; the data gives {', '.join(batch)}"))
        prepared = {}
        for index, values in placed.items():
            wanted, shape = self._inputs[index].get_element_type(), self._inputs[index].get_partial_shape()
            if openvino.Type(values.dtype) != wanted:
                raise BadInput(Problem(f"input {index} of the model is {wanted.get_type_name()}, the data gives {values.dtype}"))
            if not shape.compatible(openvino.PartialShape(list(values.shape))):
                hint = "export_openvino's 'batch_size' fixes it: measure that batch size alone, or leave the option out"
                raise BadInput(Problem(f"input {index} of the model has the shape {shape}, the data gives {list(values.shape)}", hint=hint))
            prepared[index] = openvino.Tensor(np.ascontiguousarray(values), shared_memory=True)
        return prepared

    def run(self, prepared: object) -> object:
        """What ``outputs`` takes. Raises CannotMeasure with the library's reason where it cannot compute this batch."""
        try:
            return self._request.infer(prepared, share_inputs=True)
        except RuntimeError as error:
            raise _failed(error) from error

    def run_many(self, prepared: Sequence[object]) -> None:
        """The requests take the batches in turn, and each copies its outputs before it takes another.

        Not the library's AsyncInferQueue: of version 2026.4 it lost one in ten errors of a single query, or waited for ever.
        """
        requests = self._requests = self._requests or [self.compiled.create_infer_request() for _ in range(self.in_flight)]
        waiting: deque[openvino.InferRequest] = deque()
        try:
            for index, batch in enumerate(prepared):
                if len(waiting) == len(requests):
                    _collect(waiting)
                request = requests[index % len(requests)]
                request.start_async(batch, share_inputs=True)
                waiting.append(request)
            while waiting:
                _collect(waiting)
        except RuntimeError as error:
            raise _failed(error) from error
        finally:
            for request in waiting:  # after an error: what is on its way still reads the batches
                with suppress(RuntimeError):
                    request.wait()

    def counters(self) -> Sequence[openvino.ProfilingInfo]:
        """What each layer took, where the model was compiled with its counters on."""
        found: Sequence[openvino.ProfilingInfo] = self._request.profiling_info
        return found

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        import numpy as np

        return tuple(np.asarray(raw[index]) for index in self._outputs)  # type: ignore[index]  # what the request gave


class OpenvinoRuntime(Options):
    """OpenVINO on a CPU. Options: ``inference_precision``, ``hint``, ``num_streams``.

    ``inference_precision`` is f32 unless it says otherwise: on a CPU with AMX or AVX-512 BF16 the library itself runs a float32 model in
    bfloat16 ("default" lets it choose). A precision that was asked for and is not in use is an error. The facts count layers by the type
    of their kernels, int8 ones included. The hint ``throughput`` makes several streams: under the load ``offline`` each has a query to
    compute, under others all but one are idle. Threads are the device's and go where the worker is pinned; nothing is read from or kept in
    a cache of compiled models.
    """

    extra: ClassVar[str | None] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    accepts: ClassVar[tuple[str, ...]] = ("openvino", "onnx")
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    inference_precision: Literal["f32", "bf16", "f16", "default"] = "f32"
    hint: Literal["latency", "throughput"] = "latency"
    num_streams: int | None = Field(default=None, ge=1)

    def preload(self, artifact: ModelArtifact) -> None:
        from harness import plugins
        from harness.formats import openvino_model

        plugins.require("openvino", plugin="openvino", extra="openvino")
        openvino_model.framework()

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """Read and compile. Raises CannotMeasure when the library cannot, or runs in another precision than was asked for."""
        yield OpenvinoSession(self._compiled(artifact, device), device)

    def profile(
        self, artifact: ModelArtifact, device: Device, batches: Sequence[Mapping[str, NDArray[np.generic]]], least_ns: int, trace: Path
    ) -> Profile:
        """See ``harness.core.plugin.Profiles``: compiled once more with its counters on, and with one stream, whose counters they are."""
        from harness.runtimes import _openvino_profile

        one_stream = self.model_copy(update={"num_streams": 1})
        session = OpenvinoSession(one_stream._compiled(artifact, device, PERF_COUNT=True), device)
        prepared = [session.prepare(batch) for batch in batches]
        return _openvino_profile.profile(session.run, prepared, session.counters, least_ns, trace)

    def _compiled(self, artifact: ModelArtifact, device: Device, **more: object) -> openvino.CompiledModel:
        from harness.formats import openvino_model

        core = openvino_model.framework().Core()
        config: dict[str, object] = {
            "PERFORMANCE_HINT": self.hint.upper(),
            "INFERENCE_NUM_THREADS": device.threads,
            "ENABLE_CPU_PINNING": False,  # the worker is pinned already
            **more,
        }
        if self.num_streams is not None:
            config["NUM_STREAMS"] = self.num_streams
        if self.inference_precision != "default":
            config["INFERENCE_PRECISION_HINT"] = self.inference_precision
            offered = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if CAPABILITIES[self.inference_precision] not in offered:
                hint = f"it offers {', '.join(offered)}"
                raise CannotMeasure(f"OpenVINO has no {self.inference_precision} kernels for this CPU", hint=hint)
        try:
            compiled = core.compile_model(core.read_model(artifact.path), "CPU", config)
        except RuntimeError as error:
            raise CannotMeasure(f"OpenVINO cannot open this model: {openvino_model.reason(error)}") from error
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if self.inference_precision not in ("default", used):
            raise CannotMeasure(f"OpenVINO was asked for {self.inference_precision} and computes in {used}")
        return compiled


def _failed(error: RuntimeError) -> CannotMeasure:
    from harness.formats import openvino_model

    return CannotMeasure(f"OpenVINO cannot compute this batch: {openvino_model.reason(error)}")


def _collect(waiting: deque[openvino.InferRequest]) -> None:
    """Wait for the request that was started first, and copy its outputs as ``run`` does."""
    request = waiting.popleft()
    request.wait()
    request.results  # noqa: B018 - the property copies


def layers_by_precision(compiled: openvino.CompiledModel) -> Counter[tuple[str, str]]:
    """How many layers that multiply or are fused there are, by kind and precision of their kernels.

    That is the end of ``primitiveType`` (``brgconv_avx512_bf16``). ``runtimePrecision`` will not do: it tells the type that the weights are
    stored in, so that the float32 kernels of a model whose weights were compressed to 16 bits pass for f16.
    """
    layers: Counter[tuple[str, str]] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        kind = info["layerType"].value
        if kind in COMPUTE or kind == FUSED:
            end = info["primitiveType"].value.rpartition("_")[2]
            layers[kind, NAMES.get(end, end)] += 1
    return layers


def _precision(layers: Mapping[tuple[str, str], int]) -> str:
    """What most is done in, int8 first, as the other runtimes tell it."""
    counts: Counter[str] = Counter()
    for (kind, name), count in layers.items():
        if kind in COMPUTE:
            counts[name] += count
    if not counts:
        return "no layers with weights"
    (first, most), *others = sorted(counts.items(), key=lambda item: (item[0] != "int8", -item[1]))
    if not others:
        return first
    return f"{first} ({most} of {counts.total()} compute layers; {', '.join(f'{count} in {name}' for name, count in others)})"


PLUGIN = OpenvinoRuntime
