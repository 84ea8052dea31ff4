"""CPU and memory of both sides of a load while it runs, seen from outside."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import psutil

from harness.core.serving import Usage


@dataclass(slots=True)
class Side:
    """The processes of one side. ``sample`` gives cores busy since the sample before (0 at first) and resident bytes; what a process did
    before it was first seen is not counted, and memory that processes share counts once for each."""

    pids: Callable[[], Iterable[int]]
    clock: Callable[[], int]
    _busy_s: dict[tuple[int, float], float] = field(default_factory=dict)
    _at_ns: int | None = None

    def sample(self) -> tuple[float, int]:
        at_ns, added_s, rss_bytes, seen = self.clock(), 0.0, 0, {}
        for pid in self.pids():
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    key, times, memory = (pid, process.create_time()), process.cpu_times(), process.memory_info().rss
            except psutil.Error:
                continue  # it ended a moment ago
            busy = times.user + times.system
            added_s += busy - self._busy_s.get(key, busy)
            rss_bytes += memory
            seen[key] = busy
        before, self._at_ns, self._busy_s = self._at_ns, at_ns, seen
        cores = 0.0 if before is None or at_ns <= before else added_s / ((at_ns - before) / 1e9)
        return round(cores, 3), rss_bytes


@dataclass(slots=True)
class Watch:
    """Samples of both sides; ``look`` takes one. Times are by ``clock``; the first sample has nothing to compare with and is not kept."""

    server: Side
    generator: Side
    clock: Callable[[], int]
    samples: list[Usage] = field(default_factory=list)
    _begun: bool = False

    def look(self) -> None:
        at_ns = self.clock()
        server_cpu, server_rss = self.server.sample()
        generator_cpu, generator_rss = self.generator.sample()
        if self._begun:
            self.samples.append(Usage(at_ns, server_cpu, server_rss, generator_cpu, generator_rss))
        self._begun = True


def with_reported(samples: Iterable[Usage], reported: Sequence[Sequence[tuple[int, float, int]]]) -> list[Usage]:
    """The samples with what generators on other machines report of themselves added: of each the last report before a sample. ``reported``
    are times on the samples' clock, cores and resident bytes, each in order."""
    found = []
    for one in samples:
        last = [reports[at - 1] for reports in reported if (at := bisect_right(reports, one.at_ns, key=lambda report: report[0]))]
        cpu = round(one.generator_cpu + sum(cores for _, cores, _ in last), 3)
        found.append(replace(one, generator_cpu=cpu, generator_rss_bytes=one.generator_rss_bytes + sum(rss for _, _, rss in last)))
    return found
