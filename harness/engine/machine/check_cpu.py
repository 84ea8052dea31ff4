"""Is the processor fit: its clock, its threads, its heat and power, and who else uses it. Pure functions of what was read."""

from __future__ import annotations

import math

from harness.core.checkup import Finding, State
from harness.engine.machine.readings import Readings

SLOW_CLOCK = 0.70
"""Below this share of its highest clock a busy core is held back; a full package seldom reaches the highest, so not 1."""
STEAL_NOTICE, STEAL_UNFIT = 0.01, 0.10
WARM_CELSIUS = 10.0
"""This near to a trip point a machine that is about to work will reach it."""
UNSEEN = "not visible"


def check_cores(readings: Readings) -> Finding:
    """The cores that the workers of a trial are pinned to."""
    cpu = readings.cpu
    used = len(cpu.cores)
    if not used:
        return Finding(
            "cores", State.NOTICE, f"{cpu.cpu_count}, workers cannot be pinned here", "Measure on Linux: there both arms share cores."
        )
    return Finding("cores", State.FINE, f"{used} of {cpu.cpu_count} used ({_listed(cpu.cores)})")


def check_governor(readings: Readings) -> Finding:
    """Anything but ``performance`` changes the clock as it sees fit, and both arms may not meet the same."""
    governors = sorted(set(readings.cpu.governors))
    if not governors:
        return Finding("governor", State.NOT_VISIBLE, UNSEEN)
    if governors == ["performance"]:
        return Finding("governor", State.FINE, "performance")
    return Finding("governor", State.NOTICE, ", ".join(governors), "Run 'sudo cpupower frequency-set -g performance'.")


def check_frequency(readings: Readings) -> Finding:
    """The clock of a busy core against the highest that it has."""
    busy, most = readings.cpu.busy_mhz, readings.cpu.max_mhz
    if busy is None:
        return Finding("frequency", State.NOT_VISIBLE, UNSEEN)
    if most is None or most <= 0:
        return Finding("frequency", State.FINE, f"{busy:,.0f} MHz when busy; its highest is {UNSEEN}")
    told = f"{busy:,.0f} of {most:,.0f} MHz when busy"
    if busy >= SLOW_CLOCK * most:
        return Finding("frequency", State.FINE, told)
    return Finding("frequency", State.NOTICE, told, "Look for a limit with 'cpupower frequency-info' and raise it.")


def check_turbo(readings: Readings) -> Finding:
    """Turbo lasts as long as heat and neighbours allow."""
    cpu = readings.cpu
    if cpu.turbo is None:
        return Finding("turbo", State.NOT_VISIBLE, UNSEEN)
    if not cpu.turbo:
        return Finding("turbo", State.FINE, "off")
    advice = f"Run 'echo {cpu.turbo_off} | sudo tee {cpu.turbo_switch}'." if cpu.turbo_switch else "Turn it off in the firmware's settings."
    return Finding("turbo", State.NOTICE, "on", advice)


def check_siblings(readings: Readings) -> Finding:
    """Two hardware threads of one core take its units from each other."""
    cpu = readings.cpu
    if cpu.siblings is None:
        return Finding("hardware threads", State.NOT_VISIBLE, UNSEEN)
    used = set(cpu.cores)
    shared = [inside for group in dict.fromkeys(cpu.siblings) if len(inside := tuple(core for core in group if core in used)) > 1]
    if not shared:
        return Finding("hardware threads", State.FINE, "one on each core used")
    left_out = {core for group in shared for core in group[1:]}
    kept = ",".join(str(core) for core in cpu.cores if core not in left_out)
    told = f"{'; '.join(_listed(group) for group in shared[:4])} share a core" + (
        "" if len(shared) <= 4 else f", and {len(shared) - 4} more"
    )
    return Finding("hardware threads", State.NOTICE, told, f"Use one thread of each core: 'taskset -c {kept} harness ...'.")


def check_steal(readings: Readings) -> Finding:
    """Time in which the host ran someone else while this machine wanted to run."""
    steal = readings.load.steal
    if steal is None:
        return Finding("steal time", State.NOT_VISIBLE, UNSEEN)
    told = f"{steal * 100:.1f} % over {readings.load.sample_s:.1f} s"
    if steal <= STEAL_NOTICE:
        return Finding("steal time", State.FINE, told)
    advice = "Move to a host that is not oversold: one with dedicated cores."
    return Finding("steal time", State.UNFIT if steal > STEAL_UNFIT else State.NOTICE, told, advice)


