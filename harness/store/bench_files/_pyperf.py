"""pyperf: ``-o FILE`` of a benchmark script. Every run with values is a process launch; runs that only calibrate are none.

Read from what pyperf 2 writes (``pyperf/_bench.py``): metadata of the file, of a benchmark and of a run, the nearer one counts; values are
for one loop. ``_CHECKED_METADATA`` there names what all runs of a benchmark must share.
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

UNITS = {"second": (Unit.NANOSECONDS, 1e9), "byte": (Unit.BYTES, 1.0), "integer": (Unit.NUMBER, 1.0)}
FACTS = ("python_version", "python_implementation", "python_executable", "platform", "aslr", "cpu_config")
Metadata = dict[str, object]


class _Run(Part):
    values: tuple[Positive, ...] = ()
    metadata: Metadata = Field(default_factory=dict)


class _Benchmark(Part):
    runs: tuple[_Run, ...] = Field(min_length=1)
    metadata: Metadata = Field(default_factory=dict)


class _Document(Part):
    version: Literal["1.0", 6]
    benchmarks: tuple[_Benchmark, ...] = Field(min_length=1)
    metadata: Metadata = Field(default_factory=dict)


def read(document: Mapping[str, object], path: Path, digest: str) -> BenchFile:
    """Every run with values is a launch."""
    if document["version"] not in ("1.0", 6):
        hint = "'python -m pyperf convert FILE -o NEW' of a newer pyperf writes 1.0"
        raise BadInput(Problem(f"pyperf's format {document['version']!r} is not read here: 1.0 and 6 are", path, key="version", hint=hint))
    found = validated(_Document, document, path)
    launches: list[BenchLaunch] = []
    unmeasured: dict[str, str] = {}
    names: set[str] = set()
    for number, benchmark in enumerate(found.benchmarks):
        common = found.metadata | benchmark.metadata
        name = str((common | benchmark.runs[0].metadata).get("name") or "")
        key = f"benchmarks[{number}].metadata.name"
        if not name or name in names:
            raise BadInput(Problem(f"'{name}' is there twice" if name else "is missing", path, key=key))
        names.add(name)
        measured = [_launch(name, run.values, common | run.metadata, path, number) for run in benchmark.runs if run.values]
        launches += measured
        if not measured:
            unmeasured[name] = "only calibrated: no run has values"
    everywhere = [found.metadata, *(benchmark.metadata for benchmark in found.benchmarks)]
    everywhere += [run.metadata for benchmark in found.benchmarks for run in benchmark.runs]
    version = next((str(metadata["perf_version"]) for metadata in everywhere if "perf_version" in metadata), "")
    return BenchFile(path, f"pyperf {version}".strip(), digest, tuple(launches), unmeasured=unmeasured)


def _launch(name: str, values: tuple[float, ...], metadata: Metadata, path: Path, number: int) -> BenchLaunch:
    spelling = str(metadata.get("unit", "second"))
    if spelling not in UNITS:
        raise BadInput(Problem(f"'{spelling}' is none of {', '.join(UNITS)}", path, key=f"benchmarks[{number}].metadata.unit"))
    unit, scale = UNITS[spelling]
    platform = str(metadata.get("platform", ""))
    return BenchLaunch(
        benchmark=name,
        unit=unit,
        figure=statistics.median(values) * scale,
        samples=len(values),
        raw=True,
        at=moment(str(metadata.get("date", ""))),
        place=Place(
            machine=told(
                cpu=metadata.get("cpu_model_name"),
                cpu_count=metadata.get("cpu_count"),
                cores_used=metadata.get("cpu_affinity"),
                system=platform.partition("-")[0],
            ),
            facts=told(**{key: metadata[key] for key in FACTS if key in metadata}),
            host=str(metadata["hostname"]) if "hostname" in metadata else None,
        ),
    )
