"""Take launch pairs of every cell, in turn, by the gate's own functions: ``python -m tests.benchmarks.verdict.collect``.

It goes on where the file ends. A visit to a cell takes as many pairs as one template process lives for; the cells of a round come in random
order, so that no drift of the machine belongs to one cell.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.estimate import Absent
from harness.core.measurement import Measurement, Run
from harness.engine.evaluate import launch_figures, launch_log_ratios
from harness.engine.launcher import PAIRS_OF_A_TEMPLATE
from harness.engine.measure import launch
from harness.engine.progress_bar import shown_progress
from harness.stats.quantiles import quantile

from .cells import NOISY, Cell, cells
from .machine import note_machine
from .neighbour import Neighbours
from .records import LaunchRecord, Lines, PairRecord, pairs_in
from .workplace import Workplace, launch_rules, my_turn, opened, trial_of

if TYPE_CHECKING:
    from harness.engine.rules import Rule

DATA = Path(".cache/verdict-benchmark")
PAIRS = 300
KEPT_LATENCIES = 60
PAIRS_WITH_LATENCIES = 100
"""Of the first pairs of a cell single latencies are kept, so that the file stays small."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A cell, and the pairs of it that are taken in a row; ``number`` counts the visits to the cell."""

    cell: Cell
    number: int
    pairs: range


def visits(chosen: Sequence[Cell], taken: Counter[str], visited: Counter[str], pairs: int) -> Iterator[Visit]:
    """What is still to do: round by round, those first of which the fewest pairs are there, each round in an order of its own."""
    taken, visited = taken.copy(), visited.copy()
    while open_cells := [cell for cell in chosen if taken[cell.id] < pairs]:
        fewest = min(taken[cell.id] for cell in open_cells)
        behind = [cell for cell in open_cells if taken[cell.id] < fewest + PAIRS_OF_A_TEMPLATE]
        random.Random(f"round/{fewest}").shuffle(behind)
        for cell in behind:
            last = min(taken[cell.id] + PAIRS_OF_A_TEMPLATE, pairs)
            yield Visit(cell, visited[cell.id], range(taken[cell.id], last))
            taken[cell.id], visited[cell.id] = last, visited[cell.id] + 1


def record_of(visit: Visit, pair: int, runs: dict[str, Run], wall_s: float, rules: Sequence[Rule]) -> PairRecord:
    """What is kept of one pair. Metrics that these launches do not have are left out."""
    sides = [Measurement(visit.cell.id, 1, "single_stream", (runs[arm],)) for arm in ("baseline", "candidate")]
    ratios: dict[str, float] = {}
    figures: dict[str, tuple[float, float]] = {}
    for rule in rules:
        ratio = launch_log_ratios(rule.metric, *sides)
        before, after = (launch_figures(rule.metric, side) for side in sides)
        if not isinstance(ratio, Absent) and not isinstance(before, Absent) and not isinstance(after, Absent):
            ratios[rule.metric], figures[rule.metric] = ratio[0], (before[0], after[0])
    launches = [_launch_record(runs[arm], in_full=pair < PAIRS_WITH_LATENCIES) for arm in ("baseline", "candidate")]
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    return PairRecord(visit.cell.id, pair, visit.number, taken_at, wall_s, ratios, figures, *launches)


def _launch_record(run: Run, *, in_full: bool) -> LaunchRecord:
    latencies = [latency for piece in run.slices for latency in piece.latencies_ns]
    kept = [latencies[index * len(latencies) // KEPT_LATENCIES] for index in range(KEPT_LATENCIES)]
    return LaunchRecord(
        queries=len(latencies),
        mean_ns=round(statistics.fmean(latencies), 1),
        median_ns=statistics.median(latencies),
        p99_ns=round(quantile(latencies, 0.99), 1),
        steady=run.steady,
        forked=run.template_pid is not None,
        latencies_ns=tuple(kept if len(latencies) >= KEPT_LATENCIES else latencies) if in_full else (),
    )


def take(visit: Visit, workplace: Workplace, neighbours: Neighbours, data: Lines[PairRecord], clock: Callable[[], float]) -> None:
    """Every pair of a visit, each saved as soon as it is finished."""
    arms, rules = workplace.arms(visit.cell), launch_rules(visit.cell.workload)
    with workplace.procedure(visit.cell) as procedure:
        for pair in visit.pairs:
            with my_turn(), neighbours.noisy() if visit.cell.condition == NOISY else nullcontext():
                begin = clock()
                runs = launch(arms, pair, procedure, seed=0)
                wall_s = round(clock() - begin, 4)
            data.append(record_of(visit, pair, runs, wall_s, rules))


def collect(
    data: Lines[PairRecord],
    *,
    seconds: float,
    pairs: int,
    only: str | None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Take what is missing up to ``pairs`` of each cell, no longer than about ``seconds``; how many pairs are still missing."""
    end = clock() + seconds
    chosen = cells(only)
    taken, visited = Counter[str](), Counter[str]()
    for record in data.read():
        taken[record.cell] += 1
        visited[record.cell] = max(visited[record.cell], record.visit + 1)
    cores = trial_cores(chosen)
    with shown_progress() as progress, opened(progress) as workplace, Neighbours(cores) as neighbours:
        progress.phase("Collecting", len(chosen))
        for visit in visits(chosen, taken, visited, pairs):
            if clock() >= end:
                break
            progress.step(f"{visit.cell.id}: pairs {visit.pairs.start + 1} to {visit.pairs.stop} of {pairs}")
            take(visit, workplace, neighbours, data, clock)
            taken[visit.cell.id] = visit.pairs.stop
    return sum(max(0, pairs - taken[cell.id]) for cell in chosen)


def trial_cores(chosen: Sequence[Cell]) -> tuple[int, ...]:
    """The cores that the launches of these cells are pinned to: where the noisy neighbour lives."""
    from harness.engine.make_plan import cores_of

    return tuple(sorted({core for cell in chosen for core in cores_of(trial_of(cell.workload, 200).target)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no visit to a cell after so long")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="launch pairs of each cell (%(default)s)")
    parser.add_argument("--only", metavar="PATTERN", help="only cells whose id matches, such as 'onnx/quiet/*' or '+5%%'")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of what is measured (%(default)s)")
    options = parser.parse_args()
    note_machine(options.data)
    data = pairs_in(options.data)
    try:
        missing = collect(data, seconds=options.seconds, pairs=options.pairs, only=options.only)
    except KeyboardInterrupt:
        print(f"stopped; what was taken is in {data.path}")  # noqa: T201 - a command of its own
        raise SystemExit(130) from None
    print(f"{missing} launch pairs are still missing: run this again" if missing else "every launch pair is there")  # noqa: T201


if __name__ == "__main__":
    main()
