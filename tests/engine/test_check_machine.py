"""Readings of machines that we do not have, and what is found of them."""

import math
import sys
from dataclasses import fields, replace
from types import MappingProxyType, SimpleNamespace

import pytest

from harness.core.checkup import State
from harness.engine.check_machine import check_machine
from harness.engine.machine.check_system import OF_THE_WORKERS
from harness.engine.machine.read_gpus import index_of, read_gpus, reasons_in
from harness.engine.machine.read_machine import cores_in, read_machine
from harness.engine.machine.readings import (
    CpuReading,
    GpuReading,
    HeatReading,
    KernelReading,
    LoadReading,
    MemoryReading,
    PowerReading,
    QuotaReading,
    Readings,
)
from harness.engine.workers import THREAD_VARIABLES

GIB = 2**30
TUNED = Readings(
    cpu=CpuReading(
        cores=(0, 1, 2, 3),
        cpu_count=8,
        governors=("performance",) * 4,
        busy_mhz=2990,
        max_mhz=3000,
        turbo=False,
        siblings=((0, 4), (1, 5), (2, 6), (3, 7)),
        throttled=0,
        throttled_now=0,
    ),
    load=LoadReading(1.0, 0.0, 0.4),
    quota=QuotaReading(math.inf, 0, 0, 0),
    zones=(HeatReading("x86_pkg_temp", 45, 90),),
    power=(PowerReading("package-0", 125, 125),),
    memory=MemoryReading(32 * GIB, 24 * GIB, 0, 0),
    kernel=KernelReading("tsc", 2, False, "", False, None, may_go_first=True),
    gpus=(),
)
"""A bare machine that somebody has prepared: nothing is to be done."""
BLIND = Readings(cpu=CpuReading(cores=(0, 1), cpu_count=2))
"""A machine that shows nothing of itself."""
QUIET_GPU = GpuReading(
    index=0,
    name="NVIDIA H100 80GB HBM3",
    persistence=True,
    sm_mhz=1500,
    max_sm_mhz=1980,
    reasons=("a setting",),
    others=(),
    utilization=0.0,
    ecc=True,
    ecc_errors=0,
    celsius=40,
    slowdown_celsius=87,
    power_limit_w=700,
    default_power_limit_w=700,
    mig=False,
)


def found(name, readings=TUNED, **parts):
    """The finding of this name; ``parts`` change readings: ``cpu={"turbo": True}``."""
    for part, changes in parts.items():
        value = replace(getattr(readings, part), **changes) if isinstance(changes, dict) and part != "variables" else changes
        readings = replace(readings, **{part: value})
    return next(finding for finding in check_machine(readings) if finding.name == name)


def of_gpu(what, **changes):
    name = f"GPU 0 {what}".strip()
    return next(finding for finding in check_machine(replace(TUNED, gpus=(replace(QUIET_GPU, **changes),))) if finding.name == name)


def test_a_prepared_machine_is_fine_in_everything_and_told_no_advice():
    findings = check_machine(replace(TUNED, gpus=(QUIET_GPU,)))
    assert {finding.state for finding in findings} == {State.FINE}
    assert [finding.advice for finding in findings if finding.advice] == []


def test_what_cannot_be_read_is_not_visible_and_never_called_fine_or_bad():
    findings = {finding.name: finding for finding in check_machine(BLIND)}
    told = {name for name, finding in findings.items() if finding.state is not State.NOT_VISIBLE}
    assert told == {"cores", "thread variables"}  # these come from the process itself
    assert all("not visible" in finding.value or finding.name == "GPU" for finding in findings.values() if finding.name not in told)


