"""The parent's side of its generator processes: start them at one moment, watch, and leave nothing running."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.loads._orders import READY, STOP, Orders, Report

START_TIMEOUT_S = 60.0
BEGIN_IN_NS = 300_000_000
"""From the moment when all are ready until the lead-in begins: time for Locust to start its users."""
LOOK_EVERY_S = 0.25
GRACE_S = 10.0
"""How long after its last possible answer a generator may take to write its records."""
CALLED_OFF_S = 20.0
LOG_TAIL_LINES = 12


@dataclass(slots=True)
class Generators:
    """Generator processes as a context manager: they are gone when the block is left, however that happens."""

    orders: Sequence[Orders]
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _lines: list[bytes] = field(default_factory=list)
    _limit_s: float = 0.0

    def __enter__(self) -> Generators:
        try:
            for orders in self.orders:
                self.processes.append(self._start(orders))
                self._lines.append(b"")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def begin(self, clock: Callable[[], int]) -> int:
        """Wait until all are ready and tell them when the lead-in begins; gives that moment."""
        self._limit_s = time.monotonic() + START_TIMEOUT_S
        self._hear(lambda: True, lambda line: line == READY)
        begin_ns = clock() + BEGIN_IN_NS
        self._tell(f"{begin_ns}\n")
        return begin_ns

    def wait(self, until_s: float, look: Callable[[], bool]) -> list[Report]:
        """Wait for the reports until ``until_s`` by the monotonic clock. ``look`` is called about 4 times a second; when it gives False the
        load is called off: there is nobody to answer any more."""
        self._limit_s = until_s + GRACE_S
        heard = self._hear(look, lambda line: "report" in line)
        return [Report(**json.loads(heard[number])["report"]) for number in sorted(heard)]

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # a line that was never read
                    if pipe is not None:
                        pipe.close()

    def _start(self, orders: Orders) -> subprocess.Popen[bytes]:
        path = self.folder / f"generator-{orders.process}.json"
        orders.write(path)
        with self._log(orders.process).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.loads._locust_generator", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # select() waits to the microsecond; epoll, libev's choice, to the millisecond: sends would be late by half of one.
                env={
                    **os.environ,
                    "GEVENT_BACKEND": "select",
                    "PYTHONUNBUFFERED": "1",
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
                start_new_session=True,
            )

    def _log(self, number: int) -> Path:
        return self.folder / f"generator-{number}.log"

    def _tell(self, line: str) -> None:
        for process in self.processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # it has ended: its silence is told where it is waited for
                process.stdin.write(line.encode())
                process.stdin.flush()

    def _hear(self, look: Callable[[], bool], wanted: Callable[[str], bool]) -> dict[int, str]:
        """A line of each that is ``wanted``. Raises for one that ends, is silent for too long, or cannot use the user's file."""
        heard: dict[int, str] = {}
        called_off = False
        with selectors.DefaultSelector() as selector:
            for number, process in enumerate(self.processes):
                assert process.stdout is not None
                selector.register(process.stdout, selectors.EVENT_READ, number)
            while len(heard) < len(self.processes):
                for key, _ in selector.select(LOOK_EVERY_S):
                    line = self._line(key.data, key.fd)
                    if line is not None and wanted(line):
                        heard[key.data] = line
                        selector.unregister(key.fileobj)
                if not called_off and not look():
                    called_off = True
                    self._limit_s = min(self._limit_s, time.monotonic() + CALLED_OFF_S)
                    self._tell(STOP)
                if time.monotonic() > self._limit_s and len(heard) < len(self.processes):
                    late = min(set(range(len(self.processes))) - set(heard))
                    raise CannotMeasure("a load generator did not end in its time", hint=self._hint(late))
        return heard

    def _line(self, number: int, descriptor: int) -> str | None:
        """The next line of a generator, where it is whole. Raises CannotMeasure when it has ended instead."""
        data = os.read(descriptor, 1 << 16)
        if not data:
            code = self.processes[number].wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise CannotMeasure(f"a load generator ended before its time ({how})", hint=self._hint(number))
        self._lines[number] += data
        line, end, rest = self._lines[number].partition(b"\n")
        if not end:
            return None
        self._lines[number] = rest
        self._check(number, line.decode())
        return line.decode()

    def _check(self, number: int, line: str) -> None:
        """Raises BadInput where a generator says that it cannot use the user's file."""
        wrong = json.loads(line).get("report", {}).get("bad_input")
        if wrong:
            path = Path(self.orders[number].locustfile)
            raise BadInput(Problem(wrong, path=path, key="measure.load.locust.locustfile", hint=self._hint(number)))

    def _hint(self, number: int) -> str:
        log = self._log(number)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n  ".join([f"{log} says:", *lines]) if lines else f"{log} is empty"
