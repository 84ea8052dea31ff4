"""The machine that a number belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its driver reports it."""

    name: str
    memory_bytes: int
    driver: str


@dataclass(frozen=True, slots=True)
class Environment:
    """A machine's fingerprint, taken once a run. What could not be read is None or empty, never guessed."""

    cpu_model: str
    cpu_count: int
    cpu_flags: tuple[str, ...]
    memory_bytes: int
    gpus: tuple[Gpu, ...]
    os: str
    kernel: str
    python: str
    governor: str | None
    load_average: float | None
    virtual_machine: bool | None
    packages: Mapping[str, str]
    variables: Mapping[str, str]
    commit: str | None
    dirty: bool | None


def environment_key(
    environment: Environment,
    *,
    cores: int,
    threads: int,
    device: str,
    packages: Mapping[str, str],
) -> str:
    """Twelve hex digits that must be equal before two stored timings may be compared.

    Over CPU model and count, cores and threads used, memory in whole GiB, operating system, and for a device other than the CPU
    the GPU and its driver, with the versions of the packages that take part. Two hosts of one cloud instance type share a key.
    """
    facts = {
        "cpu": environment.cpu_model,
        "cpu_count": environment.cpu_count,
        "cores": cores,
        "threads": threads,
        "memory_gib": round(environment.memory_bytes / 2**30),
        "os": environment.os,
        "device": device,
        "gpu": [] if device == "cpu" else [[gpu.name, gpu.driver] for gpu in environment.gpus],
        "packages": dict(sorted(packages.items())),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