def test_every_advice_is_one_line_and_an_order():
    rough = replace(
        TUNED,
        cpu=replace(TUNED.cpu, governors=("powersave",), busy_mhz=800, turbo=True, siblings=((0, 1),), throttled=3, throttled_now=1),
        load=LoadReading(1.0, 0.2, 30),
        quota=QuotaReading(1.5, 9, 90, 100),
        zones=(HeatReading("cpu", 95, 90),),
        power=(PowerReading("package-0", 65, 125),),
        memory=MemoryReading(32 * GIB, GIB // 2, GIB, 40),
        kernel=KernelReading("hpet", 0, True, "Docker", True, "KVM"),
        variables={"GOMP_CPU_AFFINITY": "0"},
        gpus=(replace(QUIET_GPU, persistence=False, reasons=("hardware heat",), others=(7,), utilization=0.9, ecc_errors=2, celsius=90),),
    )
    advised = [finding for finding in check_machine(rough) if finding.state in (State.NOTICE, State.UNFIT)]
    assert len(advised) == 20
    for finding in advised:
        assert finding.advice and "\n" not in finding.advice and finding.advice[0].isupper() and finding.advice.endswith("."), finding


@pytest.mark.parametrize(
    ("governors", "state", "value"),
    [
        (("performance", "performance"), State.FINE, "performance"),
        (("powersave", "performance"), State.NOTICE, "performance, powersave"),
        (("schedutil",), State.NOTICE, "schedutil"),
    ],
)
def test_any_governor_but_performance_is_noticed(governors, state, value):
    finding = found("governor", cpu={"governors": governors})
    assert (finding.state, finding.value) == (state, value)
    assert ("sudo cpupower frequency-set -g performance" in finding.advice) == (state is State.NOTICE)


@pytest.mark.parametrize(
    ("busy", "most", "state"), [(2990, 3000, "fine"), (2100, 3000, "fine"), (2099, 3000, "notice"), (2300, None, "fine")]
)
def test_a_busy_core_far_below_its_highest_clock_is_noticed(busy, most, state):
    assert found("frequency", cpu={"busy_mhz": busy, "max_mhz": most}).state == state


def test_turbo_is_noticed_with_the_switch_of_this_very_driver():
    switch = {"turbo": True, "turbo_switch": "/sys/devices/system/cpu/cpufreq/boost", "turbo_off": 0}
    assert found("turbo", cpu=switch).advice == "Run 'echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost'."


def test_used_hardware_threads_of_one_core_are_named_with_a_set_of_cores_that_has_none():
    finding = found("hardware threads", cpu={"siblings": ((0, 1), (0, 1), (2, 3), (2, 3))})
    assert (finding.state, finding.value) == (State.NOTICE, "0-1; 2-3 share a core")
    assert finding.advice == "Use one thread of each core: 'taskset -c 0,2 harness ...'."


def test_a_sibling_that_is_not_used_is_no_matter():
    assert found("hardware threads").state is State.FINE


@pytest.mark.parametrize(("steal", "state"), [(0.0, "fine"), (0.01, "fine"), (0.011, "notice"), (0.10, "notice"), (0.11, "unfit")])
def test_steal_above_one_percent_is_noticed_and_above_ten_unfit(steal, state):
    assert found("steal time", load={"steal": steal}).state == state


@pytest.mark.parametrize(("average", "state"), [(0.2, "fine"), (8.0, "fine"), (8.1, "notice")])
def test_more_load_than_processors_is_noticed(average, state):
    assert found("load", load={"average": average}).state == state


@pytest.mark.parametrize(
    ("quota", "state", "value"),
    [
        ({"cores": math.inf}, "fine", "none"),
        ({"cores": 4.0}, "fine", "4 cores for the 4 used"),
        ({"cores": 3.5}, "unfit", "3.5 cores for the 4 used"),
        ({"cores": 4.0, "throttled": 12, "periods": 1000}, "fine", "4 cores for the 4 used, 12 of 1,000 periods throttled so far"),
        (
            {"cores": 4.0, "throttled": 12, "periods": 1000, "throttled_now": 2},
            "unfit",
            "4 cores for the 4 used, 12 of 1,000 periods throttled so far, 2 in the last second",
        ),
    ],
)
def test_a_quota_below_the_cores_used_or_one_that_is_throttling_is_unfit(quota, state, value):
    finding = found("CPU quota", quota=quota)
    assert (finding.state, finding.value) == (state, value)


@pytest.mark.parametrize(("total", "now", "state"), [(0, 0, "fine"), (40, 0, "notice"), (40, 1, "unfit")])
def test_throttling_for_heat_is_noticed_and_unfit_while_it_goes_on(total, now, state):
    assert found("thermal throttling", cpu={"throttled": total, "throttled_now": now}).state == state


@pytest.mark.parametrize(
    ("zones", "state", "value"),
    [
        ([("cpu", 79, 90), ("disk", 40, 120)], "fine", "79 °C of 90 °C (cpu)"),
        ([("disk", 40, 120), ("cpu", 80, 90)], "notice", "80 °C of 90 °C (cpu)"),
        ([("cpu", 90, 90)], "unfit", "90 °C of 90 °C (cpu)"),
        ([("cpu", 60, None), ("disk", 40, None)], "fine", "60 °C (cpu); its trip point is not visible"),
    ],
)
def test_the_zone_nearest_to_its_trip_point_is_the_one_that_is_told(zones, state, value):
    finding = found("temperature", zones=tuple(HeatReading(*zone) for zone in zones))
    assert (finding.state, finding.value) == (state, value)


def test_a_power_limit_below_what_the_package_may_draw_is_noticed():
    finding = found("power limit", power=(PowerReading("package-0", 65, 125), PowerReading("package-1", 125, None)))
    assert (finding.state, finding.value) == (State.NOTICE, "package-0 65 W of 125 W, package-1 125 W")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "fine"),
        ({"swap_used_bytes": GIB}, "notice"),
        ({"available_bytes": 3 * GIB}, "notice"),
        ({"available_bytes": GIB // 2}, "unfit"),
        ({"swapped_pages": 1}, "unfit"),
    ],
)
def test_a_machine_that_swaps_is_unfit_and_one_that_is_about_to_is_noticed(changes, state):
    assert found("memory", memory=changes).state == state


