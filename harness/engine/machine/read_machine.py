"""Reads a Linux machine from /proc and /sys twice, about a second apart.

What is not there stays None: another system, or no right to see it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.engine.machine.check_system import VARIABLES
from harness.engine.machine.read_cgroup import cgroup_folder, count_in, cpu_quota
from harness.engine.machine.readings import (
    CpuReading,
    GpuReading,
    HeatReading,
    KernelReading,
    LoadReading,
    MemoryReading,
    PowerReading,
    QuotaReading,
    Readings,
)

CPU = "sys/devices/system/cpu"
SLEEP_S, WORK_S = 0.8, 0.2
SLOWING_TRIPS = ("passive", "hot", "critical")
"""Trip points at which the kernel does more than start a fan."""
CAP_SYS_NICE = 23
NO_RANDOM_ADDRESSES = 0x0040000
"""ADDR_NO_RANDOMIZE of personality(2)."""


def rest_then_work() -> None:
    """A second in which others can be seen, then a moment of work that brings the clock of a core up."""
    time.sleep(SLEEP_S)
    end = time.monotonic() + WORK_S
    while time.monotonic() < end:
        pass


def read_machine(
    cores: tuple[int, ...],
    *,
    root: Path = Path("/"),
    environment: Mapping[str, str] = os.environ,
    sample: Callable[[], None] = rest_then_work,
    clock: Callable[[], float] = time.monotonic,
    gpus: Callable[[], tuple[GpuReading, ...] | None] = lambda: None,
) -> Readings:
    """Read what there is under ``root``; ``cores`` are those that workers will use. ``sample`` passes the time between two readings.

    Nothing is raised for what cannot be read.
    """
    files = Files(root)
    quota, before, begin = cpu_quota(root), _counters(files), clock()
    sample()
    clock_mhz = _clock_mhz(files, cores)
    after, seconds = _counters(files), clock() - begin
    return Readings(
        cpu=_cpu(files, cores, clock_mhz, before, after),
        load=LoadReading(seconds, _steal(before, after), files.number("proc/loadavg")),
        quota=QuotaReading(quota, _difference(before, after, "nr_throttled"), after.get("nr_throttled"), after.get("nr_periods")),
        zones=tuple(_zones(files)),
        power=tuple(_power(files)),
        memory=_memory(files, _difference(before, after, "swapped")),
        kernel=_kernel(files, environment),
        variables={name: environment[name] for name in VARIABLES if name in environment},
        gpus=gpus(),
    )


@dataclass(frozen=True, slots=True)
class Files:
    """The kernel's small files under ``root``; None for one that is not there."""

    root: Path

    def text(self, path: str | Path) -> str | None:
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        except OSError:
            return None

    def number(self, path: str | Path) -> float | None:
        """The first word as a number."""
        try:
            return float((self.text(path) or "").split()[0])
        except (ValueError, IndexError):
            return None

    def found(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))


def _counters(files: Files) -> dict[str, int]:
    """What only grows: CPU time by kind in clock ticks, throttle events, pages swapped, throttled periods; without what is not there."""
    ticks = (files.text("proc/stat") or "cpu").splitlines()[0].split()[1:]
    counters = {f"cpu_{kind}": int(number) for kind, number in enumerate(ticks)}
    events = [files.number(path) for path in files.found(f"{CPU}/cpu[0-9]*/thermal_throttle/*_throttle_count")]
    if events:
        counters["heat"] = int(sum(value or 0 for value in events))
    swapped = [count_in(files.text("proc/vmstat"), name) for name in ("pswpin", "pswpout")]
    if None not in swapped:
        counters["swapped"] = sum(value or 0 for value in swapped)
    if (group := cgroup_folder(files.root)) is not None:
        found = {name: count_in(files.text(group / "cpu.stat"), name) for name in ("nr_throttled", "nr_periods")}
        counters |= {name: value for name, value in found.items() if value is not None}
    return counters


def _difference(before: Mapping[str, int], after: Mapping[str, int], name: str) -> int | None:
    return after[name] - before[name] if name in before and name in after else None


def _steal(before: Mapping[str, int], after: Mapping[str, int]) -> float | None:
    """The share of steal, the eighth kind of proc(5)'s cpu line; the two after it are counted in user and nice already."""
    kinds = [_difference(before, after, f"cpu_{kind}") for kind in range(8)]
    if None in kinds:
        return None
    total = sum(kind or 0 for kind in kinds)
    return (kinds[7] or 0) / total if total > 0 else None


def _cpu(files: Files, cores: tuple[int, ...], clock_mhz: float | None, before: Mapping[str, int], after: Mapping[str, int]) -> CpuReading:
    seen = cores or (0,)
    governors = [files.text(f"{CPU}/cpu{core}/cpufreq/scaling_governor") for core in seen]
    highest = [files.number(f"{CPU}/cpu{core}/cpufreq/cpuinfo_max_freq") for core in seen]
    siblings = [files.text(f"{CPU}/cpu{core}/topology/thread_siblings_list") for core in seen]
    turbo, switch, off = _turbo(files)
    return CpuReading(
        cores=cores,
        cpu_count=len(files.found(f"{CPU}/cpu[0-9]*")) or os.cpu_count() or 1,
        governors=tuple(governor for governor in governors if governor),
        busy_mhz=clock_mhz,
        max_mhz=max((value / 1e3 for value in highest if value is not None), default=None),
        turbo=turbo,
        turbo_switch=switch,
        turbo_off=off,
        siblings=tuple(cores_in(text) for text in siblings if text) if all(siblings) else None,
        throttled=after.get("heat"),
        throttled_now=_difference(before, after, "heat"),
    )


