"""What is kept of a search, one JSON line each, after the line of the machine."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from harness.engine.read_environment import read_environment

PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "scipy", "torch")


@dataclass(frozen=True, slots=True)
class Machine:
    """On what, with what and when."""

    since: str
    cpu_model: str
    cpu_count: int
    os: str
    python: str
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None


@dataclass(frozen=True, slots=True)
class Search:
    """One ``harness bisect``. ``seconds`` is the whole command; ``ratio`` with its interval is what it told of the commit it found."""

    place: int
    seed: int
    right: bool
    exit_code: int
    outcome: str
    headline: str
    ratio: float | None
    low: float | None
    high: float | None
    query_ns: float | None
    steps: int
    pairs: int
    seconds: float


MACHINE: TypeAdapter[Machine] = TypeAdapter(Machine)
SEARCH: TypeAdapter[Search] = TypeAdapter(Search)


def this_machine() -> Machine:
    found = read_environment(Path(__file__).parent)
    return Machine(
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu_model=found.cpu_model,
        cpu_count=found.cpu_count,
        os=found.os,
        python=found.python,
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        commit=found.commit,
        dirty=found.dirty,
    )