@pytest.mark.parametrize(
    ("variables", "state", "value"),
    [
        ({}, "fine", "none set; workers set their own"),
        ({"OMP_NUM_THREADS": "64"}, "fine", "OMP_NUM_THREADS=64; workers set their own"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "notice", "OMP_WAIT_POLICY=ACTIVE"),
        ({"OMP_PROC_BIND": "close"}, "notice", "OMP_PROC_BIND=close"),
        ({"HOME": "/root"}, "fine", "none set; workers set their own"),
    ],
)
def test_thread_variables_are_told_with_what_becomes_of_them(variables, state, value):
    finding = found("thread variables", variables=variables)
    assert (finding.state, finding.value) == (state, value)


def test_fixed_addresses_are_noticed_for_launches_are_to_sample_them():
    assert found("address layout", kernel={"aslr": 0}).advice == "Run 'sudo sysctl kernel.randomize_va_space=2'."
    assert found("address layout", kernel={"aslr": 1}).value == "random but for the heap"
    assert found("address layout", kernel={"fixed_addresses": True}).advice == "Start harness without 'setarch -R'."


@pytest.mark.parametrize(("source", "state"), [("tsc", "fine"), ("kvm-clock", "fine"), ("hpet", "notice"), ("xen", "notice")])
def test_a_clock_that_is_slow_to_read_is_noticed(source, state):
    assert found("clock source", kernel={"clock_source": source}).state == state


@pytest.mark.parametrize(
    ("kernel", "value"),
    [
        ({"hypervisor": True, "product": "Standard PC", "container": "Docker"}, "a virtual machine (Standard PC), a container (Docker)"),
        ({"hypervisor": False, "container": ""}, "no virtual machine, no container"),
        ({"hypervisor": None, "container": "Podman"}, "a container (Podman)"),
    ],
)
def test_what_it_runs_inside_is_told_and_nothing_more(kernel, value):
    finding = found("runs inside", kernel=kernel)
    assert (finding.state, finding.value, finding.advice) == (State.FINE, value, "")


