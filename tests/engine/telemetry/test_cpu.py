import os
from pathlib import Path

from harness.core.telemetry import Gauge
from harness.engine.telemetry.cpu import Cpu


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def test_the_clock_is_that_of_the_cores_the_launch_is_pinned_to(tmp_path):
    write(
        tmp_path,
        {f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq": f"{mhz}000\n" for core, mhz in enumerate((800, 3000, 3400))},
    )
    assert Cpu((1, 2), tmp_path).sample(None) == {Gauge.FREQUENCY_MHZ: 3200.0}


def test_without_a_frequency_driver_there_is_no_clock_rather_than_the_nominal_one(tmp_path):
    write(tmp_path, {"proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 1000.5\n"})
    assert Cpu((0,), tmp_path).sample(None) == {}


def test_a_file_that_stays_open_is_read_anew_each_time(tmp_path):
    write(tmp_path, {"proc/meminfo": "MemAvailable:    5 kB\n"})
    cpu = Cpu((), tmp_path)
    before = cpu.sample(None)
    write(tmp_path, {"proc/meminfo": "MemAvailable: 4711 kB\n"})
    assert (before, cpu.sample(None)) == ({Gauge.AVAILABLE_BYTES: 5 * 1024}, {Gauge.AVAILABLE_BYTES: 4711 * 1024})


def test_nothing_stays_open_when_it_is_closed():
    before = len(list(Path("/proc/self/fd").iterdir()))
    cpu = Cpu((0,))
    assert cpu.sample(os.getpid())[Gauge.RSS_BYTES] > 2**20
    cpu.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_memory_is_what_is_left_and_what_the_process_holds(tmp_path):
    write(tmp_path, {"proc/meminfo": "MemTotal: 8 kB\nMemAvailable: 5 kB\n", "proc/77/statm": "9 3 1 1 0 1 0\n"})
    assert Cpu((), tmp_path).sample(77) == {Gauge.AVAILABLE_BYTES: 5 * 1024, Gauge.RSS_BYTES: 3 * os.sysconf("SC_PAGE_SIZE")}


def test_a_process_that_has_ended_and_a_system_without_proc_tell_nothing(tmp_path):
    assert Cpu((0,), tmp_path).sample(1) == {}
    assert Cpu((0,), tmp_path).throttled() is None


def test_throttle_events_are_summed_over_the_cores_used(tmp_path):
    counts = {"cpu0/thermal_throttle/core_throttle_count": "5\n", "cpu1/thermal_throttle/core_throttle_count": "7\n"}
    counts["cpu1/thermal_throttle/package_throttle_count"] = "2\n"
    write(tmp_path, {f"sys/devices/system/cpu/{path}": text for path, text in counts.items()})
    assert Cpu((1,), tmp_path).throttled() == 9
    assert Cpu((), tmp_path).throttled() == 14
