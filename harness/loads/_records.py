"""Every request of a load as one compact file, and its reader.

The file is numpy's ``.npz``: ``due`` holds the differences of neighbours, ``taken``, ``sent``, ``first_byte`` and ``last_byte`` their
distances from ``due``, which are small and compress well (ABSENT where it did not happen). ``read_records`` gives times again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
NEVER = -1
"""The time of what did not happen."""
ABSENT = np.iinfo(np.int64).min
TIMEOUT, CONNECTION, BAD_ANSWER, DROPPED, REFUSED = -1, -2, -3, -4, -5
FAILURES = {
    TIMEOUT: "timeout",
    CONNECTION: "connection",
    BAD_ANSWER: "bad answer",
    DROPPED: "dropped",
    REFUSED: "failed by the Locust file",
}
"""What came of a request that got no HTTP status, by the number that stands in its place."""
OK = 200
TIMES = ("taken_ns", "sent_ns", "first_byte_ns", "last_byte_ns")


@dataclass(frozen=True, slots=True)
class Records:
    """The requests of a load in the order in which they were due; one entry of each column is a request.

    Times are int64 in ns since the start of the lead-in, NEVER (-1) for what did not happen. ``due_ns`` is the intended send (under a
    closed loop the send), ``taken_ns`` when the generator turned to it, ``sent_ns`` when it had a connection and began to send.
    ``status`` is the HTTP status or a number of FAILURES. ``body`` says which of the prepared requests it was, ``process`` which
    generator sent it, ``name`` its place in ``names``. ``counted`` is False in the lead-in.
    """

    due_ns: NDArray[np.int64]
    taken_ns: NDArray[np.int64]
    sent_ns: NDArray[np.int64]
    first_byte_ns: NDArray[np.int64]
    last_byte_ns: NDArray[np.int64]
    status: NDArray[np.int16]
    body: NDArray[np.int32]
    process: NDArray[np.int16]
    name: NDArray[np.int16]
    counted: NDArray[np.bool_]
    names: tuple[str, ...] = ("infer",)

    @property
    def size(self) -> int:
        return int(self.due_ns.size)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether each was answered with success: status 200 (2xx)."""
        return (self.status >= OK) & (self.status < 300)

    def where(self, wanted: NDArray[np.bool_]) -> Records:
        """The requests for which ``wanted`` is true."""
        return Records(**{name: getattr(self, name)[wanted] for name in COLUMNS}, names=self.names)

    def latencies_ns(self, timeout_ns: int) -> NDArray[np.int64]:
        """From the intended send to the last byte; one that was not answered with success counts as one that took the whole timeout."""
        return np.where(self.answered, self.last_byte_ns - self.due_ns, timeout_ns)


COLUMNS = tuple(one.name for one in fields(Records) if one.name != "names")
DTYPES = {
    **dict.fromkeys(("due_ns", *TIMES), np.int64),
    "status": np.int16,
    "body": np.int32,
    "process": np.int16,
    "name": np.int16,
    "counted": np.bool_,
}


def merged(parts: list[Records]) -> Records:
    """The requests of all generators, in the order in which they were due."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    places = [np.array([names.index(name) for name in part.names] or [0], dtype=np.int16)[part.name] for part in parts]
    columns["name"] = np.concatenate(places)
    order = np.lexsort((columns["process"], columns["due_ns"]))
    return Records(**{name: column[order] for name, column in columns.items()}, names=names)


def write_records(path: Path, records: Records) -> str:
    """Write the file and give its SHA-256."""
    due = records.due_ns
    columns = {name: getattr(records, name).astype(DTYPES[name]) for name in COLUMNS}
    columns["due_ns"] = np.diff(due, prepend=0)
    for name in TIMES:
        times = getattr(records, name)
        columns[name] = np.where(times == NEVER, ABSENT, times - due)
    np.savez_compressed(path, version=np.int64(VERSION), names=np.array(records.names), **columns)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_records(path: Path) -> Records:
    """Read a file of ``write_records``. Raises ValueError for a file of another kind or a later version."""
    with np.load(path, allow_pickle=False) as file:
        if "version" not in file or int(file["version"]) != VERSION:
            raise ValueError(f"{path} is no file of requests that this version reads")
        columns = {name: file[name] for name in COLUMNS}
        names = tuple(str(name) for name in file["names"])
    columns["due_ns"] = np.cumsum(columns["due_ns"])
    for name in TIMES:
        columns[name] = np.where(columns[name] == ABSENT, NEVER, columns[name] + columns["due_ns"])
    return Records(**columns, names=names)
