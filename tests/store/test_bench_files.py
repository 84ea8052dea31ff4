import gzip
import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.core.units import Unit
from harness.store.bench_files import read_bench_file

DATA = Path(__file__).parent / "data"
BENCHMARKS = """
def test_sum(benchmark):
    benchmark(sum, range(10))


def test_max(benchmark):
    benchmark(max, range(10))
"""


def pytest_document(**stats):
    """As pytest-benchmark writes it, with what is read of it."""
    return {
        "machine_info": {"node": "vm", "system": "Linux", "machine": "x86_64", "cpu": {"brand_raw": "A CPU", "count": 2}},
        "commit_info": {"id": "3f2c9b7a51de", "dirty": False},
        "benchmarks": [{"fullname": "test_a.py::test_sum", "stats": {"median": 0.002, "rounds": 3, "data": [0.001, 0.002, 0.004]} | stats}],
        "datetime": "2026-11-25T03:20:03.855539+00:00",
        "version": "5.3.1",
    }


def google_document(*rows, **context):
    return {"context": {"num_cpus": 2, "host_name": "vm"} | context, "benchmarks": list(rows)}


def google_row(name="sum", **facts):
    return {"name": name, "run_name": name, "run_type": "iteration", "real_time": 2.5, "cpu_time": 1.0, "time_unit": "us"} | facts


@pytest.fixture
def written(tmp_path):
    def write(document, name="bench.json"):
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return path

    return write


def refusal(path):
    with pytest.raises(BadInput) as caught:
        read_bench_file(path)
    return str(caught.value).replace(str(path), path.name)


