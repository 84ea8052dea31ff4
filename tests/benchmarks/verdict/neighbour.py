"""A noisy neighbour on the same cores: a busy loop and a memory writer, each in bursts, ended with whoever started them.

Bounded on purpose: together they take about half of a core's time and 64 MiB, in bursts of 5 to 60 ms that are drawn from a seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

KINDS = ("busy", "memory")
DUTY = 0.25
"""The share of its time in which each of the two works."""
BURST_S = (0.005, 0.060)
BUFFER_BYTES = 32 * 2**20
SETTLE_S = 0.1


@dataclass(slots=True)
class Neighbours:
    """Both of them, as a context manager: stopped, but within a ``noisy`` block, and gone when the block is left."""

    cores: Sequence[int]
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Neighbours:
        for kind in KINDS:
            command = [sys.executable, __file__, kind, ",".join(map(str, self.cores))]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            self._processes.append(process)
            assert process.stdout is not None
            process.stdout.readline()  # it is pinned and about to work
            process.send_signal(signal.SIGSTOP)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        self._processes.clear()

    @contextmanager
    def noisy(self) -> Iterator[None]:
        """Both work within the block. Raises RuntimeError when one has ended: a quiet pair must not be told as a noisy one."""
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        try:
            yield
            if any(process.poll() is not None for process in self._processes):
                raise RuntimeError("a noisy neighbour has ended")
        finally:
            for process in self._processes:
                process.send_signal(signal.SIGSTOP)


def work(kind: str, until: Callable[[], bool], clock: Callable[[], float], sleep: Callable[[float], None], draw: random.Random) -> None:
    """Bursts of work of one kind, and rests that make them its ``DUTY``, until told to end."""
    source, target = bytes(BUFFER_BYTES), bytearray(BUFFER_BYTES)
    while not until():
        burst_s = draw.uniform(*BURST_S)
        begin = clock()
        while clock() - begin < burst_s:
            if kind == "memory":
                target[:] = source
            else:
                sum(range(2_000))
        sleep((clock() - begin) * (1 - DUTY) / DUTY)


def main() -> None:
    kind, cores = sys.argv[1], [int(core) for core in sys.argv[2].split(",")]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    parent = os.getppid()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    work(kind, lambda: os.getppid() != parent, time.monotonic, time.sleep, random.Random(kind))


def _end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone (Linux): a stopped one would never look."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    main()
