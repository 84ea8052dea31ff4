"""What was read of a machine. None, or empty, is what could not be read: it is told as not visible and never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CpuReading:
    """The cores that the workers use. ``busy_mhz`` is each core's clock at the end of a busy moment; ``siblings`` are the groups of
    hardware threads that share a core, of the cores used."""

    cores: tuple[int, ...]
    cpu_count: int
    governors: tuple[str, ...] = ()
    busy_mhz: float | None = None
    max_mhz: float | None = None
    turbo: bool | None = None
    turbo_switch: str | None = None
    """The file that turns it off by the value that ``turbo_off`` holds."""
    turbo_off: int = 0
    siblings: tuple[tuple[int, ...], ...] | None = None
    throttled: int | None = None
    """Thermal throttle events since the start of the machine, all cores together."""
    throttled_now: int | None = None
    """Those of the sample alone."""


@dataclass(frozen=True, slots=True)
class LoadReading:
    """What others do meanwhile. Shares are of all CPU time in a sample of ``sample_s`` seconds."""

    sample_s: float = 0.0
    steal: float | None = None
    average: float | None = None
    """Load average of the last minute."""


@dataclass(frozen=True, slots=True)
class QuotaReading:
    """The control group's CPU quota, in cores (inf without one), and how many of its periods were throttled in the sample and in all."""

    cores: float | None = None
    throttled_now: int | None = None
    throttled: int | None = None
    periods: int | None = None


@dataclass(frozen=True, slots=True)
class HeatReading:
    """A thermal zone: its temperature and the lowest of its trip points at which the kernel slows the machine."""

    zone: str
    celsius: float
    trip_celsius: float | None


@dataclass(frozen=True, slots=True)
class PowerReading:
    """A RAPL package: the power that it may draw over a long time, and the most that its maker allows."""

    package: str
    limit_w: float
    most_w: float | None


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """In bytes; ``swapped_pages`` went in or out in the sample."""

    total_bytes: int
    available_bytes: int
    swap_used_bytes: int
    swapped_pages: int | None = None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU as NVML reports it. ``reasons`` are those for which its clock is held back now; ``slowdown_celsius`` is where it slows
    itself down; ``others`` are the ids of processes that compute on it; ``utilization`` is the share of time in which it was busy."""

    index: int
    name: str
    persistence: bool | None = None
    sm_mhz: int | None = None
    max_sm_mhz: int | None = None
    reasons: tuple[str, ...] | None = None
    others: tuple[int, ...] | None = None
    utilization: float | None = None
    ecc: bool | None = None
    ecc_errors: int | None = None
    celsius: float | None = None
    slowdown_celsius: float | None = None
    power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    mig: bool | None = None


@dataclass(frozen=True, slots=True)
class KernelReading:
    """``aslr`` is the kernel's randomize_va_space, ``fixed_addresses`` whether this very process was started without it (setarch -R).
    ``may_go_first``: workers may raise their priority (CAP_SYS_NICE)."""

    clock_source: str | None = None
    aslr: int | None = None
    fixed_addresses: bool | None = None
    container: str | None = None
    hypervisor: bool | None = None
    product: str | None = None
    may_go_first: bool | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything that was read of a machine at one time; ``gpus`` is None where nothing looks for them, or the driver is missing."""

    cpu: CpuReading
    load: LoadReading = LoadReading()
    quota: QuotaReading = QuotaReading()
    zones: tuple[HeatReading, ...] = ()
    power: tuple[PowerReading, ...] = ()
    memory: MemoryReading | None = None
    kernel: KernelReading = KernelReading()
    variables: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[GpuReading, ...] | None = None
