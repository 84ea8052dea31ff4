"""Is the system fit: memory, thread variables, addresses, the clock, and what it runs inside. Pure functions of what was read."""

from __future__ import annotations

from harness.core.checkup import Finding, State
from harness.core.units import Unit, format_value
from harness.engine.machine.readings import Readings

OF_THE_WORKERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Thread variables that every worker sets to its trial's number, whatever the user's shell says."""
ABOUT_PLACES = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables that pin threads on their own, against the cores that the workers are pinned to."""
PASSED_ON = ("OMP_WAIT_POLICY", "OMP_DYNAMIC", "MKL_DYNAMIC", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_THREAD_LIMIT", "LD_PRELOAD")
"""Variables that reach the workers as they are: both arms meet the same, another machine may not."""
VARIABLES = (*OF_THE_WORKERS, *ABOUT_PLACES, *PASSED_ON)
LITTLE_MEMORY, NO_MEMORY = 0.10, 0.03
QUICK_CLOCKS = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")
"""Read in a few tens of ns, without a call into the kernel."""
UNSEEN = "not visible"


def check_memory(readings: Readings) -> Finding:
    """A machine that swaps, or is about to, times its disk."""
    memory = readings.memory
    if memory is None:
        return Finding("memory", State.NOT_VISIBLE, UNSEEN)
    free = memory.available_bytes / memory.total_bytes
    told = f"{format_value(memory.available_bytes, Unit.BYTES)} of {format_value(memory.total_bytes, Unit.BYTES)} available"
    if memory.swapped_pages:
        return Finding(
            "memory", State.UNFIT, f"{told}, {memory.swapped_pages:,} pages swapped in the last second", "Free memory: end what holds it."
        )
    if free < NO_MEMORY:
        return Finding("memory", State.UNFIT, told, "Free memory: end what holds it.")
    if free < LITTLE_MEMORY:
        return Finding("memory", State.NOTICE, told, "Free memory: end what holds it.")
    if memory.swap_used_bytes:
        told += f", {format_value(memory.swap_used_bytes, Unit.BYTES)} in swap"
        return Finding("memory", State.NOTICE, told, "Run 'sudo swapoff -a' once there is room.")
    return Finding("memory", State.FINE, told)


def check_variables(readings: Readings) -> Finding:
    """Thread variables of the user's shell, and what becomes of them."""
    found = {name: value for name, value in readings.variables.items() if name in VARIABLES}
    if not found:
        return Finding("thread variables", State.FINE, "none set; workers set their own")
    told = ", ".join(f"{name}={value}" for name, value in found.items())
    if placed := [name for name in found if name in ABOUT_PLACES]:
        return Finding("thread variables", State.NOTICE, told, f"Run 'unset {' '.join(placed)}': workers are pinned by harness.")
    if passed := [name for name in found if name in PASSED_ON]:
        return Finding(
            "thread variables", State.NOTICE, told, f"Keep {', '.join(passed)} the same wherever you compare: it reaches the workers."
        )
    return Finding("thread variables", State.FINE, f"{told}; workers set their own")


def check_addresses(readings: Readings) -> Finding:
    """Launches sample address layouts: with fixed addresses every launch has the same luck, and luck looks like a change."""
    kernel = readings.kernel
    if kernel.fixed_addresses:
        return Finding("address layout", State.NOTICE, "fixed for this process", "Start harness without 'setarch -R'.")
    if kernel.aslr is None:
        return Finding("address layout", State.NOT_VISIBLE, UNSEEN)
    if kernel.aslr >= 2:
        return Finding("address layout", State.FINE, "random in every launch")
    told = "fixed" if kernel.aslr == 0 else "random but for the heap"
    return Finding("address layout", State.NOTICE, told, "Run 'sudo sysctl kernel.randomize_va_space=2'.")


def check_clock(readings: Readings) -> Finding:
    """A clock that is read by a call into the kernel, or over a bus, costs up to µs a reading."""
    source = readings.kernel.clock_source
    if source is None:
        return Finding("clock source", State.NOT_VISIBLE, UNSEEN)
    if source in QUICK_CLOCKS:
        return Finding("clock source", State.FINE, source)
    advice = "Run 'echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource'."
    return Finding("clock source", State.NOTICE, source, advice)


def check_inside(readings: Readings) -> Finding:
    """Told only: neighbours of a virtual machine or a container are not seen from inside."""
    kernel = readings.kernel
    virtual = None if kernel.hypervisor is None else "a virtual machine" if kernel.hypervisor else "no virtual machine"
    if virtual is None and kernel.container is None:
        return Finding("runs inside", State.NOT_VISIBLE, UNSEEN)
    if kernel.hypervisor and kernel.product:
        virtual = f"a virtual machine ({kernel.product})"
    container = None if kernel.container is None else f"a container ({kernel.container})" if kernel.container else "no container"
    return Finding("runs inside", State.FINE, ", ".join(part for part in (virtual, container) if part))


def check_priority(readings: Readings) -> Finding:
    """Workers go before what else runs on their cores, where they may."""
    if readings.kernel.may_go_first is None:
        return Finding("priority", State.NOT_VISIBLE, UNSEEN)
    if readings.kernel.may_go_first:
        return Finding("priority", State.FINE, "workers go before other programs")
    advice = "Run as root, or give the capability CAP_SYS_NICE (docker run --cap-add SYS_NICE), where other programs share the cores."
    return Finding("priority", State.NOTICE, "workers wait their turn among other programs", advice)


CHECKS = (check_memory, check_variables, check_priority, check_addresses, check_clock, check_inside)
