"""The rules of other tools on the recorded launches: ``python -m tests.benchmarks.verdict.compare_rivals``.

Two ways of giving a rule its launches: ``apart`` (both arms from launches of their own, as when the base is measured, and then the head)
and ``together`` (both from the same launch pair, where the arms took turns), which is kinder than any of these tools is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from .cells import Cell, cells
from .collect import DATA
from .records import Lines, PairRecord, by_cell, pairs_in
from .rivals import RULES, Rule

DECISIONS = 3_000
WAYS = ("apart", "together")


@dataclass(frozen=True, slots=True)
class Rival:
    """How often a rule called the candidate of a cell slower; ``seconds`` is what the launches of one decision took, starts included."""

    cell: str
    rule: str
    told: str
    way: str
    launches: int
    decisions: int
    slower: int
    seconds: float


def rival_of(cell: Cell, rule: Rule, way: str, records: Sequence[PairRecord], decisions: int) -> Rival:
    """Resample decisions of one rule. Records need their latencies."""
    draw, generator = random.Random(f"{cell.id}/{rule.name}/{way}"), np.random.default_rng(0)
    slower = 0
    for _ in range(decisions):
        first = draw.choices(records, k=rule.launches)
        second = first if way == "together" else draw.choices(records, k=rule.launches)
        base, head = [pair.baseline.latencies_ns for pair in first], [pair.candidate.latencies_ns for pair in second]
        slower += rule.says(base, head, generator)
    seconds = rule.launches * statistics.fmean(pair.wall_s for pair in records)
    return Rival(cell.id, rule.name, rule.told, way, rule.launches, decisions, slower, round(seconds, 2))


def work(cell: Cell, folder: Path, decisions: int) -> list[Rival]:
    """Every rule and way on one cell; nothing where no launch of it kept its latencies."""
    records = [pair for pair in by_cell(list(pairs_in(folder).read())).get(cell.id, []) if pair.baseline.latencies_ns]
    return [rival_of(cell, rule, way, records, decisions) for rule in RULES for way in WAYS] if records else []


def rivals_in(folder: Path) -> Lines[Rival]:
    return Lines(folder / "rivals.jsonl", TypeAdapter(Rival))


def compare(folder: Path, *, decisions: int, only: str | None, processes: int) -> None:
    """Every cell anew; the file is written when all is done."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        done = pool.map(partial(work, folder=folder, decisions=decisions), cells(only), chunksize=1)
    rivals_in(folder).write(rival for found in done for rival in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--decisions", type=int, default=DECISIONS, help="decisions drawn of each cell, rule and way (%(default)s)")
    parser.add_argument("--only", metavar="PATTERN", help="only cells whose id matches")
    parser.add_argument("--processes", type=int, default=2, help="cells at the same time (%(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of what was measured (%(default)s)")
    options = parser.parse_args()
    compare(options.data, decisions=options.decisions, only=options.only, processes=options.processes)


if __name__ == "__main__":
    main()
