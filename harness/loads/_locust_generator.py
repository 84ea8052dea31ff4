"""A generator process: ``python -m harness.loads._locust_generator ORDERS``. Locust runs here and nowhere else.

It says on stdout that it is ready, waits for a line on stdin with the moment to begin (monotonic clock, ns), does what its orders say,
writes its records, and reports. Locust's environment, runner, users, request event and statistics are what runs; its table is in the log.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
from pathlib import Path

FIRST = -20
"""The niceness of what is to send on time."""


def main() -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a Locust file prints belongs to the log
    from harness.loads._orders import READY, Orders, Report

    orders = Orders.read(Path(sys.argv[1]))
    _end_with_parent(orders.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it ends its generators
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    _be_on_time(orders.cores)
    _allow_connections()
    import locust  # noqa: F401  # first of all: it patches what the rest imports

    from harness.loads._locust_users import ClosedLoop, OpenLoop
    from harness.loads._own_locustfile import BadLocustfile, OwnLocustfile

    try:
        load = {"open": OpenLoop, "closed": ClosedLoop, "locustfile": OwnLocustfile}[orders.kind](orders)
    except BadLocustfile as error:
        logging.getLogger(__name__).exception("the Locust file cannot be used")
        out.write(Report(bad_input=str(error)).line())
        return
    out.write(READY + "\n")
    line = _first_line()
    if not line:
        return  # the parent has gone, or has thought better of it
    gc.collect()
    gc.freeze()
    if orders.kind != "locustfile":
        gc.disable()  # what is made for a request forms no cycles; a user's own code may
    report = load.run(int(line))
    load.recorder.save(Path(orders.into))
    out.write(report.line())


def _first_line() -> bytes:
    """Read no more than one line: what follows is for the load."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def _be_on_time(cores: tuple[int, ...]) -> None:
    """Run on the cores that are free of the server, where there are some; before others, where that is allowed (root, or CAP_SYS_NICE);
    and be woken without slack.

    With other work on both cores of a machine, p99 of how late requests were sent was 2.6 to 4.3 ms at the highest niceness, and 0.7 to
    1.3 ms with a realtime priority (100 to 2,000 requests a second).
    """
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if sys.platform == "linux":
        import ctypes

        pr_set_timerslack = 29
        ctypes.CDLL(None).prctl(pr_set_timerslack, 1)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            return
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, FIRST)
            Path("/proc/self/autogroup").write_text(str(FIRST))


def _allow_connections() -> None:
    """As many open files as this user may have: each connection is one."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end_with_parent(parent: int) -> None:
    """Be killed when the parent is gone (Linux), also when it has gone already."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent has gone")


if __name__ == "__main__":
    main()
