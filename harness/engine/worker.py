"""The worker process: does what the parent asks, one request at a time, until the parent hangs up.

Started as ``python -P -m harness.engine.worker FD CORES``. Everything that a model's code prints goes to the worker's log file. It is
pinned before anything else is imported, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.artifact import Dataset
    from harness.core.measurement import Slice
    from harness.core.plugin import Load, Session
    from harness.engine.protocol import (
        BuildStep,
        Built,
        CompareLayers,
        ContentsTold,
        Finished,
        LayersCompared,
        MakeData,
        Opened,
        Profiled,
        Reply,
        Request,
        SliceTaken,
        Subject,
        TellContents,
        WarmedUp,
    )

PREPARED_BYTES = 64 * 2**20
"""Distinct batches are held ready up to this many bytes (at least two), so that inputs vary from call to call."""
PREPARED_BATCHES = 64
PROFILED_BATCHES = 8
FIRST = -20
"""The niceness of what is never made to wait."""


class NotFinite(ValueError):
    """A model gave NaN or infinity."""


class Bench:
    """An opened session on the worker's bench: preloaded, opened, warmed up, asked for slices."""

    def __init__(self, subject: Subject, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.subject = subject
        self.clock = clock
        self.resources = ExitStack()
        self.data: Dataset | None = None
        self.session: Session | None = None
        self.load: Load | None = None
        self.prepared: list[object] = []
        self.timed_queries = 0

    def preload(self) -> None:
        from harness.core.plugin import Runtime
        from harness.engine.datasets import read_dataset
        from harness.engine.plugin_options import plugin_of

        self.runtime = cast("Runtime", plugin_of("runtimes", self.subject.runtime, self.subject.scenario_folder))
        self.load = cast("Load", plugin_of("loads", self.subject.load, self.subject.scenario_folder))
        self.runtime.preload(self.subject.artifact)
        self.data = read_dataset(self.subject.data)

    def open(self) -> Opened:
        from harness.core.plugin import Device
        from harness.engine.protocol import Opened

        assert self.data is not None
        _go_first()
        gc.collect()
        _forget_peak_memory()
        idle = _resident_bytes()
        device = Device(self.subject.device, self.subject.threads)
        start = self.clock()
        self.session = self.resources.enter_context(self.runtime.open(self.subject.artifact, device))
        load_ns = self.clock() - start
        self.prepared = _prepare(self.session, self.data, self.subject.batch_size)
        start = self.clock()
        raw = self.session.run(self.prepared[0])
        first_call_ns = self.clock() - start
        _check_finite(self.session.outputs(raw), "the first call")
        return Opened(os.getpid(), load_ns, first_call_ns, idle)

    def warm_up(self, duration_ns: int, calls: int) -> WarmedUp:
        from harness.engine.protocol import WarmedUp

        run, batches, clock = self._ready()
        _sit_down()
        latencies: list[int] = []
        begin = clock()
        while len(latencies) < calls or clock() - begin < duration_ns:
            start = clock()
            run(batches[len(latencies) % len(batches)])
            latencies.append(clock() - start)
        calls_made, query_ns = len(latencies), round(statistics.median(latencies[len(latencies) // 2 :]))
        in_flight = self._in_flight()
        if in_flight > 1:
            self._issue(batches, in_flight)  # the first query of each request that the session makes for it
            taken = self._issue(batches, max(in_flight, len(latencies)))
            calls_made, query_ns = calls_made + in_flight + taken.queries, taken.duration_ns // taken.queries
        gc.collect()
        self._device_times()  # those of the warm-up are not kept
        gc.freeze()  # what is alive now stays alive: later collections skip it and take microseconds
        return WarmedUp(calls_made, query_ns, in_flight)

    def take_slice(self, queries: int) -> SliceTaken:
        from harness.engine.protocol import SliceTaken

        _, batches, _ = self._ready()
        turn = self.timed_queries % len(batches)  # go on where the last slice ended: inputs vary from slice to slice too
        self.timed_queries += queries
        gc.collect()
        gc.disable()
        _sit_down()
        try:
            taken = self._issue([*batches[turn:], *batches[:turn]], queries)
        finally:
            gc.enable()
        return SliceTaken(dataclasses.replace(taken, device_ns=self._device_times()))

    def predict(self, into: Path) -> None:
        """Outputs over the evaluation set, in batches of the trial's size; the last batch goes round and its surplus is cut.

        The first samples are asked again, for at most as long as they took.
        """
        import numpy as np

        from harness.engine.ask_twice import MOST_SAMPLES, ask_twice
        from harness.engine.datasets import write_predictions

        assert self.data is not None
        size, count = self.subject.batch_size, self.data.count
        columns: list[list[NDArray[np.generic]]] = []
        begin, first_ns = self.clock(), 0
        for start in range(0, count, size):
            columns.append(self._outputs_from(start))
            if start < MOST_SAMPLES:
                first_ns = self.clock() - begin
        repeat = ask_twice(self._outputs_from, columns, size, count, first_ns, self.clock)
        arrays = [np.concatenate([row[index] for row in columns])[:count] for index in range(len(columns[0]))]
        write_predictions(into, arrays, self.data.targets, repeat)

    def _outputs_from(self, start: int) -> list[NDArray[np.generic]]:
        import numpy as np

        assert self.session is not None and self.data is not None
        size, count = self.subject.batch_size, self.data.count
        outputs = self.session.outputs(self.session.run(self.session.prepare(self.data.batch(start, size))))
        _check_finite(outputs, f"samples {start} to {min(start + size, count) - 1}")
        return [np.array(output) for output in outputs]

    def take_profile(self, least_ns: int, trace: Path) -> Profiled:
        """The runtime opens a session of its own for it: what is timed otherwise runs without a profiler."""
        from harness.core.plugin import Device, Profiles
        from harness.engine.protocol import Profiled

        assert self.data is not None
        if not isinstance(self.runtime, Profiles):
            return Profiled(None)
        size = self.subject.batch_size
        batches = [self.data.batch(index * size, size) for index in range(PROFILED_BATCHES)]
        device = Device(self.subject.device, self.subject.threads)
        return Profiled(self.runtime.profile(self.subject.artifact, device, batches, least_ns, trace))

    def finish(self) -> Finished:
        from harness.engine.protocol import Finished

        assert self.session is not None
        peak, device_peak = _peak_resident_bytes(), _device_peak_bytes(self.subject.device)
        if self.timed_queries:  # the outputs of timed queries are not read: one more says whether they were sound
            _check_finite(self.session.outputs(self.session.run(self.prepared[0])), "the call after the last slice")
        facts = self.session.facts
        self.resources.close()
        return Finished(facts, peak, device_peak)

    def _device_times(self) -> tuple[int, ...]:
        from harness.core.plugin import HasDeviceClock

        return self.session.device_times() if isinstance(self.session, HasDeviceClock) else ()

    def _in_flight(self) -> int:
        """How many queries are computed at once: several where the load has them all and the session takes them."""
        from harness.core.plugin import IssuesAll, RunsMany

        return self.session.in_flight if isinstance(self.load, IssuesAll) and isinstance(self.session, RunsMany) else 1

    def _issue(self, batches: Sequence[object], queries: int) -> Slice:
        from harness.core.plugin import IssuesAll, RunsMany

        run, _, clock = self._ready()
        assert self.load is not None
        if isinstance(self.load, IssuesAll) and isinstance(self.session, RunsMany) and self.session.in_flight > 1:
            return self.load.take_slice_of_all(self.session.run_many, batches, queries, clock)
        return self.load.take_slice(run, batches, queries, clock)

    def _ready(self) -> tuple[Callable[[object], object], Sequence[object], Callable[[], int]]:
        assert self.session is not None
        return self.session.run, self.prepared, self.clock


def serve(connection: Connection) -> None:
    """Answer requests until the other end closes."""
    from harness.core.errors import BadInput, HarnessError
    from harness.core.measurement import Failure, FailureReason
    from harness.engine.protocol import REPLY, REQUEST, Failed

    bench: list[Bench] = []
    while True:
        try:
            request = REQUEST.validate_json(connection.recv_bytes())
        except EOFError:
            return
        try:
            reply: Reply = _carry_out(request, bench)
        except Exception as error:  # noqa: BLE001 - the worker's outermost frame: a failure must reach the parent with its name
            reason = FailureReason.EXCEPTION
            if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
                reason = FailureReason.OUT_OF_MEMORY
            elif isinstance(error, NotFinite):
                reason = FailureReason.BAD_OUTPUT
            text = str(error).strip().replace("\n  ", "; ") or "no message"
            message = text if isinstance(error, HarnessError | NotFinite) else f"{type(error).__name__}: {text.splitlines()[0]}"
            failure = Failure(reason, request.kind, message, traceback.format_exc())
            reply = Failed(failure, bad_input=isinstance(error, BadInput))
        sys.stdout.flush()
        connection.send_bytes(REPLY.dump_json(reply))


def _carry_out(request: Request, bench: list[Bench]) -> Reply:
    from harness.engine import protocol

    match request:
        case protocol.MakeData():
            return _make_data(request)
        case protocol.BuildStep():
            return _build(request)
        case protocol.Preload():
            bench[:] = [Bench(request.subject)]  # what was on the bench before makes room
            bench[-1].preload()
        case protocol.Open():
            return bench[-1].open()
        case protocol.WarmUp():
            return bench[-1].warm_up(request.duration_ns, request.calls)
        case protocol.TakeSlice():
            return bench[-1].take_slice(request.queries)
        case protocol.Predict():
            bench[-1].predict(request.into)
        case protocol.TakeProfile():
            return bench[-1].take_profile(request.least_ns, request.trace)
        case protocol.TellContents():
            return _tell_contents(request)
        case protocol.CompareLayers():
            return _compare_layers(request)
        case protocol.Finish():
            return bench[-1].finish()
    return protocol.Done()


def _make_data(request: MakeData) -> Reply:
    from harness.engine.datasets import make_dataset, write_dataset
    from harness.engine.protocol import Done

    write_dataset(request.into, make_dataset(request.spec, request.role, request.seed, request.scenario_folder, request.root))
    return Done()


def _build(request: BuildStep) -> Built:
    from harness.core.errors import CannotMeasure
    from harness.core.plugin import BuildContext, Pass, Source
    from harness.engine.datasets import read_dataset
    from harness.engine.plugin_options import plugin_of
    from harness.engine.protocol import Built

    def data(role: str) -> Dataset:
        if role not in request.data:
            raise CannotMeasure(f"'{request.plugin.name}' needs data.{role}", hint=f"add 'data: {{{role}: models/file.py:function}}'")
        return read_dataset(request.data[role])

    context = BuildContext(
        folder=request.into,
        scenario_folder=request.scenario_folder,
        root=request.root,
        args=request.args,
        data=data,
        seed=request.seed,
        device=request.device,
        remote_code=request.remote_code,
    )
    if request.artifact is None:
        source = cast("Source", plugin_of("sources", request.plugin, request.scenario_folder))
        return Built(source.load(context))
    step = cast("Pass", plugin_of("passes", request.plugin, request.scenario_folder))
    return Built(step.apply(request.artifact, context))


def _tell_contents(request: TellContents) -> ContentsTold:
    from harness.engine.protocol import ContentsTold
    from harness.formats.contents import contents_of

    return ContentsTold(contents_of(request.artifact))


def _compare_layers(request: CompareLayers) -> LayersCompared:
    from harness.engine.datasets import read_dataset
    from harness.engine.protocol import LayersCompared
    from harness.formats.layers import layer_differences

    data = read_dataset(request.data)
    return LayersCompared(tuple(layer_differences(request.before, request.after, data, request.batch_size)))


def _go_first() -> None:
    """Go before what else runs on these cores, where that is allowed (root, or CAP_SYS_NICE); threads made from now on do too."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, FIRST)
            Path("/proc/self/autogroup").write_text(str(FIRST))  # where it is on, sessions compete before their processes do


def _sit_down() -> None:
    """Begin on the first of this worker's cores, free to leave it: cores differ by what else they serve, and both arms get the same one."""
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        os.sched_setaffinity(0, cores)


def _prepare(session: Session, data: Dataset, batch_size: int) -> list[object]:
    size = sum(values[:1].nbytes for values in data.inputs.values()) * batch_size
    distinct = max(1, -(-data.count // batch_size))
    count = min(PREPARED_BATCHES, distinct, max(2, PREPARED_BYTES // max(1, size)))
    return [session.prepare(data.batch(index * batch_size, batch_size)) for index in range(count)]


def _check_finite(outputs: Sequence[NDArray[np.generic]], where: str) -> None:
    import numpy as np

    for index, output in enumerate(outputs):
        if np.issubdtype(output.dtype, np.inexact) and not np.isfinite(output).all():
            bad = int(output.size - np.isfinite(output).sum())
            raise NotFinite(
                f"output {index} holds NaN or infinity ({bad} of {output.size} values in {where}): such a model is not measured"
            )


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _forget_peak_memory() -> None:
    """Let the kernel's peak start anew (Linux; elsewhere the peak is the process's whole life)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_resident_bytes() -> int:
    import resource

    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device_peak_bytes(device: str) -> int | None:
    torch = sys.modules.get("torch")
    if device == "cpu" or torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated(device))


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone (Linux), so that no worker outlives a killed gate."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    descriptor, cores = int(sys.argv[1]), [int(core) for core in sys.argv[2].split(",") if core]
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it ends its workers
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")  # to the worker's log: how far a training is, for one
    with Connection(descriptor) as connection:
        serve(connection)


if __name__ == "__main__":
    main()
