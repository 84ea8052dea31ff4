import dataclasses
import math

import pytest

from harness import plugins
from harness.core.estimate import Absent
from harness.engine.evaluate import metric_of
from harness.metrics.device_time import DeviceTime
from harness.metrics.first_call import FirstCall
from harness.metrics.load_time import LoadTime
from harness.metrics.model_size import ModelSize
from harness.metrics.peak_memory import PeakMemory

MIB = 2**20
LAUNCH = [name for name in plugins.names("metrics") if metric_of(name).kind == "launch"]
OF_TELEMETRY = ("energy_per_inference", "gpu_memory_peak", "power_mean")
"""See test_metric_energy.py."""
OF_A_SERVER = ("capacity", "error_rate", "goodput", "queue_time", "recovery_time", "served_batch_size")
"""See test_metric_served.py."""
OF_A_CPU = [name for name in LAUNCH if name not in ("device_time", *OF_TELEMETRY, *OF_A_SERVER)]
PLAIN = [name for name in OF_A_CPU if name != "peak_memory"]


def test_the_first_call_is_told_as_it_was(runs):
    assert FirstCall().of_run(runs.run(first_call_ns=14_000_123), 8) == 14_000_123.0


def test_the_load_time_is_told_as_it_was(runs):
    assert LoadTime().of_run(runs.run(load_ns=310_000_456), 8) == 310_000_456.0


def test_memory_is_what_the_model_adds_to_the_idle_worker(runs):
    assert PeakMemory().of_run(runs.run(idle_rss_bytes=200 * MIB, peak_rss_bytes=348 * MIB), 1) == 148 * MIB


@pytest.mark.parametrize("peak", [200 * MIB, 150 * MIB])
def test_a_model_that_adds_nothing_to_the_idle_worker_has_no_figure(runs, peak):
    found = PeakMemory().of_run(runs.run(idle_rss_bytes=200 * MIB, peak_rss_bytes=peak), 1)
    assert found == Absent("peak_memory", "the model took no memory above the worker's idle level")


@pytest.mark.parametrize(
    ("metric", "small", "large"),
    [
        (FirstCall(), {"first_call_ns": 10}, {"first_call_ns": 30}),
        (LoadTime(), {"load_ns": 10}, {"load_ns": 30}),
        (PeakMemory(), {"idle_rss_bytes": 100, "peak_rss_bytes": 110}, {"idle_rss_bytes": 70, "peak_rss_bytes": 100}),
    ],
)
def test_two_launches_are_compared_by_the_logarithm_of_their_figures(runs, metric, small, large):
    assert metric.log_ratio(runs.run(**small), runs.run(**large), 1) == pytest.approx(math.log(3))
    assert metric.log_ratio(runs.run(**large), runs.run(**small), 1) == pytest.approx(-math.log(3))


def test_the_size_is_the_artifacts_own(runs):
    assert ModelSize().of_artifact(runs.artifact(24_000_123)) == 24_000_123.0


@pytest.mark.parametrize("name", OF_A_CPU)
def test_a_launch_compared_with_itself_has_the_log_ratio_zero(runs, name):
    run = runs.even_run(slices=10, queries=60)
    assert metric_of(name).log_ratio(run, run, 1) == 0.0


@pytest.mark.parametrize("name", OF_A_CPU)
def test_a_worse_launch_has_a_log_ratio_on_the_worse_side(runs, name):
    good = runs.even_run(1000, slices=10, queries=60)
    bad = runs.even_run(2000, slices=10, queries=60, load_ns=2 * good.load_ns, first_call_ns=2 * good.first_call_ns, peak_rss_bytes=2**30)
    ratio = metric_of(name).log_ratio(good, bad, 1)
    assert ratio < 0 if metric_of(name).better == "higher" else ratio > 0
    assert abs(ratio) >= math.log(2) - 1e-12


@pytest.mark.parametrize("name", OF_A_CPU)
def test_the_ratio_of_a_pair_agrees_with_the_ratio_of_its_figures_where_nothing_varies(runs, name):
    metric = metric_of(name)
    first, second = runs.even_run(1000, slices=10, queries=60), runs.even_run(1700, slices=10, queries=60, load_ns=5, first_call_ns=6)
    figures = metric.of_run(second, 4) / metric.of_run(first, 4)
    assert metric.log_ratio(first, second, 4) == pytest.approx(math.log(figures))


def test_the_device_s_own_clock_is_told_by_its_median_and_compared_by_it(runs):
    def on_a_device(*times):
        piece = runs.even_run().slices[0]
        return dataclasses.replace(runs.even_run(), slices=(dataclasses.replace(piece, device_ns=times),))

    assert DeviceTime().of_run(on_a_device(10, 30, 20), 1) == 20
    assert DeviceTime().log_ratio(on_a_device(20), on_a_device(30), 1) == pytest.approx(math.log(1.5))
    assert DeviceTime().of_run(runs.even_run(), 1) == Absent("device_time", "this device has no clock of its own")
    assert DeviceTime().log_ratio(runs.even_run(), on_a_device(30), 1) == Absent("device_time", "this device has no clock of its own")
