import math
import os
import threading

import pytest

from harness.core.telemetry import Gauge, HeldBack
from harness.engine.telemetry.rapl import find_rapl
from harness.testing import FakeGpu, FakeProcess

MS = 1_000_000
OURS = os.getpid()
STRANGER = 2**22 + 7
"""Above what Linux gives out by default: a process that does not exist here."""


def one_arm(watch, turn, slices=20, seconds=0.03):
    watch.learn_steps()
    watch.begin([OURS])
    for _ in range(slices):
        turn(watch, "candidate", seconds, OURS)
    watch.end()
    return watch.telemetry("candidate")


def test_energy_is_power_times_time(watched, turn):
    told = one_arm(watched(FakeGpu(power_w=250.0, processes=[FakeProcess(OURS)])), turn)
    assert told.timed_ns == 600 * MS
    assert told.joules == pytest.approx(250 * 0.6, rel=0.01)
    assert told.spread(Gauge.POWER_W).mean == 250.0
    assert told.marks == ()
    assert told.notes == ()


def test_each_arm_is_given_the_energy_of_its_own_turns(watched, turn, clock, package, tmp_path):
    cpu = package()
    watch = watched(rapl=find_rapl(tmp_path), passes=lambda: cpu.take(0.001))
    watch.learn_steps()
    watch.begin([1, 2])
    for number in range(10):
        turn(watch, "baseline", 0.03, 1, lambda: cpu.take(0.9))
        cpu.take(5.0)  # between two turns: nobody's
        clock.advance(0.01)
        turn(watch, "candidate", 0.03, 2, lambda number=number: cpu.take(1.5 + number))
    watch.end()
    assert watch.telemetry("baseline").joules == pytest.approx(9.0)
    assert watch.telemetry("candidate").joules == pytest.approx(15 + 45)
    assert watch.telemetry("baseline").timed_ns == 300 * MS


@pytest.mark.parametrize("before_the_wrap_j", [0.5, 1.5, 3.0])
def test_a_cpu_counter_that_wraps_around_loses_nothing(watched, turn, package, tmp_path, before_the_wrap_j):
    cpu = package(range_uj=10_000_000_000)
    watch = watched(rapl=find_rapl(tmp_path), passes=lambda: cpu.take(0.001))
    watch.learn_steps()
    cpu.at_uj = 10_000_000_000 - round(before_the_wrap_j * 1e6)
    cpu.take(0)
    watch.begin([1])
    for _ in range(4):
        turn(watch, "candidate", 0.03, 1, lambda: cpu.take(1.0))
    watch.end()
    assert watch.telemetry("candidate").joules == pytest.approx(4.0)


def test_a_gpu_counter_that_wraps_around_loses_nothing(watched, turn):
    gpu = FakeGpu(power_w=400.0, energy_before_mj=2**32 - 100_000, wraps_at_mj=2**32, processes=[FakeProcess(OURS)])
    assert one_arm(watched(gpu), turn).joules == pytest.approx(400 * 0.6, rel=0.01)


def test_a_driver_that_was_loaded_again_leaves_no_energy_rather_than_a_wrong_one(watched, turn):
    told = one_arm(watched(FakeGpu(power_w=400.0, energy_before_mj=10**9, set_back_at_s=0.3, processes=[FakeProcess(OURS)])), turn)
    assert told.joules is None
    assert told.no_energy == "the energy counter of GPU 0 was set back, or stopped to answer, while the launch was measured"


def test_a_counter_that_does_not_move_is_absent_and_never_zero(watched, turn, package, tmp_path):
    package(at_uj=12345)
    told = one_arm(watched(rapl=find_rapl(tmp_path)), turn)
    assert told.joules is None
    assert told.energies == ()
    assert told.no_energy == "the energy counter of package-0 does not move: it shows nothing here"


def test_a_machine_without_counters_says_why(watched, turn):
    told = one_arm(watched(), turn)
    assert told.joules is None
    assert told.no_energy == "no counter here"


