"""Stand-ins for ``cuda.bindings.runtime`` and ``tensorrt``: they show what is asked for and in which order, not how NVIDIA answers.

Device memory is the host's. A stream does nothing until it is waited for: what is read too early is not there yet.
"""

import ctypes
import enum
import json
import sys
import types

import numpy as np

KERNEL_MS = 0.25


class Kind(enum.Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class Mode(enum.Enum):
    cudaStreamCaptureModeThreadLocal = 1


class Status(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100


class FakeCuda:
    """One device, one clock that only work moves, and a list of all that was asked for."""

    cudaMemcpyKind = Kind
    cudaStreamCaptureMode = Mode

    def __init__(self, gpu="NVIDIA H100 80GB HBM3", capability=(9, 0), count=1):
        self.gpu, self.capability, self.count = gpu, capability, count
        self.memory, self.streams, self.asked = {}, {}, []
        self.now_ms, self.fails, self.capturing = 0.0, None, None

    def _answer(self, name, *values):
        self.asked.append(name)
        return (Status.cudaErrorMemoryAllocation if name == self.fails else Status.cudaSuccess, *values)

    def cudaGetDeviceCount(self):
        return (Status.cudaSuccess, self.count) if self.count else (Status.cudaErrorNoDevice, 0)

    def cudaGetDeviceProperties(self, index):
        major, minor = self.capability
        return self._answer("properties", types.SimpleNamespace(name=self.gpu.encode(), major=major, minor=minor))

    def cudaSetDevice(self, index):
        return self._answer("device")

    def cudaMalloc(self, size):
        buffer = ctypes.create_string_buffer(size)
        address = ctypes.addressof(buffer)
        self.memory[address] = buffer
        return self._answer("malloc", address)

    def cudaFree(self, address):
        del self.memory[address]
        return self._answer("free")

    def cudaStreamCreate(self):
        self.streams[1] = []
        return self._answer("stream", 1)

    def cudaStreamDestroy(self, stream):
        del self.streams[stream]
        return self._answer("stream gone")

    def issue(self, stream, name, work):
        self.asked.append(name)
        (self.streams[stream] if self.capturing is None else self.capturing).append(work)

    def cudaMemcpyAsync(self, into, of, size, kind, stream):
        self.issue(stream, "to device" if kind is Kind.cudaMemcpyHostToDevice else "to host", lambda: ctypes.memmove(into, of, size))
        return (Status.cudaErrorMemoryAllocation if self.fails == "copy" else Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream):
        waiting, self.streams[stream] = self.streams[stream], []
        for work in waiting:
            work()
        return self._answer("wait")

    def cudaStreamBeginCapture(self, stream, mode):
        self.capturing = []
        return self._answer("capture")

    def cudaStreamEndCapture(self, stream):
        recorded, self.capturing = self.capturing, None
        return self._answer("captured", recorded)

    def cudaGraphInstantiate(self, recorded, flags):
        return self._answer("graph", list(recorded))

    def cudaGraphDestroy(self, recorded):
        return self._answer("recording gone")

    def cudaGraphExecDestroy(self, graph):
        return self._answer("graph gone")

    def cudaGraphLaunch(self, graph, stream):
        self.issue(stream, "launch", lambda: [work() for work in graph])
        return (Status.cudaSuccess,)

    def cudaEventCreate(self):
        return self._answer("event", types.SimpleNamespace(at_ms=None))

    def cudaEventRecord(self, event, stream):
        self.issue(stream, "record", lambda: setattr(event, "at_ms", self.now_ms))
        return (Status.cudaSuccess,)

    def cudaEventElapsedTime(self, begin, end):
        return self._answer("elapsed", end.at_ms - begin.at_ms)

    def cudaEventDestroy(self, event):
        return self._answer("event gone")


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    BF16 = 2


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class Flag(enum.IntEnum):
    STRONGLY_TYPED = 1
    TF32 = 3


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class Context:
    """Doubles its input."""

    def __init__(self, cuda, most):
        self.cuda, self.most, self.shapes, self.addresses = cuda, most, {}, {}

    def set_input_shape(self, name, shape):
        self.cuda.asked.append("shape")
        self.shapes[name] = tuple(shape)
        return shape[0] <= self.most

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name):
        return self.shapes["x"]

    def execute_async_v3(self, stream):
        shape, x, y = self.shapes["x"], self.addresses["x"], self.addresses["y"]

        def kernel():
            size = int(np.prod(shape)) * 4
            values = np.frombuffer(ctypes.string_at(x, size), np.float32) * 2
            ctypes.memmove(y, values.ctypes.data, size)
            self.cuda.now_ms += KERNEL_MS

        self.cuda.issue(stream, "kernel", kernel)
        return True


class Engine:
    num_io_tensors = 2
    num_layers = 1
    device_memory_size_v2 = 4096

    def __init__(self, cuda, document):
        self.cuda, self.document = cuda, document

    def get_tensor_name(self, index):
        return "xy"[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return DataType.FLOAT

    def get_tensor_shape(self, name):
        return self.document["shape"]

    def create_execution_context(self):
        return Context(self.cuda, 32)


class FakeTensorrt:
    """The names of the module that this program uses. ``told`` is what a builder was told; ``fails`` the stage at which it gives up."""

    MemoryPoolType = types.SimpleNamespace(WORKSPACE="workspace")
    NetworkDefinitionCreationFlag = BuilderFlag = Flag
    TensorIOMode = TensorIOMode
    ILogger = ILogger

    def __init__(self, cuda, version="11.4.0", shape=(-1, 4), fails=None, takes_cache=True):
        self.cuda, self.__version__, self.shape, self.fails, self.takes_cache = cuda, version, shape, fails, takes_cache
        self.told = {}
        self.Logger = type("Logger", (ILogger,), {"__init__": lambda logger, severity: None})

    def Builder(self, logger):
        told, shape = self.told, self.shape
        config = types.SimpleNamespace(
            set_memory_pool_limit=lambda pool, size: told.update({pool: size}),
            set_flag=lambda flag: told.update({flag.name: True}),
            clear_flag=lambda flag: told.update({flag.name: False}),
            create_timing_cache=lambda known: told.update(known=known) or "cache",
            set_timing_cache=lambda cache, ignore_mismatch: self.takes_cache and not ignore_mismatch,
            get_timing_cache=lambda: types.SimpleNamespace(serialize=lambda: b"timings"),
            add_optimization_profile=lambda profile: told.update(profiles=told.get("profiles", 0) + 1),
        )
        layer = types.SimpleNamespace(num_outputs=1, get_output=lambda index: types.SimpleNamespace(dtype=DataType.FLOAT))
        network = types.SimpleNamespace(
            num_layers=3, get_layer=lambda index: layer, num_inputs=1, get_input=lambda index: types.SimpleNamespace(name="x", shape=shape)
        )

        def build(network, config):
            told["level"] = config.builder_optimization_level
            if self.fails == "build":
                logger.log(ILogger.WARNING, "this is slow")
                logger.log(ILogger.ERROR, "no kernel for node 7\nmore of it")
                return None
            return json.dumps({"shape": shape}).encode()

        return types.SimpleNamespace(
            create_network=lambda flags: told.update(flags=flags) or network,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: types.SimpleNamespace(
                set_shape=lambda name, least, best, most: told.update({name: (least, best, most)})
            ),
            build_serialized_network=build,
        )

    def OnnxParser(self, network, logger):
        error = types.SimpleNamespace(desc=lambda: "operator NonZero is not supported")
        return types.SimpleNamespace(parse_from_file=lambda path: self.fails != "parse", num_errors=1, get_error=lambda index: error)

    def Runtime(self, logger):
        return types.SimpleNamespace(
            deserialize_cuda_engine=lambda content: None if self.fails == "open" else Engine(self.cuda, json.loads(content))
        )


def put_in_place(monkeypatch, cuda, tensorrt):
    """Let ``import tensorrt`` and ``import cuda.bindings.runtime`` find these."""
    bindings = types.SimpleNamespace(runtime=cuda)
    for name, module in (("tensorrt", tensorrt), ("cuda", bindings), ("cuda.bindings", bindings), ("cuda.bindings.runtime", cuda)):
        monkeypatch.setitem(sys.modules, name, module)
