"""A scenario under a load over the network through the command line: real servers, Locust itself, a model that takes a known time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from harness.loads._records import read_records

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux has them")]
pytest.importorskip("uvloop")

SCENARIO = """\
version: 1
name: tiny
model:
  fake: {latency_us: 500}
data:
  random: {x: "float32[4]"}
  samples: 64
recipes:
  plain: {runtime: {fake: {add_latency_us: 0.0}}}
measure:
  load: {locust: {rate: 80 /s, duration: 4 s, ramp_up: 0.5 s}}
  launches: 2
sla:
  latency_p99: at most 5 s
  error_rate: at most 0 %
gate:
  latency_p90: off
"""


@pytest.fixture
def project(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return tmp_path


def harness(project, *arguments, meanwhile=None):
    """The command's exit code, stdout and stderr; ``meanwhile`` is called with its process while it runs."""
    command = [sys.executable, "-m", "harness.cli", *arguments]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if meanwhile is not None:
        threading.Thread(target=meanwhile, args=(psutil.Process(process.pid),), daemon=True).start()
    out, err = process.communicate(timeout=540)
    return process.returncode, out, err


def family(process):
    return [child for child in process.children(recursive=True) if child.is_running()]


def server_of(process, part):
    """The embedded server's own process (``part`` 0) or its first model process (1), once a generator sends to it."""
    while True:
        found = {child.pid: " ".join(child.cmdline()) for child in family(process) if child.status() != psutil.STATUS_ZOMBIE}
        servers = [pid for pid, line in found.items() if "harness.server " in f"{line} " or line.endswith("harness.server")]
        servers = servers or [pid for pid, line in found.items() if "-m harness.server" in line]
        if servers and any("locust_generator" in line for line in found.values()):
            time.sleep(2)  # well inside the measured time
            return servers[0] if part == 0 else psutil.Process(servers[0]).children()[0].pid
        time.sleep(0.05)


def left_running(project):
    told = [(one, " ".join(one.info["cmdline"] or ())) for one in psutil.process_iter(["cmdline"])]
    return [line for one, line in told if str(project) in line and one.pid != os.getpid() and "pytest" not in line]


def result_of(project):
    return json.loads((project / "reports" / "latest" / "summary.json").read_text())


def records_of(project):
    return sorted((project / "reports" / "latest" / "logs").resolve().rglob("requests.npz"))


def test_the_open_loop_is_told_with_every_request_on_record(project):
    code, out, err = harness(project, "run", "s.yaml")
    assert code == 0, out + err
    page = (project / "reports" / "latest" / "report.html").read_text()
    assert "Open loop: poisson arrivals at 80.0" in page and "Under load" in page
    records = records_of(project)
    assert len(records) == 2
    assert all(len(read_records(path).due_ns) > 260 for path in records)  # 4.5 s at 80 /s
    assert left_running(project) == []


def test_two_users_are_a_closed_loop_and_told_so(project):
    load = "measure.load={locust: {users: 2, duration: 2 s}}"
    code, out, err = harness(project, "run", "s.yaml", "--set", load)
    assert code == 0, out + err
    assert "Closed loop: 2 users" in (project / "reports" / "latest" / "report.html").read_text()


def test_a_server_that_is_killed_ends_the_trial_and_keeps_what_was_measured(project):
    killed = []

    def kill(process):
        killed.append(server_of(process, 0))
        os.kill(killed[0], signal.SIGKILL)

    code, out, err = harness(project, "run", "s.yaml", meanwhile=kill)
    assert killed, out + err
    assert code == 3, out + err
    (trial,) = result_of(project)["trials"]
    assert trial["state"] == "FAILED"
    assert "were answered and" in trial["reason"] and "SIGKILL" in trial["reason"]
    assert len(records_of(project)) == 1
    assert left_running(project) == []


def test_a_model_process_that_is_killed_is_replaced_and_its_requests_break_the_promise(project):
    killed = []

    def kill(process):
        killed.append(server_of(process, 1))
        os.kill(killed[0], signal.SIGKILL)

    code, out, err = harness(project, "run", "s.yaml", meanwhile=kill)
    assert killed, out + err
    assert code in (0, 1), out + err
    launches = [json.loads(line) for line in (project / "reports" / "latest" / "launches.jsonl").read_text().splitlines()]
    served = [launch["run"]["served"] for launch in launches if launch["kind"] == "launch"]
    assert len(served) == 2
    assert sum(load["server"]["worker_restarts"] for load in served) == 1
    assert left_running(project) == []


def test_ctrl_c_leaves_nothing_running_and_the_run_can_be_gone_on_with(project):
    def interrupt(process):
        server_of(process, 0)
        process.send_signal(signal.SIGINT)

    code, out, err = harness(project, "run", "s.yaml", meanwhile=interrupt)
    assert code == 130, out + err
    assert "--resume" in err
    time.sleep(1)
    assert left_running(project) == []
    code, out, err = harness(project, "run", "--resume", "latest")
    assert code == 0, out + err


def test_a_slower_model_behind_a_server_is_red_and_the_same_one_is_not(project):
    for arguments in (["config", "user.email", "a@b.c"], ["config", "user.name", "a"], ["add", "s.yaml"], ["commit", "-qm", "scenario"]):
        subprocess.run(["git", "-C", project, *arguments], check=True)
    code, out, err = harness(project, "gate", "s.yaml", "--new-baselines", "accept")
    assert code == 0, out + err
    code, out, err = harness(project, "gate", "s.yaml")
    assert code == 0 and "UNCHANGED" in out, out + err
    code, out, err = harness(
        project,
        "gate",
        "s.yaml",
        "--set",
        "recipes.plain.runtime.fake.add_latency_us=8000",
        "--budget",
        "240 s",
        "--set",
        "gate.latency_p99=off",
    )
    assert code == 1, out + err
    assert "latency_p50 of tiny/plain-cpu-b1" in out and "REGRESSED" in out


def test_a_capacity_is_found_and_lies_where_the_models_time_puts_it(project):
    more = ["--set", "measure.capacity={at_least: 40 /s, at_most: 2000 /s, step: 1.5 s, runs: 1, precision: 20 %}"]
    slow = ["--set", "recipes.plain.runtime.fake.add_latency_us=9500", "--set", "recipes.plain.server={embedded: {max_batch_size: 1}}"]
    code, out, err = harness(project, "run", "s.yaml", *more, *slow, "--set", "sla.latency_p99=at most 400 ms")
    assert code in (0, 1), out + err
    (trial,) = result_of(project)["trials"]
    (found,) = [one for one in trial["estimates"] if one["metric"] == "capacity"]
    assert 20 < found["value"] <= 101  # 10 ms a request, one at a time, on a machine that has other things to do
    assert Path(project / "reports" / "latest" / "report.html").read_text().count("The search for capacity") == 1
