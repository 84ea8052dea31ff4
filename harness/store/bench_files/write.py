"""A saved run as the files of another tool, so that its own commands can read it.

What a saved run keeps of a launch is what is written: about 2,000 of an arm's latencies, evenly taken from all of its launches.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure
from harness.store.bench_files import _write_pyperf, _write_pytest_benchmark
from harness.store.bench_files._launched import Launched

if TYPE_CHECKING:
    from harness.core.result import LaunchSketch, RunResult, TrialRecord


WRITERS: Mapping[str, Callable[[RunResult, str, Sequence[Launched]], Mapping[str, object]]] = {
    "pytest-benchmark": _write_pytest_benchmark.documents,
    "pyperf": _write_pyperf.documents,
}
FORMATS = tuple(WRITERS)


def written_files(result: RunResult, format_: str, arm: str = "candidate") -> dict[str, bytes]:
    """The files by name: for pytest-benchmark one for each launch, for pyperf one with all of them.

    Raises CannotMeasure when no trial of the run has launches of that arm.
    """
    launches = [_launched(trial, number, launch) for trial in result.trials for number, launch in enumerate(_of(trial, arm), 1)]
    if not launches:
        hint = "'harness run' measures candidates; a baseline has launches where 'harness gate' measured it beside the candidate"
        raise CannotMeasure(f"run {result.id} has no launches of the {arm}", hint=hint)
    documents = WRITERS[format_](result, arm, launches)
    return {name: (json.dumps(document, indent=1, allow_nan=False) + "\n").encode() for name, document in documents.items()}


def _of(trial: TrialRecord, arm: str) -> Sequence[LaunchSketch]:
    """The launches that this very run made: accepted numbers of an unchanged trial are not of it."""
    from harness.core.result import TrialState

    if trial.state is TrialState.UNCHANGED:
        return ()
    return next((found.launches for found in trial.distributions if found.arm == arm), ())


def _launched(trial: TrialRecord, number: int, launch: LaunchSketch) -> Launched:
    """Single queries where the load times them, else the launch as one block of queries."""
    if launch.sample_ns:
        values, loops = tuple(latency / 1e9 for latency in launch.sample_ns), 1
    else:
        values, loops = (launch.duration_ns / launch.queries / 1e9,), launch.queries
    if min(values) <= 0:
        raise CannotMeasure(f"launch {number} of {trial.id} has a query of no time at all: no other tool takes that")
    return Launched(trial, number, values, loops, launch.queries)
