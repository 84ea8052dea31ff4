"""A server in a process of its own, as the leader of a process group: started, watched, stopped, and never left behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOG_TAIL_LINES = 25


@dataclass(slots=True)
class ServerProcess:
    """A started process and the file that it prints to."""

    process: subprocess.Popen[bytes]
    log_file: Path

    def log(self) -> str:
        """The end of what it printed."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])
        return ""

    def trouble(self) -> str | None:
        code = self.process.poll()
        if code is None:
            return None
        return f"the server was ended by {signal.Signals(-code).name}" if code < 0 else f"the server ended by itself with exit code {code}"


@contextmanager
def server_process(command: Sequence[str], log_file: Path, *, pass_fds: Sequence[int] = (), stop_s: float) -> Iterator[ServerProcess]:
    """Run a server while the block runs. Then it is asked to stop with SIGTERM; after ``stop_s`` seconds its whole group is killed."""
    with log_file.open("ab") as out:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=list(pass_fds), start_new_session=True
        )
    try:
        yield ServerProcess(process, log_file)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(stop_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def line_from(descriptor: int, timeout_s: float) -> bytes | None:
    """The first line that comes on a pipe, empty where its other end was closed, None after so long."""
    until = time.monotonic() + timeout_s
    found = b""
    while not found.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        found += piece
    return found
