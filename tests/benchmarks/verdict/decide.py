"""Resample decisions and intervals from the recorded pairs: ``python -m tests.benchmarks.verdict.decide``.

Thousands of gates for the price of one collection. Drawing pairs again from a few hundred cannot show what no pair has shown: a rate of
false alarms below about one in ten thousand is beyond it, and the whole gates (``gates``) are there for what is not in a pair.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from harness.core.comparison import Verdict

from .cells import IDENTICAL, WORKLOADS, Cell, cells
from .collect import DATA
from .coverage import Coverage, coverage_of
from .records import Lines, by_cell, pairs_in
from .replay import Decided, decide, replaying, visits_of
from .workplace import launch_rules

DECISIONS = 3_000
TOLERANCES = (0.02, 0.005)
"""Of the median: the default, and one for who wants to see changes of a few percent. Other metrics keep their defaults."""
GATED = "latency_p50"


@dataclass(frozen=True, slots=True)
class Power:
    """What so many resampled gates of a cell said at one tolerance of the median.

    ``red`` counts gates in which any metric was called slower, ``fails`` those left after the null control, ``in_time`` those of them whose
    trial was done within the budget, ``in_time_with_control`` those that were done with the job's null control counted in too. ``verdicts``
    count what was said of each metric. Seconds are of those that fail where there are any, else of all: quantiles 0.5, 0.95 and the most;
    ``control_s`` the median cost of the null control.
    """

    cell: str
    tolerance: float
    budget_s: float
    decisions: int
    red: int
    fails: int
    in_time: int
    in_time_with_control: int
    verdicts: dict[str, dict[str, int]]
    pairs: float
    seconds: tuple[float, float, float]
    with_control: tuple[float, float, float]


def power_of(cell: Cell, tolerance: float, decided: Sequence[Decided], budget_s: float) -> Power:
    """Count."""
    verdicts: dict[str, dict[str, int]] = {}
    for one in decided:
        for metric, verdict in one.verdicts.items():
            counts = verdicts.setdefault(metric, {str(name): 0 for name in Verdict})
            counts[str(verdict)] += 1
    told = [one for one in decided if one.fails] or list(decided)
    return Power(
        cell=cell.id,
        tolerance=tolerance,
        budget_s=budget_s,
        decisions=len(decided),
        red=sum(one.red for one in decided),
        fails=sum(one.fails for one in decided),
        in_time=sum(one.fails and one.spent_s <= budget_s for one in decided),
        in_time_with_control=sum(one.fails and one.spent_s + one.control_s <= budget_s for one in decided),
        verdicts=verdicts,
        pairs=float(np.median([one.pairs for one in told])),
        seconds=_spread([one.spent_s for one in told]),
        with_control=_spread([one.spent_s + one.control_s for one in told]),
    )


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    middle, high, most = np.quantile(values, (0.5, 0.95, 1.0))
    return round(float(middle), 2), round(float(high), 2), round(float(most), 2)


@dataclass(frozen=True, slots=True)
class Task:
    """One cell, to be resampled so often from what lies in ``folder``."""

    cell: Cell
    folder: Path
    decisions: int


def work(task: Task) -> tuple[list[Power], list[Coverage]]:
    """All that is resampled of one cell; nothing where it, or the cell of identical code, has no pairs."""
    found = by_cell(list(pairs_in(task.folder).read()))
    same = found.get(dataclasses.replace(task.cell, arm=IDENTICAL).id)
    records = found.get(task.cell.id)
    if not records or not same:
        return [], []
    candidate, baseline = visits_of(records), visits_of(same)
    budget_s, powers = WORKLOADS[task.cell.workload].budget_s, []
    with replaying():
        for tolerance in TOLERANCES:
            rules = [
                dataclasses.replace(rule, tolerance=tolerance) if rule.metric == GATED else rule
                for rule in launch_rules(task.cell.workload)
            ]
            decided = [
                decide(candidate, baseline, rules, budget_s, random.Random(f"{task.cell.id}/{tolerance}/{index}"))
                for index in range(task.decisions)
            ]
            powers.append(power_of(task.cell, tolerance, decided, budget_s))
        return powers, coverage_of(task.cell, candidate, task.decisions)


def powers_in(folder: Path) -> Lines[Power]:
    return Lines(folder / "decisions.jsonl", TypeAdapter(Power))


def coverages_in(folder: Path) -> Lines[Coverage]:
    return Lines(folder / "coverage.jsonl", TypeAdapter(Coverage))


def resample(folder: Path, *, decisions: int, only: str | None, processes: int) -> None:
    """Every cell anew; the files are written when all is done."""
    tasks = [Task(cell, folder, decisions) for cell in cells(only)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        done = pool.map(work, tasks, chunksize=1)
    powers_in(folder).write(power for powers, _ in done for power in powers)
    coverages_in(folder).write(coverage for _, coverages in done for coverage in coverages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--decisions", type=int, default=DECISIONS, help="gates drawn of each cell and tolerance (%(default)s)")
    parser.add_argument("--only", metavar="PATTERN", help="only cells whose id matches")
    parser.add_argument("--processes", type=int, default=2, help="cells at the same time (%(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of what was measured (%(default)s)")
    options = parser.parse_args()
    resample(options.data, decisions=options.decisions, only=options.only, processes=options.processes)


if __name__ == "__main__":
    main()
