import json
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
from fakes import results

from harness.core.errors import CannotMeasure
from harness.core.result import TrialState
from harness.store.bench_files import FORMATS, read_bench_file, written_files


@pytest.fixture
def run():
    """Two trials of three launches each, and one that another run measured."""
    trials = tuple(
        results.trial(recipe, distributions=(results.distribution("candidate", 2e6, launches=3, seed=seed),))
        for seed, recipe in enumerate(("fp32", "int8"))
    )
    unchanged = replace(trials[0], id="digits-resnet50/onnx-cpu-b1", state=TrialState.UNCHANGED)
    return results.result(trials=(*trials, unchanged), comparisons=(), sla=())


@pytest.fixture
def on_disk(run, tmp_path):
    def write(format_):
        for name, data in written_files(run, format_).items():
            (tmp_path / name).write_bytes(data)
        return sorted(tmp_path.glob("*.json"))

    return write


def told(*command):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pytest_benchmark_gets_a_file_for_each_launch_and_pyperf_a_run_for_each(run, on_disk):
    files = on_disk("pytest-benchmark")
    assert [path.name for path in files] == [f"000{number}_{run.id}-candidate.json" for number in (1, 2, 3)]
    assert [len(read_bench_file(path).launches) for path in files] == [2, 2, 2]
    (document,) = map(json.loads, written_files(run, "pyperf").values())
    assert [len(benchmark["runs"]) for benchmark in document["benchmarks"]] == [3, 3]


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_written_is_read_again_as_the_latencies_that_the_run_kept(run, on_disk, format_):
    found = [launch for path in on_disk(format_) for launch in read_bench_file(path).launches]
    for trial in run.trials[:2]:
        figures = [launch.figure for launch in found if launch.benchmark == trial.id]
        assert figures == pytest.approx([statistics.median(launch.sample_ns) for launch in trial.distributions[0].launches])
    assert {launch.benchmark for launch in found} == {trial.id for trial in run.trials[:2]}
    assert found[0].place.machine["cpu"] == run.environment.cpu_model


def test_the_files_have_every_key_that_the_tools_look_for(run):
    first = json.loads(next(iter(written_files(run, "pytest-benchmark").values())))
    assert set(first) == {"machine_info", "commit_info", "benchmarks", "datetime", "version"}
    benchmark = first["benchmarks"][0]
    assert set(benchmark) == {"group", "name", "fullname", "params", "param", "extra_info", "options", "stats"}
    of_tool = "min max mean stddev rounds median iqr q1 q3 iqr_outliers stddev_outliers outliers ld15iqr hd15iqr ops total data iterations"
    assert set(benchmark["stats"]) == set(of_tool.split())
    (packed,) = written_files(run, "pyperf").values()
    document = json.loads(packed)
    assert (document["version"], document["metadata"]["unit"]) == ("1.0", "second")
    assert all(isinstance(value, str | int) and value != "" for value in document["metadata"].values())
    for benchmark in document["benchmarks"]:
        assert benchmark["metadata"]["name"] and all(min(run["values"]) > 0 for run in benchmark["runs"])


@pytest.mark.slow
def test_pytest_benchmark_itself_compares_the_files(on_disk, tmp_path):
    said = told("-m", "pytest_benchmark", "--storage", f"file://{tmp_path}", "compare", *map(str, on_disk("pytest-benchmark")))
    assert said.count("int8-cpu-b1 (0") == said.count("fp32-cpu-b1 (0") == 3


@pytest.mark.slow
def test_pyperf_itself_reads_the_file(on_disk):
    pytest.importorskip("pyperf", reason="pyperf is not installed")
    said = told("-m", "pyperf", "stats", *map(str, on_disk("pyperf")))
    assert said.count("Number of run with values: 3") == 2


def test_a_load_that_times_blocks_gives_one_value_over_all_its_queries(run):
    launches = tuple(replace(launch, sample_ns=(), quantiles_ns=()) for launch in run.trials[0].distributions[0].launches)
    offline = replace(run.trials[0], distributions=(replace(run.trials[0].distributions[0], launches=launches),))
    (packed,) = written_files(replace(run, trials=(offline,)), "pyperf").values()
    values = json.loads(packed)["benchmarks"][0]["runs"][0]
    assert values == {"values": [pytest.approx(2.0 / 700)], "metadata": {"loops": 700}}


def test_an_arm_that_was_not_launched_is_no_empty_file(run):
    with pytest.raises(CannotMeasure, match="has no launches of the baseline"):
        written_files(run, "pyperf", "baseline")


def test_a_query_of_no_time_is_not_written(run):
    launches = tuple(replace(launch, sample_ns=(0, 5)) for launch in run.trials[0].distributions[0].launches)
    broken = replace(run.trials[0], distributions=(replace(run.trials[0].distributions[0], launches=launches),))
    with pytest.raises(CannotMeasure, match="a query of no time"):
        written_files(replace(run, trials=(broken,)), "pytest-benchmark")
