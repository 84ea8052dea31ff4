import sys

import pytest

from harness.core.telemetry import Gauge
from harness.engine.machine.read_gpus import read_gpus
from harness.engine.telemetry.nvml import Gpu, open_gpu, others
from harness.testing import FakeClock, FakeGpu, FakeNvml, FakeProcess


@pytest.fixture
def fake(clock):
    def install(*gpus):
        return FakeNvml(gpus, clock)

    return install


def test_one_look_tells_everything(fake):
    gpu = FakeGpu(power_w=350.0, utilization_percent=98, temperature_celsius=61, reasons=0x004, processes=[FakeProcess(7, 123)])
    with fake(gpu).installed(), open_gpu("cuda", {}) as found:
        sample = found.sample()
    assert sample.gauges == {
        Gauge.POWER_W: 350.0,
        Gauge.UTILIZATION: 0.98,
        Gauge.MEMORY_BYTES: 2**30,
        Gauge.SM_CLOCK_MHZ: 1500.0,
        Gauge.MEMORY_CLOCK_MHZ: 2600.0,
        Gauge.TEMPERATURE_CELSIUS: 61.0,
    }
    assert sample.reasons == ("power cap",)
    assert sample.memory_by_pid == {7: 123}


def test_what_a_board_does_not_support_is_left_out_and_never_zero(fake):
    names = ("TotalEnergyConsumption", "PowerUsage", "CurrentClocksEventReasons", "ComputeRunningProcesses", "ProcessUtilization")
    with fake(FakeGpu(unsupported=frozenset(f"nvmlDeviceGet{name}" for name in names))).installed(), open_gpu("cuda", {}) as gpu:
        sample = gpu.sample()
        assert gpu.energy_mj() is None
        assert gpu.busy_since(0) is None
    assert Gauge.POWER_W not in sample.gauges
    assert sample.reasons is None
    assert sample.memory_by_pid is None
    assert gpu.lost is None


def test_a_device_that_vanishes_is_named_and_asked_no_more(fake, clock):
    nvml = fake(FakeGpu(vanishes_at_s=1.0))
    with nvml.installed(), open_gpu("cuda", {}) as gpu:
        assert gpu.sample().gauges
        clock.advance(1.0)
        assert gpu.energy_mj() is None
        asked = len(nvml.asked)
        assert gpu.sample().gauges == {}
    assert gpu.lost == "GPU is lost"
    assert len(nvml.asked) == asked


def test_the_library_is_closed_again_however_the_block_ends(fake):
    nvml = fake(FakeGpu())
    with nvml.installed(), pytest.raises(ZeroDivisionError), open_gpu("cuda", {}):
        assert nvml.opened == 1
        raise ZeroDivisionError
    assert nvml.opened == 0


def test_the_device_is_the_one_that_cuda_counts(fake):
    gpus = [FakeGpu(uuid=f"GPU-{number:08x}-aaaa") for number in range(3)]
    with fake(*gpus).installed():
        for device, visible, source in (
            ("cuda:1", {}, "GPU 1"),
            ("cuda:0", {"CUDA_VISIBLE_DEVICES": "2,0"}, "GPU 2"),
            ("cuda:1", {"CUDA_VISIBLE_DEVICES": "GPU-00000000, GPU-00000002-aaaa"}, "GPU 2"),
        ):
            with open_gpu(device, visible) as gpu:
                assert gpu.source == source


@pytest.mark.parametrize("visible", ["MIG-4711", "GPU-0"])
def test_a_device_that_cannot_be_matched_with_the_driver_s_is_not_guessed(fake, visible):
    with fake(FakeGpu(), FakeGpu()).installed(), open_gpu("cuda:1", {"CUDA_VISIBLE_DEVICES": visible}) as gpu:
        assert gpu == "which of the driver's GPUs is cuda:1 cannot be told from CUDA_VISIBLE_DEVICES"


def test_a_device_that_nvml_does_not_have_is_told(fake):
    with fake(FakeGpu()).installed(), open_gpu("cuda:4", {}) as gpu:
        assert gpu == "NVML does not give cuda:4: Invalid Argument"


def test_without_the_binding_the_install_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with open_gpu("cuda", {}) as gpu:
        assert gpu == "the package 'nvidia-ml-py' is missing: pip install 'harness[gpu]'"


def test_without_a_driver_nvml_s_own_words_are_told(fake, monkeypatch):
    nvml = fake(FakeGpu())

    def refuse():
        raise nvml.NVMLError(9)

    with nvml.installed():
        monkeypatch.setattr(FakeNvml, "nvmlInit", lambda self: refuse())
        with open_gpu("cuda", {}) as gpu:
            assert gpu == "NVML does not answer: error 9"


def test_how_busy_a_process_was_is_told_from_a_time_on(fake, clock):
    with fake(FakeGpu(processes=[(0, [FakeProcess(7, sm_percent=90)]), (2, [FakeProcess(7, sm_percent=10)])])).installed():
        with open_gpu("cuda", {}) as gpu:
            clock.advance(1.0)
            since, busy = gpu.busy_since(0)
            assert busy == {7: 0.9}
            assert gpu.busy_since(since) == (since, {})  # nothing new yet
            clock.advance(1.0)
            assert gpu.busy_since(since) == (2_000_000, {7: 0.1})


@pytest.mark.parametrize(
    ("seen", "ours", "before", "expected"),
    [
        ((1, 2), (1,), (), ((2,), True)),
        ((1,), (1,), (), ((), True)),
        ((), (), (), ((), True)),
        ((501, 502), (), (501,), ((501,), False)),
        ((502,), (), (), ((), False)),
    ],
)
def test_where_none_of_ours_is_seen_only_who_was_there_before_is_a_stranger(seen, ours, before, expected):
    assert others(seen, ours, before) == expected


def test_the_fake_has_no_name_that_the_real_binding_does_not_have():
    pynvml = pytest.importorskip("pynvml")
    names = [name for name in dir(FakeNvml) if name.lower().startswith("nvml")]
    assert len(names) > 20
    assert [name for name in names if not hasattr(pynvml, name)] == []
    for name in names:
        if isinstance(value := getattr(FakeNvml, name), int):
            assert value == getattr(pynvml, name), name


def test_the_doctor_reads_the_fake_as_it_reads_a_driver():
    with FakeNvml([FakeGpu(name="H100", reasons=0x040, processes=[FakeProcess(4711)], utilization_percent=25)], FakeClock()).installed():
        (gpu,) = read_gpus() or ()
    assert (gpu.name, gpu.reasons, gpu.others, gpu.utilization) == ("H100", ("hardware heat",), (4711,), 0.25)


def test_the_fake_s_energy_is_the_integral_of_its_power(clock):
    gpu = FakeGpu(power_w=[(0, 100.0), (2, 400.0)], energy_before_mj=2**32 - 1, wraps_at_mj=2**32)
    assert [gpu.energy_mj(second) for second in (0, 1, 3)] == [2**32 - 1, 99_999, 599_999]
    stepped = FakeGpu(power_w=100.0, step_s=0.1)
    assert [stepped.energy_mj(second) for second in (0.05, 0.15, 0.25)] == [0, 10_000, 20_000]


def test_an_opened_gpu_is_what_the_watch_takes(fake):
    with fake(FakeGpu()).installed(), open_gpu("cuda:0", {}) as gpu:
        assert isinstance(gpu, Gpu)
