"""A generator process: ``python -m harness.loads._locust_generator PARENT``, with the parent's process id, or ``elsewhere`` on another
machine. Locust runs here and nowhere else.

It reads its job from stdin, says on stdout that it is ready, waits to be told when to begin, does what its orders say, and sends its report
and its records. Locust's environment, runner, users, request event and statistics are what runs; its table is in the log (stderr).
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

FIRST = -20
"""The niceness of what is to send on time."""
ALARM_S = 120
"""How long after its last possible answer a generator on another machine may still live, whatever became of its parent."""


def main() -> None:
    out = os.dup(1)
    os.dup2(2, 1)  # what a Locust file prints belongs to the log
    from harness.loads._orders import BEGUN, ELSEWHERE, READY, Job, Report, report_pieces

    parent = sys.argv[1]
    if parent == ELSEWHERE:
        from harness.core.program import program

        _say(out, [json.dumps({"program": program()}).encode() + b"\n"])
    else:
        _end_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it ends its generators
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    line = _line()
    if not line:
        return  # the parent has thought better of it
    job = Job.read(line, _exactly)
    _be_on_time(job.orders.cores)
    _allow_connections()
    import locust  # noqa: F401  # first of all: it patches what the rest imports

    from harness.loads._locust_users import ClosedLoop, NotReached, OpenLoop
    from harness.loads._own_locustfile import BadLocustfile, OwnLocustfile

    try:
        load = {"open": OpenLoop, "closed": ClosedLoop, "locustfile": OwnLocustfile}[job.orders.kind](job)
    except BadLocustfile as error:
        logging.getLogger(__name__).exception("the Locust file cannot be used")
        _say(out, report_pieces(Report(bad_input=str(error))))
        return
    except NotReached as error:
        _say(out, report_pieces(Report(unreached=str(error))))
        return
    _say(out, [READY])
    begin_ns = _begin(out)
    if begin_ns is None:
        return  # the parent has gone, or has thought better of it
    _say(out, [BEGUN])
    if parent == ELSEWHERE:
        signal.alarm((job.orders.end_ns + job.orders.timeout_ns) // 1_000_000_000 + ALARM_S)
    gc.collect()
    gc.freeze()
    if job.orders.kind != "locustfile":
        gc.disable()  # what is made for a request forms no cycles; a user's own code may
    report = load.run(begin_ns)
    _say(out, report_pieces(report, list(load.recorder.names), load.recorder.packed()))


def _begin(out: int) -> int | None:
    """Answer pings until told when to begin; that moment on this process's monotonic clock, in ns. None where stdin ends instead."""
    from harness.loads._orders import PING, PONG

    while line := _line():
        now_ns = time.monotonic_ns()
        if line == PING:
            _say(out, [PONG])
            continue
        told = json.loads(line)
        return int(told["begin_ns"]) if "begin_ns" in told else now_ns + int(told["begin_in_ns"])
    return None


def _say(out: int, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(out, rest) :]


def _line() -> bytes:
    """Read no more than one line: what follows is for others. Empty where stdin ends."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return bytes(line)


def _exactly(count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        piece = os.read(0, min(count - len(found), 1 << 20))
        if not piece:
            sys.exit("the job is not whole: the parent has gone, or the connection to it")
        found += piece
    return bytes(found)


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
