"""See EnergyPerInference."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.estimate import Absent, Direction
from harness.core.measurement import Run
from harness.core.plugin import Options
from harness.core.units import Unit
from harness.metrics import _telemetry


class EnergyPerInference(Options):
    """Energy of a sample on the device it runs on, idle power included: the GPU's board, or the CPU's packages and their memory."""

    kind: ClassVar[Literal["launch"]] = "launch"
    unit: ClassVar[Unit] = Unit.JOULES
    better: ClassVar[Direction] = "lower"
    tolerance: ClassVar[float | None] = 0.05
    floor: ClassVar[float] = 1e-4  # about what 50 W do in the 2 µs that are the floor of a latency
    queries: ClassVar[int] = 1

    def of_run(self, run: Run, batch_size: int) -> float | Absent:
        """The joules of the launch's slices over the samples in them."""
        found = _telemetry.joules("energy_per_inference", run)
        return found if isinstance(found, Absent) else found / (sum(piece.queries for piece in run.slices) * batch_size)

    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent:
        """The log ratio of both launches' figures."""
        return _telemetry.log_ratio(self.of_run, baseline, candidate, batch_size)


PLUGIN = EnergyPerInference