def check_load(readings: Readings) -> Finding:
    """More work than processors: whatever is measured waits."""
    average = readings.load.average
    if average is None:
        return Finding("load", State.NOT_VISIBLE, UNSEEN)
    told = f"{average:.1f} on {readings.cpu.cpu_count} CPUs"
    if average <= readings.cpu.cpu_count:
        return Finding("load", State.FINE, told)
    return Finding("load", State.NOTICE, told, "End other work, or wait: 'top' shows what runs.")


def check_quota(readings: Readings) -> Finding:
    """A quota below the cores used stops every thread for the rest of each period."""
    quota, used = readings.quota, len(readings.cpu.cores) or readings.cpu.cpu_count
    if quota.cores is None:
        return Finding("CPU quota", State.NOT_VISIBLE, UNSEEN)
    throttled = f", {quota.throttled:,} of {quota.periods:,} periods throttled so far" if quota.throttled and quota.periods else ""
    told = ("none" if math.isinf(quota.cores) else f"{quota.cores:.3g} cores for the {used} used") + throttled
    if quota.cores < used:
        return Finding(
            "CPU quota",
            State.UNFIT,
            told,
            f"Raise the container's CPU limit to {used}, or give the target 'cores: {max(1, int(quota.cores))}'.",
        )
    if quota.throttled_now:
        return Finding("CPU quota", State.UNFIT, f"{told}, {quota.throttled_now} in the last second", "Raise the container's CPU limit.")
    return Finding("CPU quota", State.FINE, told)


def check_throttling(readings: Readings) -> Finding:
    """The processor's own counters of slowing down for heat."""
    cpu = readings.cpu
    if cpu.throttled is None:
        return Finding("thermal throttling", State.NOT_VISIBLE, UNSEEN)
    if cpu.throttled_now:
        told = f"{cpu.throttled_now:,} times in the last second"
        return Finding("thermal throttling", State.UNFIT, told, "Cool the machine, or lower its clock: it slows down as it works.")
    if cpu.throttled:
        told = f"{cpu.throttled:,} times since it started, not now"
        return Finding("thermal throttling", State.NOTICE, told, "Improve the cooling, or turn turbo off.")
    return Finding("thermal throttling", State.FINE, "never since it started")


def check_heat(readings: Readings) -> Finding:
    """The thermal zone that is nearest to where the kernel slows the machine."""
    zones = readings.zones
    if not zones:
        return Finding("temperature", State.NOT_VISIBLE, UNSEEN)
    limited = [(zone.trip_celsius - zone.celsius, zone) for zone in zones if zone.trip_celsius is not None]
    if not limited:
        hottest = max(zones, key=lambda zone: zone.celsius)
        return Finding("temperature", State.FINE, f"{hottest.celsius:.0f} °C ({hottest.zone}); its trip point is {UNSEEN}")
    left, nearest = min(limited, key=lambda pair: pair[0])
    told = f"{nearest.celsius:.0f} °C of {nearest.trip_celsius:.0f} °C ({nearest.zone})"
    if left <= 0:
        return Finding("temperature", State.UNFIT, told, "Let it cool down: the kernel slows it here.")
    if left <= WARM_CELSIUS:
        return Finding("temperature", State.NOTICE, told, "Let it cool down, or improve the cooling.")
    return Finding("temperature", State.FINE, told)


def check_power(readings: Readings) -> Finding:
    """A power limit below what the package may draw lowers the clock under load."""
    packages = readings.power
    if not packages:
        return Finding("power limit", State.NOT_VISIBLE, UNSEEN)
    told = ", ".join(f"{one.package} {one.limit_w:.0f} W" + (f" of {one.most_w:.0f} W" if one.most_w else "") for one in packages)
    if any(one.most_w and one.limit_w < one.most_w for one in packages):
        return Finding(
            "power limit", State.NOTICE, told, "Raise it in the firmware, or with 'sudo powercap-set intel-rapl -z 0 -c 0 -l MICROWATTS'."
        )
    return Finding("power limit", State.FINE, told)


def _listed(cores: tuple[int, ...]) -> str:
    """``0-3,8``."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


CHECKS = (
    check_cores,
    check_governor,
    check_frequency,
    check_turbo,
    check_siblings,
    check_steal,
    check_load,
    check_quota,
    check_throttling,
    check_heat,
    check_power,
)
