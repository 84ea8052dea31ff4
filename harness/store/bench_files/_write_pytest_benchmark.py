"""pytest-benchmark's JSON, as its version 5 writes it (``pytest_benchmark/session.py``, ``stats.py``): one file for each process launch."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.environment import Environment
    from harness.core.result import RunResult
    from harness.store.bench_files._launched import Launched

VERSION = "5.0.0"
"""The version of pytest-benchmark whose layout this is; it has no number of its own."""


def documents(result: RunResult, arm: str, launches: Sequence[Launched]) -> Mapping[str, object]:
    """By file name, numbered as its own storage does; the first launches of all trials are in the first file."""
    by_number: dict[int, list[Launched]] = defaultdict(list)
    for launch in launches:
        by_number[launch.number].append(launch)
    return {
        f"{number:04}_{result.id}-{arm}.json": {
            "machine_info": _machine(result.environment),
            "commit_info": {
                "id": result.environment.commit or "unversioned",
                "time": None,
                "author_time": None,
                "dirty": bool(result.environment.dirty),
                "project": result.scenarios[0].name if result.scenarios else "harness",
                "branch": "(unknown)",
            },
            "benchmarks": [_benchmark(launch) for launch in of_number],
            "datetime": result.finished_at,
            "version": VERSION,
        }
        for number, of_number in sorted(by_number.items())
    }


def _machine(environment: Environment) -> dict[str, object]:
    return {
        "node": "",
        "processor": "",
        "machine": "",
        "python_version": environment.python,
        "release": environment.kernel,
        "system": environment.os,
        "cpu": {"brand_raw": environment.cpu_model, "count": environment.cpu_count, "flags": list(environment.cpu_flags)},
    }


def _benchmark(launch: Launched) -> dict[str, object]:
    trial = launch.trial
    return {
        "group": trial.scenario,
        "name": trial.id.partition("/")[2],
        "fullname": trial.id,
        "params": {"recipe": trial.recipe, "hardware": trial.hardware, "batch_size": trial.batch_size},
        "param": None,
        "extra_info": {"launch": launch.number, "load": trial.load, "queries": launch.queries, "queries_kept": len(launch.values)},
        "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
        "stats": _stats(launch.values, launch.loops),
    }


def _stats(values: tuple[float, ...], loops: int) -> dict[str, object]:
    """As pytest-benchmark has them, but for quartiles, which are linear between values here."""
    ordered = sorted(values)
    mean, median = statistics.fmean(values), statistics.median(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    quarters = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [median] * 3
    first, third = quarters[0], quarters[2]
    low, high = first - 1.5 * (third - first), third + 1.5 * (third - first)
    beyond_deviation = sum(abs(value - mean) > deviation for value in values)
    beyond_fence = sum(not low <= value <= high for value in values)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(values),
        "median": median,
        "iqr": third - first,
        "q1": first,
        "q3": third,
        "iqr_outliers": beyond_fence,
        "stddev_outliers": beyond_deviation,
        "outliers": f"{beyond_deviation};{beyond_fence}",
        "ld15iqr": next(value for value in ordered if value >= low),
        "hd15iqr": next(value for value in reversed(ordered) if value <= high),
        "ops": 1 / mean,
        "total": sum(values),
        "data": list(values),
        "iterations": loops,
    }
