"""``harness run --on`` with real nodes: of the local fleet (processes), of a Ray cluster on loopback, and of one that it starts itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from fakes.projects import Project

from harness.core.result import TrialState
from harness.store.runs import Runs

pytestmark = pytest.mark.slow
FAKES = Path(__file__).parents[1] / "fakes"
SCENARIO = """\
version: 1
name: NAME
model: {fake: {latency_us: 50}}
data:
  random: {x: "float32[4]"}
  samples: 8
recipes:
  plain: {runtime: fake}
hardware: [edge, big]
measure: {launches: 3, duration: 20 ms, warm_up: 10 ms, telemetry: off}
sla:
  latency_p50: at most 1 s
"""
HARDWARE = "version: 1\ntargets:\n  edge: {labels: {hw: edge}, cores: 1}\n  big: {labels: {hw: big}, cores: 2, requires: {cores: 2}}\n"
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "HARNESS_HISTORY": "off"}


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "project")
    for name in ("one", "two"):
        made.write(f"scenarios/{name}.yaml", SCENARIO.replace("NAME", name))
    made.write("scenarios/hardware.yaml", HARDWARE)
    made.write(".gitignore", "reports/\nseen.txt\n")
    made.commit()
    return made


@contextmanager
def started(project, *arguments, **environment):
    """The command at work; whatever is left of it at the end is ended."""
    command = [sys.executable, "-m", "harness.cli", "run", "scenarios", *arguments]
    with (project.root.parent / "told.txt").open("w") as told:
        process = subprocess.Popen(command, cwd=project.root, stdout=told, stderr=told, env={**os.environ, **LOOPBACK, **environment})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def ran(project, *arguments, **environment):
    """The exit code, the run's folder, and all that was told."""
    with started(project, *arguments, **environment) as process:
        process.wait(280)
    told = (project.root.parent / "told.txt").read_text()
    return process.returncode, Runs(project.root / "reports").find("latest") if process.returncode in (0, 1, 3) else None, told


def launches(folder):
    """Trial, cores, begin and end of every launch in the run's own journal, by the clock that all processes of a machine share."""
    found = []
    for record in folder.result().trials:
        if record.content is None:
            continue
        for run in folder.launches(record.id, f"{record.content.digest[:24]}-{record.environment_key}"):
            last = run.slices[-1]
            found.append((record.id, set(run.cores), run.slices[0].started_ns, last.started_ns + last.duration_ns))
    return found


