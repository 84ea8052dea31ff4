"""What one replica can take, from a saved run; and the numbers of a deployment that follow from it.

target     headroom x capacity: what one replica is to be given on average
replicas   load / target, rounded up, and never fewer than two where any load is named
memory     peak memory of the server's processes, a quarter more
CPU        cores that the server used at the measured rate, in proportion to the target, as a share of what it asks for
queue      a tenth of the promised latency: beyond it the queue has begun to grow, and the promise is not in danger yet
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure

if TYPE_CHECKING:
    from harness.core.result import RunResult, TrialRecord

HEADROOM = 0.7
MEMORY_MARGIN = 1.25
QUEUE_SHARE = 0.1
QUEUE_WITHOUT_PROMISE_S = 0.01
LEAST_UTILISATION, MOST_UTILISATION = 10, 90
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sizing:
    """Numbers of a deployment, and in ``why`` how each came about, a sentence each.

    ``capacity_per_s`` is one replica's. ``cores`` and ``memory_bytes`` are what a replica asks for, ``cpu_percent`` (of the cores) and
    ``queue_s`` what the autoscaler holds, ``least`` and ``most`` are replicas.
    """

    capacity_per_s: float
    cores: int
    memory_bytes: int
    cpu_percent: int
    queue_s: float
    least: int
    most: int
    why: tuple[str, ...]


def trial_of(result: RunResult, scenario: str, recipe: str) -> TrialRecord:
    """The trial of a recipe that was measured under a load over the network. Raises CannotMeasure with what the run has instead."""
    found = [trial for trial in result.trials if trial.scenario == scenario and trial.recipe == recipe]
    served = [trial for trial in found if trial.served]
    if served:
        return served[0]
    what = f"recipe '{recipe}' of '{scenario}'"
    why = "was not measured over the network" if found else "is not in it"
    raise CannotMeasure(f"run {result.id}: {what} {why}", hint="run it with 'measure: {load: {locust: ...}, capacity: {at_most: ...}}'")


def size(trial: TrialRecord, *, load_per_s: float | None = None, capacity_per_s: float | None = None, headroom: float = HEADROOM) -> Sizing:
    """The numbers for ``load_per_s`` requests a second altogether (None: not known). ``capacity_per_s`` takes the measured one's place.

    Raises CannotMeasure where the run has no capacity and none is given.
    """
    measured = trial.estimate("capacity")
    if capacity_per_s is None and measured is None:
        reason = next((absent.reason for absent in trial.absent if absent.metric == "capacity"), "")
        raise CannotMeasure(f"{trial.id} has no measured capacity{f': {reason}' if reason else ''}", hint="give one: --capacity '600 /s'")
    loads = [load for arm in trial.served if arm.arm == "candidate" for load in arm.loads]
    why = []
    if capacity_per_s is None:
        assert measured is not None
        low = measured.value if measured.interval is None else max(0.0, measured.interval.low)
        capacity_per_s = low or measured.value
        why.append(
            f"capacity: {capacity_per_s:,.0f} requests/s, the lower end of what {measured.n} launches showed ({measured.value:,.0f})"
        )
    else:
        why.append(f"capacity: {capacity_per_s:,.0f} requests/s, as given")
    target = headroom * capacity_per_s
    why.append(f"target of a replica: {headroom:.0%} of it, {target:,.0f} requests/s")

    cores = (trial.facts.threads if trial.facts else 0) or 1
    if trial.target is not None and trial.target.cores is not None:
        cores = trial.target.cores
    memory = max((usage.server_rss_bytes for load in loads for usage in load.usage), default=512 * MIB)
    memory = math.ceil(MEMORY_MARGIN * memory / MIB) * MIB
    why.append(f"memory: {memory // MIB} MiB, a quarter more than the most that the server's processes took")
    percent, told = _cpu(trial, target, cores)
    why.append(told)
    limit = next((load.limit_ns for load in loads if load.limit_ns is not None), None)
    queue_s = QUEUE_WITHOUT_PROMISE_S if limit is None else QUEUE_SHARE * limit / 1e9
    why.append(f"queue: {queue_s * 1e3:g} ms, {'as nothing is promised' if limit is None else 'a tenth of the promised latency'}")
    least, most = 1, 10
    if load_per_s is not None:
        least = max(2, math.ceil(load_per_s / target))
        most = 3 * least
        why.append(f"replicas: {load_per_s:,.0f} requests/s over {target:,.0f}, rounded up and at least 2; up to three times as many")
    return Sizing(capacity_per_s, cores, memory, percent, queue_s, least, most, tuple(why))


def _cpu(trial: TrialRecord, target_per_s: float, cores: int) -> tuple[int, str]:
    """The utilisation at the target, from what was used at the measured rate."""
    loads = [load for arm in trial.served if arm.arm == "candidate" for load in arm.loads if load.usage]
    if not loads:
        return 70, "CPU: 70 %, as nothing was measured of it"
    used = statistics.fmean(statistics.fmean(usage.server_cpu for usage in load.usage) for load in loads)
    rate = statistics.fmean(load.answered_per_s for load in loads)
    wanted = 100 * used / max(rate, 1e-9) * target_per_s / cores
    percent = round(min(MOST_UTILISATION, max(LEAST_UTILISATION, wanted)))
    told = f"CPU: {percent} % of {cores}, from {used:.2f} cores at {rate:,.0f} requests/s"
    return percent, told if round(wanted) == percent else f"{told}, held between {LEAST_UTILISATION} and {MOST_UTILISATION} %"
