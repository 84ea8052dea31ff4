"""Watches a launch from the parent, which only waits while a worker measures.

A thread looks at clocks, power, heat, memory and company every ``period``, and keeps what it saw while a slice ran for the arm whose
slice it was. Counters of energy are read at both ends of every slice: two arms take turns, and each is given the energy of its own turns.
A counter that moves too seldom for that gives no energy, with the reason: it would give one arm's energy to the other.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING

from harness.engine.telemetry.counters import moved, step_of
from harness.engine.telemetry.cpu import Cpu
from harness.engine.telemetry.nvml import Gpu, open_gpu
from harness.engine.telemetry.rapl import MICRO, Rapl, find_rapl
from harness.engine.telemetry.seen import Look, Seen
from harness.engine.telemetry.tell import STEPS_A_TURN, telemetry_of

if TYPE_CHECKING:
    from harness.core.scenario import TelemetrySpec
    from harness.core.telemetry import Telemetry

CHANGES = 4
LONGEST_LOOK_NS = 500_000_000
"""A counter that has not moved a few times in this time is of no use here."""
NVML_WRAPS_AT = 2**32
"""A counter of millijoules that a board keeps in 32 bits starts again here; one of 64 bits never does."""


def _a_little_time() -> None:
    time.sleep(0.0005)


@dataclass(slots=True)
class Watch:
    """One launch pair, or a launch alone, as a context manager: its thread is gone when the block is left.

    ``gpu`` is the device, the reason why it cannot be watched, or None where the session runs on the CPU. ``pause`` passes a little time.
    """

    period_ns: int
    cpu: Cpu
    rapl: Rapl
    gpu: Gpu | str | None
    clock: Callable[[], int] = time.perf_counter_ns
    pause: Callable[[], None] = _a_little_time
    seen: Seen = field(init=False)
    _active: tuple[str, int] | None = None
    _pids: set[int] = field(default_factory=lambda: {os.getpid()})
    _throttled: int | None = None
    _busy_since_us: int | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        if self.gpu is None:
            self.seen = Seen(self.period_ns, None, self.rapl.trouble, tuple(self.rapl.ranges))
        elif isinstance(self.gpu, str):
            self.seen = Seen(self.period_ns, None, self.gpu, ())
        else:
            self.seen = Seen(self.period_ns, self.gpu.source, None, (self.gpu.source,))

    def __enter__(self) -> Watch:
        if isinstance(self.gpu, Gpu):
            self.seen.before = frozenset(self.gpu.processes() or ())
        self._thread = threading.Thread(target=self._keep_looking, name="telemetry", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.cpu.close()

    def learn_steps(self) -> None:
        """See how often the counters of energy move: half a second at most, no time where there is none. Nothing may be timed meanwhile."""
        readings: dict[str, list[tuple[int, int]]] = {domain: [] for domain in self._read()}
        begin = now = self.clock()
        while now - begin < LONGEST_LOOK_NS and any(_changes(found) < CHANGES for found in readings.values()):
            values, now = self._read(), self.clock()
            for domain, found in readings.items():
                if domain in values:
                    found.append((now, values[domain]))
            self.pause()
        self.seen.steps = {domain: step_of(found) for domain, found in readings.items()}

    def least_ns(self) -> int:
        """How long slices are made for the device's energy to be told, of an arm that is twice as fast too; 0 where nothing is known."""
        return 2 * STEPS_A_TURN * max((self.seen.steps.get(domain) or 0 for domain in self.seen.wanted), default=0)

    def begin(self, pids: Sequence[int]) -> None:
        """The timed part begins; ``pids`` are the workers."""
        self._pids |= set(pids)
        self._throttled = self.cpu.throttled()
        if isinstance(self.gpu, Gpu):
            found = self.gpu.busy_since(0)
            self._busy_since_us = None if found is None else found[0]

    @contextmanager
    def slice(self, arm: str, pid: int) -> Iterator[None]:
        """One arm's turn: counters are read at both ends."""
        before, begin = self._read(), self.clock()
        self._active = (arm, pid)
        try:
            yield
        finally:
            self._active = None
        end, after = self.clock(), self._read()
        turns = self.seen.turns[arm]
        turns.spans.append((begin, end))
        for domain, start in before.items():
            wraps_at, per_joule = (self.rapl.ranges[domain], MICRO) if domain in self.rapl.ranges else (NVML_WRAPS_AT, 1e3)
            known = turns.joules.get(domain, 0.0)
            more = moved(start, after[domain], wraps_at, per_joule, (end - begin) / 1e9) if domain in after else None
            turns.joules[domain] = None if known is None or more is None else known + more

    def end(self) -> None:
        """The timed part is over."""
        now = self.cpu.throttled()
        self.seen.throttled = None if now is None or self._throttled is None else now - self._throttled
        if isinstance(self.gpu, Gpu):
            if self._busy_since_us is not None:
                found = self.gpu.busy_since(self._busy_since_us)
                self.seen.busy = None if found is None else found[1]
            self.seen.lost = self.gpu.lost

    def telemetry(self, arm: str) -> Telemetry:
        """What was seen of one arm, after the ``end``."""
        return telemetry_of(self.seen, arm)

    def look(self) -> None:
        """One look, kept only where one slice of one arm ran all the while."""
        active = self._active
        if active is None:
            return
        at_ns, seen = self.clock(), self.cpu.sample(active[1])
        gpu = self.gpu.sample() if isinstance(self.gpu, Gpu) else None
        processes = gpu.memory_by_pid if gpu is not None and gpu.memory_by_pid else {}
        self.seen.seen |= set(processes)
        self.seen.ours |= {pid for pid in processes if self._is_ours(pid)}
        if self._active is active:
            self.seen.looks.append(Look(at_ns, active[0], seen, gpu, processes.get(active[1])))

    def _keep_looking(self) -> None:
        """In a thread: on cores that are not measured, where there are any."""
        if hasattr(os, "sched_setaffinity") and (spare := os.sched_getaffinity(0) - set(self.cpu.cores)):
            os.sched_setaffinity(0, spare)  # of this thread alone
        while not self._stop.wait(self.period_ns / 1e9):
            self.look()

    def _is_ours(self, pid: int) -> bool:
        """The parent, a worker, or what a worker has started: every worker leads a process group of its own."""
        try:
            return pid in self._pids or os.getpgid(pid) in self._pids
        except (ProcessLookupError, PermissionError):
            return False

    def _read(self) -> dict[str, int]:
        """Every counter of energy that answers, by domain."""
        found = self.rapl.read()
        if isinstance(self.gpu, Gpu) and (value := self.gpu.energy_mj()) is not None:
            found[self.gpu.source] = value
        return found


@contextmanager
def watching(spec: TelemetrySpec, device: str, cores: tuple[int, ...]) -> Iterator[Watch | None]:
    """A watch over the device and the cores of a launch; None where the scenario has switched telemetry off."""
    if spec.off:
        yield None
        return
    with ExitStack() as stack:
        gpu = None if device == "cpu" else stack.enter_context(open_gpu(device))
        yield stack.enter_context(Watch(round(spec.period), Cpu(cores), find_rapl(), gpu))


def _changes(readings: Sequence[tuple[int, int]]) -> int:
    return sum(new != old for (_, old), (_, new) in pairwise(readings))
