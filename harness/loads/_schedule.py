"""When requests are due, drawn from one seed: the schedule of an open loop, and the curve of rates that it follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.loads._load_shapes import Arrivals, Stretch

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each request is due, in ns since the start of the lead-in, in order; ``counted`` is False for those of the lead-in."""

    due_ns: NDArray[np.int64]
    counted: NDArray[np.bool_]


def expected(curve: Sequence[Stretch]) -> float:
    """How many requests a curve of rates makes, on average."""
    return sum(stretch.expected for stretch in curve)


def make_schedule(curve: Sequence[Stretch], arrivals: Arrivals, seed: int, lead_in_ns: int) -> Schedule:
    """Draw the schedule of a curve; the same seed gives the same schedule, and at another rate the same one stretched.

    Arrivals with a rate that varies are arrivals at rate 1 on a clock that runs as fast as the rate is high (Lewis and Shedler 1979; Cinlar
    1975): the n-th is due when the area under the curve reaches the sum of n gaps. Gaps are exponential with mean 1 (``poisson``), or all 1
    (``constant``, the first due at once).
    """
    areas = _areas(expected(curve), arrivals, np.random.default_rng(seed))
    due = _when(curve, areas)
    return Schedule(due, due >= lead_in_ns)


def part_of(schedule: Schedule, process: int, processes: int) -> NDArray[np.int64]:
    """The numbers of the requests that one generator process sends: every ``processes``-th, in order."""
    return np.arange(process, schedule.due_ns.size, processes, dtype=np.int64)


def _areas(total: float, arrivals: Arrivals, generator: np.random.Generator) -> NDArray[np.float64]:
    if arrivals == "constant":
        return np.arange(int(np.ceil(total)), dtype=np.float64)
    areas: NDArray[np.float64] = np.empty(0)
    while not areas.size or areas[-1] < total:  # drawn in blocks of one size, so that a longer load begins with the shorter one's
        areas = np.concatenate([areas, (areas[-1] if areas.size else 0.0) + np.cumsum(generator.exponential(size=4096))])
    return areas[areas < total]


def _when(curve: Sequence[Stretch], areas: NDArray[np.float64]) -> NDArray[np.int64]:
    """The time at which the area under the curve reaches each of ``areas``."""
    due = np.empty(areas.size)
    begin_ns, begin_area = 0, 0.0
    for stretch in curve:
        inside = (areas >= begin_area) & (areas < begin_area + stretch.expected)
        due[inside] = begin_ns + _within(stretch, areas[inside] - begin_area)
        begin_ns += stretch.duration_ns
        begin_area += stretch.expected
    due[areas >= begin_area] = begin_ns  # where the sum of the parts is rounded below the total
    return np.floor(due).astype(np.int64)


def _within(stretch: Stretch, areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve from*t + slope*t*t/2 = area for t, in a form that holds for a slope of 0 too; in ns."""
    slope = (stretch.to_per_s - stretch.from_per_s) / (stretch.duration_ns / 1e9)
    root = np.sqrt(np.maximum(stretch.from_per_s**2 + 2 * slope * areas, 0.0))
    with np.errstate(invalid="ignore"):  # 0 / 0 where a rate begins at 0: due at once
        return np.nan_to_num(2 * areas / (stretch.from_per_s + root)) * 1e9
