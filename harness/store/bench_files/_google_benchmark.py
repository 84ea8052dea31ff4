"""Google Benchmark: ``--benchmark_out=FILE --benchmark_out_format=json``. One file is one process, however many repetitions it holds.

Read from what its JSON reporter writes (``src/json_reporter.cc``): ``real_time`` for one iteration in ``time_unit``; rows whose
``run_type`` is "aggregate" are of the repetitions, not more of them. Wall time is compared, as in ``real_time``; ``cpu_time`` is not.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.core.errors import BadInput, Problem
from harness.core.units import Unit
from harness.store.bench_files._document import Part, Positive, moment, told, validated
from harness.store.bench_files.launches import BenchFile, BenchLaunch, Place

SCALES = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


class _Row(Part):
    name: str
    run_name: str | None = None
    run_type: Literal["iteration", "aggregate"] = "iteration"
    aggregate_name: str | None = None
    repetitions: int | None = None
    real_time: float | None = None
    time_unit: Literal["ns", "us", "ms", "s"] | None = None
    error_occurred: bool = False
    error_message: str = ""
    skipped: bool = False
    skip_message: str = ""

    @property
    def benchmark(self) -> str:
        return self.run_name or self.name

    @property
    def trouble(self) -> str | None:
        """Why there is no number."""
        if self.error_occurred:
            return f"error: {self.error_message or 'no message'}"
        return f"skipped: {self.skip_message or 'no message'}" if self.skipped else None


class _Cache(Part):
    type: str
    level: int
    size: int


class _Context(Part):
    date: str | None = None
    host_name: str | None = None
    num_cpus: int | None = None
    mhz_per_cpu: float | None = None
    caches: tuple[_Cache, ...] = ()
    cpu_scaling_enabled: bool | None = None
    aslr_enabled: bool | None = None
    library_version: str | None = None
    library_build_type: str | None = None


class _Time(Part):
    real_time: Positive


class _Document(Part):
    context: _Context
    benchmarks: tuple[_Row, ...] = Field(min_length=1)


def read(document: Mapping[str, object], path: Path, digest: str) -> BenchFile:
    """One launch of every benchmark in the file: the median of its repetitions, or the tool's own where only aggregates are there."""
    found = validated(_Document, document, path)
    times: dict[str, list[float]] = {}
    aggregates: dict[str, dict[str, tuple[float, int]]] = {}
    unmeasured: dict[str, str] = {}
    for number, row in enumerate(found.benchmarks):
        if row.trouble is not None:
            unmeasured[row.benchmark] = row.trouble
        elif row.run_type == "iteration":
            times.setdefault(row.benchmark, []).append(_time(row, number, path))
        elif row.aggregate_name in ("mean", "median"):
            aggregates.setdefault(row.benchmark, {})[row.aggregate_name] = _time(row, number, path), row.repetitions or 1
    place, at = _place(found.context), moment(found.context.date)
    launches = [
        BenchLaunch(name, Unit.NANOSECONDS, statistics.median(values), len(values), True, at, place) for name, values in times.items()
    ]
    notes = []
    for name in aggregates.keys() - times.keys():
        kind = "median" if "median" in aggregates[name] else "mean"
        figure, repetitions = aggregates[name][kind]
        launches.append(BenchLaunch(name, Unit.NANOSECONDS, figure, repetitions, False, at, place))
        notes.append(f"{path.name} has aggregates only of {name}: its {kind} is taken")
    if found.context.library_build_type == "debug":
        notes.append(f"{path.name} is of a debug build of the library: its times are not those of a release")
    version = found.context.library_version
    order = {row.benchmark: number for number, row in reversed(list(enumerate(found.benchmarks)))}
    launches.sort(key=lambda launch: order[launch.benchmark])
    return BenchFile(
        path,
        f"Google Benchmark {version}" if version else "Google Benchmark",
        digest,
        tuple(launches),
        unmeasured=unmeasured,
        notes=tuple(notes),
    )


def _time(row: _Row, number: int, path: Path) -> float:
    """In ns. Raises BadInput with the row's key: a row that did not fail has a time above zero."""
    key = f"benchmarks[{number}]"
    if row.real_time is None or row.time_unit is None:
        raise BadInput(Problem("is missing", path, key=f"{key}.{'real_time' if row.real_time is None else 'time_unit'}"))
    try:
        return validated(_Time, {"real_time": row.real_time}, path).real_time * SCALES[row.time_unit]
    except BadInput as error:
        (problem,) = error.problems
        raise BadInput(Problem(problem.message, path, key=f"{key}.{problem.key}")) from error


def _place(context: _Context) -> Place:
    """The tool does not name the CPU: its count and its caches stand for it."""
    caches = ", ".join(f"L{cache.level} {cache.type} {cache.size // 1024} KiB" for cache in context.caches)
    return Place(
        machine=told(cpu_count=context.num_cpus, caches=caches),
        facts=told(
            mhz_per_cpu=context.mhz_per_cpu,
            cpu_scaling_enabled=context.cpu_scaling_enabled,
            aslr_enabled=context.aslr_enabled,
            library_version=context.library_version,
            library_build_type=context.library_build_type,
        ),
        host=context.host_name,
    )
