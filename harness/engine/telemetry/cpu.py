"""The CPU's clock, its throttle events, and memory: of the cores that a launch is pinned to, and of its process.

A look must cost little, for it may run on the core that is measured: only the kernel's small files are read, and each stays open.
/proc/cpuinfo is not among them: it takes long, and on many kernels it interrupts every core to ask for its clock.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.telemetry import Gauge

CPUS = Path("sys/devices/system/cpu")
KIB = 1024
MOST_BYTES = 4096
AVAILABLE = b"MemAvailable:"


@dataclass(slots=True)
class Cpu:
    """``cores`` are those that are watched; none: all that ``root`` shows. Files are opened when they are first read, until ``close``."""

    cores: tuple[int, ...]
    root: Path = Path("/")
    _files: dict[str, int | None] = field(default_factory=dict)

    def sample(self, pid: int | None) -> Mapping[Gauge, float]:
        """The mean clock of the cores, what memory is left, and the resident memory of a process; what is not told is left out."""
        clocks = [self._read(f"{CPUS}/cpu{core}/cpufreq/scaling_cur_freq") for core in self.cores or (0,)]
        known = [int(clock) / 1e3 for clock in clocks if clock.strip().isdigit()]
        memory = self._read("proc/meminfo").partition(AVAILABLE)[2].split(None, 1)
        pages = b"" if pid is None else self._read(f"proc/{pid}/statm")
        found: dict[Gauge, float] = {}
        if known:
            found[Gauge.FREQUENCY_MHZ] = sum(known) / len(known)
        if memory:
            found[Gauge.AVAILABLE_BYTES] = float(memory[0]) * KIB
        if pages:
            found[Gauge.RSS_BYTES] = float(pages.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return found

    def throttled(self) -> int | None:
        """Throttle events of the cores and their package since the machine was started; None where there is no counter."""
        patterns = [f"cpu{core}/thermal_throttle/*_throttle_count" for core in self.cores] or [
            "cpu[0-9]*/thermal_throttle/*_throttle_count"
        ]
        paths = [path.relative_to(self.root) for pattern in patterns for path in (self.root / CPUS).glob(pattern)]
        counts = [int(text) for path in paths if (text := self._read(str(path)).strip()).isdigit()]
        return sum(counts) if counts else None

    def close(self) -> None:
        """Close what was opened."""
        while self._files:
            _, descriptor = self._files.popitem()
            if descriptor is not None:
                os.close(descriptor)

    def _read(self, path: str) -> bytes:
        """The beginning of a file; empty where it cannot be read: a process may have ended."""
        if path not in self._files:
            self._files[path] = None
            with suppress(OSError):
                self._files[path] = os.open(self.root / path, os.O_RDONLY | os.O_CLOEXEC)
        descriptor = self._files[path]
        if descriptor is None:
            return b""
        try:
            return os.pread(descriptor, MOST_BYTES, 0)
        except OSError:
            return b""