@pytest.mark.parametrize(
    ("what", "changes", "state"),
    [
        ("persistence", {"persistence": False}, "notice"),
        ("clock", {"reasons": ()}, "notice"),
        ("clock", {"reasons": ("idle",)}, "not visible"),
        ("clock", {"reasons": None}, "not visible"),
        ("throttling", {"reasons": ("idle",)}, "fine"),
        ("throttling", {"reasons": ("power cap",)}, "notice"),
        ("throttling", {"reasons": ("power cap", "hardware slowdown")}, "unfit"),
        ("power limit", {"power_limit_w": 500}, "notice"),
        ("temperature", {"celsius": 84}, "notice"),
        ("temperature", {"celsius": 87}, "unfit"),
        ("company", {"others": (4711,)}, "notice"),
        ("company", {"others": (4711,), "utilization": 0.5}, "unfit"),
        ("company", {"utilization": 0.5}, "unfit"),
        ("ECC", {"ecc": False, "ecc_errors": None}, "fine"),
        ("ECC", {"ecc_errors": 1}, "unfit"),
        ("", {"mig": True}, "fine"),
    ],
)
def test_a_gpu_is_judged_by_what_its_driver_tells(what, changes, state):
    assert of_gpu(what, **changes).state == state


def test_a_gpu_that_tells_nothing_is_not_visible_in_everything_but_its_name():
    findings = check_machine(replace(TUNED, gpus=(GpuReading(0, "an old one"),)))
    assert {finding.state for finding in findings if finding.name.startswith("GPU 0 ")} == {State.NOT_VISIBLE}


def test_a_trial_on_the_processor_is_told_nothing_of_gpus():
    assert not [finding for finding in check_machine(replace(TUNED, gpus=(QUIET_GPU,)), gpu=False) if finding.name.startswith("GPU")]


# reading

STAT = "cpu  {user} 0 0 {idle} 0 0 0 {steal} 999 999\ncpu0 1 2 3\n"
CPU = "sys/devices/system/cpu"
MACHINE = {
    "proc/stat": STAT.format(user=100, idle=800, steal=10),
    "proc/loadavg": "3.25 2 1 1/100 4242",
    "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\nSwapTotal: 500 kB\nSwapFree: 400 kB\n",
    "proc/vmstat": "pswpin 10\npswpout 20\n",
    "proc/cpuinfo": "processor : 0\nflags : fpu hypervisor avx2\ncpu MHz : 2100.5\n\nprocessor : 1\ncpu MHz : 2200.0\n",
    "proc/self/cgroup": "0::/jobs/one\n",
    "proc/self/personality": "00040000\n",
    "proc/self/status": "Name:\tpython\nCapEff:\t00000000a80425fb\n",
    "proc/sys/kernel/randomize_va_space": "2\n",
    "proc/1/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_periods 1\nnr_throttled 1\n",
    "sys/fs/cgroup/jobs/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/jobs/one/cpu.max": "max 100000\n",
    "sys/fs/cgroup/jobs/one/cpu.stat": "usage_usec 5\nnr_periods 100\nnr_throttled 7\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "2600000\n",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "3500000\n",
    f"{CPU}/cpu0/topology/thread_siblings_list": "0-1\n",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "4\n",
    f"{CPU}/cpu0/thermal_throttle/package_throttle_count": "1\n",
    f"{CPU}/cpu1/cpufreq/scaling_governor": "performance\n",
    f"{CPU}/cpu1/topology/thread_siblings_list": "0-1\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone0/temp": "61000\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "active\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "40000\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_type": "passive\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_temp": "85000\n",
    "sys/class/thermal/thermal_zone0/trip_point_2_type": "critical\n",
    "sys/class/thermal/thermal_zone0/trip_point_2_temp": "-274000\n",
    "sys/class/thermal/thermal_zone1/temp": "0\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw": "65000000\n",
    "sys/class/powercap/intel-rapl:0/constraint_0_max_power_uw": "125000000\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/constraint_0_power_limit_uw": "1\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/class/dmi/id/product_name": "KVM\n",
    "run/.containerenv": "",
}
LATER = {
    "proc/stat": STAT.format(user=150, idle=840, steal=20),
    "proc/vmstat": "pswpin 10\npswpout 23\n",
    "sys/fs/cgroup/jobs/one/cpu.stat": "usage_usec 5\nnr_periods 110\nnr_throttled 9\n",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "6\n",
}


