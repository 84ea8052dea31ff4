"""What a batch costs between the server and a model process, by its size: there and back over a socket pair, nothing computed."""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import sys
import time

from harness.server import frames
from harness.server.frames import Kind

SIZES = (2_048, 65_536, 602_112, 4_816_896, 19_267_584)
"""A row of 512 floats; then 1, 8 and 32 pictures of 224 x 224 x 3."""
ROUNDS = 200


def transport() -> None:
    """Print the median time of a round trip for each size: the tensors go there and 1 kB comes back."""
    ours, theirs = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=_answer, args=(theirs, ours), daemon=True)
    process.start()
    theirs.close()
    head = frames.head_of([["x", "float32", [1]]])
    for size in SIZES:
        data, times = bytes(size), []
        for _ in range(ROUNDS):
            start = time.perf_counter_ns()
            frames.send(ours, Kind.RUN, 1, head, [data])
            if frames.receive(ours) is None:
                raise RuntimeError("the other process has ended")
            times.append(time.perf_counter_ns() - start)
        took = statistics.median(times)
        sys.stdout.write(f"{size:>12,} bytes: {took / 1e3:9.1f} us, {size / took:5.2f} GB/s\n")
    ours.close()
    process.join()


def _answer(connection: socket.socket, other: socket.socket) -> None:
    other.close()
    while frames.receive(connection) is not None:
        frames.send(connection, Kind.DONE, 0, frames.head_of({}), [bytes(1_000)])