def test_the_cpu_s_energy_is_told_beside_a_gpu_s_and_is_not_added_to_it(watched, turn, package, tmp_path):
    cpu = package()
    watch = watched(FakeGpu(power_w=300.0, processes=[FakeProcess(OURS)]), rapl=find_rapl(tmp_path), passes=lambda: cpu.take(0.001))
    watch.learn_steps()
    watch.begin([OURS])
    for _ in range(10):
        turn(watch, "candidate", 0.03, OURS, lambda: cpu.take(2.0))
    watch.end()
    told = watch.telemetry("candidate")
    assert {energy.domain: energy.of_device for energy in told.energies} == {"GPU 0": True, "package-0": False}
    assert told.joules == pytest.approx(90, rel=0.01)
    assert told.energies[1].joules == pytest.approx(20)


def alternating(watch, turn, slices, seconds):
    watch.learn_steps()
    watch.begin([OURS])
    for _ in range(slices):
        for arm in ("baseline", "candidate"):
            turn(watch, arm, seconds, OURS)
    watch.end()
    return watch.telemetry("candidate")


def test_a_counter_that_moves_too_seldom_for_turns_gives_no_energy_and_says_what_to_do(watched, turn):
    coarse = FakeGpu(power_w=300.0, step_s=0.1, processes=[FakeProcess(OURS)])
    told = alternating(watched(coarse), turn, 20, 0.03)
    assert told.joules is None
    assert told.no_energy == (
        "the energy counter of GPU 0 moves every 100 ms, too seldom for two arms that take turns of 30 ms: "
        "name energy_per_inference under 'gate' or 'sla', and the turns are made long enough"
    )


def test_turns_as_long_as_the_watch_asks_for_are_long_enough(watched, turn):
    watch = watched(FakeGpu(power_w=300.0, step_s=0.1, processes=[FakeProcess(OURS)]))
    watch.learn_steps()
    assert watch.least_ns() == pytest.approx(1_000 * MS, rel=0.02)
    told = alternating(watch, turn, 6, watch.least_ns() / 1e9)
    assert told.joules == pytest.approx(300 * told.timed_ns / 1e9, rel=0.05)


def test_a_launch_alone_needs_the_counter_to_move_ten_times_in_all(watched, turn):
    coarse = {"power_w": 300.0, "step_s": 0.02, "processes": [FakeProcess(OURS)]}
    assert one_arm(watched(FakeGpu(**coarse)), turn, slices=20).joules == pytest.approx(180, rel=0.05)
    assert one_arm(watched(FakeGpu(**coarse)), turn, slices=6).no_energy == (
        "the energy counter of GPU 0 moves every 20 ms, too seldom for a launch of 180 ms: raise measure.duration to 0.2 s"
    )


def test_coarse_counters_would_give_one_arm_s_energy_to_the_other(clock):
    """Why the rule is: a counter that moves every 100 ms, read around turns of 30 ms of 100 W and 300 W in random order."""
    import random

    draw = random.Random(0)
    script, turns, now = [], [], 0.0
    for _ in range(400):
        for arm in draw.sample(["low", "high"], 2):
            script.append((now, 100.0 if arm == "low" else 300.0))
            turns.append((arm, now, now + 0.03))
            now += 0.03
    told = {}
    for step in (0.1, 0.0055):
        gpu = FakeGpu(power_w=script, step_s=step)
        taken = {"low": 0, "high": 0}
        for arm, begin, end in turns:
            taken[arm] += gpu.energy_mj(end) - gpu.energy_mj(begin)
        told[step] = taken["high"] / taken["low"]
    assert told[0.1] < 1.6  # the truth is 3
    fifth_swapped = (0.8 * 300 + 0.2 * 100) / (0.8 * 100 + 0.2 * 300)
    assert fifth_swapped < told[0.0055] < 3


