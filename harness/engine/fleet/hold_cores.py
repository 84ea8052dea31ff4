"""One measurement at a time on a core, also when several drivers or several nodes of one machine want it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def hold_cores(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock for each core that this process may use, waiting for as long as another process has one.

    Always in the order of their numbers, so that two that overlap never wait for each other; disjoint ones never wait. The locks are
    files in ``folder``, of this user, and go with the process however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for core in sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]:
            lock = FileLock(folder / f"core-{core}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                say(f"waits for core {core}: another measurement has it")
                lock.acquire()
            held.callback(lock.release)
        yield
