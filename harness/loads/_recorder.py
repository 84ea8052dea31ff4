"""What a generator process notes of each request while it runs, and how the parent reads it."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from harness.loads._records import Records

FIELDS = ("due_ns", "taken_ns", "sent_ns", "first_byte_ns", "last_byte_ns", "status", "body", "name")


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

    def save(self, path: Path) -> None:
        rows = (
            np.frombuffer(self.rows, dtype=np.int64).reshape(-1, len(FIELDS)) if self.rows else np.empty((0, len(FIELDS)), dtype=np.int64)
        )
        np.savez(path, rows=rows, names=np.array(list(self.names), dtype=np.str_))


def read_rows(path: Path, process: int, lead_in_ns: int, end_ns: int) -> Records:
    """The requests of one generator; those of the lead-in, and those that began after the end, are not counted."""
    with np.load(path, allow_pickle=False) as file:
        rows, names = file["rows"], tuple(str(name) for name in file["names"])
    columns = dict(zip(FIELDS, rows.T, strict=True))
    due = columns["due_ns"]
    return Records(
        due_ns=due,
        taken_ns=columns["taken_ns"],
        sent_ns=columns["sent_ns"],
        first_byte_ns=columns["first_byte_ns"],
        last_byte_ns=columns["last_byte_ns"],
        status=columns["status"].astype(np.int16),
        body=columns["body"].astype(np.int32),
        process=np.full(due.size, process, dtype=np.int16),
        name=columns["name"].astype(np.int16),
        counted=(due >= lead_in_ns) & (due < end_ns),
        names=names,
    )
