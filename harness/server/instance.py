"""One model process as the server sees it: started, asked, and started anew when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from harness.server import frames
from harness.server.frames import HEADER, Kind

if TYPE_CHECKING:
    from harness.server.requests import Request

log = logging.getLogger("harness.server")
FIRST_BACKOFF_S = 0.1
GREATEST_BACKOFF_S = 10.0
SOUND_AFTER_S = 30.0
"""A process that lived so long is started anew at once when it ends."""
BUFFER_BYTES = 1 << 18
MOST_PIECES = 512
"""Of one system call; the kernel takes 1,024."""


class State(Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"
    CLOSED = "closed"


class Instance:
    """A model process behind a socket. What happens to it is told by calls on the loop: ``ready`` with what it says of itself, ``done``
    with an answered batch, ``failed`` with what it said in place of an answer, ``lost`` when it is gone, with the batch that
    it had and whether it had been ready."""

    def __init__(
        self,
        number: int,
        command: Callable[[int], Sequence[str]],
        environment: Mapping[str, str],
        ready: Callable[[Instance, Mapping[str, object]], None],
        done: Callable[[Instance, list[Request], frames.Frame], None],
        failed: Callable[[Instance, list[Request], str], None],
        lost: Callable[[Instance, list[Request], str, bool], None],
    ) -> None:
        self.number = number
        self.state = State.GONE
        self.batch: list[Request] = []
        self.since_ns = 0
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._environment = environment
        self._ready, self._done, self._failed, self._lost = ready, done, failed, lost
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._into, self._got = self._view, 0
        self._unsent: list[bytes | bytearray | memoryview] = []
        self._facts: list[asyncio.Future[Mapping[str, object]]] = []
        self._backoff_s = FIRST_BACKOFF_S
        self._started_s = 0.0

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            self.process = subprocess.Popen(
                self._command(theirs.fileno()), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=dict(self._environment)
            )
        self._socket = ours
        self._into, self._got = self._view, 0
        self.state = State.STARTING
        self._started_s = time.monotonic()
        self._loop.add_reader(ours.fileno(), self._readable)

    @property
    def pid(self) -> int | None:
        return None if self.process is None or self.state in (State.GONE, State.CLOSED) else self.process.pid

    def run(self, batch: list[Request], samples: int, now_ns: int) -> None:
        """Send a batch to a process that is idle."""
        self.state, self.batch, self.since_ns = State.BUSY, batch, now_ns
        first = batch[0]
        if len(first.chunks) == 1:
            pieces: list[bytes | bytearray | memoryview] = [request.chunks[0] for request in batch]
        else:
            pieces = []
            for number in range(len(first.chunks)):
                column = [request.chunks[number] for request in batch]
                pieces += column
                pieces.append(bytes(frames.padding(sum(len(chunk) for chunk in column))))
        body = sum([len(piece) for piece in pieces])
        self._send([frames.header_of(Kind.RUN, samples, first.signature, body) + first.signature, *pieces])

    async def facts(self) -> Mapping[str, object]:
        """What really runs, asked of the process when it is idle."""
        self.state, self.batch, self.since_ns = State.BUSY, [], time.monotonic_ns()
        future: asyncio.Future[Mapping[str, object]] = self._loop.create_future()
        self._facts.append(future)
        self._send([frames.header_of(Kind.FACTS, 0, b"", 0)])
        return await future

    def kill(self) -> None:
        """End it; ``lost`` follows."""
        if self.process is not None:
            self.process.kill()

    def close(self, wait_s: float = 5.0) -> None:
        """End it for good."""
        if self.state is State.BUSY:
            self.kill()
        if self.state not in (State.GONE, State.CLOSED):
            self._hang_up()
        self.state = State.CLOSED
        if self.process is not None:
            try:
                self.process.wait(wait_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _send(self, pieces: list[bytes | bytearray | memoryview]) -> None:
        try:
            if len(pieces) <= MOST_PIECES:
                left = frames.unsent(pieces, self._socket.sendmsg(pieces))
            else:
                left = pieces
        except (BlockingIOError, InterruptedError):
            left = pieces
        except OSError:
            return  # it has gone: the reader sees that too, and tells
        if left:
            self._unsent = left
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        try:
            self._unsent = frames.unsent(self._unsent, self._socket.sendmsg(self._unsent[:MOST_PIECES]))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._unsent = []
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            received = self._socket.recv_into(self._into[self._got :])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            received = 0
        if not received:
            self._ended()
            return
        self._got += received
        if self._got < HEADER.size:
            return
        kind, head_bytes, number, body_bytes = HEADER.unpack_from(self._into)
        start = HEADER.size + head_bytes
        total = start + body_bytes
        if total > len(self._into):
            whole = memoryview(bytearray(total))
            whole[: self._got] = self._into[: self._got]
            self._into = whole
        if self._got < total:
            return
        into, self._into, self._got = self._into, self._view, 0
        body = into[start:total] if into is not self._view else memoryview(bytes(into[start:total]))
        self._told(frames.Frame(Kind(kind), number, bytes(into[HEADER.size : start]), body))

    def _told(self, frame: frames.Frame) -> None:
        """One frame; its body is its own."""
        batch, self.batch = self.batch, []
        starting = self.state is State.STARTING
        self.state = State.IDLE
        if frame.kind is Kind.DONE:
            self._done(self, batch, frame)
        elif frame.kind is Kind.READY:
            self._ready(self, json.loads(frame.head))
        elif frame.kind is Kind.FACTS:
            future = self._facts.pop()
            if not future.done():  # who asked may have gone
                future.set_result(json.loads(frame.head))
            self._failed(self, [], "")
        else:
            message = str(json.loads(frame.head)["message"])
            if starting:
                self.state = State.STARTING  # it ends by itself now
                self.last_words = message
            else:
                self._failed(self, batch, message)

    last_words = ""

    def _ended(self) -> None:
        first_time = self.state is State.STARTING
        self._hang_up()
        self.state = State.GONE
        batch, self.batch = self.batch, []
        for future in self._facts:
            future.cancel()
        self._facts.clear()
        assert self.process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.01)  # the socket closes a moment before the process is gone
        self.process.kill()
        reason = self.last_words if first_time and self.last_words else _how(self.process)
        if time.monotonic() - self._started_s > SOUND_AFTER_S:
            self._backoff_s = FIRST_BACKOFF_S
        self._lost(self, batch, reason, not first_time)

    def start_again(self) -> float:
        """Start a new process after a pause that grows while they do not live; gives the pause in s."""
        pause = self._backoff_s
        self._backoff_s = min(GREATEST_BACKOFF_S, 2 * pause)
        self.restarts += 1
        self._loop.call_later(pause, self._start_again)
        return pause

    def _start_again(self) -> None:
        if self.state is not State.GONE:
            return
        if self.process is not None and self.process.poll() is None:
            self._loop.call_later(0.05, self._start_again)
            return
        self.last_words = ""
        self.start()

    def _hang_up(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        if self._unsent:
            self._loop.remove_writer(self._socket.fileno())
            self._unsent = []
        self._socket.close()


def _how(process: subprocess.Popen[bytes]) -> str:
    code = process.poll()
    if code is None:
        return "it hung up"
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended by itself with exit code {code}"


def command_of(python: Path, settings_file: Path) -> Callable[[int], Sequence[str]]:
    """How a model process is started on a descriptor."""
    return lambda descriptor: [str(python), "-P", "-m", "harness.server.model", str(descriptor), str(settings_file)]