@pytest.mark.slow
def test_a_file_that_pytest_benchmark_writes_now_is_one_launch_of_every_benchmark(tmp_path):
    (tmp_path / "test_tiny.py").write_text(BENCHMARKS, encoding="utf-8")
    path = tmp_path / "bench.json"
    quick = ["--benchmark-max-time=0.001", "--benchmark-min-rounds=3", "--benchmark-warmup=off"]
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir=.", "-p", "no:cacheprovider", f"--benchmark-json={path}"]
    done = subprocess.run([*command, *quick], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_bench_file(path)
    assert found.tool.startswith("pytest-benchmark ") and found.notes == ()
    assert [launch.benchmark for launch in found.launches] == ["test_tiny.py::test_sum", "test_tiny.py::test_max"]
    for launch, told in zip(found.launches, json.loads(path.read_text(encoding="utf-8"))["benchmarks"], strict=True):
        assert launch.raw and launch.samples == told["stats"]["rounds"] and launch.at.tzinfo is UTC
        assert launch.figure == pytest.approx(told["stats"]["median"] * 1e9)
        assert {"cpu_count", "system", "architecture"} <= set(launch.place.machine)


def test_rounds_of_pytest_benchmark_are_samples_of_one_launch(written):
    found = read_bench_file(written(pytest_document()))
    (launch,) = found.launches
    assert (launch.benchmark, launch.unit, launch.figure, launch.samples) == ("test_a.py::test_sum", Unit.NANOSECONDS, 2e6, 3)
    assert launch.at == datetime(2026, 11, 25, 3, 20, 3, 855539, UTC)
    assert launch.place.machine == {"cpu": "A CPU", "cpu_count": "2", "system": "Linux", "architecture": "x86_64"}
    assert (found.source, found.dirty, launch.place.host) == ("3f2c9b7a51de", False, "vm")


def test_a_file_with_statistics_alone_says_so(written):
    found = read_bench_file(written(pytest_document(data=None)))
    assert (found.launches[0].figure, found.launches[0].raw) == (2e6, False)
    assert found.notes == ("bench.json has statistics only: its medians are taken from it",)


def test_every_run_of_pyperf_that_has_values_is_a_launch():
    found = read_bench_file(DATA / "pyperf-base.json")
    assert found.tool == "pyperf 2.10.0"
    assert [launch.benchmark for launch in found.launches] == ["sum"] * 5
    assert [launch.samples for launch in found.launches] == [2] * 5
    assert len({launch.at for launch in found.launches}) == 5
    assert found.launches[0].place.machine == {"cpu": "Intel(R) Xeon(R) Processor", "cpu_count": "2", "cores_used": "1", "system": "Linux"}


def test_runs_that_only_calibrate_are_no_launches(written):
    document = json.loads((DATA / "pyperf-base.json").read_text(encoding="utf-8"))
    document["benchmarks"][0]["runs"].insert(0, {"warmups": [[1, 0.001]], "metadata": {"calibrate_loops": 64}})
    assert len(read_bench_file(written(document)).launches) == 5
    document["benchmarks"][0]["runs"] = document["benchmarks"][0]["runs"][:1]
    found = read_bench_file(written(document))
    assert (found.launches, found.unmeasured) == ((), {"sum": "only calibrated: no run has values"})


def test_the_memory_that_pyperf_tracks_is_in_bytes_and_a_packed_file_is_read(tmp_path):
    document = {"version": "1.0", "benchmarks": [{"runs": [{"values": [4096]}], "metadata": {"name": "sum", "unit": "byte"}}]}
    path = tmp_path / "bench.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    (launch,) = read_bench_file(path).launches
    assert (launch.unit, launch.figure, launch.at) == (Unit.BYTES, 4096, None)


def test_repetitions_of_google_benchmark_are_samples_of_one_launch_and_aggregates_no_more_of_them():
    found = read_bench_file(DATA / "google-benchmark.json")
    (launch,) = found.launches
    assert (found.tool, launch.benchmark, launch.samples) == ("Google Benchmark 1.9.5", "sum_up/100", 3)
    assert launch.figure == pytest.approx(933.5, abs=0.1)
    assert found.unmeasured == {"skipping": "error: no device"}
    assert launch.place.machine["caches"].startswith("L1 Data 48 KiB, L1 Instruction 32 KiB")


@pytest.mark.parametrize(("unit", "ns"), [("ns", 2.5), ("us", 2500), ("ms", 2.5e6), ("s", 2.5e9)])
def test_the_unit_of_google_benchmark_is_the_row_s_own(written, unit, ns):
    assert read_bench_file(written(google_document(google_row(time_unit=unit)))).launches[0].figure == ns


def test_aggregates_alone_give_the_median_of_the_tool_and_say_so(written):
    rows = [
        google_row("a", run_type="aggregate", aggregate_name=kind, repetitions=9, real_time=value)
        for kind, value in (("mean", 3), ("cv", 0.0))
    ]
    document = google_document(*rows, google_row("a", run_type="aggregate", aggregate_name="median", repetitions=9))
    found = read_bench_file(written(document))
    assert [(launch.figure, launch.samples, launch.raw) for launch in found.launches] == [(2500, 9, False)]
    assert found.notes == ("bench.json has aggregates only of a: its median is taken",)
    found = read_bench_file(written(google_document(*rows, library_build_type="debug")))
    assert found.launches[0].figure == 3000
    assert found.notes == (
        "bench.json has aggregates only of a: its mean is taken",
        "bench.json is of a debug build of the library: its times are not those of a release",
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "bench.json:1: not JSON: Expecting property name enclosed in double quotes"),
        ("[1]", "bench.json: holds a list where a benchmark tool writes an object"),
        ({"results": []}, "bench.json: is of no benchmark tool known here: it holds 'results'\n  known are pytest-benchmark"),
        ({"run": {}, "comparisons": []}, "bench.json: is of a run of harness\n  name the run: its id"),
        (pytest_document() | {"benchmarks": []}, "bench.json benchmarks: is empty: the run measured nothing"),
        (google_document(), "bench.json benchmarks: is empty"),
        ({"version": "1.0", "benchmarks": []}, "bench.json benchmarks: is empty"),
        (pytest_document(data=[0.1, math.nan]), "bench.json benchmarks[0].stats.data[1]: nan is not a measurement: a number above zero"),
        (pytest_document(median=0.0, data=None), "bench.json benchmarks[0].stats.median: 0.0 is not a measurement"),
        (pytest_document(data=["1"]), "bench.json benchmarks[0].stats.data[0]: a number is needed, not the text '1'"),
        (pytest_document(data=[]), "bench.json benchmarks[0].stats.data: is empty"),
        (pytest_document() | {"machine_info": None}, "bench.json machine_info: an object is needed, not null"),
        (pytest_document() | {"benchmarks": [{"fullname": "a"}]}, "bench.json benchmarks[0].stats: is missing"),
        (
            pytest_document() | {"benchmarks": pytest_document()["benchmarks"] * 2},
            "bench.json benchmarks[1].fullname: 'test_a.py::test_sum' is",
        ),
        (google_document(google_row(real_time=math.inf)), "bench.json benchmarks[0].real_time: inf is not a measurement"),
        (google_document(google_row(real_time=0)), "bench.json benchmarks[0].real_time: 0.0 is not a measurement"),
        (google_document({"name": "a"}), "bench.json benchmarks[0].real_time: is missing"),
        (
            google_document(google_row(time_unit="fortnights")),
            "bench.json benchmarks[0].time_unit: Input should be 'ns', 'us', 'ms' or 's'",
        ),
        (
            {"version": "1.0", "benchmarks": [{"runs": [{"values": [0]}], "metadata": {"name": "a"}}]},
            "bench.json benchmarks[0].runs[0].values[0]: 0 is",
        ),
        ({"version": "1.0", "benchmarks": [{"runs": [{"values": [1]}]}]}, "bench.json benchmarks[0].metadata.name: is missing"),
        ({"version": "1.0", "benchmarks": [{"runs": []}]}, "bench.json benchmarks[0].runs: is empty"),
        (
            {"version": 5, "benchmarks": [{}]},
            "bench.json version: pyperf's format 5 is not read here: 1.0 and 6 are\n  'python -m pyperf convert",
        ),
        (
            {"version": "1.0", "benchmarks": [{"runs": [{"values": [1]}], "metadata": {"name": "a", "unit": "furlong"}}]},
            "bench.json benchmarks[0].metadata.unit: 'furlong' is none of second, byte, integer",
        ),
    ],
)
def test_what_is_no_measurement_is_refused_with_its_file_and_key(written, document, said):
    assert refusal(written(document)).startswith(said)


def test_bytes_that_are_no_text_and_a_file_that_is_not_packed_are_refused(tmp_path):
    path = tmp_path / "bench.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert refusal(path) == "bench.json: not JSON: it is not text"
    packed = tmp_path / "bench.json.gz"
    packed.write_bytes(b"{}")
    assert refusal(packed).startswith("bench.json.gz: not gzip: ")
    assert refusal(tmp_path / "none.json").startswith("none.json: cannot be read: ")