def _clock_mhz(files: Files, cores: tuple[int, ...]) -> float | None:
    """The clock of the fastest of the cores: the one that has just worked."""
    clocks = [files.number(f"{CPU}/cpu{core}/cpufreq/scaling_cur_freq") for core in cores or (0,)]
    if found := [value / 1e3 for value in clocks if value]:
        return max(found)
    lines = (line.partition(":") for line in (files.text("proc/cpuinfo") or "").splitlines())
    return max((float(value) for name, _, value in lines if name.strip() == "cpu MHz" and value.strip()), default=None)


def _turbo(files: Files) -> tuple[bool | None, str | None, int]:
    """Whether turbo is on, the file that switches it, and what turns it off there."""
    for path, off in ((f"{CPU}/intel_pstate/no_turbo", 1), (f"{CPU}/cpufreq/boost", 0)):
        if (value := files.number(path)) is not None:
            return int(value) != off, f"/{path}", off
    return None, None, 0


def cores_in(text: str) -> tuple[int, ...]:
    """The kernel's list format: ``0-2,8`` is 0, 1, 2 and 8."""
    ends = (part.partition("-") for part in text.split(",") if part)
    return tuple(core for first, _, last in ends for core in range(int(first), int(last or first) + 1))


def _zones(files: Files) -> Iterable[HeatReading]:
    for zone in files.found("sys/class/thermal/thermal_zone*"):
        temperature = files.number(zone / "temp")
        if temperature is None or temperature <= 0:  # some firmware answers 0 or less for a sensor that it does not have
            continue
        kinds = [(zone / path.name.replace("_type", "_temp"), files.text(path)) for path in sorted(zone.glob("trip_point_*_type"))]
        trips = [trip for path, kind in kinds if kind in SLOWING_TRIPS and (trip := files.number(path)) is not None and trip > 0]
        yield HeatReading(files.text(zone / "type") or zone.name, temperature / 1e3, min(trips) / 1e3 if trips else None)


def _power(files: Files) -> Iterable[PowerReading]:
    for package in files.found("sys/class/powercap/intel-rapl:[0-9]*"):
        limit, most = (files.number(package / f"constraint_0_{name}_uw") for name in ("power_limit", "max_power"))
        if limit is not None and package.name.count(":") == 1:  # those below it are parts of the package
            yield PowerReading(files.text(package / "name") or package.name, limit / 1e6, most / 1e6 if most else None)


def _memory(files: Files, swapped: int | None) -> MemoryReading | None:
    names = ("MemTotal:", "MemAvailable:", "SwapTotal:", "SwapFree:")
    total, available, swap, swap_free = (count_in(files.text("proc/meminfo"), name) for name in names)
    if not total or available is None:
        return None
    return MemoryReading(total * 1024, available * 1024, ((swap or 0) - (swap_free or 0)) * 1024, swapped)


def _kernel(files: Files, environment: Mapping[str, str]) -> KernelReading:
    aslr, personality = files.number("proc/sys/kernel/randomize_va_space"), files.text("proc/self/personality")
    cpuinfo = files.text("proc/cpuinfo")
    flags = next((line.split() for line in (cpuinfo or "").splitlines() if line.startswith("flags")), None)
    return KernelReading(
        clock_source=files.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        aslr=None if aslr is None else int(aslr),
        may_go_first=_may_go_first(files.text("proc/self/status")),
        fixed_addresses=None if not personality else bool(int(personality, 16) & NO_RANDOM_ADDRESSES),
        container=_container(files, environment),
        hypervisor=None if flags is None else "hypervisor" in flags,
        product=files.text("sys/class/dmi/id/product_name"),
    )


def _container(files: Files, environment: Mapping[str, str]) -> str | None:
    """Which kind of container this is, "" where none shows; None where there is nothing to tell it by."""
    if "KUBERNETES_SERVICE_HOST" in environment:
        return "Kubernetes"
    for path, kind in ((".dockerenv", "Docker"), ("run/.containerenv", "Podman")):
        if files.text(path) is not None:
            return kind
    if "container" in environment:  # systemd's convention
        return environment["container"]
    return "" if files.text("proc/1/cgroup") is not None else None


def _may_go_first(status: str | None) -> bool | None:
    """Whether the effective capabilities in /proc/self/status hold CAP_SYS_NICE."""
    sets = (line.split()[1] for line in (status or "").splitlines() if line.startswith("CapEff:"))
    effective = next(sets, None)
    return None if effective is None else bool(int(effective, 16) >> CAP_SYS_NICE & 1)
