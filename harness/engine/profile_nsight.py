"""Queries of one arm under Nsight Systems: what CUDA, cuDNN and the system did meanwhile, as a report that its own window opens.

Unverified with a real ``nsys``: the options are those of its documentation, and the tests have a stand-in that runs what it is given.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.scenario import PluginRef
from harness.engine import protocol
from harness.engine.measure import WARM_UP_CALLS
from harness.engine.workers import Seat, Worker, environment_of

if TYPE_CHECKING:
    from harness.engine.procedure import Procedure
    from harness.engine.protocol import Subject

PROGRAM = "nsys"
SUFFIX = ".nsys-rep"
TRACED = "cuda,cudnn,cublas,nvtx,osrt"
WRITES_S = 300.0
"""How long it may take to write its report once the worker has ended."""
SLOWER = 20
"""How many times longer than without it the queries may take before they are called hung."""


@dataclass(frozen=True, slots=True)
class Nsight:
    """The program as it is on the path."""

    program: Path

    def record(self, subject: Subject, procedure: Procedure, report: Path, *, least_ns: int) -> Path:
        """Queries for about ``least_ns`` ns in a worker of its own, opened and warmed up as for a launch; the report that was written.

        A load over the network is left out: the model is asked in the worker. Raises WorkerFailed when the worker does not answer, and
        CannotMeasure when there is no report at the end.
        """
        report.parent.mkdir(parents=True, exist_ok=True)
        if subject.served is not None:
            subject = dataclasses.replace(subject, load=PluginRef(name="single_stream"), served=None)
        log = procedure.logs / f"{report.stem}.log"
        timeout_s = procedure.timeout_s + SLOWER * least_ns / 1e9
        with Worker(Seat("nsys", subject.cores, subject.threads, log), _Wrapped(self.program, report)) as worker:
            worker.ask(protocol.Preload(subject), protocol.Done, timeout_s=timeout_s)
            worker.ask(protocol.Open(), protocol.Opened, timeout_s=timeout_s)
            warm_up = protocol.WarmUp(round(procedure.times.warm_up), WARM_UP_CALLS)
            warmed = worker.ask(warm_up, protocol.WarmedUp, timeout_s=timeout_s)
            queries = max(1, least_ns // max(1, warmed.query_ns))
            worker.ask(protocol.TakeSlice(queries), protocol.SliceTaken, timeout_s=timeout_s)
            worker.ask(protocol.Finish(), protocol.Finished, timeout_s=timeout_s)
        written = report.with_suffix(SUFFIX)
        if not written.is_file():
            tail = "; ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
            raise CannotMeasure(f"{self.program} wrote no report {written}{f': {tail}' if tail else ''}")
        return written


def nsight_here() -> Nsight:
    """Raises BadInput where it is not installed."""
    found = shutil.which(PROGRAM)
    if found is None:
        hint = "install NVIDIA Nsight Systems, or leave --nsys out: the runtime's own profiler needs nothing more"
        raise BadInput(Problem(f"--nsys: there is no '{PROGRAM}' on the path", hint=hint))
    return Nsight(Path(found))


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """Starts a worker below ``nsys profile``; the socket is handed on as an open file descriptor."""

    program: Path
    report: Path

    def __call__(self, seat: Seat, connection: int, out: int) -> _Recording:
        recorder = [
            str(self.program),
            "profile",
            f"--output={self.report.absolute().with_suffix('')}",
            "--force-overwrite=true",
            f"--trace={TRACED}",
            "--sample=none",
        ]
        worker = [str(seat.python), "-P", "-m", "harness.engine.worker", str(connection), ",".join(map(str, seat.cores))]
        process = subprocess.Popen(
            [*recorder, *worker],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=[connection],
            env=environment_of(seat),
            start_new_session=True,
        )
        return _Recording(process)


@dataclass(frozen=True, slots=True)
class _Recording:
    """The recorder's process; whoever waits for it gives it the time to write."""

    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, timeout: float | None = None) -> int:
        return self.process.wait(None if timeout is None else max(timeout, WRITES_S))