def test_without_an_energy_counter_power_samples_are_integrated(watched, turn):
    old = FakeGpu(
        power_w=[(0, 100.0), (3, 300.0)], unsupported=frozenset({"nvmlDeviceGetTotalEnergyConsumption"}), processes=[FakeProcess(OURS)]
    )
    told = one_arm(watched(old), turn, slices=40, seconds=0.15)
    (energy,) = told.energies
    assert energy.method == "power samples"
    assert told.joules == pytest.approx(100 * 3 + 300 * 3, rel=0.05)


@pytest.mark.parametrize(
    ("mask", "told", "grave"),
    [
        (0x008, "GPU 0 was held back: hardware slowdown", True),
        (0x040, "GPU 0 was held back: hardware heat", True),
        (0x080, "GPU 0 was held back: power brake", True),
        (0x004, "GPU 0 was held back: power cap", False),
        (0x020, "GPU 0 was held back: heat", False),
    ],
)
def test_what_held_the_clock_back_marks_the_launch_and_hardware_makes_it_invalid(watched, turn, mask, told, grave):
    script = [(0, 0), (0.45, mask), (0.5, 0)]
    (mark,) = one_arm(watched(FakeGpu(reasons=script, processes=[FakeProcess(OURS)])), turn).marks
    assert (mark.what, mark.grave) == (told, grave)
    assert mark.evidence.endswith("of 20 samples")


@pytest.mark.parametrize("mask", [0x001, 0x002, 0x100])
def test_an_idle_or_locked_clock_is_no_fault(watched, turn, mask):
    assert one_arm(watched(FakeGpu(reasons=mask, processes=[FakeProcess(OURS)])), turn).marks == ()


def test_a_clock_that_was_held_back_outside_of_the_timed_part_marks_nothing(watched, turn, clock):
    watch = watched(FakeGpu(reasons=[(0, 0x040), (10, 0)], processes=[FakeProcess(OURS)]))
    watch.look()
    clock.advance(10)
    assert one_arm(watch, turn).marks == ()


def company(watched, turn, *processes, **gpu):
    told = one_arm(watched(FakeGpu(processes=[(0, ()), (0.2, [FakeProcess(OURS), *processes])], **gpu)), turn)
    return told, [(mark.what, mark.grave) for mark in told.marks]


def test_a_second_process_that_computes_on_the_device_makes_the_launch_invalid(watched, turn):
    told, marks = company(watched, turn, FakeProcess(STRANGER, sm_percent=35))
    assert marks == [(f"process {STRANGER} computed on GPU 0", True)]
    assert told.company[0].busy == 0.35


def test_a_second_process_that_only_holds_the_device_marks_the_launch(watched, turn):
    assert company(watched, turn, FakeProcess(STRANGER))[1] == [(f"GPU 0 was shared with process {STRANGER}", False)]


def test_a_driver_that_does_not_tell_who_computes_marks_the_launch(watched, turn):
    told, marks = company(watched, turn, FakeProcess(STRANGER, sm_percent=35), unsupported=frozenset({"nvmlDeviceGetProcessUtilization"}))
    assert marks == [(f"GPU 0 was shared with process {STRANGER}", False)]
    assert told.company[0].busy is None


def test_our_own_processes_are_no_company(watched, turn):
    told, marks = company(watched, turn)
    assert (told.company, marks) == ((), [])


def test_what_a_worker_has_started_is_ours(watched, turn):
    """Every worker leads a process group: here the test's own group stands for one, and its leader for the worker."""
    watch = watched(FakeGpu(processes=[FakeProcess(OURS)]))
    watch._pids.clear()
    watch._pids.add(os.getpgid(OURS))
    assert one_arm(watch, turn).company == ()


def test_numbers_of_another_name_space_are_not_taken_for_strangers(watched, turn):
    """In a container the driver may tell the host's process numbers: ours look like nobody's."""
    told = one_arm(watched(FakeGpu(processes=[FakeProcess(STRANGER, sm_percent=90)])), turn)
    assert told.marks == ()
    assert told.notes == ("the driver's process numbers are not those of this container: who came to GPU 0 meanwhile cannot be told",)


