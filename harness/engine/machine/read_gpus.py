"""Reads GPUs through NVML (the package ``nvidia-ml-py``). What a driver does not tell stays None."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from harness.engine.machine.check_gpu import HELD, IDLE
from harness.engine.machine.readings import GpuReading

REASONS = {
    0x001: IDLE,
    0x002: HELD,
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "heat",
    0x040: "hardware heat",
    0x080: "power brake",
    0x100: "display",
    0x200: "board limit",
    0x400: "reliability",
}
"""The bits of nvmlClocksEventReason (NVML API reference, "NvmlClocksEventReasons"), in our words."""


def read_gpus(device: str | None = None, environment: Mapping[str, str] = os.environ) -> tuple[GpuReading, ...] | None:
    """Every GPU, or the one that a trial's ``device`` (``cuda:1``) is; None where the binding, the driver or the device is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        indexes = range(pynvml.nvmlDeviceGetCount())
        wanted = None if device is None else index_of(device, environment)
        found = tuple(_gpu(pynvml, index) for index in indexes if wanted is None or index == wanted)
        return found or None
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def index_of(device: str, environment: Mapping[str, str]) -> int | None:
    """The driver's number of a CUDA device: CUDA counts those in CUDA_VISIBLE_DEVICES alone. None where they are named by their UUID."""
    index = int(device.partition(":")[2] or 0)
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").strip()
    if not visible:
        return index
    names = [name.strip() for name in visible.split(",")]
    return int(names[index]) if index < len(names) and names[index].isdecimal() else None


def _gpu(nvml: Any, index: int) -> GpuReading:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(function: str, *arguments: object) -> Any:
        """What NVML answers; None where the driver or the binding does not know the question."""
        try:
            return getattr(nvml, function)(handle, *arguments)
        except (nvml.NVMLError, AttributeError):
            return None

    ecc = _first(ask("nvmlDeviceGetEccMode"))
    use = ask("nvmlDeviceGetUtilizationRates")
    processes = ask("nvmlDeviceGetComputeRunningProcesses")
    mask = ask("nvmlDeviceGetCurrentClocksEventReasons")
    mask = ask("nvmlDeviceGetCurrentClocksThrottleReasons") if mask is None else mask  # its name before driver 535
    uncorrected = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    return GpuReading(
        index=index,
        name=str(ask("nvmlDeviceGetName") or "unnamed"),
        persistence=_told(ask("nvmlDeviceGetPersistenceMode"), bool),
        sm_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        max_sm_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        reasons=_told(mask, reasons_in),
        others=None if processes is None else tuple(process.pid for process in processes if process.pid != os.getpid()),
        utilization=None if use is None else use.gpu / 100,
        ecc=_told(ecc, bool),
        ecc_errors=ask("nvmlDeviceGetTotalEccErrors", *uncorrected) if ecc else None,
        celsius=_told(ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU), float),
        slowdown_celsius=_told(ask("nvmlDeviceGetTemperatureThreshold", nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN), float),
        power_limit_w=_told(ask("nvmlDeviceGetPowerManagementLimit"), _watts),
        default_power_limit_w=_told(ask("nvmlDeviceGetPowerManagementDefaultLimit"), _watts),
        mig=_told(_first(ask("nvmlDeviceGetMigMode")), bool),
    )


def reasons_in(mask: int) -> tuple[str, ...]:
    """The reasons of a bit mask in words; a bit that is new to us is told as it is."""
    known = [word for bit, word in REASONS.items() if mask & bit]
    rest = mask & ~sum(REASONS)
    return (*known, f"reason {rest:#x}") if rest else tuple(known)


def _told(value: Any, kind: Callable[[Any], Any]) -> Any:
    return None if value is None else kind(value)


def _first(pair: Any) -> Any:
    """The present state, of (present, after the next start)."""
    return None if pair is None else pair[0]


def _watts(milliwatts: int) -> float:
    return milliwatts / 1e3
