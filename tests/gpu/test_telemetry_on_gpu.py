"""Telemetry on a real GPU. Not run yet on any: until it is, what the counters of a board give is unverified."""

import os
import threading
import time

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pynvml")
pytest.importorskip("pydantic")

from harness.core.scenario import TelemetrySpec  # noqa: E402  (the machine may not have what the package needs)
from harness.core.telemetry import Gauge  # noqa: E402
from harness.engine.telemetry.nvml import Gpu, open_gpu  # noqa: E402
from harness.engine.telemetry.watch import watching  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

SETTLE_S, LOAD_S = 3.0, 6.0


def multiply_for(seconds, matrix):
    """A steady load: the same product again and again, never more than a few of them ahead of the host."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(4):
            torch.mm(matrix, matrix)
        torch.cuda.synchronize()


@pytest.fixture
def matrix():
    return torch.randn(4096, 4096, device="cuda", dtype=torch.float16)


def test_the_energy_of_a_known_load_is_its_power_times_its_time(matrix):
    multiply_for(SETTLE_S, matrix)  # power is a mean over up to a second on some boards
    with watching(TelemetrySpec(period="50 ms"), "cuda", ()) as watch:
        watch.learn_steps()
        watch.begin([os.getpid()])
        with watch.slice("candidate", os.getpid()):
            multiply_for(LOAD_S, matrix)
        watch.end()
        told = watch.telemetry("candidate")
    assert told.no_energy is None
    power = told.spread(Gauge.POWER_W)
    assert told.joules == pytest.approx(power.mean * told.timed_ns / 1e9, rel=0.05)


def test_a_launch_is_watched_with_everything_that_the_board_tells(matrix):
    with watching(TelemetrySpec(), "cuda", ()) as watch:
        watch.begin([os.getpid()])
        with watch.slice("candidate", os.getpid()):
            multiply_for(1.5, matrix)
        watch.end()
        told = watch.telemetry("candidate")
    assert told.samples >= 5
    assert told.spread(Gauge.SM_CLOCK_MHZ).high > 0
    assert told.spread(Gauge.UTILIZATION).high > 0.5
    assert told.spread(Gauge.TEMPERATURE_CELSIUS).low > 0
    assert not [mark for mark in told.marks if "stopped to answer" in mark.what]


def test_our_own_process_is_never_company(matrix):
    with watching(TelemetrySpec(), "cuda", ()) as watch:
        watch.begin([os.getpid()])
        with watch.slice("candidate", os.getpid()):
            multiply_for(1.0, matrix)
        watch.end()
        told = watch.telemetry("candidate")
    assert os.getpid() not in {guest.pid for guest in told.company}


def test_the_library_can_be_asked_from_two_threads_at_once(matrix):
    """Counters are read at the ends of slices while the thread of the watch looks."""
    with open_gpu("cuda") as gpu:
        assert isinstance(gpu, Gpu)
        failed = []

        def ask():
            try:
                for _ in range(200):
                    gpu.sample()
            except Exception as error:  # noqa: BLE001  (told below, in the test's own thread)
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        energies = [gpu.energy_mj() for _ in range(200)]
        thread.join()
    assert failed == []
    assert energies == sorted(energies)
