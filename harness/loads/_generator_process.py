"""The parent's side of one generator process: started here or by ssh, read without waiting, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from harness.core.errors import CannotMeasure
from harness.core.program import program
from harness.loads._orders import Job
from harness.loads._ssh import MODULE, VARIABLES, GeneratorHost

LOG_TAIL_LINES = 12
MOST_LINE = 64 * 2**20
READ_BYTES = 1 << 20
CLOSING_S = 3.0
"""What a generator on another machine gets to end by itself once its stdin has ended, before its ssh is killed."""


@dataclass(slots=True)
class Said:
    """A message of a generator: a line, and the bytes that it names."""

    line: dict[str, object]
    data: bytes


@dataclass(slots=True)
class GeneratorProcess:
    """One generator. ``lost`` says why it is none any more, with what to do."""

    job: Job
    host: GeneratorHost | None
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)
    met: bool = False
    lost: CannotMeasure | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    _line: dict[str, object] | None = None
    _wanted: int = 0
    _giving: threading.Thread | None = None

    def start(self) -> None:
        """Raises CannotMeasure where there is no ssh here."""
        here = [sys.executable, "-P", "-m", MODULE, str(os.getpid())]
        try:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    here if self.host is None else self.host.command(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, **VARIABLES} if self.host is None else None,
                    start_new_session=True,
                )
        except OSError as error:
            if self.host is None:
                raise
            told = f"a generator on '{self.host.host}' needs ssh, which cannot be run: {error.strerror or error}"
            raise CannotMeasure(told, hint="install an ssh client") from error
        self.met = self.host is None

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def tell(self, pieces: Iterable[bytes]) -> None:
        """Write to it. One that has ended is told of where it is read."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            for piece in pieces:
                self.process.stdin.write(piece)
            self.process.stdin.flush()

    def give_job(self) -> None:
        """Send the job, by a thread of its own: it may be large, and the way to another machine slow."""
        name = f"job of generator {self.job.orders.process}"
        self._giving = threading.Thread(target=self.tell, args=(self.job.pieces(),), name=name, daemon=True)
        self._giving.start()

    def read(self) -> list[Said]:
        """The messages that are whole by now; waits for bytes where none are there. Sets ``lost`` where it has ended, or says what is not
        understood."""
        data = os.read(self.output.fileno(), READ_BYTES)
        if not data:
            self.lost = self.lost or self._ended(self.process.wait())
            return []
        self._buffer += data
        found = []
        while self.lost is None and (said := self._next()) is not None:
            found.append(said)
        return found

    def _next(self) -> Said | None:
        if self._line is None:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > MOST_LINE:
                    self.lost = self.failed("said what no generator says")
                return None
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            told = _object(line)
            if not self.met:
                return self._meet(told)
            if told is None:
                self.lost = self.failed(f"said what no generator says: {line[:80]!r}")
                return None
            self._line, self._wanted = told, _count(told.get("bytes"))
            if self._wanted > 16 * 2**20 + 64 * self.job.most_rows:
                self.lost = self.failed("has more to tell than it was asked for")
                return None
        if len(self._buffer) < self._wanted:
            return None
        said = Said(self._line, bytes(self._buffer[: self._wanted]))
        del self._buffer[: self._wanted]
        self._line = None
        return said

    def _meet(self, told: dict[str, object] | None) -> Said | None:
        """The first message of one on another machine. What a shell there says before it is passed over."""
        assert self.host is not None
        if told is None or "program" not in told:
            return self._next()
        theirs, ours = str(told["program"]), program()
        self.met = True
        if theirs != ours:
            text = f"'{self.host.host}' has {theirs[:80]}, and this is {ours}: two programs would not send one load"
            self.lost = CannotMeasure(text, hint=f"install the very same harness there, for {self.host.python}")
            return None
        return Said(told, b"")

    def failed(self, what: str) -> CannotMeasure:
        where = "a load generator" if self.host is None else f"the load generator on '{self.host.host}'"
        return CannotMeasure(f"{where} {what}", hint=self.log_told())

    def _ended(self, code: int) -> CannotMeasure:
        if self.host is not None:
            told, hint = self.host.why_ended(code, self._log_tail(), met=self.met)
            return CannotMeasure(told, hint=f"{hint}; {self.log_told()}" if self.met else hint)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return self.failed(f"ended before its time ({how})")

    def log_told(self) -> str:
        """The end of its log, under its path."""
        tail = self._log_tail()
        return "\n  ".join([f"{self.log} says:", *tail.splitlines()]) if tail else f"{self.log} is empty"

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def close_stdin(self) -> None:
        """What ends a generator on another machine. Not while its job is being written: that would wait for the writing."""
        if self.process.stdin is not None and not (self._giving is not None and self._giving.is_alive()):
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def end(self) -> None:
        """End it and wait for that; one on another machine has had its stdin closed before."""
        if self.host is not None and self.process.stdin is not None and self.process.stdin.closed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(CLOSING_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self._giving is not None:
            self._giving.join()
        self.close_stdin()
        self.output.close()


def _object(line: bytes) -> dict[str, object] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
