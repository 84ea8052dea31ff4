"""A stand-in for ``pynvml`` (the package ``nvidia-ml-py``) that plays a script of GPUs by a clock of your own.

    clock = FakeClock()
    gpu = FakeGpu(power_w=[(0, 60.0), (1, 300.0)], reasons=[(0, 0), (2, FakeNvml.nvmlClocksEventReasonHwThermalSlowdown)])
    with FakeNvml([gpu], clock).installed():
        ...  # 'import pynvml' finds it; clock.advance(0.1) moves the script on

Every value is a constant or a list of (from second, value). It answers in the forms of NVML; it does not show how exact, how often or how
fast a real board answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar, TypeAlias, TypeVar
from unittest import mock

Value = TypeVar("Value")
Script: TypeAlias = Value | Sequence[tuple[float, Value]]
"""A constant, or what holds from which second on, in order."""


@dataclass(frozen=True, slots=True)
class FakeProcess:
    """A process that computes on a GPU: its memory there in bytes and the share of the SMs that it takes in percent."""

    pid: int
    memory_bytes: int | None = 2**30
    sm_percent: int = 0


@dataclass(slots=True)
class FakeGpu:
    """One board. Its energy is the integral of ``power_w``, told in mJ, in steps of ``step_s``, and starts again at ``wraps_at_mj``.

    ``energy_before_mj`` is what the counter shows at second 0, and ``set_back_at_s`` when the driver is loaded again and it starts from 0.
    From ``vanishes_at_s`` on every question is answered by NVML_ERROR_GPU_IS_LOST. ``unsupported`` are names of functions that this board
    does not support (``nvmlDeviceGetTotalEnergyConsumption`` before Volta).
    """

    name: str = "Fake GPU"
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    power_w: Script[float] = 100.0
    step_s: float = 0.0
    energy_before_mj: int = 0
    wraps_at_mj: int = 2**64
    set_back_at_s: float | None = None
    sm_clock_mhz: Script[int] = 1500
    memory_clock_mhz: Script[int] = 2600
    temperature_celsius: Script[int] = 40
    utilization_percent: Script[int] = 0
    memory_used_bytes: Script[int] = 2**30
    memory_total_bytes: int = 80 * 2**30
    reasons: Script[int] = 0
    processes: Script[Sequence[FakeProcess]] = ()
    vanishes_at_s: float | None = None
    unsupported: frozenset[str] = frozenset()

    def energy_mj(self, now_s: float) -> int:
        """What the counter shows."""
        seen_s = (now_s + 1e-9) // self.step_s * self.step_s if self.step_s else now_s
        if self.set_back_at_s is not None and now_s >= self.set_back_at_s:
            begin, before = self.set_back_at_s, 0
        else:
            begin, before = 0.0, self.energy_before_mj
        joules = _integral(self.power_w, max(begin, seen_s)) - _integral(self.power_w, begin)
        return round(before + joules * 1e3) % self.wraps_at_mj


@dataclass(slots=True)
class FakeNvml:
    """The module. ``clock`` gives ns; ``asked`` is every function that was called, in order."""

    gpus: Sequence[FakeGpu]
    clock: Callable[[], int]
    asked: list[str] = field(default_factory=list)
    opened: int = 0

    class NVMLError(Exception):
        """An answer that is no answer; ``value`` is NVML's code."""

        def __init__(self, value: int) -> None:
            super().__init__({3: "Not Supported", 6: "Not Found", 15: "GPU is lost", 2: "Invalid Argument"}.get(value, f"error {value}"))
            self.value = value

    NVML_ERROR_INVALID_ARGUMENT: ClassVar[int] = 2
    NVML_ERROR_NOT_SUPPORTED: ClassVar[int] = 3
    NVML_ERROR_NOT_FOUND: ClassVar[int] = 6
    NVML_ERROR_GPU_IS_LOST: ClassVar[int] = 15
    NVML_CLOCK_SM: ClassVar[int] = 1
    NVML_CLOCK_MEM: ClassVar[int] = 2
    NVML_TEMPERATURE_GPU: ClassVar[int] = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN: ClassVar[int] = 1
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED: ClassVar[int] = 1
    NVML_VOLATILE_ECC: ClassVar[int] = 0
    nvmlClocksEventReasonGpuIdle: ClassVar[int] = 0x001
    nvmlClocksEventReasonSwPowerCap: ClassVar[int] = 0x004
    nvmlClocksThrottleReasonHwSlowdown: ClassVar[int] = 0x008
    nvmlClocksEventReasonSwThermalSlowdown: ClassVar[int] = 0x020
    nvmlClocksEventReasonHwThermalSlowdown: ClassVar[int] = 0x040
    nvmlClocksEventReasonHwPowerBrakeSlowdown: ClassVar[int] = 0x080

    @contextmanager
    def installed(self) -> Iterator[FakeNvml]:
        """``import pynvml`` finds this within the block, in this process."""
        with mock.patch.dict(sys.modules, {"pynvml": self}):
            yield self

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if not 0 <= index < len(self.gpus):
            raise self.NVMLError(self.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        for index, gpu in enumerate(self.gpus):
            if gpu.uuid.startswith(uuid):
                return index
        raise self.NVMLError(self.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetIndex(self, handle: int) -> int:
        return handle

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self._gpu(handle, "nvmlDeviceGetName").name

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return self._gpu(handle, "nvmlDeviceGetUUID").uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._gpu(handle, "nvmlDeviceGetTotalEnergyConsumption").energy_mj(self._now_s)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return round(self._at(self._gpu(handle, "nvmlDeviceGetPowerUsage").power_w) * 1e3)

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        gpu = self._gpu(handle, "nvmlDeviceGetClockInfo")
        return self._at(gpu.sm_clock_mhz if kind == self.NVML_CLOCK_SM else gpu.memory_clock_mhz)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return self._at(self._gpu(handle, "nvmlDeviceGetTemperature").temperature_celsius)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._at(self._gpu(handle, "nvmlDeviceGetUtilizationRates").utilization_percent), memory=0)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        gpu = self._gpu(handle, "nvmlDeviceGetMemoryInfo")
        used = self._at(gpu.memory_used_bytes)
        return SimpleNamespace(total=gpu.memory_total_bytes, used=used, free=gpu.memory_total_bytes - used)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        return self._at(self._gpu(handle, "nvmlDeviceGetCurrentClocksEventReasons").reasons)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        found = self._at(self._gpu(handle, "nvmlDeviceGetComputeRunningProcesses").processes)
        return [SimpleNamespace(pid=process.pid, usedGpuMemory=process.memory_bytes) for process in found]

    def nvmlDeviceGetProcessUtilization(self, handle: int, last_seen_us: int) -> list[SimpleNamespace]:
        """One sample of each process now; as NVML, Not Found where there is none after ``last_seen_us``."""
        gpu = self._gpu(handle, "nvmlDeviceGetProcessUtilization")
        now_us = int(self._now_s * 1e6)
        found = [SimpleNamespace(pid=one.pid, timeStamp=now_us, smUtil=one.sm_percent) for one in self._at(gpu.processes)]
        if not found or now_us <= last_seen_us:
            raise self.NVMLError(self.NVML_ERROR_NOT_FOUND)
        return found

    @property
    def _now_s(self) -> float:
        return self.clock() / 1e9

    def _at(self, script: Script[Value]) -> Value:
        return at(script, self._now_s)

    def _gpu(self, handle: int, function: str) -> FakeGpu:
        self.asked.append(function)
        gpu = self.gpus[handle]
        if gpu.vanishes_at_s is not None and self._now_s >= gpu.vanishes_at_s:
            raise self.NVMLError(self.NVML_ERROR_GPU_IS_LOST)
        if function in gpu.unsupported:
            raise self.NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return gpu


def at(script: Script[Value], now_s: float) -> Value:
    """What a script says at a time; before its first entry, what the first one says."""
    if not _is_script(script):
        return script  # type: ignore[return-value]  # told by its form
    entries: Sequence[tuple[float, Value]] = script  # type: ignore[assignment]
    return next((value for begin, value in reversed(entries) if begin <= now_s), entries[0][1])


def _is_script(script: object) -> bool:
    return isinstance(script, list | tuple) and bool(script) and all(isinstance(entry, tuple) and len(entry) == 2 for entry in script)


def _integral(power_w: Script[float], until_s: float) -> float:
    """Joules from second 0 on."""
    if not _is_script(power_w):
        return float(power_w) * until_s  # type: ignore[arg-type]  # told by its form
    entries: Sequence[tuple[float, float]] = power_w  # type: ignore[assignment]
    starts = [0.0, *(begin for begin, _ in entries[1:])]
    ends = [*starts[1:], float("inf")]
    return sum(
        watts * max(0.0, min(end, until_s) - begin) for begin, end, (_, watts) in zip(starts, ends, entries, strict=True) if until_s > begin
    )
