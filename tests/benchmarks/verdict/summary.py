"""Everything that was measured, read from the data files, and each target beside it. Pure: no measuring, no drawing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cells import ARMS, CONDITIONS, IDENTICAL, WORKLOADS, Cell
from .compare_rivals import Rival, rivals_in
from .coverage import Coverage
from .decide import Power, coverages_in, powers_in
from .gates import Gate, gates_in
from .machine import Machine, machines_in
from .pytest_runs import PytestPair, pytest_pairs_in
from .records import PairRecord, by_cell, pairs_in

LEAST_PAIRS, LEAST_DECISIONS, LEAST_GATES = 300, 3_000, 100
FALSE_ALARMS = 0.001
FINDS = {("+5%", 0.02): 0.99, ("+2.5%", 0.005): 0.80}
WITHIN = 0.02
METRIC = "latency_p50"
HOLDS = "intervals hold the truth as often as they say, within 2 points"


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised, what was measured, and by how much it was missed, empty where it was kept. ``kept`` is None without data."""

    promise: str
    where: str
    measured: str
    kept: bool | None
    missed_by: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """All data of one repetition of the benchmark."""

    machines: tuple[Machine, ...]
    pairs: dict[str, list[PairRecord]]
    gates: tuple[Gate, ...]
    powers: tuple[Power, ...]
    coverages: tuple[Coverage, ...]
    rivals: tuple[Rival, ...]
    pytest_pairs: tuple[PytestPair, ...]

    def power(self, cell: Cell, tolerance: float) -> Power | None:
        return next((power for power in self.powers if (power.cell, power.tolerance) == (cell.id, tolerance)), None)

    def gates_of(self, cell: Cell) -> list[Gate]:
        return [gate for gate in self.gates if gate.cell == cell.id]

    @property
    def hours(self) -> dict[str, float]:
        """What the measured parts took, in hours."""
        return {
            "launch pairs": sum(pair.wall_s for records in self.pairs.values() for pair in records) / 3600,
            "whole gates": sum(gate.seconds for gate in self.gates) / 3600,
            "pytest-benchmark": sum(pair.seconds for pair in self.pytest_pairs) / 3600,
        }


def read_summary(folder: Path) -> Summary:
    return Summary(
        machines=tuple(machines_in(folder).read()),
        pairs=by_cell(list(pairs_in(folder).read())),
        gates=tuple(gates_in(folder).read()),
        powers=tuple(powers_in(folder).read()),
        coverages=tuple(coverages_in(folder).read()),
        rivals=tuple(rivals_in(folder).read()),
        pytest_pairs=tuple(pytest_pairs_in(folder).read()),
    )


def targets_of(summary: Summary) -> list[Target]:
    """Every target of the project, in the order of its words; a row for each workload and condition where they are told apart."""
    places = [(workload, condition) for workload in WORKLOADS for condition in CONDITIONS]
    found = [*_amounts(summary), _gate_alarms(summary)]
    found += [_alarms(summary, *place) for place in places]
    for (arm, tolerance), least in FINDS.items():
        found += [_finds(summary, *place, arm, tolerance, least) for place in places]
    return [*found, *(_holds(summary, *place) for place in places), _holds_together(summary)]


def _amounts(summary: Summary) -> Iterable[Target]:
    """Whether there is enough of everything."""
    every = [Cell(workload, condition, arm).id for workload in WORKLOADS for condition in CONDITIONS for arm in ARMS]
    arms = [(workload, arm) for workload in WORKLOADS for arm in ARMS]
    pairs = {key: sum(len(summary.pairs.get(Cell(key[0], condition, key[1]).id, [])) for condition in CONDITIONS) for key in arms}
    yield _at_least("launch pairs of each arm of a workload", list(pairs.values()), LEAST_PAIRS)
    resampled = {power.cell: power.decisions for power in summary.powers}
    yield _at_least("decisions resampled of each cell", [resampled.get(cell, 0) for cell in every], LEAST_DECISIONS)
    yield _at_least("whole gates of identical code", [len(_identical(summary))], LEAST_GATES)


def _at_least(what: str, numbers: Sequence[int], least: int) -> Target:
    fewest = min(numbers)
    missed_by = "" if fewest >= least else f"{least - fewest:,} too few"
    return Target(f"at least {least:,} {what}", "all", f"{fewest:,}", fewest >= least, missed_by)


