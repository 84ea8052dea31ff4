"""See GpuMemoryPeak."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.telemetry import Gauge
from harness.core.units import Unit
from harness.metrics import _telemetry


class GpuMemoryPeak(Options):
    """Highest memory of the launch's process on its GPU in the samples of telemetry, the CUDA context included."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.BYTES
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = None
    floor: ClassVar[float] = 4 * 2.0**20
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """What the driver tells of the process; a peak shorter than the period of the samples may be missed."""
        telemetry = _telemetry.seen("gpu_memory_peak", run)
        if isinstance(telemetry, Absent):
            return telemetry
        found = telemetry.spread(Gauge.PROCESS_MEMORY_BYTES)
        if found is None or found.high <= 0:
            on_gpu = run.facts.device.startswith("cuda")
            return Absent("gpu_memory_peak", "the driver does not tell it of this process" if on_gpu else "it does not run on a GPU")
        return found.high

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        return _telemetry.log_ratio(self.of_run, baseline, candidate, batch_size)


PLUGIN = GpuMemoryPeak
