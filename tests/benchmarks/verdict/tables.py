"""The tables of the page, as Markdown; each a function of the summary."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.stats.binomial import upper_bound

from .cells import ARMS, CONDITIONS, IDENTICAL, WORKLOADS, Cell
from .coverage import LEVELS, SIZES, clustered_error, intraclass
from .remedies import LEVELS as LEVELS_OF_REMEDIES
from .remedies import SIZES as SIZES_OF_REMEDIES
from .remedies import WAYS, farthest_pair, shares
from .replay import visits_of
from .summary import METRIC, Summary, mean_of, percent, targets_of

PLANTED = ("+2.5%", "+5%", "+10%")
CONFIDENCE = 0.95


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def targets(summary: Summary) -> str:
    rows = []
    for target in targets_of(summary):
        word = "not measured" if target.kept is None else "KEPT" if target.kept else f"**MISSED** by {target.missed_by}"
        rows.append((target.promise, target.where, target.measured, word))
    return table(("target", "where", "measured", ""), rows)


def truths(summary: Summary) -> str:
    """What was planted, and what all launch pairs of a cell say together."""
    rows = []
    for cell in _cells():
        records = summary.pairs.get(cell.id, [])
        groups = [[pair.log_ratios[METRIC] for pair in visit if METRIC in pair.log_ratios] for visit in visits_of(records)]
        values = [value for group in groups for value in group]
        if len(values) < 2:
            continue
        launches = [launch for pair in records for launch in (pair.baseline, pair.candidate)]
        rows.append(
            (
                cell.workload,
                cell.condition,
                told(cell.arm),
                f"{len(values):,}",
                f"{math.expm1(statistics.fmean(values)):+.2%} ± {clustered_error(groups):.2%}",
                f"{statistics.stdev(values):.2%}",
                f"{intraclass(groups):+.2f}",
                f"{statistics.fmean(launch.median_ns for launch in launches) / 1e6:.2f} ms",
                f"{statistics.fmean(pair.wall_s for pair in records):.2f} s",
                f"{statistics.fmean(launch.forked for launch in launches):.0%}",
                f"{1 - statistics.fmean(launch.steady for launch in launches):.0%}",
            )
        )
    head = ("workload", "machine", "planted", "pairs", "measured", "sd of a pair", "likeness", "a query", "a pair", "forked", "unsteady")
    return table(head, rows)


def decisions(summary: Summary, tolerance: float) -> str:
    rows = []
    for cell in _cells():
        power = summary.power(cell, tolerance)
        if power is None:
            continue
        counts = Counter(power.verdicts.get(METRIC, {}))
        shares = [f"{counts[name] / power.decisions:.1%}" for name in ("PASS", "INCONCLUSIVE", "REGRESSED", "IMPROVED")]
        found = f"{power.fails} ({power.fails / power.decisions:.2%})" if cell.arm == IDENTICAL else f"{power.fails / power.decisions:.1%}"
        times = [f"{power.seconds[0]:.0f} / {power.seconds[1]:.0f}", f"{power.with_control[0]:.0f} / {power.with_control[1]:.0f}"]
        in_time = [f"{number / power.decisions:.1%}" for number in (power.in_time, power.in_time_with_control)]
        rows.append((cell.workload, cell.condition, told(cell.arm), f"{power.red}", found, *in_time, *shares, f"{power.pairs:.0f}", *times))
    head = ("workload", "machine", "planted", "red", "fails", "in time", "with null control")
    return table((*head, "PASS", "INCONCLUSIVE", "REGRESSED", "IMPROVED", "pairs", "seconds", "with null control"), rows)


def gates(summary: Summary) -> str:
    rows = []
    for cell in _cells():
        found = summary.gates_of(cell)
        if not found:
            continue
        verdicts = Counter(gate.verdict for gate in found)
        red = sum(gate.exit_code == 1 for gate in found)
        took = sorted(gate.seconds for gate in found)
        bound = f"{upper_bound(red, len(found), CONFIDENCE):.1%}" if cell.arm == IDENTICAL else ""
        rows.append(
            (
                cell.workload,
                cell.condition,
                told(cell.arm),
                f"{len(found)}",
                f"{red}",
                bound,
                ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())),
                f"{statistics.median(gate.pairs for gate in found):.0f}",
                f"{statistics.median(took):.0f} / {took[-1]:.0f} s",
            )
        )
    head = ("workload", "machine", "code", "gates", "exit 1", "at most (95 %)", "verdicts", "pairs", "a gate, median / most")
    return table(head, rows)


def rules(summary: Summary, workload: str, way: str) -> str:
    """Every rule on one workload: false alarms, what it finds, and what it costs. The gate's own rows stand first."""
    rows = []
    for tolerance in sorted({power.tolerance for power in summary.powers}, reverse=True):
        shares, costs = [], []
        for condition, arm in _columns():
            power = summary.power(Cell(workload, condition, arm), tolerance)
            shares.append("" if power is None else f"{power.fails / power.decisions:.1%}")
            costs += [] if power is None else [power.with_control[0]]
        rows.append((f"**harness gate**, tolerance {percent(tolerance)}", "screen, confirm", *shares, _range(costs)))
    for name, said in dict.fromkeys((rival.told, rival.rule) for rival in summary.rivals):
        found = {rival.cell: rival for rival in summary.rivals if (rival.told, rival.way) == (name, way)}
        mine = [found.get(Cell(workload, condition, arm).id) for condition, arm in _columns()]
        shares = ["" if rival is None else f"{rival.slower / rival.decisions:.1%}" for rival in mine]
        rows.append((name, said, *shares, _range([rival.seconds for rival in mine if rival is not None])))
    head = [f"{condition}: {told(arm)}" for condition, arm in _columns()]
    return table(("rule", "says slower when", *head, "seconds"), rows)


