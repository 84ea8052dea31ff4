"""On what, with what and when: noted beside the data, and read back by the page.

Data of other scenarios are never added to: a pair of yesterday's model says nothing of today's.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from harness.engine.read_environment import read_environment

from .cells import SCENARIOS, UNITS, WORKLOADS
from .neighbour import BUFFER_BYTES, BURST_S, DUTY
from .records import Lines
from .workplace import trial_of

PACKAGES = ("numpy", "onnxruntime", "pytest", "pytest-benchmark", "scipy", "torch")


@dataclass(frozen=True, slots=True)
class Machine:
    """``times`` are warm-up and measured time of a launch in seconds, by workload; ``neighbour`` is told as it is on the page;
    ``scenarios`` is a digest of the scenarios and their models."""

    since: str
    cpu_model: str
    cpu_count: int
    memory_bytes: int
    os: str
    kernel: str
    virtual_machine: bool | None
    governor: str | None
    python: str
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None
    times: dict[str, tuple[float, float]]
    neighbour: str
    scenarios: str


def machines_in(folder: Path) -> Lines[Machine]:
    return Lines(folder / "machines.jsonl", TypeAdapter(Machine))


def note_machine(folder: Path) -> None:
    """Add a line where anything differs from the last one. Raises SystemExit when the data there are of other scenarios."""
    lines, now = machines_in(folder), this_machine()
    known = list(lines.read())
    if known and known[-1].scenarios != now.scenarios:
        raise SystemExit(f"{folder} holds data of other scenarios or models: move it away, or give another folder with --data")
    if not known or replace(known[-1], since=now.since) != now:
        lines.append(now)


def this_machine() -> Machine:
    environment = read_environment(Path(__file__).parent)
    times = {}
    for name in WORKLOADS:
        spec = trial_of(name, UNITS).source.scenario.measure
        times[name] = (spec.warm_up / 1e9, spec.duration / 1e9)
    bursts = f"bursts of {BURST_S[0] * 1e3:.0f} to {BURST_S[1] * 1e3:.0f} ms"
    return Machine(
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu_model=environment.cpu_model,
        cpu_count=environment.cpu_count,
        memory_bytes=environment.memory_bytes,
        os=environment.os,
        kernel=environment.kernel,
        virtual_machine=environment.virtual_machine,
        governor=environment.governor,
        python=environment.python,
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        commit=environment.commit,
        dirty=environment.dirty,
        times=times,
        neighbour=f"a busy loop and a writer of {BUFFER_BYTES // 2**20} MiB on the same core, {DUTY:.0%} of the time each, in {bursts}",
        scenarios=_digest(),
    )


def _digest() -> str:
    files = sorted(path for path in SCENARIOS.rglob("*") if path.suffix in (".py", ".yaml"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(SCENARIOS).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
