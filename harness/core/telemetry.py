"""What was seen of the machine while the slices of one launch ran. Told beside the timings; it never enters them.

Energy is the device's whole energy, what it takes when idle included: nothing is subtracted. What could not be read is not there, with the
reason; it is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Gauge(StrEnum):
    """What is sampled; the unit is in the name. ``memory_bytes`` is in use on the whole device, ``process_memory_bytes`` by the launch."""

    POWER_W = "power_w"
    SM_CLOCK_MHZ = "sm_clock_mhz"
    MEMORY_CLOCK_MHZ = "memory_clock_mhz"
    TEMPERATURE_CELSIUS = "temperature_celsius"
    UTILIZATION = "utilization"
    MEMORY_BYTES = "memory_bytes"
    PROCESS_MEMORY_BYTES = "process_memory_bytes"
    FREQUENCY_MHZ = "frequency_mhz"
    RSS_BYTES = "rss_bytes"
    AVAILABLE_BYTES = "available_bytes"


@dataclass(frozen=True, slots=True)
class Spread:
    """One gauge of one source (``GPU 0``, ``CPU``) over the samples that fell into the launch's own slices."""

    source: str
    gauge: Gauge
    mean: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True, slots=True)
class Energy:
    """What one domain (``GPU 0``, ``package-0``) took while the launch's own slices ran, idle power included.

    ``of_device`` marks the domains that a query's energy is made of: those of the device that the session runs on. ``step_ns`` is how
    often the counter moves, or the distance of the power samples that were integrated (trapezoid rule).
    """

    domain: str
    joules: float
    of_device: bool
    step_ns: int
    method: Literal["counter", "power samples"] = "counter"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A reason for which a clock was held back, and in how many of the launch's samples it was seen; for the CPU, how many events."""

    source: str
    reason: str
    samples: int


@dataclass(frozen=True, slots=True)
class Company:
    """A process of others on the device while the launch was measured.

    ``busy`` is the highest share of the device's time that it was seen to compute in; None where the driver does not tell.
    """

    source: str
    pid: int
    busy: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that makes a launch doubtful, by rule. A ``grave`` one makes it INVALID: it is no evidence."""

    what: str
    evidence: str
    grave: bool = False


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One launch. ``samples`` were taken every ``period_ns`` and fell into its slices, which took ``timed_ns`` by the parent's clock.

    ``no_energy`` says why the device's energy is not known; None where it is. ``notes`` say what else could not be seen.
    """

    period_ns: int
    samples: int
    timed_ns: int
    energies: tuple[Energy, ...] = ()
    spreads: tuple[Spread, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    company: tuple[Company, ...] = ()
    marks: tuple[Mark, ...] = ()
    no_energy: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def joules(self) -> float | None:
        """The energy of the device that the session runs on; None where it is not known (``no_energy`` says why)."""
        parts = [energy.joules for energy in self.energies if energy.of_device]
        return sum(parts) if parts and self.no_energy is None else None

    def spread(self, gauge: Gauge, source: str | None = None) -> Spread | None:
        """One gauge, of a source or of the first that has it."""
        return next((one for one in self.spreads if one.gauge is gauge and source in (None, one.source)), None)