def pytest_benchmark(summary: Summary) -> str:
    rows = []
    for cell_id, time_s in sorted({(pair.cell, pair.max_time_s) for pair in summary.pytest_pairs}, key=lambda key: (key[1], key[0])):
        found = [pair for pair in summary.pytest_pairs if (pair.cell, pair.max_time_s) == (cell_id, time_s)]
        workload, condition, arm = cell_id.split("/")
        failed = [f"{sum(field in pair.failed for pair in found)} ({_share(found, field)})" for field in ("mean", "median")]
        spread = [f"{min(pair.median_ratio for pair in found) - 1:+.0%} to {max(pair.median_ratio for pair in found) - 1:+.0%}"]
        seconds = f"{statistics.median(pair.seconds for pair in found):.0f}"
        rows.append((workload, condition, told(arm), f"{time_s:g} s", f"{len(found)}", *failed, *spread, seconds))
    head = ("workload", "machine", "code", "max-time", "pairs", "mean:5% failed", "median:5% failed", "head / base, medians", "seconds")
    return table(head, rows)


def coverage(summary: Summary, metric: str, *, whole: bool) -> str:
    """Lowest and highest share over all changes, for each place, size and level."""
    rows = []
    for workload in WORKLOADS:
        for condition in CONDITIONS:
            for level in LEVELS:
                shares = []
                for size in SIZES:
                    found = [
                        row.held / row.draws
                        for row in summary.coverages
                        if row.cell.startswith(f"{workload}/{condition}/")
                        and (row.metric, row.size, row.level, row.whole) == (metric, size, level, whole)
                    ]
                    shares.append(f"{min(found):.1%} to {max(found):.1%}" if found else "")
                if any(shares):
                    rows.append((workload, condition, f"{level:.0%}", *shares))
    return table(("workload", "machine", "level", *(f"{size} pairs" for size in SIZES)), rows)


def remedies(summary: Summary) -> str:
    """For each way, lowest and highest share over all cells, by size and level."""
    rows = []
    for way in WAYS:
        every = [shares(records, way) for records in summary.pairs.values() if len(records) > 1]
        for level in LEVELS_OF_REMEDIES:
            ranges = []
            for size in SIZES_OF_REMEDIES:
                found = [one[size, level] for one in every]
                ranges.append(f"{min(found):.1%} to {max(found):.1%}" if found else "")
            rows.append((way, f"{level:.0%}", *ranges))
    return table(("interval and truth", "level", *(f"{size} pairs" for size in SIZES_OF_REMEDIES)), rows)


def farthest(summary: Summary) -> str:
    """The cells whose farthest pair lies farthest, in words."""
    found = sorted(((farthest_pair(records), cell) for cell, records in summary.pairs.items() if len(records) > 1), reverse=True)
    return ", ".join(f"{spreads:.0f} in {told(cell)}" for spreads, cell in found[:3])


def told(arm: str) -> str:
    return arm.replace("%", " %")


def _columns() -> list[tuple[str, str]]:
    return [(condition, arm) for condition in CONDITIONS for arm in (IDENTICAL, *PLANTED)]


def _cells() -> list[Cell]:
    return [Cell(workload, condition, arm) for workload in WORKLOADS for condition in CONDITIONS for arm in ARMS]


def _range(costs: Sequence[float]) -> str:
    if not costs:
        return ""
    low, high = min(costs), max(costs)
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"


def _share(found: Sequence[object], field: str) -> str:
    return f"{sum(field in pair.failed for pair in found) / len(found):.0%}"  # type: ignore[attr-defined]


def pair_seconds(summary: Summary, workload: str) -> float:
    """The mean cost of a launch pair of a workload, starts included."""
    records = [pair for cell, found in summary.pairs.items() if cell.startswith(f"{workload}/") for pair in found]
    return mean_of(records, lambda pair: pair.wall_s)
