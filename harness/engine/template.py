"""A template process: imports once what launches share, then forks a worker whenever it is asked to.

Importing torch and a model library takes 2 to 5 seconds, a fork milliseconds, and both arms of a pair get the same libraries at the same
addresses. A template opens no model, starts no thread and touches no device; when what it imported has started a thread all the same, it
says so and ends, and its launches are spawned.

Started as ``python -P -m harness.engine.template FD CORES``. FD is a Unix socket of whole messages (SOCK_SEQPACKET), JSON each way.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.engine.worker import end_with_parent, serve

if TYPE_CHECKING:
    from harness.engine.protocol import Subject

SHARED = (
    "harness.engine.protocol",
    "harness.engine.datasets",
    "harness.core.plugin",
    "harness.plugins",
    "numpy",
    "psutil",
    "threadpoolctl",
)
"""What every worker imports, whatever it measures."""
MESSAGE_BYTES = 1 << 20
POPULATE_READ, POPULATE_WRITE = 22, 23
"""Advice of madvise(2) that maps pages now."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    descriptor, cores = int(sys.argv[1]), [int(core) for core in sys.argv[2].split(",") if core]
    if cores:
        os.sched_setaffinity(0, cores)
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as parent:
        try:
            may_fork = _import_all(json.loads(parent.recv(MESSAGE_BYTES)))
            threads = len(list(Path("/proc/self/task").iterdir()))
            refusal = "their runtime does not say that it may be forked" if not may_fork else ""
            refusal = f"{threads} threads run after the imports" if threads > 1 else refusal
            gc.collect()
            gc.freeze()  # a collection in a worker then leaves the shared pages alone
            ranges = _mapped_ranges()
        except Exception as error:  # noqa: BLE001 - a user's module may raise anything; the spawned launch will tell it in full
            traceback.print_exc()
            refusal = f"{type(error).__name__}: {error}"
        parent.send(json.dumps({"refusal": refusal}).encode())
        if not refusal:
            _serve(parent, ranges)


def _import_all(documents: list[object]) -> bool:
    """Import what all workers and these subjects' runtimes need; whether the runtimes allow to fork after it."""
    from pydantic import TypeAdapter

    from harness.core.plugin import SharesImports
    from harness.engine.plugin_options import plugin_of
    from harness.engine.protocol import Subject

    subjects: list[Subject] = TypeAdapter(list[Subject]).validate_python(documents)
    wanted = dict.fromkeys(SHARED)
    for subject in subjects:
        runtime = plugin_of("runtimes", subject.runtime, subject.scenario_folder)
        if not isinstance(runtime, SharesImports):
            return False
        wanted |= dict.fromkeys(runtime.imports(subject.artifact))
    for name in wanted:
        importlib.import_module(name)
    return True


def _serve(parent: socket.socket, ranges: list[tuple[int, int, int]]) -> None:
    """Fork or tell an exit code, until the other end closes; a code may be asked for again."""
    codes: dict[int, int] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(parent, MESSAGE_BYTES, 2)
        if not message:
            return
        request = json.loads(message)
        if request["do"] == "fork":
            pid = os.fork()
            if pid == 0:
                parent.close()
                connection, out = descriptors
                _become_worker(connection, out, request["threads"], ranges)
            os.setpgid(pid, pid)  # here and in the child: whoever is first, its group is there when the parent hears of it
            for descriptor in descriptors:
                os.close(descriptor)
            codes.pop(pid, None)
            reply = {"pid": pid}
        else:
            pid = request["pid"]
            if pid not in codes:
                codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            reply = {"code": codes[pid]}
        parent.send(json.dumps({**reply, "number": request["number"]}).encode())


def _become_worker(connection: int, out: int, threads: int, ranges: list[tuple[int, int, int]]) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        end_with_parent()
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.close(out)
        _map_again(ranges)
        _use_threads(threads)
        with Connection(connection) as to_parent:
            serve(to_parent)
        sys.stdout.flush()
        code = 0
    except SystemExit as ended:  # as an interpreter of its own would end
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:  # noqa: BLE001 - a worker must never go on as a second template
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _mapped_ranges() -> list[tuple[int, int, int]]:
    """(begin, bytes, advice) of what this process has mapped: a fork maps it anew, page by page, when it is first touched."""
    import numpy as np

    ranges: list[tuple[int, int, int]] = []
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        for line in Path("/proc/self/maps").read_text().splitlines():
            addresses, rights, *_ = line.split()
            begin, end = (int(address, 16) for address in addresses.split("-"))
            if not rights.startswith("r") or begin >= 1 << 47:  # kernel's own pages
                continue
            if rights == "rw-p":
                ranges.append((begin, end - begin, POPULATE_WRITE))
                continue
            pagemap.seek(begin // PAGE_BYTES * 8)
            entries = np.frombuffer(pagemap.read((end - begin) // PAGE_BYTES * 8), dtype=np.uint64)
            present = np.flatnonzero(np.diff(np.concatenate(([0], (entries >> np.uint64(63)).astype(np.int8), [0]))))
            for first, last in present.reshape(-1, 2):
                ranges.append((begin + int(first) * PAGE_BYTES, int(last - first) * PAGE_BYTES, POPULATE_READ))
    return ranges


def _map_again(ranges: list[tuple[int, int, int]]) -> None:
    """Map what the template had mapped, and copy what can be written: what is timed and counted later is then the model's alone.

    Without it the load time of a small torch model was four times, and its memory twice, what a spawned worker shows (older kernels than
    Linux 5.14 leave it so).
    """
    import ctypes

    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for begin, size, advice in ranges:
        madvise(begin, size, advice)


def _use_threads(threads: int) -> None:
    """The template's BLAS has one thread, so that it could be forked; the worker's has as many as a spawned one's would."""
    from threadpoolctl import threadpool_limits

    from harness.engine.workers import THREAD_VARIABLES

    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    threadpool_limits(threads, user_api="blas")


if __name__ == "__main__":
    main()
