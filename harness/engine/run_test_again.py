"""Launches that are a test run again: a pytest process for each, up to a call of ``gate``, in the work tree or in that of a commit."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engine.callable_base import elsewhere, python_path
from harness.engine.launcher import Launcher
from harness.engine.serve_callable import DUTY, Duty
from harness.engine.workers import environment_of

if TYPE_CHECKING:
    from harness.engine.protocol import Subject
    from harness.engine.workers import Process, Seat, Start

START = """
import os, sys
cores = sys.argv.pop(1)
if cores: os.sched_setaffinity(0, map(int, cores.split(",")))
import pytest
raise SystemExit(pytest.main(sys.argv[1:]))
"""
"""A pytest process that is pinned before anything else is imported; this program comes into it as a plugin, like any other."""
NOT_INHERITED = ("COV_CORE_", "COVERAGE_PROCESS_", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_")
"""What would measure coverage in the process, or make it take itself for another one."""


@dataclass(frozen=True, slots=True)
class TestCall:
    """Which call of ``gate`` (from 0) in which test, and how to run that test again.

    ``project`` is the work tree's root; ``file`` and ``folder`` (where pytest was started) are absolute; ``name`` is the test inside its
    file with its parameters. ``arguments`` are what pytest was started with.
    """

    __test__ = False

    project: Path
    file: Path
    name: str
    folder: Path
    arguments: tuple[str, ...]
    call: int = 0

    @property
    def told(self) -> str:
        """As pytest writes it; a later call of the same test has its number."""
        file = self.file.relative_to(self.project) if self.file.is_relative_to(self.project) else self.file
        return f"{file.as_posix()}::{self.name}" + (f" (call {self.call + 1})" if self.call else "")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the comparison: the work tree that it runs in, and which of the call's callables it is ("candidate", "baseline")."""

    tree: Path
    callable: str


@dataclass(slots=True)
class PytestLauncher(Launcher):
    """Starts a pytest process for every launch of every side; ``scratch`` is a folder that they may write to."""

    test: TestCall | None = None
    sides: Mapping[str, Side] = field(default_factory=dict)
    scratch: Path = Path()
    roots: tuple[Path, ...] = ()

    def starts(self, arms: Mapping[str, Subject], seats: Mapping[str, Seat]) -> dict[str, Start]:
        return {arm: partial(self._start, self.sides[subject.runtime.name]) for arm, subject in arms.items()}

    def _start(self, side: Side, seat: Seat, connection: int, out: int) -> Process:
        assert self.test is not None
        command = command_of(self.test, side, seat, self.scratch / seat.role, connection)
        here = elsewhere(self.test.folder, self.test.project, side.tree)
        variables = {name: value for name, value in environment_of(seat).items() if not name.startswith(NOT_INHERITED)}
        variables["PYTHONPATH"] = python_path(self.roots, self.test.project, side.tree, variables.get("PYTHONPATH", ""))
        return subprocess.Popen(
            command,
            cwd=here if here.is_dir() else side.tree,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=[connection],
            env=variables,
            start_new_session=True,
        )


def command_of(test: TestCall, side: Side, seat: Seat, scratch: Path, connection: int) -> list[str]:
    """pytest as it was started, with every path of the project where the side has it, on its duty and with folders of its own."""

    def there(text: str) -> str:
        return text if side.tree == test.project else text.replace(str(test.project), str(side.tree))

    node = f"{elsewhere(test.file, test.project, side.tree)}::{test.name}"
    not_from = None if side.tree == test.project else test.project
    duty = DUTY.dump_json(Duty(connection, node, test.call, side.callable, not_from)).decode()
    own = (f"--basetemp={scratch}", "-o", f"cache_dir={scratch}-cache", f"--harness-duty={duty}")
    cores = ",".join(map(str, seat.cores))
    return [str(seat.python), "-P", "-c", START, cores, *map(there, test.arguments), *own]