def written(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def read(root, later=LATER, environment=MappingProxyType({}), cores=(0, 1)):
    ticks = iter((10.0, 11.5))
    return read_machine(cores, root=root, environment=environment, sample=lambda: written(root, later), clock=lambda: next(ticks))


def test_a_machine_is_read_from_the_files_of_its_kernel(tmp_path):
    readings = read(written(tmp_path, MACHINE), environment={"OMP_NUM_THREADS": "3", "HOME": "/"})
    assert readings.cpu == CpuReading(
        cores=(0, 1),
        cpu_count=2,
        governors=("powersave", "performance"),
        busy_mhz=2600,
        max_mhz=3500,
        turbo=True,
        turbo_switch=f"/{CPU}/intel_pstate/no_turbo",
        turbo_off=1,
        siblings=((0, 1), (0, 1)),
        throttled=7,
        throttled_now=2,
    )
    assert readings.load == LoadReading(1.5, 10 / 100, 3.25)
    assert readings.quota == QuotaReading(1.5, 2, 9, 110)  # the group above sets it, the group's own periods are counted
    assert readings.zones == (HeatReading("x86_pkg_temp", 61, 85),)
    assert readings.power == (PowerReading("package-0", 65, 125),)
    assert readings.memory == MemoryReading(1000 * 1024, 600 * 1024, 100 * 1024, 3)
    assert readings.kernel == KernelReading("tsc", 2, True, "Podman", True, "KVM", may_go_first=False)
    assert readings.variables == {"OMP_NUM_THREADS": "3"}
    assert readings.gpus is None


def test_a_machine_without_any_of_the_files_shows_nothing(tmp_path):
    readings = read(tmp_path, later={})
    blank = Readings(cpu=replace(BLIND.cpu, cpu_count=readings.cpu.cpu_count), load=LoadReading(1.5))
    assert {field.name for field in fields(Readings) if getattr(readings, field.name) != getattr(blank, field.name)} == set()


@pytest.mark.parametrize(("quota", "cores"), [("-1", math.inf), ("50000", 0.5)])
def test_the_quota_of_an_older_kernel_is_read_too(tmp_path, quota, cores):
    files = {
        "proc/self/cgroup": "3:memory:/x\n1:cpu:/x\n0::/\n",
        "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": quota,
        "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
    }
    assert read(written(tmp_path, files)).quota.cores == cores


def test_a_container_finds_its_own_group_at_the_top(tmp_path):
    files = {"proc/self/cgroup": "0::/../outside\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}
    assert read(written(tmp_path, files)).quota.cores == 2


def test_the_switch_of_other_drivers_is_off_at_zero(tmp_path):
    cpu = read(written(tmp_path, {f"{CPU}/cpufreq/boost": "1\n"})).cpu
    assert (cpu.turbo, cpu.turbo_switch, cpu.turbo_off) == (True, f"/{CPU}/cpufreq/boost", 0)


def test_the_clock_is_taken_from_cpuinfo_where_there_is_no_driver_for_it(tmp_path):
    assert read(written(tmp_path, {"proc/cpuinfo": MACHINE["proc/cpuinfo"]})).cpu.busy_mhz == 2200


def test_this_very_machine_can_be_read():
    readings = read_machine((0,), sample=lambda: None)
    assert readings.memory is None or 0 < readings.memory.available_bytes <= readings.memory.total_bytes
    assert check_machine(readings)


@pytest.mark.parametrize(("text", "cores"), [("0", (0,)), ("0-2,8", (0, 1, 2, 8)), ("", ())])
def test_the_kernels_lists_of_cores_are_understood(text, cores):
    assert cores_in(text) == cores


# GPUs


class NVMLError(Exception):
    pass


def nvml(count=1, **answers):
    """A stand-in for ``pynvml``: a question without an answer is not supported."""

    def refuse(*_):
        raise NVMLError

    usual = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: count,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
    }
    names = [
        "ClockInfo", "ComputeRunningProcesses", "CurrentClocksEventReasons", "CurrentClocksThrottleReasons", "EccMode", "MaxClockInfo",
        "MigMode", "Name", "PersistenceMode", "PowerManagementDefaultLimit", "PowerManagementLimit", "Temperature",
        "TemperatureThreshold", "TotalEccErrors", "UtilizationRates",
    ]  # fmt: skip
    constants = dict.fromkeys(
        (
            "NVML_CLOCK_SM",
            "NVML_TEMPERATURE_GPU",
            "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN",
            "NVML_MEMORY_ERROR_TYPE_UNCORRECTED",
            "NVML_VOLATILE_ECC",
        ),
        1,
    )
    questions = {f"nvmlDeviceGet{name}": (lambda *_, value=answers[name]: value) if name in answers else refuse for name in names}
    return SimpleNamespace(NVMLError=NVMLError, **usual, **constants, **questions)


@pytest.fixture
def driver(monkeypatch):
    return lambda module: monkeypatch.setitem(sys.modules, "pynvml", module)


def test_a_gpu_is_read_as_its_driver_tells(driver):
    answers = {
        "Name": "H100",
        "PersistenceMode": 1,
        "ClockInfo": 345,
        "MaxClockInfo": 1980,
        "CurrentClocksEventReasons": 0x001 | 0x040,
        "ComputeRunningProcesses": [SimpleNamespace(pid=4711)],
        "UtilizationRates": SimpleNamespace(gpu=25, memory=1),
        "EccMode": [1, 1],
        "TotalEccErrors": 0,
        "Temperature": 35,
        "TemperatureThreshold": 87,
        "PowerManagementLimit": 650_000,
        "PowerManagementDefaultLimit": 700_000,
        "MigMode": [0, 1],
    }
    driver(nvml(**answers))
    assert read_gpus() == (
        GpuReading(0, "H100", True, 345, 1980, ("idle", "hardware heat"), (4711,), 0.25, True, 0, 35.0, 87.0, 650.0, 700.0, False),
    )


def test_what_a_driver_does_not_support_stays_unknown(driver):
    driver(nvml(Name="old"))
    assert read_gpus() == (GpuReading(0, "old"),)


def test_a_binding_or_driver_that_has_the_older_name_is_asked_by_it(driver):
    module = nvml(Name="old", CurrentClocksThrottleReasons=0)
    del module.nvmlDeviceGetCurrentClocksEventReasons
    driver(module)
    (gpu,) = read_gpus()
    assert gpu.reasons == ()


def test_a_trial_is_told_of_its_own_device_alone(driver):
    driver(nvml(count=4, Name="one of four"))
    assert [gpu.index for gpu in read_gpus("cuda:1", {})] == [1]
    assert [gpu.index for gpu in read_gpus("cuda:1", {"CUDA_VISIBLE_DEVICES": "3,2"})] == [2]
    assert read_gpus("cuda:7", {}) is None


def test_no_binding_and_no_driver_are_no_gpu(driver):
    driver(None)
    assert read_gpus() is None

    def refuse():
        raise NVMLError

    module = nvml()
    module.nvmlInit = refuse
    driver(module)
    assert read_gpus() is None


def test_devices_named_by_their_uuid_are_all_told():
    assert index_of("cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-8f6f"}) is None


def test_a_reason_that_is_new_is_told_as_it_is():
    assert reasons_in(0x004 | 0x8000) == ("power cap", "reason 0x8000")


def test_the_thread_variables_that_workers_set_are_those_that_are_called_so():
    assert set(OF_THE_WORKERS) == set(THREAD_VARIABLES)


def test_workers_that_may_not_go_first_are_noticed():
    assert found("priority", kernel={"may_go_first": True}).state is State.FINE
    assert found("priority", kernel={"may_go_first": False}).advice.startswith("Run as root, or give the capability CAP_SYS_NICE")
    assert found("priority", kernel={"may_go_first": None}).state is State.NOT_VISIBLE
