import math

import pytest

from harness.core.estimate import Absent
from harness.core.measurement import SessionFacts
from harness.core.telemetry import Energy, Gauge, Spread, Telemetry
from harness.core.units import format_value, parse_quantity
from harness.engine.evaluate import launch_estimates, launch_log_ratios, metric_of
from harness.metrics.energy_per_inference import EnergyPerInference
from harness.metrics.gpu_memory_peak import GpuMemoryPeak
from harness.metrics.power_mean import PowerMean

MS = 1_000_000
NAMES = ("energy_per_inference", "power_mean", "gpu_memory_peak")


def telemetry(joules=None, *, no_energy=None, spreads=(), timed_ns=1_000 * MS):
    energies = () if joules is None else (Energy("GPU 0", joules, True, 20 * MS), Energy("package-0", 1e6, False, MS))
    return Telemetry(100 * MS, 5, timed_ns, energies, spreads, no_energy=no_energy)


def test_energy_is_of_a_sample_and_of_the_device_alone(runs):
    run = runs.even_run(slices=5, queries=4, telemetry=telemetry(6.0))
    assert EnergyPerInference().of_run(run, 1) == pytest.approx(6.0 / 20)
    assert EnergyPerInference().of_run(run, 8) == pytest.approx(6.0 / 160)


def test_power_is_energy_over_the_time_that_it_was_read_over(runs):
    assert PowerMean().of_run(runs.even_run(telemetry=telemetry(6.0, timed_ns=20 * MS)), 8) == pytest.approx(300)


def test_where_no_counter_can_be_read_the_reason_is_told_and_never_zero(runs):
    run = runs.even_run(telemetry=telemetry(no_energy="the counter is locked"))
    for metric in (EnergyPerInference(), PowerMean()):
        found = metric.of_run(run, 1)
        assert isinstance(found, Absent)
        assert found.reason == "the counter is locked"


def test_a_part_of_the_device_s_energy_is_not_told_for_the_whole(runs):
    run = runs.even_run(telemetry=telemetry(6.0, no_energy="the energy counter of package-1 does not move"))
    assert isinstance(EnergyPerInference().of_run(run, 1), Absent)


def test_no_joules_are_no_energy(runs):
    assert isinstance(EnergyPerInference().of_run(runs.even_run(telemetry=telemetry(0.0)), 1), Absent)


@pytest.mark.parametrize("name", NAMES)
def test_without_telemetry_every_metric_says_so(runs, name):
    found = metric_of(name).of_run(runs.even_run(), 1)
    assert found == Absent(name, "telemetry was switched off (measure.telemetry)")


def test_memory_on_the_gpu_is_the_highest_that_the_driver_told_of_the_process(runs):
    held = Spread("GPU 0", Gauge.PROCESS_MEMORY_BYTES, 1.5e9, 1e9, 2e9, 3)
    on_gpu = SessionFacts("cuda", "fp16", 1)
    assert GpuMemoryPeak().of_run(runs.even_run(telemetry=telemetry(spreads=(held,)), facts=on_gpu), 1) == 2e9
    untold = GpuMemoryPeak().of_run(runs.even_run(telemetry=telemetry(), facts=on_gpu), 1)
    assert untold == Absent("gpu_memory_peak", "the driver does not tell it of this process")
    assert GpuMemoryPeak().of_run(runs.even_run(telemetry=telemetry()), 1) == Absent("gpu_memory_peak", "it does not run on a GPU")


def test_a_launch_pair_is_compared_by_the_ratio_of_both_arms_energies(runs):
    before = runs.measurement(*(runs.even_run(pair=pair, arm="baseline", telemetry=telemetry(4.0)) for pair in range(3)))
    after = runs.measurement(*(runs.even_run(pair=pair, telemetry=telemetry(4.4)) for pair in range(3)))
    assert launch_log_ratios("energy_per_inference", before, after) == pytest.approx([math.log(1.1)] * 3)
    bare = runs.measurement(runs.even_run(telemetry=telemetry(no_energy="none here")))
    assert launch_log_ratios("energy_per_inference", before, bare) == Absent("energy_per_inference", "none here")


def test_energy_is_told_with_its_interval_over_launches(runs):
    measured = runs.measurement(*(runs.even_run(slices=5, queries=4, pair=pair, telemetry=telemetry(4.0 + pair)) for pair in range(3)))
    (found,) = [item for item in launch_estimates(measured) if item.metric == "energy_per_inference"]
    assert found.value == pytest.approx(0.25)
    assert found.interval.low < 0.25 < found.interval.high
    assert (found.n, format_value(found.value, found.unit)) == (3, "250 mJ")


@pytest.mark.parametrize(("text", "watts"), [("300 W", 300.0), ("500 mW", 0.5), ("1.2 kW", 1200.0)])
def test_a_power_is_written_with_its_unit(text, watts):
    quantity = parse_quantity(text)
    assert (quantity.value, str(quantity.unit)) == (watts, "watts")
    assert format_value(300.0, quantity.unit) == "300 W"
