"""A server of another make as a process: pinned, in a session of its own, its output in a file, ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure

if TYPE_CHECKING:
    import psutil

LOG_LINES = 20
POLL_S = 0.05
GRACE_S = 15.0
_START = """
import ctypes, os, signal, sys
cores = [int(core) for core in sys.argv[1].split(",") if core]
if cores:
    os.sched_setaffinity(0, cores)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Run before the server's own program, in its process: it is pinned from its first instruction, and is asked to end when its parent is
gone. A binary has no option for either."""


@dataclass(frozen=True, slots=True)
class OtherServer:
    """A process that was started, what it is called for people, and the file that it prints to."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path

    def pids(self) -> tuple[int, ...]:
        """It and all that it started, as far as they live; nothing once it has ended."""
        return tuple(process.pid for process in _family(self.process.pid))

    def ended(self) -> str | None:
        """How it ended, in one line; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"{self.name} ended with {how}"

    def printed(self, lines: int = LOG_LINES, having: str = "") -> str:
        """The end of what it printed, without the tables that some draw; only lines ``having`` a text, where one is given."""
        text = self.output.read_text(errors="replace") if self.output.is_file() else ""
        kept = [line for line in text.splitlines() if line.strip() and line[0] not in "+|" and having in line]
        return "\n".join(kept[-lines:])

    def listening_ports(self) -> tuple[int, ...]:
        """The ports that it listens on, as the kernel tells them: a server that was given port 0 need not tell which one it got."""
        import psutil

        for process in _family(self.process.pid)[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                sockets = process.net_connections(kind="tcp")
                return tuple(int(socket.laddr.port) for socket in sockets if socket.status == psutil.CONN_LISTEN)
        return ()

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait for ``ready``. Raises CannotMeasure with the end of its output when it ends before, or the time is over."""
        end = time.monotonic() + timeout_s
        while not ready():
            if (how := self.ended()) is not None:
                raise self.failed(f"{how} before its model was ready")
            if time.monotonic() > end:
                raise self.failed(f"{self.name} was not ready within {timeout_s:g} s")
            time.sleep(POLL_S)

    def failed(self, message: str, having: str = "") -> CannotMeasure:
        """An error with the end of what it printed; only lines ``having`` a text, where one is given."""
        told = self.printed(having=having) or "(nothing)"
        return CannotMeasure(f"{message}; it printed last:\n{told}", hint=f"all that it printed is in {self.output}")

    def end(self) -> None:
        """Ask it to end, wait, and kill what is left of it and of all that it started."""
        import psutil

        family = _family(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # whoever joined its session since
        self.process.wait()
        psutil.wait_procs([process for process in family if process.pid != self.process.pid], timeout=GRACE_S)


@contextlib.contextmanager
def started(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    cores: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[OtherServer]:
    """Start a server in ``folder``, with its output in ``server.log`` there, and end it with the block."""
    output = folder / "server.log"
    pinned = ",".join(map(str, cores)) if hasattr(os, "sched_setaffinity") else ""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, pinned, *command],
            cwd=folder,
            env=dict(environment) if environment is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = OtherServer(name, process, output)
    try:
        yield server
    finally:
        server.end()


def _family(pid: int) -> list[psutil.Process]:
    import psutil

    try:
        main = psutil.Process(pid)
        return [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
