"""The parent's side of a worker: ask it, name how it failed, and leave nothing running. How it is started is the caller's choice."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import Failure, FailureReason
from harness.engine.protocol import REPLY, REQUEST, Failed, Reply, Request
from harness.store.files import hint_for

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
LOG_TAIL_LINES = 25
THIS_PYTHON = Path(sys.executable)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class WorkerFailed(CannotMeasure):
    """A worker did not answer; ``failure`` names why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.stage}: {failure.message}")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a worker sits: its role ("candidate"), cores and threads, log file, interpreter, and how far its environment is padded.

    ``padding_bytes`` shifts the stack: a result that holds under one environment size only is a layout artefact.
    """

    role: str
    cores: tuple[int, ...]
    threads: int
    log: Path
    python: Path = THIS_PYTHON
    padding_bytes: int = 0


class Process(Protocol):
    """A started worker process, the leader of a process group of its own."""

    @property
    def pid(self) -> int: ...
    def wait(self, timeout: float | None = None) -> int:
        """The exit code, -N where signal N ended it. Raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        ...


@runtime_checkable
class Forked(Process, Protocol):
    """A worker process that another one than this has for its parent."""

    @property
    def template_pid(self) -> int: ...


class Start(Protocol):
    """Starts a worker that serves the socket ``connection`` and prints to ``out``; both are file descriptors that it gets copies of."""

    def __call__(self, seat: Seat, connection: int, out: int) -> Process: ...


def spawn(seat: Seat, connection: int, out: int) -> Process:
    """A worker in a fresh interpreter, which imports everything anew."""
    return subprocess.Popen(
        [str(seat.python), "-P", "-m", "harness.engine.worker", str(connection), ",".join(map(str, seat.cores))],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        pass_fds=[connection],
        env=environment_of(seat),
        start_new_session=True,
    )


@dataclass(slots=True)
class Worker:
    """One worker process, as a context manager: it is gone when the block is left, however that happens."""

    seat: Seat
    start: Start = spawn
    process: Process = field(init=False)
    _connection: Connection = field(init=False)
    _ooms: int = field(init=False)
    _stage: str = field(init=False, default="")

    def __enter__(self) -> Worker:
        try:
            self.seat.log.parent.mkdir(parents=True, exist_ok=True)
            out = self.seat.log.open("ab")
        except OSError as error:
            raise CannotMeasure(f"{self.seat.log} cannot be written: {error.strerror or error}", hint=hint_for(error)) from error
        ours, theirs = socket.socketpair()
        self._ooms = _out_of_memory_kills()
        try:
            with theirs, out:
                self.process = self.start(self.seat, theirs.fileno(), out.fileno())
        except BaseException:  # Ctrl-C in the middle of a start too: a worker whose other end is closed ends by itself
            ours.close()
            raise
        self._connection = Connection(ours.detach())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        if kind is None:
            self._signal(signal.SIGCONT)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                log.debug("worker %d did not end by itself", self.process.pid)
        self._kill()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def template_pid(self) -> int | None:
        """The process that it was forked from; None where it was spawned."""
        return self.process.template_pid if isinstance(self.process, Forked) else None

    def rest(self) -> None:
        """Stop every thread of the worker until it is ``awake``: what a runtime leaves spinning would take the cores of the other arm."""
        self._signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def awake(self) -> Iterator[Worker]:
        """Let a resting worker run within the block."""
        self._signal(signal.SIGCONT)
        yield self
        self.rest()

    def tell(self, request: Request) -> None:
        """Send a request whose answer is collected later with ``answer``."""
        self._stage = f"{self.seat.role}, {request.kind}"
        try:
            self._connection.send_bytes(REQUEST.dump_json(request))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise WorkerFailed(self._died()) from error

    def answer(self, kind: type[Answer], *, timeout_s: float) -> Answer:
        """Wait for the answer to what was told.

        Raises WorkerFailed when the worker died, raised or took longer than ``timeout_s``; BadInput when the user's own code is at fault.
        """
        try:
            if not self._connection.poll(timeout_s):
                self._kill()
                message = f"'{self._stage}' took longer than {timeout_s:g} s and was ended"
                raise WorkerFailed(Failure(FailureReason.TIMEOUT, self._stage, message, self._log_tail()))
            reply: Reply = REPLY.validate_json(self._connection.recv_bytes())
        except (EOFError, ConnectionResetError) as error:
            raise WorkerFailed(self._died()) from error
        if isinstance(reply, Failed):
            if reply.bad_input:
                raise BadInput(Problem(reply.failure.message)) from WorkerFailed(reply.failure)
            raise WorkerFailed(dataclasses.replace(reply.failure, stage=self._stage))
        if not isinstance(reply, kind):
            raise RuntimeError(f"the worker answered {reply.kind!r} to {self._stage!r}")
        return reply

    def ask(self, request: Request, kind: type[Answer], *, timeout_s: float) -> Answer:
        """Send a request and wait for its answer; see ``answer`` for the errors."""
        self.tell(request)
        return self.answer(kind, timeout_s=timeout_s)

    def _died(self) -> Failure:
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._kill()
            code = self.process.wait()
        tail = self._log_tail()
        if code >= 0:
            return Failure(FailureReason.EXITED, self._stage, f"the worker ended by itself with exit code {code}", tail)
        name = signal.Signals(-code).name
        if code == -signal.SIGKILL and _out_of_memory_kills() > self._ooms:
            return Failure(
                FailureReason.OUT_OF_MEMORY, self._stage, "the worker was killed: the machine or its cgroup ran out of memory", tail
            )
        hint = " (often the out-of-memory killer: see the kernel's log)" if code == -signal.SIGKILL else ""
        return Failure(FailureReason.SIGNAL, self._stage, f"the worker was killed by {name}{hint}", tail)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _log_tail(self) -> str:
        lines = self.seat.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def environment_of(seat: Seat) -> dict[str, str]:
    """This process's variables with the thread counts of the seat, and as much padding as it says."""
    variables = dict(os.environ)
    variables.update(dict.fromkeys(THREAD_VARIABLES, str(seat.threads)))
    variables["PYTHONHASHSEED"] = "0"
    variables["PYTHONUNBUFFERED"] = "1"
    variables["TOKENIZERS_PARALLELISM"] = "false"
    variables["HARNESS_PADDING"] = "x" * seat.padding_bytes
    return variables


def _out_of_memory_kills() -> int:
    """How many processes of this cgroup the kernel has killed for memory; 0 where it does not say."""
    for path, key in ((Path("/sys/fs/cgroup/memory.events"), "oom_kill"), (Path("/sys/fs/cgroup/memory/memory.oom_control"), "oom_kill")):
        try:
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == key:
                    return int(value)
        except OSError:
            continue
    return 0
