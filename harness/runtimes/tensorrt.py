"""See TensorrtRuntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.core.artifact import ModelArtifact, TensorSpec
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session
from harness.runtimes._cuda import Buffer, EventClock, Graph, Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.formats.tensorrt_engine import Plate


@dataclass(slots=True)
class Query:
    """A batch ready to run: where its inputs lie on the device and on the host, its outputs' shapes, its graph where one is used."""

    inputs: dict[str, tuple[NDArray[np.generic], Buffer]]
    outputs: dict[str, NDArray[np.generic]]
    graph: Graph | None = None


class TensorrtSession:
    """One execution context on one stream. The outputs of a query lie on the device until the next one runs."""

    def __init__(
        self, context: Any, artifact: ModelArtifact, plate: Plate, device: Device, stream: Stream, graph: bool, copies: bool
    ) -> None:
        self.context = context
        self._inputs, self._outputs = artifact.inputs, artifact.outputs
        self._plate = plate
        self._stream = stream
        self._clock = EventClock(stream)
        self._graph, self._copies = graph, copies
        self._results: dict[str, Buffer] = {}
        self._bound: Query | None = None
        details = (
            f"TensorRT {plate.tensorrt}",
            plate.gpu,
            "copies to and from the device are timed" if copies else "inputs are on the device before a query, outputs are read after it",
            *(["CUDA graph"] if graph else []),
        )
        self.facts = SessionFacts(device.name, plate.precision, device.threads, details)

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        """The batch on the device, and its graph recorded. Raises BadInput where names, dtypes or shapes are not the engine's."""
        import numpy as np

        query = Query({}, {})
        for spec, values in self._match(batch):
            array = np.ascontiguousarray(values)
            buffer = Buffer(self._stream.cuda, array.nbytes)
            self._stream.to_device(buffer, array)
            query.inputs[spec.name] = array, buffer
        self._bind(query)
        for spec in self._outputs:
            query.outputs[spec.name] = np.empty(tuple(self.context.get_tensor_shape(spec.name)), spec.dtype)
        self._make_room(query)
        if self._graph:
            self._issue()  # with new shapes the first call allocates, which may not be recorded
            self._stream.wait()
            query.graph = self._stream.capture(self._issue)
        self._stream.wait()
        return query

    def run(self, prepared: object) -> object:
        assert isinstance(prepared, Query)
        with self._clock:
            if self._copies:
                for array, buffer in prepared.inputs.values():
                    self._stream.to_device(buffer, array)
            if prepared.graph is not None:
                prepared.graph.launch()
            else:
                if prepared is not self._bound:
                    self._bind(prepared)
                self._issue()
            if self._copies:
                self._read(prepared)
        return prepared

    def device_times(self) -> tuple[int, ...]:
        return self._clock.take()

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        """Of the query that ran last."""
        assert isinstance(raw, Query)
        if not self._copies:
            self._read(raw)
            self._stream.wait()
        return tuple(values.copy() for values in raw.outputs.values())

    def close(self) -> None:
        self._clock.close()
        self._results.clear()

    def _read(self, query: Query) -> None:
        for name, values in query.outputs.items():
            self._stream.to_host(values, self._results[name])

    def _issue(self) -> None:
        if not self.context.execute_async_v3(int(self._stream.handle)):
            raise CannotMeasure("TensorRT could not start the query")

    def _bind(self, query: Query) -> None:
        for name, (array, buffer) in query.inputs.items():
            if not self.context.set_input_shape(name, array.shape):
                least, _, most = self._plate.batches
                hint = f"it was built for batches of {least} to {most}: change build_tensorrt's 'batches'" if most else None
                raise BadInput(Problem(f"the engine does not take the shape {list(array.shape)} for input '{name}'", hint=hint))
            self.context.set_tensor_address(name, buffer.address)
        self._bound = query

    def _make_room(self, query: Query) -> None:
        """Room for a query's outputs, shared with the queries before it; a recorded one writes where it was, so that nothing may move."""
        for name, values in query.outputs.items():
            before = self._results.get(name)
            if before is not None and before.size < values.nbytes and self._graph:
                hint = "leave it out, or measure one batch size"
                raise CannotMeasure("with 'cuda_graph' no batch may be larger than the first", hint=hint)
            if before is None or before.size < values.nbytes:
                self._results[name] = Buffer(self._stream.cuda, values.nbytes)
            self.context.set_tensor_address(name, self._results[name].address)

    def _match(self, batch: Mapping[str, NDArray[np.generic]]) -> list[tuple[TensorSpec, NDArray[np.generic]]]:
        if len(batch) == 1 and len(self._inputs) == 1:
            matched = [(self._inputs[0], next(iter(batch.values())))]
        elif set(batch) == {spec.name for spec in self._inputs}:
            matched = [(spec, batch[spec.name]) for spec in self._inputs]
        else:
            known = ", ".join(spec.name for spec in self._inputs)
            raise BadInput(Problem(f"the engine's inputs are {known}; the data gives {', '.join(batch)}"))
        least, _, most = self._plate.batches
        for spec, values in matched:
            if str(values.dtype) != spec.dtype:
                raise BadInput(Problem(f"input '{spec.name}' of the engine is {spec.dtype}, the data gives {values.dtype}"))
            fits = len(values.shape) == len(spec.shape) and all(
                wanted in (None, length) for wanted, length in zip(spec.shape, values.shape, strict=True)
            )
            if not fits:
                raise BadInput(Problem(f"input '{spec.name}' of the engine is {_told(spec.shape)}, the data gives {list(values.shape)}"))
            if spec.shape[:1] == (None,) and not least <= values.shape[0] <= most:
                hint = "build_tensorrt's 'batches' are [least, best, most]"
                raise BadInput(Problem(f"the engine takes batches of {least} to {most}, not of {values.shape[0]}", hint=hint))
        return matched


