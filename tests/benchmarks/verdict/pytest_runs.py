"""pytest-benchmark itself, base against head in processes of their own: ``python -m tests.benchmarks.verdict.pytest_runs``.

The same models on the same pinned core, measured with its defaults (a second a benchmark), then with as much time as a gate takes. The head
is compared by ``--benchmark-compare-fail mean:5% median:5%``; what it fails on is read from what it prints.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from harness.engine.progress_bar import shown_progress

from .cells import ARMS, CONDITIONS, IDENTICAL, NOISY, UNITS, WORKLOADS, Cell
from .collect import DATA, trial_cores
from .machine import note_machine
from .neighbour import Neighbours
from .records import Lines
from .workplace import my_turn, opened

BENCH = Path(__file__).with_name("pytest_bench.py")
COMPARED = ("mean", "median")
PERCENT = 5
PLANTED = "+5%"
FAILED = re.compile(r"Field '(\w+)' has failed PercentageRegressionCheck")
DEFAULT_TIME_S, PAIRS = 1.0, 40
LONG_TIME_S, LONG_PAIRS = 10.0, 10


@dataclass(frozen=True, slots=True)
class PytestPair:
    """A base process and a head process. ``max_time_s`` is ``--benchmark-max-time``; ``failed`` are the fields that failed the head;
    ratios are head / base as its JSON has them; ``seconds`` is both processes from start to exit."""

    cell: str
    number: int
    taken_at: str
    max_time_s: float
    seconds: float
    exit_code: int
    failed: tuple[str, ...]
    mean_ratio: float
    median_ratio: float


@dataclass(frozen=True, slots=True)
class Bench:
    """Where pytest-benchmark keeps its numbers, the cores of all processes, and the models by workload and units."""

    storage: Path
    cores: tuple[int, ...]
    models: dict[tuple[str, int], Path]

    def pair(self, cell: Cell, number: int, max_time_s: float) -> PytestPair:
        """Base, then head. Raises RuntimeError when the base, or anything but the comparison, fails."""
        begin = time.monotonic()
        base_json, head_json = self.storage / "base.json", self.storage / "head.json"
        for path in self.storage.rglob("*.json"):
            path.unlink()
        done = self._pytest(cell.workload, UNITS, max_time_s, f"--benchmark-json={base_json}", "--benchmark-save=base")
        if done.returncode != 0:
            raise RuntimeError(f"pytest-benchmark failed:\n{done.stdout}\n{done.stderr}")
        checks = ["--benchmark-compare-fail", *(f"{field}:{PERCENT}%" for field in COMPARED)]  # one option: said twice, the last counts
        units = ARMS[cell.arm].units
        done = self._pytest(cell.workload, units, max_time_s, f"--benchmark-json={head_json}", "--benchmark-compare=0001", *checks)
        seconds = time.monotonic() - begin
        failed = tuple(sorted(set(FAILED.findall(done.stdout + done.stderr))))
        if (done.returncode != 0) != bool(failed):
            raise RuntimeError(f"pytest-benchmark ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        base, head = (json.loads(path.read_text(encoding="utf-8"))["benchmarks"][0]["stats"] for path in (base_json, head_json))
        ratios = [head[field] / base[field] for field in COMPARED]
        taken_at = datetime.now(UTC).isoformat(timespec="seconds")
        return PytestPair(cell.id, number, taken_at, max_time_s, round(seconds, 2), done.returncode, failed, *ratios)

    def _pytest(self, workload: str, units: int, max_time_s: float, *options: str) -> subprocess.CompletedProcess[str]:
        facts = {"workload": workload, "units": units, "cores": self.cores, "model": str(self.models[workload, units])}
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(BENCH),
            f"--rootdir={self.storage}",
            f"--confcutdir={self.storage}",
            "-c",
            os.devnull,
        ]
        command += ["-p", "no:cacheprovider", "--benchmark-only", f"--benchmark-storage=file://{self.storage}"]
        command += [f"--benchmark-max-time={max_time_s:g}", *options]
        variables = os.environ | {"VERDICT_BENCH": json.dumps(facts), "OMP_NUM_THREADS": str(len(self.cores))}
        return subprocess.run(command, cwd=self.storage, env=variables, capture_output=True, text=True, check=False)


def wanted(pairs: int, long_pairs: int, done: Counter[tuple[str, float]]) -> Iterator[tuple[Cell, float]]:
    """What is still to run, in turn: identical code and the planted slowdown, quiet and noisy, short and long."""
    every = [Cell(workload, condition, arm) for condition in CONDITIONS for workload in WORKLOADS for arm in (IDENTICAL, PLANTED)]
    for number in range(max(pairs, long_pairs)):
        for cell, (time_s, count) in itertools.product(every, ((DEFAULT_TIME_S, pairs), (LONG_TIME_S, long_pairs))):
            if done[cell.id, time_s] <= number < count:
                yield cell, time_s


def pytest_pairs_in(folder: Path) -> Lines[PytestPair]:
    return Lines(folder / "pytest-benchmark.jsonl", TypeAdapter(PytestPair))


def run(data: Lines[PytestPair], *, pairs: int, long_pairs: int, seconds: float) -> int:
    """Run what is missing, beginning nothing after ``seconds``; how many pairs are still missing."""
    end = time.monotonic() + seconds
    done = Counter((pair.cell, pair.max_time_s) for pair in data.read())
    left = list(wanted(pairs, long_pairs, done))
    if not left:
        return 0
    cores = trial_cores([cell for cell, _ in left])
    with shown_progress() as progress, opened(progress) as workplace, Neighbours(cores) as neighbours:
        units = {(cell.workload, number) for cell, _ in left for number in (UNITS, ARMS[cell.arm].units)}
        models = {(workload, number): workplace.artifact(workload, number) for workload, number in sorted(units)}
        progress.phase("pytest-benchmark", len(left))
        with tempfile.TemporaryDirectory(prefix="verdict-pytest-", ignore_cleanup_errors=True) as folder:
            bench = Bench(Path(folder), cores, models)
            while left and time.monotonic() < end:
                cell, time_s = left.pop(0)
                number = done[cell.id, time_s]
                progress.step(f"{cell.id}: {time_s:g} s, pair {number + 1}, {len(left)} more after it")
                with my_turn(), neighbours.noisy() if cell.condition == NOISY else nullcontext():
                    data.append(bench.pair(cell, number, time_s))
                done[cell.id, time_s] += 1
    return len(left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of each cell with its default of 1 s (%(default)s)")
    parser.add_argument("--long-pairs", type=int, default=LONG_PAIRS, help=f"pairs of each cell with {LONG_TIME_S:g} s (%(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no pair after so long")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of what is measured (%(default)s)")
    options = parser.parse_args()
    note_machine(options.data)
    data = pytest_pairs_in(options.data)
    missing = run(data, pairs=options.pairs, long_pairs=options.long_pairs, seconds=options.seconds)
    print(f"{missing} pairs are still missing: run this again" if missing else "every pair is there")  # noqa: T201


if __name__ == "__main__":
    main()
