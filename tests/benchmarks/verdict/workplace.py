"""The arms of a cell, made and launched by the functions that the gate uses."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.progress import Progress
from harness.engine import toolchain
from harness.engine.build import Builder
from harness.engine.content import derive
from harness.engine.evaluate import metric_of
from harness.engine.launcher import Launcher
from harness.engine.make_plan import make_plan
from harness.engine.procedure import Procedure
from harness.engine.read_environment import read_environment
from harness.engine.read_scenario import read_scenario
from harness.engine.rules import Rule, rules_of
from harness.store.cache import Cache, cache_folder, cache_limit

from .cells import ARMS, UNITS, WORKLOADS, Cell

if TYPE_CHECKING:
    from harness.core.plan import Trial
    from harness.engine.protocol import Subject

LOCK_VARIABLE = "VERDICT_LOCK"


@dataclass(frozen=True, slots=True)
class Workplace:
    """Artifacts come from the cache, or are built into it; ``logs`` is where workers write."""

    builder: Builder
    logs: Path

    def arms(self, cell: Cell) -> dict[str, Subject]:
        """What is launched as baseline and as candidate."""
        units = {"baseline": UNITS, "candidate": ARMS[cell.arm].units}
        return {arm: self._subject(cell.workload, number) for arm, number in units.items()}

    def artifact(self, workload: str, units: int) -> Path:
        """The file of a model with so many units."""
        return self._subject(workload, units).artifact.path

    @contextmanager
    def procedure(self, cell: Cell) -> Iterator[Procedure]:
        """How launches are made, with a launcher of its own: no template process outlives the block."""
        times = trial_of(cell.workload, UNITS).source.scenario.measure
        with Launcher() as launcher:
            yield Procedure(self.logs, times, {}, launcher)

    def _subject(self, workload: str, units: int) -> Subject:
        trial = trial_of(workload, units)
        derivation = derive(trial, toolchain.installed())
        return self.builder.subject(trial, derivation, self.builder.artifact(trial, derivation))


@contextmanager
def opened(progress: Progress) -> Iterator[Workplace]:
    """A workplace with the user's own artifact cache; logs are thrown away."""
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verdict-benchmark-", ignore_cleanup_errors=True)))
        cache = stack.enter_context(Cache(cache_folder(), cache_limit()))
        yield Workplace(Builder(cache, logs, progress), logs)


@cache
def trial_of(workload: str, units: int) -> Trial:
    """The one trial of a workload's scenario, with so many units."""
    path = WORKLOADS[workload].scenario
    file = read_scenario(path, overrides=[f"model.args.units={units}"])
    (trial,) = make_plan([file], read_environment(file.root)).trials
    return trial


def launch_rules(workload: str) -> tuple[Rule, ...]:
    """The gated metrics of launches, with the tolerances that the scenario has."""
    rules = rules_of(trial_of(workload, UNITS).source.scenario)
    return tuple(rule for rule in rules if metric_of(rule.metric).kind == "launch")


@contextmanager
def my_turn() -> Iterator[None]:
    """Nobody else who asks for the file named by ``VERDICT_LOCK`` works within the block; free where the variable is not set."""
    path = os.environ.get(LOCK_VARIABLE)
    if not path:
        yield
        return
    with contextlib.closing(Path(path).open("ab")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    time.sleep(0.05)  # so that whoever waits for it gets it
