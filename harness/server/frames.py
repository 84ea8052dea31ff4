"""What a server and a model process say to each other over a Unix socket: a fixed header, a JSON head, then tensors as they lie in memory.

The heads of batches of one kind are equal byte for byte, so both sides read each but once. A socket pair and not shared memory: it tells
when a batch has come and when the other side is gone, and nothing is left behind when a process is killed. What it costs by the size of a
batch is told by ``python -m tests.benchmarks.serving --transport``.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Piece = bytes | bytearray | memoryview

HEADER = struct.Struct("<IIQQ")
"""Kind, bytes of the head, a number that the kind explains, bytes of the tensors."""
ALIGNMENT = 64
"""Tensors of a batch begin at multiples of it: what computes on them wants no others."""
FIRST_READ_BYTES = 1 << 16
"""What is asked for at first: most batches come whole with one system call."""


class Kind(IntEnum):
    """What a frame is. The model process sends READY once; then every RUN is answered by DONE or FAILED, every FACTS by FACTS."""

    READY = 1
    RUN = 2
    """The number is of samples."""
    DONE = 3
    """The number is the time in ns that the model took."""
    FAILED = 4
    """The head has ``message``; before READY the process then ends."""
    FACTS = 5


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    number: int
    head: bytes
    body: memoryview


def head_of(content: object) -> bytes:
    """JSON, filled with spaces so that what follows header and head is aligned."""
    text = json.dumps(content, separators=(",", ":")).encode()
    return text + b" " * (-(HEADER.size + len(text)) % ALIGNMENT)


def padding(size: int) -> int:
    """Bytes from the end of a tensor of this size to where the next one begins."""
    return -size % ALIGNMENT


def header_of(kind: Kind, number: int, head: bytes, body_bytes: int) -> bytes:
    return HEADER.pack(kind, len(head), number, body_bytes)


def send(connection: socket.socket, kind: Kind, number: int, head: bytes, pieces: Sequence[Piece] = ()) -> None:
    """Send a frame on a blocking socket."""
    body = sum(len(piece) for piece in pieces)
    left: list[Piece] = [header_of(kind, number, head, body), head, *(piece for piece in pieces if len(piece))]
    while left:
        left = unsent(left, connection.sendmsg(left))


def unsent(pieces: Sequence[Piece], sent: int) -> list[Piece]:
    """What is left of ``pieces`` when so many bytes have gone."""
    for index, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[index + 1 :]]
        sent -= len(piece)
    return []


def receive(connection: socket.socket) -> Frame | None:
    """The next frame of a blocking socket, in memory of its own that may be written to; None where the other end has closed.

    Only for a side that is sent one frame at a time: what came beyond it would be lost.
    """
    import numpy as np

    buffer: NDArray[np.uint8] = np.empty(FIRST_READ_BYTES, np.uint8)  # unlike a bytearray it is not filled with zeros first
    got = _fill(connection, buffer.data, 0, HEADER.size)
    if got < HEADER.size:
        return None
    kind, head_bytes, number, body_bytes = HEADER.unpack_from(buffer.data)
    total = HEADER.size + head_bytes + body_bytes
    if total > len(buffer):
        whole = np.empty(total, np.uint8)
        whole[:got] = buffer[:got]
        buffer = whole
    if _fill(connection, buffer.data[:total], got, total) < total:
        return None
    view = buffer.data
    start = HEADER.size + head_bytes
    return Frame(Kind(kind), number, bytes(view[HEADER.size : start]), view[start:total])


def _fill(connection: socket.socket, into: memoryview, got: int, needed: int) -> int:
    while got < needed:
        received = connection.recv_into(into[got:])
        if not received:
            break
        got += received
    return got
