"""One NVIDIA GPU through NVML (the package ``nvidia-ml-py``), for as long as a launch is watched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from harness.core.telemetry import Gauge
from harness.engine.machine.read_gpus import index_of, reasons_in

LOST = (9, 15)
"""NVML_ERROR_DRIVER_NOT_LOADED and NVML_ERROR_GPU_IS_LOST: nothing more will be told of this device."""
NOT_FOUND = 6
"""NVML_ERROR_NOT_FOUND: no sample since the time asked for."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """What one look at the device told. ``reasons`` and ``memory_by_pid`` are None where the driver does not tell."""

    gauges: Mapping[Gauge, float] = field(default_factory=dict)
    reasons: tuple[str, ...] | None = None
    memory_by_pid: Mapping[int, int | None] | None = None


@dataclass(slots=True)
class Gpu:
    """An opened device. ``lost`` is what NVML said when it stopped to answer; until then None."""

    nvml: Any
    handle: Any
    source: str
    lost: str | None = None

    def energy_mj(self) -> int | None:
        """Millijoules since the driver was loaded; None where the board has no such counter (before Volta)."""
        value = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if value is None else int(value)

    def sample(self) -> GpuSample:
        """Everything that is sampled, at once."""
        nvml = self.nvml
        use, memory = self._ask("nvmlDeviceGetUtilizationRates"), self._ask("nvmlDeviceGetMemoryInfo")
        power = self._ask("nvmlDeviceGetPowerUsage")
        gauges = {
            Gauge.POWER_W: None if power is None else power / 1e3,
            Gauge.UTILIZATION: None if use is None else use.gpu / 100,
            Gauge.MEMORY_BYTES: None if memory is None else memory.used,
            Gauge.SM_CLOCK_MHZ: self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            Gauge.MEMORY_CLOCK_MHZ: self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            Gauge.TEMPERATURE_CELSIUS: self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        }
        mask = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") if mask is None else mask  # its name before driver 535
        return GpuSample(
            {gauge: float(value) for gauge, value in gauges.items() if value is not None},
            None if mask is None else reasons_in(mask),
            self.processes(),
        )

    def processes(self) -> dict[int, int | None] | None:
        """The processes that compute on the device, and their memory in bytes where it is told; None where the driver tells of none."""
        found = self._ask("nvmlDeviceGetComputeRunningProcesses")
        return None if found is None else {process.pid: process.usedGpuMemory for process in found}

    def busy_since(self, timestamp_us: int) -> tuple[int, dict[int, float]] | None:
        """The highest share of the SMs' time that each process took in the samples after ``timestamp_us``, and the last sample's time.

        None where the driver does not tell.
        """
        try:
            samples = self.nvml.nvmlDeviceGetProcessUtilization(self.handle, timestamp_us)
        except (self.nvml.NVMLError, AttributeError) as error:
            if getattr(error, "value", None) == NOT_FOUND:
                return timestamp_us, {}
            self._note(error)
            return None
        busy: dict[int, float] = {}
        for sample in samples:
            if sample.timeStamp > timestamp_us:
                busy[sample.pid] = max(busy.get(sample.pid, 0.0), sample.smUtil / 100)
        return max([timestamp_us, *(sample.timeStamp for sample in samples)]), busy

    def _ask(self, function: str, *arguments: object) -> Any:
        """What NVML answers; None where the driver, the board or the binding does not know the question, or the device is gone."""
        if self.lost is not None:
            return None
        try:
            return getattr(self.nvml, function)(self.handle, *arguments)
        except (self.nvml.NVMLError, AttributeError) as error:
            self._note(error)
            return None

    def _note(self, error: Exception) -> None:
        if getattr(error, "value", None) in LOST:
            self.lost = str(error)


@contextmanager
def open_gpu(device: str, environment: Mapping[str, str] = os.environ) -> Iterator[Gpu | str]:
    """The GPU that a trial's device (``cuda:1``) is, or the reason why it cannot be watched. Closed at the end of the block."""
    try:
        import pynvml
    except ImportError:
        yield "the package 'nvidia-ml-py' is missing: pip install 'harness[gpu]'"
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield f"NVML does not answer: {error}"
        return
    try:
        yield _opened(pynvml, device, environment)
    finally:
        with suppress(pynvml.NVMLError):  # a device that is gone; there is nothing left to close
            pynvml.nvmlShutdown()


def _opened(nvml: Any, device: str, environment: Mapping[str, str]) -> Gpu | str:
    index = index_of(device, environment)
    try:
        if index is not None:
            return Gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index), f"GPU {index}")
        number = int(device.partition(":")[2] or 0)
        names = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
        if number >= len(names) or not names[number].startswith("GPU-"):
            return f"which of the driver's GPUs is {device} cannot be told from CUDA_VISIBLE_DEVICES"
        handle = nvml.nvmlDeviceGetHandleByUUID(names[number])
        return Gpu(nvml, handle, f"GPU {nvml.nvmlDeviceGetIndex(handle)}")
    except nvml.NVMLError as error:
        return f"NVML does not give {device}: {error}"


def others(seen: Iterable[int], ours: Iterable[int], before: Iterable[int]) -> tuple[tuple[int, ...], bool]:
    """The processes among ``seen`` that are not ours, and whether numbers could be matched.

    In a container some drivers tell the numbers of the host, so ours look like strangers. Where none of ours is among those seen, only
    what was on the device ``before`` our sessions were opened is certainly a stranger.
    """
    seen, ours = set(seen), set(ours)
    if not seen or seen & ours:
        return tuple(sorted(seen - ours)), True
    return tuple(sorted(seen & set(before))), False