class TensorrtRuntime(Options):
    """TensorRT on an NVIDIA GPU. Options: ``cuda_graph``, ``copies``.

    Every query is waited for, and timed by the host's clock and by events on its stream. Inputs are on the device before a query and
    outputs are read after it, as with torch; ``copies`` puts both inside, as ONNX Runtime does it. ``cuda_graph`` records a query of each
    batch and launches it with one call: for small models, whose kernels are shorter than their launches. An engine of another TensorRT or
    for another GPU is refused. Device memory is TensorRT's own and not counted. Unverified until a run on a GPU is recorded in
    docs/measurements.
    """

    extra: ClassVar[str | None] = "tensorrt"
    packages: ClassVar[tuple[str, ...]] = ("tensorrt", "cuda-bindings")
    accepts: ClassVar[tuple[str, ...]] = ("tensorrt",)
    devices: ClassVar[tuple[str, ...]] = ("cuda",)

    cuda_graph: bool = False
    copies: bool = False

    def preload(self, artifact: ModelArtifact) -> None:
        from harness.formats import tensorrt_engine

        tensorrt_engine.library("tensorrt")
        tensorrt_engine.cuda("tensorrt")

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """An engine read and given memory. Raises CannotMeasure when it does not hold here, or there is no such device."""
        from harness.formats import tensorrt_engine

        trt, cuda = tensorrt_engine.library("tensorrt"), tensorrt_engine.cuda("tensorrt")
        index = int(device.name.partition(":")[2] or 0)
        plate = tensorrt_engine.plate_of(artifact)
        if differs := plate.differs(str(trt.__version__), tensorrt_engine.gpu_at(cuda, index)):
            hint = "an engine holds for one GPU model and one TensorRT version: build it again on this machine"
            raise CannotMeasure(f"this engine does not hold here: {differs}", hint=hint)
        tensorrt_engine.done(cuda.cudaSetDevice(index))
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        engine = runtime.deserialize_cuda_engine(artifact.path.read_bytes())
        context = None if engine is None else engine.create_execution_context()
        if context is None:
            raise CannotMeasure("TensorRT cannot open this engine", hint="see the worker's log for the library's own message")
        _refuse_unknown_shapes(artifact.outputs)
        stream = Stream(cuda)
        session = TensorrtSession(context, artifact, plate, device, stream, graph=self.cuda_graph, copies=self.copies)
        try:
            yield session
        finally:
            session.close()
            stream.close()


def _refuse_unknown_shapes(outputs: tuple[TensorSpec, ...]) -> None:
    for spec in outputs:
        if any(length is None for length in spec.shape[1:]):
            raise CannotMeasure(
                f"output '{spec.name}' has the shape {_told(spec.shape)}, which depends on the data: it cannot be given room"
            )


def _told(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if length is None else str(length) for length in shape)}]"


PLUGIN = TensorrtRuntime
