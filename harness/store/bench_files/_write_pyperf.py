"""pyperf's JSON, format 1.0 (``pyperf/_bench.py``): one file, a benchmark for each trial, a run for each process launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.result import RunResult
    from harness.store.bench_files._launched import Launched


def documents(result: RunResult, arm: str, launches: Sequence[Launched]) -> Mapping[str, object]:
    """One file. When a launch was made is not kept of a saved run, so no run has a date; no metadata value is empty."""
    environment = result.environment
    metadata = {
        "unit": "second",
        "cpu_model_name": environment.cpu_model,
        "cpu_count": environment.cpu_count,
        "platform": f"{environment.os}, kernel {environment.kernel}",
        "python_version": environment.python,
        "harness_run": result.id,
        "harness_arm": arm,
        "commit": environment.commit,
    }
    trials = list(dict.fromkeys(launch.trial.id for launch in launches))
    return {
        f"{result.id}-{arm}.json": {
            "version": "1.0",
            "metadata": {name: value for name, value in metadata.items() if value not in (None, "")},
            "benchmarks": [
                {
                    "metadata": {"name": trial},
                    "runs": [
                        {"values": list(launch.values), "metadata": {"loops": launch.loops}}
                        for launch in launches
                        if launch.trial.id == trial
                    ],
                }
                for trial in trials
            ],
        }
    }
