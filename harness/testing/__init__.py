"""Stand-ins for what tests of performance have not at hand. For tests of this project and of its users."""

from harness.testing.clock import FakeClock
from harness.testing.nvml import FakeGpu, FakeNvml, FakeProcess

__all__ = ["FakeClock", "FakeGpu", "FakeNvml", "FakeProcess"]
