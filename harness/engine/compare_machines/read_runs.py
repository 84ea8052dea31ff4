"""The words on the command line to runs: ids, folders, ``result.json``, files of ``harness export run``, with a name where one is given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import BadInput, Problem
from harness.core.result import RunResult
from harness.store.run_archives import is_archive, read_archive
from harness.store.runs import LAUNCHES, RESULT, RunFolder, Runs

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63})=(.+)")


@dataclass(frozen=True, slots=True)
class Named:
    """A run, and what the user calls the machine that it was measured on (None: as its target is called)."""

    name: str | None
    result: RunResult


def read_runs(words: Sequence[str], reports: Path) -> list[Named]:
    """Read ``RUN`` and ``NAME=RUN``, oldest run first. Raises BadInput for what is no run, and for one that is given twice."""
    found: dict[str, Named] = {}
    for word in words:
        match = None if Path(word).exists() else _NAMED.fullmatch(word)
        name, place = (match[1], match[2]) if match else (None, word)
        result = _read(place, Runs(reports))
        if result.id in found:
            raise BadInput(Problem(f"run {result.id} is given twice: it counts once", hint="name each run once"))
        found[result.id] = Named(name, result)
    return sorted(found.values(), key=lambda one: (one.result.started_at, one.result.id))


def _read(place: str, runs: Runs) -> RunResult:
    path = Path(place)
    if is_archive(place):
        return read_archive(path)
    if path.is_file() and path.name in (RESULT, LAUNCHES):
        return RunFolder(path.resolve().parent).result()
    if not path.exists() and path.suffix == ".zip":
        raise BadInput(Problem("there is no such file", path))
    return runs.find(place).result()
