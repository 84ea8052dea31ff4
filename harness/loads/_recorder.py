"""What a generator process notes of each request while it runs, and how the parent reads it."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence

import numpy as np

from harness.loads._records import Records

FIELDS = ("due_ns", "taken_ns", "sent_ns", "first_byte_ns", "last_byte_ns", "status", "body", "name")
ROW_BYTES = 8 * len(FIELDS)


class Recorder:
    """Rows of whole numbers in the order in which requests ended; a row costs about a microsecond and no garbage."""

    def __init__(self) -> None:
        self.rows = array("q")
        self.names: dict[str, int] = {}

    def note(
        self, due_ns: int, taken_ns: int, sent_ns: int, first_byte_ns: int, last_byte_ns: int, status: int, body: int, name: str
    ) -> None:
        place = self.names.setdefault(name, len(self.names))
        self.rows.extend((due_ns, taken_ns, sent_ns, first_byte_ns, last_byte_ns, status, body, place))

    def __len__(self) -> int:
        return len(self.rows) // len(FIELDS)

    def packed(self) -> bytes:
        """All rows, little-endian and deflated: they may go over a network."""
        return zlib.compress(np.frombuffer(self.rows, dtype=np.int64).astype("<i8").tobytes() if self.rows else b"", 1)


def read_rows(packed: bytes, names: Sequence[str], most: int, process: int, lead_in_ns: int, end_ns: int) -> Records:
    """The requests of one generator; those of the lead-in, and those that began after the end, are not counted.

    Raises ValueError where these are no records, or more than ``most``.
    """
    opened = zlib.decompressobj()
    try:
        plain = opened.decompress(packed, most * ROW_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"its records cannot be read: {error}") from error
    if not opened.eof or len(plain) % ROW_BYTES:
        raise ValueError("its records are not whole, or more than it was asked for")
    columns = dict(zip(FIELDS, np.frombuffer(plain, dtype="<i8").astype(np.int64).reshape(-1, len(FIELDS)).T, strict=True))
    due, name = columns["due_ns"], columns["name"]
    if due.size and (name.min() < 0 or name.max() >= len(names)):
        raise ValueError("its records name requests that it does not know")
    return Records(
        due_ns=due,
        taken_ns=columns["taken_ns"],
        sent_ns=columns["sent_ns"],
        first_byte_ns=columns["first_byte_ns"],
        last_byte_ns=columns["last_byte_ns"],
        status=columns["status"].astype(np.int16),
        body=columns["body"].astype(np.int32),
        process=np.full(due.size, process, dtype=np.int16),
        name=name.astype(np.int16),
        counted=(due >= lead_in_ns) & (due < end_ns),
        names=tuple(names),
    )