def _gate_alarms(summary: Summary) -> Target:
    gates = _identical(summary)
    red = sum(gate.exit_code == 1 or gate.verdict == "REGRESSED" for gate in gates)
    measured = f"{red} of {len(gates)}"
    return Target("no false alarm in whole gates", "all", measured, red == 0 if gates else None, f"{red} false alarms" if red else "")


def _alarms(summary: Summary, workload: str, condition: str) -> Target:
    """Counted before the null control has its say: that makes them fewer, never more."""
    promise = f"at most {FALSE_ALARMS:.1%} false alarms in resampled gates, tolerance 2 %"
    power = summary.power(Cell(workload, condition, IDENTICAL), 0.02)
    if power is None:
        return _unknown(promise, workload, condition)
    share = power.red / power.decisions
    kept = share <= FALSE_ALARMS
    measured = f"{power.red} of {power.decisions:,} ({share:.2%})"
    return Target(promise, f"{workload}, {condition}", measured, kept, "" if kept else f"{(share - FALSE_ALARMS) * 100:.2f} points")


def _finds(summary: Summary, workload: str, condition: str, arm: str, tolerance: float, least: float) -> Target:
    budget_s = WORKLOADS[workload].budget_s
    promise = f"{_told(arm)} found at tolerance {percent(tolerance)} in at least {least:.0%}, within the time"
    power = summary.power(Cell(workload, condition, arm), tolerance)
    if power is None:
        return _unknown(promise, workload, condition)
    share = power.in_time / power.decisions
    kept = share >= least
    with_control = power.in_time_with_control / power.decisions
    measured = f"{share:.1%} within {budget_s:.0f} s a trial; {with_control:.1%} with the job's null control counted in"
    return Target(promise, f"{workload}, {condition}", measured, kept, "" if kept else f"{(least - share) * 100:.1f} points")


def _holds(summary: Summary, workload: str, condition: str) -> Target:
    """The size, level and change whose interval is farthest off; pairs drawn one by one, which is what the interval assumes."""
    rows = [row for row in summary.coverages if row.cell.startswith(f"{workload}/{condition}/") and row.metric == METRIC and not row.whole]
    if not rows:
        return _unknown(HOLDS, workload, condition)
    worst = max(rows, key=lambda row: abs(row.held / row.draws - row.level))
    arm = _told(worst.cell.rpartition("/")[2])
    return _held(f"{workload}, {condition}", worst.held / worst.draws, worst.level, f"{worst.size} pairs, {arm}")


def _holds_together(summary: Summary) -> Target:
    """The same for pairs drawn by whole templates, all cells together: one cell has too few templates to tell two points."""
    found: dict[tuple[int, float], list[Coverage]] = {}
    for row in summary.coverages:
        if row.metric == METRIC and row.whole:
            found.setdefault((row.size, row.level), []).append(row)
    if not found:
        return Target(HOLDS, "all, by whole templates", "not measured", None)
    shares = {key: sum(row.held for row in rows) / sum(row.draws for row in rows) for key, rows in found.items()}
    size, level = max(shares, key=lambda key: abs(shares[key] - key[1]))
    return _held("all, by whole templates", shares[size, level], level, f"{size} pairs")


def _held(where: str, share: float, level: float, what: str) -> Target:
    kept = abs(share - level) <= WITHIN
    missed_by = "" if kept else f"{(abs(share - level) - WITHIN) * 100:.1f} points"
    return Target(HOLDS, where, f"farthest off: {share:.1%} for {level:.0%} ({what})", kept, missed_by)


def _identical(summary: Summary) -> list[Gate]:
    return [gate for gate in summary.gates if gate.cell.endswith(f"/{IDENTICAL}")]


def _unknown(promise: str, workload: str, condition: str) -> Target:
    return Target(promise, f"{workload}, {condition}", "not measured", None)


def _told(arm: str) -> str:
    return arm.replace("%", " %")


def percent(share: float, digits: int = 1) -> str:
    """``2 %``, ``0.5 %``: as few digits as tell it."""
    return f"{share * 100:.{digits}f}".rstrip("0").rstrip(".") + " %"


def mean_of(records: Sequence[PairRecord], value: Callable[[PairRecord], float]) -> float:
    """NaN where there are none."""
    return statistics.fmean(map(value, records)) if records else math.nan