def workers():
    """Processes of a node's work on this machine that this test's user started."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "harness.commands._on_node" in words:
            found.append(process.pid)
    return set(found)


def until(happens, seconds=120):
    end = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return found


@contextmanager
def ray_nodes(tmp_path, *nodes):
    """The cluster's address and every node's process ids; all of it is ended with the block."""
    command = [sys.executable, "-P", str(FAKES / "ray_nodes.py"), json.dumps(nodes)]
    with (tmp_path / "nodes.log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **LOOPBACK})
    try:
        told = json.loads(process.stdout.readline())
        yield told["address"], told["pids"]
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def local_fleet(project, **options):
    shutil.copy(FAKES / "local_fleet.py", project.root / "local_fleet.py")
    options |= {"seen": str(project.root / "seen.txt")}
    project.write("fleet.yaml", json.dumps({"version": 1, "fleet": {"./local_fleet.py": options}}))
    project.commit()


def test_a_lost_nodes_launches_are_made_up_elsewhere_and_a_missing_machine_is_named(project):
    local_fleet(project, nodes={"a": {"hw": "edge"}, "b": {"hw": "edge"}}, lost={"a": 1})
    code, folder, told = ran(project, "--only", "one/", "--on", "fleet.yaml")
    trials = {record.id: record for record in folder.result().trials}
    edge, big = trials["one/plain-edge-b1"], trials["one/plain-big-b1"]
    assert code == 3, told
    assert edge.state is TrialState.MEASURED and len(launches(folder)) == 3
    assert "measured on node b" in edge.notes
    assert "node a was lost after 1 of 3 launches (its power went); all was measured again on b" in edge.notes
    assert edge.environment.commit == folder.result().environment.commit is not None
    assert big.state is TrialState.FAILED and "no node of the fleet has labels hw=big, 2 cores" in big.reason
    assert (folder.path / "report.html").is_file() and workers() == set()

    local_fleet(project, nodes={"c": {"hw": "big"}})
    project.write("seen.txt", "")
    code, folder, told = ran(project, "--resume", "latest", "--on", "fleet.yaml")
    assert code == 0, told
    assert {record.state for record in folder.result().trials} == {TrialState.MEASURED}
    assert (project.root / "seen.txt").read_text().splitlines() == ["c begins", "c ends 0"], "what was finished is not measured again"


def test_an_interrupted_run_leaves_nothing_running_and_goes_on_with_its_launches(project):
    local_fleet(project, nodes={"a": {"hw": "edge"}})
    with started(project, "--only", "one/plain-edge-b1", "--on", "fleet.yaml") as process:
        parts = until(lambda: [path for path in project.root.glob("reports/*/parts/*/*/*/launches.jsonl") if "launch" in path.read_text()])
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert workers() == set()
    kept = [line for line in parts[0].read_text().splitlines() if '"kind":"launch"' in line]
    code, folder, told = ran(project, "--resume", "latest")
    assert code == 0, told
    journal = (folder.path / "launches.jsonl").read_text()
    assert kept and all(line in journal for line in kept) and len(launches(folder)) == 3


two_cores = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="nodes with cores of their own need two cores")


@two_cores
def test_one_command_fills_one_run_from_all_ray_nodes_exclusively_on_each(project, tmp_path):
    pytest.importorskip("ray")
    nodes = (
        {"name": "edge-1", "labels": {"hw": "edge"}, "cores": [0]},
        {"name": "edge-2", "labels": {"hw": "edge"}, "cores": [1]},
        {"name": "big-1", "labels": {"hw": "big"}, "cores": [0, 1]},
    )
    with ray_nodes(tmp_path, *nodes) as (address, _):
        code, folder, told = ran(project, "--on", address)
    assert code == 0, told
    result = folder.result()
    assert [record.id for record in result.trials] == [f"{name}/plain-{target}-b1" for name in ("one", "two") for target in ("edge", "big")]
    where = {record.id: {note for note in record.notes if note.startswith("measured on node")} for record in result.trials}
    assert where["one/plain-edge-b1"] | where["two/plain-edge-b1"] == {"measured on node edge-1", "measured on node edge-2"}
    assert where["one/plain-big-b1"] == where["two/plain-big-b1"] == {"measured on node big-1"}
    made = launches(folder)
    assert len(made) == 12
    assert {trial.split("-")[1]: len(cores) for trial, cores, _, _ in made} == {"edge": 1, "big": 2}
    made.sort(key=lambda launch: launch[2])
    clashes = [
        (one, other)
        for one in made
        for other in made
        if one[0] != other[0] and one[1] & other[1] and one[2] < other[3] and other[2] < one[3]
    ]
    assert clashes == []


@two_cores
def test_a_ray_node_that_is_killed_costs_its_own_launches_only(project, tmp_path):
    pytest.importorskip("ray")
    nodes = ({"name": "edge-1", "labels": {"hw": "edge"}, "cores": [0]}, {"name": "edge-2", "labels": {"hw": "edge"}, "cores": [1]})
    with ray_nodes(tmp_path, *nodes) as (address, pids):
        with started(project, "--only", "edge", "--on", address) as process:
            (part, *_) = until(
                lambda: [
                    path for path in project.root.glob("reports/*/parts/*/*/*/launches.jsonl") if '"kind":"launch"' in path.read_text()
                ]
            )
            lost = part.parent.name
            raylets = [psutil.Process(pid) for pid in pids[lost]]
            for victim in [*raylets, *(child for raylet in raylets for child in raylet.children(recursive=True))]:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
            process.wait(280)
        until(lambda: workers() == set())
    told = (project.root.parent / "told.txt").read_text()
    assert process.returncode == 0, told
    folder = Runs(project.root / "reports").find("latest")
    trials = folder.result().trials
    assert {record.state for record in trials} == {TrialState.MEASURED} and len(launches(folder)) == 6
    hit = [record for record in trials if any(f"node {lost} was lost after" in note for note in record.notes)]
    assert len(hit) == 1
    (other,) = {"edge-1", "edge-2"} - {lost}
    assert all(f"measured on node {other}" in record.notes for record in trials)


def test_a_fleet_of_named_hosts_is_started_and_ended_with_the_run(project):
    pytest.importorskip("ray")
    ray = Path(sys.executable).with_name("ray")
    host = {"name": "edge-1", "command": str(ray), "labels": {"hw": "edge"}, "cpus": 1}
    project.write("fleet.yaml", json.dumps({"version": 1, "fleet": {"ray": {"hosts": [host]}}}))
    before = {process.pid for process in psutil.process_iter() if process.name() in ("raylet", "gcs_server")}
    code, folder, told = ran(project, "--only", "one/plain-edge-b1", "--on", "fleet.yaml", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1")
    assert code == 0, told
    assert "measured on node edge-1" in folder.result().trials[0].notes
    after = {process.pid for process in psutil.process_iter() if process.name() in ("raylet", "gcs_server")}
    assert after <= before
