"""A user's repository in a folder of its own, and real ``harness`` processes that are started in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

LONGEST_S = 120
"""No command of a test takes so long: what does is hanging."""

SCENARIO = """\
version: 1
name: tiny
model:
  fake: {latency_us: 300}
data:
  evaluation: data.py:test_set
  task: classification
recipes:
  base: {runtime: fake}
measure: {duration: 0.1 s, warm_up: 0.05 s, launches: 2}
gate: {latency_p90: off, latency_p99: off, throughput: off, peak_memory: off}
"""
"""Its timings vary little in the median, so that is what is gated; accuracy and size are exact."""

DATA = """\
import numpy as np


def test_set():
    labels = np.arange(200)
    return labels.astype(np.float32).reshape(-1, 1), labels % 10
"""
TRIAL = "tiny/base-cpu-b1"
BASELINE = "baselines/tiny/base-cpu-b1.json"


@dataclass(frozen=True)
class Ended:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> str:
        """stdout as it is on every machine and in every run: ids replaced, notes about this machine's quiet left out."""
        lines = [line for line in same_for_all(self.out).splitlines() if not re.match("note: .*(the machine was busy|UNSTEADY)", line)]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines) + "\n")

    @property
    def summary(self) -> dict:
        """What ``--json`` printed."""
        return json.loads(self.out)


def same_for_all(text: str) -> str:
    return re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "RUN", text)


class Workplace:
    """A repository under version control; ``cache`` is the artifact cache that its commands use."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root = root
        self.cache = cache

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def replace(self, path: str, old: str, new: str) -> None:
        assert old in self.read(path)
        self.write(path, self.read(path).replace(old, new))

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=user", "-c", "user.email=user@example.com", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, message: str = "change") -> str:
        """Commit everything; the new commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of the calling repository or terminal gets in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "HARNESS_", "PYTEST_"))}
        return {
            **kept,
            "HARNESS_CACHE_DIR": str(self.cache),
            "HARNESS_HISTORY": str(self.cache.parent / "history.sqlite"),
            "PYTHONWARNINGS": "error",
            "COLUMNS": "80",
            **more,
        }

    def harness(self, *arguments: str, env: Mapping[str, str] = {}, program: Sequence[str] = ("-m", "harness.cli")) -> Ended:
        """Run a command to its end."""
        process = self.begin(*arguments, env=env, program=program)
        out, err = process.communicate(timeout=LONGEST_S)
        return Ended(process.returncode, out, err)

    def begin(
        self,
        *arguments: str,
        env: Mapping[str, str] = {},
        program: Sequence[str] = ("-m", "harness.cli"),
        stdout: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a command and do not wait."""
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=self.root,
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def begun(self, *arguments: str, env: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
        """A command that is under way; it and its workers are gone when the block is left, whatever the test has found."""
        with self.begin(*arguments, env=env) as process:
            try:
                yield process
            finally:
                process.kill()

    @property
    def latest(self) -> Path:
        """The folder of the newest run."""
        return (self.root / "reports" / "latest").resolve()

    @property
    def runs(self) -> list[str]:
        return sorted(path.name for path in (self.root / "reports").glob("2*"))

    def launches(self, reports: str | Path = "reports") -> list[dict]:
        """The launches in the newest run's journal; a line that is being written does not count yet."""
        journal = self.root / reports / "latest" / "launches.jsonl"
        lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
        return [event for line in lines if (event := json.loads(line))["kind"] == "launch"]

    def baseline(self) -> dict:
        return json.loads(self.read(BASELINE))


def workplace(root: Path, cache: Path, scenario: str = SCENARIO, data: str = DATA) -> Workplace:
    """A repository with one scenario, committed."""
    place = Workplace(root, cache)
    place.write("scenarios/tiny.yaml", scenario)
    place.write("scenarios/data.py", data)
    place.write(".gitignore", "reports/\n__pycache__/\n")
    place.git("init", "--quiet", "--initial-branch=main", ".")
    place.commit("a first scenario")
    return place


def accepted(base: Path, root: Path) -> Workplace:
    """A copy of a repository whose baseline was measured and committed; it is made once under ``base``."""
    template = Workplace(base / "accepted", base / "accepted-cache")
    if not template.root.exists():
        made = workplace(base / "being-accepted", template.cache)
        ended = made.harness("gate", "scenarios", "--new-baselines", "accept")
        assert ended.code == 0, ended
        made.commit("a first baseline")
        made.root.rename(template.root)
    shutil.copytree(template.root, root, symlinks=True)
    return Workplace(root, template.cache)


def until(happened: Callable[[], bool], within_s: float = 60) -> None:
    """Wait for something to happen, not for time to pass."""
    end = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers of a command that are alive."""
    try:
        return [child for child in psutil.Process(process.pid).children(recursive=True) if "harness.engine.worker" in child.cmdline()]
    except psutil.NoSuchProcess:
        return []


def is_gone(process: psutil.Process) -> bool:
    """A process that has ended, also where nobody has waited for it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
