"""Whole gates, by the command line, in a repository of their own: ``python -m tests.benchmarks.verdict.gates``.

Nothing is replaced or drawn here: ``harness gate`` starts, measures, decides and ends with its exit code. Most are of identical code, to
count false alarms; some are of a planted slowdown. It goes on where the file ends.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from harness.engine.progress_bar import shown_progress

from .cells import ARMS, CONDITIONS, IDENTICAL, NOISY, SCENARIOS, WORKLOADS, Cell
from .collect import DATA, trial_cores
from .machine import note_machine
from .neighbour import Neighbours
from .records import Lines
from .workplace import my_turn

GATES = 100
PLANTED_GATES = 20
PLANTED = "+5%"
HARNESS = Path(sys.executable).with_name("harness")
AUTHOR = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")


@dataclass(frozen=True, slots=True)
class Gate:
    """One ``harness gate``. ``seconds`` is the whole command, from start to exit; ``pairs`` the launch pairs that it took."""

    cell: str
    number: int
    taken_at: str
    seconds: float
    exit_code: int
    verdict: str
    headline: str
    verdicts: dict[str, str]
    pairs: int
    control_red: bool | None


def gate_of(cell: Cell, number: int, seconds: float, result: dict) -> Gate:
    """What is kept of the JSON that the command printed (docs/json-output.md)."""
    (trial,) = result["trials"]
    control = result["null_control"]
    return Gate(
        cell=cell.id,
        number=number,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 2),
        exit_code=result["exit_code"],
        verdict=result["verdict"],
        headline=result["headline"],
        verdicts={comparison["metric"]: comparison["verdict"] for comparison in result["comparisons"]},
        pairs=next((metric["n"] for metric in trial["metrics"] if metric["metric"] == "latency_p50"), 0),
        control_red=None if control is None else control["red"],
    )


@dataclass(frozen=True, slots=True)
class Project:
    """A git repository with the scenarios and their accepted baselines."""

    folder: Path

    def gate(self, cell: Cell, number: int) -> Gate:
        """Run one gate. Raises RuntimeError, with what it said, when it ended in any way but a verdict."""
        workload = WORKLOADS[cell.workload]
        options = ["--all", "--json", "--budget", f"{workload.budget_s:g}s", "--reports", "reports"]
        if cell.arm != IDENTICAL:
            options += ["--set", f"model.args.units={ARMS[cell.arm].units}"]
        begin = time.monotonic()
        done = self._harness("gate", workload.scenario.name, *options)
        seconds = time.monotonic() - begin
        shutil.rmtree(self.folder / "reports", ignore_errors=True)
        if done.returncode not in (0, 1, 3):
            raise RuntimeError(f"harness gate ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return gate_of(cell, number, seconds, json.loads(done.stdout))

    def begin(self, scenarios: Sequence[Path]) -> None:
        """Commit the scenarios, accept first baselines, commit those; build what is planted, so that no gate's time has a build in it."""
        shutil.copytree(SCENARIOS, self.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / ".gitignore").write_text("reports/\n__pycache__/\n", encoding="utf-8")
        self._git("init", "--quiet")
        self._commit("scenarios")
        for scenario in scenarios:
            done = self._harness("gate", scenario.name, "--new-baselines", "accept", "--reports", "reports")
            if done.returncode != 0:
                raise RuntimeError(f"no baseline could be accepted:\n{done.stdout}\n{done.stderr}")
        self._commit("baselines")
        planted = f"model.args.units={ARMS[PLANTED].units}"
        for scenario in scenarios:
            self._harness("gate", scenario.name, "--set", planted, "--budget", "1s", "--reports", "reports")
        shutil.rmtree(self.folder / "reports", ignore_errors=True)

    def _commit(self, message: str) -> None:
        self._git("add", "--all")
        self._git(*AUTHOR, "commit", "--quiet", "--no-gpg-sign", "--message", message)

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True)

    def _harness(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        variables = os.environ | {"HARNESS_HISTORY": str(self.folder / "reports" / "history.sqlite")}
        return subprocess.run([str(HARNESS), *arguments], cwd=self.folder, env=variables, capture_output=True, text=True, check=False)


@contextmanager
def project(workloads: Sequence[str]) -> Iterator[Project]:
    """A repository for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="verdict-gates-", ignore_cleanup_errors=True) as folder:
        made = Project(Path(folder))
        with my_turn():
            made.begin([WORKLOADS[name].scenario for name in workloads])
        yield made


def wanted(gates: int, planted: int, done: Counter[str], only: str | None = None) -> Iterator[Cell]:
    """What is still to run, quiet and noisy and both workloads in turn, planted slowdowns spread among the identical code."""
    places = [Cell(workload, condition, IDENTICAL) for condition in CONDITIONS for workload in WORKLOADS]
    share = {IDENTICAL: -(-gates // len(places)), PLANTED: -(-planted // len(places))}
    for number in range(max(share.values())):
        for place, (arm, count) in itertools.product(places, share.items()):
            cell = Cell(place.workload, place.condition, arm)
            if done[cell.id] <= number < count and (only is None or only in cell.id):
                yield cell


def gates_in(folder: Path) -> Lines[Gate]:
    return Lines(folder / "gates.jsonl", TypeAdapter(Gate))


def run(data: Lines[Gate], *, gates: int, planted: int, seconds: float, only: str | None = None) -> int:
    """Run what is missing, beginning none after ``seconds``; how many are still missing."""
    done = Counter(gate.cell for gate in data.read())
    left = list(wanted(gates, planted, done, only))
    if not left:
        return 0
    cores = trial_cores(left)
    with shown_progress() as progress, project(sorted({cell.workload for cell in left})) as made, Neighbours(cores) as neighbours:
        end = time.monotonic() + seconds
        progress.phase("Gating", len(left))
        while left and time.monotonic() < end:
            cell = left.pop(0)
            progress.step(f"{cell.id}: gate {done[cell.id] + 1}, {len(left)} more after it")
            with my_turn(), neighbours.noisy() if cell.condition == NOISY else nullcontext():
                data.append(made.gate(cell, done[cell.id]))
            done[cell.id] += 1
    return len(left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gates", type=int, default=GATES, help="gates of identical code (%(default)s)")
    parser.add_argument("--planted", type=int, default=PLANTED_GATES, help=f"gates of a planted {PLANTED.replace('%', '%%')} (%(default)s)")
    parser.add_argument("--only", metavar="PART", help="only cells whose id holds this, such as 'onnx/' or 'quiet'")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no gate after so long")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of what is measured (%(default)s)")
    options = parser.parse_args()
    note_machine(options.data)
    missing = run(gates_in(options.data), gates=options.gates, planted=options.planted, seconds=options.seconds, only=options.only)
    print(f"{missing} gates are still missing: run this again" if missing else "every gate is there")  # noqa: T201


if __name__ == "__main__":
    main()