def test_a_device_that_vanishes_makes_the_launch_invalid(watched, turn):
    told = one_arm(watched(FakeGpu(vanishes_at_s=0.3, processes=[FakeProcess(OURS)])), turn)
    assert told.marks[0].what == "GPU 0 stopped to answer"
    assert told.marks[0].grave
    assert told.joules is None


def test_a_gpu_that_cannot_be_watched_leaves_a_reason_and_the_cpu_is_watched_all_the_same(watched, turn):
    watch = watched(FakeGpu(), device="cuda:3")
    told = one_arm(watch, turn)
    assert told.no_energy == "NVML does not give cuda:3: Invalid Argument"
    assert told.samples == 20


def test_a_gauge_is_told_by_its_mean_and_its_ends_over_the_arm_s_own_samples(watched, turn):
    watch = watched(FakeGpu(sm_clock_mhz=[(0, 1980), (0.3, 1410)], processes=[FakeProcess(OURS, memory_bytes=7)]))
    watch.begin([OURS])
    turn(watch, "baseline", 0.2, OURS)
    turn(watch, "candidate", 0.1, OURS)
    turn(watch, "baseline", 0.2, OURS)
    watch.end()
    clocks = watch.telemetry("baseline").spread(Gauge.SM_CLOCK_MHZ)
    assert (clocks.mean, clocks.low, clocks.high, clocks.samples) == (1695.0, 1410.0, 1980.0, 2)
    assert watch.telemetry("candidate").spread(Gauge.SM_CLOCK_MHZ).mean == 1980.0
    assert watch.telemetry("candidate").spread(Gauge.PROCESS_MEMORY_BYTES).high == 7


def test_a_look_that_a_slice_ended_under_belongs_to_nobody(watched, turn, clock):
    watch = watched()

    def ends_meanwhile(pid):
        watch._active = None
        return {}

    watch.begin([OURS])
    with watch.slice("candidate", OURS):
        watch.cpu = type(
            "Slow", (), {"sample": staticmethod(ends_meanwhile), "throttled": lambda self: None, "cores": (0,), "close": lambda self: None}
        )()
        watch.look()
    watch.end()
    assert watch.telemetry("candidate").samples == 0


def test_throttle_events_of_the_cpu_mark_the_launch(watched, turn, tmp_path):
    count = tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    count.parent.mkdir(parents=True)
    count.write_text("100\n")
    watch = watched()
    watch.begin([OURS])
    turn(watch, "candidate", 0.03, OURS, lambda: count.write_text("103\n"))
    watch.end()
    told = watch.telemetry("candidate")
    assert told.held_back == (HeldBack("CPU", "throttle events", 3),)
    assert [(mark.what, mark.grave) for mark in told.marks] == [("the CPU was throttled", False)]


def test_the_thread_looks_by_itself_and_is_gone_when_the_block_is_left(watched):
    watch = watched()
    watch.period_ns = MS
    looked = threading.Event()
    watch.cpu = type(
        "Seen",
        (),
        {"sample": lambda self, pid: looked.set() or {}, "throttled": lambda self: None, "cores": (0,), "close": lambda self: None},
    )()
    with watch, watch.slice("candidate", OURS):
        assert looked.wait(timeout=30)
    assert "telemetry" not in {thread.name for thread in threading.enumerate()}


def test_between_slices_nothing_is_looked_at(watched):
    watch = watched(FakeGpu())
    watch.look()
    assert watch.seen.looks == []


def test_learning_the_steps_ends_though_a_counter_never_moves(watched, clock, package, tmp_path):
    package()
    watched(rapl=find_rapl(tmp_path)).learn_steps()
    assert math.isclose(clock.now_ns, 500 * MS, rel_tol=0.01)
