import pytest

from harness.engine.telemetry.cpu import Cpu
from harness.engine.telemetry.nvml import open_gpu
from harness.engine.telemetry.rapl import Rapl
from harness.engine.telemetry.watch import Watch
from harness.testing import FakeClock, FakeNvml

MS = 1_000_000


class Package:
    """A machine's files under ``root`` with one CPU package whose counter the test moves on, as the kernel's powercap shows it."""

    def __init__(self, root, name="package-0", zone="intel-rapl:0", at_uj=0, range_uj=262_143_328_850):
        self.root, self.range_uj, self.at_uj = root, range_uj, at_uj
        self.folder = root / "sys/class/powercap" / zone
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "name").write_text(f"{name}\n")
        (self.folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.take(0)

    def take(self, joules):
        self.at_uj = (self.at_uj + round(joules * 1e6)) % self.range_uj
        (self.folder / "energy_uj").write_text(f"{self.at_uj}\n")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def package(tmp_path):
    return lambda **how: Package(tmp_path, **how)


@pytest.fixture
def watched(clock, tmp_path):
    """A watch over scripted GPUs, or over a machine's files; time passes by the test's clock, and looks are taken when the test says."""

    def make(*gpus, device="cuda", rapl=None, passes=lambda: None):
        def pause():
            clock.advance(0.001)
            passes()

        cpu = Cpu((0,), tmp_path)
        if not gpus:
            return Watch(100 * MS, cpu, rapl or Rapl(trouble="no counter here"), None, clock, pause)
        with FakeNvml(gpus, clock).installed(), open_gpu(device, {}) as gpu:
            return Watch(100 * MS, cpu, rapl or Rapl(), gpu, clock, pause)

    return make


@pytest.fixture
def turn(clock):
    """One slice of an arm: so many seconds, with one look in the middle."""

    def take(watch, arm, seconds, pid=4242, passes=lambda: None):
        with watch.slice(arm, pid):
            clock.advance(seconds / 2)
            watch.look()
            clock.advance(seconds / 2)
            passes()

    return take
