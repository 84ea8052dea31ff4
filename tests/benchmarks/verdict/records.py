"""What is kept of a launch pair: one JSON line each, in the order in which they were taken.

A file is appended to while it grows, as plain text; what is published is the same text, compressed.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """One arm's launch: what other tools look at. ``latencies_ns`` are evenly taken from the launch, in order; empty where only the
    figures were kept."""

    queries: int
    mean_ns: float
    median_ns: float
    p99_ns: float
    steady: bool
    forked: bool
    latencies_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PairRecord:
    """One launch pair of a cell.

    ``visit`` numbers the pairs that were taken in a row from the same template processes: what is drawn again together. ``wall_s`` is the
    whole pair, process starts included. ``log_ratios`` and ``figures`` (baseline, candidate) are by metric, in the metric's unit, as the
    gate computes them.
    """

    cell: str
    pair: int
    visit: int
    taken_at: str
    wall_s: float
    log_ratios: dict[str, float]
    figures: dict[str, tuple[float, float]]
    baseline: LaunchRecord
    candidate: LaunchRecord


@dataclass(frozen=True, slots=True)
class Lines(Generic[Record]):
    """A file of records of one kind."""

    path: Path
    kind: TypeAdapter[Record]

    def read(self) -> Iterator[Record]:
        """Every record; a last line that an interruption cut short is left out. Nothing where there is no file."""
        packed = self.path.with_name(f"{self.path.name}.gz")
        if self.path.is_file():
            data = self.path.read_bytes()
        elif packed.is_file():
            data = gzip.decompress(packed.read_bytes())
        else:
            return
        for line in data.split(b"\n")[:-1]:
            yield self.kind.validate_json(line)

    def append(self, record: Record) -> None:
        """One line, written before this returns. What an interruption left of a line is cut away first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            end = file.seek(0, 2)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(self.kind.dump_json(record) + b"\n")

    def write(self, records: Iterable[Record]) -> None:
        """These records and no others."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"".join(self.kind.dump_json(record) + b"\n" for record in records))

    def pack(self, into: Path) -> None:
        """The same lines compressed, the same bytes for the same lines."""
        into.mkdir(parents=True, exist_ok=True)
        (into / f"{self.path.name}.gz").write_bytes(gzip.compress(self.path.read_bytes(), mtime=0))


def pairs_in(folder: Path) -> Lines[PairRecord]:
    return Lines(folder / "pairs.jsonl", TypeAdapter(PairRecord))


def by_cell(records: Sequence[PairRecord]) -> dict[str, list[PairRecord]]:
    """The pairs of each cell, in the order in which they were taken."""
    found: dict[str, list[PairRecord]] = {}
    for record in records:
        found.setdefault(record.cell, []).append(record)
    return found
