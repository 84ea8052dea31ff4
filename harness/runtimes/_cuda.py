"""Device memory, a stream, events and graphs through CUDA's own runtime (cuda-bindings). Written by its documentation; unverified."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from harness.formats.tensorrt_engine import done

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Buffer:
    """Bytes on the device; freed when nothing refers to them any more."""

    def __init__(self, cuda: ModuleType, size: int) -> None:
        self.address = int(done(cuda.cudaMalloc(max(1, size))))
        self.size = size
        weakref.finalize(self, cuda.cudaFree, self.address).atexit = False  # the driver may be gone by then, and frees all itself


class Stream:
    """A stream of its own, in which everything is issued: copies, kernels, events and graphs."""

    def __init__(self, cuda: ModuleType) -> None:
        self.cuda = cuda
        self.handle: Any = done(cuda.cudaStreamCreate())

    def close(self) -> None:
        self.cuda.cudaStreamDestroy(self.handle)

    def wait(self) -> None:
        done(self.cuda.cudaStreamSynchronize(self.handle))

    def to_device(self, buffer: Buffer, values: NDArray[np.generic]) -> None:
        """Copy an array that is contiguous and stays alive until the stream has been waited for."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        done(self.cuda.cudaMemcpyAsync(buffer.address, values.ctypes.data, values.nbytes, kind, self.handle))

    def to_host(self, values: NDArray[np.generic], buffer: Buffer) -> None:
        """Fill an array from the device, once the stream has been waited for."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        done(self.cuda.cudaMemcpyAsync(values.ctypes.data, buffer.address, values.nbytes, kind, self.handle))

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what ``work`` issues as a graph; nothing of it runs."""
        done(self.cuda.cudaStreamBeginCapture(self.handle, self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
        try:
            work()
        finally:
            recorded = done(self.cuda.cudaStreamEndCapture(self.handle))
        return Graph(self, recorded)


class Graph:
    """A recorded piece of work, launched with one call."""

    def __init__(self, stream: Stream, recorded: Any) -> None:
        self._stream = stream
        self._ready = done(stream.cuda.cudaGraphInstantiate(recorded, 0))
        stream.cuda.cudaGraphDestroy(recorded)
        weakref.finalize(self, stream.cuda.cudaGraphExecDestroy, self._ready).atexit = False

    def launch(self) -> None:
        done(self._stream.cuda.cudaGraphLaunch(self._ready, self._stream.handle))


class EventClock:
    """Times a block with a pair of events around it, and waits for the stream at its end; ``take`` gives the times in ns.

    Events are made when there are too few, which the warm-up sees to, and read by ``take``: in a timed query they are only recorded.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._events: list[tuple[Any, Any]] = []
        self._used = 0

    def __enter__(self) -> None:
        cuda = self._stream.cuda
        if self._used == len(self._events):
            self._events.append((done(cuda.cudaEventCreate()), done(cuda.cudaEventCreate())))
        done(cuda.cudaEventRecord(self._events[self._used][0], self._stream.handle))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        done(self._stream.cuda.cudaEventRecord(self._events[self._used][1], self._stream.handle))
        self._used += 1
        self._stream.wait()

    def take(self) -> tuple[int, ...]:
        """The times since it was asked last, in order."""
        pairs = self._events[: self._used]
        self._used = 0
        return tuple(round(float(done(self._stream.cuda.cudaEventElapsedTime(begin, end))) * 1e6) for begin, end in pairs)

    def close(self) -> None:
        for pair in self._events:
            for event in pair:
                self._stream.cuda.cudaEventDestroy(event)
