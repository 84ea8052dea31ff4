"""pytest-benchmark: ``--benchmark-json FILE`` or ``.benchmarks/*/*.json``. One file is one process.

Read from what version 5 writes (``pytest_benchmark/session.py`` and ``stats.py``): ``stats.data`` are seconds for one iteration, one
value a round; ``--benchmark-save`` leaves them out unless ``--benchmark-save-data`` is given.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from harness.core.errors import BadInput, Problem
from harness.core.units import Unit
from harness.store.bench_files._document import Part, Positive, moment, told, validated
from harness.store.bench_files.launches import BenchFile, BenchLaunch, Place


class _Stats(Part):
    median: Positive
    rounds: int = Field(ge=1)
    data: tuple[Positive, ...] | None = Field(default=None, min_length=1)


class _Options(Part):
    timer: str | None = None


class _Benchmark(Part):
    fullname: str
    stats: _Stats
    options: _Options = _Options()


class _Cpu(Part):
    brand_raw: str | None = None
    count: int | None = None


class _Machine(Part):
    node: str | None = None
    system: str | None = None
    release: str | None = None
    machine: str | None = None
    python_implementation: str | None = None
    python_version: str | None = None
    python_compiler: str | None = None
    cpu: _Cpu = _Cpu()


class _Commit(Part):
    id: str | None = None
    dirty: bool | None = None


class _Document(Part):
    machine_info: _Machine
    commit_info: _Commit = _Commit()
    benchmarks: tuple[_Benchmark, ...] = Field(min_length=1)
    datetime: str | None = None
    version: str | None = None


def read(document: Mapping[str, object], path: Path, digest: str) -> BenchFile:
    """One launch of every benchmark in the file."""
    found = validated(_Document, document, path)
    launches: dict[str, BenchLaunch] = {}
    for number, benchmark in enumerate(found.benchmarks):
        if benchmark.fullname in launches:
            raise BadInput(Problem(f"'{benchmark.fullname}' is there twice", path, key=f"benchmarks[{number}].fullname"))
        data = benchmark.stats.data
        launches[benchmark.fullname] = BenchLaunch(
            benchmark=benchmark.fullname,
            unit=Unit.NANOSECONDS,
            figure=(statistics.median(data) if data else benchmark.stats.median) * 1e9,
            samples=len(data) if data else benchmark.stats.rounds,
            raw=data is not None,
            at=moment(found.datetime),
            place=_place(found.machine_info, benchmark.options.timer),
        )
    commit = found.commit_info.id if found.commit_info.id != "unversioned" else None
    notes = () if all(launch.raw for launch in launches.values()) else (f"{path.name} has statistics only: its medians are taken from it",)
    return BenchFile(
        path=path,
        tool=f"pytest-benchmark {found.version}" if found.version else "pytest-benchmark",
        digest=digest,
        launches=tuple(launches.values()),
        source=commit,
        dirty=found.commit_info.dirty if commit else None,
        notes=notes,
    )


def _place(machine: _Machine, timer: str | None) -> Place:
    return Place(
        machine=told(cpu=machine.cpu.brand_raw, cpu_count=machine.cpu.count, system=machine.system, architecture=machine.machine),
        facts=told(
            python_version=machine.python_version,
            python_implementation=machine.python_implementation,
            python_compiler=machine.python_compiler,
            kernel=machine.release,
            timer=timer,
        ),
        host=machine.node or None,
    )
